//! Signed checkpoints of the audit trail, which lie where whoever can write the record cannot: each says whose it is, which one it is, and
//! which one came before it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Finding;
use crate::domain::audit::{ChainHead, KeptCheckpoint, TrailRecord};
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Kind, Result};
use crate::workflow::import::hex;
use crate::workflow::{Hospital, SigningKey};

/// Largest checkpoint that is read, in bytes.
pub const CHECKPOINT_BYTES_MAX: u64 = 1024 * 1024;

/// Container of the checkpoints; in Azure one with a policy that lets nothing in it be changed.
pub const CHECKPOINTS_CONTAINER: &str = "audit-checkpoints";

/// The most names of checkpoints that are listed: eleven years of hourly ones.
const LISTED_MAX: usize = 300_000;
/// The most of them that are read, unless all are asked for.
const READ_MAX: usize = 500;
/// How often another instance may write one in between.
const ATTEMPTS: usize = 8;

/// The ends of all chains at one time, as a signed checkpoint holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Its name beside the files, or where it was found.
    pub(super) name: String,
    /// The record it is of; `None` in those of an earlier program.
    pub(super) record: Option<String>,
    /// Its number, from 1; 0 in those of an earlier program.
    pub(super) number: u64,
    /// The SHA-256 of the one before.
    previous: Option<String>,
    /// The record's id from before a restore.
    continues: Option<String>,
    /// When it was made.
    pub(super) at: DateTime<Utc>,
    /// The ends.
    pub(super) heads: Vec<ChainHead>,
    /// The SHA-256 of the file.
    digest: String,
    /// The signed object, for an archive.
    pub(super) signed: Value,
}

impl Checkpoint {
    /// The end of a chain.
    pub(super) fn head(&self, partition: u32) -> Option<&ChainHead> {
        self.heads.iter().find(|head| head.partition == partition)
    }
}

/// Checkpoints of another record in the same container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherRecord {
    /// Its id.
    pub record: String,
    /// How many were read.
    pub checkpoints: usize,
    /// Is it what this record was before a restore?
    pub continued: bool,
}

/// What the checkpoints say.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// The genuine ones, whosever they are.
    pub(super) genuine: Vec<Checkpoint>,
    /// How many were signed with another key.
    pub(super) foreign: usize,
    pub(super) others: Vec<OtherRecord>,
    pub(super) findings: Vec<Finding>,
}

impl Evidence {
    /// Those that vouch for `record`: its own, and those of an earlier program, which name none.
    pub(super) fn of(&self, record: &str) -> impl Iterator<Item = &Checkpoint> {
        self.genuine.iter().filter(move |one| one.record.as_deref().is_none_or(|of| of == record))
    }
}

/// A file that a checkpoint may be in, by its name.
pub(super) struct Files {
    /// Every name in the container, in order.
    listed: Vec<String>,
    /// Names and contents.
    read: Vec<(String, Bytes)>,
}

/// The checkpoints that lie beside the files: all of them, or as many of them, spread evenly, the oldest and the newest among them, and those
/// of the anchors.
pub(super) async fn beside(hospital: &Hospital, record: &TrailRecord, all: bool) -> Result<Files> {
    let listed = names(hospital).await?;
    let most = if all { usize::MAX } else { READ_MAX };
    let anchors: BTreeSet<&str> = record.anchors.iter().map(|anchor| anchor.checkpoint.as_str()).collect();
    let mut wanted: BTreeSet<&String> = spread(&listed, most).collect();
    wanted.extend(listed.iter().filter(|name| anchors.contains(name.as_str())));
    let mut read = Vec::with_capacity(wanted.len());
    for name in wanted {
        if let Some(text) = content(hospital, name).await? {
            read.push((name.clone(), text));
        }
    }
    Ok(Files { listed, read })
}

