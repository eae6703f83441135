//! Admit a patient: predict, then store the encounter, its prediction and the audit event as one fact.

use chrono::{DateTime, Utc};

use super::Hospital;
use crate::domain::{Action, AuditEvent, Caller, Encounter, Outcome, Prediction};
use crate::error::{Error, Kind, Result};
use crate::store::{Admitted, Stored};

/// What became of an admission.
#[derive(Debug, Clone, PartialEq)]
pub enum Admission {
    /// The patient is in.
    New(Box<Stored>),
    /// The same call was answered before; this is what was stored then.
    Repeated(Box<Stored>),
    /// Another encounter has this id.
    Conflict,
    /// The day of admission lies in the future.
    InFuture,
}

/// Admits `encounter`. A prediction that fails never stops an admission.
///
/// # Errors
/// The caller may not admit, or not to this facility; or the record is away.
pub async fn admit(caller: &Caller, hospital: &Hospital, encounter: Encounter, now: DateTime<Utc>) -> Result<Admission> {
    hospital.allow(caller, Action::Admit, now).await?;
    let event = AuditEvent::new(caller, Action::Admit, Outcome::Success, now).about(encounter.id).at_facility(encounter.facility);
    if !hospital.reach(caller, now).await?.holds(encounter.facility) {
        let refused = AuditEvent { outcome: Outcome::Refused, ..event }.detail("the facility is out of reach");
        hospital.refuse(&refused).await?;
        return Err(Error::new(
            Kind::Forbidden,
            format!(
                "the facility {} is not among yours: ask the site administrator for it, or break the glass in an emergency",
                encounter.facility
            ),
        ));
    }
    let audit = hospital.announced(event);
    // The facility's calendar may be a day ahead of UTC's.
    if now.date_naive().succ_opt().is_some_and(|tomorrow| *encounter.admitted.reveal() > tomorrow) {
        let failure = AuditEvent { outcome: Outcome::Failure, ..audit }.detail("admission lies in the future");
        hospital.store.append_audit(&failure).await?;
        return Ok(Admission::InFuture);
    }
    let prediction = predict(hospital, &encounter).await;
    Ok(match hospital.store.admit(&encounter, prediction.as_ref(), &audit).await? {
        Admitted::Now => {
            hospital.wake_relay();
            Admission::New(Box::new(Stored { encounter, prediction }))
        }
        Admitted::Before(stored) => Admission::Repeated(stored),
        Admitted::Conflict => Admission::Conflict,
    })
}

async fn predict(hospital: &Hospital, encounter: &Encounter) -> Option<Prediction> {
    match hospital.champion().await {
        Ok(model) => model.map(|model| model.predict(encounter)),
        Err(error) => {
            tracing::error!(%error, "no prediction: the model cannot be used");
            None
        }
    }
}
