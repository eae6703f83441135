//! Bring a file of encounters into the record: stream, validate, store in batches under a checkpoint, close the ledger, write the receipt.
//!
//! The ledger makes it idempotent and resumable. A file is known by account, container, name and entity tag; each batch commits its rows
//! and the checkpoint together; a new delivery of the same file goes on where the last one stopped, and an older one that is still at work
//! is superseded at its next batch. A large file is only planned here, and imported in parts ([`import_part`]).

mod parts;
mod pipeline;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::Hospital;
use super::receipt::leave_receipt;
use crate::blob::Opened;
use crate::codec::content;
use crate::domain::import::{Import, ImportId, Source, State};
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Kind, Result};
use crate::store::{Batch, Begun, Finish, Step};

pub use parts::import_part;

/// Where a payload says its blob is. It has no `Debug`: hospitals name files after patients.
#[derive(Clone, PartialEq, Eq)]
pub struct BlobAddress {
    /// The account's URL, without a trailing slash.
    pub account: String,
    /// The container.
    pub container: String,
    /// The blob's name, decoded.
    pub name: String,
}

/// A file ready to be read.
pub struct Delivery {
    /// What the file is.
    pub source: Source,
    /// Its content.
    pub content: Opened,
    /// A CSV file larger than this is planned in parts of about this many bytes; `None`, if nobody can be told to import them.
    pub part_bytes: Option<u64>,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The ledger entry at the end.
    pub import: Import,
    /// True if this very file was over before this delivery.
    pub already: bool,
    /// True if another delivery of the same file has taken over.
    pub superseded: bool,
    /// Numbers of the parts that are to be imported next, each by [`import_part`].
    pub parts: Vec<u32>,
}

impl Imported {
    /// What became of it is what the entry says.
    pub(super) fn of(import: Import) -> Self {
        Self { import, already: false, superseded: false, parts: Vec::new() }
    }

    /// Should a model be trained on what came in?
    pub fn asks_for_training(&self) -> bool {
        !self.superseded && self.import.state == State::Done && self.import.counts.changed_anything()
    }
}

/// Imports the blob at `address`, with its content from the payload if `inline` carries it.
///
/// # Errors
/// [`Kind::Invalid`] if the address is not the configured account and container (audited as a refusal), [`Kind::NotFound`] if the blob
/// is gone, [`Kind::Unavailable`] if a retry can cure it. A file that cannot be read as CSV is no error: its entry says `failed`.
pub async fn import_blob(
    caller: &Caller,
    hospital: &Hospital,
    address: &BlobAddress,
    inline: Option<Vec<u8>>,
    now: fn() -> DateTime<Utc>,
) -> Result<Imported> {
    hospital.allow(caller, Action::Import, now()).await?;
    let config = &hospital.config;
    if address.account != config.account_url || address.container != config.import_container {
        refused(caller, hospital, "account or container is not configured", now()).await?;
        return Err(Error::invalid(
            "the blob lies outside the configured account and container: \
             filter the event subscription, or set HDAI_BLOB_ACCOUNT_URL and HDAI_IMPORT_CONTAINER",
        ));
    }
    let opened = match hospital.blobs.open(&address.container, &address.name).await {
        Err(error) if error.kind() == Kind::Invalid => {
            refused(caller, hospital, "the blob's name is not allowed", now()).await?;
            return Err(error);
        }
        opened => opened?,
    };
    let (content, part_bytes) = match (opened, inline) {
        // The payload does not say which version of the blob it carries; what lies there does.
        (Some(opened), _) => (opened, Some(config.import_part_bytes)),
        (None, Some(bytes)) => {
            let etag = format!("sha256-{}", hex(&Sha256::digest(&bytes)));
            // There is no blob that parts could be read from.
            (Opened { etag, length_bytes: bytes.len() as u64, chunks: one_chunk(bytes) }, None)
        }
        (None, None) => {
            give_up_removed(caller, hospital, address, now()).await?;
            let event = AuditEvent::new(caller, Action::Import, Outcome::Failure, now()).detail("the blob is gone");
            hospital.store.append_audit(&event).await?;
            return Err(Error::not_found("the blob is not in the container any more"));
        }
    };
    let source = Source {
        account: address.account.clone(),
        container: address.container.clone(),
        name: address.name.clone(),
        etag: content.etag.clone(),
    };
    let imported = import_delivery(caller, hospital, Delivery { source, content, part_bytes }, now).await?;
    if !imported.superseded && imported.parts.is_empty() {
        tag(hospital, &imported.import).await;
    }
    Ok(imported)
}

