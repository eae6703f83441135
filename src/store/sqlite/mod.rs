//! The record in one SQLite file: the embedded default. Several processes may share the file.
//! It does not know where the file lies, what a message looks like, or the clock (but for the day a migration ran).

mod access;
mod anomalies;
mod audit;
mod condition;
mod datakeys;
mod ddl;
mod encounters;
mod fault;
mod imports;
mod migrations;
mod models;
mod outbox;
mod parts;
mod pool;
mod reads;
mod sql;
mod values;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use rusqlite::{Connection, Transaction};

pub use self::condition::{Condition, condition};
pub use self::ddl::{ddl, migration_names};
pub use self::sql::statements;

use self::fault::Outcome;
use self::pool::Pool;
use super::datakeys::{DataKey, KeyTable, Met, PLAIN, Renaming, Rewording};
use super::rules::may_be_same_admission;
use super::{
    Accuracy, Admitted, AuditQuery, Batch, Begun, Census, Discharged, Expected, Finish, Leased, PartEnd, PartStep, PartTaken,
    PatientQuery, RowSurvey, Step, Store, Stored, Totals,
};
use crate::domain::anomaly::{StayHistory, Survey};
use crate::domain::audit::{ChainHead, Chained, KeptCheckpoint, Purge, TrailRecord, Unchained};
use crate::domain::import::{Import, ImportId, Part, Plan, Reject, Source};
use crate::domain::model::ModelRecord;
use crate::domain::{AuditEvent, AuditRow, Encounter, EncounterId, Facility, PersonName, Phi, Prediction, Reach};
use crate::error::Result;

/// How long a call waits for another process or for a free connection. An import's batches hold the write lock for a fraction of a
/// second each, and the Functions host gives a call 230 seconds.
pub const BUSY_WAIT: Duration = Duration::from_secs(30);

/// Reads that run side by side.
const READERS: usize = 4;

/// The record in one SQLite file.
pub struct Sqlite {
    writer: Arc<Pool>,
    readers: Arc<Pool>,
}

