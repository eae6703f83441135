//! Seam 1, the record: every fact the hospital keeps. Each method is one atomic fact; normal outcomes are values, not errors.
//! It does not know files, messages, models or HTTP, and no SQL type crosses it.

pub mod access;
pub mod azure_sql;
mod columns;
pub mod datakeys;
pub mod legacy;
mod reads;
mod rules;
pub mod sealed;
pub mod sqlite;
pub mod watched;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};

pub use self::reads::{Accuracy, BUCKET_IDS, Due, Expected, PatientQuery, RowCell, RowSurvey};

use crate::domain::anomaly::{StayHistory, Survey};
use crate::domain::audit::{ChainHead, Chained, KeptCheckpoint, Purge, TrailRecord, Unchained};
use crate::domain::import::{Counts, Import, ImportId, LineSpan, Part, Plan, Reject, Source};
use crate::domain::model::ModelRecord;
use crate::domain::{Action, Announcement, AuditEvent, AuditRow, Encounter, EncounterId, Facility, Outcome, Prediction, Reach};
use crate::error::Result;

use self::access::Access;

/// What [`Store::begin_import`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Work on it from the checkpoint on, under the attempt in the entry.
    Work(Import),
    /// It is planned in parts, and those of these numbers are not done: see that each is worked on.
    InParts(Import, Vec<u32>),
    /// It is done already: nothing to do.
    Over(Import),
}

/// What [`Store::take_part`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartTaken {
    /// Work on it from its checkpoint on, under its attempt.
    Work(Box<Import>, Part),
    /// All its rows are committed; others of the import's parts are not.
    Before(Import),
    /// The import is over, or was replaced: nothing to do.
    Over(Import),
    /// The ledger knows no such import or part.
    Unknown,
}

/// How work on a part ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartEnd {
    /// Every row of it is stored or rejected.
    Done,
    /// The file cannot be read any more: the whole import fails.
    Failed {
        /// Why, naming no value.
        reason: String,
    },
}

/// What became of a part's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartStep {
    /// Committed; other parts are not done.
    Committed,
    /// Committed, and the import is over with it.
    Closed,
    /// A newer delivery of the same part has taken over, or the import is over: stop, it is in good hands.
    Superseded,
}

/// A batch of consecutive data rows of one file, or of one part of it.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The import.
    pub import: ImportId,
    /// The number of the part; `None`, if the file is imported whole.
    pub part: Option<u32>,
    /// The attempt that [`Store::begin_import`] answered; for a part, that of [`Store::take_part`].
    pub attempt: u32,
    /// Data rows of the file (or the part) before this batch; must equal the ledger's checkpoint (or the part's).
    pub after: u64,
    /// The rows that passed, in file order.
    pub encounters: Vec<Encounter>,
    /// The line of the file that each of them starts on, for a reject that only the store can see.
    pub lines: Vec<u64>,
    /// The rows that did not. `encounters.len()` plus the rejected rows is the number of data rows of the batch.
    pub rejects: Vec<Reject>,
    /// Rejected data rows (a row may break several rules and so leave several rejects).
    pub rejected_rows: u64,
}

/// Rejects kept of one import, the first ones; more are counted and not kept. Whoever has this many has one fault, not ten thousand.
pub const REJECTS_KEPT_MAX: u64 = 10_000;

/// What became of a batch or of a finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Committed; for a batch, its counts; for a plan or a finish, those of the whole import.
    Committed(Counts),
    /// A newer delivery of the same file has taken over, or the import is over: stop, it is in good hands.
    Superseded,
    /// Other imports' batches had their turn all the time, and nothing of this one was stored: give it again later. Of a batch alone.
    Busy,
}

/// How an import ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// Every row is stored or rejected.
    Done {
        /// SHA-256 of the file, hex.
        sha256: String,
        /// Headers that the schema does not know.
        extra_columns: Vec<String>,
        /// Where the data rows lie.
        lines: Option<LineSpan>,
    },
    /// The file cannot be read.
    Failed {
        /// Why, naming no value.
        reason: String,
    },
}

/// An encounter and the prediction it was admitted with.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The encounter.
    pub encounter: Encounter,
    /// The prediction, if the model gave one.
    pub prediction: Option<Prediction>,
}

