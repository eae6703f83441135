//! The audit trail: one row an event, added in the transaction of the fact it tells of, at the end of the chain.

use chrono::SubsecRound;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction};

use super::fault::Outcome;
use super::sql;
use super::values::{count, instant, instant_text, signed};
use crate::domain::audit::{Anchor, ChainHead, Chained, KeptCheckpoint, Purge, TrailRecord, Unchained};
use crate::domain::{AuditEvent, AuditRow, EncounterId};
use crate::store::AuditQuery;
use crate::store::columns::unreadable;
use crate::store::rules::{By, event_as, head_is_gone, last_anchors};

/// The one chain of this back end.
const CHAIN: u32 = 0;

/// Adds `event`.
pub(super) fn append(transaction: &Transaction<'_>, event: &AuditEvent) -> Outcome<()> {
    if let Some(elevation) = &event.elevation {
        transaction.prepare_cached(&sql::COUNT_UNDER_ELEVATION)?.execute([elevation])?;
    }
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    let head = transaction.prepare_cached(&sql::ADVANCE_CHAIN)?.query_row([CHAIN], read).optional()?;
    let (place, previous) = head.ok_or_else(head_is_gone)?;
    let row = AuditRow::of(event);
    let hash = row.hash(CHAIN, u64::try_from(place).map_err(|_| unreadable("place in the chain"))?, &previous);
    let at = instant_text(event.at.trunc_subsecs(6));
    let values: [&dyn ToSql; 13] = [
        &at,
        &row.caller,
        &row.roles,
        &row.proof,
        &row.correlation,
        &row.origin,
        &row.action,
        &row.outcome,
        &row.encounter,
        &row.detail,
        &CHAIN,
        &place,
        &hash,
    ];
    transaction.prepare_cached(&sql::INSERT_AUDIT)?.execute(values.as_slice())?;
    transaction.prepare_cached(&sql::CHAIN_HASH)?.execute((CHAIN, &hash))?;
    Ok(())
}

/// Adds `event` as it is if the fact was `done`, as a failure if not.
pub(super) fn append_as(transaction: &Transaction<'_>, event: &AuditEvent, done: bool) -> Outcome<()> {
    append(transaction, &event_as(event, done))
}

/// What `query` asks for, newest first.
pub(super) fn page(connection: &Connection, query: &AuditQuery) -> Outcome<Vec<(u64, AuditRow)>> {
    if query.before == Some(0) {
        // A number below 0 is shown as 0, and would come again for ever.
        return Ok(Vec::new());
    }
    let before = query.before.map_or(Ok(i64::MAX), signed)?;
    let caller = query.caller.as_deref().unwrap_or_default();
    let action = query.action.map_or("", |action| action.name());
    let outcome = query.outcome.map_or("", |outcome| outcome.name());
    let from = query.from.map(instant_text).unwrap_or_default();
    // Every text comes before bytes: what is no time is not later than the end of a span that has none.
    let to = query.to.map_or(Value::Blob(Vec::new()), |to| Value::Text(instant_text(to)));
    let encounter = query.encounter.map(EncounterId::get);
    let mut values: Vec<&dyn ToSql> = vec![&before, &caller, &action, &outcome, &from, &to, &query.limit];
    let statement = match (By::of(query), &encounter) {
        (By::Encounter, Some(id)) => {
            values.push(id);
            &sql::AUDIT_ABOUT
        }
        (By::Caller, _) => {
            values.push(&caller);
            &sql::AUDIT_BY_CALLER
        }
        (By::Action, _) => {
            values.push(&action);
            &sql::AUDIT_BY_ACTION
        }
        (By::Time, _) => &sql::AUDIT_WHEN,
        (By::Encounter | By::Place, _) => &sql::AUDIT_PAGE,
    };
    let read = |row: &Row<'_>| -> Outcome<_> { Ok((row_number(row, "seq")?, words(row)?)) };
    connection.prepare_cached(statement)?.query_and_then(values.as_slice(), read)?.collect()
}

/// The ends of the chains.
pub(super) fn heads(connection: &Connection) -> Outcome<Vec<ChainHead>> {
    let read = |row: &Row<'_>| -> Outcome<_> {
        Ok(ChainHead { partition: chain_number(row)?, number: row_number(row, "place")?, hash: lossy(row, "hash")? })
    };
    connection.prepare_cached(&sql::AUDIT_HEADS)?.query_and_then([], read)?.collect()
}

/// Events of a chain in its order, after the one with this place and this number.
pub(super) fn chain(connection: &Connection, partition: u32, after: (u64, u64), limit: u32) -> Outcome<Vec<Chained>> {
    let read = |row: &Row<'_>| -> Outcome<_> {
        Ok(Chained { seq: row_number(row, "seq")?, number: row_number(row, "place")?, hash: lossy(row, "hash")?, row: words(row)? })
    };
    let values = (partition, signed(after.0)?, signed(after.1)?, limit);
    connection.prepare_cached(&sql::AUDIT_CHAIN)?.query_and_then(values, read)?.collect()
}

