//! Discharge a patient: one conditional update with its audit event.

use chrono::{DateTime, NaiveDate, Utc};

use super::Hospital;
use crate::domain::{Action, AuditEvent, Caller, EncounterId, Outcome};
use crate::error::Result;
use crate::store::{Discharged, Stored};

/// What became of a discharge.
#[derive(Debug, Clone, PartialEq)]
pub enum Departure {
    /// The patient is out.
    New(Box<Stored>),
    /// The same call was answered before.
    Repeated(Box<Stored>),
    /// Discharged on another day before.
    Conflict,
    /// The day lies before the admission.
    BeforeAdmission,
    /// The stay would be longer than is believed.
    TooLong,
    /// The day lies in the future.
    InFuture,
    /// No encounter has this id, or only one beyond the caller's reach, which is answered alike.
    Unknown,
}

/// Discharges the encounter `id` on the day `on`.
///
/// # Errors
/// The caller may not discharge, or the record is away.
pub async fn discharge(
    caller: &Caller,
    hospital: &Hospital,
    id: EncounterId,
    on: NaiveDate,
    now: DateTime<Utc>,
) -> Result<Departure> {
    hospital.allow(caller, Action::Discharge, now).await?;
    let audit = hospital.announced(AuditEvent::new(caller, Action::Discharge, Outcome::Success, now).about(id));
    if on > now.date_naive().succ_opt().unwrap_or(on) {
        let failure = AuditEvent { outcome: Outcome::Failure, ..audit }.detail("discharge lies in the future");
        hospital.store.append_audit(&failure).await?;
        return Ok(Departure::InFuture);
    }
    let reach = hospital.reach(caller, now).await?;
    Ok(match hospital.store.discharge(id, on, &reach, &audit).await? {
        Discharged::Now(stored) => {
            hospital.wake_relay();
            Departure::New(stored)
        }
        Discharged::Before(stored) => Departure::Repeated(stored),
        Discharged::Conflict => Departure::Conflict,
        Discharged::BeforeAdmission => Departure::BeforeAdmission,
        Discharged::TooLong => Departure::TooLong,
        Discharged::Unknown | Discharged::OutOfReach => Departure::Unknown,
    })
}
