//! The audit trail's proof: is it whole; signed checkpoints against whoever could write it anew from the beginning; and what leaves it when
//! its time is over.

mod archive;
mod checkpoint;
mod purge;

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Months, Utc};
use serde_json::Value;

pub use archive::{ArchiveReport, verify_archive};
pub use checkpoint::{CHECKPOINT_BYTES_MAX, CHECKPOINTS_CONTAINER, OtherRecord, audit_checkpoint, audit_restored};
pub use purge::{Purged, purge_audit};

use self::checkpoint::Evidence;
use super::Hospital;
use super::read::note;
use crate::codec::fhir::audit::audit_event;
use crate::config::AUDIT_YEARS_LEAST;
use crate::domain::alert::EXPORT;
use crate::domain::audit::{Anchor, Breach, ChainCheck, ChainHead, TrailRecord, Unchained};
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::Result;
use crate::store::AuditQuery;

/// Events read at once.
const PAGE_EVENTS: u32 = 5_000;

/// Findings that are told of one chain.
const CHAIN_FINDINGS_MAX: usize = 20;

/// Events with words that are not known, that are told of.
const STRANGE_MAX: usize = 20;

/// What a verification looks at.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Make the hashes of events from this instant on anew; that none is missing is checked for all.
    pub from: Option<DateTime<Utc>>,
    /// Make the hashes of events before this instant anew.
    pub to: Option<DateTime<Utc>>,
    /// Read every checkpoint, and not only some hundreds of many.
    pub all_checkpoints: bool,
    /// The id that the record must have.
    pub record: Option<String>,
    /// Further files with checkpoints, by their names.
    pub files: Vec<(String, Bytes)>,
}

impl Scope {
    fn holds(&self, at: Option<DateTime<Utc>>) -> bool {
        at.is_none_or(|at| self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to))
    }
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrailReport {
    /// The record's id.
    pub record: String,
    /// Events whose hash was made anew and found right.
    pub events: u64,
    /// Chains that were followed.
    pub chains: usize,
    /// Checkpoints that the chains were held against.
    pub checkpoints: usize,
    /// Checkpoints that were signed with another key, and so vouch for nothing.
    pub foreign: usize,
    /// Checkpoints of other records, which vouch for nothing here.
    pub others: Vec<OtherRecord>,
    /// Events from before the chains began, which nothing vouches for.
    pub before: u64,
    /// Where chains go on after events whose time was over.
    pub anchors: Vec<Anchor>,
    /// The first events with words that this program does not know, by their number in the trail, and which words.
    pub strange: Vec<(u64, Vec<&'static str>)>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// With a chain; `None` for events in no chain.
    Chain {
        /// The chain.
        chain: Option<u32>,
        /// What.
        breach: Breach,
        /// The checkpoint that it contradicts.
        by: Option<String>,
    },
    /// With a checkpoint.
    Checkpoint {
        /// Its name.
        name: String,
        /// What.
        what: String,
    },
    /// Checkpoints are gone.
    CheckpointsMissing {
        /// The number of the first.
        from: u64,
        /// The number of the last.
        to: u64,
    },
    /// There are checkpoints that the record does not know of.
    SetBack {
        /// The number of the last that it knows.
        knows: u64,
        /// The number of the last that is there.
        there: u64,
    },
    /// The record is another one than was asked for.
    AnotherRecord {
        /// Its id.
        id: String,
    },
    /// Events were removed before their time was over.
    TooEarly {
        /// The chain.
        chain: u32,
        /// When they were vouched for.
        at: DateTime<Utc>,
    },
    /// A line of an archive is no event.
    Line {
        /// The line, from 1.
        number: u64,
    },
}

impl Finding {
    fn chain(chain: u32, breach: Breach) -> Self {
        Finding::Chain { chain: Some(chain), breach, by: None }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Chain { chain, breach, by } => {
                if let Some(chain) = chain {
                    write!(f, "chain {chain}: ")?;
                }
                match breach {
                    Breach::Altered { seq } => write!(f, "event {seq} was altered, or moved to another place")?,
                    Breach::Missing { number } => write!(f, "events are missing from place {number} of the chain on")?,
                    Breach::Inserted { seq } => write!(f, "event {seq} was put in")?,
                    Breach::Anchor { number } => write!(f, "the anchor at place {number} was altered or put in")?,
                    Breach::Rewritten { number } => {
                        write!(f, "the chain was made anew: place {number} contradicts what was vouched for")?;
                    }
                }
                by.as_ref().map_or(Ok(()), |by| write!(f, " (checkpoint {by})"))
            }
            Finding::Checkpoint { name, what } => write!(f, "checkpoint {name}: {what}"),
            Finding::CheckpointsMissing { from, to } if from == to => write!(f, "checkpoint {from} of this record is missing"),
            Finding::CheckpointsMissing { from, to } => write!(f, "checkpoints {from} to {to} of this record are missing"),
            Finding::SetBack { knows, there } => write!(
                f,
                "the record was set back: it knows {knows} checkpoints of its own, and there are {there}; if a backup was restored, and for no \
                 other reason, run `hdai audit restored`"
            ),
            Finding::AnotherRecord { id } => write!(f, "this is another record: its id is {id}"),
            Finding::TooEarly { chain, at } => {
                write!(f, "chain {chain}: events were removed that were there on {}: before their time", at.format("%Y-%m-%d"))
            }
            Finding::Line { number } => write!(f, "line {number} of the archive is no event: it was altered or put in"),
        }
    }
}

