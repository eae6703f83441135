//! The demo's steps. Each works on the local host and on any deployment alike.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::client::{Client, http_client};
use super::progress::Progress;
use super::report::Answered;
use super::{ADMISSIONS, Args, DISCHARGES};
use crate::cli::generate;
use crate::codec::fhir;
use crate::domain::{Encounter, Phi};
use crate::error::{Error, Result};
use crate::synthetic;

/// Longest wait for an import or a model.
const WAIT_MAX: Duration = Duration::from_secs(1_800);
const CHARTS_WAIT_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);
/// Largest message read from a file.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;

/// Generates encounters and drops them into the container: a folder, or a URL with a SAS.
pub(super) async fn ingest(args: &Args, container: &str, progress: &Progress) -> Result<()> {
    let name = format!("encounters-{}-{}.csv", args.rows, args.seed);
    let remote = container.starts_with("https://") || container.starts_with("http://");
    let folder = if remote { std::env::temp_dir() } else { PathBuf::from(container) };
    crate::cli::create_private(&folder)?;
    // Written under a name that the trigger ignores, so that it never sees half a file.
    let partial = folder.join(format!(".{name}.{}.partial", uuid::Uuid::new_v4().simple()));
    let written = write(args, &partial, progress).await;
    let dropped = match written {
        Err(error) => Err(error),
        Ok(()) if remote => upload(container, &name, &partial).await,
        Ok(()) => std::fs::rename(&partial, folder.join(&name))
            .map_err(|cause| Error::unavailable("the file cannot be dropped into the container").caused_by(cause)),
    };
    // After a rename there is nothing left to remove.
    let _ = std::fs::remove_file(&partial);
    dropped
}

async fn write(args: &Args, path: &Path, progress: &Progress) -> Result<()> {
    let bar = progress.bar("Generating encounters", u64::from(args.rows));
    let options = synthetic::Options { rows: u64::from(args.rows), seed: args.seed, first_id: 1 };
    let path = path.to_owned();
    let rows = args.rows;
    tokio::task::spawn_blocking(move || {
        generate::to_file(&path, |out| generate::write_encounters(out, &options, |done| bar.at(done)))?;
        bar.done(&format!("{} rows", crate::cli::thousands(u64::from(rows))));
        Ok(())
    })
    .await
    .map_err(|cause| Error::internal("the generator stopped").caused_by(cause))?
}

/// Puts a block blob in one call (Put Blob, at most 5,000 MiB).
async fn upload(container: &str, name: &str, path: &Path) -> Result<()> {
    let mut url = reqwest::Url::parse(container).map_err(|_| Error::invalid("--container-url is no URL"))?;
    url.path_segments_mut().map_err(|()| Error::invalid("--container-url is no container's URL"))?.pop_if_empty().push(name);
    let failed = |cause: std::io::Error| Error::unavailable("the generated file cannot be read").caused_by(cause);
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let length = file.metadata().await.map_err(failed)?.len();
    let request = http_client()?
        .put(url)
        .header("x-ms-blob-type", "BlockBlob")
        .header("x-ms-version", "2023-11-03")
        .header("content-type", "text/csv")
        .header("content-length", length)
        .body(file);
    let away = |cause: reqwest::Error| Error::unavailable("the container does not answer").caused_by(cause.without_url());
    match request.send().await.map_err(away)?.status() {
        StatusCode::CREATED => Ok(()),
        status => {
            Err(Error::unavailable(format!("the container refused the file with {status}: check the SAS's rights and expiry")))
        }
    }
}

/// Waits until the dropped file is imported; answers its receipt.
pub(super) async fn await_import(client: &Client, args: &Args, progress: &Progress) -> Result<Value> {
    let bar = progress.bar("Importing", u64::from(args.rows));
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        let imports = client.get("api/imports?limit=1").await?.unwrap_or_default();
        let import = &imports["imports"][0];
        match import["state"].as_str() {
            Some("done") => {
                bar.done(&format!("{} rows stored", crate::cli::thousands(import["rows"]["stored"].as_u64().unwrap_or(0))));
                return Ok(import.clone());
            }
            Some("failed") => {
                return Err(Error::invalid(format!("the import failed: {}", import["failure"].as_str().unwrap_or_default())));
            }
            _ => bar.at(import["rows"]["read"].as_u64().unwrap_or(0)),
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::unavailable("the import did not end in time: the host's log says why"))
}

