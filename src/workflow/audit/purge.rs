//! Events whose time is over leave the record: into an archive that is verified before anything goes, up to a signed checkpoint, and with a
//! trace of who did it.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::Path;

use chrono::{DateTime, Duration, Months, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::PAGE_EVENTS;
use super::archive::{self, verify_archive};
use super::checkpoint::{self, Checkpoint, write};
use crate::domain::alert::PURGED;
use crate::domain::audit::{Anchor, Purge, TrailRecord};
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Result};
use crate::workflow::Hospital;
use crate::workflow::import::hex;

/// How much longer than its years an event is kept: clocks differ, and a database counts leap days its own way.
const CLOCKS: Duration = Duration::days(2);

/// What was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// Events that left the record.
    pub events: u64,
    /// The checkpoint up to which; `None` if nothing was left to remove.
    pub checkpoint: Option<String>,
    /// The SHA-256 of the archive, which the audit events name.
    pub sha256: String,
}

/// Removes the events up to the newest genuine checkpoint from before `before`, after it has written them to the new file `path` and verified
/// that. Each chain is one fact with an audit event of its own; a run that was stopped is gone on with by the next, into another file.
///
/// # Errors
/// The caller may not; invalid, if `before` is younger than the retention; not found, if there is no such checkpoint; conflict, if the trail is
/// not whole or the database keeps the events; the record or a file is away.
pub async fn purge_audit(
    caller: &Caller,
    hospital: &Hospital,
    before: DateTime<Utc>,
    path: &Path,
    now: DateTime<Utc>,
) -> Result<Purged> {
    // Both, which the Auditor alone has, whose own deeds the trail holds least of.
    hospital.allow(caller, Action::ReadAudit, now).await?;
    hospital.allow(caller, Action::CheckpointAudit, now).await?;
    // The record may know of longer years than whoever runs this.
    let record = hospital.store.audit_record().await?;
    let years = hospital.config.audit_retention_years.max(record.retention_years);
    let over = now.checked_sub_months(Months::new(12 * years)).unwrap_or(DateTime::<Utc>::MIN_UTC) - CLOCKS;
    let event = |outcome, detail: String| AuditEvent::new(caller, Action::CheckpointAudit, outcome, now).detail(detail);
    if before > over {
        let refused = event(Outcome::Refused, "purge of events younger than the retention".to_owned());
        hospital.store.append_audit(&refused).await?;
        return Err(Error::invalid(format!(
            "audit events are kept for {years} years (HDAI_AUDIT_RETENTION_YEARS, and what the record was told before): nothing from {} on is removed",
            over.format("%Y-%m-%d")
        )));
    }
    if hospital.store.audit_unchained().await?.since > 0 {
        return Err(Error::conflict(
            "the trail holds events that were put in outside its chains, and nothing was removed: run `hdai audit verify`",
        ));
    }
    let end = newest_before(hospital, &record, before).await?;
    let parts = parts(&record, &end);
    if parts.is_empty() {
        return Ok(Purged { events: 0, checkpoint: None, sha256: String::new() });
    }
    let file = create(path)?;
    let written = fill(hospital, &record, (&end, &parts), (file, path), over).await.and_then(|()| proven(hospital, path));
    let sha256 = written.inspect_err(|_| drop(std::fs::remove_file(path)))?;
    let mut events = 0;
    for anchor in parts {
        let detail = format!("{PURGED}{} up to {}, {years} years, archive {sha256}", anchor.partition, anchor.number);
        let purge = Purge { after: anchored(&record, anchor.partition), anchor, retention_years: years };
        events += hospital.store.purge_audit(&purge, &event(Outcome::Success, detail)).await?;
    }
    // From now on the events that tell of it are vouched for.
    write(caller, hospital, None, now).await?;
    Ok(Purged { events, checkpoint: Some(end.name), sha256 })
}

/// The newest checkpoint of this record from before `before`.
async fn newest_before(hospital: &Hospital, record: &TrailRecord, before: DateTime<Utc>) -> Result<Checkpoint> {
    for name in checkpoint::names(hospital).await?.iter().rev() {
        // A name begins with its time, but only what is signed counts.
        let Some(text) = checkpoint::content(hospital, name).await? else { continue };
        let Ok(found) = checkpoint::open(&hospital.receipt_key, name, &text) else { continue };
        if found.record.as_ref() == Some(&record.id) && found.at <= before {
            return Ok(found);
        }
    }
    Err(Error::not_found(
        "there is no signed checkpoint of this record from before that day: events are removed up to one, or not at all",
    ))
}

/// The place of a chain's anchor; 0 for none.
fn anchored(record: &TrailRecord, chain: u32) -> u64 {
    record.anchors.iter().find(|anchor| anchor.partition == chain).map_or(0, |anchor| anchor.number)
}

/// What is to go of each chain.
fn parts(record: &TrailRecord, end: &Checkpoint) -> Vec<Anchor> {
    let newer = end.heads.iter().filter(|head| head.number > anchored(record, head.partition));
    newer
        .map(|head| Anchor {
            partition: head.partition,
            number: head.number,
            hash: head.hash.clone(),
            checkpoint: end.name.clone(),
        })
        .collect()
}

/// Writes the archive, for its owner alone, onto the disk.
async fn fill(
    hospital: &Hospital,
    record: &TrailRecord,
    (end, parts): (&Checkpoint, &[Anchor]),
    (file, path): (File, &Path),
    over: DateTime<Utc>,
) -> Result<()> {
    let failed = |cause| Error::unavailable(format!("the archive {} cannot be written", path.display())).caused_by(cause);
    let mut file = BufWriter::new(file);
    let mut line = |value: Value| writeln!(file, "{value}").map_err(failed);
    line(archive::head(&record.id, &record.anchors))?;
    for part in parts {
        let mut after = (anchored(record, part.partition) + 1, 0);
        'chain: loop {
            let page = hospital.store.audit_chain(part.partition, after, PAGE_EVENTS).await?;
            let Some(last) = page.last() else { break };
            after = (last.number, last.seq);
            for event in &page {
                if event.number > part.number {
                    break 'chain;
                }
                if event.row.at.is_none_or(|at| at >= over) {
                    return Err(Error::conflict(format!(
                        "event {} is not older than the retention, or its time cannot be read: run `hdai audit verify`",
                        event.seq
                    )));
                }
                line(archive::event(part.partition, event))?;
            }
        }
    }
    line(archive::tail(end))?;
    file.into_inner().map_err(|cause| failed(cause.into_error()))?.sync_all().map_err(failed)?;
    // Its name, too: what is removed afterwards must be there after a loss of power.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn create(path: &Path) -> Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|cause| {
        Error::invalid(format!("the archive {} cannot be made: name a file that is not there yet", path.display())).caused_by(cause)
    })
}

/// Reads the archive again, and answers its SHA-256: nothing goes that is not in it, unbroken.
fn proven(hospital: &Hospital, path: &Path) -> Result<String> {
    let unread = |cause| Error::unavailable(format!("the archive {} cannot be read", path.display())).caused_by(cause);
    let found = verify_archive(&hospital.receipt_key, BufReader::new(File::open(path).map_err(unread)?))?;
    if !found.findings.is_empty() {
        return Err(Error::conflict("the trail is not whole, and nothing was removed: run `hdai audit verify`"));
    }
    let (mut digest, mut file, mut chunk) = (Sha256::new(), File::open(path).map_err(unread)?, vec![0; 64 * 1024]);
    loop {
        match file.read(&mut chunk).map_err(unread)? {
            0 => return Ok(hex(&digest.finalize())),
            bytes => digest.update(&chunk[..bytes]),
        }
    }
}
