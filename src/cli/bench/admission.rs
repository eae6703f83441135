//! Admissions at a steady rate (open loop: a slow answer does not hold back the next call), straight to the handler and through the host.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode, Url};

use crate::cli::demo::client::Client;
use crate::cli::{generate, local};
use crate::codec::fhir;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::synthetic;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Admissions a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Encounters that the model is trained on first
    #[arg(long, default_value_t = 20_000)]
    rows: u32,
}

pub(super) async fn run(config: &Config, args: &Args) -> Result<ExitCode> {
    let scratch = local::Scratch::new("bench")?;
    let (running, url) = local::start_host(config, scratch.path()).await?;
    let token = crate::cli::token::of_every_role(config, scratch.path())?;
    let client = Arc::new(Client::new(url, Some(token.clone()), None)?);
    let container = scratch.path().join("blobs").join("trainingdata");
    crate::cli::create_private(&container)?;
    let partial = container.join(".bench.partial");
    let options = synthetic::Options { rows: u64::from(args.rows), seed: 1, first_id: 1 };
    generate::to_file(&partial, |out| generate::write_encounters(out, &options, |_| ()))?;
    std::fs::rename(&partial, container.join("bench.csv"))
        .map_err(|cause| Error::unavailable("the file cannot be dropped").caused_by(cause))?;
    let begun = Instant::now();
    while client.get("api/models/champion").await?.is_none() {
        if begun.elapsed() > Duration::from_secs(600) {
            return Err(Error::unavailable("no model was trained in time"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    say!("{} admissions a second for {} s, each predicted by a model of {} encounters", args.rate, args.seconds, args.rows);
    say!("{:<26} {:>9} {:>9} {:>9} {:>9} {:>9}", "milliseconds", "p50", "p90", "p99", "max", "failed");
    let today = crate::cli::now().date_naive();
    let count = args.rate * args.seconds;
    let message = |first_id: i32| -> Result<Vec<Vec<u8>>> {
        let admitted = generate::patients(1, first_id, count)?.map(|patient| generate::admit(patient, today));
        Ok(admitted.map(|patient| fhir::encode_blueprint_admission(&patient).to_string().into_bytes()).collect())
    };
    load("warm-up", &client, message(50_000_000)?.into_iter().take(args.rate as usize).collect(), args.rate).await;
    load("through the local host", &client, message(60_000_000)?, args.rate).await;
    load("the handler alone", &Arc::new(direct(&running, token)?), message(70_000_000)?, args.rate).await;
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// The handler itself.
pub(super) fn direct(running: &crate::host::Running, token: String) -> Result<Client> {
    let url = Url::parse(&format!("http://127.0.0.1:{}", running.handler_port()))
        .map_err(|cause| Error::internal("the handler's address is no URL").caused_by(cause))?;
    Client::new(url, Some(token), None)
}

async fn load(label: &str, client: &Arc<Client>, messages: Vec<Vec<u8>>, rate: u32) {
    let mut calls = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for message in messages {
        // Latency counts from when the call was due, so that a stall is not hidden by calls that were never made.
        let due = ticks.tick().await;
        let client = Arc::clone(client);
        calls.spawn(async move {
            let answer = client.call(Method::POST, "api/PatientAdmissionFunc", Some(message)).await;
            let went_well = answer.is_ok_and(|(status, body)| status == StatusCode::CREATED && body["prediction"].is_object());
            (due.elapsed(), went_well)
        });
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    while let Some(call) = calls.join_next().await {
        match call {
            Ok((time, true)) => times.push(time.as_secs_f64() * 1e3),
            _ => failed += 1,
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| {
        times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    say!("{label:<26} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {failed:>9}", at(0.5), at(0.9), at(0.99), at(1.0));
}
