//! A record that tells of each audit event as it is committed: a line of structured telemetry, and what the alert rules notice. It keeps
//! nothing and changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};

use super::access::{Access, Broken, EndedElevation};
use super::datakeys::{DataKey, KeyTable, Met, Renaming, Rewording};
use super::rules::{broken_event, discharge_event, event_as, role_names};
use super::{
    Accuracy, Admitted, AuditQuery, Batch, Begun, Census, Discharged, Expected, Finish, Leased, PartEnd, PartStep, PartTaken,
    PatientQuery, RowSurvey, Step, Store, Stored, Totals,
};
use crate::domain::alert::{AlertRules, Watch};
use crate::domain::anomaly::{StayHistory, Survey};
use crate::domain::audit::{ChainHead, Chained, KeptCheckpoint, Purge, TrailRecord, Unchained};
use crate::domain::import::{Import, ImportId, Part, Plan, Reject, Source};
use crate::domain::model::ModelRecord;
use crate::domain::{
    Assignment, AuditEvent, AuditRow, Elevation, Encounter, EncounterId, Facility, PersonName, Phi, Prediction, Reach, Standing,
};
use crate::error::Result;

/// A record under watch.
pub struct Watched {
    inner: Arc<dyn KeyTable>,
    watch: Mutex<Watch>,
}

impl Watched {
    /// Watches `inner` by `rules`.
    pub fn new(inner: Arc<dyn KeyTable>, rules: AlertRules) -> Self {
        Self { inner, watch: Mutex::new(Watch::new(rules)) }
    }

    /// An event was committed.
    fn tell(&self, event: &AuditEvent) {
        // Which encounter it is about is in the trail, by the correlation, and not for a log.
        let AuditEvent { caller, action, outcome, .. } = event;
        tracing::info!(
            event = "audit",
            caller = caller.id,
            roles = role_names(&caller.roles),
            proof = caller.proof.name(),
            origin = caller.origin,
            correlation = caller.correlation,
            action = action.name(),
            outcome = outcome.name(),
            detail = event.told(),
            "audited"
        );
        let alerts = self.watch.lock().unwrap_or_else(PoisonError::into_inner).see(event);
        for alert in alerts {
            tracing::warn!(
                event = alert.event(),
                caller = caller.id,
                origin = caller.origin,
                correlation = caller.correlation,
                action = action.name(),
                "the audit trail holds something to look at"
            );
        }
    }
}

impl Watched {
    fn tell_if(&self, done: bool, event: &AuditEvent) {
        if done {
            self.tell(event);
        }
    }
}

#[async_trait]
impl Store for Watched {
    async fn migrate(&self) -> Result<Vec<String>> {
        self.inner.migrate().await
    }

    async fn facilities(&self) -> Result<Vec<Facility>> {
        self.inner.facilities().await
    }

    async fn save_facilities(&self, facilities: &[Facility], audit: &AuditEvent) -> Result<u64> {
        let changed = self.inner.save_facilities(facilities, audit).await?;
        self.tell(audit);
        Ok(changed)
    }

    async fn begin_import(&self, id: &ImportId, source: &Source, at: DateTime<Utc>) -> Result<Begun> {
        self.inner.begin_import(id, source, at).await
    }

    async fn import_batch(&self, batch: &Batch) -> Result<Step> {
        self.inner.import_batch(batch).await
    }

    async fn finish_import(&self, id: &ImportId, attempt: u32, finish: &Finish, audit: &AuditEvent) -> Result<Step> {
        let step = self.inner.finish_import(id, attempt, finish, audit).await?;
        if step != Step::Superseded {
            self.tell(audit);
        }
        Ok(step)
    }

    async fn plan_import(&self, id: &ImportId, attempt: u32, plan: &Plan, audit: &AuditEvent) -> Result<Step> {
        let step = self.inner.plan_import(id, attempt, plan, audit).await?;
        if step != Step::Superseded {
            self.tell(audit);
        }
        Ok(step)
    }

    async fn take_part(&self, id: &ImportId, part: u32) -> Result<PartTaken> {
        self.inner.take_part(id, part).await
    }

    async fn finish_part(
        &self,
        id: &ImportId,
        part: &Part,
        end: &PartEnd,
        audit: &AuditEvent,
        closing: &AuditEvent,
    ) -> Result<PartStep> {
        let step = self.inner.finish_part(id, part, end, audit, closing).await?;
        if step != PartStep::Superseded {
            self.tell(audit);
        }
        if step == PartStep::Closed {
            self.tell(closing);
        }
        Ok(step)
    }

    async fn imports(&self, limit: u32) -> Result<Vec<Import>> {
        self.inner.imports(limit).await
    }

    async fn import(&self, id: &ImportId) -> Result<Option<Import>> {
        self.inner.import(id).await
    }

    async fn rejects(&self, id: &ImportId, after: u64, limit: u32) -> Result<Vec<Reject>> {
        self.inner.rejects(id, after, limit).await
    }