/// Follows every chain from its beginning or its anchor, makes the hash of each event of the scope anew, and holds the chains against the signed
/// checkpoints, which must be genuine, complete and in line with each other. The verification itself is the newest event afterwards.
///
/// # Errors
/// The caller may not read the trail, or the record or the files are away. What is wrong with any of them is a finding.
pub async fn verify_audit(caller: &Caller, hospital: &Hospital, scope: &Scope, now: DateTime<Utc>) -> Result<TrailReport> {
    hospital.allow(caller, Action::ReadAudit, now).await?;
    let before = hospital.store.audit_record().await?;
    let files = checkpoint::beside(hospital, &before, scope.all_checkpoints).await?;
    let record = hospital.store.audit_record().await?;
    let mut evidence = checkpoint::judge(&hospital.receipt_key, &files, &scope.files, (&before, &record));
    let mut report = TrailReport {
        record: record.id.clone(),
        checkpoints: evidence.of(&record.id).count(),
        foreign: evidence.foreign,
        others: std::mem::take(&mut evidence.others),
        anchors: record.anchors.clone(),
        findings: std::mem::take(&mut evidence.findings),
        ..TrailReport::default()
    };
    if scope.record.as_ref().is_some_and(|id| *id != record.id) {
        report.findings.push(Finding::AnotherRecord { id: record.id.clone() });
    }
    report.findings.extend(anchored(&record, &evidence, now));
    for head in heads(hospital, &record, &evidence).await? {
        report.chains += 1;
        follow(hospital, scope, &head, (&record, &evidence), &mut report).await?;
    }
    let Unchained { before, first_since, .. } = hospital.store.audit_unchained().await?;
    report.before = before;
    let put_in = first_since.map(|seq| Finding::Chain { chain: None, breach: Breach::Inserted { seq }, by: None });
    report.findings.extend(put_in);
    let outcome = if report.findings.is_empty() { Outcome::Success } else { Outcome::Failure };
    let event = AuditEvent::new(caller, Action::ReadAudit, outcome, now).detail("verified");
    match hospital.store.append_audit(&event).await {
        // A trail that was broken may take no event any more, and what was found must be told all the same.
        Err(error) if !report.findings.is_empty() => tracing::error!(%error, "the verification could not be audited"),
        noted => noted?,
    }
    Ok(report)
}

