//! The parts of large files: the plan, who works on what, and the end that closes the import once. Every transaction that writes a part
//! locks the import's row first.

use tiberius::Row;

use super::connection::Parameter;
use super::fault::Outcome;
use super::imports::find;
use super::pool::Session;
use super::sql::Statements;
use super::values::{count, number, signed};
use super::{audit, outbox};
use crate::domain::import::{ImportId, Part, Plan, RowRange, State};
use crate::domain::{AuditEvent, Fact};
use crate::error::Result;
use crate::store::columns::unreadable;
use crate::store::rules::{closing, line_numbers, unknown_import};
use crate::store::{PartEnd, PartStep, PartTaken, Step};

/// Keeps the plan, if `attempt` is still the newest and nothing is committed.
pub(super) async fn plan(
    session: &mut Session,
    sql: &Statements,
    id: &ImportId,
    attempt: u32,
    plan: &Plan,
    event: &AuditEvent,
) -> Outcome<Step> {
    let fence = [Parameter::Text(&id.0), Parameter::Long(Some(attempt.into())), Parameter::Long(Some(0))];
    let ours = session.execute(&sql.fence, &fence).await? > 0;
    let entry = find(session, sql, id).await?.ok_or_else(|| unknown_import(id))?;
    if !ours {
        return Ok(Step::Superseded);
    }
    let (first, last) = line_numbers(plan.lines);
    let extra_columns = plan.extra_columns.join(",");
    let values =
        [Parameter::Text(&id.0), Parameter::Text(&plan.sha256), Parameter::Text(&extra_columns), long(first)?, long(last)?];
    session.execute(&sql.plan_import, &values).await?;
    if !left(session, sql, id).await?.is_empty() {
        return Ok(Step::Committed(entry.counts));
    }
    for (number, RowRange { bytes, first_line, rows }) in (0_u64..).zip(&plan.parts) {
        let values = [
            Parameter::Text(&id.0),
            long(number)?,
            long(plan.header.start)?,
            long(plan.header.end)?,
            long(bytes.start)?,
            long(bytes.end)?,
            long(*first_line)?,
            long(*rows)?,
        ];
        session.execute(&sql.insert_part, &values).await?;
    }
    audit::append(session, sql, event).await?;
    Ok(Step::Committed(entry.counts))
}

fn long(number: u64) -> Result<Parameter<'static>> {
    Ok(Parameter::Long(Some(signed(number)?)))
}

/// The numbers of the parts that are not done.
pub(super) async fn left(session: &mut Session, sql: &Statements, id: &ImportId) -> Outcome<Vec<u32>> {
    session.rows(&sql.parts_left, &[Parameter::Text(&id.0)]).await?.iter().map(|row| small(row, "part")).collect()
}

/// Takes over a part from an older delivery of it.
pub(super) async fn take(session: &mut Session, sql: &Statements, id: &ImportId, part: u32) -> Outcome<PartTaken> {
    let key = [Parameter::Text(&id.0), long(part.into())?];
    session.execute(&sql.lock_import, &key[..1]).await?;
    let Some(entry) = find(session, sql, id).await? else { return Ok(PartTaken::Unknown) };
    if entry.state != State::Running {
        return Ok(PartTaken::Over(entry));
    }
    let taken = session.execute(&sql.take_part, &key).await?;
    let part = session.row(&sql.part, &key).await?.as_ref().map(read).transpose()?;
    Ok(match part {
        None => PartTaken::Unknown,
        Some(_) if taken == 0 => PartTaken::Before(entry),
        Some(part) => PartTaken::Work(Box::new(entry), part),
    })
}

/// Ends the part, if its attempt is still the newest, and with the last one the import. The events are the part's and the import's.
pub(super) async fn finish(
    session: &mut Session,
    sql: &Statements,
    id: &ImportId,
    part: &Part,
    end: &PartEnd,
    [event, closing_event]: [&AuditEvent; 2],
) -> Outcome<PartStep> {
    let key = [Parameter::Text(&id.0), long(part.number.into())?, long(part.attempt.into())?];
    if session.execute(&sql.lock_import, &key[..1]).await? == 0 {
        find(session, sql, id).await?.ok_or_else(|| unknown_import(id))?;
        return Ok(PartStep::Superseded);
    }
    let end_part = if *end == PartEnd::Done { &sql.finish_part } else { &sql.fail_part };
    if session.execute(end_part, &key).await? == 0 {
        return Ok(PartStep::Superseded);
    }
    if *end == PartEnd::Done && !left(session, sql, id).await?.is_empty() {
        audit::append(session, sql, event).await?;
        return Ok(PartStep::Committed);
    }
    let (state, failure) = closing(end);
    let values =
        [Parameter::Text(&id.0), Parameter::Text(state.name()), Parameter::Text(failure), Parameter::Instant(closing_event.at)];
    session.execute(&sql.close_import, &values).await?;
    if state == State::Done {
        outbox::announce(session, sql, closing_event, &Fact::ImportCompleted(id.clone())).await?;
    }
    audit::append(session, sql, event).await?;
    audit::append(session, sql, closing_event).await?;
    Ok(PartStep::Closed)
}

fn small(row: &Row, name: &str) -> Outcome<u32> {
    Ok(u32::try_from(number(row, name)?).map_err(|_| unreadable("number of a part"))?)
}

fn read(row: &Row) -> Outcome<Part> {
    Ok(Part {
        number: small(row, "part")?,
        header: count(row, "headerfrom")?..count(row, "headerto")?,
        range: RowRange {
            bytes: count(row, "frombyte")?..count(row, "tobyte")?,
            first_line: count(row, "firstline")?,
            rows: count(row, "datarows")?,
        },
        attempt: small(row, "attempt")?,
        checkpoint: count(row, "checkpoint")?,
    })
}
