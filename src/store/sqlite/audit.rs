//! The audit trail: one row an event, added in the transaction of the fact it tells of.

use rusqlite::{Connection, Row, Transaction};

use super::fault::Outcome;
use super::sql;
use super::values::{instant, instant_text};
use crate::domain::{AuditEvent, EncounterId};
use crate::store::rules::{AuditRow, event_as, role_names};

/// Adds `event`.
pub(super) fn append(transaction: &Transaction<'_>, event: &AuditEvent) -> Outcome<()> {
    transaction.prepare_cached(&sql::INSERT_AUDIT)?.execute((
        instant_text(event.at),
        &event.caller.id,
        role_names(&event.caller),
        event.caller.proof.name(),
        &event.caller.correlation,
        event.action.name(),
        event.outcome.name(),
        event.encounter.map(EncounterId::get),
        &event.detail,
    ))?;
    Ok(())
}

/// Adds `event` as it is if the fact was `done`, as a failure if not.
pub(super) fn append_as(transaction: &Transaction<'_>, event: &AuditEvent, done: bool) -> Outcome<()> {
    append(transaction, &event_as(event, done))
}

/// The newest events, newest first.
pub(super) fn newest(connection: &Connection, limit: u32) -> Outcome<Vec<AuditEvent>> {
    connection.prepare_cached(&sql::AUDIT_EVENTS)?.query_and_then([limit], read)?.collect()
}

fn read(row: &Row<'_>) -> Outcome<AuditEvent> {
    let text = |name: &str| row.get::<_, String>(name);
    let read = AuditRow {
        at: instant(&text("at")?)?,
        caller: text("caller")?,
        roles: text("roles")?,
        proof: text("proof")?,
        correlation: text("correlation")?,
        action: text("action")?,
        outcome: text("outcome")?,
        encounter: row.get("encounter")?,
        detail: text("detail")?,
    };
    Ok(read.event()?)
}
