//! The looks at this machine: the database file, the folder, the model, the staged app.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Finding, Patient};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::host;
use crate::predict::Model;
use crate::schema;
use crate::store::azure_sql::AzureSql;
use crate::store::datakeys::{KeyState, KeyTable};
use crate::store::sealed::Sealed;
use crate::store::sqlite::{self, Sqlite};

/// Free space below which an import may not end, and below which nothing may.
const FREE_LOW_BYTES: u64 = 1 << 30;
const FREE_LEAST_BYTES: u64 = 64 << 20;

/// The embedded database.
pub(super) async fn database(config: &Config) -> Finding {
    const PART: &str = "database";
    let path = config.database_path();
    if !path.exists() {
        return absent(PART, &path, "embedded SQLite");
    }
    let place = path.clone();
    let looked = match tokio::task::spawn_blocking(move || sqlite::condition(&place)).await {
        Ok(looked) => looked,
        Err(_) => return Finding::failed(PART, "the look at it broke off", "run it again"),
    };
    let condition = match looked {
        Ok(condition) => condition,
        Err(error) => return Finding::failed(PART, error.message(), remedy(&error)),
    };
    let found = format!("embedded SQLite {}, {}, ours and writable", path.display(), megabytes(condition.bytes));
    if !condition.pending.is_empty() {
        let found = format!("{found}; migrations to come: {}", condition.pending.join(", "));
        return Finding::warning(PART, found, "run `hdai migrate`, or any command that opens the record");
    }
    with_free_space(PART, format!("{found}, schema current"), &path)
}

/// What is not there yet: can it be made?
fn absent(part: &'static str, path: &Path, what: &str) -> Finding {
    let ancestor = path.ancestors().skip(1).map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let Some(folder) = ancestor.into_iter().find(|folder| folder.exists()) else {
        return Finding::failed(part, format!("{what} {}: no folder above it exists", path.display()), FOLDER_REMEDY);
    };
    if let Err(cause) = try_writing(folder) {
        let found = format!("{what} {}: not there, and {} cannot be written to ({cause})", path.display(), folder.display());
        return Finding::failed(part, found, FOLDER_REMEDY);
    }
    let found = format!("{what} {}: not there yet", path.display());
    Finding::warning(part, found, "nothing to do: the first command that opens the record makes it; `hdai migrate` does it now")
}

const FOLDER_REMEDY: &str = "name a folder on a local disk that this account may write to, with HDAI_FOLDER or --folder";

/// Makes a file and removes it.
fn try_writing(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".hdai-doctor-{}", uuid::Uuid::new_v4().simple()));
    std::fs::OpenOptions::new().write(true).create_new(true).open(&probe)?;
    std::fs::remove_file(probe)
}

/// The errors of the store say what to do in their own words.
fn remedy(error: &Error) -> &'static str {
    match error.is_transient() {
        true => "do what the line says and look again",
        false => "do what the line says; nothing was changed",
    }
}

/// The folder of files.
pub(super) async fn storage(config: &Config) -> Finding {
    const PART: &str = "storage";
    let root = config.blob_root();
    if !root.exists() {
        return absent(PART, &root, "embedded folder");
    }
    let folder = root.clone();
    let tried = tokio::task::spawn_blocking(move || try_writing(&folder)).await;
    let found = format!("embedded folder {}", root.display());
    match tried {
        Ok(Ok(())) => with_free_space(PART, format!("{found}, writable"), &root),
        Ok(Err(cause)) => Finding::failed(PART, format!("{found} cannot be written to ({cause})"), FOLDER_REMEDY),
        Err(_) => Finding::failed(PART, format!("{found}: the look at it broke off"), "run it again"),
    }
}

fn with_free_space(part: &'static str, found: String, path: &Path) -> Finding {
    const REMEDY: &str = "free some space, or move the folder (HDAI_FOLDER) to a larger disk";
    let free = match rustix::fs::statvfs(path) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(cause) => return Finding::warning(part, format!("{found}; its free space is unknown ({cause})"), "check the disk"),
    };
    let found = format!("{found}, {} free", megabytes(free));
    match free {
        FREE_LOW_BYTES.. => Finding::ok(part, found),
        FREE_LEAST_BYTES.. => Finding::warning(part, found, REMEDY),
        _ => Finding::failed(part, found, REMEDY),
    }
}

fn megabytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

/// The model that predicts now.
pub(super) async fn model(patient: &Patient) -> Finding {
    const PART: &str = "model";
    const TRAIN: &str = "import discharged encounters and run `hdai train`";
    let record = match open_as_it_is(patient).await {
        Ok(Some(store)) => store.champion().await,
        Ok(None) => return Finding::not_configured(PART, "there is no record to keep one in yet, or its schema is older"),
        Err(error) => Err(error),
    };
    let record = match record {
        Ok(Some(record)) => record,
        Ok(None) => return Finding::warning(PART, "none is trained yet: admissions get no prediction", TRAIN),
        Err(error) => {
            return Finding::failed(
                PART,
                format!("the record cannot be asked: {}", error.message()),
                "see the line of the database",
            );
        }
    };
    let age = (crate::cli::now() - record.trained).num_days();
    let found = format!("{}, trained {age} days ago on {} encounters", record.version, crate::cli::thousands(record.rows));
    if record.schema_fingerprint != schema::fingerprint() {
        return Finding::failed(PART, format!("{found}, on another schema than this program's"), "run `hdai train`");
    }
    match tokio::task::spawn_blocking(move || Model::from_bytes(&record.bytes).map(|_| ())).await {
        Ok(Ok(())) => Finding::ok(PART, format!("{found}, loads")),
        _ => Finding::failed(PART, format!("{found}, cannot be used by this program"), "run `hdai train`"),
    }
}

