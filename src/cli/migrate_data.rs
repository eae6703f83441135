//! `hdai migrate-data`: another system's table of patients into the record.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use indicatif::{ProgressBar, ProgressStyle};

use super::thousands;
use crate::config::{Config, Secret, SqlConnection, SqlSettings};
use crate::domain::{FacilityId, facility};
use crate::error::{Error, Result};
use crate::store::azure_sql::AzureSql;
use crate::store::datakeys::KeyTable;
use crate::store::legacy::{self, Legacy};
use crate::store::sealed::{KeyFile, Sealed, Wrapping, opened_table};
use crate::store::sqlite::{self, Sqlite};
use crate::workflow::{self, Compared, Copied, Phase, Surveyed};

/// Copies a table in the shape of the blueprint's `PatientData` into the record, checked as a file's rows are, and compares the two
/// afterwards. It can be stopped at any moment and run again. Predictions of the other system are not taken over: they belong to its models.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the table is: an ADO.NET connection string of SQL Server, `sqlite:FILE`, or `-` to read that from standard input
    #[arg(long, value_name = "CONNECTION")]
    from: String,
    /// The table, or a view of the same columns
    #[arg(long, default_value = "PatientData", value_name = "NAME")]
    table: String,
    /// Where the names are encrypted by this program: the key file, or the URL of the Key Vault key, that wraps the source's data keys; for a
    /// `sqlite:FILE` the `data.key` beside it needs not be named
    #[arg(long, value_name = "FILE|URL")]
    names_key: Option<String>,
    /// Rows of a transaction
    #[arg(long, default_value_t = 4_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Read and check every row; store nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let from = match args.from.as_str() {
        "-" => first_line()?,
        _ => args.from.clone(),
    };
    let table = open_table(&config, &from, &args.table, args.names_key.as_deref()).await?;
    let origin = table.origin();
    say!("From {}, {}, table {}", origin.server, origin.database, origin.table);
    let bars = Bars::default();
    let progress = |phase, done, total| bars.show(phase, done, total);
    if args.dry_run {
        let facilities = known_facilities(config).await?;
        let surveyed = workflow::survey_table(&*table, &facilities, args.batch, &progress).await?;
        bars.clear();
        say!("{}", describe(&surveyed));
        say!("Nothing was stored.");
        return Ok(ExitCode::SUCCESS);
    }
    let hospital = super::open(config).await?;
    let copied = workflow::migrate_data(&super::caller(), &hospital, &*table, args.batch, &progress, super::now).await?;
    bars.clear();
    say!("{}", describe(&copied.surveyed));
    tell(&copied);
    Ok(if copied.is_verified() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A connection string on the command line can be read by whoever lists the processes.
fn first_line() -> Result<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(|cause| Error::invalid("standard input cannot be read").caused_by(cause))?;
    Ok(line.trim().to_owned())
}

async fn open_table(config: &Config, from: &str, name: &str, names_key: Option<&str>) -> Result<Box<dyn Legacy>> {
    let Some(path) = from.strip_prefix("sqlite:") else { return open_server(config, from, name, names_key).await };
    let path = Path::new(path);
    let own = config.sql.is_none()
        && path.canonicalize().is_ok_and(|path| config.database_path().canonicalize().is_ok_and(|own| own == path));
    if own {
        return Err(Error::invalid(format!("{} is the record itself: name another --from, or another --folder", path.display())));
    }
    let table = legacy::sqlite(path, name).await?;
    // A file of another program is not touched.
    let record = match sqlite::condition(path) {
        Ok(_) => Some(Arc::new(Sqlite::open(path)?)),
        Err(_) => None,
    };
    let keys = match &record {
        Some(record) => record.data_keys().await.unwrap_or_default(),
        None => Vec::new(),
    };
    let (Some(record), false) = (record, keys.is_empty()) else { return Ok(opened_table(table, None)) };
    let wrapping = match names_key {
        Some(key) => wrapping_at(config, key)?,
        None => Arc::new(KeyFile::new(path.with_file_name("data.key"))),
    };
    Ok(opened_table(table, Some(Arc::new(Sealed::new(record, wrapping, super::now)))))
}

