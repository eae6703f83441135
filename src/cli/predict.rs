//! `hdai predict`: predictions in bulk, for a file or for the encounters in the record that have none.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::codec::csv;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::workflow::{self, Hospital};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Predict for the open encounters in the record that have no prediction, and keep the answers
    #[arg(long, conflicts_with = "data", required_unless_present = "data")]
    backfill: bool,
    /// Predict for a CSV of encounters; nothing is stored
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Write the learned features of each encounter instead of its prediction, to train another model on
    #[arg(long, requires = "data")]
    learned_features: bool,
    /// CSV to write: encounter id, days, intervals, model; `-` is standard output
    #[arg(long, default_value = "-", value_name = "FILE")]
    out: PathBuf,
}

/// Rows scored at once.
const BATCH_ROWS: usize = 4_000;

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = super::open(config).await?;
    match &args.data {
        Some(data) => score(&hospital, data, &args).await?,
        None => {
            let taken = workflow::backfill(&super::caller(), &hospital, super::now()).await?;
            say!("{} encounters have a prediction now that had none.", super::thousands(taken));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn score(hospital: &Hospital, data: &Path, args: &Args) -> Result<()> {
    let model = hospital
        .champion()
        .await?
        .ok_or_else(|| Error::not_found("no model is trained yet: import discharged encounters and run `hdai train`"))?;
    let facilities = hospital.store.facilities().await?.into_iter().map(|facility| facility.id).collect::<Vec<_>>();
    let file = File::open(data).map_err(|cause| Error::not_found(format!("{} cannot be read", data.display())).caused_by(cause))?;
    let mut reader = csv::Reader::new(BufReader::new(file), &facilities)?;
    let mut rejected = 0;
    super::generate::to_file(&args.out, |out| {
        let failed = |cause: std::io::Error| Error::unavailable("the predictions cannot be written").caused_by(cause);
        if !args.learned_features {
            writeln!(out, "encounterId,days,low80,high80,low90,high90,modelVersion").map_err(failed)?;
        }
        while let Some(rows) = reader.read_batch(BATCH_ROWS)? {
            rejected += rows.rejected_rows;
            if args.learned_features {
                for encounter in &rows.encounters {
                    let features = model.learned_features(encounter).iter().map(f64::to_string).collect::<Vec<_>>().join(",");
                    writeln!(out, "{},{features}", encounter.id.get()).map_err(failed)?;
                }
                continue;
            }
            for (encounter, said) in rows.encounters.iter().zip(model.predict_all(&rows.encounters)) {
                let (narrow, wide) = (said.interval80, said.interval90);
                let line = [said.days, narrow.low, narrow.high, wide.low, wide.high].map(|days| days.to_string()).join(",");
                writeln!(out, "{},{line},{}", encounter.id.get(), said.model_version).map_err(failed)?;
            }
        }
        Ok(())
    })?;
    if rejected > 0 {
        eprintln!("hdai: {rejected} rows were rejected and are not scored: `hdai import` says why");
    }
    Ok(())
}