/// Events in no chain.
pub(super) fn unchained(connection: &Connection) -> Outcome<Unchained> {
    let mut statement = connection.prepare_cached(&sql::AUDIT_UNCHAINED)?;
    let mut rows = statement.query_and_then([], |row| -> Outcome<_> {
        let first: Option<i64> = row.get("firstsince")?;
        let first_since = first.map(|seq| u64::try_from(seq).unwrap_or_default());
        Ok(Unchained { before: count(row, "before")?, since: count(row, "since")?, first_since })
    })?;
    rows.next().unwrap_or_else(|| Ok(Unchained::default()))
}

/// What the record says of its trail.
pub(super) fn record(connection: &Connection) -> Outcome<TrailRecord> {
    let mut statement = connection.prepare_cached(&sql::AUDIT_RECORD)?;
    let mut rows = statement.query_and_then([], |row| -> Outcome<_> {
        let newest =
            KeptCheckpoint { number: row_number(row, "newest")?, name: lossy(row, "newestname")?, text: lossy(row, "newesttext")? };
        let retention_years = u32::try_from(row_number(row, "retentionyears")?).unwrap_or(u32::MAX);
        Ok(TrailRecord { id: lossy(row, "id")?, retention_years, newest, anchors: Vec::new() })
    })?;
    let record = rows.next().unwrap_or_else(|| Ok(TrailRecord::default()))?;
    let read = |row: &Row<'_>| -> Outcome<_> {
        let (number, hash) = (row_number(row, "place")?, lossy(row, "hash")?);
        Ok(Anchor { partition: chain_number(row)?, number, hash, checkpoint: lossy(row, "checkpointname")? })
    };
    let anchors = connection.prepare_cached(&sql::AUDIT_ANCHORS)?.query_and_then([], read)?.collect::<Outcome<Vec<_>>>()?;
    Ok(TrailRecord { anchors: last_anchors(anchors), ..record })
}

/// Remembers `checkpoint` in the place of the one before, with its event, if none came between.
pub(super) fn save_checkpoint(
    transaction: &Transaction<'_>,
    record: &str,
    checkpoint: &KeptCheckpoint,
    years: u32,
    event: &AuditEvent,
) -> Outcome<bool> {
    let number = signed(checkpoint.number)?;
    let values = (number - 1, number, &checkpoint.name, &checkpoint.text, record);
    let done = transaction.prepare_cached(&sql::SAVE_CHECKPOINT)?.execute(values)? > 0;
    if done {
        transaction.prepare_cached(&sql::RAISE_RETENTION)?.execute([years])?;
        append(transaction, event)?;
    }
    Ok(done)
}

/// Gives the record another id, with the event.
pub(super) fn renew_record(transaction: &Transaction<'_>, from: &str, to: &str, event: &AuditEvent) -> Outcome<bool> {
    let done = transaction.prepare_cached(&sql::RENEW_RECORD)?.execute((from, to))? > 0;
    if done {
        append(transaction, event)?;
    }
    Ok(done)
}

/// Removes the beginning of a chain up to its anchor, which stays, with the event. Once only.
pub(super) fn purge(transaction: &Transaction<'_>, purge: &Purge, event: &AuditEvent) -> Outcome<u64> {
    let Anchor { partition, number, hash, checkpoint } = &purge.anchor;
    let place = signed(*number)?;
    if transaction.prepare_cached(&sql::IS_ANCHORED)?.exists((partition, place))? {
        return Ok(0);
    }
    transaction.prepare_cached(&sql::RAISE_RETENTION)?.execute([purge.retention_years])?;
    transaction.prepare_cached(&sql::INSERT_ANCHOR)?.execute((partition, place, hash, checkpoint))?;
    let removed = transaction.prepare_cached(&sql::PURGE_AUDIT)?.execute((partition, signed(purge.after)?, place))?;
    append(transaction, event)?;
    Ok(removed as u64)
}

/// A number of the trail; 0 for one that nothing of ours has written.
fn row_number(row: &Row<'_>, name: &str) -> Outcome<u64> {
    Ok(u64::try_from(row.get::<_, i64>(name)?).unwrap_or_default())
}

fn chain_number(row: &Row<'_>) -> Outcome<u32> {
    Ok(u32::try_from(row.get::<_, i64>("chain")?).unwrap_or(u32::MAX))
}

/// A text, whatever bytes stand there: a mangled one must not keep the rest of the trail from being read.
fn lossy(row: &Row<'_>, name: &str) -> Outcome<String> {
    Ok(match row.get_ref(name)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
    })
}

fn words(row: &Row<'_>) -> Outcome<AuditRow> {
    let text = |name: &str| lossy(row, name);
    Ok(AuditRow {
        at: instant(&text("at")?).ok(),
        caller: text("caller")?,
        roles: text("roles")?,
        proof: text("proof")?,
        correlation: text("correlation")?,
        origin: text("origin")?,
        action: text("action")?,
        outcome: text("outcome")?,
        encounter: row.get("encounter")?,
        detail: text("detail")?,
    })
}
