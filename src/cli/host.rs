//! `hdai host`, the local Functions host, and `hdai stage`, the folder it runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{Config, Development};
use crate::error::{Error, Result};
use crate::host::{self, BlobPayload, EventGrid, EventSchema, Fault, HttpMode};

/// Between two listings of a container in a storage account.
const ACCOUNT_POLL: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Port of the HTTP front on 127.0.0.1; 0 is a free one
    #[arg(long, default_value_t = 7071)]
    port: u16,
    /// Demand function keys and webhook keys (they are in `keys.json` of the host's folder)
    #[arg(long)]
    keys: bool,
    /// How HTTP calls reach the handler [default: as host.json says]
    #[arg(long, value_enum)]
    http_mode: Option<Mode>,
    /// Deliver blobs inside the call instead of by reference
    #[arg(long)]
    inline_blobs: bool,
    /// Folder of host.json and functions/ [default: what this binary was built with]
    #[arg(long, value_name = "DIR")]
    sources: Option<PathBuf>,
    /// Play Event Grid: a new blob is an event in this schema to every subscription
    #[arg(long, value_enum, value_name = "SCHEMA")]
    event_grid: Option<Schema>,
    /// What Event Grid's retry schedule (10 s, 30 s, 1 min .. 12 h) is multiplied by
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "event_grid", value_parser = factor)]
    event_time_scale: f64,
    #[arg(long = "fault", value_name = "NAME=VALUE", help = fault_help())]
    faults: Vec<Fault>,
    /// Seed of what is random in --fault
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    fault_seed: u64,
}

fn fault_help() -> String {
    let mut help = "Let something go wrong on purpose; may be given several times:\n".to_owned();
    for (form, what) in host::FAULTS {
        help.push_str(&format!("  {form}: {what}\n"));
    }
    help.push_str(
        "CALL is a number from 1, or N% of the calls at random, of all functions that are not called over HTTP; with @FUNCTION after it, \
         of that function",
    );
    help
}

fn factor(text: &str) -> Result<f64> {
    let factor = text.parse().ok().filter(|factor| (0.0..=10.0).contains(factor));
    factor.ok_or_else(|| Error::invalid("the factor must be a number from 0 to 10"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Schema {
    EventGrid,
    CloudEvents,
}

#[derive(Debug, clap::Args)]
pub(super) struct StageArgs {
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Folder of host.json and functions/ [default: what this binary was built with]
    #[arg(long, value_name = "DIR")]
    sources: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Default,
    Forward,
    Proxy,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let mut options = options(&config)?;
    options.port = args.port;
    options.enforce_keys = args.keys;
    options.http_mode = args.http_mode.map(|mode| match mode {
        Mode::Default => HttpMode::Default,
        Mode::Forward => HttpMode::Forward,
        Mode::Proxy => HttpMode::Proxy,
    });
    options.blob_payload = args.inline_blobs.then_some(BlobPayload::Inline);
    options.event_grid = args.event_grid.map(|schema| EventGrid {
        schema: match schema {
            Schema::EventGrid => EventSchema::EventGrid,
            Schema::CloudEvents => EventSchema::CloudEvents,
        },
        time_scale: args.event_time_scale,
    });
    options.faults = args.faults;
    options.fault_seed = args.fault_seed;
    if config.blob.is_some() {
        options.account = Some(host::Account(super::open_blobs(&config)?));
        // A blob is there whole or not at all.
        options.timing.blob_settle = Duration::ZERO;
        options.timing.blob_poll = ACCOUNT_POLL;
    }
    stage_into(args.sources.as_deref(), &config.import_container, &options.app_dir)?;
    let place = match &options.account {
        Some(_) => format!("put CSV files into the container {} of the storage account", config.import_container),
        None => {
            let container = options.blob_dir.join(&config.import_container);
            super::create_private(&container)?;
            format!("drop CSV files into {}", container.display())
        }
    };
    let mut running = host::start(options).await?;
    say!("Local Functions host on http://{}", running.http());
    say!("  {place}");
    if config.sign_in.development == Development::Allowed {
        say!("  sign in with the header `Authorization: Bearer $(hdai token --role CareLineManager)`");
    }
    say!("  stop with Ctrl-C");
    tokio::select! {
        ended = running.wait() => ended?,
        () = asked_to_stop() => running.stop().await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C, or a polite signal from whoever started us.
pub(super) async fn asked_to_stop() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

pub(super) fn stage(config: &Config, args: &StageArgs) -> Result<ExitCode> {
    stage_into(args.sources.as_deref(), &config.import_container, &args.out)?;
    say!("Staged {}: run `func start` there, or zip it and deploy it.", args.out.display());
    Ok(ExitCode::SUCCESS)
}

/// The blob trigger's sources and the container that they name.
const BLOB_TRIGGER: &str = "functions/PatientDataBulkImport/function.json";
const BLOB_TRIGGER_CONTAINER: &str = "\"trainingdata/";

/// Stages this binary, with its blob trigger on the configured container.
pub(super) fn stage_into(sources: Option<&Path>, container: &str, out: &Path) -> Result<()> {
    let binary =
        std::env::current_exe().map_err(|cause| Error::internal("the path of this program is unknown").caused_by(cause))?;
    let sources = match sources {
        Some(folder) => host::from_dir(folder)?,
        None => host::embedded(),
    };
    let trigger = sources.files().iter().find(|(path, _)| path == BLOB_TRIGGER).map(|(_, text)| text.clone());
    let sources = match trigger {
        Some(text) => sources.with(BLOB_TRIGGER, text.replace(BLOB_TRIGGER_CONTAINER, &format!("\"{container}/"))),
        None => sources,
    };
    super::create_private(out)?;
    host::stage(&sources, &binary, out)
}

/// A host whose state, containers and handler's state lie in the configured folder.
pub(super) fn options(config: &Config) -> Result<host::Options> {
    super::create_private(&config.folder)?;
    super::create_private(&config.folder.join("host"))?;
    let folder = config
        .folder
        .canonicalize()
        .map_err(|cause| Error::invalid(format!("the folder {} cannot be used", config.folder.display())).caused_by(cause))?;
    let text =
        folder.to_str().ok_or_else(|| Error::invalid("the folder's path must be UTF-8: choose another --folder"))?.to_owned();
    let blobs = Config { folder: folder.clone(), ..config.clone() }.blob_root();
    let mut options = host::Options::new(folder.join("app"), folder.join("host"), blobs);
    options.account_url = config.account_url.clone();
    options.handler_env = vec![
        ("HDAI_FOLDER".into(), text),
        ("HDAI_BLOB_ACCOUNT_URL".into(), config.account_url.clone()),
        ("HDAI_IMPORT_CONTAINER".into(), config.import_container.clone()),
        ("HDAI_LOG".into(), config.log.clone()),
    ];
    Ok(options)
}
