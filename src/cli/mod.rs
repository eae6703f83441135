//! The command line: one file a subcommand, thin. It reads the environment and the clock and hands them down.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its terminal")]
#![allow(clippy::disallowed_methods, reason = "this is the edge that reads the environment and the clock")]

/// Writes a line to standard output. A reader that has gone away is no fault of ours.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod anomalies;
mod audit;
mod bench;
mod break_glass;
mod demo;
mod doctor;
mod evaluate;
mod experiment;
mod facilities;
mod generate;
mod host;
mod import;
mod imports;
mod keys;
mod local;
mod message;
mod migrate;
mod migrate_data;
mod model;
mod predict;
mod receipt;
mod rows;
mod schema;
mod serve;
mod token;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::{CommandFactory, Parser, Subcommand};

use crate::azure::identity::Identity;
use crate::blob::Blobs;
use crate::blob::azure::AzureBlobs;
use crate::blob::local::Local;
use crate::config::Config;
use crate::domain::Caller;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::azure_sql::AzureSql;
use crate::store::datakeys::KeyTable;
use crate::store::sealed::Sealed;
use crate::store::sqlite::Sqlite;
use crate::store::watched::Watched;
use crate::telemetry;
use crate::topic::Topic;
use crate::workflow::Hospital;

const EXAMPLES: &str = "\
Examples:
  hdai demo                          the whole system at work, on this machine
  hdai host                          a local Functions host on port 7071; drop CSV files into hdai-data/blobs/trainingdata
  hdai token --role CareLineManager  a token for calls to it
  hdai import encounters.csv --train bring a file into the record and train a model on it
  hdai admit admission.json          admit a patient and see the predicted stay
  hdai schema                        the data dictionary

Exit codes: 0 done; 1 refused or failed, with a message; 2 the command line cannot be read.
With FUNCTIONS_CUSTOMHANDLER_PORT set (as the Functions host does), `hdai` alone means `hdai serve`.";

