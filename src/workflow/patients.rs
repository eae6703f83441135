//! The patients of a caller's facilities, with names. Whoever is shown is told of in the trail before the answer goes out.

use chrono::{DateTime, NaiveDate, Utc};

use super::Hospital;
use super::pseudonym::bad_cursor;
use crate::domain::{Action, AuditEvent, Caller, EncounterId, FacilityId, Outcome, Reach};
use crate::error::{Error, Kind, Result};
use crate::store::{PatientQuery, Stored};

/// Most patients of a page.
pub const PATIENTS_MAX: u32 = 100;

/// What the cursors are bound to.
const ROUTE: &str = "patients";

/// Which patients are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientFilter {
    /// Of this facility alone.
    pub facility: Option<FacilityId>,
    /// Those who are in the hospital, or those who have left.
    pub open: bool,
    /// Only those admitted on this day or later.
    pub from: Option<NaiveDate>,
    /// Only those admitted on this day or before.
    pub to: Option<NaiveDate>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// How many, from 1 to [`PATIENTS_MAX`].
    pub limit: u32,
}

/// A page of patients, newest encounter first.
#[derive(Debug, Clone, PartialEq)]
pub struct PatientPage {
    /// The patients.
    pub patients: Vec<Stored>,
    /// Where the next page begins, if there is one. It holds no value that can be read.
    pub next: Option<String>,
}

/// A page of the patients whom the caller reaches. Each of them leaves an event about the encounter, all in one transaction.
///
/// # Errors
/// Forbidden, if the caller may not, or does not reach the facility; invalid, if the cursor is not one of ours; the record is away.
pub async fn patients(caller: &Caller, hospital: &Hospital, filter: &PatientFilter, now: DateTime<Utc>) -> Result<PatientPage> {
    hospital.allow(caller, Action::ReadPatients, now).await?;
    let event = |outcome| AuditEvent::new(caller, Action::ReadPatients, outcome, now);
    let reach = hospital.reach(caller, now).await?;
    let within = match filter.facility {
        Some(facility) if !reach.holds(facility) => {
            hospital.refuse(&event(Outcome::Refused).detail("facility beyond reach")).await?;
            return Err(Error::new(Kind::Forbidden, "this facility is not among those that you answer for"));
        }
        Some(facility) => Reach::Only(vec![facility]),
        None => reach,
    };
    let before = match filter.cursor.as_deref().map(|cursor| position(hospital, cursor)) {
        None => None,
        Some(Some(id)) => Some(id),
        Some(None) => {
            hospital.store.append_audit(&event(Outcome::Failure).detail("not a cursor of this route")).await?;
            return Err(bad_cursor());
        }
    };
    let limit = filter.limit.clamp(1, PATIENTS_MAX);
    // One more than is shown tells whether there is a next page.
    let query = PatientQuery { within, open: filter.open, from: filter.from, to: filter.to, before, limit: limit + 1 };
    let mut patients = match hospital.store.patients(&query).await {
        Ok(patients) => patients,
        Err(error) => return Err(failed(hospital, &event(Outcome::Failure), error).await),
    };
    let more = patients.len() > limit as usize;
    patients.truncate(limit as usize);
    let mut events: Vec<_> = patients
        .iter()
        .map(|stored| event(Outcome::Success).at_facility(stored.encounter.facility).about(stored.encounter.id).detail("list"))
        .collect();
    if events.is_empty() {
        let nobody = event(Outcome::Success).detail("list of nobody");
        events.push(match filter.facility {
            Some(facility) => nobody.at_facility(facility),
            None => nobody.at_every_facility(),
        });
    }
    hospital.store.append_audits(&events).await?;
    let last = patients.last().filter(|_| more).map(|stored| stored.encounter.id.get().to_be_bytes());
    let next = last.map(|last| hospital.pseudonyms.seal(ROUTE, &last)).transpose()?;
    Ok(PatientPage { patients, next })
}

/// Leaves the event of a call that the record did not answer, as far as the record takes it.
async fn failed(hospital: &Hospital, event: &AuditEvent, error: Error) -> Error {
    if let Err(untold) = hospital.store.append_audit(&event.clone().detail("the record could not be read")).await {
        tracing::warn!(error = %untold, "a failure that the trail does not hold");
    }
    error
}

fn position(hospital: &Hospital, cursor: &str) -> Option<EncounterId> {
    let bytes: [u8; 4] = hospital.pseudonyms.open(ROUTE, cursor)?.try_into().ok()?;
    EncounterId::new(i32::from_be_bytes(bytes).into())
}

/// One encounter, with its name, its values and its prediction. `id` is `None` if what was asked for can be no encounter's.
///
/// # Errors
/// Forbidden, if the caller may not; not found, whether there is none or it is beyond reach; the record is away.
pub async fn patient(caller: &Caller, hospital: &Hospital, id: Option<EncounterId>, now: DateTime<Utc>) -> Result<Stored> {
    hospital.allow(caller, Action::ReadPatients, now).await?;
    let event = |outcome| AuditEvent::new(caller, Action::ReadPatients, outcome, now);
    let reach = hospital.reach(caller, now).await?;
    let about = |event: AuditEvent| match id {
        Some(id) => event.about(id),
        None => event,
    };
    let found = match id {
        Some(id) => within(hospital, id, &reach).await,
        None => Ok(Sight::Nobody),
    };
    let (event, shown) = match found {
        Ok(Sight::Of(stored)) => (event(Outcome::Success).at_facility(stored.encounter.facility).detail("one"), Some(*stored)),
        Ok(Sight::Beyond) => (event(Outcome::Refused).detail("facility beyond reach"), None),
        Ok(Sight::Nobody) => (event(Outcome::Failure).detail("no such encounter"), None),
        Err(error) => return Err(failed(hospital, &about(event(Outcome::Failure)), error).await),
    };
    let event = about(event);
    match event.outcome {
        Outcome::Success => hospital.store.append_audit(&event).await?,
        // Counted alike: how often it is refused must not tell whether there is one.
        _ => hospital.refuse(&event).await?,
    }
    shown.ok_or_else(|| Error::not_found("no encounter of your facilities has this id: list them with GET /api/patients"))
}

/// What there is to see of an encounter.
enum Sight {
    Of(Box<Stored>),
    Beyond,
    Nobody,
}

/// The facility is looked at before the name is decrypted: one that does not open would tell that the encounter exists.
async fn within(hospital: &Hospital, id: EncounterId, reach: &Reach) -> Result<Sight> {
    match hospital.store.encounters_between(id, id, 1).await?.first() {
        None => return Ok(Sight::Nobody),
        Some(encounter) if !reach.holds(encounter.facility) => return Ok(Sight::Beyond),
        Some(_) => {}
    }
    let stored = hospital.store.encounter(id).await?.filter(|stored| reach.holds(stored.encounter.facility));
    Ok(stored.map_or(Sight::Nobody, |stored| Sight::Of(Box::new(stored))))
}
