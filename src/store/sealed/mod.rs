//! The record with the patients' names encrypted: what lies in the database is ciphertext, what goes in and comes out is text. Everything
//! else passes through. It does not know any SQL; where a data key is wrapped, and how, is `wrapping`'s. Names that an earlier program has
//! left in plain text are read as they are.

mod access;
mod attempts;
mod cipher;
mod keyring;
mod legacy;
mod rotation;
mod wrapping;

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};

pub use self::keyring::{FRESH, LEFT_ALONE, UNWRAP_WITHIN};
pub use self::legacy::opened_table;
pub use self::rotation::Resealed;
pub use self::wrapping::{KeyFile, Wrapping};

use self::cipher::{Cipher, Field, Place, key_of};
use self::keyring::{Ciphers, Keyring};
use super::columns::name_too_long;
use super::datakeys::{KeyTable, Met};
use super::rules::event_as;
use super::{
    Accuracy, Admitted, AuditQuery, Batch, Begun, Census, Discharged, Expected, Finish, Leased, PartEnd, PartStep, PartTaken,
    PatientQuery, RowSurvey, Step, Store, Stored, Totals,
};
use crate::domain::anomaly::{StayHistory, Survey};
use crate::domain::audit::{ChainHead, Chained, KeptCheckpoint, Purge, TrailRecord, Unchained};
use crate::domain::import::{Import, ImportId, Part, Plan, Reject, Source};
use crate::domain::model::ModelRecord;
use crate::domain::patient::name_fits;
use crate::domain::{AuditEvent, AuditRow, Encounter, EncounterId, Facility, PersonName, Phi, Prediction, Reach};
use crate::error::{Error, Result};

/// A record whose names are encrypted.
pub struct Sealed {
    inner: Arc<dyn KeyTable>,
    keyring: Keyring,
}

impl Sealed {
    /// Encrypts the names in `inner` with data keys that `wrapping` wraps. [`Store::migrate`] makes the first key, and is the first to
    /// notice one that cannot be unwrapped.
    pub fn new(inner: Arc<dyn KeyTable>, wrapping: Arc<dyn Wrapping>, now: fn() -> DateTime<Utc>) -> Self {
        Self { keyring: Keyring::new(Arc::clone(&inner), wrapping, now), inner }
    }

    /// Unwraps the keys in use; makes none unless the record has none at all.
    ///
    /// # Errors
    /// What keeps a program from starting: the record is away, or a key cannot be unwrapped.
    pub async fn check_keys(&self) -> Result<()> {
        self.keyring.ensure().await
    }

    async fn opened(&self, stored: Stored) -> Result<Stored> {
        Ok(Stored { encounter: self.open_all(vec![stored.encounter]).await?.swap_remove(0), ..stored })
    }

    /// `stored` as the answer to a fact that is committed: a name that does not open is left empty, for an error would say that nothing
    /// was done.
    async fn answered(&self, mut stored: Stored) -> Stored {
        let id = stored.encounter.id;
        let opened = match self.keyring.of(key_ids(&stored.encounter.name)).await {
            Ok(ciphers) => open_name(&ciphers, id, &stored.encounter.name),
            Err(error) => Err(error),
        };
        // Never a part of a name alone: it might pass for another patient's.
        stored.encounter.name = opened.unwrap_or_else(|error| {
            tracing::error!(%error, "committed, and answered without the name");
            PersonName::default()
        });
        stored
    }

    /// The encounters with their names in plain text.
    async fn open_all(&self, mut encounters: Vec<Encounter>) -> Result<Vec<Encounter>> {
        let ciphers = self.keyring.of(encounters.iter().flat_map(|encounter| key_ids(&encounter.name))).await?;
        off_the_async_threads(encounters.len(), move || {
            for encounter in &mut encounters {
                encounter.name = open_name(&ciphers, encounter.id, &encounter.name)?;
            }
            Ok(encounters)
        })
        .await
    }

