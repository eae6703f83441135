//! Facilities that are assigned, and elevations.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use super::fault::Outcome;
use super::values::{count, instant, instant_text};
use super::{Sqlite, audit, outbox, sql};
use crate::domain::{Assignment, AuditEvent, Elevation, Fact, Phi, Reach, Reason, Standing};
use crate::error::Result;
use crate::store::access::{Access, Broken, EndedElevation};
use crate::store::columns::unreadable;
use crate::store::datakeys::Rewording;
use crate::store::rules::{broken_event, role_names, roles_named};

#[async_trait]
impl Access for Sqlite {
    async fn assign(&self, assignment: &Assignment, audit: &AuditEvent) -> Result<()> {
        let (assignment, event) = (assignment.clone(), audit.clone());
        self.writer.write(move |transaction| assign(transaction, &assignment, &event)).await
    }

    async fn unassign(&self, caller: &str, audit: &AuditEvent) -> Result<bool> {
        let (caller, event) = (caller.to_owned(), audit.clone());
        self.writer.write(move |transaction| unassign(transaction, &caller, &event)).await
    }

    async fn assignments(&self, after: &str, limit: u32) -> Result<Vec<Assignment>> {
        let after = after.to_owned();
        self.read(move |connection| assignments(connection, &after, limit)).await
    }

    async fn standing(&self, caller: &str) -> Result<Standing> {
        let caller = caller.to_owned();
        self.read(move |connection| standing(connection, &caller)).await
    }

    async fn break_glass(&self, elevation: &Elevation, since: DateTime<Utc>, most: u32, audit: &AuditEvent) -> Result<Broken> {
        let (elevation, event) = (elevation.clone(), audit.clone());
        self.writer.write(move |transaction| begin(transaction, &elevation, since, most, &event)).await
    }

    async fn end_elevation(&self, id: &str, holder: Option<&str>, at: DateTime<Utc>, audit: &AuditEvent) -> Result<EndedElevation> {
        let (id, holder, event) = (id.to_owned(), holder.unwrap_or_default().to_owned(), audit.clone());
        self.writer.write(move |transaction| end(transaction, &id, &holder, at, &event)).await
    }

    async fn elevations(&self, limit: u32) -> Result<Vec<Elevation>> {
        self.read(move |connection| newest(connection, limit)).await
    }

    async fn elevation(&self, id: &str) -> Result<Option<Elevation>> {
        let id = id.to_owned();
        self.read(move |connection| find(connection, &id)).await
    }
}

fn assign(transaction: &Transaction<'_>, assignment: &Assignment, event: &AuditEvent) -> Outcome<()> {
    let values = (&assignment.caller, assignment.reach.code(), &assignment.by, instant_text(assignment.at));
    transaction.prepare_cached(&sql::ASSIGN)?.execute(values)?;
    audit::append(transaction, event)
}

fn unassign(transaction: &Transaction<'_>, caller: &str, event: &AuditEvent) -> Outcome<bool> {
    let there = transaction.prepare_cached(&sql::UNASSIGN)?.execute([caller])? > 0;
    audit::append_as(transaction, event, there)?;
    Ok(there)
}

fn assignments(connection: &Connection, after: &str, limit: u32) -> Outcome<Vec<Assignment>> {
    let read = |row: &Row<'_>| -> Outcome<Assignment> {
        Ok(Assignment {
            caller: row.get("caller")?,
            reach: reach(&row.get::<_, String>("facilities")?)?,
            by: row.get("assignedby")?,
            at: instant(&row.get::<_, String>("at")?)?,
        })
    };
    connection.prepare_cached(&sql::ASSIGNMENTS)?.query_and_then((after, limit), read)?.collect()
}

fn reach(code: &str) -> Outcome<Reach> {
    Reach::parse(code).ok_or_else(|| unreadable("assignment of facilities").into())
}

/// Both are read from one state of the record.
fn standing(connection: &Connection, caller: &str) -> Outcome<Standing> {
    let snapshot = connection.unchecked_transaction()?;
    let assigned: Option<String> =
        snapshot.prepare_cached(&sql::ASSIGNED)?.query_row([caller], |row| row.get("facilities")).optional()?;
    let newest = unended(&snapshot, caller)?;
    Ok(Standing {
        assigned: assigned.as_deref().map(reach).transpose()?,
        elevation: newest.map(|elevation| (elevation.id, elevation.until)),
    })
}

