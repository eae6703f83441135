//! The audit trail's proof: is it whole, and signed checkpoints against whoever could write it anew from the beginning.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use super::Hospital;
use super::read::note;
use crate::codec::fhir::audit::audit_event;
use crate::domain::alert::EXPORT;
use crate::domain::audit::{Breach, ChainCheck, ChainHead, Unchained};
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Kind, Result};
use crate::store::AuditQuery;

/// Largest checkpoint that is read.
pub const CHECKPOINT_BYTES_MAX: u64 = 1024 * 1024;

/// Events read at once.
const PAGE_EVENTS: u32 = 5_000;

/// Container of the checkpoints; in Azure one with a policy that lets nothing in it be changed.
pub const CHECKPOINTS_CONTAINER: &str = "audit-checkpoints";

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailReport {
    /// Events whose hash was made anew and found right.
    pub events: u64,
    /// Chains that were followed.
    pub chains: usize,
    /// Checkpoints that the chains were held against.
    pub checkpoints: usize,
    /// Checkpoints that were signed with another key, and so vouch for nothing.
    pub foreign: usize,
    /// Events from before the chains began, which nothing vouches for.
    pub before: u64,
    /// What is wrong: the first breach of each chain.
    pub findings: Vec<Finding>,
}

/// Something wrong, and with which chain; `None` for events in no chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The chain.
    pub chain: Option<u32>,
    /// What.
    pub breach: Breach,
}

/// The ends of all chains at one time, as a signed checkpoint holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The ends.
    pub heads: Vec<ChainHead>,
}

/// The most names of checkpoints that are listed: eleven years of hourly ones.
const CHECKPOINTS_LISTED_MAX: usize = 100_000;
/// The most of them that are read.
const CHECKPOINTS_READ_MAX: usize = 500;

/// The checkpoints that lie beside the files: all of them, or as many of them, spread evenly, the oldest and the newest among them.
///
/// # Errors
/// The files are away. That there is no checkpoint is none.
pub async fn audit_checkpoints(hospital: &Hospital) -> Result<Vec<Bytes>> {
    let listed = match hospital.blobs.list(CHECKPOINTS_CONTAINER, CHECKPOINTS_LISTED_MAX).await {
        Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    if listed.cut {
        tracing::warn!(
            "there are more than {CHECKPOINTS_LISTED_MAX} checkpoints: the trail is held against some of the first ones"
        );
    }
    // Their names begin with their times.
    let mut names: Vec<String> = listed.entries.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    let mut texts = Vec::new();
    for name in spread(&names, CHECKPOINTS_READ_MAX) {
        if let Some(opened) = hospital.blobs.open(CHECKPOINTS_CONTAINER, name).await? {
            if opened.length_bytes > CHECKPOINT_BYTES_MAX {
                return Err(Error::invalid("a file among the checkpoints is larger than any checkpoint: remove it"));
            }
            let chunks: Vec<Bytes> = opened.chunks.try_collect().await?;
            texts.push(chunks.concat().into());
        }
    }
    Ok(texts)
}

/// At most `most` of them, evenly, with the first and the last.
fn spread(names: &[String], most: usize) -> impl Iterator<Item = &String> {
    let kept = names.len().min(most);
    (0..kept)
        .map(move |place| if kept < 2 { place } else { place * (names.len() - 1) / (kept - 1) })
        .filter_map(|place| names.get(place))
}

/// Follows every chain from its beginning, makes the hash of each event from `from` to `to` anew, and holds the chains against
/// `checkpoints`, whose signatures are checked first. The verification itself is the newest event afterwards.
///
/// # Errors
/// The caller may not read the trail, a checkpoint is not genuine, or the record is away.
pub async fn verify_audit(
    caller: &Caller,
    hospital: &Hospital,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    checkpoints: &[Bytes],
    now: DateTime<Utc>,
) -> Result<TrailReport> {
    hospital.allow(caller, Action::ReadAudit, now).await?;
    let (foreign, ours): (Vec<_>, Vec<_>) = checkpoints.iter().partition(|text| hospital.receipt_key.is_of_another_key(text));
    let checkpoints = ours.into_iter().map(|text| open(hospital, text)).collect::<Result<Vec<_>>>()?;
    let (chains, foreign) = (0, foreign.len());
    let mut report = TrailReport { events: 0, chains, checkpoints: checkpoints.len(), foreign, before: 0, findings: Vec::new() };
    let in_range = |at: DateTime<Utc>| from.is_none_or(|from| at >= from) && to.is_none_or(|to| at < to);
    for head in heads(hospital, &checkpoints).await? {
        report.chains += 1;
        let vouched = checkpoints.iter().flat_map(|checkpoint| &checkpoint.heads).chain([&head]);
        let vouched = vouched.filter(|vouched| vouched.partition == head.partition);
        let mut check = ChainCheck::new(head.partition, vouched.map(|vouched| (vouched.number, vouched.hash.clone())).collect());
        let mut after = (0, 0);
        let breach = 'chain: loop {
            let page = hospital.store.audit_chain(head.partition, after, PAGE_EVENTS).await?;
            let Some(last) = page.last() else { break check.end(newest(hospital, head.partition).await?).err() };
            after = (last.number, last.seq);
            for event in &page {
                let recompute = in_range(event.row.at);
                if let Err(breach) = check.follow(event, recompute) {
                    break 'chain Some(breach);
                }
                report.events += u64::from(recompute);
            }
        };
        report.findings.extend(breach.map(|breach| Finding { chain: Some(head.partition), breach }));
    }
    let Unchained { before, first_since, .. } = hospital.store.audit_unchained().await?;
    report.before = before;
    report.findings.extend(first_since.map(|seq| Finding { chain: None, breach: Breach::Inserted { seq } }));
    let outcome = if report.findings.is_empty() { Outcome::Success } else { Outcome::Failure };
    let event = AuditEvent::new(caller, Action::ReadAudit, outcome, now).detail("verified");
    match hospital.store.append_audit(&event).await {
        // A trail that was broken may take no event any more, and what was found must be told all the same.
        Err(error) if !report.findings.is_empty() => tracing::error!(%error, "the verification could not be audited"),
        noted => noted?,
    }
    Ok(report)
}

