//! The audit trail: one row an event, added in the transaction of the fact it tells of, at the end of one of the chains. It carries the
//! operation's id, by which a commit whose answer was lost is found again.

use chrono::{DateTime, Duration, SubsecRound, TimeZone, Utc};
use tiberius::Row;

use super::connection::Parameter;
use super::fault::Outcome;
use super::pool::Session;
use super::sql::Statements;
use super::values::{count, instant, integer, number, optional_text, signed, text};
use crate::domain::audit::{Anchor, ChainHead, Chained, KeptCheckpoint, Purge, TrailRecord, Unchained};
use crate::domain::{AuditEvent, AuditRow, EncounterId};
use crate::store::AuditQuery;
use crate::store::rules::{By, event_as, head_is_gone, last_anchors, time_is_not_over};

/// Chains, from 0: a transaction locks one until it ends.
pub(super) const CHAINS: u32 = 8;

/// Adds `event`. The chain is locked from here on, so a transaction touches afterwards only what it has locked before. Any chain will do,
/// but one for all events of a transaction; another attempt takes another, lest a session that hangs hold all of them up.
pub(super) async fn append(session: &mut Session, sql: &Statements, event: &AuditEvent) -> Outcome<()> {
    if let Some(elevation) = &event.elevation {
        session.execute(&sql.count_under_elevation, &[Parameter::Text(elevation), Parameter::Long(Some(1))]).await?;
    }
    let operation = session.operation().to_owned();
    let chain = session.draw() % CHAINS;
    let head = session.row(&sql.advance_chain, &[Parameter::Long(Some(chain.into()))]).await?;
    let head = head.ok_or_else(head_is_gone)?;
    let (place, previous) = (count(&head, "place")?, text(&head, "hash")?.to_owned());
    let row = AuditRow::of(event);
    let hash = row.hash(chain, place, &previous);
    let values = [
        Parameter::Instant(event.at.trunc_subsecs(6)),
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
pub(super) async fn page(session: &mut Session, sql: &Statements, query: &AuditQuery) -> Outcome<Vec<(u64, AuditRow)>> {
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
    let statement = match (By::of(query), query.encounter) {
        (By::Encounter, Some(id)) => {
            values.push(Parameter::Int(Some(id.get())));
            &sql.audit_about
        }
        (By::Caller, _) => {
            values.push(Parameter::Text(query.caller.as_deref().unwrap_or_default()));
            &sql.audit_by_caller
        }
        (By::Action, _) => {
            values.push(Parameter::Text(query.action.map_or("", |action| action.name())));
            &sql.audit_by_action
        }
        // The server chooses between the index of times and the end of the trail.
        (By::Encounter | By::Time | By::Place, _) => &sql.audit_page,
    };
    let mut events = Vec::new();
    for row in session.rows(statement, &values).await? {
        events.push((row_number(&row, "seq")?, words(&row)?));
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
        Ok(ChainHead { partition: chain_number(row)?, number: row_number(row, "place")?, hash: text(row, "hash")?.to_owned() })
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
        let hash = optional_text(row, "hash")?.unwrap_or_default().to_owned();
        Ok(Chained { seq: row_number(row, "seq")?, number: row_number(row, "place")?, hash, row: words(row)? })
    };
    session.rows(&sql.audit_chain, &values).await?.iter().map(chained).collect()
}

/// Events in no chain.
pub(super) async fn unchained(session: &mut Session, sql: &Statements) -> Outcome<Unchained> {
    let Some(row) = session.row(&sql.audit_unchained, &[]).await? else { return Ok(Unchained::default()) };
    let first = integer(&row, "firstsince")?;
    let first_since = first.map(|seq| u64::try_from(seq).unwrap_or_default());
    Ok(Unchained { before: count(&row, "unchained")?, since: count(&row, "since")?, first_since })
}

/// What the record says of its trail.
pub(super) async fn record(session: &mut Session, sql: &Statements) -> Outcome<TrailRecord> {
    let Some(row) = session.row(&sql.audit_record, &[]).await? else { return Ok(TrailRecord::default()) };
    let word = |name: &str| text(&row, name).map(str::to_owned);
    let newest = KeptCheckpoint { number: row_number(&row, "newest")?, name: word("newestname")?, text: word("newesttext")? };
    let retention_years = u32::try_from(row_number(&row, "retentionyears")?).unwrap_or(u32::MAX);
    let id = word("id")?;
    let mut anchors = Vec::new();
    for row in session.rows(&sql.audit_anchors, &[]).await? {
        let (hash, checkpoint) = (text(&row, "hash")?.to_owned(), text(&row, "checkpointname")?.to_owned());
        anchors.push(Anchor { partition: chain_number(&row)?, number: row_number(&row, "place")?, hash, checkpoint });
    }
    Ok(TrailRecord { id, retention_years, newest, anchors: last_anchors(anchors) })
}

/// Remembers `checkpoint` in the place of the one before, with its event, if none came between.
pub(super) async fn save_checkpoint(
    session: &mut Session,
    sql: &Statements,
    record: &str,
    (checkpoint, years): (&KeptCheckpoint, u32),
    event: &AuditEvent,
) -> Outcome<bool> {
    let number = signed(checkpoint.number)?;
    let values = [
        Parameter::Long(Some(number - 1)),
        Parameter::Long(Some(number)),
        Parameter::Text(&checkpoint.name),
        Parameter::Text(&checkpoint.text),
        Parameter::Text(record),
    ];
    let done = session.execute(&sql.save_checkpoint, &values).await? > 0;
    if done {
        session.execute(&sql.raise_retention, &[Parameter::Long(Some(years.into()))]).await?;
        append(session, sql, event).await?;
    }
    Ok(done)
}

/// Gives the record another id, with the event.
pub(super) async fn renew_record(
    session: &mut Session,
    sql: &Statements,
    (from, to): (&str, &str),
    event: &AuditEvent,
) -> Outcome<bool> {
    let done = session.execute(&sql.renew_record, &[Parameter::Text(from), Parameter::Text(to)]).await? > 0;
    if done {
        append(session, sql, event).await?;
    }
    Ok(done)
}

/// Events that one statement removes: with some thousands of locks the server would take the whole table's, and stop every writer.
const PURGED_AT_ONCE: u64 = 2_000;

/// Removes the beginning of a chain up to its anchor, which stays, with the event. Once only. Where the server knows no triggers, these
/// statements alone hold the retention.
pub(super) async fn purge(session: &mut Session, sql: &Statements, purge: &Purge, event: &AuditEvent) -> Outcome<u64> {
    let Anchor { partition, number, hash, checkpoint } = &purge.anchor;
    let beginning = [Parameter::Long(Some((*partition).into())), Parameter::Long(Some(signed(*number)?))];
    if session.row(&sql.is_anchored, &beginning).await?.is_some() {
        return Ok(0);
    }
    session.execute(&sql.raise_retention, &[Parameter::Long(Some(purge.retention_years.into()))]).await?;
    let kept = session.row(&sql.events_kept, &beginning).await?;
    let anchor = [
        Parameter::Long(Some((*partition).into())),
        Parameter::Long(Some(signed(*number)?)),
        Parameter::Text(hash),
        Parameter::Text(checkpoint),
    ];
    if kept.map(|row| count(&row, "kept")).transpose()? != Some(0) || session.execute(&sql.insert_anchor, &anchor).await? != 1 {
        return Err(time_is_not_over().into());
    }
    let (mut removed, mut after) = (0, purge.after);
    while after < *number {
        let upto = (*number).min(after + PURGED_AT_ONCE);
        let span = [
            Parameter::Long(Some((*partition).into())),
            Parameter::Long(Some(signed(after)?)),
            Parameter::Long(Some(signed(upto)?)),
        ];
        removed += session.execute(&sql.purge_audit, &span).await?;
        after = upto;
    }
    append(session, sql, event).await?;
    Ok(removed)
}

/// A number of the trail; 0 for one that nothing of ours has written.
fn row_number(row: &Row, name: &str) -> Outcome<u64> {
    Ok(u64::try_from(number(row, name)?).unwrap_or_default())
}

fn chain_number(row: &Row) -> Outcome<u32> {
    Ok(u32::try_from(number(row, "chain")?).unwrap_or(u32::MAX))
}

fn words(row: &Row) -> Outcome<AuditRow> {
    let word = |name: &str| text(row, name).map(str::to_owned);
    Ok(AuditRow {
        at: instant(row, "at").ok(),
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