    async fn admit(&self, encounter: &Encounter, prediction: Option<&Prediction>, audit: &AuditEvent) -> Result<Admitted> {
        let admitted = self.inner.admit(encounter, prediction, audit).await?;
        self.tell(&event_as(audit, admitted != Admitted::Conflict));
        Ok(admitted)
    }

    async fn discharge(&self, id: EncounterId, on: NaiveDate, reach: &Reach, audit: &AuditEvent) -> Result<Discharged> {
        let discharged = self.inner.discharge(id, on, reach, audit).await?;
        let facility = match &discharged {
            Discharged::Now(stored) | Discharged::Before(stored) => Some(stored.encounter.facility),
            _ => None,
        };
        self.tell(&discharge_event(audit, &discharged, facility));
        Ok(discharged)
    }

    async fn encounter(&self, id: EncounterId) -> Result<Option<Stored>> {
        self.inner.encounter(id).await
    }

    async fn encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        self.inner.encounters(after, limit).await
    }

    async fn totals(&self) -> Result<Totals> {
        self.inner.totals().await
    }

    async fn census(&self, day: NaiveDate, until: NaiveDate) -> Result<Vec<Census>> {
        self.inner.census(day, until).await
    }

    async fn discharged_encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        self.inner.discharged_encounters(after, limit).await
    }

    async fn unpredicted_encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        self.inner.unpredicted_encounters(after, limit).await
    }

    async fn save_predictions(&self, predictions: &[(EncounterId, Prediction)], audit: &AuditEvent) -> Result<u64> {
        let taken = self.inner.save_predictions(predictions, audit).await?;
        self.tell(audit);
        Ok(taken)
    }

    async fn stay_history(&self, today: NaiveDate, weeks_max: u32) -> Result<StayHistory> {
        self.inner.stay_history(today, weeks_max).await
    }

    async fn replace_survey(&self, survey: &Survey, audit: &AuditEvent) -> Result<()> {
        self.inner.replace_survey(survey, audit).await?;
        self.tell(audit);
        Ok(())
    }

    async fn survey(&self, limit: u32) -> Result<Option<Survey>> {
        self.inner.survey(limit).await
    }

    async fn save_model(&self, model: &ModelRecord, audit: &AuditEvent) -> Result<()> {
        self.inner.save_model(model, audit).await?;
        self.tell(audit);
        Ok(())
    }

    async fn champion_version(&self) -> Result<Option<String>> {
        self.inner.champion_version().await
    }

    async fn champion(&self) -> Result<Option<ModelRecord>> {
        self.inner.champion().await
    }

    async fn models(&self, limit: u32) -> Result<Vec<ModelRecord>> {
        self.inner.models(limit).await
    }

    async fn append_audit(&self, event: &AuditEvent) -> Result<()> {
        self.inner.append_audit(event).await?;
        self.tell(event);
        Ok(())
    }

    async fn lease_announcements(&self, lease: &str, now: DateTime<Utc>, until: DateTime<Utc>, limit: u32) -> Result<Leased> {
        self.inner.lease_announcements(lease, now, until, limit).await
    }

    async fn publish_announcements(&self, lease: &str, now: DateTime<Utc>) -> Result<()> {
        self.inner.publish_announcements(lease, now).await
    }

    async fn postpone_announcements(&self, lease: &str, until: DateTime<Utc>, failures: u32, aged: DateTime<Utc>) -> Result<u64> {
        self.inner.postpone_announcements(lease, until, failures, aged).await
    }

    async fn audit_page(&self, query: &AuditQuery) -> Result<Vec<(u64, AuditRow)>> {
        self.inner.audit_page(query).await
    }

    async fn audit_events(&self, limit: u32) -> Result<Vec<AuditEvent>> {
        self.inner.audit_events(limit).await
    }

    async fn audit_heads(&self) -> Result<Vec<ChainHead>> {
        self.inner.audit_heads().await
    }

    async fn audit_chain(&self, partition: u32, after: (u64, u64), limit: u32) -> Result<Vec<Chained>> {
        self.inner.audit_chain(partition, after, limit).await
    }

    async fn audit_unchained(&self) -> Result<Unchained> {
        self.inner.audit_unchained().await
    }

    async fn append_audits(&self, events: &[AuditEvent]) -> Result<()> {
        self.inner.append_audits(events).await?;
        events.iter().for_each(|event| self.tell(event));
        Ok(())
    }

    async fn patients(&self, query: &PatientQuery) -> Result<Vec<Stored>> {
        self.inner.patients(query).await
    }

    async fn expected_discharges(&self, today: NaiveDate, days: u32) -> Result<Vec<Expected>> {
        self.inner.expected_discharges(today, days).await
    }

    async fn accuracy(&self, from: NaiveDate, to: NaiveDate) -> Result<Vec<Accuracy>> {
        self.inner.accuracy(from, to).await
    }

    async fn newest_predictions(&self, limit: u32) -> Result<Vec<Stored>> {
        self.inner.newest_predictions(limit).await
    }

    async fn row_survey(&self) -> Result<RowSurvey> {
        self.inner.row_survey().await
    }

    async fn encounters_between(&self, first: EncounterId, last: EncounterId, limit: u32) -> Result<Vec<Encounter>> {
        self.inner.encounters_between(first, last, limit).await
    }

    async fn audit_record(&self) -> Result<TrailRecord> {
        self.inner.audit_record().await
    }

    async fn save_checkpoint(&self, record: &str, checkpoint: &KeptCheckpoint, years: u32, audit: &AuditEvent) -> Result<bool> {
        let done = self.inner.save_checkpoint(record, checkpoint, years, audit).await?;
        self.tell_if(done, audit);
        Ok(done)
    }

    async fn renew_record(&self, from: &str, to: &str, audit: &AuditEvent) -> Result<bool> {
        let done = self.inner.renew_record(from, to, audit).await?;
        self.tell_if(done, audit);
        Ok(done)
    }

    async fn purge_audit(&self, purge: &Purge, audit: &AuditEvent) -> Result<u64> {
        let removed = self.inner.purge_audit(purge, audit).await?;
        self.tell_if(removed > 0, audit);
        Ok(removed)
    }
}

