//! Imports: the ledger, the rows of a batch, and the rejects. A batch is in the record whole, with its checkpoint, or not at all.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tiberius::{ColumnData, Row, TokenRow};

use super::connection::Parameter;
use super::fault::Outcome;
use super::migrations::is_taken;
use super::pool::Session;
use super::sql::{REJECTS, STAGING, Statements};
use super::values::{count, instant, number, optional_instant, push_encounter, signed, text, text_cell};
use super::{audit, outbox, parts};
use crate::domain::import::{Counts, Import, ImportId, Reject, Source, State};
use crate::domain::{AuditEvent, EncounterId, Fact};
use crate::error::Result;
use crate::store::columns::{self, encounter_columns, unreadable};
use crate::store::rules::{belongs_to_an_admission, ending, hex, line_span, numbered, unknown_import};
use crate::store::{Batch, Begun, Finish, REJECTS_KEPT_MAX, Step};

/// Opens the ledger entry, or takes it over from an older delivery. Whoever loses a race to open it is tried again and takes it over.
pub(super) async fn begin(
    session: &mut Session,
    sql: &Statements,
    id: &ImportId,
    source: &Source,
    at: DateTime<Utc>,
) -> Outcome<Begun> {
    let file = file_key(source);
    match find(session, sql, id).await? {
        Some(entry) if entry.state == State::Done => return Ok(Begun::Over(entry)),
        Some(_) => {
            session.execute(&sql.take_over_import, &[Parameter::Text(&id.0)]).await?;
        }
        None => {
            let values = [
                Parameter::Text(&id.0),
                Parameter::Text(&file),
                Parameter::Text(&source.account),
                Parameter::Text(&source.container),
                Parameter::Text(&source.name),
                Parameter::Text(&source.etag),
                Parameter::Instant(at),
            ];
            session.execute(&sql.begin_import, &values).await?;
        }
    }
    let values = [Parameter::Text(&id.0), Parameter::Text(&file), Parameter::Instant(at)];
    session.execute(&sql.close_replaced_imports, &values).await?;
    let entry = find(session, sql, id).await?.ok_or_else(|| unknown_import(id))?;
    Ok(match entry.state {
        // Another delivery finished it between the two looks.
        State::Done => Begun::Over(entry),
        State::Running | State::Failed => match parts::left(session, sql, id).await? {
            // All parts done would be an import done.
            left if left.is_empty() => Begun::Work(entry),
            left => Begun::InParts(entry, left),
        },
    })
}

/// What a file is, whatever its version: a hash compares the same under any collation.
fn file_key(source: &Source) -> String {
    let mut hash = Sha256::new();
    for part in [&source.account, &source.container, &source.name] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())
}

/// How often the id of each row came before it in the batch.
///
/// # Errors
/// Invalid, if a row holds a value that its column cannot: found here, before anything is sent.
pub(super) fn turns(batch: &Batch) -> Result<Vec<i32>> {
    let mut met: HashMap<EncounterId, i32> = HashMap::new();
    let mut turns = Vec::with_capacity(batch.encounters.len());
    for encounter in &batch.encounters {
        for column in encounter_columns() {
            super::values::cell(columns::value(column.column, encounter)?, column.kind)?;
        }
        turns.push(*met.entry(encounter.id).and_modify(|turn| *turn += 1).or_default());
    }
    Ok(turns)
}

/// Stores the rows, moves the checkpoint and adds up the counts. `turns` is what [`turns`] answered; `wait` is the longest that the batches of
/// others are let go first.
pub(super) async fn batch(session: &mut Session, sql: &Statements, batch: &Batch, turns: &[i32], wait: Duration) -> Outcome<Step> {
    if !batch.encounters.is_empty() {
        session.batch(&sql.create_staging).await?;
        session.bulk(STAGING, staged(batch, turns)).await?;
    }
    let wait = Parameter::Int(Some(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)));
    let step = match is_taken(session.row(&sql.lock_imports, &[wait]).await?.as_ref())? {
        true => merge(session, sql, batch, turns).await?,
        false => Step::Busy,
    };
    session.batch(&sql.drop_temporary).await?;
    Ok(step)
}

fn staged<'b>(batch: &'b Batch, turns: &'b [i32]) -> impl Iterator<Item = Outcome<TokenRow<'static>>> + Send + use<'b> {
    batch.encounters.iter().zip(turns).enumerate().map(|(place, (encounter, turn))| {
        let mut row = TokenRow::with_capacity(3 + encounter_columns().len());
        row.push(ColumnData::I32(Some(*turn)));
        row.push(ColumnData::I64(Some(signed(line_of(batch, place))?)));
        row.push(ColumnData::I32(i32::try_from(place).ok()));
        push_encounter(&mut row, encounter_columns(), encounter)?;
        Ok(row)
    })
}

