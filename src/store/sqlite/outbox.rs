//! Announcements on their way out: added in the transaction of their fact, taken under the one lease, gone once they were accepted.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, Transaction};

use super::fault::Outcome;
use super::sql;
use super::values::{instant, instant_text};
use crate::domain::{Announcement, AuditEvent, Fact};
use crate::store::Leased;
use crate::store::columns::unreadable;

/// Adds the announcement of `fact`, if `event` carries one.
pub(super) fn announce(transaction: &Transaction<'_>, event: &AuditEvent, fact: &Fact) -> Outcome<()> {
    if let Some(id) = &event.announcement {
        transaction.prepare_cached(&sql::INSERT_ANNOUNCEMENT)?.execute((id, fact.name(), fact.id(), instant_text(event.at)))?;
    }
    Ok(())
}

/// Does any wait?
pub(super) fn waits(connection: &Connection) -> Outcome<bool> {
    Ok(connection.prepare_cached(&sql::ANNOUNCEMENT_WAITS)?.exists([])?)
}

/// Begins a lease on the oldest announcements.
pub(super) fn lease(
    transaction: &Transaction<'_>,
    lease: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: u32,
) -> Outcome<Leased> {
    if !waits(transaction)? {
        return Ok(Leased::Nothing);
    }
    let (holder, held, failures): (String, String, u32) = transaction
        .prepare_cached(&sql::OUTBOX_LEASE)?
        .query_row([], |row| Ok((row.get("lease")?, row.get("until")?, row.get("failures")?)))?;
    let held = instant(&held)?;
    if held > now && holder != lease {
        return Ok(Leased::Held(held));
    }
    transaction.prepare_cached(&sql::TAKE_OUTBOX_LEASE)?.execute((lease, instant_text(until)))?;
    transaction.prepare_cached(&sql::LEASE_ANNOUNCEMENTS)?.execute((lease, limit))?;
    let announcements: Outcome<Vec<_>> =
        transaction.prepare_cached(&sql::LEASED_ANNOUNCEMENTS)?.query_and_then([lease], read)?.collect();
    Ok(Leased::Taken { announcements: announcements?, failures })
}

fn read(row: &Row<'_>) -> Outcome<Announcement> {
    let text = |name: &str| row.get::<_, String>(name);
    let fact = Fact::parse(&text("fact")?, &text("subject")?).ok_or_else(|| unreadable("announcement"))?;
    Ok(Announcement { id: text("id")?, fact, at: instant(&text("at")?)? })
}

/// Ends a lease whose announcements were accepted.
pub(super) fn publish(transaction: &Transaction<'_>, lease: &str, now: DateTime<Utc>) -> Outcome<()> {
    transaction.prepare_cached(&sql::PUBLISHED_ANNOUNCEMENTS)?.execute([lease])?;
    transaction.prepare_cached(&sql::END_OUTBOX_LEASE)?.execute((lease, instant_text(now), 0))?;
    Ok(())
}

/// Ends a lease whose announcements were not.
pub(super) fn postpone(
    transaction: &Transaction<'_>,
    lease: &str,
    until: DateTime<Utc>,
    failures: u32,
    aged: DateTime<Utc>,
) -> Outcome<u64> {
    let ended = transaction.prepare_cached(&sql::END_OUTBOX_LEASE)?.execute((lease, instant_text(until), failures))?;
    if ended == 0 {
        return Ok(0);
    }
    let dropped = transaction.prepare_cached(&sql::AGED_ANNOUNCEMENTS)?.execute([instant_text(aged)])?;
    Ok(u64::try_from(dropped).unwrap_or_default())
}
