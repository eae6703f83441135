//! Imports: the ledger, the rows of a batch, and the rejects. A batch is in the record whole, with its checkpoint, or not at all.

use chrono::{DateTime, Utc};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, Transaction};

use super::fault::Outcome;
use super::values::{Day, bind, bind_encounter, count, instant, instant_text, signed};
use super::{audit, outbox, parts, sql};
use crate::domain::import::{Counts, Import, ImportId, Reject, Source, State};
use crate::domain::{AuditEvent, Encounter, Fact};
use crate::store::columns::{Value, encounter_columns, unreadable};
use crate::store::rules::{belongs_to_an_admission, ending, line_span, numbered, unknown_import};
use crate::store::{Batch, Begun, Finish, REJECTS_KEPT_MAX, Step};

/// Opens the ledger entry, or takes it over from an older delivery.
pub(super) fn begin(transaction: &Transaction<'_>, id: &ImportId, source: &Source, at: DateTime<Utc>) -> Outcome<Begun> {
    match find(transaction, id)? {
        Some(entry) if entry.state == State::Done => return Ok(Begun::Over(entry)),
        Some(_) => transaction.prepare_cached(&sql::TAKE_OVER_IMPORT)?.execute([&id.0])?,
        None => transaction.prepare_cached(&sql::BEGIN_IMPORT)?.execute((
            &id.0,
            &source.account,
            &source.container,
            &source.name,
            &source.etag,
            instant_text(at),
        ))?,
    };
    transaction.prepare_cached(&sql::CLOSE_REPLACED_IMPORTS)?.execute((
        &source.account,
        &source.container,
        &source.name,
        &source.etag,
        instant_text(at),
    ))?;
    let entry = find(transaction, id)?.ok_or_else(|| unknown_import(id))?;
    let left = parts::left(transaction, id)?;
    // All parts done would be an import done.
    Ok(if left.is_empty() { Begun::Work(entry) } else { Begun::InParts(entry, left) })
}

/// Stores the rows, moves the checkpoint and adds up the counts.
pub(super) fn batch(transaction: &Transaction<'_>, batch: &Batch) -> Outcome<Step> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let fence = match batch.part {
        None => transaction.prepare_cached(&sql::FENCE)?.query_row((&batch.import.0, batch.attempt), read),
        Some(part) => transaction.prepare_cached(&sql::FENCE_PART)?.query_row((&batch.import.0, part, batch.attempt), read),
    };
    let (ours, checkpoint, kept): (bool, i64, i64) = fence.optional()?.ok_or_else(|| unknown_import(&batch.import))?;
    if !ours || checkpoint != signed(batch.after)? {
        return Ok(Step::Superseded);
    }
    let (mut counts, refused) = upsert(transaction, batch)?;
    counts.rejected = batch.rejected_rows + refused.len() as u64;
    counts.read = counts.stored + counts.updated + counts.unchanged + counts.rejected;
    let room = REJECTS_KEPT_MAX.saturating_sub(u64::try_from(kept).map_err(|_| unreadable("negative count"))?);
    let newly_kept = keep_rejects(transaction, batch, &refused, room)?;
    transaction.prepare_cached(&sql::ADVANCE_IMPORT)?.execute((
        &batch.import.0,
        signed(counts.read)?,
        signed(counts.stored)?,
        signed(counts.updated)?,
        signed(counts.unchanged)?,
        signed(counts.rejected)?,
        signed(newly_kept)?,
        signed(if batch.part.is_none() { counts.read } else { 0 })?,
    ))?;
    if let Some(part) = batch.part {
        transaction.prepare_cached(&sql::ADVANCE_PART)?.execute((&batch.import.0, part, signed(counts.read)?))?;
    }
    Ok(Step::Committed(counts))
}

/// What became of one row.
enum Change {
    Stored,
    Updated,
    None,
    /// The id belongs to another encounter, one that was admitted.
    Refused,
}

fn upsert(transaction: &Transaction<'_>, batch: &Batch) -> Outcome<(Counts, Vec<Reject>)> {
    let (mut counts, mut refused) = (Counts::default(), Vec::new());
    let mut statement = transaction.prepare_cached(&sql::UPSERT_ENCOUNTER)?;
    bind(&mut statement, encounter_columns().len() + 1, Value::Text(&batch.import.0))?;
    for (place, encounter) in batch.encounters.iter().enumerate() {
        match upsert_one(transaction, &mut statement, encounter)? {
            Change::Stored => counts.stored += 1,
            Change::Updated => counts.updated += 1,
            Change::None => counts.unchanged += 1,
            Change::Refused => refused.push(belongs_to_an_admission(batch.lines.get(place).copied().unwrap_or_default())),
        }
    }
    Ok((counts, refused))
}

