//! The record in an Azure SQL database (or SQL Server): what a hospital runs. Several instances share it.
//! It does not know who the caller is, what a message or a file looks like, or the clock (but for the day a migration ran).

mod anomalies;
mod audit;
mod clock;
mod connect;
mod connecting;
mod connection;
mod datakeys;
mod ddl;
mod encounters;
mod fault;
mod ground;
mod imports;
pub(in crate::store) mod legacy;
mod migrations;
mod models;
mod options;
mod outbox;
mod parts;
mod pool;
mod probe;
mod reads;
mod retry;
mod roles;

mod sql;
#[cfg(test)]
mod stub;
mod values;

use std::time::Duration;

use async_trait::async_trait;
use azure_core::http::ClientOptions;
use chrono::{DateTime, NaiveDate, Utc};

pub use self::clock::server_time;
pub use self::ground::{GROUND_PREFIX, Ground, PLAIN};
pub use self::migrations::script;
pub use self::options::{Login, Options};
pub use self::probe::{Probe, probe};
pub use self::roles::roles;
pub use self::sql::statements;

use self::connecting::{Connecting, Rotating};
use self::pool::Pool;
use self::sql::Statements;
use super::columns::{encounter_columns, nameless_columns};
use super::datakeys::{DataKey, KeyTable, Met, Renaming, Rewording};
use super::rules::may_be_same_admission;
use super::{
    Accuracy, Admitted, AuditQuery, Batch, Begun, Census, Discharged, Expected, Finish, Leased, PartEnd, PartStep, PartTaken,
    PatientQuery, RowSurvey, Step, Store, Stored, Totals,
};
use crate::azure::cached_secret::CachedSecret;
use crate::azure::identity::{self, Identity};
use crate::config::{SqlConnection, SqlSettings};
use crate::domain::anomaly::{StayHistory, Survey};
use crate::domain::audit::{ChainHead, Chained, KeptCheckpoint, Purge, TrailRecord, Unchained};
use crate::domain::import::{Import, ImportId, Part, Plan, Reject, Source};
use crate::domain::model::ModelRecord;
use crate::domain::{AuditEvent, AuditRow, Encounter, EncounterId, Facility, PersonName, Phi, Prediction, Reach};
use crate::error::Result;

/// The record in an Azure SQL database.
pub struct AzureSql {
    pool: Pool,
    sql: Statements,
    schema: String,
    /// Longest wait of a batch for its turn.
    turn: Duration,
}

/// Does the work in one attempt after the other, until one is committed or what went wrong is final, and returns the answer.
macro_rules! attempt {
    ($attempts:expr, |$session:ident| $work:expr) => {{
        let mut attempts = $attempts;
        loop {
            let mut session = attempts.session().await?;
            let outcome = {
                let $session = &mut session;
                $work.await
            };
            if let Some(answer) = attempts.settle(session, outcome).await? {
                return Ok(answer);
            }
        }
    }};
}

// Below the macro that it uses.
mod access;

impl AzureSql {
    /// Reads the connection string, from the Key Vault if it lies there. It connects when it is first asked for something.
    ///
    /// # Errors
    /// Invalid, if the connection string cannot be used; unavailable, if the Key Vault does not answer.
    pub async fn open(settings: &SqlSettings, identity: &Identity) -> Result<Self> {
        let pool = match &settings.connection {
            SqlConnection::Text(_) => Pool::new(Options::resolve(settings, identity).await?, settings)?,
            SqlConnection::Vault(url) => {
                let secret = CachedSecret::new(identity::credential(identity)?, url, ClientOptions::default())?;
                return Self::open_with_secret(secret, settings, identity).await;
            }
        };
        Ok(Self::over(pool, settings))
    }

    /// [`AzureSql::open`] with the connection string that `secret` holds: new connections use what it holds then.
    ///
    /// # Errors
    /// As [`AzureSql::open`].
    pub async fn open_with_secret(secret: CachedSecret, settings: &SqlSettings, identity: &Identity) -> Result<Self> {
        let connecting = Connecting::Vault(Box::new(Rotating::open(secret, identity, settings).await?));
        Ok(Self::over(Pool::over(connecting, settings), settings))
    }

    /// A record that is only read, as the source of a copy: a password of its connection string is sent to another machine too.
    ///
    /// # Errors
    /// As [`AzureSql::open`].
    pub async fn open_source(settings: &SqlSettings, identity: &Identity) -> Result<Self> {
        Ok(Self::over(Pool::new(Options::resolve_source(settings, identity).await?, settings)?, settings))
    }

    fn over(pool: Pool, settings: &SqlSettings) -> Self {
        // The wait is a statement, and has to end before a statement's time does.
        let turn = settings.import / 2;
        Self { pool, sql: Statements::new(&settings.schema), schema: settings.schema.clone(), turn }
    }

