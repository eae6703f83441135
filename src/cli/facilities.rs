//! `hdai facilities`: the hospital's facilities and their beds.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::codec::csv;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::workflow;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A CSV with the columns Id, Name and Capacity: adds facilities and changes names and beds. Without it, lists them
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = super::open(config).await?;
    if let Some(path) = &args.file {
        let file =
            File::open(path).map_err(|cause| Error::not_found(format!("{} cannot be read", path.display())).caused_by(cause))?;
        let changed = workflow::save_facilities(&super::caller(), &hospital, &csv::read_facilities(file)?, super::now()).await?;
        say!("{changed} added or changed.");
    }
    for facility in hospital.store.facilities().await? {
        say!("{}  {:>5} beds  {}", facility.id, facility.capacity, facility.name);
    }
    Ok(ExitCode::SUCCESS)
}
