//! Import of a generated file: parse and validate alone, the whole path through the host, and `sqlite3 .import` into a table of the same
//! columns, key and types, which validates nothing.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::cli::demo::client::Client;
use crate::cli::{generate, local, thousands};
use crate::codec::csv;
use crate::config::Config;
use crate::domain::facility;
use crate::error::{Error, Result};
use crate::schema::{Column, Feature, Shape, csv_columns};
use crate::synthetic;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Rows of the generated file
    #[arg(long, default_value_t = 100_000)]
    rows: u32,
}

pub(super) async fn run(config: &Config, args: &Args) -> Result<ExitCode> {
    let scratch = local::Scratch::new("bench")?;
    let csv = scratch.path().join("encounters.csv");
    let rows = u64::from(args.rows);
    let options = synthetic::Options { rows, seed: 1, first_id: 1 };
    let generated = timed(|| generate::to_file(&csv, |out| generate::write_encounters(out, &options, |_| ())))?;
    let parsed = timed(|| parse(&csv))?;
    let (host, peak) = through_host(config, scratch.path(), &csv, rows).await?;
    let peer = sqlite_import(scratch.path(), &csv)?;

    let bytes = std::fs::metadata(&csv).map(|file| file.len()).unwrap_or(0);
    say!("{} rows, {} MB", thousands(rows), bytes / 1_000_000);
    let rate = |time: Duration| thousands((rows as f64 / time.as_secs_f64()) as u64);
    let ratio = |time: Duration| peer.map_or("-".into(), |peer| format!("{:.2}", peer.as_secs_f64() / time.as_secs_f64()));
    say!("{:<44} {:>9} {:>12} {:>10}", "", "seconds", "rows/s", "x sqlite3");
    let line = |label: &str, time: Duration| say!("{label:<44} {:>9.2} {:>12} {:>10}", time.as_secs_f64(), rate(time), ratio(time));
    line("generate", generated);
    line("parse and validate", parsed);
    line("import through the host: drop to done", host.wall);
    line("  of which the import itself", host.ledger);
    match peer {
        Some(peer) => line("sqlite3 .import, no validation", peer),
        None => say!("sqlite3 is not on the PATH: install it to see the peer"),
    }
    if let Some(peak) = peak {
        say!("handler's peak memory before training: {} MB", peak / 1_000_000);
    }
    Ok(ExitCode::SUCCESS)
}

struct HostTimes {
    wall: Duration,
    ledger: Duration,
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<Duration> {
    let begun = Instant::now();
    work().map(|_| begun.elapsed())
}

fn parse(path: &Path) -> Result<u64> {
    let facilities: Vec<_> = facility::seed().into_iter().map(|facility| facility.id).collect();
    let file = File::open(path).map_err(|cause| Error::unavailable("the generated file cannot be read").caused_by(cause))?;
    let mut reader = csv::Reader::new(BufReader::new(file), &facilities)?;
    let mut rows = 0;
    while let Some(batch) = reader.read_batch(4_000)? {
        rows += std::hint::black_box(batch).rows;
    }
    Ok(rows)
}

/// Drops the file and waits for its ledger entry. The peak is read when the import is done, before training ends.
async fn through_host(config: &Config, folder: &Path, csv: &Path, rows: u64) -> Result<(HostTimes, Option<u64>)> {
    let (running, url) = local::start_host(config, folder).await?;
    let client = Client::new(url, None, None)?;
    let container = folder.join("blobs").join("trainingdata");
    crate::cli::create_private(&container)?;
    let partial = container.join(".bench.partial");
    std::fs::hard_link(csv, &partial)
        .and_then(|()| std::fs::rename(&partial, container.join("bench.csv")))
        .map_err(|cause| Error::unavailable("the file cannot be dropped").caused_by(cause))?;
    let begun = Instant::now();
    let receipt = loop {
        let imports = client.get("api/imports?limit=1").await?.unwrap_or_default();
        let import = imports["imports"][0].clone();
        match import["state"].as_str() {
            Some("done") => break import,
            Some("failed") => return Err(Error::internal("the import failed")),
            _ if begun.elapsed() > Duration::from_secs(1_800) => return Err(Error::unavailable("the import took too long")),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let wall = begun.elapsed();
    let peak = running.handler_pid().and_then(local::peak_resident_bytes);
    running.stop().await;
    if receipt["rows"]["stored"].as_u64() != Some(rows) {
        return Err(Error::internal("the import did not store every row"));
    }
    let time = |name: &str| chrono::DateTime::parse_from_rfc3339(receipt[name].as_str().unwrap_or_default()).ok();
    let ledger = time("started").zip(time("finished")).and_then(|(from, to)| (to - from).to_std().ok()).unwrap_or(wall);
    Ok((HostTimes { wall, ledger }, peak))
}

/// `sqlite3 .import` of the same file; `None` if there is no `sqlite3`.
fn sqlite_import(folder: &Path, csv: &Path) -> Result<Option<Duration>> {
    let columns = csv_columns().iter().map(|column| {
        let kind = match column.column {
            Column::EncounterId => "INTEGER PRIMARY KEY",
            Column::LengthOfStay => "INTEGER",
            Column::Clinical(Feature::Readmissions) => "TEXT",
            Column::Clinical(feature) => match feature.spec().shape {
                Shape::Measurement(measurement) if !measurement.whole => "REAL",
                _ => "INTEGER",
            },
            _ => "TEXT",
        };
        format!("\"{}\" {kind}", column.db_column)
    });
    let script = format!(
        "PRAGMA journal_mode=WAL;\nPRAGMA synchronous=FULL;\nCREATE TABLE PatientData ({});\n.import --csv --skip 1 '{}' PatientData\n",
        columns.collect::<Vec<_>>().join(", "),
        csv.display()
    );
    let begun = Instant::now();
    let spawned = Command::new("sqlite3").arg(folder.join("peer.db")).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let Ok(mut child) = spawned else { return Ok(None) };
    let failed = |cause: std::io::Error| Error::unavailable("sqlite3 failed").caused_by(cause);
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    if status.success() { Ok(Some(begun.elapsed())) } else { Err(Error::unavailable("sqlite3 .import failed")) }
}
