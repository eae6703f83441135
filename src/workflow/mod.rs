//! One file a verb: the only place where the pure core and I/O meet. Every verb takes the caller first and leaves one audit event,
//! for refusals and failures too. It does not know HTTP, the Functions host or the command line.

mod admit;
mod anomalies;
mod assign;
mod audit;
mod break_glass;
mod discharge;
mod experiment;
mod facilities;
mod import;
mod migrate_data;
mod patients;
mod predict;
mod predictions;
mod pseudonym;
mod publish;
mod reach;
mod read;
mod receipt;
mod refusals;
mod rotate_keys;
mod rows;
mod train;

pub use admit::{Admission, admit};
pub use anomalies::{find_anomalies, survey_report};
pub use assign::{ASSIGNMENTS_MAX, assign, assignments, unassign};
pub use audit::{
    ArchiveReport, CHECKPOINT_BYTES_MAX, CHECKPOINTS_CONTAINER, Finding, OtherRecord, Purged, Scope, TrailReport, audit_checkpoint,
    audit_restored, exported_audit, note_export, purge_audit, verify_archive, verify_audit,
};
pub use break_glass::{ELEVATIONS_A_DAY_MAX, Glass, break_glass, elevation, elevations, end_break_glass};
pub use discharge::{Departure, discharge};
pub use experiment::{Experimented, all_experiment_results, experiment_results, run_experiment};
pub use facilities::save_facilities;
pub use import::{BlobAddress, Delivery, Imported, import_blob, import_delivery, import_part, refuse_address, refuse_events};
pub use migrate_data::{Compared, Copied, Difference, Phase, Progress, Surveyed, migrate_data, survey_table};
pub use patients::{PATIENTS_MAX, PatientFilter, PatientPage, patient, patients};
pub use predict::backfill;
pub use predictions::{DAYS_AHEAD_MAX, Foretold, JUDGED_DAYS, NEWEST_MAX, Predictions, predictions};
pub use pseudonym::PseudonymKey;
pub use publish::{KEPT_DAYS, Published, publish, relay};
pub use read::{anomalies, audit_trail, census, champion_report, import_entry, imports, models, rejects, totals};
pub use receipt::{KEY_BYTES_MIN, SigningKey, VerifiedReceipt, receipt, receipt_name, receipts_container, rejects_name};
pub use rotate_keys::{Rotated, list_keys, rewrap_keys, rotate_keys};
pub use rows::{ROWS_MAX, ROWS_MIN, RowPage, rows};
pub use train::{TrainRequest, Training, train};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::blob::Blobs;
use crate::config::Config;
use crate::domain::rows::CELL_MIN;
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Kind, Result};
use crate::predict::Model;
use crate::store::Store;
use crate::topic::Topic;

use self::refusals::{FROM_NOW_ON_COUNTED, Refusals, Tell};

/// What every verb works with. Clones share everything.
#[derive(Clone)]
pub struct Hospital {
    /// The settings.
    pub config: Config,
    /// The record.
    pub store: Arc<dyn Store>,
    /// The files.
    pub blobs: Arc<dyn Blobs>,
    /// What receipts are signed with.
    pub receipt_key: Arc<SigningKey>,
    /// What makes pseudonyms and cursors.
    pub pseudonyms: Arc<PseudonymKey>,
    /// Who is told of facts, if anybody is.
    topic: Option<Arc<Topic>>,
    /// Told of commits that the relay may have to publish.
    committed: Arc<tokio::sync::Notify>,
    champion: Arc<ChampionSlot>,
    /// What the record said of callers' reach.
    standings: Arc<reach::Standings>,
    /// Held while a model is trained: one at a time in a process.
    training: Arc<tokio::sync::Mutex<()>>,
    /// What is known of all encounters together, for those who may name none.
    whole: Arc<rows::WholeSlot>,
    refusals: Arc<Refusals>,
}

impl Hospital {
    /// A hospital over these seams.
    pub fn new(
        config: Config,
        store: Arc<dyn Store>,
        blobs: Arc<dyn Blobs>,
        receipt_key: SigningKey,
        pseudonyms: PseudonymKey,
    ) -> Self {
        Self {
            config,
            store,
            blobs,
            receipt_key: Arc::new(receipt_key),
            pseudonyms: Arc::new(pseudonyms),
            topic: None,
            committed: Arc::default(),
            champion: Arc::default(),
            standings: Arc::default(),
            training: Arc::default(),
            whole: Arc::default(),
            refusals: Arc::default(),
        }
    }

    /// The smallest count that is told to whoever may name nobody.
    pub fn cell_min(&self) -> u64 {
        self.config.cell_min.max(CELL_MIN)
    }

