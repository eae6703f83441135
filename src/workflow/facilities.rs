//! The facilities: added or changed, never taken away.

use chrono::{DateTime, Utc};

use super::Hospital;
use crate::domain::{Action, AuditEvent, Caller, Facility, Outcome};
use crate::error::Result;

/// Adds facilities, or gives those that are there their new name and beds; answers how many changed.
///
/// # Errors
/// The caller may not change the record's set-up, or the record is away.
pub async fn save_facilities(caller: &Caller, hospital: &Hospital, facilities: &[Facility], now: DateTime<Utc>) -> Result<u64> {
    hospital.allow(caller, Action::Migrate, now).await?;
    let audit = AuditEvent::new(caller, Action::Migrate, Outcome::Success, now).detail("facilities");
    hospital.store.save_facilities(facilities, &audit).await
}