fn line_of(batch: &Batch, place: usize) -> u64 {
    batch.lines.get(place).copied().unwrap_or_default()
}

async fn merge(session: &mut Session, sql: &Statements, batch: &Batch, turns: &[i32]) -> Outcome<Step> {
    let ours = is_ours(session, sql, batch).await?;
    let kept = session.row(&sql.rejects_kept, &[Parameter::Text(&batch.import.0)]).await?;
    let kept = kept.ok_or_else(|| unknown_import(&batch.import))?;
    if !ours {
        return Ok(Step::Superseded);
    }
    let (mut counts, refused) = upsert(session, sql, batch, turns).await?;
    counts.rejected = batch.rejected_rows + refused.len() as u64;
    counts.read = counts.stored + counts.updated + counts.unchanged + counts.rejected;
    let newly_kept = keep_rejects(session, sql, batch, &refused, REJECTS_KEPT_MAX.saturating_sub(count(&kept, 0)?)).await?;
    let operation = session.operation().to_owned();
    let mut values = vec![Parameter::Text(&batch.import.0)];
    for number in [counts.read, counts.stored, counts.updated, counts.unchanged, counts.rejected, newly_kept] {
        values.push(Parameter::Long(Some(signed(number)?)));
    }
    values.push(Parameter::Text(&operation));
    let rows = Parameter::Long(Some(signed(counts.read)?));
    let Some(part) = batch.part else {
        values.push(rows);
        session.execute(&sql.advance_import, &values).await?;
        return Ok(Step::Committed(counts));
    };
    values.push(Parameter::Long(Some(0)));
    session.execute(&sql.advance_import, &values).await?;
    let values = [Parameter::Text(&batch.import.0), Parameter::Long(Some(part.into())), rows, Parameter::Text(&operation)];
    session.execute(&sql.advance_part, &values).await?;
    Ok(Step::Committed(counts))
}

/// Is this the batch that the ledger waits for? Locks the import's row, and the part's.
async fn is_ours(session: &mut Session, sql: &Statements, batch: &Batch) -> Outcome<bool> {
    let (id, attempt) = (Parameter::Text(&batch.import.0), Parameter::Long(Some(batch.attempt.into())));
    let after = Parameter::Long(Some(signed(batch.after)?));
    let Some(part) = batch.part else { return Ok(session.execute(&sql.fence, &[id, attempt, after]).await? > 0) };
    let part = Parameter::Long(Some(part.into()));
    Ok(session.execute(&sql.lock_import, &[Parameter::Text(&batch.import.0)]).await? > 0
        && session.execute(&sql.fence_part, &[id, part, attempt, after]).await? > 0)
}

/// Turn by turn, so that a row that comes twice is stored and then updated. After the first turn every id is there.
async fn upsert(session: &mut Session, sql: &Statements, batch: &Batch, turns: &[i32]) -> Outcome<(Counts, Vec<Reject>)> {
    let (mut counts, mut refused) = (Counts::default(), Vec::new());
    let mut rows_of_turn: Vec<u64> = Vec::new();
    for turn in turns.iter().filter_map(|turn| usize::try_from(*turn).ok()) {
        rows_of_turn.resize(rows_of_turn.len().max(turn + 1), 0);
        rows_of_turn[turn] += 1;
    }
    for (turn, rows) in (0..).zip(rows_of_turn) {
        let values = [Parameter::Int(Some(turn)), Parameter::Text(&batch.import.0)];
        let stored = if turn == 0 { session.execute(&sql.import_new, &values).await? } else { 0 };
        counts.stored += stored;
        if stored == rows {
            continue;
        }
        let updated = session.execute(&sql.import_changed, &values).await?;
        counts.updated += updated;
        if stored + updated == rows {
            continue;
        }
        let others = session.rows(&sql.import_refused, &values[..1]).await?;
        counts.unchanged += rows.saturating_sub(stored + updated + others.len() as u64);
        for row in &others {
            refused.push((number(row, "ordinal")?, count(row, "line")?));
        }
    }
    refused.sort_unstable();
    Ok((counts, refused.into_iter().map(|(_, line)| belongs_to_an_admission(line)).collect()))
}