impl Sqlite {
    /// Opens the database at `path`, or makes an empty one, readable by this account alone. [`Store::migrate`] gives it its schema.
    ///
    /// # Errors
    /// Unavailable, if the file cannot be made or opened; invalid, if it is not ours (it is left untouched); conflict, if a newer
    /// program has made it; internal, if it is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_waiting(path, BUSY_WAIT)
    }

    /// [`Sqlite::open`] with another wait than [`BUSY_WAIT`].
    ///
    /// # Errors
    /// As for [`Sqlite::open`].
    pub fn open_waiting(path: impl AsRef<Path>, busy: Duration) -> Result<Self> {
        let path = path.as_ref();
        pool::create(path)?;
        let writer = Pool::new(path, sql::WRITER_PRAGMAS, 1, busy);
        let opened = || -> Outcome<Connection> {
            let connection = pool::connect(path, sql::WRITER_PRAGMAS, busy)?;
            migrations::verify(&connection)?;
            Ok(connection)
        };
        writer.keep(opened().map_err(|fault| fault.at(path))?);
        Ok(Self { writer, readers: Pool::new(path, sql::READER_PRAGMAS, READERS, busy) })
    }

    /// The names of the migrations that have not run, in order.
    ///
    /// # Errors
    /// As for [`Sqlite::open`].
    pub async fn pending(&self) -> Result<Vec<String>> {
        self.read(migrations::pending).await
    }

    async fn read<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        self.readers.run(|connection| work(connection)).await
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn migrate(&self) -> Result<Vec<String>> {
        self.writer.write(migrations::migrate).await
    }

    async fn facilities(&self) -> Result<Vec<Facility>> {
        self.read(encounters::facilities).await
    }

    async fn save_facilities(&self, facilities: &[Facility], audit: &AuditEvent) -> Result<u64> {
        let (facilities, audit) = (facilities.to_vec(), audit.clone());
        self.writer.write(move |transaction| encounters::save_facilities(transaction, &facilities, &audit)).await
    }

    async fn begin_import(&self, id: &ImportId, source: &Source, at: DateTime<Utc>) -> Result<Begun> {
        let (id, source) = (id.clone(), source.clone());
        self.writer.write(move |transaction| imports::begin(transaction, &id, &source, at)).await
    }

    async fn import_batch(&self, batch: &Batch) -> Result<Step> {
        let batch = batch.clone();
        self.writer.write(move |transaction| imports::batch(transaction, &batch)).await
    }

    async fn finish_import(&self, id: &ImportId, attempt: u32, finish: &Finish, audit: &AuditEvent) -> Result<Step> {
        let (id, finish, audit) = (id.clone(), finish.clone(), audit.clone());
        self.writer.write(move |transaction| imports::finish(transaction, &id, attempt, &finish, &audit)).await
    }

    async fn plan_import(&self, id: &ImportId, attempt: u32, plan: &Plan, audit: &AuditEvent) -> Result<Step> {
        let (id, plan, audit) = (id.clone(), plan.clone(), audit.clone());
        self.writer.write(move |transaction| parts::plan(transaction, &id, attempt, &plan, &audit)).await
    }

    async fn take_part(&self, id: &ImportId, part: u32) -> Result<PartTaken> {
        let id = id.clone();
        self.writer.write(move |transaction| parts::take(transaction, &id, part)).await
    }

    async fn finish_part(
        &self,
        id: &ImportId,
        part: &Part,
        end: &PartEnd,
        audit: &AuditEvent,
        closing: &AuditEvent,
    ) -> Result<PartStep> {
        let (id, part, end, audit, closing) = (id.clone(), part.clone(), end.clone(), audit.clone(), closing.clone());
        self.writer.write(move |transaction| parts::finish(transaction, &id, &part, &end, &audit, &closing)).await
    }

    async fn imports(&self, limit: u32) -> Result<Vec<Import>> {
        self.read(move |connection| imports::newest(connection, limit)).await
    }

    async fn import(&self, id: &ImportId) -> Result<Option<Import>> {
        let id = id.clone();
        self.read(move |connection| imports::find(connection, &id)).await
    }

    async fn rejects(&self, id: &ImportId, after: u64, limit: u32) -> Result<Vec<Reject>> {
        let id = id.clone();
        self.read(move |connection| imports::rejects(connection, &id, after, limit)).await
    }

    async fn admit(&self, encounter: &Encounter, prediction: Option<&Prediction>, audit: &AuditEvent) -> Result<Admitted> {
        let (encounter, prediction, audit) = (encounter.clone(), prediction.cloned(), audit.clone());
        let admit = move |transaction: &Transaction<'_>| {
            encounters::admit(transaction, &encounter, prediction.as_ref(), &audit, |_| false).map(Met::decided)
        };
        self.writer.write(admit).await
    }

    async fn discharge(&self, id: EncounterId, on: NaiveDate, reach: &Reach, audit: &AuditEvent) -> Result<Discharged> {
        let (reach, audit) = (reach.clone(), audit.clone());
        self.writer.write(move |transaction| encounters::discharge(transaction, id, on, &reach, &audit)).await
    }

    async fn encounter(&self, id: EncounterId) -> Result<Option<Stored>> {
        self.read(move |connection| encounters::find(connection, id)).await
    }

    async fn encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        self.read(move |connection| encounters::page(connection, after, limit)).await
    }

    async fn totals(&self) -> Result<Totals> {
        self.read(encounters::totals).await
    }

    async fn census(&self, day: NaiveDate, until: NaiveDate) -> Result<Vec<Census>> {
        self.read(move |connection| encounters::census(connection, day, until)).await
    }

    async fn discharged_encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        self.read(move |connection| encounters::discharged(connection, after, limit)).await
    }

    async fn unpredicted_encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        self.read(move |connection| encounters::unpredicted(connection, after, limit)).await
    }

    async fn save_predictions(&self, predictions: &[(EncounterId, Prediction)], audit: &AuditEvent) -> Result<u64> {
        let (predictions, audit) = (predictions.to_vec(), audit.clone());
        self.writer.write(move |transaction| encounters::save_predictions(transaction, &predictions, &audit)).await
    }

    async fn stay_history(&self, today: NaiveDate, weeks_max: u32) -> Result<StayHistory> {
        self.read(move |connection| anomalies::history(connection, today, weeks_max)).await
    }

    async fn replace_survey(&self, survey: &Survey, audit: &AuditEvent) -> Result<()> {
        let (survey, audit) = (survey.clone(), audit.clone());
        self.writer.write(move |transaction| anomalies::replace(transaction, &survey, &audit)).await
    }

    async fn survey(&self, limit: u32) -> Result<Option<Survey>> {
        self.read(move |connection| anomalies::survey(connection, limit)).await
    }

    async fn save_model(&self, model: &ModelRecord, audit: &AuditEvent) -> Result<()> {
        let (model, audit) = (model.clone(), audit.clone());
        self.writer.write(move |transaction| models::save(transaction, &model, &audit)).await
    }

    async fn champion_version(&self) -> Result<Option<String>> {
        self.read(models::champion_version).await
    }

    async fn champion(&self) -> Result<Option<ModelRecord>> {
        self.read(models::champion).await
    }

    async fn models(&self, limit: u32) -> Result<Vec<ModelRecord>> {
        self.read(move |connection| models::newest(connection, limit)).await
    }

    async fn append_audit(&self, event: &AuditEvent) -> Result<()> {
        let event = event.clone();
        self.writer.write(move |transaction| audit::append(transaction, &event)).await
    }

    async fn lease_announcements(&self, lease: &str, now: DateTime<Utc>, until: DateTime<Utc>, limit: u32) -> Result<Leased> {
        // Mostly nothing waits, and whoever only looks holds up nobody's admission.
        if !self.read(outbox::waits).await? {
            return Ok(Leased::Nothing);
        }
        let lease = lease.to_owned();
        self.writer.write(move |transaction| outbox::lease(transaction, &lease, now, until, limit)).await
    }

    async fn publish_announcements(&self, lease: &str, now: DateTime<Utc>) -> Result<()> {
        let lease = lease.to_owned();
        self.writer.write(move |transaction| outbox::publish(transaction, &lease, now)).await
    }

    async fn postpone_announcements(&self, lease: &str, until: DateTime<Utc>, failures: u32, aged: DateTime<Utc>) -> Result<u64> {
        let lease = lease.to_owned();
        self.writer.write(move |transaction| outbox::postpone(transaction, &lease, until, failures, aged)).await
    }

    async fn audit_page(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditRow)>> {
        let query = query.clone();
        self.read(move |connection| audit::page(connection, &query)).await
    }

    async fn audit_heads(&self) -> Result<Vec<ChainHead>> {
        self.read(audit::heads).await
    }

    async fn audit_chain(&self, partition: u32, after: (u64, u64), limit: u32) -> Result<Vec<Chained>> {
        self.read(move |connection| audit::chain(connection, partition, after, limit)).await
    }

    async fn audit_unchained(&self) -> Result<Unchained> {
        self.read(audit::unchained).await
    }

    async fn append_audits(&self, events: &[AuditEvent]) -> Result<()> {
        let events = events.to_vec();
        self.writer.write(move |transaction| events.iter().try_for_each(|event| audit::append(transaction, event))).await
    }

    async fn patients(&self, query: &PatientQuery) -> Result<Vec<Stored>> {
        let query = query.clone();
        self.read(move |connection| reads::patients(connection, &query)).await
    }

    async fn expected_discharges(&self, today: NaiveDate, days: u32) -> Result<Vec<Expected>> {
        self.read(move |connection| reads::expected(connection, today, days)).await
    }

    async fn accuracy(&self, from: NaiveDate, to: NaiveDate) -> Result<Vec<Accuracy>> {
        self.read(move |connection| reads::accuracy(connection, from, to)).await
    }

    async fn newest_predictions(&self, limit: u32) -> Result<Vec<Stored>> {
        self.read(move |connection| reads::newest(connection, limit)).await
    }

    async fn row_survey(&self) -> Result<RowSurvey> {
        self.read(reads::survey).await
    }

    async fn encounters_between(&self, first: EncounterId, last: EncounterId, limit: u32) -> Result<Vec<Encounter>> {
        self.read(move |connection| reads::between(connection, first, last, limit)).await
    }

    async fn audit_record(&self) -> Result<TrailRecord> {
        self.read(audit::record).await
    }

    async fn save_checkpoint(&self, record: &str, checkpoint: &KeptCheckpoint, years: u32, audit: &AuditEvent) -> Result<bool> {
        let (record, checkpoint, audit) = (record.to_owned(), checkpoint.clone(), audit.clone());
        self.writer.write(move |transaction| audit::save_checkpoint(transaction, &record, &checkpoint, years, &audit)).await
    }

    async fn renew_record(&self, from: &str, to: &str, audit: &AuditEvent) -> Result<bool> {
        let (from, to, audit) = (from.to_owned(), to.to_owned(), audit.clone());
        self.writer.write(move |transaction| audit::renew_record(transaction, &from, &to, &audit)).await
    }

    async fn purge_audit(&self, purge: &Purge, audit: &AuditEvent) -> Result<u64> {
        let (purge, audit) = (purge.clone(), audit.clone());
        self.writer.write(move |transaction| audit::purge(transaction, &purge, &audit)).await
    }
}

