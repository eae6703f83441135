//! `hdai keys`: the keys that patients' names are encrypted with.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

use super::thousands;
use crate::azure::{identity as entra, keys as vault};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::store::datakeys::{DataKey, KeyTable, PLAIN};
use crate::store::sealed::{KeyFile, Sealed, Wrapping};
use crate::workflow::{self, Hospital};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the data keys: id, state, since when, and which key wraps each
    List,
    /// Make a new data key and encrypt every name anew with it, while the service runs; goes on with a rotation that was stopped
    Rotate,
    /// Wrap the same data keys anew, with the newest version of the key that wraps them, or with another
    Rewrap {
        /// The URL of another Key Vault key, or `file` for the key file; set `HDAI_DATA_KEY_URL` to it afterwards
        #[arg(long, value_name = "URL")]
        to: Option<String>,
    },
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let (hospital, record) = super::open_sealed(config).await?;
    match args.command {
        Command::List => {
            let keys = workflow::list_keys(&super::caller(), &hospital, &record, super::now()).await?;
            keys.iter().for_each(print);
        }
        Command::Rotate => rotate(&hospital, &record).await?,
        Command::Rewrap { to } => {
            let to = match to.as_deref() {
                None => wrapping(&hospital.config)?,
                Some(to) => {
                    let url = Some(to.to_owned()).filter(|to| to != "file");
                    let wrapping = wrapping(&Config { data_key_url: url, ..hospital.config.clone() })?;
                    wrapping.make()?;
                    wrapping
                }
            };
            let keys = workflow::rewrap_keys(&super::caller(), &hospital, &record, &*to, super::now).await?;
            keys.iter().for_each(print);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(key: &DataKey) {
    let by = if key.id == PLAIN { "names in plain text, of an earlier program" } else { key.wrapped_by.as_str() };
    say!("{:<16} {:<8} {} {by}", key.id, key.state.name(), key.created.format("%Y-%m-%dT%H:%M:%SZ"));
}

async fn rotate(hospital: &Hospital, record: &Sealed) -> Result<()> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} encounters encrypted anew {per_sec}") {
        bar.set_style(style);
    }
    let progress = |encounters| bar.set_position(encounters);
    let rotated = workflow::rotate_keys(&super::caller(), hospital, record, &progress, super::now).await;
    bar.finish_and_clear();
    let rotated = rotated?;
    let how = if rotated.resumed { "gone on with" } else { "made" };
    say!(
        "Data key {} is current ({how}); {} encounters encrypted anew; retired: {}",
        rotated.current,
        thousands(rotated.encounters),
        rotated.retired.join(", ")
    );
    Ok(())
}

/// The record with its names encrypted.
pub(super) fn seal(config: &Config, record: Arc<dyn KeyTable>) -> Result<Sealed> {
    if config.sql.is_some() && config.data_key_url.is_none() {
        tracing::warn!(
            "names are encrypted with keys that a key file of this machine wraps, which no other instance has: set HDAI_DATA_KEY_URL to a key of \
             the Key Vault, and wrap the keys with it (`hdai keys rewrap --to URL`)"
        );
    }
    Ok(Sealed::new(record, wrapping(config)?, super::now))
}

/// What wraps the data keys.
pub(super) fn wrapping(config: &Config) -> Result<Arc<dyn Wrapping>> {
    let Some(url) = &config.data_key_url else { return Ok(Arc::new(KeyFile::new(config.data_key_path()))) };
    let key = vault::VaultKey::open(entra::credential(&super::identity())?, url, vault::patient());
    Ok(Arc::new(key.map_err(|error| Error::invalid(format!("the setting HDAI_DATA_KEY_URL: {}", error.message())))?))
}