/// The trail grows while it is read: a chain is at least as long as its head said before, and at most as long as it says afterwards.
async fn newest(hospital: &Hospital, partition: u32) -> Result<u64> {
    let heads = hospital.store.audit_heads().await?;
    Ok(heads.iter().find(|head| head.partition == partition).map_or(0, |head| head.number))
}

/// The ends as the record has them, and an empty one for each chain that only a checkpoint knows.
async fn heads(hospital: &Hospital, checkpoints: &[Checkpoint]) -> Result<Vec<ChainHead>> {
    let mut heads = hospital.store.audit_heads().await?;
    for vouched in checkpoints.iter().flat_map(|checkpoint| &checkpoint.heads) {
        if heads.iter().all(|head| head.partition != vouched.partition) {
            heads.push(ChainHead { partition: vouched.partition, number: 0, hash: String::new() });
        }
    }
    Ok(heads)
}

/// Writes a signed checkpoint; answers its name. Whoever changes the trail afterwards contradicts it.
///
/// # Errors
/// The caller may not, or the record or the files are away.
pub async fn audit_checkpoint(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<String> {
    hospital.allow(caller, Action::CheckpointAudit, now).await?;
    let heads = hospital.store.audit_heads().await?;
    let at = now.to_rfc3339_opts(SecondsFormat::Micros, true);
    let ends = heads.iter().map(|head| json!({ "chain": head.partition, "events": head.number, "hash": head.hash }));
    let checkpoint = json!({ "auditCheckpoint": 1, "at": at, "heads": ends.collect::<Vec<_>>() });
    let text = serde_json::to_vec_pretty(&hospital.receipt_key.sign(checkpoint)?)
        .map_err(|cause| Error::internal("the checkpoint cannot be written").caused_by(cause))?;
    // The name of one never is the name of another: nothing in the container is written over.
    let name = format!("{}/{}-{}.json", now.format("%Y/%m"), now.format("%Y%m%dT%H%M%S%6fZ"), uuid::Uuid::new_v4().simple());
    hospital.blobs.put(CHECKPOINTS_CONTAINER, &name, text.into()).await?;
    let events: u64 = heads.iter().map(|head| head.number).sum();
    tracing::info!(events, "the audit trail has a new checkpoint");
    let event = AuditEvent::new(caller, Action::CheckpointAudit, Outcome::Success, now).detail(format!("{events} events"));
    hospital.store.append_audit(&event).await?;
    Ok(name)
}

fn open(hospital: &Hospital, text: &[u8]) -> Result<Checkpoint> {
    let broken = || Error::invalid("a file is no checkpoint of the audit trail; leave it out, or put the right one in its place");
    let value = hospital.receipt_key.open(text)?;
    let at = value["at"].as_str().and_then(|at| DateTime::parse_from_rfc3339(at).ok()).ok_or_else(broken)?.to_utc();
    let head = |head: &Value| {
        let partition = u32::try_from(head["chain"].as_u64()?).ok()?;
        Some(ChainHead { partition, number: head["events"].as_u64()?, hash: head["hash"].as_str()?.to_owned() })
    };
    if value["auditCheckpoint"] != 1 {
        return Err(broken());
    }
    let heads: Option<Vec<_>> = value["heads"].as_array().ok_or_else(broken)?.iter().map(head).collect();
    Ok(Checkpoint { at, heads: heads.ok_or_else(broken)? })
}

/// Leaves the event of an export of the trail.
///
/// # Errors
/// The caller may not read the trail, or the record is away.
pub async fn note_export(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<()> {
    note(hospital, caller, Action::ReadAudit, EXPORT, now).await
}

/// A page of an export that [`note_export`] has noted: FHIR R4 `AuditEvent` resources, newest first, with their numbers in the trail.
///
/// # Errors
/// The record is away.
pub async fn exported_audit(hospital: &Hospital, query: &AuditQuery) -> Result<Vec<(u64, Value)>> {
    let events = hospital.store.audit_page(query).await?;
    Ok(events.into_iter().map(|(seq, event)| (seq, audit_event(seq, &event))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_checkpoints_the_oldest_and_the_newest_are_read() {
        let names: Vec<String> = (0..1_000).map(|number| format!("{number:04}")).collect();
        let read: Vec<&String> = spread(&names, 7).collect();
        assert_eq!((read.len(), read[0].as_str(), read[6].as_str()), (7, "0000", "0999"));
        for few in 0..4 {
            assert!(spread(&names[..few], 7).eq(&names[..few]), "{few}");
        }
    }
}
