//! Encounters: admission, discharge, and what is asked about them.

use chrono::NaiveDate;
use rusqlite::{Connection, Row, Transaction};

use super::fault::Outcome;
use super::values::{Day, bind, bind_encounter, read_encounter};
use super::{audit, outbox, sql};
use crate::domain::{AuditEvent, Encounter, EncounterId, Facility, FacilityId, Fact, Phi, Prediction};
use crate::store::columns::{
    PREDICTION_COLUMNS, encounter_columns, nameless_columns, prediction_from_json, prediction_json, prediction_values, unreadable,
};
use crate::store::rules::{Departure, departure, is_same_admission};
use crate::store::{Admitted, Census, Discharged, Stored, Totals};

/// Stores an admission, unless its id is taken.
pub(super) fn admit(
    transaction: &Transaction<'_>,
    encounter: &Encounter,
    prediction: Option<&Prediction>,
    event: &AuditEvent,
) -> Outcome<Admitted> {
    let admitted = match find(transaction, encounter.id)? {
        Some(stored) if is_same_admission(encounter, &stored.encounter) => Admitted::Before(Box::new(stored)),
        Some(_) => Admitted::Conflict,
        None => {
            insert(transaction, encounter, prediction)?;
            outbox::announce(transaction, event, &Fact::PatientAdmitted(encounter.id))?;
            Admitted::Now
        }
    };
    audit::append_as(transaction, event, admitted != Admitted::Conflict)?;
    Ok(admitted)
}

fn insert(transaction: &Transaction<'_>, encounter: &Encounter, prediction: Option<&Prediction>) -> Outcome<()> {
    let mut statement = transaction.prepare_cached(&sql::INSERT_ADMISSION)?;
    bind_encounter(&mut statement, encounter_columns(), encounter)?;
    let first = encounter_columns().len() + 1;
    match prediction {
        Some(prediction) => {
            let json = prediction_json(prediction)?;
            for (place, value) in (first..).zip(prediction_values(prediction, &json)) {
                bind(&mut statement, place, value)?;
            }
        }
        None => {
            for place in (first..).take(PREDICTION_COLUMNS.len()) {
                bind(&mut statement, place, crate::store::columns::Value::Null)?;
            }
        }
    }
    statement.raw_execute()?;
    Ok(())
}

/// Discharges an encounter, if it is open and the day does not lie before its admission.
pub(super) fn discharge(transaction: &Transaction<'_>, id: EncounterId, on: NaiveDate, event: &AuditEvent) -> Outcome<Discharged> {
    let discharged = match departure(find(transaction, id)?, on) {
        Departure::Answer(answer) => answer,
        Departure::Close(stored) => {
            let stored = close(transaction, *stored, on)?;
            outbox::announce(transaction, event, &Fact::PatientDischarged(id))?;
            Discharged::Now(Box::new(stored))
        }
    };
    audit::append_as(transaction, event, matches!(discharged, Discharged::Now(_) | Discharged::Before(_)))?;
    Ok(discharged)
}

fn close(transaction: &Transaction<'_>, mut stored: Stored, on: NaiveDate) -> Outcome<Stored> {
    stored.encounter.discharged = Phi::new(Some(on));
    let (id, stay_days) = (stored.encounter.id.get(), stored.encounter.stay_days());
    transaction.prepare_cached(&sql::DISCHARGE)?.execute((id, Day::of(on)?.as_str()?, stay_days))?;
    Ok(stored)
}

/// One encounter with its prediction.
pub(super) fn find(connection: &Connection, id: EncounterId) -> Outcome<Option<Stored>> {
    let stored = |row: &Row<'_>| -> Outcome<Stored> {
        let json: Option<String> = row.get("prediction")?;
        Ok(Stored {
            encounter: read_encounter(row, encounter_columns())?,
            prediction: json.as_deref().map(prediction_from_json).transpose()?,
        })
    };
    connection.prepare_cached(&sql::ENCOUNTER)?.query_and_then([id.get()], stored)?.next().transpose()
}

/// Encounters by id after `after`.
pub(super) fn page(connection: &Connection, after: Option<EncounterId>, limit: u32) -> Outcome<Vec<Encounter>> {
    connection
        .prepare_cached(&sql::ENCOUNTERS)?
        .query_and_then((after.map_or(0, EncounterId::get), limit), |row| read_encounter(row, encounter_columns()))?
        .collect()
}

