//! Data keys, and names that go from one key to another.

use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use super::fault::Outcome;
use super::values::{instant, instant_text, optional_text};
use super::{audit, sql};
use crate::domain::{AuditEvent, EncounterId, PersonName};
use crate::error::Error;
use crate::store::columns::unreadable;
use crate::store::datakeys::{DataKey, KeyState, Renaming};

/// Every data key, oldest first.
pub(super) fn all(connection: &Connection) -> Outcome<Vec<DataKey>> {
    let read = |row: &Row<'_>| -> Outcome<DataKey> {
        Ok(DataKey {
            id: row.get("id")?,
            wrapped: row.get("wrapped")?,
            wrapped_by: row.get("wrappedby")?,
            state: KeyState::parse(&row.get::<_, String>("state")?).ok_or_else(|| unreadable("state of a data key"))?,
            created: instant(&row.get::<_, String>("created")?)?,
        })
    };
    connection.prepare_cached(&sql::DATA_KEYS)?.query_and_then([], read)?.collect()
}

/// Makes `key` the current one in the place of `after`.
pub(super) fn add(transaction: &Transaction<'_>, key: &DataKey, after: Option<&str>, event: Option<&AuditEvent>) -> Outcome<bool> {
    let current: Option<String> = transaction.prepare_cached(&sql::CURRENT_DATA_KEY)?.query_row([], |row| row.get(0)).optional()?;
    if current.as_deref() != after {
        return Ok(current.as_deref() == Some(key.id.as_str()));
    }
    let created = instant_text(key.created);
    match after {
        Some(_) => transaction.prepare_cached(&sql::AGE_DATA_KEY)?.execute([])?,
        None => transaction.prepare_cached(&sql::NOTE_PLAIN_NAMES)?.execute([&created])?,
    };
    let values = (&key.id, &key.wrapped, &key.wrapped_by, KeyState::Current.name(), created);
    transaction.prepare_cached(&sql::INSERT_DATA_KEY)?.execute(values)?;
    event.map_or(Ok(()), |event| audit::append(transaction, event))?;
    Ok(true)
}

/// Retires those of `ids` that are old.
pub(super) fn retire(transaction: &Transaction<'_>, ids: &[String], event: &AuditEvent) -> Outcome<u64> {
    let mut retired = 0;
    for id in ids {
        retired += transaction.prepare_cached(&sql::RETIRE_DATA_KEY)?.execute([id])?;
    }
    audit::append(transaction, event)?;
    Ok(retired as u64)
}

/// What names were in plain text is to lie in no free part of a page either. It takes as much memory as the file is large, and writers wait
/// meanwhile: once in the life of a record. Pages that are freed or written over since hold nothing of what they held.
pub(super) fn rewrite_file(connection: &Connection) -> Outcome<()> {
    Ok(connection.execute_batch(&sql::REWRITE_FILE)?)
}

/// Writers wait no longer than this for one try at the log.
const LOG_WAIT: Duration = Duration::from_millis(200);
/// Tries at the log, each with as long a pause, in which writers and readers come to their turn.
const LOG_TRIES: u32 = 75;

/// Empties the write-ahead log, which holds pages as they were before.
///
/// # Errors
/// Unavailable, if somebody reads an older state all the time.
pub(super) fn empty_log(connection: &Connection, busy: Duration) -> Outcome<()> {
    connection.busy_timeout(LOG_WAIT)?;
    for _ in 0..LOG_TRIES {
        let in_the_way: bool = connection.query_row(&sql::TRUNCATE_LOG, [], |row| row.get(0))?;
        if !in_the_way {
            connection.busy_timeout(busy)?;
            return Ok(());
        }
        thread::sleep(LOG_WAIT);
    }
    Err(Error::unavailable(
        "every name is under the current key, but older forms still lie in the write-ahead log, which somebody who reads the database keeps (a \
         backup, a query that was left open): the older keys are not retired. End that and run this again; nothing is lost",
    )
    .into())
}

/// Puts another wrapping in the place of the one by `from`.
pub(super) fn rewrap(transaction: &Transaction<'_>, key: &DataKey, from: &str, event: &AuditEvent) -> Outcome<bool> {
    let rewrapped = transaction.prepare_cached(&sql::REWRAP_DATA_KEY)?.execute((&key.id, &key.wrapped, &key.wrapped_by, from))? > 0;
    audit::append_as(transaction, event, rewrapped)?;
    Ok(rewrapped)
}

/// Names with a part that is not under `prefix`.
pub(super) fn not_under(
    connection: &Connection,
    prefix: &str,
    after: Option<EncounterId>,
    limit: u32,
) -> Outcome<Vec<(EncounterId, PersonName)>> {
    let read = |row: &Row<'_>| -> Outcome<(EncounterId, PersonName)> {
        let part = |place| Ok::<_, super::fault::Fault>(optional_text(row, place)?.unwrap_or_default());
        let id = EncounterId::new(row.get(0)?).ok_or_else(|| unreadable("encounter id"))?;
        Ok((id, PersonName::new(part(1)?, part(2)?, part(3)?)))
    };
    let values = (after.map_or(0, EncounterId::get), prefix, limit);
    connection.prepare_cached(&sql::NAMES_NOT_UNDER)?.query_and_then(values, read)?.collect()
}

/// Puts names into another form where they are still as they were.
pub(super) fn replace(transaction: &Transaction<'_>, renamings: &[Renaming]) -> Outcome<u64> {
    let mut statement = transaction.prepare_cached(&sql::REPLACE_NAME)?;
    let mut replaced = 0;
    for Renaming { id, from, to } in renamings {
        let [to_first, to_middle, to_last] = parts(to);
        let [first, middle, last] = parts(from);
        replaced += statement.execute((id.get(), to_first, to_middle, to_last, first, middle, last))?;
    }
    Ok(replaced as u64)
}

fn parts(name: &PersonName) -> [Option<&str>; 3] {
    [&name.first, &name.middle, &name.last].map(|part| Some(part.reveal().as_str()).filter(|text| !text.is_empty()))
}