/// What became of an admission.
#[derive(Debug, Clone, PartialEq)]
pub enum Admitted {
    /// New.
    Now,
    /// The same admission was stored before; here it is.
    Before(Box<Stored>),
    /// The id is taken by another encounter.
    Conflict,
}

/// What became of a discharge.
#[derive(Debug, Clone, PartialEq)]
pub enum Discharged {
    /// Now.
    Now(Box<Stored>),
    /// It was discharged on the same day before.
    Before(Box<Stored>),
    /// It was discharged on another day.
    Conflict,
    /// The day lies before the admission.
    BeforeAdmission,
    /// The stay would be longer than is believed, [`crate::domain::encounter::STAY_DAYS_MAX`].
    TooLong,
    /// No encounter has this id.
    Unknown,
    /// The encounter is of a facility beyond the caller's reach, who is to be told nothing of it.
    OutOfReach,
}

/// How many encounters the record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// All.
    pub encounters: u64,
    /// Those with a discharge date.
    pub discharged: u64,
    /// Those that were admitted over HTTP (they carry no import id).
    pub admitted: u64,
}

/// A facility's beds and patients on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// The facility.
    pub facility: Facility,
    /// Patients admitted and not discharged.
    pub occupied: u64,
    /// Of these, expected to leave within the window asked for.
    pub expected_discharges: u64,
    /// Discharged on that day.
    pub discharged_today: u64,
}

/// Which events of the audit trail are asked for, newest first. The default is all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only those with a smaller number in the trail: the last one of the page before.
    pub before: Option<u64>,
    /// Only those about this encounter.
    pub encounter: Option<EncounterId>,
    /// Only those of this caller, by its id.
    pub caller: Option<String>,
    /// Only those of this action.
    pub action: Option<Action>,
    /// Only those that ended like this.
    pub outcome: Option<Outcome>,
    /// Only those from this instant on.
    pub from: Option<DateTime<Utc>>,
    /// Only those before this instant.
    pub to: Option<DateTime<Utc>>,
    /// How many, at most.
    pub limit: u32,
}

impl AuditQuery {
    /// The newest `limit` events.
    pub fn newest(limit: u32) -> Self {
        Self { before: None, encounter: None, caller: None, action: None, outcome: None, from: None, to: None, limit }
    }
}

/// What [`Store::lease_announcements`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leased {
    /// Nothing waits.
    Nothing,
    /// Another lease runs, or a pause lasts, until then.
    Held(DateTime<Utc>),
    /// They are the lease's until it ends.
    Taken {
        /// Oldest first; at least one.
        announcements: Vec<Announcement>,
        /// How many attempts in a row have failed.
        failures: u32,
    },
}

/// The record. Instants are kept to the microsecond, days are those of the years 1 to 9999.
#[async_trait]
pub trait Store: Access + Send + Sync {
    /// Brings the schema up to date; answers the migrations that ran, by name. Safe with several processes at once.
    async fn migrate(&self) -> Result<Vec<String>>;

    /// The facilities, by id.
    async fn facilities(&self) -> Result<Vec<Facility>>;

    /// Adds the facilities, and gives those that are there their new name and beds, with the audit event, in one transaction. None goes:
    /// encounters refer to them. Answers how many changed.
    async fn save_facilities(&self, facilities: &[Facility], audit: &AuditEvent) -> Result<u64>;

    /// Opens or takes over the ledger entry of a file; a new attempt supersedes an older one of the same file, and goes on with one that
    /// failed (the reason may be cured). Entries of older versions of the file that still run are closed as failed.
    async fn begin_import(&self, id: &ImportId, source: &Source, at: DateTime<Utc>) -> Result<Begun>;

    /// Upserts a batch and moves the checkpoint, in one transaction. A row equal to what is stored changes nothing; a row whose id
    /// belongs to another encounter, one that was admitted, becomes a reject.
    async fn import_batch(&self, batch: &Batch) -> Result<Step>;

    /// Closes the ledger entry and leaves the audit event, in one transaction. As with every fact whose audit event carries an
    /// announcement, that is kept in the same transaction, if the fact became one now.
    async fn finish_import(&self, id: &ImportId, attempt: u32, finish: &Finish, audit: &AuditEvent) -> Result<Step>;