/// Discharged encounters by id after `after`, without names.
pub(super) fn discharged(connection: &Connection, after: Option<EncounterId>, limit: u32) -> Outcome<Vec<Encounter>> {
    connection
        .prepare_cached(&sql::DISCHARGED_ENCOUNTERS)?
        .query_and_then((after.map_or(0, EncounterId::get), limit), |row| read_encounter(row, nameless_columns()))?
        .collect()
}

/// Open encounters without a prediction by id after `after`, without names.
pub(super) fn unpredicted(connection: &Connection, after: Option<EncounterId>, limit: u32) -> Outcome<Vec<Encounter>> {
    connection
        .prepare_cached(&sql::UNPREDICTED_ENCOUNTERS)?
        .query_and_then((after.map_or(0, EncounterId::get), limit), |row| read_encounter(row, nameless_columns()))?
        .collect()
}

/// Gives encounters that have none a prediction.
pub(super) fn save_predictions(
    transaction: &Transaction<'_>,
    predictions: &[(EncounterId, Prediction)],
    event: &AuditEvent,
) -> Outcome<u64> {
    let mut statement = transaction.prepare_cached(&sql::SAVE_PREDICTION)?;
    let mut taken = 0;
    for (id, prediction) in predictions {
        let json = prediction_json(prediction)?;
        bind(&mut statement, 1, crate::store::columns::Value::Integer(id.get().into()))?;
        for (place, value) in (2..).zip(prediction_values(prediction, &json)) {
            bind(&mut statement, place, value)?;
        }
        taken += u64::try_from(statement.raw_execute()?).unwrap_or_default();
    }
    audit::append(transaction, event)?;
    Ok(taken)
}

/// Adds facilities, or changes their names and beds.
pub(super) fn save_facilities(transaction: &Transaction<'_>, facilities: &[Facility], event: &AuditEvent) -> Outcome<u64> {
    let mut statement = transaction.prepare_cached(&sql::SAVE_FACILITY)?;
    let mut changed = 0;
    for facility in facilities {
        changed += statement.execute((facility.id.to_string(), &facility.name, facility.capacity))?;
    }
    audit::append(transaction, event)?;
    Ok(u64::try_from(changed).unwrap_or_default())
}

/// How many encounters there are.
pub(super) fn totals(connection: &Connection) -> Outcome<Totals> {
    let totals = |row: &Row<'_>| -> Outcome<Totals> {
        Ok(Totals { encounters: number(row, 0)?, discharged: number(row, 1)?, admitted: number(row, 2)? })
    };
    connection.prepare_cached(&sql::TOTALS)?.query_and_then([], totals)?.next().unwrap_or_else(|| Ok(Totals::default()))
}

/// The facilities, by id.
pub(super) fn facilities(connection: &Connection) -> Outcome<Vec<Facility>> {
    connection.prepare_cached(&sql::ALL_FACILITIES)?.query_and_then([], read_facility)?.collect()
}

/// Every facility's census.
pub(super) fn census(connection: &Connection, day: NaiveDate, until: NaiveDate) -> Outcome<Vec<Census>> {
    let census = |row: &Row<'_>| -> Outcome<Census> {
        Ok(Census {
            facility: read_facility(row)?,
            occupied: number(row, 3)?,
            expected_discharges: number(row, 4)?,
            discharged_today: number(row, 5)?,
        })
    };
    let (day, until) = (Day::of(day)?, Day::of(until)?);
    connection.prepare_cached(&sql::CENSUS)?.query_and_then((day.as_str()?, until.as_str()?), census)?.collect()
}

fn read_facility(row: &Row<'_>) -> Outcome<Facility> {
    let id: String = row.get("Id")?;
    Ok(Facility {
        id: FacilityId::parse(&id).ok_or_else(|| unreadable("facility id"))?,
        name: row.get("Name")?,
        capacity: row.get("Capacity")?,
    })
}

fn number(row: &Row<'_>, place: usize) -> Outcome<u64> {
    Ok(u64::try_from(row.get::<_, i64>(place)?).map_err(|_| unreadable("negative count"))?)
}
