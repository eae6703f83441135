//! Durable queues and blob receipts in one SQLite file, with Azure Storage queues' rules: a message that is taken is invisible
//! for a lease, comes back if it is neither deleted nor kept, and counts how often it was taken.
//! It does not know what a message means or who takes it.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::watch;

use super::clock;
use crate::codec::envelope::delivery::TimerStatus;
use crate::error::{Error, Result};

/// The longest message: 64 KiB on the wire, of which base64 leaves 48.
pub const MESSAGE_BYTES_MAX: usize = 48 * 1024;

/// The most messages in one queue.
pub const QUEUE_MESSAGES_MAX: u64 = 1_000_000;

/// How long a message is kept, as in Azure by default. A poison message is kept until someone deals with it.
const TIME_TO_LIVE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The queues of one state folder. Clones share the file; several processes may, too.
#[derive(Clone)]
pub struct Queues {
    connection: Arc<Mutex<Connection>>,
    changed: watch::Sender<u64>,
}

/// A message that was taken; its holder deletes it, gives it back or moves it to a poison queue.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The message's id.
    pub(crate) id: String,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// Deliveries so far, this one included.
    pub(crate) dequeue_count: u32,
    /// The receipt of this delivery; it is void once another delivery begins.
    pub(crate) pop_receipt: String,
    /// When it was put in.
    pub(crate) inserted: DateTime<Utc>,
    /// When it vanishes.
    pub(crate) expires: DateTime<Utc>,
    /// When this delivery's lease ends.
    pub(crate) next_visible: DateTime<Utc>,
}

/// A message as [`Queues::peek`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// The message's id.
    pub id: String,
    /// Its body.
    pub body: Vec<u8>,
    /// Deliveries so far.
    pub dequeue_count: u32,
    /// When it was put in.
    pub inserted: DateTime<Utc>,
}

