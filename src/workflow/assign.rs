//! Assign facilities to care line managers.

use chrono::{DateTime, Utc};

use super::Hospital;
use crate::domain::elevation::caller_key;
use crate::domain::{Action, Assignment, AuditEvent, Caller, Outcome, Reach};
use crate::error::{Error, Result};

/// Most assignments of one answer.
const ENTRIES_MAX: u32 = 1_000;

/// Assigns `reach` to the caller with the id `whose`, in the place of what was assigned before. No facility of it is unknown.
///
/// # Errors
/// The caller may not; invalid, if the id can be nobody's or a facility is unknown; the record is away. So for every verb here.
pub async fn assign(caller: &Caller, hospital: &Hospital, whose: &str, reach: Reach, now: DateTime<Utc>) -> Result<Assignment> {
    hospital.allow(caller, Action::AssignFacilities, now).await?;
    let key = key(whose)?;
    if let Reach::Only(facilities) = &reach {
        let known = hospital.store.facilities().await?;
        if let Some(unknown) = facilities.iter().find(|id| known.iter().all(|facility| facility.id != **id)) {
            return Err(Error::invalid(format!("there is no facility {unknown}: `hdai facilities` lists those there are")));
        }
    }
    let event = event(caller, now).detail(format!("assigned to {key}: {}", reach.code()));
    let assignment = Assignment { caller: key, reach, by: caller.id.clone(), at: now };
    hospital.store.assign(&assignment, &event).await?;
    hospital.standings.forget(&assignment.caller);
    Ok(assignment)
}

/// Takes an assignment away.
///
/// # Errors
/// As [`assign`]; not found, if nothing is assigned to this id.
pub async fn unassign(caller: &Caller, hospital: &Hospital, whose: &str, now: DateTime<Utc>) -> Result<()> {
    hospital.allow(caller, Action::AssignFacilities, now).await?;
    let key = key(whose)?;
    let nobody = || Error::not_found("nothing is assigned to a caller of this id: list the assignments");
    // What is no caller's id is no word for the trail.
    if hospital.store.standing(&key).await?.assigned.is_none() {
        let failed = AuditEvent { outcome: Outcome::Failure, ..event(caller, now).detail("taken from an unknown caller") };
        hospital.store.append_audit(&failed).await?;
        return Err(nobody());
    }
    let there = hospital.store.unassign(&key, &event(caller, now).detail(format!("taken from {key}"))).await?;
    hospital.standings.forget(&key);
    if there { Ok(()) } else { Err(nobody()) }
}

/// The assignments by caller, at most `limit` after the caller `after`.
///
/// # Errors
/// As [`assign`].
pub async fn assignments(
    caller: &Caller,
    hospital: &Hospital,
    after: &str,
    limit: u32,
    now: DateTime<Utc>,
) -> Result<Vec<Assignment>> {
    hospital.allow(caller, Action::AssignFacilities, now).await?;
    hospital.store.append_audit(&event(caller, now).detail("list")).await?;
    hospital.store.assignments(after, limit.min(ENTRIES_MAX)).await
}

fn event(caller: &Caller, now: DateTime<Utc>) -> AuditEvent {
    AuditEvent::new(caller, Action::AssignFacilities, Outcome::Success, now)
}

fn key(whose: &str) -> Result<String> {
    caller_key(whose).ok_or_else(|| Error::invalid("the caller must be an Entra object id, a GUID such as GET /api/me tells"))
}
