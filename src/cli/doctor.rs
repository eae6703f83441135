//! `hdai doctor`: what is configured, whether it can be reached, as whom, how fast, and what to do when not. Every look has a time limit,
//! and none stops another. No secret, token or patient value is shown.

mod azure;
mod clock;
mod embedded;
mod settings;
mod sign_in;
mod topic;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::azure::identity::Identity;
use crate::config::Config;
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line a part
    Text,
    /// One JSON document
    Json,
}

/// Longest look at one part.
const LIMIT: Duration = Duration::from_secs(10);

/// How a part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Ok,
    Warning,
    Failed,
    NotConfigured,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "failed",
            State::NotConfigured => "not configured",
        }
    }
}

/// What was found of one part.
#[derive(Debug, Serialize)]
struct Finding {
    part: &'static str,
    state: State,
    found: String,
    milliseconds: Option<u64>,
    remedy: Option<String>,
}

impl Finding {
    fn new(part: &'static str, state: State, found: impl Into<String>) -> Self {
        Self { part, state, found: found.into(), milliseconds: None, remedy: None }
    }

    fn ok(part: &'static str, found: impl Into<String>) -> Self {
        Self::new(part, State::Ok, found)
    }

    fn warning(part: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(part, State::Warning, found) }
    }

    fn failed(part: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::new(part, State::Failed, found) }
    }

    fn not_configured(part: &'static str, found: impl Into<String>) -> Self {
        Self::new(part, State::NotConfigured, found)
    }
}

/// What every look is given.
struct Patient {
    config: Config,
    identity: Identity,
}

pub(super) async fn run(args: &Args, folder: Option<PathBuf>) -> Result<ExitCode> {
    let lookup = |name: &str| std::env::var(name).ok();
    let (mut config, read) = settings::read(lookup, std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
    if let Some(folder) = folder {
        config.folder = folder;
    }
    let patient = Patient { config, identity: Identity::from_vars(lookup) };
    let mut findings = vec![read];
    findings.extend(examine(&patient).await);
    let healthy = findings.iter().all(|finding| finding.state != State::Failed);
    match args.format {
        Format::Text => findings.iter().for_each(print),
        Format::Json => {
            let report = serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "healthy": healthy, "parts": findings });
            say!("{report:#}");
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All looks at once; the clock's is made of what the others brought.
async fn examine(patient: &Patient) -> Vec<Finding> {
    let config = &patient.config;
    let clocks = clock::Clocks::default();
    let (database, model, keys, storage, account, vault, identity, topic, time, app, sign_in) = tokio::join!(
        limited("database", azure::DATABASE_REMEDY, async {
            match &config.sql {
                None => embedded::database(config).await,
                Some(settings) => azure::database(settings, &patient.identity).await,
            }
        }),
        limited("model", "see the line of the database", embedded::model(patient)),
        limited("keys", azure::KEYS_REMEDY, embedded::keys(patient)),
        limited("storage", "check the disk that the folder lies on, or the account's firewall", async {
            match &config.blob {
                None => embedded::storage(config).await,
                Some(settings) => azure::storage(settings, patient).await,
            }
        }),
        limited("storage account", azure::ACCOUNT_REMEDY, azure::account(config, &clocks)),
        limited("vault", azure::VAULT_REMEDY, azure::vault(patient)),
        limited("identity", azure::IDENTITY_REMEDY, azure::identity(patient)),
        limited("event topic", topic::REMEDY, topic::topic(patient)),
        limited("clock", "see the line of the database", azure::database_clock(patient, &clocks)),
        limited("app", "check the disk that the app lies on", async { embedded::app(config) }),
        limited("sign-in", sign_in::REMEDY, sign_in::look(config)),
    );
    let clock = clock::judge(&clocks, time.state == State::Failed);
    vec![database, keys, storage, account, vault, identity, sign_in, topic, clock, model, app]
}

/// Gives a look its time and notes how long it took.
async fn limited(part: &'static str, remedy: &str, look: impl Future<Output = Finding>) -> Finding {
    let begun = Instant::now();
    let late = || Finding::failed(part, format!("no answer within {} s", LIMIT.as_secs()), remedy);
    let mut finding = tokio::time::timeout(LIMIT, look).await.unwrap_or_else(|_| late());
    if finding.state != State::NotConfigured {
        finding.milliseconds = finding.milliseconds.or(u64::try_from(begun.elapsed().as_millis()).ok());
    }
    finding
}

fn print(finding: &Finding) {
    let time = finding.milliseconds.map_or(String::new(), |milliseconds| format!(" ({milliseconds} ms)"));
    say!("{:<15} {:<15} {}{time}", finding.part, finding.state.name(), finding.found);
    if let Some(remedy) = &finding.remedy {
        say!("{:<15} {:<15} -> {remedy}", "", "");
    }
}