    /// `sealed`, which is `encounter`, as an admission that may be there already: the parts of its name that are the stored ones in the form
    /// that they have there, whatever key that is under.
    async fn sealed_like(&self, encounter: &Encounter, mut sealed: Encounter, stored: &Encounter) -> Result<Encounter> {
        let opened = open_name(&self.keyring.of(key_ids(&stored.name)).await?, stored.id, &stored.name)?;
        let part = |plain: &Phi<String>, sealed: &Phi<String>, opened: &Phi<String>, there: &Phi<String>| {
            if plain == opened { there.clone() } else { sealed.clone() }
        };
        let (plain, new, there) = (&encounter.name, &sealed.name, &stored.name);
        sealed.name = PersonName {
            first: part(&plain.first, &new.first, &opened.first, &there.first),
            middle: part(&plain.middle, &new.middle, &opened.middle, &there.middle),
            last: part(&plain.last, &new.last, &opened.last, &there.last),
        };
        Ok(sealed)
    }
}

/// Times that an admission looks again when the stored name was put under another key under its eyes.
const LOOKS: usize = 5;

/// The ids of the keys that the parts of a stored name are under.
fn key_ids(name: &PersonName) -> impl Iterator<Item = &str> {
    [&name.first, &name.middle, &name.last].into_iter().filter_map(|part| key_of(part.reveal()))
}

/// A name in its stored form. A part that is absent stays absent.
fn seal_name(cipher: &Cipher, id: EncounterId, name: &PersonName) -> Result<PersonName> {
    let seal = |field, part: &Phi<String>| match part.reveal().as_str() {
        text if text.bytes().all(|byte| byte == b' ') => Ok(String::new()),
        text if !name_fits(text) => Err(name_too_long()),
        text => cipher.seal(Place::Name(id, field), text),
    };
    Ok(PersonName::new(seal(Field::First, &name.first)?, seal(Field::Middle, &name.middle)?, seal(Field::Last, &name.last)?))
}

/// A stored name in plain text. `ciphers` holds the keys of [`key_ids`].
fn open_name(ciphers: &Ciphers, id: EncounterId, name: &PersonName) -> Result<PersonName> {
    let open = |field, part: &Phi<String>| {
        let stored = part.reveal();
        match key_of(stored) {
            None => Ok(stored.clone()),
            Some(key) => {
                ciphers.get(key).ok_or_else(|| Error::internal("a data key is not at hand"))?.open(Place::Name(id, field), stored)
            }
        }
    };
    Ok(PersonName::new(open(Field::First, &name.first)?, open(Field::Middle, &name.middle)?, open(Field::Last, &name.last)?))
}

/// Few rows are worked on where we are; many would hold up every other call.
async fn off_the_async_threads<T: Send + 'static>(rows: usize, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    const FEW: usize = 64;
    if rows <= FEW {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::internal("a worker thread stopped"))?
}

#[async_trait]
impl Store for Sealed {
    async fn migrate(&self) -> Result<Vec<String>> {
        let ran = self.inner.migrate().await?;
        self.keyring.ensure().await?;
        Ok(ran)
    }

    async fn import_batch(&self, batch: &Batch) -> Result<Step> {
        let (cipher, mut sealed) = (self.keyring.current().await?, batch.clone());
        let sealed = off_the_async_threads(batch.encounters.len(), move || {
            for encounter in &mut sealed.encounters {
                encounter.name = seal_name(&cipher, encounter.id, &encounter.name)?;
            }
            Ok(sealed)
        });
        self.inner.import_batch(&sealed.await?).await
    }

    async fn admit(&self, encounter: &Encounter, prediction: Option<&Prediction>, audit: &AuditEvent) -> Result<Admitted> {
        let mut new = encounter.clone();
        new.name = seal_name(&*self.keyring.current().await?, encounter.id, &encounter.name)?;
        let mut another = None;
        for _ in 0..LOOKS {
            match self.inner.admit_in_form(&new, another.as_ref(), prediction, audit).await? {
                Met::Decided(Admitted::Before(stored)) => {
                    return Ok(Admitted::Before(Box::new(self.answered(*stored).await)));
                }
                Met::Decided(admitted) => return Ok(admitted),
                Met::Undecided(stored) => {
                    // Where the stored name does not open nobody can tell: that is an error, and nothing was admitted.
                    new = match self.sealed_like(encounter, new, &stored.encounter).await {
                        Ok(new) => new,
                        Err(error) => {
                            self.inner.append_audit(&event_as(audit, false)).await?;
                            return Err(error);
                        }
                    };
                    another = Some(stored.encounter.name);
                }
            }
        }
        Err(Error::unavailable("the encounter's name is being put under another key; try again"))
    }

