//! Train a model on every discharged encounter, and keep it as champion only if it is better.

use chrono::{DateTime, Utc};

use super::{Hospital, blocking};
use crate::domain::model::ModelRecord;
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Result};
use crate::predict::{self, TrainOptions, Trained, TrainingSet};
use crate::schema;

/// Why a model is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrainRequest {
    /// The data changed at this time; a model trained later makes the request void.
    pub data_changed: Option<DateTime<Utc>>,
    /// Promote the model even if it is far behind the champion's own record: a person has looked at the data.
    pub accept_lower_quality: bool,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Training {
    /// A model was trained.
    Trained(Box<ModelRecord>),
    /// A model at least as new as the data exists already.
    UpToDate,
}

/// Rows read from the store at once.
const PAGE_ROWS: u32 = 5_000;

/// Trains a model.
///
/// # Errors
/// The caller may not train, there are too few discharged encounters, or the record is away.
pub async fn train(caller: &Caller, hospital: &Hospital, request: TrainRequest, now: DateTime<Utc>) -> Result<Training> {
    hospital.allow(caller, Action::Train, now).await?;
    let (caller, hospital) = (caller.clone(), hospital.clone());
    // In a task of its own: a caller that gives up waiting does not lose the model, and the delivery that follows waits for it here.
    let work = async move {
        let _one_at_a_time = hospital.training.lock().await;
        train_alone(&caller, &hospital, request, now).await
    };
    tokio::spawn(work).await.map_err(|_| Error::internal("the training stopped"))?
}

async fn train_alone(caller: &Caller, hospital: &Hospital, request: TrainRequest, now: DateTime<Utc>) -> Result<Training> {
    if let Some(changed) = request.data_changed
        && hospital.store.models(1).await?.first().is_some_and(|newest| newest.trained > changed)
    {
        let event = AuditEvent::new(caller, Action::Train, Outcome::Success, now).detail("a newer model exists");
        hospital.store.append_audit(&event).await?;
        return Ok(Training::UpToDate);
    }
    match fit(hospital, request.accept_lower_quality, now).await {
        Ok(record) => {
            let audit = AuditEvent::new(caller, Action::Train, Outcome::Success, now).detail(record.version.clone());
            hospital.store.save_model(&record, &hospital.announced(audit)).await?;
            hospital.wake_relay();
            hospital.champion.forget();
            tracing::info!(
                model = record.version,
                rows = record.rows,
                promoted = record.promoted,
                "model trained: {}",
                record.reason
            );
            Ok(Training::Trained(Box::new(record)))
        }
        Err(error) => {
            let audit = AuditEvent::new(caller, Action::Train, Outcome::Failure, now).detail("training failed");
            hospital.store.append_audit(&audit).await?;
            Err(error)
        }
    }
}

async fn fit(hospital: &Hospital, accept_lower_quality: bool, now: DateTime<Utc>) -> Result<ModelRecord> {
    let mut set = TrainingSet::new();
    let mut after = None;
    loop {
        let page = hospital.store.discharged_encounters(after, PAGE_ROWS).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for encounter in &page {
            set.push(encounter);
        }
    }
    let rows = set.len() as u64;
    // A champion that this binary cannot read cannot be compared with; the new model then stands on its own.
    let champion = hospital.champion().await.ok().flatten();
    let options = TrainOptions {
        seed: hospital.config.training_seed,
        version: format!("los-{}", now.format("%Y%m%dT%H%M%S%3fZ")),
        accept_lower_quality,
    };
    let version = options.version.clone();
    let (Trained { model, promoted, reason }, bytes) = blocking(move || {
        let trained = predict::train(&set, &options, champion.as_deref())?;
        let bytes = trained.model.to_bytes()?;
        Ok((trained, bytes))
    })
    .await?;
    let metrics = serde_json::to_string(model.report())
        .map_err(|cause| Error::internal("the model's report cannot be written").caused_by(cause))?;
    Ok(ModelRecord {
        version,
        trained: now,
        rows,
        schema_fingerprint: schema::fingerprint().to_owned(),
        metrics,
        promoted,
        reason,
        bytes,
    })
}
