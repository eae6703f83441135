//! Connections to share, and the rule of trying again: a whole piece of work, on a new connection, a bounded number of times.
//!
//! ```text
//! let mut attempts = pool.writing(&witness);
//! loop {
//!     let mut session = attempts.session().await?;                    // a healthy connection, in a transaction
//!     let outcome = encounters::admit(&mut session, ...).await;
//!     if let Some(answer) = attempts.settle(session, outcome).await? { // committed; or what went wrong is final
//!         return Ok(answer);
//!     }                                                               // else once more
//! }
//! ```

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::ExponentialBackoff;
use bb8::{ManageConnection, PooledConnection};
use tokio::time::sleep;
use uuid::Uuid;

use super::connect::Connector;
use super::connecting::Connecting;
use super::connection::{Connection, Parameter};
use super::fault::{Fault, Outcome};
use super::options::Options;
use super::retry;
use crate::config::SqlSettings;
use crate::error::{Error, Result};

/// A connection that lay idle for longer than this is asked whether it still lives before it is used.
const UNASKED_MAX: Duration = Duration::from_secs(30);

/// How long it may take to answer that.
const ALIVE_WITHIN: Duration = Duration::from_secs(5);

/// Connections to one database.
pub(super) struct Pool {
    slots: bb8::Pool<Slots>,
    condemned: Condemned,
    connecting: Connecting,
    /// Longest time for one statement of an import.
    import: Duration,
    most: u32,
}

impl Pool {
    /// A pool that connects when it is first asked. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// Invalid or unavailable, if what a connection needs is not there: the certificate authorities, an Azure identity.
    pub(super) fn new(options: Options, settings: &SqlSettings) -> Result<Self> {
        Ok(Self::over(Connecting::Fixed(Box::new(Connector::new(options, settings)?)), settings))
    }

    /// A pool whose connections come from `connecting`.
    pub(super) fn over(connecting: Connecting, settings: &SqlSettings) -> Self {
        let condemned = Condemned::default();
        let slots = bb8::Pool::builder()
            .max_size(settings.pool_max)
            .idle_timeout(Some(settings.idle))
            .max_lifetime(Some(settings.lifetime))
            .connection_timeout(settings.wait)
            .retry_connection(false)
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .build_unchecked(Slots(condemned.clone()));
        Self { slots, condemned, connecting, import: settings.import, most: settings.pool_max }
    }

    /// Work that only reads: no transaction.
    pub(super) fn reading(&self) -> Attempts<'_> {
        Attempts::new(self, Work::Reading, None)
    }

    /// Work in one transaction. `witness` answers a row if and only if the operation whose id is its one text parameter was committed:
    /// it is asked when the answer to a COMMIT was lost. `None`: doing the work twice does no harm.
    pub(super) fn writing<'p>(&'p self, witness: Option<&'p str>) -> Attempts<'p> {
        Attempts::new(self, Work::Writing, witness)
    }

    /// [`Pool::writing`] with the time that an import's statements may take.
    pub(super) fn importing<'p>(&'p self, witness: Option<&'p str>) -> Attempts<'p> {
        Attempts::new(self, Work::Importing, witness)
    }

    /// A healthy connection that is nobody else's, in a transaction if the work writes.
    async fn open(&self, work: Work, operation: &str) -> Outcome<Session> {
        let mut slot = self.slots.get_owned().await.map_err(|_| {
            Fault::Own(Error::unavailable(format!(
                "all {} connections to the database are busy; try again later, or raise HDAI_SQL_POOL_MAX",
                self.most
            )))
        })?;
        let mut connection = match slot.0.take() {
            Some(connection) => connection,
            None => self.connecting.connect().await?,
        };
        connection.allow(match work {
            Work::Reading | Work::Writing => self.connecting.command(),
            Work::Importing => self.import,
        });
        if work != Work::Reading {
            connection.begin().await?;
        }
        let draw = Uuid::new_v4().as_u64_pair().1 as u32;
        Ok(Session { connection, slot, operation: operation.to_owned(), draw })
    }

    /// Was the operation committed?
    async fn ask(&self, witness: &str, operation: &str) -> Outcome<bool> {
        let mut session = self.open(Work::Reading, operation).await?;
        let row = session.row(witness, &[Parameter::Text(operation)]).await?;
        session.give_back();
        Ok(row.is_some())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Reading,
    Writing,
    Importing,
}

/// The attempts at one piece of work.
pub(super) struct Attempts<'p> {
    pool: &'p Pool,
    work: Work,
    witness: Option<&'p str>,
    operation: String,
    waits: ExponentialBackoff,
    begun: Instant,
    /// No attempt begins later than this after the first.
    most: Duration,
    attempt: u32,
    races: u32,
}

impl<'p> Attempts<'p> {
    fn new(pool: &'p Pool, work: Work, witness: Option<&'p str>) -> Self {
        let operation = Uuid::new_v4().simple().to_string();
        let most = match work {
            Work::Reading | Work::Writing => retry::TRYING_MAX,
            Work::Importing => retry::TRYING_MAX.max(pool.import),
        };
        Self { pool, work, witness, operation, waits: retry::waits(), begun: Instant::now(), most, attempt: 1, races: 0 }
    }

    /// The same, but no attempt begins later than `most` after the first.
    pub(super) fn within(self, most: Duration) -> Self {
        Self { most, ..self }
    }

    /// A connection, in a transaction if the work writes. Waits and tries again while the server throttles or cannot be reached.
    ///
    /// # Errors
    /// Unavailable: every connection is busy, or the server could not be reached in all attempts. Internal: it does not let us in.
    pub(super) async fn session(&mut self) -> Result<Session> {
        loop {
            match self.pool.open(self.work, &self.operation).await {
                Ok(session) => return Ok(session),
                Err(fault) => self.again(fault).await?,
            }
        }
    }