/// The identity of a blob's version, for which a function runs once.
#[derive(Clone)]
pub struct BlobVersion {
    /// The function.
    pub function: String,
    /// The container.
    pub container: String,
    /// The blob's name.
    pub name: String,
    /// Its entity tag, without quotes.
    pub etag: String,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS message (
        id            TEXT PRIMARY KEY,
        queue         TEXT NOT NULL,
        body          BLOB NOT NULL,
        dequeue_count INTEGER NOT NULL DEFAULT 0,
        pop_receipt   TEXT NOT NULL DEFAULT '',
        inserted      INTEGER NOT NULL,
        expires       INTEGER NOT NULL,
        visible_at    INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS message_next ON message (queue, visible_at);
    CREATE TABLE IF NOT EXISTS receipt (
        function  TEXT NOT NULL,
        container TEXT NOT NULL,
        name      TEXT NOT NULL,
        etag      TEXT NOT NULL,
        PRIMARY KEY (function, container, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS timer (
        function TEXT PRIMARY KEY,
        last     INTEGER NOT NULL,
        next     INTEGER NOT NULL,
        updated  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;
";

impl Queues {
    /// Opens `queues.db` in `state_dir`, which is made if need be.
    pub fn open(state_dir: &Path) -> Result<Queues> {
        let failed = |error: rusqlite::Error| Error::unavailable("the host's queue file cannot be opened").caused_by(error);
        std::fs::create_dir_all(state_dir).map_err(|error| {
            Error::unavailable(format!("the state folder {} cannot be made", state_dir.display())).caused_by(error)
        })?;
        let path = state_dir.join("queues.db");
        // Messages name files; SQLite gives its side files the mode of the main one.
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(|error| {
            Error::unavailable(format!("the host's queue file {} cannot be made", path.display())).caused_by(error)
        })?;
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        if version > 1 {
            return Err(Error::invalid("the host's queue file was written by a newer version of this program"));
        }
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.execute_batch(SCHEMA).map_err(failed)?;
        Ok(Queues { connection: Arc::new(Mutex::new(connection)), changed: watch::Sender::new(0) })
    }

    /// Puts all `bodies` into `queue`, or none. [`crate::error::Kind::Invalid`] if one is too long,
    /// [`crate::error::Kind::Unavailable`] if the queue is full.
    pub async fn put(&self, queue: &str, bodies: Vec<Vec<u8>>) -> Result<()> {
        let queue = queue.to_owned();
        self.write(move |tx| insert(tx, &queue, &bodies)).await?;
        self.announce();
        Ok(())
    }

    /// Puts `bodies` into `queue` unless the blob's version was put before; true if they were put now. Receipt and messages commit
    /// together.
    pub async fn put_once(&self, queue: &str, blob: BlobVersion, bodies: Vec<Vec<u8>>) -> Result<bool> {
        let queue = queue.to_owned();
        let fresh = self
            .write(move |tx| {
                let changed = tx.execute(
                    "INSERT INTO receipt (function, container, name, etag) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (function, container, name) DO UPDATE SET etag = excluded.etag WHERE etag <> excluded.etag",
                    params![blob.function, blob.container, blob.name, blob.etag],
                )?;
                if changed > 0 {
                    insert(tx, &queue, &bodies)?;
                }
                Ok(changed > 0)
            })
            .await?;
        if fresh {
            self.announce();
        }
        Ok(fresh)
    }

    /// Takes the oldest visible message of `queue`, or the one that `draw` chooses among the oldest `window`, and hides it for `lease`.
    pub(crate) async fn take(
        &self,
        queue: &str,
        lease: Duration,
        window: u32,
        draw: impl FnOnce() -> u64 + Send + 'static,
    ) -> Result<Option<Taken>> {
        let queue = queue.to_owned();
        self.write(move |tx| {
            let now = clock::now();
            let next_visible = after(now, lease);
            let expired =
                tx.execute("DELETE FROM message WHERE queue = ?1 AND expires <= ?2", params![queue, now.timestamp_millis()])?;
            if expired > 0 {
                tracing::error!(queue, expired, "messages were older than seven days and vanished, as in Azure");
            }
            let receipt = uuid::Uuid::new_v4().to_string();
            let skip = if window > 1 {
                let sql = "SELECT count(*) FROM (SELECT 1 FROM message WHERE queue = ?1 AND visible_at <= ?2 LIMIT ?3)";
                let waiting: i64 = tx.query_row(sql, params![queue, now.timestamp_millis(), window], |row| row.get(0))?;
                if waiting > 1 { i64::try_from(draw() % waiting.unsigned_abs()).unwrap_or(0) } else { 0 }
            } else {
                0
            };
            tx.query_row(
                "UPDATE message SET dequeue_count = dequeue_count + 1, visible_at = ?3, pop_receipt = ?4
                 WHERE id = (SELECT id FROM message WHERE queue = ?1 AND visible_at <= ?2 ORDER BY visible_at, inserted, rowid
                              LIMIT 1 OFFSET ?5)
                 RETURNING id, body, dequeue_count, inserted, expires",
                params![queue, now.timestamp_millis(), next_visible.timestamp_millis(), receipt, skip],
                |row| {
                    Ok(Taken {
                        id: row.get(0)?,
                        body: row.get(1)?,
                        dequeue_count: row.get(2)?,
                        pop_receipt: receipt.clone(),
                        inserted: time(row.get(3)?),
                        expires: time(row.get(4)?),
                        next_visible,
                    })
                },
            )
            .optional()
            .map_err(Failure::from)
        })
        .await
    }

    /// Deletes a taken message. False if its lease had ended and another delivery began.
    pub(crate) async fn delete(&self, taken: &Taken) -> Result<bool> {
        let (id, receipt) = (taken.id.clone(), taken.pop_receipt.clone());
        self.write(move |tx| Ok(tx.execute("DELETE FROM message WHERE id = ?1 AND pop_receipt = ?2", params![id, receipt])? > 0))
            .await
    }

    /// Makes a taken message visible again `delay` from now: gives it back, or prolongs its lease.
    pub(crate) async fn release(&self, taken: &Taken, delay: Duration) -> Result<bool> {
        let (id, receipt) = (taken.id.clone(), taken.pop_receipt.clone());
        let kept = self
            .write(move |tx| {
                let visible = after(clock::now(), delay).timestamp_millis();
                let sql = "UPDATE message SET visible_at = ?3 WHERE id = ?1 AND pop_receipt = ?2";
                Ok(tx.execute(sql, params![id, receipt, visible])? > 0)
            })
            .await?;
        if delay.is_zero() {
            self.announce();
        }
        Ok(kept)
    }

    /// Moves a taken message to `poison_queue`, where it stays.
    pub(crate) async fn poison(&self, taken: &Taken, poison_queue: &str) -> Result<bool> {
        let (id, receipt, queue) = (taken.id.clone(), taken.pop_receipt.clone(), poison_queue.to_owned());
        self.write(move |tx| {
            let sql =
                "UPDATE message SET queue = ?3, visible_at = ?4, expires = ?5, pop_receipt = '' WHERE id = ?1 AND pop_receipt = ?2";
            Ok(tx.execute(sql, params![id, receipt, queue, clock::now().timestamp_millis(), i64::MAX])? > 0)
        })
        .await
    }

    /// How many messages lie in `queue`, visible or not.
    pub async fn depth(&self, queue: &str) -> Result<u64> {
        let queue = queue.to_owned();
        self.write(move |tx| count(tx, &queue)).await
    }

    /// The oldest `limit` messages of `queue`, without taking them.
    pub async fn peek(&self, queue: &str, limit: u32) -> Result<Vec<Peeked>> {
        let queue = queue.to_owned();
        self.write(move |tx| {
            let sql = "SELECT id, body, dequeue_count, inserted FROM message WHERE queue = ?1 ORDER BY inserted, rowid LIMIT ?2";
            let mut statement = tx.prepare(sql)?;
            let rows = statement.query_map(params![queue, limit], |row| {
                Ok(Peeked { id: row.get(0)?, body: row.get(1)?, dequeue_count: row.get(2)?, inserted: time(row.get(3)?) })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
        .await
    }

    /// Puts the oldest `limit` messages of a poison queue back where they came from, with a fresh count of deliveries, all or none;
    /// says how many.
    pub async fn redrive(&self, poison_queue: &str, queue: &str, limit: u32) -> Result<usize> {
        let (from, to) = (poison_queue.to_owned(), queue.to_owned());
        let moved = self
            .write(move |tx| {
                let now = clock::now();
                let sql = "UPDATE message SET queue = ?2, dequeue_count = 0, visible_at = ?3, expires = ?4
                     WHERE id IN (SELECT id FROM message WHERE queue = ?1 ORDER BY inserted, rowid LIMIT ?5)";
                let times = [now, after(now, TIME_TO_LIVE)].map(|time| time.timestamp_millis());
                Ok(tx.execute(sql, params![from, to, times[0], times[1], limit])?)
            })
            .await?;
        self.announce();
        Ok(moved)
    }

    /// The poison queues that hold messages, and how many, in the order of their names.
    pub async fn poison_queues(&self) -> Result<Vec<(String, u64)>> {
        self.write(move |tx| {
            let sql = "SELECT queue, count(*) FROM message WHERE queue LIKE '%-poison' GROUP BY queue ORDER BY queue";
            let mut statement = tx.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
        .await
    }

    pub(crate) async fn timer_status(&self, function: &str) -> Result<Option<TimerStatus>> {
        let function = function.to_owned();
        self.write(move |tx| {
            let sql = "SELECT last, next, updated FROM timer WHERE function = ?1";
            let read = |row: &rusqlite::Row<'_>| {
                Ok(TimerStatus { last: time(row.get(0)?), next: time(row.get(1)?), updated: time(row.get(2)?) })
            };
            Ok(tx.query_row(sql, params![function], read).optional()?)
        })
        .await
    }

    pub(crate) async fn set_timer_status(&self, function: &str, status: TimerStatus) -> Result<()> {
        let function = function.to_owned();
        self.write(move |tx| {
            let times = [status.last, status.next, status.updated].map(|time| time.timestamp_millis());
            let sql = "INSERT OR REPLACE INTO timer (function, last, next, updated) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, params![function, times[0], times[1], times[2]])?;
            Ok(())
        })
        .await
    }

    /// Sees every message that this process puts or gives back; other processes' messages are found by polling.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn announce(&self) {
        self.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            // A panic while the lock was held rolled its transaction back: the connection is sound.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&tx)?;
            tx.commit()?;
            Ok(value)
        })
        .await;
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Failure::Sql(error))) => Err(Error::unavailable("the host's queue file failed").caused_by(error)),
            Ok(Err(Failure::Refused(error))) => Err(error),
            Err(error) => Err(Error::internal("a queue operation was cut off").caused_by(error)),
        }
    }
}

enum Failure {
    Sql(rusqlite::Error),
    Refused(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sql(error)
    }
}

fn insert(tx: &Transaction<'_>, queue: &str, bodies: &[Vec<u8>]) -> Result<(), Failure> {
    if bodies.iter().any(|body| body.len() > MESSAGE_BYTES_MAX) {
        return Err(Failure::Refused(Error::invalid(format!("a queue message is longer than {MESSAGE_BYTES_MAX} bytes"))));
    }
    if count(tx, queue)? + bodies.len() as u64 > QUEUE_MESSAGES_MAX {
        return Err(Failure::Refused(Error::unavailable(format!("the queue {queue} is full"))));
    }
    let now = clock::now();
    let expires = after(now, TIME_TO_LIVE).timestamp_millis();
    let sql = "INSERT INTO message (id, queue, body, inserted, expires, visible_at) VALUES (?1, ?2, ?3, ?4, ?5, ?4)";
    let mut statement = tx.prepare(sql)?;
    for body in bodies {
        statement.execute(params![uuid::Uuid::new_v4().to_string(), queue, body, now.timestamp_millis(), expires])?;
    }
    Ok(())
}

fn count(tx: &Transaction<'_>, queue: &str) -> Result<u64, Failure> {
    let count: i64 = tx.query_row("SELECT COUNT(*) FROM message WHERE queue = ?1", params![queue], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

fn after(now: DateTime<Utc>, delay: Duration) -> DateTime<Utc> {
    chrono::TimeDelta::from_std(delay).ok().and_then(|delay| now.checked_add_signed(delay)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn time(millis: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
