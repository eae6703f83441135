//! Connections to one database file, and the threads that use them. It does not know a table.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;

use super::fault::{Fault, Outcome, foreign};
use super::sql;
use crate::error::{Error, Result};

/// `hdai` in ASCII: the mark in the file's header by which we know our own.
pub(super) const APPLICATION_ID: i64 = 0x6864_6169;

/// Every statement of one connection stays prepared.
const STATEMENTS_KEPT: usize = 64;

/// A few connections of one kind to one file. Each piece of work runs on a blocking thread with a connection of its own; waiting for
/// one is asynchronous, first come first served, and no lock is held while work runs.
pub(super) struct Pool {
    path: PathBuf,
    pragmas: &'static str,
    busy: Duration,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    /// At most `size` connections to `path`; `busy` is how long to wait for another process or for a free connection.
    pub(super) fn new(path: &Path, pragmas: &'static str, size: usize, busy: Duration) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(size));
        Arc::new(Self { path: path.to_owned(), pragmas, busy, idle: Mutex::new(Vec::new()), permits })
    }

    /// How long it waits for another process.
    pub(super) fn busy(&self) -> Duration {
        self.busy
    }

    /// Runs `work` in a transaction that holds the write lock from its start, so that what it reads stays true until it commits.
    pub(super) async fn write<T, W>(self: &Arc<Self>, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Outcome<T> + Send + 'static,
    {
        self.run(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = work(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        })
        .await
    }

    /// Runs `work` on a blocking thread. It runs to its end even if the caller stops waiting.
    pub(super) async fn run<T, W>(self: &Arc<Self>, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&mut Connection) -> Outcome<T> + Send + 'static,
    {
        let waiting = tokio::time::timeout(self.busy, Arc::clone(&self.permits).acquire_owned());
        let Ok(Ok(permit)) = waiting.await else {
            return Err(Error::unavailable("too many calls wait for the database; try again"));
        };
        let pool = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            pool.with_connection(work).map_err(|fault| fault.at(&pool.path))
        });
        task.await.map_err(|error| Error::internal("work on the database broke off").caused_by(error))?
    }

    /// A connection that saw an error is closed: whatever state it was left in ends with it.
    fn with_connection<T>(&self, work: impl FnOnce(&mut Connection) -> Outcome<T>) -> Outcome<T> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => connect(&self.path, self.pragmas, self.busy)?,
        };
        let answer = work(&mut connection)?;
        self.keep(connection);
        Ok(answer)
    }

    /// Keeps an open connection for later work.
    pub(super) fn keep(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

/// Opens `path`, which exists, after making sure that it is ours or empty.
pub(super) fn connect(path: &Path, pragmas: &str, busy: Duration) -> Outcome<Connection> {
    // No SQLITE_OPEN_URI: a path is a path. No SQLITE_OPEN_CREATE: `create` made the file, with its mode.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(busy)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    let (application, objects): (i64, i64) =
        connection.query_row(sql::IDENTITY.as_str(), [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if application != APPLICATION_ID && (application != 0 || objects != 0) {
        return Err(foreign(path).into());
    }
    keep_write_ahead_log(&connection, path, busy)?;
    connection.execute_batch(pragmas)?;
    Ok(connection)
}

/// Turns the write-ahead log on, once in the file's life. SQLite does not always call its busy handler here, so this waits itself.
fn keep_write_ahead_log(connection: &Connection, path: &Path, busy: Duration) -> Outcome<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut tries_left = busy.as_millis() / PAUSE.as_millis() + 1;
    loop {
        let mode = connection.query_row(sql::WRITE_AHEAD_LOG.as_str(), [], |row| row.get::<_, String>(0)).map_err(Fault::from);
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                let message = format!(
                    "the database {} cannot keep a write-ahead log; put it on a local disk, not on a network share",
                    path.display()
                );
                return Err(Error::unavailable(message).into());
            }
            Err(fault) if fault.is_busy() && tries_left > 0 => {
                tries_left -= 1;
                thread::sleep(PAUSE);
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Makes the file, readable by its owner alone (SQLite gives the log beside it the same mode), and the folders above it.
pub(super) fn create(path: &Path) -> Result<()> {
    let attempt = || -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map(drop),
        }
    };
    attempt().map_err(|error| {
        let message = format!(
            "the database {} cannot be created; name a file in a folder on a local disk that this account may write to",
            path.display()
        );
        Error::unavailable(message).caused_by(error)
    })
}