/// Ledger entries, newest first, among which an import is sought that was interrupted and cannot go on.
const LOOKED_BACK_MAX: u32 = 1_000;

/// The blob is gone: closes what an interrupted delivery of it left open, since no delivery can ever end it.
async fn give_up_removed(caller: &Caller, hospital: &Hospital, address: &BlobAddress, now: DateTime<Utc>) -> Result<()> {
    let at = |source: &Source| {
        (&source.account, &source.container, &source.name) == (&address.account, &address.container, &address.name)
    };
    let entries = hospital.store.imports(LOOKED_BACK_MAX).await?;
    for import in entries.into_iter().filter(|import| import.state == State::Running && at(&import.source)) {
        let finish = Finish::Failed { reason: "the file was removed before it was read to its end: drop it again".to_owned() };
        let audit = AuditEvent::new(caller, Action::Import, Outcome::Failure, now).detail(import.id.to_string());
        if let Step::Committed(_) = hospital.store.finish_import(&import.id, import.attempt, &finish, &audit).await? {
            leave_receipt(hospital, &ledger_entry(hospital, &import.id).await?).await?;
        }
    }
    Ok(())
}

/// Tags the file with what became of it. A tag that cannot be set must not hold back what is committed.
async fn tag(hospital: &Hospital, import: &Import) {
    let Source { container, name, etag, .. } = &import.source;
    let tags = [("dataProfile", "ePHI"), ("import", import.id.0.as_str()), ("status", import.state.name())];
    if let Err(error) = hospital.blobs.tag(container, name, etag, &tags).await {
        tracing::warn!(import = %import.id, %error, "the file could not be tagged");
    }
}