    /// Keeps the parts that a file is imported in and what is known of the whole file, with the audit event, in one transaction; only if
    /// nothing of the file was committed before. Planned again by the same attempt changes nothing.
    async fn plan_import(&self, id: &ImportId, attempt: u32, plan: &Plan, audit: &AuditEvent) -> Result<Step>;

    /// Takes over a part; a new attempt supersedes an older one of the same part, and touches no other.
    async fn take_part(&self, id: &ImportId, part: u32) -> Result<PartTaken>;

    /// Ends a part with its audit event, and with the last part (or a failed one) the import, with the event `closing`, in one
    /// transaction: whatever parts end at once, one of them closes the import. A part is done when its checkpoint is at its last row.
    async fn finish_part(
        &self,
        id: &ImportId,
        part: &Part,
        end: &PartEnd,
        audit: &AuditEvent,
        closing: &AuditEvent,
    ) -> Result<PartStep>;

    /// The newest imports, newest first.
    async fn imports(&self, limit: u32) -> Result<Vec<Import>>;

    /// One import.
    async fn import(&self, id: &ImportId) -> Result<Option<Import>>;

    /// An import's rejects in line order, after `after` of them.
    async fn rejects(&self, id: &ImportId, after: u64, limit: u32) -> Result<Vec<Reject>>;

    /// Stores an admission with its prediction and its audit event, in one transaction. The audit event is written whatever the
    /// outcome; on a conflict its outcome becomes a failure.
    async fn admit(&self, encounter: &Encounter, prediction: Option<&Prediction>, audit: &AuditEvent) -> Result<Admitted>;

    /// Discharges an encounter, if it is open and of a facility within `reach`, with its audit event, in one transaction (as for
    /// [`Store::admit`]; out of reach its outcome becomes a refusal).
    async fn discharge(&self, id: EncounterId, on: NaiveDate, reach: &Reach, audit: &AuditEvent) -> Result<Discharged>;

    /// One encounter.
    async fn encounter(&self, id: EncounterId) -> Result<Option<Stored>>;

    /// Encounters by id after `after`, with names: for a copy of the record, and its check.
    async fn encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>>;

    /// How many encounters there are.
    async fn totals(&self) -> Result<Totals>;

    /// Every facility's census on `day`, with discharges expected until `until`.
    async fn census(&self, day: NaiveDate, until: NaiveDate) -> Result<Vec<Census>>;

    /// Discharged encounters by id after `after`, without names: what a model learns from.
    async fn discharged_encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>>;

    /// Open encounters without a prediction by id after `after`, without names.
    async fn unpredicted_encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>>;

    /// Gives encounters that have none a prediction, with the audit event, in one transaction; answers how many took it.
    async fn save_predictions(&self, predictions: &[(EncounterId, Prediction)], audit: &AuditEvent) -> Result<u64>;

    /// What control charts of the stays are drawn from: the newest `weeks_max` weeks that saw an admission or a discharge, up to `today`.
    async fn stay_history(&self, today: NaiveDate, weeks_max: u32) -> Result<StayHistory>;

    /// Puts a survey of the stays in the place of the one before, with its audit event, in one transaction.
    async fn replace_survey(&self, survey: &Survey, audit: &AuditEvent) -> Result<()>;

    /// The survey, with at most `limit` findings, latest first; `None` before the first survey.
    async fn survey(&self, limit: u32) -> Result<Option<Survey>>;

    /// Keeps a model and its audit event, in one transaction. If it is promoted it is the champion from now on.
    async fn save_model(&self, model: &ModelRecord, audit: &AuditEvent) -> Result<()>;

    /// The version of the champion.
    async fn champion_version(&self) -> Result<Option<String>>;

    /// The champion.
    async fn champion(&self) -> Result<Option<ModelRecord>>;

    /// The newest models, newest first, without their bytes.
    async fn models(&self, limit: u32) -> Result<Vec<ModelRecord>>;

    /// Adds an event that belongs to no other fact (a refusal, a read, a failure).
    async fn append_audit(&self, event: &AuditEvent) -> Result<()>;