    /// The names of the migrations that have not run, in order. The database is not changed.
    ///
    /// # Errors
    /// Unavailable; conflict, if a newer program, or one with other migrations, has made the database.
    pub async fn pending(&self) -> Result<Vec<String>> {
        let pending: Vec<&str> = self.pending_names().await?;
        Ok(pending.into_iter().map(str::to_owned).collect())
    }

    /// The migrations that have not run as a script for the database's owner, batches between `GO`.
    ///
    /// # Errors
    /// As for [`AzureSql::pending`].
    pub async fn pending_script(&self) -> Result<String> {
        Ok(migrations::script_of(&self.schema, &self.pending_names().await?))
    }

    async fn pending_names(&self) -> Result<Vec<&'static str>> {
        attempt!(self.pool.reading(), |session| migrations::pending(session, &self.sql, &self.schema))
    }

    async fn announcement_waits(&self) -> Result<bool> {
        attempt!(self.pool.reading(), |session| outbox::waits(session, &self.sql))
    }

    /// Work that leaves an event in the audit trail: that event tells whether a commit whose answer was lost took place.
    fn audited(&self) -> pool::Attempts<'_> {
        self.pool.writing(Some(&self.sql.audit_witness))
    }
}

#[async_trait]
impl Store for AzureSql {
    async fn migrate(&self) -> Result<Vec<String>> {
        // Whoever has nothing to do needs no right to change the schema.
        if self.pending_names().await?.is_empty() {
            return Ok(Vec::new());
        }
        attempt!(self.pool.importing(None), |session| migrations::run(session, &self.sql, &self.schema))
    }

    async fn facilities(&self) -> Result<Vec<Facility>> {
        attempt!(self.pool.reading(), |session| encounters::facilities(session, &self.sql))
    }

    async fn save_facilities(&self, facilities: &[Facility], audit: &AuditEvent) -> Result<u64> {
        attempt!(self.audited(), |session| encounters::save_facilities(session, &self.sql, facilities, audit))
    }

    async fn begin_import(&self, id: &ImportId, source: &Source, at: DateTime<Utc>) -> Result<Begun> {
        // Begun twice is taken over once more, which does no harm.
        attempt!(self.pool.writing(None), |session| imports::begin(session, &self.sql, id, source, at))
    }

    async fn import_batch(&self, batch: &Batch) -> Result<Step> {
        let turns = imports::turns(batch)?;
        let witness = if batch.part.is_some() { &self.sql.part_witness } else { &self.sql.import_witness };
        let attempts = self.pool.importing(Some(witness));
        attempt!(attempts, |session| imports::batch(session, &self.sql, batch, &turns, self.turn))
    }

    async fn finish_import(&self, id: &ImportId, attempt: u32, finish: &Finish, audit: &AuditEvent) -> Result<Step> {
        attempt!(self.audited(), |session| imports::finish(session, &self.sql, id, attempt, finish, audit))
    }

    async fn plan_import(&self, id: &ImportId, attempt: u32, plan: &Plan, audit: &AuditEvent) -> Result<Step> {
        attempt!(self.audited(), |session| parts::plan(session, &self.sql, id, attempt, plan, audit))
    }

    async fn take_part(&self, id: &ImportId, part: u32) -> Result<PartTaken> {
        // Taken twice is taken over once more, which does no harm.
        attempt!(self.pool.writing(None), |session| parts::take(session, &self.sql, id, part))
    }

    async fn finish_part(
        &self,
        id: &ImportId,
        part: &Part,
        end: &PartEnd,
        audit: &AuditEvent,
        closing: &AuditEvent,
    ) -> Result<PartStep> {
        attempt!(self.audited(), |session| parts::finish(session, &self.sql, id, part, end, [audit, closing]))
    }

