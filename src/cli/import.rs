//! `hdai import`: CSV files into the record, without a host.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::blob::Blobs;
use crate::blob::local::Local;
use crate::config::Config;
use crate::domain::import::{Source, State};
use crate::error::{Error, Result};
use crate::workflow::{self, Delivery, Hospital, Imported};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// CSV files of encounters
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Train a model when the files are in
    #[arg(long)]
    train: bool,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = super::open(config).await?;
    let mut all_done = true;
    for file in &args.files {
        let imported = import(&hospital, file).await?;
        all_done &= imported.import.state == State::Done;
        say!("{}", describe(file, &imported));
    }
    if args.train && all_done {
        super::train::train_and_tell(&hospital, crate::workflow::TrainRequest::default()).await?;
    }
    Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn import(hospital: &Hospital, file: &Path) -> Result<Imported> {
    let missing = || Error::not_found(format!("there is no file {}", file.display()));
    // The file's folder is read as a container, so that this import and a dropped file are read by the same code.
    let path = file.canonicalize().map_err(|cause| missing().caused_by(cause))?;
    let place = || Some((path.parent()?.parent()?, path.parent()?.file_name()?.to_str()?, path.file_name()?.to_str()?));
    let (root, container, name) = place().ok_or_else(|| {
        Error::invalid(format!("{} cannot be imported from there: move it into a folder with a plain name", file.display()))
    })?;
    let content = Local::new(root).open(container, name).await?.ok_or_else(missing)?;
    let source =
        Source { account: "command-line".into(), container: container.into(), name: name.into(), etag: content.etag.clone() };
    workflow::import_delivery(&super::caller(), hospital, Delivery { source, content, part_bytes: None }, super::now).await
}

fn describe(file: &Path, imported: &Imported) -> String {
    let import = &imported.import;
    let counts = &import.counts;
    let file = file.display();
    if import.state == State::Failed {
        return format!("{file}: failed: {}", import.failure);
    }
    let mut text = match imported.already {
        true => format!("{file}: already imported, nothing changed ({} rows)", super::thousands(counts.read)),
        false => format!(
            "{file}: {} rows: {} new, {} updated, {} unchanged, {} rejected",
            super::thousands(counts.read),
            super::thousands(counts.stored),
            super::thousands(counts.updated),
            super::thousands(counts.unchanged),
            super::thousands(counts.rejected),
        ),
    };
    if counts.rejected > 0 {
        text.push_str(&format!("; rejects in {}", workflow::rejects_name(&import.id)));
    }
    if !import.extra_columns.is_empty() {
        text.push_str(&format!("; columns not used: {}", import.extra_columns));
    }
    text
}
