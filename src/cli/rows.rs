//! `hdai rows`: the encounters admitted before this quarter, without names, ids and days.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::codec::rows::{csv_header, csv_line, ndjson_line};
use crate::config::{Config, make_key_file, read_key_file};
use crate::domain::rows::Row;
use crate::error::{Error, Result};
use crate::schema::Feature;
use crate::workflow::{self, KEY_BYTES_MIN, PseudonymKey, ROWS_MAX};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How a row is written
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// A new file to write to [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A JSON object a line
    Ndjson,
    /// Comma-separated values with a header
    Csv,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = super::open(config).await?;
    let mut out: Box<dyn Write + Send> = match &args.out {
        None => Box::new(std::io::stdout()),
        Some(path) => Box::new(BufWriter::new(create(path)?)),
    };
    let unwritten = |cause: std::io::Error| Error::unavailable("the rows cannot be written").caused_by(cause);
    if args.format == Format::Csv {
        writeln!(out, "{}", csv_header()).map_err(unwritten)?;
    }
    let caller = super::caller();
    let (mut cursor, mut rows, mut withheld) = (None, 0, Vec::new());
    loop {
        // One page at a time: memory does not grow with the record.
        let page = workflow::rows(&caller, &hospital, cursor.as_deref(), ROWS_MAX, super::now()).await?;
        for row in &page.rows {
            writeln!(out, "{}", line(row, args.format)).map_err(unwritten)?;
        }
        rows += page.rows.len() as u64;
        withheld = if withheld.is_empty() { page.withheld } else { withheld };
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    out.flush().map_err(unwritten)?;
    eprintln!("{} encounters, each under a pseudonym.", super::thousands(rows));
    if !withheld.is_empty() {
        let names: Vec<_> = withheld.into_iter().map(|feature: Feature| feature.spec().name).collect();
        eprintln!("Left out, for too few patients have it: {}.", names.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(row: &Row, format: Format) -> String {
    match format {
        Format::Ndjson => ndjson_line(row),
        Format::Csv => csv_line(row),
    }
}

fn create(path: &Path) -> Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|cause| Error::unavailable(format!("{} cannot be made", path.display())).caused_by(cause))
}

/// The key of the settings, or the one in the folder, which is made when it is first needed.
pub(super) fn pseudonym_key(config: &Config) -> Result<PseudonymKey> {
    if let Some(key) = &config.pseudonym_key {
        return PseudonymKey::from_base64(key.reveal());
    }
    if config.sql.is_some() {
        tracing::warn!(
            "pseudonyms and cursors are made with a key file of this machine alone, which no other instance has: set HDAI_PSEUDONYM_KEY to a \
             secret of the Key Vault"
        );
    }
    let path = config.pseudonym_key_path();
    let read = || read_key_file(&path)?.map(|text| PseudonymKey::from_base64(&text)).transpose();
    if let Some(key) = read()? {
        return Ok(key);
    }
    let mut bytes = [0_u8; KEY_BYTES_MIN];
    getrandom::fill(&mut bytes)
        .map_err(|cause| Error::unavailable("the system gives no random bytes").caused_by(cause.to_string()))?;
    make_key_file(&path, &STANDARD.encode(bytes))?;
    read()?.ok_or_else(|| Error::unavailable(format!("the key {} was taken away as it was made", path.display())))
}
