//! A blob of the import container, read and thrown away by the client that imports read with: the rate that no import can exceed.
//! `benches/storage/run` runs this beside an import of the same blob.

use std::process::ExitCode;
use std::time::Instant;

use futures_util::TryStreamExt;

use crate::cli::local;
use crate::config::Config;
use crate::error::{Error, Result};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Name of the blob, in the container and account of the settings
    name: String,
}

pub(super) async fn run(config: &Config, args: &Args) -> Result<ExitCode> {
    let blobs = crate::cli::open_blobs(config)?;
    let begun = Instant::now();
    let opened = blobs.open(&config.import_container, &args.name).await?;
    let mut chunks = opened.ok_or_else(|| Error::not_found("there is no such blob in the import container"))?.chunks;
    let mut bytes = 0;
    while let Some(chunk) = chunks.try_next().await? {
        bytes += std::hint::black_box(chunk).len();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let peak = local::peak_resident_bytes(std::process::id());
    say!("{}", serde_json::json!({ "bytes": bytes, "seconds": seconds, "peak_bytes": peak }));
    Ok(ExitCode::SUCCESS)
}