    /// Ends an attempt: commits what went well. `None` means: try again, it was deadlocked, cut off, or lost a race for a key.
    ///
    /// # Errors
    /// What went wrong, if trying again would not help or has not.
    pub(super) async fn settle<T>(&mut self, mut session: Session, outcome: Outcome<T>) -> Result<Option<T>> {
        let (fault, answer) = match outcome {
            Err(fault) => (fault, None),
            Ok(answer) if self.work == Work::Reading => {
                session.give_back();
                return Ok(Some(answer));
            }
            Ok(answer) => match session.connection.commit().await {
                Ok(()) => {
                    session.give_back();
                    return Ok(Some(answer));
                }
                Err(fault) => (fault, Some(answer)),
            },
        };
        drop(session);
        match (answer, self.witness) {
            (Some(answer), Some(witness)) => Ok(self.was_committed(witness, fault).await?.then_some(answer)),
            _ if fault.is_duplicate_key() => self.lost_race(fault),
            _ => self.again(fault).await.map(|()| None),
        }
    }

    /// The answer to a COMMIT was `fault`: finds out what became of it. The first wait gives the server time to end what it was doing.
    async fn was_committed(&mut self, witness: &str, mut fault: Fault) -> Result<bool> {
        let transient = fault.is_transient(self.work == Work::Importing);
        loop {
            let Some(wait) = self.next_wait() else {
                return Err(Error::unavailable(
                    "the connection to the database was lost at the very end of the work, and whether it was stored could not be found \
                     out; look before it is done again",
                )
                .caused_by(Error::from(fault)));
            };
            self.pause(&fault, wait).await;
            match self.pool.ask(witness, &self.operation).await {
                Ok(true) => return Ok(true),
                Ok(false) if transient => return Ok(false),
                Ok(false) => return Err(fault.into()),
                Err(other) if other.is_transient(false) => fault = other,
                Err(other) => return Err(other.into()),
            }
        }
    }

    fn lost_race<T>(&mut self, fault: Fault) -> Result<Option<T>> {
        self.races += 1;
        if self.races >= retry::RACES_MAX {
            return Err(fault.into());
        }
        tracing::info!(number = fault.number(), attempt = self.attempt, "another session stored the same key first; trying again");
        self.attempt += 1;
        Ok(None)
    }

    /// Waits for the next attempt; an error if there is none.
    async fn again(&mut self, fault: Fault) -> Result<()> {
        if !fault.is_transient(self.work == Work::Importing) {
            return Err(fault.into());
        }
        let Some(wait) = self.next_wait() else { return Err(fault.into()) };
        self.pause(&fault, wait).await;
        Ok(())
    }

    fn next_wait(&mut self) -> Option<Duration> {
        self.waits.next().filter(|wait| self.begun.elapsed() + *wait < self.most)
    }

    async fn pause(&mut self, fault: &Fault, wait: Duration) {
        if fault.is_cut_off() {
            self.pool.condemned.all_until_now();
        }
        tracing::warn!(
            what = fault.name(),
            number = fault.number(),
            attempt = self.attempt,
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "work in the database failed and is tried again"
        );
        self.attempt += 1;
        sleep(wait).await;
    }
}

/// A connection in one attempt. Unless [`Attempts::settle`] takes it back in order, it is closed: an error, a time-out or a dropped
/// future can leave an answer unread, and the next statement would take it for its own.
pub(super) struct Session {
    connection: Connection,
    slot: PooledConnection<'static, Slots>,
    operation: String,
    draw: u32,
}

impl Session {
    /// The id of the operation, 32 hex digits, the same in all its attempts.
    pub(super) fn operation(&self) -> &str {
        &self.operation
    }

    /// A number by chance, another one in each attempt.
    pub(super) fn draw(&self) -> u32 {
        self.draw
    }

    fn give_back(self) {
        let Session { mut connection, mut slot, .. } = self;
        connection.rest();
        slot.0 = Some(connection);
    }
}

impl Deref for Session {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// The moment before which connections that lay idle are not trusted: one was cut off then, and with it perhaps all.
#[derive(Clone, Default)]
struct Condemned(Arc<Mutex<Option<Instant>>>);

impl Condemned {
    fn all_until_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn includes(&self, used: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| used <= until)
    }
}

/// A place in the pool. It is empty while its connection is in use, and a place that comes back empty is given up. The connection is
/// made by whoever takes the empty place, not by the pool: so its error reaches the caller at once, with its reason.
struct Slot(Option<Connection>);

/// Makes and examines [`Slot`]s.
struct Slots(Condemned);

impl ManageConnection for Slots {
    type Connection = Slot;
    type Error = ();

    async fn connect(&self) -> std::result::Result<Slot, ()> {
        Ok(Slot(None))
    }

    async fn is_valid(&self, slot: &mut Slot) -> std::result::Result<(), ()> {
        let Some(mut connection) = slot.0.take() else { return Ok(()) };
        if connection.retire() <= Instant::now() || self.0.includes(connection.used()) {
            return Err(());
        }
        if connection.used().elapsed() > UNASKED_MAX {
            connection.allow(ALIVE_WITHIN);
            if connection.ping().await.is_err() {
                self.0.all_until_now();
                return Err(());
            }
        }
        slot.0 = Some(connection);
        Ok(())
    }

    fn has_broken(&self, slot: &mut Slot) -> bool {
        slot.0.is_none()
    }
}

#[cfg(test)]
mod tests;