/// The names of the checkpoints, which begin with their times, in order.
pub(super) async fn names(hospital: &Hospital) -> Result<Vec<String>> {
    let listed = match hospital.blobs.list(CHECKPOINTS_CONTAINER, LISTED_MAX).await {
        Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    if listed.cut {
        tracing::warn!("there are more than {LISTED_MAX} checkpoints: the trail is held against some of the first ones");
    }
    let mut names: Vec<String> = listed.entries.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    Ok(names)
}

/// A file among the checkpoints; of one that is too large, nothing, so that it is told of as none.
pub(super) async fn content(hospital: &Hospital, name: &str) -> Result<Option<Bytes>> {
    let Some(opened) = hospital.blobs.open(CHECKPOINTS_CONTAINER, name).await? else { return Ok(None) };
    if opened.length_bytes > CHECKPOINT_BYTES_MAX {
        return Ok(Some(Bytes::new()));
    }
    let chunks: Vec<Bytes> = opened.chunks.try_collect().await?;
    Ok(Some(chunks.concat().into()))
}

/// At most `most` of them, evenly, with the first and the last.
fn spread(names: &[String], most: usize) -> impl Iterator<Item = &String> {
    let kept = names.len().min(most);
    (0..kept)
        .map(move |place| if kept < 2 { place } else { place * (names.len() - 1) / (kept - 1) })
        .filter_map(|place| names.get(place))
}

/// The record and the number in a checkpoint's name; `None` in those of an earlier program.
fn named(name: &str) -> Option<(&str, u64)> {
    let last = name.rsplit('/').next()?.strip_suffix(".json")?;
    let (record, number) = last.split_once('-')?.1.rsplit_once('-')?;
    Some((record, number.parse().ok()?))
}

/// Looks at every file, by itself and beside the others. `before` and `after`: what the record said before and after they were listed, so
/// that one which is written meanwhile confuses nothing.
pub(super) fn judge(
    key: &SigningKey,
    files: &Files,
    given: &[(String, Bytes)],
    (before, after): (&TrailRecord, &TrailRecord),
) -> Evidence {
    let mut evidence = Evidence::default();
    let inside = files.read.iter().map(|file| (file, true));
    for ((name, text), inside) in inside.chain(given.iter().map(|file| (file, false))) {
        if key.is_of_another_key(text) {
            evidence.foreign += 1;
            continue;
        }
        let what = match open(key, name, text) {
            Err(error) => error.message().to_owned(),
            Ok(one) if inside && one.record.is_some() && named(name) != one.record.as_deref().map(|of| (of, one.number)) => {
                format!("it is number {} of record {}, under another's name", one.number, one.record.unwrap_or_default())
            }
            Ok(one) => {
                evidence.genuine.push(one);
                continue;
            }
        };
        evidence.findings.push(Finding::Checkpoint { name: name.clone(), what });
    }
    evidence.others = others(&evidence, &after.id);
    let mut findings = linked(&evidence, after);
    findings.extend(counted(&files.listed, before, after));
    evidence.findings.append(&mut findings);
    evidence
}

fn others(evidence: &Evidence, id: &str) -> Vec<OtherRecord> {
    let continued: BTreeSet<&str> = evidence.genuine.iter().filter_map(|one| one.continues.as_deref()).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for of in evidence.genuine.iter().filter_map(|one| one.record.as_deref()).filter(|of| *of != id) {
        *counts.entry(of).or_default() += 1;
    }
    let other = |(record, checkpoints): (&str, usize)| OtherRecord {
        record: record.to_owned(),
        checkpoints,
        continued: continued.contains(record),
    };
    counts.into_iter().map(other).collect()
}

/// Does each name the one before it, and the record the newest?
fn linked(evidence: &Evidence, record: &TrailRecord) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut by_number: BTreeMap<u64, &Checkpoint> = BTreeMap::new();
    for one in evidence.of(&record.id).filter(|one| one.number > 0) {
        if let Some(other) = by_number.insert(one.number, one).filter(|other| other.digest != one.digest) {
            let what = format!("it has the number {} of {}: one of the two was put in", one.number, other.name);
            findings.push(Finding::Checkpoint { name: one.name.clone(), what });
        }
    }
    for (number, one) in &by_number {
        if let Some(before) = number.checked_sub(1).and_then(|number| by_number.get(&number))
            && one.previous.as_ref() != Some(&before.digest)
        {
            let what = format!("it does not follow {}: one of the two was put in or exchanged", before.name);
            findings.push(Finding::Checkpoint { name: one.name.clone(), what });
        }
    }
    let newest = &record.newest;
    if let Some(one) = by_number.get(&newest.number).filter(|one| one.digest != digest(newest.text.as_bytes())) {
        let what = "the record remembers another one under its number: the record was altered".to_owned();
        findings.push(Finding::Checkpoint { name: one.name.clone(), what });
    }
    findings
}

