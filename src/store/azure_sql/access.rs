//! Facilities that are assigned, and elevations.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tiberius::Row;

use super::connection::Parameter;
use super::fault::Outcome;
use super::migrations::take_lock;
use super::pool::Session;
use super::sql::Statements;
use super::values::{count, instant, optional_instant, text};
use super::{AzureSql, audit, outbox};
use crate::domain::{Assignment, AuditEvent, Elevation, Fact, Phi, Reach, Reason, Standing};
use crate::error::Result;
use crate::store::access::{Access, Broken, EndedElevation};
use crate::store::columns::unreadable;
use crate::store::datakeys::Rewording;
use crate::store::rules::{broken_event, role_names, roles_named};

#[async_trait]
impl Access for AzureSql {
    async fn assign(&self, assignment: &Assignment, audit: &AuditEvent) -> Result<()> {
        attempt!(self.audited(), |session| assign(session, &self.sql, assignment, audit))
    }

    async fn unassign(&self, caller: &str, audit: &AuditEvent) -> Result<bool> {
        attempt!(self.audited(), |session| unassign(session, &self.sql, caller, audit))
    }

    async fn assignments(&self, after: &str, limit: u32) -> Result<Vec<Assignment>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| assignments(session, &self.sql, after, limit))
    }

    async fn standing(&self, caller: &str) -> Result<Standing> {
        attempt!(self.pool.reading(), |session| standing(session, &self.sql, caller))
    }

    async fn break_glass(&self, elevation: &Elevation, since: DateTime<Utc>, most: u32, audit: &AuditEvent) -> Result<Broken> {
        attempt!(self.audited(), |session| begin(session, &self.sql, elevation, since, most, audit))
    }

    async fn end_elevation(&self, id: &str, holder: Option<&str>, at: DateTime<Utc>, audit: &AuditEvent) -> Result<EndedElevation> {
        attempt!(self.audited(), |session| end(session, &self.sql, id, holder.unwrap_or_default(), at, audit))
    }

    async fn elevations(&self, limit: u32) -> Result<Vec<Elevation>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| newest(session, &self.sql, limit))
    }

    async fn elevation(&self, id: &str) -> Result<Option<Elevation>> {
        attempt!(self.pool.reading(), |session| find(session, &self.sql, id))
    }
}

/// Whoever loses a race for a caller's first assignment is tried again and changes it.
async fn assign(session: &mut Session, sql: &Statements, assignment: &Assignment, event: &AuditEvent) -> Outcome<()> {
    let code = assignment.reach.code();
    let values = [
        Parameter::Text(&assignment.caller),
        Parameter::Text(&code),
        Parameter::Text(&assignment.by),
        Parameter::Instant(assignment.at),
    ];
    if session.execute(&sql.update_assignment, &values).await? == 0 {
        session.execute(&sql.insert_assignment, &values).await?;
    }
    audit::append(session, sql, event).await
}

async fn unassign(session: &mut Session, sql: &Statements, caller: &str, event: &AuditEvent) -> Outcome<bool> {
    let there = session.execute(&sql.unassign, &[Parameter::Text(caller)]).await? > 0;
    audit::append_as(session, sql, event, there).await?;
    Ok(there)
}

async fn assignments(session: &mut Session, sql: &Statements, after: &str, limit: u32) -> Outcome<Vec<Assignment>> {
    let read = |row: &Row| -> Outcome<Assignment> {
        Ok(Assignment {
            caller: text(row, "caller")?.to_owned(),
            reach: reach(text(row, "facilities")?)?,
            by: text(row, "assignedby")?.to_owned(),
            at: instant(row, "at")?,
        })
    };
    let rows = session.rows(&sql.assignments, &[Parameter::Text(after), Parameter::Long(Some(limit.into()))]).await?;
    rows.iter().map(read).collect()
}

fn reach(code: &str) -> Outcome<Reach> {
    Reach::parse(code).ok_or_else(|| unreadable("assignment of facilities").into())
}

async fn standing(session: &mut Session, sql: &Statements, caller: &str) -> Outcome<Standing> {
    let row = session.row(&sql.assigned, &[Parameter::Text(caller)]).await?;
    let assigned = row.as_ref().map(|row| reach(text(row, "facilities")?)).transpose()?;
    let newest = unended(session, sql, caller).await?;
    Ok(Standing { assigned, elevation: newest.map(|elevation| (elevation.id, elevation.until)) })
}

/// The newest elevation of `caller` that nobody has ended.
async fn unended(session: &mut Session, sql: &Statements, caller: &str) -> Outcome<Option<Elevation>> {
    session.row(&sql.newest_elevation, &[Parameter::Text(caller)]).await?.as_ref().map(read).transpose()
}

