//! `hdai migrate`: the record's schema brought up to date, or what that would do.

use std::process::ExitCode;

use super::{create_private, identity, open_record};
use crate::config::Config;
use crate::domain::{Action, AuditEvent, Outcome};
use crate::error::{Error, Result};
use crate::store::azure_sql::AzureSql;
use crate::store::sqlite::{self, Sqlite};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// List the migrations that have not run; change nothing
    #[arg(long, conflicts_with = "script")]
    dry_run: bool,
    /// Print the migrations that have not run as a script for the SQL database's owner; change nothing
    #[arg(long)]
    script: bool,
}

pub(super) async fn run(config: &Config, args: &Args) -> Result<ExitCode> {
    if args.script {
        say!("{}", script(config).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let (names, done) = if args.dry_run {
        (pending(config).await?, "Has not run")
    } else {
        create_private(&config.folder)?;
        let record = open_record(config).await?;
        let names = record.migrate().await?;
        if !names.is_empty() {
            let event = AuditEvent::new(&super::caller(), Action::Migrate, Outcome::Success, super::now());
            record.append_audit(&event.detail(format!("{} migrations up to {}", names.len(), names[names.len() - 1]))).await?;
        }
        (names, "Ran")
    };
    match names.is_empty() {
        true => say!("The schema is up to date."),
        false => say!("{done}: {}", names.join(", ")),
    }
    Ok(ExitCode::SUCCESS)
}

async fn pending(config: &Config) -> Result<Vec<String>> {
    let path = config.database_path();
    match &config.sql {
        Some(settings) => AzureSql::open(settings, &identity()).await?.pending().await,
        // Opening it would make it.
        None if !path.exists() => Ok(sqlite::migration_names()),
        None => Sqlite::open(path)?.pending().await,
    }
}

async fn script(config: &Config) -> Result<String> {
    match &config.sql {
        Some(settings) => AzureSql::open(settings, &identity()).await?.pending_script().await,
        None => Err(Error::invalid(
            "no SQL database is configured, and the embedded record needs no script: set HDAI_SQL_CONNECTION, or run `hdai migrate` alone; \
             `hdai schema --part azure-sql` prints the whole schema without a database",
        )),
    }
}