    async fn discharge(&self, id: EncounterId, on: NaiveDate, reach: &Reach, audit: &AuditEvent) -> Result<Discharged> {
        Ok(match self.inner.discharge(id, on, reach, audit).await? {
            Discharged::Now(stored) => Discharged::Now(Box::new(self.answered(*stored).await)),
            Discharged::Before(stored) => Discharged::Before(Box::new(self.answered(*stored).await)),
            other => other,
        })
    }

    async fn encounter(&self, id: EncounterId) -> Result<Option<Stored>> {
        match self.inner.encounter(id).await? {
            Some(stored) => self.opened(stored).await.map(Some),
            None => Ok(None),
        }
    }

    async fn encounters(&self, after: Option<EncounterId>, limit: u32) -> Result<Vec<Encounter>> {
        let page = self.inner.encounters(after, limit).await?;
        self.open_all(page).await
    }

    // From here on nothing has a name in it.

    async fn facilities(&self) -> Result<Vec<Facility>> {
        self.inner.facilities().await
    }

    async fn save_facilities(&self, facilities: &[Facility], audit: &AuditEvent) -> Result<u64> {
        self.inner.save_facilities(facilities, audit).await
    }

    async fn begin_import(&self, id: &ImportId, source: &Source, at: DateTime<Utc>) -> Result<Begun> {
        self.inner.begin_import(id, source, at).await
    }

    async fn finish_import(&self, id: &ImportId, attempt: u32, finish: &Finish, audit: &AuditEvent) -> Result<Step> {
        self.inner.finish_import(id, attempt, finish, audit).await
    }

    async fn plan_import(&self, id: &ImportId, attempt: u32, plan: &Plan, audit: &AuditEvent) -> Result<Step> {
        self.inner.plan_import(id, attempt, plan, audit).await
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
        self.inner.finish_part(id, part, end, audit, closing).await
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
        self.inner.save_predictions(predictions, audit).await
    }

    async fn stay_history(&self, today: NaiveDate, weeks_max: u32) -> Result<StayHistory> {
        self.inner.stay_history(today, weeks_max).await
    }

    async fn replace_survey(&self, survey: &Survey, audit: &AuditEvent) -> Result<()> {
        self.inner.replace_survey(survey, audit).await
    }

    async fn survey(&self, limit: u32) -> Result<Option<Survey>> {
        self.inner.survey(limit).await
    }

    async fn save_model(&self, model: &ModelRecord, audit: &AuditEvent) -> Result<()> {
        self.inner.save_model(model, audit).await
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
        self.inner.append_audit(event).await
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
        self.inner.append_audits(events).await
    }

    async fn patients(&self, query: &PatientQuery) -> Result<Vec<Stored>> {
        let page = self.inner.patients(query).await?;
        let (encounters, predictions): (Vec<_>, Vec<_>) =
            page.into_iter().map(|stored| (stored.encounter, stored.prediction)).unzip();
        let opened = self.open_all(encounters).await?;
        Ok(opened.into_iter().zip(predictions).map(|(encounter, prediction)| Stored { encounter, prediction }).collect())
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
        self.inner.save_checkpoint(record, checkpoint, years, audit).await
    }

    async fn renew_record(&self, from: &str, to: &str, audit: &AuditEvent) -> Result<bool> {
        self.inner.renew_record(from, to, audit).await
    }

    async fn purge_audit(&self, purge: &Purge, audit: &AuditEvent) -> Result<u64> {
        self.inner.purge_audit(purge, audit).await
    }
}