/// Is every number there? Those before the anchors' checkpoints may be gone, their time being over.
fn counted(listed: &[String], before: &TrailRecord, after: &TrailRecord) -> Vec<Finding> {
    let of_ours = |name: &str| named(name).filter(|(record, _)| *record == after.id).map(|(_, number)| number);
    let there: BTreeSet<u64> = listed.iter().filter_map(|name| of_ours(name)).collect();
    let first = after.anchors.iter().filter_map(|anchor| of_ours(&anchor.checkpoint)).min().unwrap_or(1);
    let newest = if before.id == after.id { before.newest.number } else { 0 };
    let last = there.last().copied().unwrap_or_default();
    let mut findings = Vec::new();
    if last > after.newest.number {
        findings.push(Finding::SetBack { knows: after.newest.number, there: last });
    }
    let mut expected = first;
    for number in there.iter().copied().filter(|number| *number >= first).chain([last.max(newest) + 1]) {
        if number > expected {
            findings.push(Finding::CheckpointsMissing { from: expected, to: number - 1 });
        }
        expected = number + 1;
    }
    findings
}

/// Writes a signed checkpoint; answers its name. Whoever changes the trail afterwards contradicts it.
///
/// # Errors
/// The caller may not, or the record or the files are away.
pub async fn audit_checkpoint(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<String> {
    hospital.allow(caller, Action::CheckpointAudit, now).await?;
    write(caller, hospital, None, now).await
}

/// Gives a record that was restored from a backup another id, so that the checkpoints from before are told apart from its own, and writes the
/// first of these, which names the id from before; answers its name.
///
/// # Errors
/// As [`audit_checkpoint`].
pub async fn audit_restored(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<String> {
    // Both, which the platform has not: a person decides this.
    hospital.allow(caller, Action::ReadAudit, now).await?;
    hospital.allow(caller, Action::CheckpointAudit, now).await?;
    let record = hospital.store.audit_record().await?;
    // Its own last words, before it forgets them.
    bring(hospital, &record.newest).await?;
    let from = record.id;
    let to = uuid::Uuid::new_v4().simple().to_string();
    let event = AuditEvent::new(caller, Action::CheckpointAudit, Outcome::Success, now);
    let event = event.detail(format!("restored: record {from} goes on as {to}"));
    if !hospital.store.renew_record(&from, &to, &event).await? {
        return Err(Error::conflict("another process has just given the record another id"));
    }
    write(caller, hospital, Some(&from), now).await
}

/// The record remembers a checkpoint before its file is written; if that fails, the next one brings the file.
pub(super) async fn write(caller: &Caller, hospital: &Hospital, continues: Option<&str>, now: DateTime<Utc>) -> Result<String> {
    let years = hospital.config.audit_retention_years;
    for _ in 0..ATTEMPTS {
        let record = hospital.store.audit_record().await?;
        bring(hospital, &record.newest).await?;
        let heads = hospital.store.audit_heads().await?;
        let number = record.newest.number + 1;
        let previous = (record.newest.number > 0).then(|| digest(record.newest.text.as_bytes()));
        let ends = heads.iter().map(|head| json!({ "chain": head.partition, "events": head.number, "hash": head.hash }));
        let checkpoint = json!({
            "auditCheckpoint": 2,
            "record": record.id,
            "number": number,
            "previous": previous,
            "continues": continues,
            "at": now.to_rfc3339_opts(SecondsFormat::Micros, true),
            "heads": ends.collect::<Vec<_>>(),
        });
        let text = serde_json::to_string_pretty(&hospital.receipt_key.sign(checkpoint)?)
            .map_err(|cause| Error::internal("the checkpoint cannot be written").caused_by(cause))?;
        // The name of one never is the name of another: nothing in the container is written over.
        let name = format!("{}/{}-{}-{number:08}.json", now.format("%Y/%m"), now.format("%Y%m%dT%H%M%S%6fZ"), record.id);
        let kept = KeptCheckpoint { number, name, text };
        let events: u64 = heads.iter().map(|head| head.number).sum();
        let event = AuditEvent::new(caller, Action::CheckpointAudit, Outcome::Success, now);
        if hospital.store.save_checkpoint(&record.id, &kept, years, &event.detail(format!("{events} events"))).await? {
            hospital.blobs.put(CHECKPOINTS_CONTAINER, &kept.name, kept.text.into()).await?;
            tracing::info!(events, number, "the audit trail has a new checkpoint");
            return Ok(kept.name);
        }
    }
    Err(Error::unavailable("other instances write checkpoints all the time; try again"))
}

/// Writes the file of the checkpoint that the record remembers, if it is not there and is ours.
async fn bring(hospital: &Hospital, newest: &KeptCheckpoint) -> Result<()> {
    if newest.number == 0 {
        return Ok(());
    }
    let there = match hospital.blobs.find(CHECKPOINTS_CONTAINER, &newest.name).await {
        Err(error) if error.kind() == Kind::NotFound => false,
        found => found?.is_some(),
    };
    if there {
        return Ok(());
    }
    match open(&hospital.receipt_key, &newest.name, newest.text.as_bytes()) {
        Ok(_) => hospital.blobs.put(CHECKPOINTS_CONTAINER, &newest.name, newest.text.clone().into()).await,
        Err(error) => {
            tracing::error!(%error, "the checkpoint that the record remembers is not genuine: run `hdai audit verify`");
            Ok(())
        }
    }
}

/// Reads a checkpoint whose signature is right.
pub(super) fn open(key: &SigningKey, name: &str, text: &[u8]) -> Result<Checkpoint> {
    let broken = || Error::invalid("it is no checkpoint of the audit trail");
    let value = key.open(text)?;
    let at = value["at"].as_str().and_then(|at| DateTime::parse_from_rfc3339(at).ok()).ok_or_else(broken)?.to_utc();
    let head = |head: &Value| {
        let partition = u32::try_from(head["chain"].as_u64()?).ok()?;
        Some(ChainHead { partition, number: head["events"].as_u64()?, hash: head["hash"].as_str()?.to_owned() })
    };
    let heads: Option<Vec<_>> = value["heads"].as_array().ok_or_else(broken)?.iter().map(head).collect();
    let word = |name: &str| value[name].as_str().map(str::to_owned);
    let (record, number) = match value["auditCheckpoint"].as_u64() {
        Some(1) => (None, 0),
        Some(2) => (Some(word("record").ok_or_else(broken)?), value["number"].as_u64().ok_or_else(broken)?),
        _ => return Err(broken()),
    };
    Ok(Checkpoint {
        name: name.to_owned(),
        record,
        number,
        previous: word("previous"),
        continues: word("continues"),
        at,
        heads: heads.ok_or_else(broken)?,
        digest: digest(text),
        signed: serde_json::from_slice(text).map_err(|_| broken())?,
    })
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
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

    #[test]
    fn a_name_tells_record_and_number_and_an_earlier_ones_does_not() {
        assert_eq!(named("2026/11/20261122T230000000000Z-ab-cd-00000012.json"), Some(("ab-cd", 12)));
        assert_eq!(named("2026/11/20261122T230000000000Z-0123456789abcdef.json"), None);
        assert_eq!(named("a.json"), None);
    }

    #[test]
    fn a_number_that_is_not_there_is_named_unless_its_time_is_over() {
        let name = |number: u64| format!("2026/11/t-id-{number:08}.json");
        let record = |newest: u64, anchored: Option<u64>| {
            let anchor =
                |number| crate::domain::audit::Anchor { partition: 0, number: 1, hash: String::new(), checkpoint: name(number) };
            let newest = KeptCheckpoint { number: newest, ..KeptCheckpoint::default() };
            TrailRecord { id: "id".into(), newest, anchors: anchored.map(anchor).into_iter().collect(), retention_years: 7 }
        };
        let missing = |there: &[u64], record: &TrailRecord| {
            let listed: Vec<String> = there.iter().map(|number| name(*number)).collect();
            counted(&listed, record, record)
        };
        let gap = |from, to| Finding::CheckpointsMissing { from, to };
        assert_eq!(missing(&[1, 2, 3], &record(3, None)), []);
        assert_eq!(missing(&[1, 3], &record(3, None)), [gap(2, 2)]);
        assert_eq!(missing(&[2, 3], &record(3, None)), [gap(1, 1)]);
        assert_eq!(missing(&[1, 2], &record(4, None)), [gap(3, 4)], "the newest");
        assert_eq!(missing(&[], &record(2, None)), [gap(1, 2)]);
        assert_eq!(missing(&[5, 6], &record(6, Some(5))), [], "before the anchor");
        assert_eq!(missing(&[6], &record(6, Some(5))), [gap(5, 5)], "the anchor's own");
        assert_eq!(missing(&[1, 2, 3], &record(2, None)), [Finding::SetBack { knows: 2, there: 3 }]);
    }
}