/// Keeps at most `room` of the batch's rejects; answers how many.
async fn keep_rejects(session: &mut Session, sql: &Statements, batch: &Batch, refused: &[Reject], room: u64) -> Outcome<u64> {
    let mut rows = Vec::new();
    for (place, (ordinal, reject)) in (0..).zip(numbered(batch.rejects.iter().chain(refused))) {
        let mut row = TokenRow::with_capacity(6);
        row.push(ColumnData::I32(Some(place)));
        row.push(ColumnData::I64(Some(signed(reject.line)?)));
        row.push(ColumnData::I32(i32::try_from(ordinal).ok()));
        for words in [&reject.column, &reject.rule, &reject.remedy] {
            row.push(text_cell(words));
        }
        rows.push(row);
    }
    if rows.is_empty() || room == 0 {
        return Ok(0);
    }
    session.batch(&sql.create_rejects).await?;
    session.bulk(REJECTS, rows.into_iter().map(Ok)).await?;
    session.execute(&sql.keep_rejects, &[Parameter::Text(&batch.import.0), Parameter::Long(Some(signed(room)?))]).await
}

/// Closes the ledger entry, if `attempt` is still the newest; answers the counts of the whole import.
pub(super) async fn finish(
    session: &mut Session,
    sql: &Statements,
    id: &ImportId,
    attempt: u32,
    finish: &Finish,
    event: &AuditEvent,
) -> Outcome<Step> {
    let (state, sha256, extra_columns, (first, last), failure) = ending(finish);
    let values = [
        Parameter::Text(&id.0),
        Parameter::Long(Some(attempt.into())),
        Parameter::Text(state.name()),
        Parameter::Text(sha256),
        Parameter::Text(&extra_columns),
        Parameter::Text(failure),
        Parameter::Instant(event.at),
        Parameter::Long(Some(signed(first)?)),
        Parameter::Long(Some(signed(last)?)),
    ];
    let closed = session.execute(&sql.finish_import, &values).await?;
    let entry = find(session, sql, id).await?.ok_or_else(|| unknown_import(id))?;
    if closed == 0 {
        return Ok(Step::Superseded);
    }
    if state == State::Done {
        outbox::announce(session, sql, event, &Fact::ImportCompleted(id.clone())).await?;
    }
    audit::append(session, sql, event).await?;
    Ok(Step::Committed(entry.counts))
}

/// One import.
pub(super) async fn find(session: &mut Session, sql: &Statements, id: &ImportId) -> Outcome<Option<Import>> {
    session.row(&sql.import, &[Parameter::Text(&id.0)]).await?.as_ref().map(read).transpose()
}

/// The newest imports, newest first.
pub(super) async fn newest(session: &mut Session, sql: &Statements, limit: u32) -> Outcome<Vec<Import>> {
    session.rows(&sql.imports, &[Parameter::Long(Some(limit.into()))]).await?.iter().map(read).collect()
}

/// Rejects in line order, after `after` of them.
pub(super) async fn rejects(
    session: &mut Session,
    sql: &Statements,
    id: &ImportId,
    after: u64,
    limit: u32,
) -> Outcome<Vec<Reject>> {
    let values = [Parameter::Text(&id.0), Parameter::Long(Some(signed(after)?)), Parameter::Long(Some(limit.into()))];
    let reject = |row: &Row| -> Outcome<Reject> {
        Ok(Reject {
            line: count(row, "line")?,
            column: text(row, "columnname")?.to_owned(),
            rule: text(row, "rule")?.to_owned(),
            remedy: text(row, "remedy")?.to_owned(),
        })
    };
    session.rows(&sql.rejects, &values).await?.iter().map(reject).collect()
}

fn read(row: &Row) -> Outcome<Import> {
    let word = |name: &str| text(row, name).map(str::to_owned);
    Ok(Import {
        id: ImportId(word("id")?),
        source: Source { account: word("account")?, container: word("container")?, name: word("name")?, etag: word("etag")? },
        state: State::parse(text(row, "state")?).ok_or_else(|| unreadable("state of an import"))?,
        attempt: u32::try_from(number(row, "attempt")?).map_err(|_| unreadable("attempt"))?,
        checkpoint: count(row, "checkpoint")?,
        counts: Counts {
            read: count(row, "rowsread")?,
            stored: count(row, "stored")?,
            updated: count(row, "updated")?,
            unchanged: count(row, "unchanged")?,
            rejected: count(row, "rejected")?,
        },
        failure: word("failure")?,
        extra_columns: word("extracolumns")?,
        sha256: word("sha256")?,
        lines: line_span(count(row, "firstline")?, count(row, "lastline")?),
        started: instant(row, "started")?,
        finished: optional_instant(row, "finished")?,
    })
}