/// Refuses a payload whose address is no blob's: leaves the refusal in the audit trail and answers the error to report.
pub async fn refuse_address(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Error {
    match refused(caller, hospital, "the address is no blob's", now).await {
        Ok(()) => {
            Error::invalid("the delivery's address is no blob's: it must be an http or https URL of a blob, without credentials")
        }
        Err(error) => error,
    }
}

/// Leaves in the audit trail that events spoke of files that lie elsewhere.
///
/// # Errors
/// Unavailable.
pub async fn refuse_events(caller: &Caller, hospital: &Hospital, events: usize, now: DateTime<Utc>) -> Result<()> {
    refused(caller, hospital, &format!("events of files elsewhere: {events}"), now).await
}

async fn refused(caller: &Caller, hospital: &Hospital, why: &str, now: DateTime<Utc>) -> Result<()> {
    hospital.store.append_audit(&AuditEvent::new(caller, Action::Import, Outcome::Refused, now).detail(why)).await
}

/// Imports one delivery of a file.
///
/// # Errors
/// As [`import_blob`].
pub async fn import_delivery(
    caller: &Caller,
    hospital: &Hospital,
    delivery: Delivery,
    now: fn() -> DateTime<Utc>,
) -> Result<Imported> {
    hospital.allow(caller, Action::Import, now()).await?;
    let Delivery { source, content, part_bytes } = delivery;
    let id = import_id(&source);
    let note = |outcome, detail: String| AuditEvent::new(caller, Action::Import, outcome, now()).detail(detail);
    let entry = match hospital.store.begin_import(&id, &source, now()).await? {
        Begun::Work(entry) => entry,
        Begun::InParts(import, parts) => {
            // The process may have died between the plan's commit and the messages.
            hospital.store.append_audit(&note(Outcome::Success, format!("{id}: {} parts are left", parts.len()))).await?;
            return Ok(Imported { parts, ..Imported::of(import) });
        }
        Begun::Over(entry) => {
            hospital.store.append_audit(&note(Outcome::Success, format!("{id} was over before"))).await?;
            // The process may have died between the commit and the receipt.
            leave_receipt(hospital, &entry).await?;
            return Ok(Imported { already: true, ..Imported::of(entry) });
        }
    };
    let attempt = entry.attempt;
    tracing::info!(import = %id, attempt, checkpoint = entry.checkpoint, bytes = content.length_bytes, "import begun");
    let finish = match work(caller, hospital, entry, content, part_bytes, now).await {
        Ok(Work::Finished(finish)) => finish,
        Ok(Work::Planned(parts)) => return Ok(Imported { parts, ..Imported::of(ledger_entry(hospital, &id).await?) }),
        Ok(Work::Superseded) => return superseded(caller, hospital, &id, now()).await,
        Err(error) if error.kind() == Kind::Invalid => Finish::Failed { reason: error.message().to_owned() },
        Err(error) => return Err(interrupted(hospital, &note(Outcome::Failure, format!("{id} was interrupted")), error).await),
    };
    let outcome = if matches!(finish, Finish::Done { .. }) { Outcome::Success } else { Outcome::Failure };
    let audit = hospital.announced(note(outcome, id.to_string()));
    if hospital.store.finish_import(&id, attempt, &finish, &audit).await? == Step::Superseded {
        return superseded(caller, hospital, &id, now()).await;
    }
    hospital.wake_relay();
    let import = ledger_entry(hospital, &id).await?;
    tell_end(&import);
    leave_receipt(hospital, &import).await?;
    Ok(Imported::of(import))
}

/// What the work on a delivery came to.
enum Work {
    /// Every row is committed, but for the end of the ledger entry.
    Finished(Finish),
    /// The parts of these numbers are planned.
    Planned(Vec<u32>),
    /// A newer delivery has taken over.
    Superseded,
}

/// Imports the file, or plans it in parts if it is large and nothing of it is committed yet.
async fn work(
    caller: &Caller,
    hospital: &Hospital,
    entry: Import,
    content: Opened,
    part_bytes: Option<u64>,
    now: fn() -> DateTime<Utc>,
) -> Result<Work> {
    let bytes_max = hospital.config.import_bytes_max;
    if content.length_bytes > bytes_max {
        return Err(too_large(bytes_max));
    }
    let part_bytes = part_bytes.filter(|part_bytes| content.length_bytes > *part_bytes && entry.checkpoint == 0);
    let Some(part_bytes) = part_bytes else { return read_file(hospital, entry, content).await };
    let (head, content) = pipeline::peek(content).await?;
    match content::is_plain_csv(&head) {
        true => parts::plan(caller, hospital, &entry, content, part_bytes, now).await,
        // What is packed can only be read from its beginning.
        false => read_file(hospital, entry, content).await,
    }
}

/// Notes that work was interrupted by `error`, which is given back.
async fn interrupted(hospital: &Hospital, audit: &AuditEvent, error: Error) -> Error {
    // The store itself may be what is away; the first error says more.
    if let Err(unheard) = hospital.store.append_audit(audit).await {
        tracing::error!(detail = audit.detail, error = %unheard, "the interruption could not be audited");
    }
    error
}

fn tell_end(import: &Import) {
    let counts = import.counts;
    tracing::info!(
        import = %import.id, state = import.state.name(), read = counts.read, stored = counts.stored, updated = counts.updated,
        unchanged = counts.unchanged, rejected = counts.rejected, "import over"
    );
}

/// Streams the file through the parser into the store.
async fn read_file(hospital: &Hospital, entry: Import, content: Opened) -> Result<Work> {
    let template = Batch {
        import: entry.id,
        part: None,
        attempt: entry.attempt,
        after: entry.checkpoint,
        encounters: Vec::new(),
        lines: Vec::new(),
        rejects: Vec::new(),
        rejected_rows: 0,
    };
    match store_rows(hospital, content, pipeline::Stretch::File, template).await? {
        Rows::Stored(pipeline::Parsed { sha256, extra_columns, lines, .. }) => {
            Ok(Work::Finished(Finish::Done { sha256, extra_columns, lines }))
        }
        Rows::Superseded => Ok(Work::Superseded),
        Rows::Busy => Err(busy()),
    }
}

/// Others' turn all the time, for who can only come again as a whole.
pub(super) fn busy() -> Error {
    Error::unavailable("other imports kept the record busy; what was stored stays, and another delivery goes on behind it")
}

/// What became of the rows of a stretch.
enum Rows {
    /// All are stored or rejected.
    Stored(pipeline::Parsed),
    /// A newer delivery has taken over.
    Superseded,
    /// Others' batches had their turn all the time.
    Busy,
}

/// Parses and stores in batches like `template`, behind its checkpoint.
async fn store_rows(hospital: &Hospital, content: Opened, stretch: pipeline::Stretch, template: Batch) -> Result<Rows> {
    let facilities = hospital.store.facilities().await?.into_iter().map(|facility| facility.id).collect::<Vec<_>>();
    let mut parsing = pipeline::start(content.chunks, hospital.config.import_bytes_max, stretch, facilities, template);
    while let Some(batch) = parsing.next().await {
        match hospital.store.import_batch(&batch).await? {
            Step::Committed(_) => {}
            Step::Superseded => return Ok(Rows::Superseded),
            Step::Busy => return Ok(Rows::Busy),
        }
    }
    parsing.end().await.map(Rows::Stored)
}

fn too_large(bytes_max: u64) -> Error {
    Error::invalid(format!("the file is larger than {bytes_max} bytes: split it, or raise HDAI_IMPORT_BYTES_MAX"))
}

pub(super) async fn superseded(caller: &Caller, hospital: &Hospital, id: &ImportId, now: DateTime<Utc>) -> Result<Imported> {
    let import = ledger_entry(hospital, id).await?;
    let note = |what: &str| AuditEvent::new(caller, Action::Import, Outcome::Success, now).detail(format!("{id} {what}"));
    if import.state != State::Running {
        // Another delivery has ended it; or this one has, in a commit whose answer was lost.
        hospital.store.append_audit(&note("was over before")).await?;
        leave_receipt(hospital, &import).await?;
        tag(hospital, &import).await;
        return Ok(Imported { already: true, ..Imported::of(import) });
    }
    hospital.store.append_audit(&note("was taken over")).await?;
    tracing::info!(import = %id, "another delivery of the same file has taken over");
    Ok(Imported { superseded: true, ..Imported::of(import) })
}

pub(super) async fn ledger_entry(hospital: &Hospital, id: &ImportId) -> Result<Import> {
    hospital.store.import(id).await?.ok_or_else(|| Error::internal("the import's ledger entry is gone"))
}

fn one_chunk(bytes: Vec<u8>) -> futures_util::stream::BoxStream<'static, Result<Bytes>> {
    Box::pin(futures_util::stream::once(async move { Ok(Bytes::from(bytes)) }))
}

/// The first 128 bits of the SHA-256 of the source's parts, each with its length before it.
pub(super) fn import_id(source: &Source) -> ImportId {
    let mut digest = Sha256::new();
    for part in [&source.account, &source.container, &source.name, &source.etag] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    ImportId(hex(&digest.finalize()[..16]))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_id_depends_on_every_part_and_on_their_borders() {
        let source = |name: &str, etag: &str| Source {
            account: "https://a".into(),
            container: "c".into(),
            name: name.into(),
            etag: etag.into(),
        };
        let id = import_id(&source("ab", "c"));
        assert_eq!(id.0.len(), 32);
        assert_eq!(id, import_id(&source("ab", "c")));
        assert_ne!(id, import_id(&source("a", "bc")));
        assert_ne!(id, import_id(&source("ab", "d")));
    }
}
