//! Seam 1, the record: every fact the hospital keeps. Each method is one atomic fact; normal outcomes are values, not errors.
//! It does not know files, messages, models or HTTP, and no SQL type crosses it.

pub mod azure_sql;
mod columns;
pub mod datakeys;
pub mod legacy;
mod rules;
pub mod sealed;
pub mod sqlite;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};

use crate::domain::anomaly::{StayHistory, Survey};
use crate::domain::import::{Counts, Import, ImportId, Reject, Source};
use crate::domain::model::ModelRecord;
use crate::domain::{AuditEvent, Encounter, EncounterId, Facility, Prediction};
use crate::error::Result;

/// What [`Store::begin_import`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Work on it from the checkpoint on, under the attempt in the entry.
    Work(Import),
    /// It is done or failed already: nothing to do.
    Over(Import),
}

/// A batch of consecutive data rows of one file.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The import.
    pub import: ImportId,
    /// The attempt that [`Store::begin_import`] answered.
    pub attempt: u32,
    /// Data rows of the file before this batch; must equal the ledger's checkpoint.
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
    /// Committed; for a batch, its counts; for a finish, those of the whole import.
    Committed(Counts),
    /// A newer delivery of the same file has taken over, or the import is over: stop, it is in good hands.
    Superseded,
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

/// The record. Instants are kept to the microsecond, days are those of the years 1 to 9999.
#[async_trait]
pub trait Store: Send + Sync {
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

    /// Closes the ledger entry and leaves the audit event, in one transaction.
    async fn finish_import(&self, id: &ImportId, attempt: u32, finish: &Finish, audit: &AuditEvent) -> Result<Step>;

    /// The newest imports, newest first.
    async fn imports(&self, limit: u32) -> Result<Vec<Import>>;

    /// One import.
    async fn import(&self, id: &ImportId) -> Result<Option<Import>>;

    /// An import's rejects in line order, after `after` of them.
    async fn rejects(&self, id: &ImportId, after: u64, limit: u32) -> Result<Vec<Reject>>;

    /// Stores an admission with its prediction and its audit event, in one transaction. The audit event is written whatever the
    /// outcome; on a conflict its outcome becomes a failure.
    async fn admit(&self, encounter: &Encounter, prediction: Option<&Prediction>, audit: &AuditEvent) -> Result<Admitted>;

    /// Discharges an encounter, if it is open, with its audit event, in one transaction (as for [`Store::admit`]).
    async fn discharge(&self, id: EncounterId, on: NaiveDate, audit: &AuditEvent) -> Result<Discharged>;

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

    /// The newest audit events, newest first.
    async fn audit_events(&self, limit: u32) -> Result<Vec<AuditEvent>>;
}