    /// The model that predicts now. Another instance may have promoted a newer one, so the record is asked every few seconds.
    ///
    /// # Errors
    /// The record cannot be read, or the stored model cannot be used by this binary.
    pub async fn champion(&self) -> Result<Option<Arc<Model>>> {
        if let Some(model) = self.champion.fresh() {
            return Ok(model);
        }
        let version = self.store.champion_version().await?;
        if let Some(held) = self.champion.held(version.as_deref()) {
            return Ok(held);
        }
        let model = match self.store.champion().await? {
            None => Ok(None),
            Some(record) => blocking(move || Model::from_bytes(&record.bytes)).await.map(|model| Some(Arc::new(model))),
        };
        // A model that cannot be used is not read again for every admission.
        self.champion.put(model.as_ref().ok().cloned().flatten());
        model
    }

    /// Refuses a caller who may not do `action`, and leaves the refusal in the audit trail; of one who is refused again and again, how
    /// often it was.
    ///
    /// # Errors
    /// [`Kind::Forbidden`], [`Kind::TooMany`], or the refusal could not be recorded.
    pub async fn allow(&self, caller: &Caller, action: Action, now: DateTime<Utc>) -> Result<()> {
        if caller.may(action) {
            return Ok(());
        }
        let (detail, what) = match (caller.has_role_for(action), caller.program && action == Action::BreakGlass) {
            (true, true) => ("no program may", "a program's sign-in does"),
            (true, false) => ("scopes do not allow it", "the token's scopes do"),
            (false, _) => ("role does not allow it", "your roles do"),
        };
        self.refuse(&AuditEvent::new(caller, action, Outcome::Refused, now).detail(detail)).await?;
        Err(Error::new(Kind::Forbidden, format!("{what} not allow the action {}", action.name())))
    }

    /// Leaves `refusal` in the audit trail; of a caller who is refused again and again, how often it was.
    ///
    /// # Errors
    /// [`Kind::TooMany`], if it was only counted, or the refusal could not be recorded.
    async fn refuse(&self, refusal: &AuditEvent) -> Result<()> {
        let (caller, action, now) = (&refusal.caller, refusal.action, refusal.at);
        self.tell_refusals(now).await?;
        let told = self.refusals.note(caller, action, self.config.refusals_max, now);
        let kept = match told {
            Tell::Each => self.store.append_audit(refusal).await,
            Tell::Counted => {
                let more = AuditEvent::new(caller, action, Outcome::Refused, now).detail(FROM_NOW_ON_COUNTED);
                self.store.append_audit(&more).await
            }
            Tell::Nothing => Ok(()),
        };
        if kept.is_err() {
            self.refusals.give_back(caller);
        }
        kept?;
        match told {
            Tell::Each => Ok(()),
            Tell::Counted | Tell::Nothing => {
                let words = format!("you asked too often for what you may not do: {}", action.name());
                Err(Error::new(Kind::TooMany, words))
            }
        }
    }

    /// Tells the trail how often callers were refused beyond what it was told one by one, once that is over.
    ///
    /// # Errors
    /// The record is away. What it was to be told is told the next time.
    pub async fn tell_refusals(&self, now: DateTime<Utc>) -> Result<()> {
        let mut owed = self.refusals.sums(now);
        while let Some(sum) = owed.next() {
            if let Err(error) = self.store.append_audit(sum).await {
                tracing::error!(caller = sum.caller.id, detail = sum.detail, %error, "refusals that the trail does not hold yet");
                return Err(error);
            }
            owed.told();
        }
        Ok(())
    }
}

/// Records that a message of `action` could not be read.
///
/// # Errors
/// The record is away.
pub async fn refuse_message(caller: &Caller, hospital: &Hospital, action: Action, now: DateTime<Utc>) -> Result<()> {
    let event = AuditEvent::new(caller, action, Outcome::Failure, now).detail("the message breaks rules");
    hospital.store.append_audit(&event).await
}

/// How long a model is used before the record is asked for a newer one.
const CHAMPION_FRESH: Duration = Duration::from_secs(2);

#[derive(Default)]
struct ChampionSlot(Mutex<Option<(Instant, Option<Arc<Model>>)>>);

impl ChampionSlot {
    fn fresh(&self) -> Option<Option<Arc<Model>>> {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().filter(|(asked, _)| asked.elapsed() < CHAMPION_FRESH).map(|(_, model)| model.clone())
    }

    fn held(&self, version: Option<&str>) -> Option<Option<Arc<Model>>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, model) = slot.as_mut()?;
        if model.as_ref().map(|model| model.version()) != version {
            return None;
        }
        *asked = Instant::now();
        Some(model.clone())
    }

    /// Makes the next caller ask the record.
    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn put(&self, model: Option<Arc<Model>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), model));
    }
}

/// Runs CPU-bound work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::internal("a worker thread stopped"))?
}
