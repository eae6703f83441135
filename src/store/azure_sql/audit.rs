//! The audit trail: one row an event, added in the transaction of the fact it tells of, at the end of one of the chains. It carries the
//! operation's id, by which a commit whose answer was lost is found again.

use chrono::{DateTime, Duration, SubsecRound, TimeZone, Utc};
use tiberius::Row;

use super::connection::Parameter;
use super::fault::Outcome;
use super::pool::Session;
use super::sql::Statements;
use super::values::{count, instant, integer, number, signed, text};
use crate::domain::audit::{ChainHead, Chained, Unchained};
use crate::domain::{AuditEvent, AuditRow, EncounterId};
use crate::store::AuditQuery;
use crate::store::columns::unreadable;
use crate::store::rules::{audit_event, event_as, head_is_gone};

/// Chains, from 0: a transaction locks one until it ends.
pub(super) const CHAINS: u32 = 8;

/// Adds `event`. The chain is locked from here on, so a transaction touches afterwards only what it has locked before. Any chain will do,
/// but one for all events of a transaction; another attempt takes another, lest a session that hangs hold all of them up.
pub(super) async fn append(session: &mut Session, sql: &Statements, event: &AuditEvent) -> Outcome<()> {
    if let Some(elevation) = &event.elevation {
        session.execute(&sql.count_under_elevation, &[Parameter::Text(elevation)]).await?;
    }
    let operation = session.operation().to_owned();
    let chain = session.draw() % CHAINS;
    let head = session.row(&sql.advance_chain, &[Parameter::Long(Some(chain.into()))]).await?;
    let head = head.ok_or_else(head_is_gone)?;
    let (place, previous) = (count(&head, "place")?, text(&head, "hash")?.to_owned());
    let row = AuditRow { at: event.at.trunc_subsecs(6), ..AuditRow::of(event) };
    let hash = row.hash(chain, place, &previous);
    let values = [
        Parameter::Instant(row.at),
        Parameter::Text(&row.caller),
        Parameter::Text(&row.roles),
        Parameter::Text(&row.proof),
        Parameter::Text(&row.correlation),
        Parameter::Text(&row.origin),
        Parameter::Text(&row.action),
        Parameter::Text(&row.outcome),
        Parameter::Int(event.encounter.map(EncounterId::get)),
        Parameter::Text(&row.detail),
        Parameter::Text(&operation),
        Parameter::Long(Some(chain.into())),
        Parameter::Long(Some(signed(place)?)),
        Parameter::Text(&hash),
    ];
    session.execute(&sql.insert_audit, &values).await?;
    session.execute(&sql.chain_hash, &[Parameter::Long(Some(chain.into())), Parameter::Text(&hash)]).await?;
    Ok(())
}

/// Adds `event` as it is if the fact was `done`, as a failure if not.
pub(super) async fn append_as(session: &mut Session, sql: &Statements, event: &AuditEvent, done: bool) -> Outcome<()> {
    append(session, sql, &event_as(event, done)).await
}

/// What `query` asks for, newest first.
pub(super) async fn page(session: &mut Session, sql: &Statements, query: &AuditQuery) -> Outcome<Vec<(u64, AuditEvent)>> {
    let (first, last) = ends_of_time();
    let mut values = vec![
        Parameter::Long(Some(query.before.map_or(Ok(i64::MAX), signed)?)),
        Parameter::Text(query.caller.as_deref().unwrap_or_default()),
        Parameter::Text(query.action.map_or("", |action| action.name())),
        Parameter::Text(query.outcome.map_or("", |outcome| outcome.name())),
        Parameter::Instant(query.from.unwrap_or(first)),
        // The record keeps whole microseconds.
        Parameter::Instant(query.to.map_or(last, |to| to - Duration::microseconds(1))),
        Parameter::Long(Some(query.limit.into())),
    ];
    let statement = match query.encounter {
        Some(id) => {
            values.push(Parameter::Int(Some(id.get())));
            &sql.audit_about
        }
        None => &sql.audit_page,
    };
    let mut events = Vec::new();
    for row in session.rows(statement, &values).await? {
        events.push((count(&row, "seq")?, audit_event(words(&row)?)?));
    }
    Ok(events)
}

/// The first and the last instant that SQL knows.
fn ends_of_time() -> (DateTime<Utc>, DateTime<Utc>) {
    let at = |year, month, day| Utc.with_ymd_and_hms(year, month, day, 0, 0, 0).single().unwrap_or_default();
    (at(1, 1, 1), at(9999, 12, 31))
}

/// The ends of the chains.
pub(super) async fn heads(session: &mut Session, sql: &Statements) -> Outcome<Vec<ChainHead>> {
    let head = |row: &Row| -> Outcome<_> {
        let partition = u32::try_from(number(row, "chain")?).map_err(|_| unreadable("chain"))?;
        Ok(ChainHead { partition, number: count(row, "place")?, hash: text(row, "hash")?.to_owned() })
    };
    session.rows(&sql.audit_heads, &[]).await?.iter().map(head).collect()
}

/// Events of a chain in its order, after the one with this place and this number.
pub(super) async fn chain(
    session: &mut Session,
    sql: &Statements,
    partition: u32,
    after: (u64, u64),
    limit: u32,
) -> Outcome<Vec<Chained>> {
    let values = [i64::from(partition), signed(after.0)?, signed(after.1)?, limit.into()];
    let values = values.map(|number| Parameter::Long(Some(number)));
    let chained = |row: &Row| -> Outcome<_> {
        let hash = text(row, "hash")?.to_owned();
        Ok(Chained { seq: count(row, "seq")?, number: count(row, "place")?, hash, row: words(row)? })
    };
    session.rows(&sql.audit_chain, &values).await?.iter().map(chained).collect()
}

/// Events in no chain.
pub(super) async fn unchained(session: &mut Session, sql: &Statements) -> Outcome<Unchained> {
    let Some(row) = session.row(&sql.audit_unchained, &[]).await? else { return Ok(Unchained::default()) };
    let first = integer(&row, "firstsince")?;
    let first_since = first.map(|seq| u64::try_from(seq).map_err(|_| unreadable("negative count"))).transpose()?;
    Ok(Unchained { before: count(&row, "unchained")?, since: count(&row, "since")?, first_since })
}

fn words(row: &Row) -> Outcome<AuditRow> {
    let word = |name: &str| text(row, name).map(str::to_owned);
    Ok(AuditRow {
        at: instant(row, "at")?,
        caller: word("caller")?,
        roles: word("roles")?,
        proof: word("proof")?,
        correlation: word("correlation")?,
        origin: word("origin")?,
        action: word("action")?,
        outcome: word("outcome")?,
        encounter: integer(row, "encounter")?,
        detail: word("detail")?,
    })
}