#[async_trait]
impl Access for Watched {
    async fn assign(&self, assignment: &Assignment, audit: &AuditEvent) -> Result<()> {
        self.inner.assign(assignment, audit).await?;
        self.tell(audit);
        Ok(())
    }

    async fn unassign(&self, caller: &str, audit: &AuditEvent) -> Result<bool> {
        let there = self.inner.unassign(caller, audit).await?;
        self.tell(&event_as(audit, there));
        Ok(there)
    }

    async fn assignments(&self, after: &str, limit: u32) -> Result<Vec<Assignment>> {
        self.inner.assignments(after, limit).await
    }

    async fn standing(&self, caller: &str) -> Result<Standing> {
        self.inner.standing(caller).await
    }

    async fn break_glass(&self, elevation: &Elevation, since: DateTime<Utc>, most: u32, audit: &AuditEvent) -> Result<Broken> {
        let broken = self.inner.break_glass(elevation, since, most, audit).await?;
        self.tell(&broken_event(audit, &broken));
        Ok(broken)
    }

    async fn end_elevation(&self, id: &str, holder: Option<&str>, at: DateTime<Utc>, audit: &AuditEvent) -> Result<EndedElevation> {
        let ended = self.inner.end_elevation(id, holder, at, audit).await?;
        self.tell(&event_as(audit, ended == EndedElevation::Now));
        Ok(ended)
    }

    async fn elevations(&self, limit: u32) -> Result<Vec<Elevation>> {
        self.inner.elevations(limit).await
    }

    async fn elevation(&self, id: &str) -> Result<Option<Elevation>> {
        self.inner.elevation(id).await
    }
}

#[async_trait]
impl KeyTable for Watched {
    async fn data_keys(&self) -> Result<Vec<DataKey>> {
        self.inner.data_keys().await
    }

    async fn admit_in_form(
        &self,
        encounter: &Encounter,
        another: Option<&PersonName>,
        prediction: Option<&Prediction>,
        audit: &AuditEvent,
    ) -> Result<Met> {
        let met = self.inner.admit_in_form(encounter, another, prediction, audit).await?;
        if let Met::Decided(admitted) = &met {
            self.tell(&event_as(audit, *admitted != Admitted::Conflict));
        }
        Ok(met)
    }

    async fn add_data_key(&self, key: &DataKey, after: Option<&str>, audit: Option<&AuditEvent>) -> Result<bool> {
        let done = self.inner.add_data_key(key, after, audit).await?;
        if let Some(audit) = audit {
            self.tell_if(done, audit);
        }
        Ok(done)
    }

    async fn retire_data_keys(&self, ids: &[String], audit: &AuditEvent) -> Result<u64> {
        let retired = self.inner.retire_data_keys(ids, audit).await?;
        self.tell(audit);
        Ok(retired)
    }

    async fn rewrap_data_key(&self, key: &DataKey, from: &str, audit: &AuditEvent) -> Result<bool> {
        let done = self.inner.rewrap_data_key(key, from, audit).await?;
        self.tell(&event_as(audit, done));
        Ok(done)
    }

    async fn names_not_under(
        &self,
        prefix: &str,
        after: Option<EncounterId>,
        limit: u32,
    ) -> Result<Vec<(EncounterId, PersonName)>> {
        self.inner.names_not_under(prefix, after, limit).await
    }

    async fn replace_names(&self, renamings: &[Renaming]) -> Result<u64> {
        self.inner.replace_names(renamings).await
    }

    async fn words_not_under(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<(String, Phi<String>)>> {
        self.inner.words_not_under(prefix, after, limit).await
    }

    async fn replace_words(&self, rewordings: &[Rewording]) -> Result<u64> {
        self.inner.replace_words(rewordings).await
    }
}
