//! `hdai demo`: the whole system at work. It starts the local host on free ports, drops a file, and plays the care line manager over HTTP;
//! or it plays the same steps against any deployment, as the blueprint's `HealthcareDemo` did.

pub(super) mod client;
mod progress;
mod report;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::NaiveDate;
use reqwest::Url;

use super::local;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::Running;

use client::Client;
use progress::Progress;
use report::Story;

const HELP: &str = "\
Against a deployment, one step at a time:
  hdai demo --operation ingestion --container-url 'https://ACCOUNT.blob.core.windows.net/trainingdata?SAS'
  hdai demo --operation bulk-patient-admission --url https://APP.azurewebsites.net
  hdai demo --operation bulk-patient-discharge --url https://APP.azurewebsites.net
HDAI_DEMO_TOKEN holds the bearer token (`az account get-access-token`), HDAI_DEMO_KEY a function key, if the app asks for them.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Encounters to generate and import
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    rows: u32,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to print at the end
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Run one step only, against --url or --container-url
    #[arg(long, value_enum)]
    operation: Option<Operation>,
    /// A deployment's URL, for example `http://127.0.0.1:7071`
    #[arg(long)]
    url: Option<Url>,
    /// URL of a deployment's import container with a SAS that may create blobs, or a local container folder
    #[arg(long, value_name = "URL|DIR")]
    container_url: Option<String>,
    /// Folder of JSON messages to send instead of generated ones
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// First encounter id of the admissions [default: one past --rows]
    #[arg(long)]
    first_id: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Tables for a person
    Table,
    /// One JSON object for a script
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Operation {
    /// Drop a generated CSV into the import container
    Ingestion,
    /// Admit ten patients
    BulkPatientAdmission,
    /// Discharge six of them
    BulkPatientDischarge,
}

/// Patients admitted and discharged, as the blueprint's demo did.
const ADMISSIONS: u32 = 10;
const DISCHARGES: u32 = 6;

impl Args {
    fn first_admission_id(&self) -> i32 {
        self.first_id.unwrap_or_else(|| i32::try_from(self.rows).unwrap_or(i32::MAX - 1_000) + 1)
    }
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let today = super::now().date_naive();
    let progress = Progress::new();
    match args.operation {
        None if args.url.is_some() || args.container_url.is_some() => {
            Err(Error::invalid("--url and --container-url go with --operation: choose a step"))
        }
        None => whole_story(&config, &args, today, &progress).await,
        Some(operation) => tokio::select! {
            outcome = one_step(&args, operation, today, &progress) => outcome,
            () = super::host::asked_to_stop() => {
                eprintln!("\nhdai: stopped");
                Ok(ExitCode::FAILURE)
            }
        },
    }
}

async fn one_step(args: &Args, operation: Operation, today: NaiveDate, progress: &Progress) -> Result<ExitCode> {
    let client = || {
        let url = args.url.clone().ok_or_else(|| Error::invalid("this step needs --url, the deployment's address"))?;
        Client::new(url, std::env::var("HDAI_DEMO_TOKEN").ok(), std::env::var("HDAI_DEMO_KEY").ok())
    };
    let mut story = Story::default();
    match operation {
        Operation::Ingestion => {
            let container = args.container_url.as_deref().ok_or_else(|| Error::invalid("this step needs --container-url"))?;
            steps::ingest(args, container, progress).await?;
            say!("Dropped {} encounters; the import's receipt: GET /api/imports.", super::thousands(u64::from(args.rows)));
            return Ok(ExitCode::SUCCESS);
        }
        Operation::BulkPatientAdmission => story.admitted = steps::admit(&client()?, args, today, progress).await?,
        Operation::BulkPatientDischarge => story.discharged = steps::discharge(&client()?, args, today, progress).await?,
    }
    story.print(args.format)?;
    Ok(if story.all_went_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn whole_story(config: &Config, args: &Args, today: NaiveDate, progress: &Progress) -> Result<ExitCode> {
    // Before anything is made that an interruption must remove.
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(|cause| Error::internal("Ctrl-C cannot be listened for").caused_by(cause))?;
    let folder = Folder::prepare(config)?;
    let token = super::token::of_every_role(config, folder.path())?;
    let (running, url) = local::launch_host(config, folder.path()).await?;
    let told = tokio::select! {
        story = tell(config, args, today, progress, (folder.path(), &running, url, token)) => Some(story),
        _ = interrupt.recv() => None,
    };
    // Ended before its folder is removed, or it would write into what is being removed.
    running.stop().await;
    let Some(story) = told else {
        let files = if folder.temporary { "its temporary files are removed" } else { "its files stay" };
        eprintln!("\nhdai: stopped; the handler is stopped and {files}");
        return Ok(ExitCode::FAILURE);
    };
    let story = story?;
    story.print(args.format)?;
    story.check(u64::from(args.rows))?;
    if args.format == Format::Table {
        report::print_next(&folder.kept());
    }
    Ok(ExitCode::SUCCESS)
}

async fn tell(
    config: &Config,
    args: &Args,
    today: NaiveDate,
    progress: &Progress,
    (folder, running, url, token): (&Path, &Running, Url, String),
) -> Result<Story> {
    running.ready().await?;
    progress.say(&format!("Local Functions host on {url}, state in {}", folder.display()));
    let client = Client::new(url, Some(token), None)?;
    let container = folder.join("blobs").join(&config.import_container);
    steps::ingest(args, &container.to_string_lossy(), progress).await?;
    let import = steps::await_import(&client, args, progress).await?;
    let imported = steps::totals(&client).await?;
    let model = steps::await_model(&client, progress).await?;
    let admitted = steps::admit(&client, args, today, progress).await?;
    let after_admissions = steps::totals(&client).await?;
    let discharged = steps::discharge(&client, args, today, progress).await?;
    steps::await_charts(&client).await?;
    let peak_resident_bytes = running.handler_pid().and_then(local::peak_resident_bytes);
    Ok(Story { import, imported, model, admitted, after_admissions, discharged, peak_resident_bytes })
}

/// The demo's state: the folder that was asked for, or a temporary one that goes with this value.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// Takes `HDAI_FOLDER` or `--folder` if one was given, which must hold no state yet.
    fn prepare(config: &Config) -> Result<Self> {
        let asked = config.folder != Path::new(crate::config::SETTINGS[0].default);
        if !asked {
            let path = std::env::temp_dir().join(format!("hdai-demo-{}", uuid::Uuid::new_v4().simple()));
            super::create_private(&path)?;
            return Ok(Self { path, temporary: true });
        }
        if config.database_path().exists() {
            let folder = config.folder.display();
            return Err(Error::conflict(format!(
                "{folder} holds a record already: the demo wants a fresh folder, choose another --folder"
            )));
        }
        super::create_private(&config.folder)?;
        let path = std::path::absolute(&config.folder)
            .map_err(|cause| Error::invalid("the folder's path cannot be used").caused_by(cause))?;
        Ok(Self { path, temporary: false })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, if it stays.
    fn kept(&self) -> Option<&Path> {
        (!self.temporary).then_some(self.path.as_path())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing can be done about a folder that stays; the system cleans its temporary files.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