/// Is each anchor what a signed checkpoint says, and was its time over?
fn anchored(record: &TrailRecord, evidence: &Evidence, now: DateTime<Utc>) -> Vec<Finding> {
    let latest = now.checked_sub_months(Months::new(12 * AUDIT_YEARS_LEAST)).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let wrong = |anchor: &Anchor| {
        let Some(found) = evidence.genuine.iter().find(|one| one.name == anchor.checkpoint) else {
            let what = format!("the anchor of chain {} names it, and it is missing or not genuine", anchor.partition);
            return Some(Finding::Checkpoint { name: anchor.checkpoint.clone(), what });
        };
        let says = found.head(anchor.partition).is_some_and(|head| head.number == anchor.number && head.hash == anchor.hash);
        if !says {
            let breach = Breach::Anchor { number: anchor.number };
            return Some(Finding::Chain { chain: Some(anchor.partition), breach, by: Some(found.name.clone()) });
        }
        (found.at > latest).then_some(Finding::TooEarly { chain: anchor.partition, at: found.at })
    };
    record.anchors.iter().filter_map(wrong).collect()
}

/// Follows one chain to its end.
async fn follow(
    hospital: &Hospital,
    scope: &Scope,
    head: &ChainHead,
    (record, evidence): (&TrailRecord, &Evidence),
    report: &mut TrailReport,
) -> Result<()> {
    let chain = head.partition;
    let vouched = || evidence.of(&record.id).filter_map(move |one| Some((one, one.head(chain)?)));
    let mut all: Vec<_> = vouched().map(|(_, head)| (head.number, head.hash.clone())).collect();
    all.push((head.number, head.hash.clone()));
    let mut check = ChainCheck::new(chain, all);
    let mut breaches = Vec::new();
    if let Some(anchor) = record.anchors.iter().find(|anchor| anchor.partition == chain) {
        breaches.extend(check.begin_at(anchor).err());
    }
    let mut after = (0, 0);
    loop {
        let page = hospital.store.audit_chain(chain, after, PAGE_EVENTS).await?;
        let Some(last) = page.last() else { break };
        after = (last.number, last.seq);
        for event in &page {
            let recompute = scope.holds(event.row.at);
            match check.follow(event, recompute) {
                Ok(()) => report.events += u64::from(recompute),
                Err(breach) => breaches.push(breach),
            }
            let strange = event.row.strange();
            if !strange.is_empty() && report.strange.len() < STRANGE_MAX {
                report.strange.push((event.seq, strange));
            }
        }
        breaches.truncate(CHAIN_FINDINGS_MAX);
    }
    breaches.extend(check.end(newest(hospital, chain).await?).err());
    let by = |breach: &Breach| match breach {
        Breach::Rewritten { number } | Breach::Anchor { number } => vouched()
            .find(|(_, vouched)| vouched.number == *number && (*number != head.number || vouched.hash != head.hash))
            .map(|(one, _)| one.name.clone()),
        _ => None,
    };
    report.findings.extend(breaches.into_iter().map(|breach| Finding::Chain { chain: Some(chain), by: by(&breach), breach }));
    Ok(())
}

/// The trail grows while it is read: a chain is at least as long as its head said before, and at most as long as it says afterwards.
async fn newest(hospital: &Hospital, partition: u32) -> Result<u64> {
    let heads = hospital.store.audit_heads().await?;
    Ok(heads.iter().find(|head| head.partition == partition).map_or(0, |head| head.number))
}

/// The ends as the record has them, and an empty one for each chain that only a checkpoint or an anchor knows.
async fn heads(hospital: &Hospital, record: &TrailRecord, evidence: &Evidence) -> Result<Vec<ChainHead>> {
    let mut heads = hospital.store.audit_heads().await?;
    let vouched = evidence.of(&record.id).flat_map(|one| &one.heads).map(|head| head.partition);
    for partition in vouched.chain(record.anchors.iter().map(|anchor| anchor.partition)) {
        if heads.iter().all(|head| head.partition != partition) {
            heads.push(ChainHead { partition, number: 0, hash: String::new() });
        }
    }
    Ok(heads)
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
/// The caller may not read the trail, or the record is away.
pub async fn exported_audit(
    caller: &Caller,
    hospital: &Hospital,
    query: &AuditQuery,
    now: DateTime<Utc>,
) -> Result<Vec<(u64, Value)>> {
    hospital.allow(caller, Action::ReadAudit, now).await?;
    let events = hospital.store.audit_page(query).await?;
    Ok(events.into_iter().map(|(seq, row)| (seq, audit_event(seq, &row))).collect())
}
