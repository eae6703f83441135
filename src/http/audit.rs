//! `GET /api/audit`: a page of the trail, filtered.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{ApiRequest, App};
use crate::domain::{Action, AuditRow, Caller, EncounterId, Outcome};
use crate::error::{Error, Result};
use crate::store::AuditQuery;
use crate::workflow;

/// What the filters are, for the documents: name, JSON type, meaning.
pub(super) const FILTERS: [(&str, &str, &str); 7] = [
    ("before", "integer", "Only events with a smaller number: the `next` of the page before."),
    ("encounter", "integer", "Only events about this encounter."),
    ("caller", "string", "Only events of this caller: an Entra object id, or a function's name."),
    ("action", "string", "Only events of this action, such as `admit`."),
    ("outcome", "string", "Only events that ended like this: `success`, `refused` or `failure`."),
    ("from", "string", "Only events from this instant on (RFC 3339)."),
    ("to", "string", "Only events before this instant (RFC 3339)."),
];

/// The page that the request asks for.
pub(super) async fn page(app: &App, caller: &Caller, request: &ApiRequest, limit: u32) -> Result<Value> {
    let events = workflow::audit_trail(caller, &app.hospital, &query(request, limit)?, (app.now)()).await?;
    let full = events.len() as u64 >= u64::from(limit);
    let next = events.last().filter(|_| full).map(|(seq, _)| *seq);
    Ok(json!({ "events": events.iter().map(|(seq, row)| shown(*seq, row)).collect::<Vec<_>>(), "next": next }))
}

fn query(request: &ApiRequest, limit: u32) -> Result<AuditQuery> {
    let refuse = |name: &str, what: &str| Error::invalid(format!("the query parameter {name} must be {what}"));
    let number = |name: &str| -> Result<Option<u64>> {
        let text = request.text(name);
        text.map(|text| text.parse().map_err(|_| refuse(name, "a whole number"))).transpose()
    };
    let instant = |name: &str| -> Result<Option<DateTime<Utc>>> {
        let read = |text: String| DateTime::parse_from_rfc3339(&text).map(|at| at.to_utc());
        request.text(name).map(|text| read(text).map_err(|_| refuse(name, "an instant such as 2026-11-22T06:30:00Z"))).transpose()
    };
    let encounter = number("encounter")?.map(|id| i64::try_from(id).ok().and_then(EncounterId::new));
    let action = request.text("action").map(|name| Action::ALL.iter().copied().find(|action| action.name() == name));
    let outcome = request.text("outcome").map(|name| Outcome::ALL.into_iter().find(|outcome| outcome.name() == name));
    Ok(AuditQuery {
        before: number("before")?,
        encounter: encounter.map(|id| id.ok_or_else(|| refuse("encounter", "the id of an encounter"))).transpose()?,
        caller: request.text("caller"),
        action: action.map(|action| action.ok_or_else(|| refuse("action", "the name of an action"))).transpose()?,
        outcome: outcome.map(|outcome| outcome.ok_or_else(|| refuse("outcome", "success, refused or failure"))).transpose()?,
        from: instant("from")?,
        to: instant("to")?,
        limit,
    })
}

/// An event for a person. What this program does not know of it is shown as it stands there, and named in `strange`.
pub(super) fn shown(seq: u64, row: &AuditRow) -> Value {
    json!({
        "number": seq,
        "at": row.at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        "caller": row.caller,
        "roles": row.roles.split(',').filter(|role| !role.is_empty()).collect::<Vec<_>>(),
        "proof": row.proof,
        "origin": row.origin,
        "correlation": row.correlation,
        "action": row.action,
        "outcome": row.outcome,
        "encounterId": row.encounter,
        "detail": row.detail,
        "strange": row.strange(),
    })
}
