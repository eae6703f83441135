//! `hdai bench`: measurements as ratios against a peer in the same run, never a pass or a fail.

mod admission;
mod download;
mod import;
mod names;
mod prediction;
mod security;
mod sql;

use std::process::ExitCode;

use crate::config::Config;
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Rows per second of the import through the host, beside `sqlite3 .import` of the same file
    Import(import::Args),
    /// Latency of admissions at a steady rate, prediction included
    Admission(admission::Args),
    /// Microseconds of a prediction in process, with interval and reasons
    Prediction(prediction::Args),
    /// Seconds of reading a blob of the import container and doing nothing with it, as JSON
    Download(download::Args),
    /// Rows and admissions with names encrypted, beside the same with names as they are
    Names(names::Args),
    /// What authentication, authorisation, encryption and audit cost of an admission
    Security(security::Args),
    /// Import and admissions in the database that `HDAI_TEST_SQL` names, beside bulk loads by other clients
    Sql(sql::Args),
}

pub(super) async fn run(config: &Config, args: Args) -> Result<ExitCode> {
    match args.what {
        What::Import(args) => import::run(config, &args).await,
        What::Download(args) => download::run(config, &args).await,
        What::Sql(args) => sql::run(config, &args).await,
        What::Names(args) => names::run(&args).await,
        What::Security(args) => security::run(config, &args).await,
        What::Prediction(args) => prediction::run(&args),
        What::Admission(args) => admission::run(config, &args).await,
    }
}
