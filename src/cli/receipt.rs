//! `hdai receipt`: is a receipt genuine?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::config::{Config, make_key_file, read_key_file};
use crate::error::{Error, Result};
use crate::workflow::{KEY_BYTES_MIN, SigningKey};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check receipts' signatures, and the data files they speak of
    Verify {
        /// Receipt files
        #[arg(required = true, value_name = "RECEIPT")]
        receipts: Vec<PathBuf>,
        /// The data file of the receipt: its SHA-256 must be the receipt's
        #[arg(long, value_name = "FILE")]
        data: Option<PathBuf>,
    },
}

/// Largest receipt that is read.
const RECEIPT_BYTES_MAX: u64 = 1024 * 1024;

pub(super) fn run(config: &Config, args: Args) -> Result<ExitCode> {
    let Command::Verify { receipts, data } = args.command;
    let key = verifying_key(config)?;
    if data.is_some() && receipts.len() > 1 {
        return Err(Error::invalid("--data belongs to one receipt"));
    }
    let mut code = ExitCode::SUCCESS;
    for path in &receipts {
        match verify(&key, path, data.as_deref()) {
            Ok(words) => say!("{}: genuine: {words}", path.display()),
            Err(error) => {
                say!("{}: NOT genuine: {}", path.display(), error.message());
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn verify(key: &SigningKey, path: &Path, data: Option<&Path>) -> Result<String> {
    let unread =
        |path: &Path, cause: std::io::Error| Error::not_found(format!("{} cannot be read", path.display())).caused_by(cause);
    let size = std::fs::metadata(path).map_err(|cause| unread(path, cause))?.len();
    if size > RECEIPT_BYTES_MAX {
        return Err(Error::invalid("it is larger than any receipt"));
    }
    let found = key.verify(&std::fs::read(path).map_err(|cause| unread(path, cause))?)?;
    let rows = &found.receipt["rows"];
    let mut words = format!(
        "import {}, {}, {} rows read, {} rejected",
        found.import,
        found.receipt["state"].as_str().unwrap_or("?"),
        rows["read"],
        rows["rejected"]
    );
    if let Some(data) = data {
        let mut digest = Sha256::new();
        std::fs::File::open(data)
            .and_then(|mut file| std::io::copy(&mut file, &mut digest))
            .map_err(|cause| unread(data, cause))?;
        let sha256: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found.receipt["sha256"] != sha256.as_str() {
            return Err(Error::invalid(format!("the receipt is of another content than {}", data.display())));
        }
        words.push_str(", of this very data file");
    }
    Ok(words)
}

/// The key of the settings, or the one in the folder; none is made.
pub(super) fn verifying_key(config: &Config) -> Result<SigningKey> {
    match &config.receipt_key {
        Some(key) => SigningKey::from_base64(key.reveal()),
        None => read_key(&config.receipt_key_path())?.ok_or_else(|| {
            Error::not_found(
                "there is no key to check with: name the folder of the receipts' key (--folder), or set HDAI_RECEIPT_KEY",
            )
        }),
    }
}

/// The key of the settings, or the one in the folder, which is made when it is first needed.
pub(super) fn signing_key(config: &Config) -> Result<SigningKey> {
    if let Some(key) = &config.receipt_key {
        return SigningKey::from_base64(key.reveal());
    }
    if config.sql.is_some() || config.blob.is_some() {
        tracing::warn!(
            "receipts are signed with a key file of this machine alone, which no other instance has: set HDAI_RECEIPT_KEY to a secret of the \
             Key Vault"
        );
    }
    let path = config.receipt_key_path();
    if let Some(key) = read_key(&path)? {
        return Ok(key);
    }
    let mut bytes = [0_u8; KEY_BYTES_MIN];
    getrandom::fill(&mut bytes)
        .map_err(|cause| Error::unavailable("the system gives no random bytes").caused_by(cause.to_string()))?;
    make_key_file(&path, &STANDARD.encode(bytes))?;
    read_key(&path)?.ok_or_else(|| Error::unavailable(format!("the key {} was taken away as it was made", path.display())))
}

fn read_key(path: &Path) -> Result<Option<SigningKey>> {
    read_key_file(path)?.map(|text| SigningKey::from_base64(&text)).transpose()
}
