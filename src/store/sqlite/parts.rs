//! The parts of large files: the plan, who works on what, and the end that closes the import once.

use rusqlite::{Connection, Row, Transaction};

use super::fault::Outcome;
use super::imports::find;
use super::values::{count, instant_text, signed};
use super::{audit, outbox, sql};
use crate::domain::import::{ImportId, Part, Plan, RowRange, State};
use crate::domain::{AuditEvent, Fact};
use crate::store::rules::{closing, line_numbers, unknown_import};
use crate::store::{PartEnd, PartStep, PartTaken, Step};

/// Keeps the plan, if `attempt` is still the newest and nothing is committed.
pub(super) fn plan(transaction: &Transaction<'_>, id: &ImportId, attempt: u32, plan: &Plan, event: &AuditEvent) -> Outcome<Step> {
    let (first, last) = line_numbers(plan.lines);
    let (first, last) = (signed(first)?, signed(last)?);
    let values = (&id.0, attempt, &plan.sha256, plan.extra_columns.join(","), first, last);
    let ours = transaction.prepare_cached(&sql::PLAN_IMPORT)?.execute(values)?;
    let entry = find(transaction, id)?.ok_or_else(|| unknown_import(id))?;
    if ours == 0 {
        return Ok(Step::Superseded);
    }
    if !left(transaction, id)?.is_empty() {
        return Ok(Step::Committed(entry.counts));
    }
    let mut insert = transaction.prepare_cached(&sql::INSERT_PART)?;
    let header = (signed(plan.header.start)?, signed(plan.header.end)?);
    for (number, RowRange { bytes, first_line, rows }) in (0_u32..).zip(&plan.parts) {
        let (from, to) = (signed(bytes.start)?, signed(bytes.end)?);
        insert.execute((&id.0, number, header.0, header.1, from, to, signed(*first_line)?, signed(*rows)?))?;
    }
    audit::append(transaction, event)?;
    Ok(Step::Committed(entry.counts))
}

/// The numbers of the parts that are not done.
pub(super) fn left(connection: &Connection, id: &ImportId) -> Outcome<Vec<u32>> {
    connection.prepare_cached(&sql::PARTS_LEFT)?.query_and_then([&id.0], |row| Ok(row.get(0)?))?.collect()
}

/// Takes over a part from an older delivery of it.
pub(super) fn take(transaction: &Transaction<'_>, id: &ImportId, number: u32) -> Outcome<PartTaken> {
    let Some(entry) = find(transaction, id)? else { return Ok(PartTaken::Unknown) };
    if entry.state != State::Running {
        return Ok(PartTaken::Over(entry));
    }
    let taken = transaction.prepare_cached(&sql::TAKE_PART)?.execute((&id.0, number))?;
    let part = transaction.prepare_cached(&sql::PART)?.query_and_then((&id.0, number), read)?.next().transpose()?;
    Ok(match part {
        None => PartTaken::Unknown,
        Some(_) if taken == 0 => PartTaken::Before(entry),
        Some(part) => PartTaken::Work(Box::new(entry), part),
    })
}

/// Ends the part, if its attempt is still the newest, and with the last one the import.
pub(super) fn finish(
    transaction: &Transaction<'_>,
    id: &ImportId,
    part: &Part,
    end: &PartEnd,
    event: &AuditEvent,
    closing_event: &AuditEvent,
) -> Outcome<PartStep> {
    let fence = (&id.0, part.number, part.attempt);
    let ours: bool = transaction
        .prepare_cached(&sql::FENCE_PART)?
        .query_and_then(fence, |row| row.get(0))?
        .next()
        .transpose()?
        .ok_or_else(|| unknown_import(id))?;
    let ended = match end {
        PartEnd::Done if ours => transaction.prepare_cached(&sql::FINISH_PART)?.execute(fence)? > 0,
        PartEnd::Done | PartEnd::Failed { .. } => ours,
    };
    if !ended {
        return Ok(PartStep::Superseded);
    }
    audit::append(transaction, event)?;
    if *end == PartEnd::Done && !left(transaction, id)?.is_empty() {
        return Ok(PartStep::Committed);
    }
    let (state, failure) = closing(end);
    let finished = instant_text(closing_event.at);
    transaction.prepare_cached(&sql::CLOSE_IMPORT)?.execute((&id.0, state.name(), failure, finished))?;
    if state == State::Done {
        outbox::announce(transaction, closing_event, &Fact::ImportCompleted(id.clone()))?;
    }
    audit::append(transaction, closing_event)?;
    Ok(PartStep::Closed)
}

fn read(row: &Row<'_>) -> Outcome<Part> {
    Ok(Part {
        number: row.get("part")?,
        header: count(row, "headerfrom")?..count(row, "headerto")?,
        range: RowRange {
            bytes: count(row, "frombyte")?..count(row, "tobyte")?,
            first_line: count(row, "firstline")?,
            rows: count(row, "datarows")?,
        },
        attempt: row.get("attempt")?,
        checkpoint: count(row, "checkpoint")?,
    })
}
