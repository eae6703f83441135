//! The record in the database that `HDAI_TEST_SQL` names: the full import beside a bulk load alone by the same driver and by other clients,
//! admissions by several callers at once, and the memory of this process. All of it in a schema of its own, which is removed.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::azure::identity::Identity;
use crate::blob::local::Local;
use crate::cli::{generate, local, thousands};
use crate::config::{Config, Secret, SqlConnection, SqlSettings};
use crate::domain::Encounter;
use crate::domain::import::Source;
use crate::error::{Error, Result};
use crate::schema::{Column, Shape, csv_columns};
use crate::store::Store;
use crate::store::azure_sql::{AzureSql, GROUND_PREFIX, Ground, PLAIN};
use crate::workflow::{self, Admission, Delivery, Hospital};
use crate::{schema, synthetic};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Rows of the generated file
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    rows: u32,
    /// Admissions for each number of callers
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    admissions: u32,
    /// The Python that has python-tds (benches/sql/requirements.txt)
    #[arg(long, default_value = "python3", value_name = "PROGRAM")]
    python: String,
}

/// Callers at once.
const CALLERS: [u32; 3] = [1, 8, 64];

/// The script that drives the other clients.
const PEERS: &str = include_str!("../../../benches/sql/peers.py");

/// Loading rows.
#[derive(Debug, Serialize)]
struct Load {
    what: &'static str,
    seconds: f64,
    rows_per_second: f64,
    /// Of the process that loaded.
    peak_bytes: Option<u64>,
}

/// Admissions by callers at once.
#[derive(Debug, Serialize)]
struct Admissions {
    callers: u32,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    failed: usize,
}

pub(super) async fn run(config: &Config, args: &Args) -> Result<ExitCode> {
    let (settings, identity) = server()?;
    let ground = Ground::new(&settings, &identity).await?;
    let measured = measure(config, args, &settings, &identity, &ground).await;
    if let Err(error) = ground.remove().await {
        eprintln!("hdai: the schema {} could not be removed, remove it by hand: {error}", settings.schema);
    }
    let (loads, admissions, notes) = measured?;
    print(args, &loads, &admissions, &notes);
    let report = serde_json::json!({ "rows": args.rows, "loads": loads, "admissions": admissions, "notes": notes });
    say!("\n{report}");
    Ok(ExitCode::SUCCESS)
}

/// The database to measure, in a schema of its own.
fn server() -> Result<(SqlSettings, Identity)> {
    let lookup = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let text = lookup("HDAI_TEST_SQL").ok_or_else(|| {
        Error::invalid("HDAI_TEST_SQL is not set: put the ADO.NET connection string of a test database there (docs/azure-sql.md)")
    })?;
    let settings = SqlSettings {
        schema: format!("{GROUND_PREFIX}{}", uuid::Uuid::new_v4().simple()),
        ca_file: lookup("HDAI_TEST_SQL_CA").map(PathBuf::from),
        ..SqlSettings::new(SqlConnection::Text(Secret::new(text)))
    };
    Ok((settings, Identity::from_vars(lookup)))
}

type Measured = (Vec<Load>, Vec<Admissions>, Vec<String>);

async fn measure(config: &Config, args: &Args, settings: &SqlSettings, identity: &Identity, ground: &Ground) -> Result<Measured> {
    let scratch = local::Scratch::new("bench")?;
    let container = scratch.path().join("blobs").join("trainingdata");
    crate::cli::create_private(&container)?;
    let csv = container.join("bench.csv");
    let options = synthetic::Options { rows: u64::from(args.rows), seed: 1, first_id: 1 };
    generate::to_file(&csv, |out| generate::write_encounters(out, &options, |_| ()))?;
    let store = AzureSql::open(settings, identity).await?;
    store.migrate().await?;
    let here = Config { folder: scratch.path().to_owned(), sql: Some(settings.clone()), ..config.clone() };
    let blobs = Local::new(here.blob_root());
    let receipt_key = crate::cli::receipt::signing_key(&here)?;
    let pseudonyms = crate::cli::rows::pseudonym_key(&here)?;
    let hospital = Hospital::new(here, Arc::new(store), Arc::new(blobs), receipt_key, pseudonyms);
    let mut loads = vec![import(&hospital, args.rows).await?, bulk_alone(ground, &options).await?];
    let mut notes = Vec::new();
    for peer in ["freebcp", "python-tds"] {
        ground.empty_plain().await?;
        match run_peer(args, peer, &csv, &settings.schema) {
            Ok(load) => loads.push(load),
            Err(why) => notes.push(format!("{peer} left out: {why}")),
        }
    }
    let mut admissions = Vec::new();
    for (step, callers) in (1..).zip(CALLERS) {
        admissions.push(admit(&hospital, callers, args.admissions, 100_000_000 * step).await?);
    }
    Ok((loads, admissions, notes))
}

