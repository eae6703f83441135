//! How a database file does, for a look that changes nothing in it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::fault::Outcome;
use super::{migrations, pool, sql};
use crate::error::Result;

/// How long to wait for another process's transaction to end.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// How a database file does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its size, with its log.
    pub bytes: u64,
    /// The migrations that have not run, in order.
    pub pending: Vec<String>,
}

/// Looks at the database at `path`, which exists: is it ours, of this program's version or older, and may it be written to? A transaction
/// is begun and rolled back.
///
/// # Errors
/// As for [`super::Sqlite::open`].
pub fn condition(path: &Path) -> Result<Condition> {
    let look = || -> Outcome<Vec<String>> {
        let mut connection: Connection = pool::connect(path, sql::WRITER_PRAGMAS, BUSY_WAIT)?;
        migrations::verify(&connection)?;
        let pending = migrations::pending(&connection)?;
        connection.transaction_with_behavior(TransactionBehavior::Immediate)?.rollback()?;
        Ok(pending)
    };
    let pending = look().map_err(|fault| fault.at(path))?;
    let size = |suffix: &str| std::fs::metadata(format!("{}{suffix}", path.display())).map_or(0, |file| file.len());
    Ok(Condition { bytes: size("") + size("-wal"), pending })
}
