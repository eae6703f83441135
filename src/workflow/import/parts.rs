//! Large files in parts: the plan that one delivery makes, and the work on one part, by whichever instance gets its message.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Imported, Rows, Work, interrupted, ledger_entry, pipeline, store_rows, superseded, tag, tell_end};
use crate::blob::Opened;
use crate::codec::csv::ROW_BYTES_MAX;
use crate::domain::import::{Import, ImportId, Part, Source};
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Kind, Result};
use crate::store::{Batch, Finish, PartEnd, PartStep, PartTaken, Step};
use crate::workflow::Hospital;
use crate::workflow::receipt::leave_receipt;

/// Most parts of a file: one message each in one answer, and more instances than a plan of Azure Functions starts.
const PARTS_MAX: usize = 1_000;

/// Reads the file once, for its checksum and for where it can be cut, and keeps the plan.
pub(super) async fn plan(
    caller: &Caller,
    hospital: &Hospital,
    entry: &Import,
    content: Opened,
    part_bytes: u64,
    now: fn() -> DateTime<Utc>,
) -> Result<Work> {
    // As many parts as it takes, and all of about one length.
    let parts = content.length_bytes.div_ceil(part_bytes).clamp(1, PARTS_MAX as u64);
    let even_bytes = content.length_bytes.div_ceil(parts);
    let plan = pipeline::split(content.chunks, hospital.config.import_bytes_max, even_bytes, PARTS_MAX).await?;
    if plan.parts.is_empty() {
        let finish = Finish::Done { sha256: plan.sha256, extra_columns: plan.extra_columns, lines: None };
        return Ok(Work::Finished(finish));
    }
    let detail = format!("{}: planned in {} parts", entry.id, plan.parts.len());
    let audit = AuditEvent::new(caller, Action::Import, Outcome::Success, now()).detail(detail);
    if hospital.store.plan_import(&entry.id, entry.attempt, &plan, &audit).await? == Step::Superseded {
        return Ok(Work::Superseded);
    }
    tracing::info!(import = %entry.id, parts = plan.parts.len(), "import planned in parts");
    Ok(Work::Planned((0..).take(plan.parts.len()).collect()))
}

/// Imports one part of a planned file; whoever ends the last one closes the import. `None`, if the ledger knows no such part. Where other imports
/// have their turn all the time, the part is among the answer's, to be queued once more.
///
/// # Errors
/// [`Kind::Unavailable`] if a retry can cure it. A file that is not there any more is no error: the import's entry says `failed`.
pub async fn import_part(
    caller: &Caller,
    hospital: &Hospital,
    id: &ImportId,
    number: u32,
    now: fn() -> DateTime<Utc>,
) -> Result<Option<Imported>> {
    hospital.allow(caller, Action::Import, now()).await?;
    let note = |outcome, detail: String| AuditEvent::new(caller, Action::Import, outcome, now()).detail(detail);
    let (import, part) = match hospital.store.take_part(id, number).await? {
        PartTaken::Work(import, part) => (*import, part),
        PartTaken::Before(import) => {
            hospital.store.append_audit(&note(Outcome::Success, format!("{id} part {number} was done before"))).await?;
            return Ok(Some(Imported { already: true, ..Imported::of(import) }));
        }
        PartTaken::Over(import) => {
            hospital.store.append_audit(&note(Outcome::Success, format!("{id} part {number}: the import was over before"))).await?;
            // The process may have died between the last part's commit and the receipt.
            leave_marks(hospital, &import).await?;
            return Ok(Some(Imported { already: true, ..Imported::of(import) }));
        }
        PartTaken::Unknown => {
            hospital.store.append_audit(&note(Outcome::Failure, "a part that is not in the ledger".to_owned())).await?;
            return Ok(None);
        }
    };
    tracing::info!(import = %id, part = number, attempt = part.attempt, checkpoint = part.checkpoint, "part begun");
    let end = match read_part(hospital, &import, &part).await {
        Ok(Read::ToTheEnd(end)) => end,
        Ok(Read::Superseded) => return superseded(caller, hospital, id, now()).await.map(Some),
        Ok(Read::Busy) => {
            // No failure: told as one it would be tried five times and then put aside.
            let gave_way = format!("{id} part {number} gave way to other imports and is queued again");
            hospital.store.append_audit(&note(Outcome::Success, gave_way)).await?;
            tracing::info!(import = %id, part = number, "the part gave way to other imports");
            return Ok(Some(Imported { parts: vec![number], ..Imported::of(import) }));
        }
        Err(error) if error.kind() == Kind::Invalid => PartEnd::Failed { reason: error.message().to_owned() },
        Err(error) => {
            let audit = note(Outcome::Failure, format!("{id} part {number} was interrupted"));
            return Err(interrupted(hospital, &audit, error).await);
        }
    };
    let outcome = if end == PartEnd::Done { Outcome::Success } else { Outcome::Failure };
    let (audit, closing) = (note(outcome, format!("{id} part {number}")), hospital.announced(note(outcome, id.to_string())));
    let step = hospital.store.finish_part(id, &part, &end, &audit, &closing).await?;
    if step == PartStep::Superseded {
        return superseded(caller, hospital, id, now()).await.map(Some);
    }
    let import = ledger_entry(hospital, id).await?;
    tracing::info!(import = %id, part = number, rows = part.range.rows, "part over");
    if step == PartStep::Closed {
        hospital.wake_relay();
        tell_end(&import);
        leave_marks(hospital, &import).await?;
    }
    Ok(Some(Imported::of(import)))
}