/// The whole way of a file: parse, validate, ledger, batches, receipt.
async fn import(hospital: &Hospital, rows: u32) -> Result<Load> {
    let missing = || Error::internal("the generated file is gone");
    let content = hospital.blobs.open("trainingdata", "bench.csv").await?.ok_or_else(missing)?;
    let source =
        Source { account: "bench".into(), container: "trainingdata".into(), name: "bench.csv".into(), etag: content.etag.clone() };
    forget_peak();
    let begun = Instant::now();
    let imported =
        workflow::import_delivery(&crate::cli::caller(), hospital, Delivery { source, content, part_bytes: None }, crate::cli::now)
            .await?;
    let load = load("full import", begun.elapsed(), rows, local::peak_resident_bytes(std::process::id()));
    if imported.import.counts.stored != u64::from(rows) {
        return Err(Error::internal(format!("the import stored {} rows", imported.import.counts.stored)));
    }
    Ok(load)
}

async fn bulk_alone(ground: &Ground, options: &synthetic::Options) -> Result<Load> {
    ground.empty_plain().await?;
    let rows = synthetic::encounters(options)?;
    forget_peak();
    let begun = Instant::now();
    let arrived = ground.bulk_alone(rows).await?;
    let rows = u32::try_from(arrived).unwrap_or(u32::MAX);
    Ok(load("bulk load alone, same driver", begun.elapsed(), rows, local::peak_resident_bytes(std::process::id())))
}

fn load(what: &'static str, time: Duration, rows: u32, peak_bytes: Option<u64>) -> Load {
    let seconds = time.as_secs_f64();
    Load { what, seconds, rows_per_second: f64::from(rows) / seconds, peak_bytes }
}

/// Makes the system measure this process's peak memory anew, where it can.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Another client's load of the same file into the plain table; why not, in words, if it cannot be.
fn run_peer(args: &Args, peer: &'static str, csv: &Path, schema: &str) -> Result<Load, String> {
    let columns: Vec<_> = csv_columns().iter().map(|column| format!("{}:{}", column.db_column, kind(column.column))).collect();
    let mut command = Command::new(&args.python);
    command.args(["-c", PEERS, peer]).arg(csv).args([schema, PLAIN, &columns.join(",")]);
    let output = command.stdin(Stdio::null()).output().map_err(|cause| format!("{} cannot be started ({cause})", args.python))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed").to_owned();
        return Err(last.chars().take(200).collect());
    }
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| "its answer cannot be read".to_owned())?;
    let seconds = answer["seconds"].as_f64().ok_or("its answer cannot be read")?;
    Ok(Load { what: peer, seconds, rows_per_second: f64::from(args.rows) / seconds, peak_bytes: answer["peak_bytes"].as_u64() })
}

/// What the script calls the type of a column.
fn kind(column: Column) -> &'static str {
    match column {
        Column::Admitted | Column::Discharged => "date",
        Column::EncounterId | Column::LengthOfStay => "int",
        Column::Clinical(feature) => match feature.spec().shape {
            Shape::Readmissions => "text",
            Shape::Measurement(measurement) if !measurement.whole => "real",
            _ => "int",
        },
        _ => "text",
    }
}

/// `count` admissions by `callers` at once, each with its audit event; no model is trained, so that the database alone is measured.
async fn admit(hospital: &Hospital, callers: u32, count: u32, first_id: i32) -> Result<Admissions> {
    let today = crate::cli::now().date_naive();
    let patients: Vec<Encounter> = generate::patients(2, first_id, count)?.map(|patient| generate::admit(patient, today)).collect();
    let share = patients.len().div_ceil(callers as usize);
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for patients in patients.chunks(share) {
        let (hospital, patients) = (hospital.clone(), patients.to_vec());
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(patients.len());
            for patient in patients {
                let begun = Instant::now();
                let answer = workflow::admit(&crate::cli::caller(), &hospital, patient, crate::cli::now()).await;
                times.push(matches!(answer, Ok(Admission::New(_))).then(|| begun.elapsed().as_secs_f64() * 1e3));
            }
            times
        });
    }
    let answers: Vec<Option<f64>> = tasks.join_all().await.concat();
    let seconds = begun.elapsed().as_secs_f64();
    let mut times: Vec<f64> = answers.iter().copied().flatten().collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    Ok(Admissions {
        callers,
        per_second: times.len() as f64 / seconds,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        failed: answers.len() - times.len(),
    })
}

fn print(args: &Args, loads: &[Load], admissions: &[Admissions], notes: &[String]) {
    say!("{} rows; schema fingerprint {}", thousands(args.rows.into()), schema::fingerprint());
    say!("{:<32} {:>9} {:>12} {:>14} {:>10}", "", "seconds", "rows/s", "x bulk alone", "peak MB");
    let alone = loads.get(1).map_or(f64::NAN, |load| load.seconds);
    for load in loads {
        let peak = load.peak_bytes.map_or("-".to_owned(), |bytes| (bytes / 1_000_000).to_string());
        let rate = thousands(load.rows_per_second as u64);
        say!("{:<32} {:>9.2} {rate:>12} {:>14.2} {peak:>10}", load.what, load.seconds, load.seconds / alone);
    }
    say!("{:<32} {:>9} {:>12} {:>14} {:>10}", "admissions, callers at once", "per s", "p50 ms", "p99 ms", "failed");
    for line in admissions {
        say!("{:<32} {:>9.0} {:>12.2} {:>14.2} {:>10}", line.callers, line.per_second, line.p50_ms, line.p99_ms, line.failed);
    }
    notes.iter().for_each(|note| say!("{note}"));
}