    async fn imports(&self, limit: u32) -> Result<Vec<Import>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| imports::newest(session, &self.sql, limit))
    }

    async fn import(&self, id: &ImportId) -> Result<Option<Import>> {
        attempt!(self.pool.reading(), |session| imports::find(session, &self.sql, id))
    }

    async fn rejects(&self, id: &ImportId, after: u64, limit: u32) -> Result<Vec<Reject>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| imports::rejects(session, &self.sql, id, after, limit))
    }

    async fn admit(&self, encounter: &Encounter, prediction: Option<&Prediction>, audit: &AuditEvent) -> Result<Admitted> {
        let met = async {
            attempt!(self.audited(), |session| encounters::admit(session, &self.sql, encounter, prediction, audit, |_| false))
        };
        met.await.map(Met::decided)
    }

    async fn discharge(&self, id: EncounterId, on: NaiveDate, reach: &Reach, audit: &AuditEvent) -> Result<Discharged> {
        attempt!(self.audited(), |session| encounters::discharge(session, &self.sql, id, on, reach, audit))
    }

    async fn encounter(&self, id: EncounterId) -> Result<Option<Stored>> {
        attempt!(self.pool.reading(), |session| encounters::find(session, &self.sql, id))
    }

    async fn encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let page = &self.sql.encounters;
        attempt!(self.pool.reading(), |session| encounters::page(session, page, encounter_columns(), after, limit))
    }

    async fn totals(&self) -> Result<Totals> {
        attempt!(self.pool.reading(), |session| encounters::totals(session, &self.sql))
    }

    async fn census(&self, day: NaiveDate, until: NaiveDate) -> Result<Vec<Census>> {
        attempt!(self.pool.reading(), |session| encounters::census(session, &self.sql, day, until))
    }

    async fn discharged_encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let page = &self.sql.discharged_encounters;
        attempt!(self.pool.reading(), |session| encounters::page(session, page, nameless_columns(), after, limit))
    }

    async fn unpredicted_encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let page = &self.sql.unpredicted_encounters;
        attempt!(self.pool.reading(), |session| encounters::page(session, page, nameless_columns(), after, limit))
    }

    async fn save_predictions(&self, predictions: &[(EncounterId, Prediction)], audit: &AuditEvent) -> Result<u64> {
        // A bulk load, with the time and the tries of one.
        let attempts = self.pool.importing(Some(&self.sql.audit_witness));
        attempt!(attempts, |session| encounters::save_predictions(session, &self.sql, predictions, audit))
    }

    async fn stay_history(&self, today: NaiveDate, weeks_max: u32) -> Result<StayHistory> {
        attempt!(self.pool.reading(), |session| anomalies::history(session, &self.sql, today, weeks_max))
    }

    async fn replace_survey(&self, survey: &Survey, audit: &AuditEvent) -> Result<()> {
        attempt!(self.audited(), |session| anomalies::replace(session, &self.sql, survey, audit))
    }

    async fn survey(&self, limit: u32) -> Result<Option<Survey>> {
        attempt!(self.pool.reading(), |session| anomalies::survey(session, &self.sql, limit))
    }

    async fn save_model(&self, model: &ModelRecord, audit: &AuditEvent) -> Result<()> {
        attempt!(self.audited(), |session| models::save(session, &self.sql, model, audit))
    }

    async fn champion_version(&self) -> Result<Option<String>> {
        attempt!(self.pool.reading(), |session| models::champion_version(session, &self.sql))
    }

    async fn champion(&self) -> Result<Option<ModelRecord>> {
        attempt!(self.pool.reading(), |session| models::champion(session, &self.sql))
    }

    async fn models(&self, limit: u32) -> Result<Vec<ModelRecord>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| models::newest(session, &self.sql, limit))
    }

    async fn append_audit(&self, event: &AuditEvent) -> Result<()> {
        attempt!(self.audited(), |session| audit::append(session, &self.sql, event))
    }

    async fn lease_announcements(&self, lease: &str, now: DateTime<Utc>, until: DateTime<Utc>, limit: u32) -> Result<Leased> {
        // Mostly nothing waits, and a look holds no lock.
        if limit == 0 || !self.announcement_waits().await? {
            return Ok(Leased::Nothing);
        }
        attempt!(self.pool.writing(None), |session| outbox::lease(session, &self.sql, lease, now, until, limit))
    }

    async fn publish_announcements(&self, lease: &str, now: DateTime<Utc>) -> Result<()> {
        attempt!(self.pool.writing(None), |session| outbox::publish(session, &self.sql, lease, now))
    }

    async fn postpone_announcements(&self, lease: &str, until: DateTime<Utc>, failures: u32, aged: DateTime<Utc>) -> Result<u64> {
        attempt!(self.pool.writing(None), |session| outbox::postpone(session, &self.sql, lease, until, failures, aged))
    }

    async fn audit_page(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditRow)>> {
        // A number below 0 is shown as 0, and would come again for ever.
        if query.limit == 0 || query.before == Some(0) {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| audit::page(session, &self.sql, query))
    }

    async fn audit_heads(&self) -> Result<Vec<ChainHead>> {
        attempt!(self.pool.reading(), |session| audit::heads(session, &self.sql))
    }

    async fn audit_chain(&self, partition: u32, after: (u64, u64), limit: u32) -> Result<Vec<Chained>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| audit::chain(session, &self.sql, partition, after, limit))
    }

    async fn audit_unchained(&self) -> Result<Unchained> {
        attempt!(self.pool.reading(), |session| audit::unchained(session, &self.sql))
    }

    async fn append_audits(&self, events: &[AuditEvent]) -> Result<()> {
        match events {
            [] => Ok(()),
            [event] => self.append_audit(event).await,
            events => attempt!(self.audited(), |session| reads::append(session, &self.sql, events)),
        }
    }

    async fn patients(&self, query: &PatientQuery) -> Result<Vec<Stored>> {
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| reads::find_patients(session, &self.sql, query))
    }

    async fn expected_discharges(&self, today: NaiveDate, days: u32) -> Result<Vec<Expected>> {
        attempt!(self.pool.reading(), |session| reads::expected(session, &self.sql, today, days))
    }

    async fn accuracy(&self, from: NaiveDate, to: NaiveDate) -> Result<Vec<Accuracy>> {
        attempt!(self.pool.reading(), |session| reads::accuracy(session, &self.sql, from, to))
    }

    async fn newest_predictions(&self, limit: u32) -> Result<Vec<Stored>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| reads::newest(session, &self.sql, limit))
    }

    async fn row_survey(&self) -> Result<RowSurvey> {
        // One pass over the table, which has the time of an import.
        attempt!(self.pool.importing(None), |session| reads::survey(session, &self.sql))
    }

    async fn encounters_between(&self, first: EncounterId, last: EncounterId, limit: u32) -> Result<Vec<Encounter>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.reading(), |session| reads::between(session, &self.sql, first, last, limit))
    }

    async fn audit_record(&self) -> Result<TrailRecord> {
        attempt!(self.pool.reading(), |session| audit::record(session, &self.sql))
    }

    async fn save_checkpoint(&self, record: &str, checkpoint: &KeptCheckpoint, years: u32, audit: &AuditEvent) -> Result<bool> {
        attempt!(self.audited(), |session| audit::save_checkpoint(session, &self.sql, record, (checkpoint, years), audit))
    }

    async fn renew_record(&self, from: &str, to: &str, audit: &AuditEvent) -> Result<bool> {
        attempt!(self.audited(), |session| audit::renew_record(session, &self.sql, (from, to), audit))
    }

    async fn purge_audit(&self, purge: &Purge, audit: &AuditEvent) -> Result<u64> {
        // Years of events, with the time of an import.
        let attempts = self.pool.importing(Some(&self.sql.audit_witness));
        attempt!(attempts, |session| audit::purge(session, &self.sql, purge, audit))
    }
}