/// The keys that names are encrypted with: can those in use be unwrapped?
pub(super) async fn keys(patient: &Patient) -> Finding {
    const PART: &str = "keys";
    let config = &patient.config;
    let looked = async {
        let Some(record) = open_as_it_is(patient).await? else { return Ok(None) };
        let keys = record.data_keys().await?;
        if !keys.is_empty() {
            // It makes a key only where there is none.
            Sealed::new(record, crate::cli::keys::wrapping(config)?, crate::cli::now).check_keys().await?;
        }
        Ok::<_, Error>(Some(keys))
    };
    let keys = match looked.await {
        Ok(None) => {
            return Finding::not_configured(PART, "there is no record whose names they encrypt yet, or its schema is older");
        }
        Ok(Some(keys)) => keys,
        Err(error) => return Finding::failed(PART, error.message(), "do what the line says: without its key no name can be read"),
    };
    let of = |state| keys.iter().filter(move |key| key.state == state);
    let Some(current) = of(KeyState::Current).next() else {
        return Finding::warning(PART, "none is made yet", "nothing to do: the first command that opens the record makes one");
    };
    let found = format!(
        "data key {} encrypts names, wrapped by {}; {} old, {} retired; those in use can be unwrapped",
        current.id,
        current.wrapped_by,
        of(KeyState::Old).count(),
        of(KeyState::Retired).count()
    );
    if of(KeyState::Old).next().is_some() {
        return Finding::warning(PART, found, "run `hdai keys rotate`: it encrypts what is under the old keys anew");
    }
    match config.sql.is_some() && config.data_key_url.is_none() {
        true => Finding::warning(PART, found, "set HDAI_DATA_KEY_URL: no other instance has the key file of this machine"),
        false => Finding::ok(PART, found),
    }
}

/// The record without a migration; `None` if its file is not there, or migrations are to come.
async fn open_as_it_is(patient: &Patient) -> Result<Option<Arc<dyn KeyTable>>> {
    let config = &patient.config;
    let store: Arc<dyn KeyTable> = match &config.sql {
        Some(settings) => {
            let store = AzureSql::open(settings, &patient.identity).await?;
            if !store.pending().await?.is_empty() {
                return Ok(None);
            }
            Arc::new(store)
        }
        None if !config.database_path().exists() => return Ok(None),
        None if !sqlite::condition(&config.database_path())?.pending.is_empty() => return Ok(None),
        None => Arc::new(Sqlite::open(config.database_path())?),
    };
    Ok(Some(store))
}

/// The port, and `host.json` with the functions' folders beside this program.
pub(super) fn app(config: &Config) -> Finding {
    const PART: &str = "app";
    let port = config.port.map_or("no port: the Functions host sets it".to_owned(), |port| format!("port {port} from the host"));
    let beside = std::env::current_exe().ok().and_then(|program| program.canonicalize().ok()?.parent().map(PathBuf::from));
    let Some(folder) = beside.filter(|folder| folder.join("host.json").is_file()) else {
        let found = format!("{port}; no host.json lies beside this program, so it is not a staged app");
        return match config.port {
            None => Finding::not_configured(PART, found),
            Some(_) => Finding::failed(PART, found, "deploy the folder that `hdai stage` makes"),
        };
    };
    const STAGE: &str = "stage the app again with this program: `hdai stage`";
    let staged = match host::contract(&folder) {
        Ok(staged) => staged,
        Err(error) => return Finding::failed(PART, error.to_string(), STAGE),
    };
    let (missing, unknown) = staged.differences();
    let found = format!("{port}; {} functions in {}", staged.functions.len(), folder.display());
    if !missing.is_empty() || !unknown.is_empty() {
        let found = format!("{found}; missing: [{}]; of another version: [{}]", missing.join(", "), unknown.join(", "));
        return Finding::failed(PART, found, STAGE);
    }
    if !staged.executable.is_file() {
        return Finding::failed(PART, format!("{found}; the program that host.json names is not there"), STAGE);
    }
    if staged.function_timeout.is_some_and(|limit| limit.as_secs() <= config.call_seconds_max) {
        let found = format!("{found}; functionTimeout of host.json is not above HDAI_CALL_SECONDS_MAX");
        return Finding::failed(PART, found, "lower HDAI_CALL_SECONDS_MAX, or raise functionTimeout");
    }
    Finding::ok(PART, found)
}
