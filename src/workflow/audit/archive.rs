//! Audit events outside the record: one a line, between a line that says where their chains go on from and a signed checkpoint that says
//! where they end. So a file can be verified by itself, with the key alone.

use std::collections::BTreeMap;
use std::io::{BufRead, Read as _};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::Finding;
use super::checkpoint::{self, Checkpoint};
use crate::domain::AuditRow;
use crate::domain::audit::{Anchor, Breach, ChainCheck, Chained};
use crate::error::{Error, Result};
use crate::workflow::SigningKey;

/// Longest line that is read, in bytes.
const LINE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Findings that are kept of one archive.
const FINDINGS_MAX: usize = 100;

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveReport {
    /// The record that the events are of.
    pub record: String,
    /// When the checkpoint at its end was made.
    pub at: DateTime<Utc>,
    /// Events.
    pub events: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// The first line: each chain's events come after its anchor.
pub(super) fn head(record: &str, anchors: &[Anchor]) -> Value {
    let after = anchors.iter().map(|anchor| json!({ "chain": anchor.partition, "events": anchor.number, "hash": anchor.hash }));
    json!({ "auditArchive": 1, "record": record, "after": after.collect::<Vec<_>>() })
}

/// The line of an event.
pub(super) fn event(partition: u32, event: &Chained) -> Value {
    let AuditRow { at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail } = &event.row;
    json!({
        "chain": partition, "place": event.number, "seq": event.seq, "hash": event.hash,
        "at": at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true)),
        "caller": caller, "roles": roles, "proof": proof, "correlation": correlation, "origin": origin,
        "action": action, "outcome": outcome, "encounter": encounter, "detail": detail,
    })
}

/// The last line.
pub(super) fn tail(checkpoint: &Checkpoint) -> Value {
    json!({ "checkpoint": checkpoint.signed })
}

/// Follows every chain of an archive from where it says to its signed checkpoint, which must be signed with `key`.
///
/// # Errors
/// It cannot be read, is no archive, or its checkpoint is not genuine.
pub fn verify_archive(key: &SigningKey, mut archive: impl BufRead) -> Result<ArchiveReport> {
    let no_archive = || Error::invalid("this is no archive of the audit trail");
    let first = line(&mut archive)?.as_deref().and_then(read).ok_or_else(no_archive)?;
    let record = first["record"].as_str().filter(|_| first["auditArchive"] == 1).ok_or_else(no_archive)?.to_owned();
    let mut checks = BTreeMap::new();
    for after in first["after"].as_array().ok_or_else(no_archive)? {
        let anchor = anchor(after).ok_or_else(no_archive)?;
        let mut check = ChainCheck::new(anchor.partition, Vec::new());
        // Nothing is vouched for yet, so nothing contradicts.
        let _ = check.begin_at(&anchor);
        checks.insert(anchor.partition, check);
    }
    let (mut events, mut number, mut findings) = (0, 1_u64, Vec::new());
    let end = loop {
        number += 1;
        let Some(text) = line(&mut archive)? else { break None };
        let Some(value) = read(&text) else {
            findings.push(Finding::Line { number });
            continue;
        };
        if !value["checkpoint"].is_null() {
            break Some(checkpoint::open(key, "its checkpoint", value["checkpoint"].to_string().as_bytes())?);
        }
        let Some((partition, chained)) = chained(&value) else {
            findings.push(Finding::Line { number });
            continue;
        };
        events += 1;
        let check = checks.entry(partition).or_insert_with(|| ChainCheck::new(partition, Vec::new()));
        findings.extend(check.follow(&chained, true).err().map(|breach| Finding::chain(partition, breach)));
    };
    let end = end.ok_or_else(|| Error::invalid("the archive was cut off: the signed checkpoint at its end is missing"))?;
    if line(&mut archive)?.is_some() {
        findings.push(Finding::Line { number: number + 1 });
    }
    if end.record.as_deref() != Some(record.as_str()) {
        return Err(Error::invalid("the archive is of one record and its checkpoint of another"));
    }
    findings.extend(ends(&checks, &end));
    findings.truncate(FINDINGS_MAX);
    Ok(ArchiveReport { record, at: end.at, events, findings })
}

/// Where a chain does not end as the checkpoint says.
fn ends(checks: &BTreeMap<u32, ChainCheck>, end: &Checkpoint) -> Vec<Finding> {
    let breach = |partition: u32, check: Option<&ChainCheck>| {
        let (number, hash) = check.map_or((0, ""), ChainCheck::reached);
        let vouched = end.head(partition).map_or((0, ""), |head| (head.number, head.hash.as_str()));
        match number.cmp(&vouched.0) {
            std::cmp::Ordering::Less => Some(Breach::Missing { number: number + 1 }),
            std::cmp::Ordering::Greater => Some(Breach::Rewritten { number }),
            std::cmp::Ordering::Equal => (hash != vouched.1).then_some(Breach::Rewritten { number }),
        }
    };
    let mut chains: Vec<u32> = checks.keys().copied().chain(end.heads.iter().map(|head| head.partition)).collect();
    chains.sort_unstable();
    chains.dedup();
    let found = |chain| breach(chain, checks.get(&chain)).map(|breach| Finding::chain(chain, breach));
    chains.into_iter().filter_map(found).collect()
}

fn line(archive: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let unread = |cause| Error::unavailable("the archive cannot be read").caused_by(cause);
    let bytes = archive.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text).map_err(unread)?;
    Ok((bytes > 0).then_some(text))
}

fn read(text: &[u8]) -> Option<Value> {
    serde_json::from_slice(text).ok()
}

fn anchor(value: &Value) -> Option<Anchor> {
    let partition = u32::try_from(value["chain"].as_u64()?).ok()?;
    let hash = value["hash"].as_str()?.to_owned();
    Some(Anchor { partition, number: value["events"].as_u64()?, hash, checkpoint: String::new() })
}

fn chained(value: &Value) -> Option<(u32, Chained)> {
    let word = |name: &str| value[name].as_str().map(str::to_owned);
    let row = AuditRow {
        at: Some(DateTime::parse_from_rfc3339(value["at"].as_str()?).ok()?.to_utc()),
        caller: word("caller")?,
        roles: word("roles")?,
        proof: word("proof")?,
        correlation: word("correlation")?,
        origin: word("origin")?,
        action: word("action")?,
        outcome: word("outcome")?,
        encounter: value["encounter"].as_i64(),
        detail: word("detail")?,
    };
    let chained = Chained { seq: value["seq"].as_u64()?, number: value["place"].as_u64()?, hash: word("hash")?, row };
    Some((u32::try_from(value["chain"].as_u64()?).ok()?, chained))
}