/// The newest elevation of `caller` that nobody has ended.
fn unended(connection: &Connection, caller: &str) -> Outcome<Option<Elevation>> {
    connection.prepare_cached(&sql::NEWEST_ELEVATION)?.query_and_then([caller], read)?.next().transpose()
}

fn begin(
    transaction: &Transaction<'_>,
    elevation: &Elevation,
    since: DateTime<Utc>,
    most: u32,
    event: &AuditEvent,
) -> Outcome<Broken> {
    let running = unended(transaction, &elevation.caller)?.filter(|running| running.runs(elevation.from));
    let broken = match running {
        Some(running) => Broken::Runs(Box::new(running)),
        None if begun_since(transaction, &elevation.caller, since)? >= u64::from(most) => Broken::TooMany,
        None => {
            let Elevation { id, caller, roles, reason, words, from, until, .. } = elevation;
            let (from, until) = (instant_text(*from), instant_text(*until));
            let values = (id, caller, role_names(roles), reason.code(), words.reveal(), from, until);
            transaction.prepare_cached(&sql::INSERT_ELEVATION)?.execute(values)?;
            outbox::announce(transaction, event, &Fact::GlassBroken(id.clone()))?;
            Broken::Now
        }
    };
    audit::append(transaction, &broken_event(event, &broken))?;
    Ok(broken)
}

fn begun_since(connection: &Connection, caller: &str, since: DateTime<Utc>) -> Outcome<u64> {
    let mut statement = connection.prepare_cached(&sql::ELEVATIONS_SINCE)?;
    let mut counts = statement.query_and_then((caller, instant_text(since)), |row| count(row, "elevations"))?;
    counts.next().unwrap_or(Ok(0))
}

fn end(transaction: &Transaction<'_>, id: &str, holder: &str, at: DateTime<Utc>, event: &AuditEvent) -> Outcome<EndedElevation> {
    let over = transaction.prepare_cached(&sql::END_ELEVATION)?.execute((id, instant_text(at), holder))? > 0;
    audit::append_as(transaction, event, over)?;
    Ok(if over { EndedElevation::Now } else { EndedElevation::Unknown })
}

fn newest(connection: &Connection, limit: u32) -> Outcome<Vec<Elevation>> {
    connection.prepare_cached(&sql::ELEVATIONS)?.query_and_then([limit], read)?.collect()
}

fn find(connection: &Connection, id: &str) -> Outcome<Option<Elevation>> {
    let with_words = |row: &Row<'_>| Ok(Elevation { words: Phi::new(row.get("words")?), ..read(row)? });
    connection.prepare_cached(&sql::ELEVATION)?.query_and_then([id], with_words)?.next().transpose()
}

fn read(row: &Row<'_>) -> Outcome<Elevation> {
    let text = |name: &str| row.get::<_, String>(name);
    let ended: Option<String> = row.get("ended")?;
    Ok(Elevation {
        id: text("id")?,
        caller: text("caller")?,
        roles: roles_named(&text("roles")?)?,
        reason: Reason::parse(&text("reason")?).ok_or_else(|| unreadable("reason of an elevation"))?,
        words: Phi::default(),
        from: instant(&text("began")?)?,
        until: instant(&text("until")?)?,
        ended: ended.as_deref().map(instant).transpose()?,
        events: count(row, "events")?,
    })
}

/// Words of elevations that are not under `prefix`.
pub(super) fn words_not_under(
    connection: &Connection,
    prefix: &str,
    after: &str,
    limit: u32,
) -> Outcome<Vec<(String, Phi<String>)>> {
    let read = |row: &Row<'_>| -> Outcome<_> { Ok((row.get("id")?, Phi::new(row.get("words")?))) };
    connection.prepare_cached(&sql::WORDS_NOT_UNDER)?.query_and_then((after, prefix, limit), read)?.collect()
}

/// Puts words into another form where they are still as they were.
pub(super) fn replace_words(transaction: &Transaction<'_>, rewordings: &[Rewording]) -> Outcome<u64> {
    let mut statement = transaction.prepare_cached(&sql::REPLACE_WORDS)?;
    let mut replaced = 0;
    for Rewording { id, from, to } in rewordings {
        replaced += statement.execute((id, from.reveal(), to.reveal()))?;
    }
    Ok(replaced as u64)
}
