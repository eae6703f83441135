//! `hdai bench`: measurements as ratios against a peer in the same run, never a pass or a fail.

mod admission;
mod import;

use std::process::ExitCode;

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
}

pub(super) async fn run(args: Args) -> Result<ExitCode> {
    match args.what {
        What::Import(args) => import::run(&args).await,
        What::Admission(args) => admission::run(&args).await,
    }
}