/// Hospital encounters in, length-of-stay predictions out.
#[derive(Debug, Parser)]
#[command(name = "hdai", version, after_help = EXAMPLES)]
struct Cli {
    /// Folder of all local state: database, containers, queues
    #[arg(long, global = true, value_name = "DIR", env = "HDAI_FOLDER")]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as the Azure Functions custom handler, on 127.0.0.1
    Serve(serve::Args),
    /// Run the local Functions host: triggers, queues and the HTTP front, with this binary as its handler
    Host(host::Args),
    /// Stage the folder that `func start` and a zip deployment take
    Stage(host::StageArgs),
    /// Show the whole system at work: generate, drop, train, admit, discharge
    Demo(demo::Args),
    /// Bring CSV files of encounters into the record
    Import(import::Args),
    /// Put imports back that were given up (poison messages)
    Imports(imports::Args),
    /// Admit patients from FHIR or blueprint JSON files
    Admit(message::Args),
    /// Discharge patients from FHIR or blueprint JSON files
    Discharge(message::Args),
    /// Train a model on every discharged encounter in the record
    Train(train::Args),
    /// List the models, or print the card of the one in use
    Model(model::Args),
    /// Predict in bulk: for a file, or for the encounters in the record that have no prediction
    Predict(predict::Args),
    /// List the facilities, or add and change them from a CSV
    Facilities(facilities::Args),
    /// Score a labelled CSV with the model in use; nothing is stored
    Evaluate(evaluate::Args),
    /// Find average stays that rise or decline, by facility and condition
    Anomalies(anomalies::Args),
    /// Run and compare experiments: models of other targets or features, described by TOML files
    Experiment(experiment::Args),
    /// Write synthetic encounters, admissions, discharges or facilities
    Generate(generate::Args),
    /// Say what is configured, whether it can be reached, as whom, how fast, and what to do when not
    Doctor(doctor::Args),
    /// Bring the record's schema up to date
    Migrate(migrate::Args),
    /// Copy another system's table of patients (SQL Server or SQLite) into the record, and compare the two
    MigrateData(migrate_data::Args),
    /// Print the data dictionary, the DDL of either record, or the roles of the SQL database
    Schema(schema::Args),
    /// Ask the audit trail: who touched an encounter, is the trail whole
    Audit(audit::Args),
    /// Sign a token for calls to a system on this machine: an `Authorization: Bearer` of the development issuer
    Token(token::Args),
    /// Check that a receipt is genuine
    Receipt(receipt::Args),
    /// List, rotate and rewrap the keys that patients' names are encrypted with
    Keys(keys::Args),
    /// List who broke the glass, show one, or end it
    BreakGlass(break_glass::Args),
    /// Export the encounters admitted before this quarter, without names, ids and days, for analysis
    Rows(rows::Args),
    /// Measure: import against sqlite3, admissions under load
    Bench(bench::Args),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    telemetry::hush_panics();
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::internal("the runtime cannot start").caused_by(cause))
        .and_then(|runtime| {
            let outcome = runtime.block_on(dispatch(cli));
            // Work on a blocking thread that an interruption gave up (a file being generated) must not delay the end.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hdai: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> Result<ExitCode> {
    if let Some(Command::Doctor(args)) = &cli.command {
        // What goes wrong is in its report; a wrong setting must not stop it.
        telemetry::start("off", telemetry::Format::Plain)?;
        return doctor::run(args, cli.folder).await;
    }
    let mut config = Config::from_vars(|name| std::env::var(name).ok())?;
    if let Some(folder) = cli.folder {
        config.folder = folder;
    }
    let command = match (cli.command, config.port) {
        (Some(command), _) => command,
        (None, Some(_)) => Command::Serve(serve::Args::default()),
        (None, None) => {
            Cli::command().print_help().map_err(|cause| Error::internal("the help cannot be written").caused_by(cause))?;
            return Ok(ExitCode::from(2));
        }
    };
    let format = if matches!(command, Command::Serve(_)) { telemetry::Format::JsonLines } else { telemetry::Format::Plain };
    let filter = match (&command, std::env::var("HDAI_LOG")) {
        // The demo's own words and the commands' answers are what a person reads.
        (Command::Serve(_) | Command::Host(_), _) | (_, Ok(_)) => config.log.clone(),
        // A benchmark stops its host in the middle of things.
        (Command::Bench(_), _) => "off".to_owned(),
        _ => "warn".to_owned(),
    };
    telemetry::start(&filter, format)?;
    match command {
        Command::Serve(args) => serve::run(config, args).await,
        Command::Host(args) => host::run(config, args).await,
        Command::Stage(args) => host::stage(&config, &args),
        Command::Demo(args) => demo::run(config, args).await,
        Command::Import(args) => import::run(config, args).await,
        Command::Imports(args) => imports::run(config, args).await,
        Command::Admit(args) => message::run(config, args, message::Verb::Admit).await,
        Command::Discharge(args) => message::run(config, args, message::Verb::Discharge).await,
        Command::Train(args) => train::run(config, args).await,
        Command::Model(args) => model::run(config, args).await,
        Command::Predict(args) => predict::run(config, args).await,
        Command::Facilities(args) => facilities::run(config, args).await,
        Command::Evaluate(args) => evaluate::run(config, args).await,
        Command::Anomalies(args) => anomalies::run(config, args).await,
        Command::Experiment(args) => experiment::run(config, args).await,
        Command::Generate(args) => generate::run(&args),
        Command::Token(args) => token::run(&config, &args),
        Command::Receipt(args) => receipt::run(&config, args),
        Command::Audit(args) => audit::run(config, args).await,
        Command::Keys(args) => keys::run(config, args).await,
        Command::BreakGlass(args) => break_glass::run(config, args).await,
        Command::Rows(args) => rows::run(config, args).await,
        Command::Bench(args) => bench::run(&config, args).await,
        Command::Doctor(args) => doctor::run(&args, Some(config.folder)).await,
        Command::Migrate(args) => migrate::run(&config, &args).await,
        Command::MigrateData(args) => migrate_data::run(config, args).await,
        Command::Schema(args) => schema::run(&config, &args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "hdai", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The clock.
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Whoever runs the command line.
fn caller() -> Caller {
    Caller::command_line(uuid::Uuid::new_v4().to_string())
}

/// Opens what is configured, record and files, with the record's schema up to date.
async fn open(config: Config) -> Result<Hospital> {
    Ok(open_sealed(config).await?.0)
}

/// [`open`], and the hospital's record as the one that encrypts names.
async fn open_sealed(config: Config) -> Result<(Hospital, Arc<Sealed>)> {
    create_private(&config.folder)?;
    let record = Arc::new(keys::seal(&config, open_record(&config).await?)?);
    record.migrate().await?;
    let blobs = open_blobs(&config)?;
    let receipt_key = receipt::signing_key(&config)?;
    let pseudonyms = rows::pseudonym_key(&config)?;
    let topic = config.topic.as_ref().map(|settings| Topic::open(settings, &identity())).transpose()?;
    Ok((Hospital::new(config, record.clone(), blobs, receipt_key, pseudonyms).announcing_to(topic), record))
}

/// Opens the audit trail and the files: no name is read, so no key of the names is asked for, and a database is not migrated. The rights of the
/// auditor's role suffice.
async fn open_trail(config: Config) -> Result<Hospital> {
    create_private(&config.folder)?;
    let record = open_record(&config).await?;
    match &config.sql {
        None => drop(record.migrate().await?),
        Some(settings) if AzureSql::open(settings, &identity()).await?.pending().await?.is_empty() => {}
        Some(_) => {
            return Err(Error::conflict(
                "the database lacks migrations of this program: let its owner run `hdai migrate`, or use the program that made it",
            ));
        }
    }
    let blobs = open_blobs(&config)?;
    let receipt_key = receipt::signing_key(&config)?;
    let pseudonyms = rows::pseudonym_key(&config)?;
    Ok(Hospital::new(config, record, blobs, receipt_key, pseudonyms))
}

/// Opens the record under watch, whoever writes to it, its names as they are stored: the SQL database, if one is configured, or the embedded default in the configured folder,
/// which must be there.
async fn open_record(config: &Config) -> Result<Arc<dyn KeyTable>> {
    let record: Arc<dyn KeyTable> = match &config.sql {
        Some(settings) => {
            tracing::info!(schema = settings.schema, "the record is in the SQL database that the settings name");
            Arc::new(AzureSql::open(settings, &identity()).await?)
        }
        None => {
            tracing::info!("the record is an SQLite file in the folder of local state");
            Arc::new(Sqlite::open(config.database_path())?)
        }
    };
    Ok(Arc::new(Watched::new(record, config.alerts)))
}

/// Who this process is to Azure.
fn identity() -> Identity {
    Identity::from_vars(|name| std::env::var(name).ok())
}

/// Creates a folder that only its owner may enter, unless it is there.
fn create_private(folder: &std::path::Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(|cause| Error::unavailable(format!("the folder {} cannot be created", folder.display())).caused_by(cause))
}

/// The files where the settings say they lie; nothing is connected yet.
fn open_blobs(config: &Config) -> Result<Arc<dyn Blobs>> {
    match &config.blob {
        Some(settings) => {
            tracing::info!("the files are in the storage account that the settings name");
            Ok(Arc::new(AzureBlobs::open(settings, &identity())?))
        }
        None => {
            tracing::info!("the files are in the folder of local state");
            Ok(Arc::new(Local::new(config.blob_root())))
        }
    }
}

/// A number with thousands separators.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1_000, 100_010, 1_234_567].map(thousands), ["0", "999", "1,000", "100,010", "1,234,567"]);
    }
}