/// What an import that is over leaves beside its file.
async fn leave_marks(hospital: &Hospital, import: &Import) -> Result<()> {
    leave_receipt(hospital, import).await?;
    tag(hospital, import).await;
    Ok(())
}

/// How far a part was read.
enum Read {
    /// To its end, or to where it cannot be read any more.
    ToTheEnd(PartEnd),
    /// A newer delivery has taken over.
    Superseded,
    /// Others' batches had their turn all the time; what was stored stays.
    Busy,
}

/// Streams the part through the parser into the store.
async fn read_part(hospital: &Hospital, import: &Import, part: &Part) -> Result<Read> {
    let gone = || {
        Read::ToTheEnd(PartEnd::Failed {
            reason: "the file was replaced or removed before all its parts were read: drop it again".to_owned(),
        })
    };
    let Source { container, name, etag, .. } = &import.source;
    let open = |bytes| hospital.blobs.open_range(container, name, etag, bytes);
    // A header is a row, and the planner has read it.
    if part.header.end - part.header.start > ROW_BYTES_MAX as u64 {
        return Err(Error::internal("the ledger names a header that is longer than a row"));
    }
    let Some(header) = open(part.header.clone()).await? else { return Ok(gone()) };
    let header = header.try_collect::<Vec<_>>().await?.concat();
    let Some(rows) = open(part.range.bytes.clone()).await? else { return Ok(gone()) };
    let length_bytes = header.len() as u64 + (part.range.bytes.end - part.range.bytes.start);
    let chunks = stream::iter([Ok(header.into())]).chain(rows).boxed();
    let template = Batch {
        import: import.id.clone(),
        part: Some(part.number),
        attempt: part.attempt,
        after: part.checkpoint,
        encounters: Vec::new(),
        lines: Vec::new(),
        rejects: Vec::new(),
        rejected_rows: 0,
    };
    let content = Opened { etag: etag.clone(), length_bytes, chunks };
    let stretch = pipeline::Stretch::RowsFrom(part.range.first_line);
    match store_rows(hospital, content, stretch, template).await? {
        Rows::Stored(parsed) if parsed.rows == part.range.rows => Ok(Read::ToTheEnd(PartEnd::Done)),
        Rows::Stored(_) => Err(Error::internal("a part holds other rows than it was planned with")),
        Rows::Superseded => Ok(Read::Superseded),
        Rows::Busy => Ok(Read::Busy),
    }
}