#[async_trait]
impl KeyTable for AzureSql {
    async fn data_keys(&self) -> Result<Vec<DataKey>> {
        attempt!(self.pool.reading(), |session| datakeys::all(session, &self.sql))
    }

    async fn admit_in_form(
        &self,
        encounter: &Encounter,
        another: Option<&PersonName>,
        prediction: Option<&Prediction>,
        audit: &AuditEvent,
    ) -> Result<Met> {
        let left_open = |stored: &Encounter| may_be_same_admission(encounter, stored, another);
        attempt!(self.audited(), |session| encounters::admit(session, &self.sql, encounter, prediction, audit, left_open))
    }

    async fn add_data_key(&self, key: &DataKey, after: Option<&str>, audit: Option<&AuditEvent>) -> Result<bool> {
        // A second try finds the key itself, so no witness is needed.
        attempt!(self.pool.writing(None), |session| datakeys::add(session, &self.sql, key, after, audit))
    }

    async fn retire_data_keys(&self, ids: &[String], audit: &AuditEvent) -> Result<u64> {
        attempt!(self.audited(), |session| datakeys::retire(session, &self.sql, ids, audit))
    }

    async fn rewrap_data_key(&self, key: &DataKey, from: &str, audit: &AuditEvent) -> Result<bool> {
        attempt!(self.audited(), |session| datakeys::rewrap(session, &self.sql, key, from, audit))
    }

    async fn names_not_under(
        &self,
        prefix: &str,
        after: Option<EncounterId>,
        limit: u32,
    ) -> Result<Vec<(EncounterId, PersonName)>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        // The last page may be a look at the whole table, which has the time of an import.
        attempt!(self.pool.importing(None), |session| datakeys::not_under(session, &self.sql, prefix, after, limit))
    }

    async fn replace_names(&self, renamings: &[Renaming]) -> Result<u64> {
        // A second try finds them replaced.
        attempt!(self.pool.importing(None), |session| datakeys::replace(session, &self.sql, renamings))
    }

    async fn words_not_under(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<(String, Phi<String>)>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        attempt!(self.pool.importing(None), |session| access::words_not_under(session, &self.sql, prefix, after, limit))
    }

    async fn replace_words(&self, rewordings: &[Rewording]) -> Result<u64> {
        // A second try finds them replaced.
        attempt!(self.pool.importing(None), |session| access::replace_words(session, &self.sql, rewordings))
    }
}
