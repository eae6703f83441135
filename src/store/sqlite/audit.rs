//! The audit trail: one row an event, added in the transaction of the fact it tells of.

use rusqlite::{Connection, Row, Transaction};

use super::fault::Outcome;
use super::sql;
use super::values::{instant, instant_text};
use crate::domain::access::Proof;
use crate::domain::{Action, AuditEvent, Caller, EncounterId, Outcome as Ending, Role};
use crate::store::columns::unreadable;

const PROOFS: [Proof; 4] = [Proof::Platform, Proof::Entra, Proof::Local, Proof::CommandLine];
const ENDINGS: [Ending; 3] = [Ending::Success, Ending::Refused, Ending::Failure];

/// Adds `event`.
pub(super) fn append(transaction: &Transaction<'_>, event: &AuditEvent) -> Outcome<()> {
    let roles: Vec<_> = event.caller.roles.iter().map(|role| role.name()).collect();
    transaction.prepare_cached(&sql::INSERT_AUDIT)?.execute((
        instant_text(event.at),
        &event.caller.id,
        roles.join(","),
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
    if done {
        return append(transaction, event);
    }
    append(transaction, &AuditEvent { outcome: Ending::Failure, ..event.clone() })
}

/// The newest events, newest first.
pub(super) fn newest(connection: &Connection, limit: u32) -> Outcome<Vec<AuditEvent>> {
    connection.prepare_cached(&sql::AUDIT_EVENTS)?.query_and_then([limit], read)?.collect()
}

fn read(row: &Row<'_>) -> Outcome<AuditEvent> {
    let text = |name: &str| row.get::<_, String>(name);
    let (roles, proof, action, outcome) = (text("roles")?, text("proof")?, text("action")?, text("outcome")?);
    let roles: Option<Vec<_>> = roles.split(',').filter(|name| !name.is_empty()).map(Role::parse).collect();
    let encounter: Option<i64> = row.get("encounter")?;
    let caller = Caller {
        id: text("caller")?,
        roles: roles.ok_or_else(|| unreadable("role"))?,
        proof: PROOFS.into_iter().find(|known| known.name() == proof).ok_or_else(|| unreadable("proof"))?,
        correlation: text("correlation")?,
    };
    Ok(AuditEvent {
        at: instant(&text("at")?)?,
        caller,
        action: Action::ALL.into_iter().find(|known| known.name() == action).ok_or_else(|| unreadable("action"))?,
        outcome: ENDINGS.into_iter().find(|known| known.name() == outcome).ok_or_else(|| unreadable("outcome"))?,
        encounter: encounter.map(|id| EncounterId::new(id).ok_or_else(|| unreadable("encounter id"))).transpose()?,
        detail: text("detail")?,
    })
}
