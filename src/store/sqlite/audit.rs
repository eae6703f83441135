//! The audit trail: one row an event, added in the transaction of the fact it tells of, at the end of the chain.

use chrono::{DateTime, SubsecRound, Utc};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction};

use super::fault::Outcome;
use super::sql;
use super::values::{count, instant, instant_text, signed};
use crate::domain::audit::{ChainHead, Chained, Unchained};
use crate::domain::{AuditEvent, AuditRow, EncounterId};
use crate::store::AuditQuery;
use crate::store::columns::unreadable;
use crate::store::rules::{audit_event, event_as, head_is_gone};

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
    let row = AuditRow { at: event.at.trunc_subsecs(6), ..AuditRow::of(event) };
    let hash = row.hash(CHAIN, u64::try_from(place).map_err(|_| unreadable("place in the chain"))?, &previous);
    let at = instant_text(row.at);
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
pub(super) fn page(connection: &Connection, query: &AuditQuery) -> Outcome<Vec<(u64, AuditEvent)>> {
    let before = query.before.map_or(Ok(i64::MAX), signed)?;
    let caller = query.caller.as_deref().unwrap_or_default();
    let action = query.action.map_or("", |action| action.name());
    let outcome = query.outcome.map_or("", |outcome| outcome.name());
    let from = query.from.map(instant_text).unwrap_or_default();
    // Later than every instant.
    let to = query.to.map_or_else(|| "~".to_owned(), instant_text);
    let encounter = query.encounter.map(EncounterId::get);
    let mut values: Vec<&dyn ToSql> = vec![&before, &caller, &action, &outcome, &from, &to, &query.limit];
    let statement = match &encounter {
        Some(id) => {
            values.push(id);
            &sql::AUDIT_ABOUT
        }
        None => &sql::AUDIT_PAGE,
    };
    let read = |row: &Row<'_>| -> Outcome<_> { Ok((count(row, "seq")?, audit_event(words(row)?)?)) };
    connection.prepare_cached(statement)?.query_and_then(values.as_slice(), read)?.collect()
}

/// The ends of the chains.
pub(super) fn heads(connection: &Connection) -> Outcome<Vec<ChainHead>> {
    let read = |row: &Row<'_>| -> Outcome<_> {
        Ok(ChainHead { partition: row.get("chain")?, number: count(row, "place")?, hash: row.get("hash")? })
    };
    connection.prepare_cached(&sql::AUDIT_HEADS)?.query_and_then([], read)?.collect()
}

/// Events of a chain in its order, after the one with this place and this number.
pub(super) fn chain(connection: &Connection, partition: u32, after: (u64, u64), limit: u32) -> Outcome<Vec<Chained>> {
    let read = |row: &Row<'_>| -> Outcome<_> {
        Ok(Chained { seq: count(row, "seq")?, number: count(row, "place")?, hash: row.get("hash")?, row: words(row)? })
    };
    let values = (partition, signed(after.0)?, signed(after.1)?, limit);
    connection.prepare_cached(&sql::AUDIT_CHAIN)?.query_and_then(values, read)?.collect()
}

/// Events in no chain.
pub(super) fn unchained(connection: &Connection) -> Outcome<Unchained> {
    let mut statement = connection.prepare_cached(&sql::AUDIT_UNCHAINED)?;
    let mut rows = statement.query_and_then([], |row| -> Outcome<_> {
        let first: Option<i64> = row.get("firstsince")?;
        let first_since = first.map(|seq| u64::try_from(seq).map_err(|_| unreadable("negative count"))).transpose()?;
        Ok(Unchained { before: count(row, "before")?, since: count(row, "since")?, first_since })
    })?;
    rows.next().unwrap_or_else(|| Ok(Unchained::default()))
}

fn words(row: &Row<'_>) -> Outcome<AuditRow> {
    let text = |name: &str| row.get::<_, String>(name);
    let at: DateTime<Utc> = instant(&text("at")?)?;
    Ok(AuditRow {
        at,
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
