//! The audit trail: one row an event, added in the transaction of the fact it tells of. It carries the operation's id, by which a commit
//! whose answer was lost is found again.

use super::connection::Parameter;
use super::fault::Outcome;
use super::pool::Session;
use super::sql::Statements;
use super::values::{instant, integer, text};
use crate::domain::{AuditEvent, EncounterId};
use crate::store::rules::{AuditRow, event_as, role_names};

/// Adds `event`.
pub(super) async fn append(session: &mut Session, sql: &Statements, event: &AuditEvent) -> Outcome<()> {
    let (operation, roles) = (session.operation().to_owned(), role_names(&event.caller));
    let values = [
        Parameter::Instant(event.at),
        Parameter::Text(&event.caller.id),
        Parameter::Text(&roles),
        Parameter::Text(event.caller.proof.name()),
        Parameter::Text(&event.caller.correlation),
        Parameter::Text(event.action.name()),
        Parameter::Text(event.outcome.name()),
        Parameter::Int(event.encounter.map(EncounterId::get)),
        Parameter::Text(&event.detail),
        Parameter::Text(&operation),
    ];
    session.execute(&sql.insert_audit, &values).await?;
    Ok(())
}

/// Adds `event` as it is if the fact was `done`, as a failure if not.
pub(super) async fn append_as(session: &mut Session, sql: &Statements, event: &AuditEvent, done: bool) -> Outcome<()> {
    append(session, sql, &event_as(event, done)).await
}

/// The newest events, newest first.
pub(super) async fn newest(session: &mut Session, sql: &Statements, limit: u32) -> Outcome<Vec<AuditEvent>> {
    let mut events = Vec::new();
    for row in session.rows(&sql.audit_events, &[Parameter::Long(Some(limit.into()))]).await? {
        let word = |name: &str| text(&row, name).map(str::to_owned);
        let read = AuditRow {
            at: instant(&row, "at")?,
            caller: word("caller")?,
            roles: word("roles")?,
            proof: word("proof")?,
            correlation: word("correlation")?,
            action: word("action")?,
            outcome: word("outcome")?,
            encounter: integer(&row, "encounter")?,
            detail: word("detail")?,
        };
        events.push(read.event()?);
    }
    Ok(events)
}