#[async_trait]
impl KeyTable for Sqlite {
    async fn data_keys(&self) -> Result<Vec<DataKey>> {
        self.read(datakeys::all).await
    }

    async fn admit_in_form(
        &self,
        encounter: &Encounter,
        another: Option<&PersonName>,
        prediction: Option<&Prediction>,
        audit: &AuditEvent,
    ) -> Result<Met> {
        let (encounter, another, prediction, audit) = (encounter.clone(), another.cloned(), prediction.cloned(), audit.clone());
        let admit = move |transaction: &Transaction<'_>| {
            let left_open = |stored: &Encounter| may_be_same_admission(&encounter, stored, another.as_ref());
            encounters::admit(transaction, &encounter, prediction.as_ref(), &audit, left_open)
        };
        self.writer.write(admit).await
    }

    async fn add_data_key(&self, key: &DataKey, after: Option<&str>, audit: Option<&AuditEvent>) -> Result<bool> {
        let (key, after, audit) = (key.clone(), after.map(str::to_owned), audit.cloned());
        self.writer.write(move |transaction| datakeys::add(transaction, &key, after.as_deref(), audit.as_ref())).await
    }

    async fn retire_data_keys(&self, ids: &[String], audit: &AuditEvent) -> Result<u64> {
        let (ids, audit) = (ids.to_vec(), audit.clone());
        if ids.iter().any(|id| id == PLAIN) {
            self.writer.run(|connection| datakeys::rewrite_file(connection)).await?;
        }
        // Nothing is said to be gone that still lies there.
        let busy = self.writer.busy();
        self.writer.run(move |connection| datakeys::empty_log(connection, busy)).await?;
        self.writer.write(move |transaction| datakeys::retire(transaction, &ids, &audit)).await
    }

    async fn rewrap_data_key(&self, key: &DataKey, from: &str, audit: &AuditEvent) -> Result<bool> {
        let (key, from, audit) = (key.clone(), from.to_owned(), audit.clone());
        self.writer.write(move |transaction| datakeys::rewrap(transaction, &key, &from, &audit)).await
    }

    async fn names_not_under(
        &self,
        prefix: &str,
        after: Option<EncounterId>,
        limit: u32,
    ) -> Result<Vec<(EncounterId, PersonName)>> {
        let prefix = prefix.to_owned();
        self.read(move |connection| datakeys::not_under(connection, &prefix, after, limit)).await
    }

    async fn replace_names(&self, renamings: &[Renaming]) -> Result<u64> {
        let renamings = renamings.to_vec();
        self.writer.write(move |transaction| datakeys::replace(transaction, &renamings)).await
    }

    async fn words_not_under(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<(String, Phi<String>)>> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.read(move |connection| access::words_not_under(connection, &prefix, &after, limit)).await
    }

    async fn replace_words(&self, rewordings: &[Rewording]) -> Result<u64> {
        let rewordings = rewordings.to_vec();
        self.writer.write(move |transaction| access::replace_words(transaction, &rewordings)).await
    }
}