    /// Leases the oldest announcements, at most `limit`, until `until`. One lease runs at a time, whichever process holds it, so that they
    /// are published in order; one that was not ended runs out. `lease` is an id of the caller's, used once.
    async fn lease_announcements(&self, lease: &str, now: DateTime<Utc>, until: DateTime<Utc>, limit: u32) -> Result<Leased>;

    /// Ends a lease whose announcements were accepted: they go.
    async fn publish_announcements(&self, lease: &str, now: DateTime<Utc>) -> Result<()>;

    /// Ends a lease whose announcements were not accepted: they stay, and no lease begins before `until`. `failures` counts the attempts in
    /// a row that failed, this one too. Those from before `aged` go all the same; answers how many.
    async fn postpone_announcements(&self, lease: &str, until: DateTime<Utc>, failures: u32, aged: DateTime<Utc>) -> Result<u64>;

    /// Audit events with their numbers in the trail, newest first; their words alone, which this program may not know.
    async fn audit_page(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditRow)>>;

    /// The newest audit events, newest first, without those that this program does not understand.
    async fn audit_events(&self, limit: u32) -> Result<Vec<AuditEvent>> {
        Ok(self.audit_page(&AuditQuery::newest(limit)).await?.iter().filter_map(|(_, row)| row.event()).collect())
    }

    /// The ends of the chains that the audit trail is made of, by partition.
    async fn audit_heads(&self) -> Result<Vec<ChainHead>>;

    /// Events of one chain in its order, after the one with this number in the chain and this number in the trail.
    async fn audit_chain(&self, partition: u32, after: (u64, u64), limit: u32) -> Result<Vec<Chained>>;

    /// How many events stand in no chain.
    async fn audit_unchained(&self) -> Result<Unchained>;

    /// Adds events that belong to no other fact, in their order and in one transaction: all of them or none.
    async fn append_audits(&self, events: &[AuditEvent]) -> Result<()>;

    /// The patients that `query` asks for, with names, newest encounter first.
    async fn patients(&self, query: &PatientQuery) -> Result<Vec<Stored>>;

    /// Open encounters admitted up to `today`, by facility and by when they are predicted to end, up to `days` ahead.
    async fn expected_discharges(&self, today: NaiveDate, days: u32) -> Result<Vec<Expected>>;

    /// How far the predictions were off of the stays that ended from `from` to `to`, by facility.
    async fn accuracy(&self, from: NaiveDate, to: NaiveDate) -> Result<Vec<Accuracy>>;

    /// Encounters with a prediction, latest admission first, without names.
    async fn newest_predictions(&self, limit: u32) -> Result<Vec<Stored>>;

    /// How many encounters share a year of admission, a facility and a gender, and where their ids lie.
    async fn row_survey(&self) -> Result<RowSurvey>;

    /// Encounters with the ids from `first` to `last`, by id, without names.
    async fn encounters_between(&self, first: EncounterId, last: EncounterId, limit: u32) -> Result<Vec<Encounter>>;

    /// What the record says of its trail: whose it is, how long events are kept, its anchors and its newest checkpoint.
    async fn audit_record(&self) -> Result<TrailRecord>;

    /// Remembers `checkpoint` of the record with the id `record` in the place of the one numbered before it, with its audit event, in one
    /// transaction; the record keeps events for at least `years` from then on. `false`, and nothing is done: another one came between, or the
    /// record's id is another.
    async fn save_checkpoint(&self, record: &str, checkpoint: &KeptCheckpoint, years: u32, audit: &AuditEvent) -> Result<bool>;

    /// Gives the record the id `to` in the place of `from`, its checkpoints counted anew, with the audit event, in one transaction. `false`,
    /// and nothing is done: its id is another.
    async fn renew_record(&self, from: &str, to: &str, audit: &AuditEvent) -> Result<bool>;

    /// Removes the beginning of a chain up to the anchor, which stays, with the audit event, in one transaction; answers how many events.
    /// The second time nothing is done. An error, and nothing is done, if any is younger than the retention by the database's clock.
    async fn purge_audit(&self, purge: &Purge, audit: &AuditEvent) -> Result<u64>;
}