async fn begin(
    session: &mut Session,
    sql: &Statements,
    elevation: &Elevation,
    since: DateTime<Utc>,
    most: u32,
    event: &AuditEvent,
) -> Outcome<Broken> {
    // They are rare, and what is counted here no other may add to before this one has ended.
    take_lock(session, &sql.lock_elevations).await?;
    let running = unended(session, sql, &elevation.caller).await?.filter(|running| running.runs(elevation.from));
    let broken = match running {
        Some(running) => Broken::Runs(Box::new(running)),
        None if begun_since(session, sql, &elevation.caller, since).await? >= u64::from(most) => Broken::TooMany,
        None => {
            insert(session, sql, elevation).await?;
            outbox::announce(session, sql, event, &Fact::GlassBroken(elevation.id.clone())).await?;
            Broken::Now
        }
    };
    audit::append(session, sql, &broken_event(event, &broken)).await?;
    Ok(broken)
}

async fn begun_since(session: &mut Session, sql: &Statements, caller: &str, since: DateTime<Utc>) -> Outcome<u64> {
    let row = session.row(&sql.elevations_since, &[Parameter::Text(caller), Parameter::Instant(since)]).await?;
    row.as_ref().map_or(Ok(0), |row| count(row, "elevations"))
}

async fn insert(session: &mut Session, sql: &Statements, elevation: &Elevation) -> Outcome<()> {
    let Elevation { id, caller, roles, reason, words, from, until, .. } = elevation;
    let roles = role_names(roles);
    let values = [
        Parameter::Text(id),
        Parameter::Text(caller),
        Parameter::Text(&roles),
        Parameter::Text(reason.code()),
        Parameter::Text(words.reveal()),
        Parameter::Instant(*from),
        Parameter::Instant(*until),
    ];
    session.execute(&sql.insert_elevation, &values).await?;
    Ok(())
}

async fn end(
    session: &mut Session,
    sql: &Statements,
    id: &str,
    holder: &str,
    at: DateTime<Utc>,
    event: &AuditEvent,
) -> Outcome<EndedElevation> {
    let values = [Parameter::Text(id), Parameter::Instant(at), Parameter::Text(holder)];
    let over = session.execute(&sql.end_elevation, &values).await? > 0;
    audit::append_as(session, sql, event, over).await?;
    Ok(if over { EndedElevation::Now } else { EndedElevation::Unknown })
}

async fn newest(session: &mut Session, sql: &Statements, limit: u32) -> Outcome<Vec<Elevation>> {
    session.rows(&sql.elevations, &[Parameter::Long(Some(limit.into()))]).await?.iter().map(read).collect()
}

async fn find(session: &mut Session, sql: &Statements, id: &str) -> Outcome<Option<Elevation>> {
    let Some(row) = session.row(&sql.elevation, &[Parameter::Text(id)]).await? else { return Ok(None) };
    Ok(Some(Elevation { words: Phi::new(text(&row, "words")?.to_owned()), ..read(&row)? }))
}

fn read(row: &Row) -> Outcome<Elevation> {
    Ok(Elevation {
        id: text(row, "id")?.to_owned(),
        caller: text(row, "caller")?.to_owned(),
        roles: roles_named(text(row, "roles")?)?,
        reason: Reason::parse(text(row, "reason")?).ok_or_else(|| unreadable("reason of an elevation"))?,
        words: Phi::default(),
        from: instant(row, "began")?,
        until: instant(row, "until")?,
        ended: optional_instant(row, "ended")?,
        events: count(row, "events")?,
    })
}

/// Words of elevations that are not under `prefix`.
pub(super) async fn words_not_under(
    session: &mut Session,
    sql: &Statements,
    prefix: &str,
    after: &str,
    limit: u32,
) -> Outcome<Vec<(String, Phi<String>)>> {
    let values = [Parameter::Text(after), Parameter::Text(prefix), Parameter::Long(Some(limit.into()))];
    let read = |row: &Row| -> Outcome<_> { Ok((text(row, "id")?.to_owned(), Phi::new(text(row, "words")?.to_owned()))) };
    session.rows(&sql.words_not_under, &values).await?.iter().map(read).collect()
}

/// Puts words into another form where they are still as they were.
pub(super) async fn replace_words(session: &mut Session, sql: &Statements, rewordings: &[Rewording]) -> Outcome<u64> {
    let mut replaced = 0;
    for Rewording { id, from, to } in rewordings {
        let values = [Parameter::Text(id), Parameter::Text(from.reveal()), Parameter::Text(to.reveal())];
        replaced += session.execute(&sql.replace_words, &values).await?;
    }
    Ok(replaced)
}
