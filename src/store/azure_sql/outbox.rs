//! Announcements on their way out: added in the transaction of their fact, taken under the one lease, gone once they were accepted.
//! Every piece of work here may be done twice without harm: the answer to a commit may have been lost.

use chrono::{DateTime, Utc};
use tiberius::Row;

use super::connection::Parameter;
use super::fault::Outcome;
use super::pool::Session;
use super::sql::Statements;
use super::values::{instant, number, text};
use crate::domain::{Announcement, AuditEvent, Fact};
use crate::store::Leased;
use crate::store::columns::unreadable;

/// Adds the announcement of `fact`, if `event` carries one.
pub(super) async fn announce(session: &mut Session, sql: &Statements, event: &AuditEvent, fact: &Fact) -> Outcome<()> {
    if let Some(id) = &event.announcement {
        let subject = fact.id();
        let values = [Parameter::Text(id), Parameter::Text(fact.name()), Parameter::Text(&subject), Parameter::Instant(event.at)];
        session.execute(&sql.insert_announcement, &values).await?;
    }
    Ok(())
}

/// Does any wait?
pub(super) async fn waits(session: &mut Session, sql: &Statements) -> Outcome<bool> {
    Ok(session.row(&sql.announcement_waits, &[]).await?.is_some())
}

/// Begins a lease on the oldest announcements.
pub(super) async fn lease(
    session: &mut Session,
    sql: &Statements,
    lease: &str,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: u32,
) -> Outcome<Leased> {
    let values = [Parameter::Text(lease), Parameter::Instant(now), Parameter::Instant(until)];
    let taken = session.execute(&sql.take_outbox_lease, &values).await? > 0;
    let row = session.row(&sql.outbox_lease, &[]).await?.ok_or_else(|| unreadable("missing lease"))?;
    if !taken {
        return Ok(Leased::Held(instant(&row, "until")?));
    }
    let failures = u32::try_from(number(&row, "failures")?).map_err(|_| unreadable("negative count"))?;
    session.execute(&sql.lease_announcements, &[Parameter::Text(lease), Parameter::Long(Some(limit.into()))]).await?;
    let rows = session.rows(&sql.leased_announcements, &[Parameter::Text(lease)]).await?;
    let announcements = rows.iter().map(read).collect::<Outcome<Vec<_>>>()?;
    if announcements.is_empty() {
        // Another instance was quicker.
        end(session, sql, lease, now, failures).await?;
        return Ok(Leased::Nothing);
    }
    Ok(Leased::Taken { announcements, failures })
}

fn read(row: &Row) -> Outcome<Announcement> {
    let fact = Fact::parse(text(row, "fact")?, text(row, "subject")?).ok_or_else(|| unreadable("announcement"))?;
    Ok(Announcement { id: text(row, "id")?.to_owned(), fact, at: instant(row, "at")? })
}

/// Ends a lease whose announcements were accepted.
pub(super) async fn publish(session: &mut Session, sql: &Statements, lease: &str, now: DateTime<Utc>) -> Outcome<()> {
    session.execute(&sql.published_announcements, &[Parameter::Text(lease)]).await?;
    end(session, sql, lease, now, 0).await.map(|_| ())
}

/// Ends a lease whose announcements were not.
pub(super) async fn postpone(
    session: &mut Session,
    sql: &Statements,
    lease: &str,
    until: DateTime<Utc>,
    failures: u32,
    aged: DateTime<Utc>,
) -> Outcome<u64> {
    if end(session, sql, lease, until, failures).await? == 0 {
        return Ok(0);
    }
    session.execute(&sql.aged_announcements, &[Parameter::Instant(aged)]).await
}

async fn end(session: &mut Session, sql: &Statements, lease: &str, until: DateTime<Utc>, failures: u32) -> Outcome<u64> {
    let failures = i32::try_from(failures).unwrap_or(i32::MAX);
    let values = [Parameter::Text(lease), Parameter::Instant(until), Parameter::Int(Some(failures))];
    session.execute(&sql.end_outbox_lease, &values).await
}