/// Waits until a model predicts; answers its record.
pub(super) async fn await_model(client: &Client, progress: &Progress) -> Result<Value> {
    let bar = progress.spinner("Training the model");
    let begun = Instant::now();
    while begun.elapsed() < WAIT_MAX {
        if let Some(model) = client.get("api/models/champion").await? {
            bar.done(model["version"].as_str().unwrap_or_default());
            return Ok(model);
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Error::unavailable("no model was trained in time: the host's log says why"))
}

/// Waits until the training's last step, the control charts, is over (or for ten seconds), so that the host is not stopped in it.
pub(super) async fn await_charts(client: &Client) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < CHARTS_WAIT_MAX {
        let survey = client.get("api/anomalies?limit=1").await?.unwrap_or_default();
        // Once more, for the answer that follows the commit.
        tokio::time::sleep(POLL).await;
        if !survey["found"].is_null() {
            break;
        }
    }
    Ok(())
}

/// How many encounters the record holds.
pub(super) async fn totals(client: &Client) -> Result<Value> {
    client.get("api/totals").await?.ok_or_else(|| Error::not_found("the deployment has no /api/totals"))
}

/// Admits the demo's patients.
pub(super) async fn admit(client: &Client, args: &Args, today: NaiveDate, progress: &Progress) -> Result<Vec<Answered>> {
    let messages = match &args.files {
        Some(folder) => messages(folder)?,
        None => {
            let admitted = patients(args, today)?.into_iter().map(|patient| {
                let day = *patient.admitted.reveal();
                fhir::encode_blueprint_admission(&generate::admit(patient, day)).to_string().into_bytes()
            });
            admitted.collect()
        }
    };
    send(client, Method::POST, "api/PatientAdmissionFunc", messages, progress.bar("Admitting patients", u64::from(ADMISSIONS)))
        .await
}

/// Discharges the first of them, today.
pub(super) async fn discharge(client: &Client, args: &Args, today: NaiveDate, progress: &Progress) -> Result<Vec<Answered>> {
    let messages = match &args.files {
        Some(folder) => messages(folder)?,
        None => {
            let discharged = patients(args, today)?.into_iter().take(DISCHARGES as usize);
            discharged.filter_map(|patient| Some(fhir::encode_discharge(&patient)?.to_string().into_bytes())).collect()
        }
    };
    send(client, Method::PUT, "api/PatientDischargeFunc", messages, progress.bar("Discharging patients", u64::from(DISCHARGES)))
        .await
}

/// The demo's patients: those who are discharged came in so long ago that they leave today, the others come in today.
fn patients(args: &Args, today: NaiveDate) -> Result<Vec<Encounter>> {
    let patients = generate::patients(args.seed, args.first_admission_id(), ADMISSIONS)?;
    let on_time = patients.zip(0u32..).map(|(patient, index)| {
        let stay = generate::stay(&patient);
        let leaves_today = index < DISCHARGES;
        let admitted = if leaves_today { today.checked_sub_signed(stay).unwrap_or(today) } else { today };
        Encounter { admitted: Phi::new(admitted), discharged: Phi::new(leaves_today.then_some(today)), ..patient }
    });
    Ok(on_time.collect())
}

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    messages: Vec<Vec<u8>>,
    bar: super::progress::Bar,
) -> Result<Vec<Answered>> {
    let mut answers = Vec::with_capacity(messages.len());
    for message in messages {
        let facility = serde_json::from_slice::<Value>(&message).ok();
        let facility = facility.and_then(|message| Some(message["encounter"]["serviceProvider"]["display"].as_str()?.to_owned()));
        let (status, body) = client.call(method.clone(), path, Some(message)).await?;
        answers.push(Answered { status: status.as_u16(), facility: facility.unwrap_or_default(), body });
        bar.at(answers.len() as u64);
    }
    let went_well = answers.iter().filter(|answer| answer.went_well()).count();
    bar.done(&format!("{went_well} of {}", answers.len()));
    Ok(answers)
}

/// Every `.json` file of a folder, by name.
fn messages(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let failed =
        |cause: std::io::Error| Error::not_found(format!("the folder {} cannot be read", folder.display())).caused_by(cause);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let unreadable = |cause: std::io::Error| Error::not_found(format!("{} cannot be read", path.display())).caused_by(cause);
        if std::fs::metadata(path).map_err(unreadable)?.len() > MESSAGE_BYTES_MAX {
            return Err(Error::invalid(format!("{} is larger than {MESSAGE_BYTES_MAX} bytes", path.display())));
        }
        std::fs::read(path).map_err(unreadable)
    };
    paths.iter().map(read).collect()
}