async fn open_server(config: &Config, from: &str, name: &str, names_key: Option<&str>) -> Result<Box<dyn Legacy>> {
    let lookup = |name: &str| std::env::var(name).ok();
    let mut settings = SqlSettings::new(SqlConnection::Text(Secret::new(from)));
    settings.ca_file = lookup("HDAI_SQL_CA_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    // A page of a table without an index on its ids takes a sort.
    settings.command = settings.import;
    settings.pool_max = 1;
    let table = legacy::sql_server(&settings, &super::identity(), name).await?;
    let Some(key) = names_key else { return Ok(opened_table(table, None)) };
    // The table's name was found to be one; its keys lie in the same schema.
    if let Some((schema, _)) = name.split_once('.') {
        settings.schema = schema.to_owned();
    }
    let record = AzureSql::open_source(&settings, &super::identity()).await?;
    let record = Sealed::new(Arc::new(record), wrapping_at(config, key)?, super::now);
    Ok(opened_table(table, Some(Arc::new(record))))
}

/// A key file, or a key of a Key Vault.
fn wrapping_at(config: &Config, key: &str) -> Result<Arc<dyn Wrapping>> {
    match key.starts_with("https://") {
        true => super::keys::wrapping(&Config { data_key_url: Some(key.to_owned()), ..config.clone() }),
        false => Ok(Arc::new(KeyFile::new(key))),
    }
}

/// The facilities of the record, or those that a new one starts with.
async fn known_facilities(config: Config) -> Result<Vec<FacilityId>> {
    let new = config.sql.is_none() && !config.database_path().exists();
    let facilities = if new { facility::seed() } else { super::open_record(&config).await?.facilities().await? };
    Ok(facilities.into_iter().map(|facility| facility.id).collect())
}

fn describe(surveyed: &Surveyed) -> String {
    let mut text = format!(
        "{} rows, {} of them pass and {} break a rule; SHA-256 {}",
        thousands(surveyed.rows),
        thousands(surveyed.rows - surveyed.rejected),
        thousands(surveyed.rejected),
        surveyed.sha256
    );
    for (column, rule, times) in &surveyed.broken {
        text.push_str(&format!("\n  {column} {rule}: {}", thousands(*times)));
    }
    text
}

fn tell(copied: &Copied) {
    let import = &copied.imported.import;
    let counts = &import.counts;
    if copied.imported.superseded {
        say!("Another process has taken this copy over: see its end.");
        return;
    }
    let again = if copied.imported.already { "Copied before, nothing stored: " } else { "" };
    say!(
        "{again}{} new, {} updated, {} unchanged, {} rejected",
        thousands(counts.stored),
        thousands(counts.updated),
        thousands(counts.unchanged),
        thousands(counts.rejected)
    );
    if counts.rejected > 0 {
        say!("Rejects in {}", workflow::rejects_name(&import.id));
    }
    if !import.extra_columns.is_empty() {
        say!("Columns not taken over: {}", import.extra_columns);
    }
    let Some(compared) = &copied.compared else { return };
    tell_comparison(compared);
    if !copied.is_verified() && compared.agrees() {
        say!("NOT VERIFIED: the ledger accounts for {} rows; run `hdai migrate-data` again", thousands(counts.read));
    }
}

fn tell_comparison(compared: &Compared) {
    if compared.kept > 0 {
        say!("{} rows keep a name or a discharge that the table does not say", thousands(compared.kept));
    }
    if compared.agrees() {
        say!("Verified: {} rows are the same on both sides, SHA-256 {}", thousands(compared.rows), compared.source_sha256);
        return;
    }
    say!(
        "NOT VERIFIED: {} of {} rows differ between the table and the record:",
        thousands(compared.differing),
        thousands(compared.rows)
    );
    for range in &compared.differences {
        say!("  encounters {} to {}: {} rows", range.first.get(), range.last.get(), thousands(range.rows));
    }
    say!("If the record has moved on since the copy, that is why; else set these rows right in the table and run this again.");
}

/// Bars on a terminal, nothing elsewhere.
#[derive(Default)]
struct Bars(Mutex<Option<(Phase, ProgressBar)>>);

impl Bars {
    fn show(&self, phase: Phase, done: u64, total: u64) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let mut bar = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if bar.as_ref().is_none_or(|(shown, _)| *shown != phase) {
            *bar = Some((phase, new_bar(phase, total)));
        }
        if let Some((_, bar)) = &*bar {
            bar.set_position(done);
        }
    }

    fn clear(&self) {
        if let Some((_, bar)) = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(phase: Phase, total: u64) -> ProgressBar {
    let label = match phase {
        Phase::Survey => "count and check",
        Phase::Copy => "store",
        Phase::Compare => "compare",
    };
    let style = ProgressStyle::with_template("{prefix:<16} [{bar:32}] {human_pos}/{human_len} {per_sec} {eta}");
    ProgressBar::new(total).with_prefix(label).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
