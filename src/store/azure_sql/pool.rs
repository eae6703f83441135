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

use super::connection::Connection;
use super::fault::Outcome;
use super::options::Options;
use crate::config::SqlSettings;
use crate::error::Result;

/// Connections to one database.
pub(super) struct Pool {}

impl Pool {
    /// A pool that connects when it is first asked.
    pub(super) fn new(options: Options, settings: &SqlSettings) -> Result<Self> {
        let _ = (options, settings);
        todo!()
    }

    /// Work that only reads: no transaction.
    pub(super) fn reading(&self) -> Attempts<'_> {
        todo!()
    }

    /// Work in one transaction. `witness` answers a row if and only if the operation whose id is its one text parameter was committed:
    /// it is asked when the answer to a COMMIT was lost. `None`: doing the work twice does no harm.
    pub(super) fn writing<'p>(&'p self, witness: Option<&'p str>) -> Attempts<'p> {
        let _ = witness;
        todo!()
    }

    /// [`Pool::writing`] with the time that an import's statements may take.
    pub(super) fn importing<'p>(&'p self, witness: Option<&'p str>) -> Attempts<'p> {
        let _ = witness;
        todo!()
    }
}

/// The attempts at one piece of work.
pub(super) struct Attempts<'p> {
    _pool: &'p Pool,
}

impl Attempts<'_> {
    /// A connection, in a transaction if the work writes. Waits and tries again while the server throttles or cannot be reached.
    pub(super) async fn session(&mut self) -> Result<Session> {
        todo!()
    }

    /// Ends an attempt: commits what went well. `None` means: try again, it was deadlocked, cut off, or lost a race for a key.
    pub(super) async fn settle<T>(&mut self, session: Session, outcome: Outcome<T>) -> Result<Option<T>> {
        let _ = (session, outcome);
        todo!()
    }
}

/// A connection in one attempt. Unless [`Attempts::settle`] takes it back in order, it is closed.
pub(super) struct Session {
    connection: Connection,
    operation: String,
}

impl Session {
    /// The id of the operation, 32 hex digits, the same in all its attempts.
    pub(super) fn operation(&self) -> &str {
        &self.operation
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
