//! `hdai train`: a model from every discharged encounter in the record.

use std::process::ExitCode;

use crate::config::Config;
use crate::error::Result;
use crate::workflow::{self, Hospital, TrainRequest, Training};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the model's whole report as JSON
    #[arg(long)]
    report: bool,
    /// Promote the model if it is better than the one in use on the newest admissions, even if quality fell: you have looked at the data
    #[arg(long)]
    accept_lower_quality: bool,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = super::open(config).await?;
    let request = TrainRequest { accept_lower_quality: args.accept_lower_quality, ..TrainRequest::default() };
    let metrics = train_and_tell(&hospital, request).await?;
    if let (true, Some(metrics)) = (args.report, metrics) {
        say!("{metrics}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Trains, says what came of it, and answers the report as JSON.
pub(super) async fn train_and_tell(hospital: &Hospital, request: TrainRequest) -> Result<Option<String>> {
    match workflow::train(&super::caller(), hospital, request, super::now()).await? {
        Training::UpToDate => {
            say!("A model at least as new as the data exists already.");
            Ok(None)
        }
        Training::Trained(record) => {
            let fate = if record.promoted { "in use from now on" } else { "not promoted" };
            say!("Model {} trained on {} encounters: {fate}: {}", record.version, super::thousands(record.rows), record.reason);
            Ok(Some(record.metrics))
        }
    }
}