/// Tells an insert from an update without a second statement: SQLite moves `last_insert_rowid` (here the `eid`) on an insert only. If
/// it holds this very id already, from an earlier insert on this connection, a look at the table decides.
fn upsert_one(transaction: &Transaction<'_>, upsert: &mut CachedStatement<'_>, encounter: &Encounter) -> Outcome<Change> {
    let id = i64::from(encounter.id.get());
    let there = transaction.last_insert_rowid() == id && transaction.prepare_cached(&sql::ENCOUNTER_EXISTS)?.exists([id])?;
    bind_encounter(upsert, encounter_columns(), encounter)?;
    Ok(match upsert.raw_execute()? {
        0 if is_another_admission(transaction, encounter)? => Change::Refused,
        0 => Change::None,
        _ if there || transaction.last_insert_rowid() != id => Change::Updated,
        _ => Change::Stored,
    })
}

fn is_another_admission(transaction: &Transaction<'_>, encounter: &Encounter) -> Outcome<bool> {
    let facility = encounter.facility.to_string();
    let admitted = Day::of(*encounter.admitted.reveal())?;
    let key = (encounter.id.get(), admitted.as_str()?, facility, encounter.gender.code());
    Ok(transaction.prepare_cached(&sql::ADMITTED_ANOTHER)?.exists(key)?)
}

/// Keeps at most `room` of the batch's rejects; answers how many.
fn keep_rejects(transaction: &Transaction<'_>, batch: &Batch, refused: &[Reject], room: u64) -> Outcome<u64> {
    let mut statement = transaction.prepare_cached(&sql::INSERT_REJECT)?;
    let mut kept = 0;
    for (ordinal, reject) in numbered(batch.rejects.iter().chain(refused)) {
        if kept == room {
            break;
        }
        let line = signed(reject.line)?;
        let inserted = statement.execute((&batch.import.0, line, ordinal, &reject.column, &reject.rule, &reject.remedy))?;
        kept += u64::from(inserted > 0);
    }
    Ok(kept)
}

/// Closes the ledger entry, if `attempt` is still the newest; answers the counts of the whole import.
pub(super) fn finish(
    transaction: &Transaction<'_>,
    id: &ImportId,
    attempt: u32,
    finish: &Finish,
    event: &AuditEvent,
) -> Outcome<Step> {
    let (state, sha256, extra_columns, (first, last), failure) = ending(finish);
    let finished = instant_text(event.at);
    let closed = transaction.prepare_cached(&sql::FINISH_IMPORT)?.execute((
        &id.0,
        attempt,
        state.name(),
        sha256,
        extra_columns,
        failure,
        finished,
        signed(first)?,
        signed(last)?,
    ))?;
    let entry = find(transaction, id)?.ok_or_else(|| unknown_import(id))?;
    if closed == 0 {
        return Ok(Step::Superseded);
    }
    if state == State::Done {
        outbox::announce(transaction, event, &Fact::ImportCompleted(id.clone()))?;
    }
    audit::append(transaction, event)?;
    Ok(Step::Committed(entry.counts))
}

/// One import.
pub(super) fn find(connection: &Connection, id: &ImportId) -> Outcome<Option<Import>> {
    connection.prepare_cached(&sql::IMPORT)?.query_and_then([&id.0], read)?.next().transpose()
}

/// The newest imports, newest first.
pub(super) fn newest(connection: &Connection, limit: u32) -> Outcome<Vec<Import>> {
    connection.prepare_cached(&sql::IMPORTS)?.query_and_then([limit], read)?.collect()
}

/// Rejects in line order, after `after` of them.
pub(super) fn rejects(connection: &Connection, id: &ImportId, after: u64, limit: u32) -> Outcome<Vec<Reject>> {
    let reject = |row: &Row<'_>| -> Outcome<Reject> {
        Ok(Reject { line: count(row, "line")?, column: row.get("columnname")?, rule: row.get("rule")?, remedy: row.get("remedy")? })
    };
    connection.prepare_cached(&sql::REJECTS)?.query_and_then((&id.0, signed(after)?, limit), reject)?.collect()
}

fn read(row: &Row<'_>) -> Outcome<Import> {
    let text = |name: &str| row.get::<_, String>(name);
    let finished: Option<String> = row.get("finished")?;
    Ok(Import {
        id: ImportId(text("id")?),
        source: Source { account: text("account")?, container: text("container")?, name: text("name")?, etag: text("etag")? },
        state: State::parse(&text("state")?).ok_or_else(|| unreadable("state of an import"))?,
        attempt: row.get("attempt")?,
        checkpoint: count(row, "checkpoint")?,
        counts: Counts {
            read: count(row, "rowsread")?,
            stored: count(row, "stored")?,
            updated: count(row, "updated")?,
            unchanged: count(row, "unchanged")?,
            rejected: count(row, "rejected")?,
        },
        failure: text("failure")?,
        extra_columns: text("extracolumns")?,
        sha256: text("sha256")?,
        lines: line_span(count(row, "firstline")?, count(row, "lastline")?),
        started: instant(&text("started")?)?,
        finished: finished.as_deref().map(instant).transpose()?,
    })
}
