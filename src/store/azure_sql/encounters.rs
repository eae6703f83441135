//! Encounters: admission, discharge, and what is asked about them.

use std::collections::HashSet;

use chrono::NaiveDate;
use tiberius::{ColumnData, Row, TokenRow};

use super::connection::Parameter;
use super::fault::Outcome;
use super::pool::Session;
use super::sql::{PREDICTIONS, Statements};
use super::values::{Bound, bind_encounter, cell, count, day, number, optional_text, parameter, read_encounter, text};
use super::{audit, outbox};
use crate::domain::{AuditEvent, Encounter, EncounterId, Facility, FacilityId, Fact, Phi, Prediction};
use crate::error::{Error, Result};
use crate::store::columns::{
    EncounterColumn, PREDICTION_COLUMNS, Value, encounter_columns, prediction_from_json, prediction_json, prediction_values,
    unreadable,
};
use crate::store::rules::{Departure, departure, is_same_admission};
use crate::store::{Admitted, Census, Discharged, Stored, Totals};

/// Stores an admission, unless its id is taken. Whoever loses a race for the id is tried again and finds it taken.
pub(super) async fn admit(
    session: &mut Session,
    sql: &Statements,
    encounter: &Encounter,
    prediction: Option<&Prediction>,
    event: &AuditEvent,
) -> Outcome<Admitted> {
    let admitted = match find(session, sql, encounter.id).await? {
        Some(stored) if is_same_admission(encounter, &stored.encounter) => Admitted::Before(Box::new(stored)),
        Some(_) => Admitted::Conflict,
        None => {
            insert(session, sql, encounter, prediction).await?;
            outbox::announce(session, sql, event, &Fact::PatientAdmitted(encounter.id)).await?;
            Admitted::Now
        }
    };
    audit::append_as(session, sql, event, admitted != Admitted::Conflict).await?;
    Ok(admitted)
}

async fn insert(session: &mut Session, sql: &Statements, encounter: &Encounter, prediction: Option<&Prediction>) -> Outcome<()> {
    let json = prediction.map(prediction_json).transpose()?;
    let predicted = match (prediction, &json) {
        (Some(prediction), Some(json)) => prediction_values(prediction, json),
        _ => [Value::Null; PREDICTION_COLUMNS.len()],
    };
    let mut bound = bind_encounter(encounter_columns(), encounter)?;
    for (value, (_, kind, _)) in predicted.into_iter().zip(PREDICTION_COLUMNS) {
        bound.push(parameter(value, kind)?);
    }
    let parameters: Vec<_> = bound.iter().map(Bound::parameter).collect();
    session.execute(&sql.insert_admission, &parameters).await?;
    Ok(())
}

/// Times that a discharge looks again when the encounter changed under its eyes.
const LOOKS: usize = 5;

/// Discharges an encounter, if it is open and the day does not lie before its admission.
pub(super) async fn discharge(
    session: &mut Session,
    sql: &Statements,
    id: EncounterId,
    on: NaiveDate,
    event: &AuditEvent,
) -> Outcome<Discharged> {
    let discharged = decide(session, sql, id, on).await?;
    if matches!(discharged, Discharged::Now(_)) {
        outbox::announce(session, sql, event, &Fact::PatientDischarged(id)).await?;
    }
    audit::append_as(session, sql, event, matches!(discharged, Discharged::Now(_) | Discharged::Before(_))).await?;
    Ok(discharged)
}

async fn decide(session: &mut Session, sql: &Statements, id: EncounterId, on: NaiveDate) -> Outcome<Discharged> {
    for _ in 0..LOOKS {
        let mut stored = match departure(find(session, sql, id).await?, on) {
            Departure::Answer(answer) => return Ok(answer),
            Departure::Close(stored) => stored,
        };
        let admitted = day(*stored.encounter.admitted.reveal())?;
        let values = [Parameter::Int(Some(id.get())), Parameter::Day(day(on)?), Parameter::Day(admitted)];
        if session.execute(&sql.discharge, &values).await? > 0 {
            stored.encounter.discharged = Phi::new(Some(on));
            return Ok(Discharged::Now(stored));
        }
    }
    Err(Error::unavailable("the encounter is being changed by others; try again").into())
}

/// One encounter with its prediction.
pub(super) async fn find(session: &mut Session, sql: &Statements, id: EncounterId) -> Outcome<Option<Stored>> {
    let Some(row) = session.row(&sql.encounter, &[Parameter::Int(Some(id.get()))]).await? else { return Ok(None) };
    Ok(Some(Stored {
        encounter: read_encounter(&row, encounter_columns())?,
        prediction: optional_text(&row, "prediction")?.map(prediction_from_json).transpose()?,
    }))
}

/// What `page`, one of the paged statements, answers: encounters by id after `after`, at least one asked for.
pub(super) async fn page(
    session: &mut Session,
    page: &str,
    columns: &[EncounterColumn],
    after: Option<EncounterId>,
    limit: u32,
) -> Outcome<Vec<Encounter>> {
    let from = Parameter::Int(Some(after.map_or(0, EncounterId::get)));
    let rows = session.rows(page, &[from, Parameter::Long(Some(limit.into()))]).await?;
    rows.iter().map(|row| read_encounter(row, columns)).collect()
}

/// Gives encounters that have none a prediction; of several for one encounter the first counts.
pub(super) async fn save_predictions(
    session: &mut Session,
    sql: &Statements,
    predictions: &[(EncounterId, Prediction)],
    event: &AuditEvent,
) -> Outcome<u64> {
    let mut met = HashSet::new();
    let mut staged = Vec::new();
    for (id, prediction) in predictions.iter().filter(|(id, _)| met.insert(*id)) {
        staged.push(prediction_row(*id, prediction)?);
    }
    let mut taken = 0;
    if !staged.is_empty() {
        session.batch(&sql.create_predictions).await?;
        session.bulk(PREDICTIONS, staged.into_iter().map(Ok)).await?;
        taken = session.execute(&sql.save_predictions, &[]).await?;
        session.batch(&sql.drop_temporary).await?;
    }
    audit::append(session, sql, event).await?;
    Ok(taken)
}

fn prediction_row(id: EncounterId, prediction: &Prediction) -> Result<TokenRow<'static>> {
    let json = prediction_json(prediction)?;
    let mut row = TokenRow::with_capacity(1 + PREDICTION_COLUMNS.len());
    row.push(ColumnData::I32(Some(id.get())));
    for (value, (_, kind, _)) in prediction_values(prediction, &json).into_iter().zip(PREDICTION_COLUMNS) {
        row.push(cell(value, kind)?);
    }
    Ok(row)
}

/// Adds facilities, or changes their names and beds.
pub(super) async fn save_facilities(
    session: &mut Session,
    sql: &Statements,
    facilities: &[Facility],
    event: &AuditEvent,
) -> Outcome<u64> {
    let mut changed = 0;
    for facility in facilities {
        let id = facility.id.to_string();
        let values = [Parameter::Text(&id), Parameter::Text(&facility.name), Parameter::Int(Some(facility.capacity))];
        changed += session.execute(&sql.update_facility, &values).await?;
        changed += session.execute(&sql.insert_facility, &values).await?;
    }
    audit::append(session, sql, event).await?;
    Ok(changed)
}

/// How many encounters there are.
pub(super) async fn totals(session: &mut Session, sql: &Statements) -> Outcome<Totals> {
    let Some(row) = session.row(&sql.totals, &[]).await? else { return Ok(Totals::default()) };
    let encounters = count(&row, "encounters")?;
    Ok(Totals { encounters, discharged: count(&row, "discharged")?, admitted: encounters - count(&row, "imported")? })
}

/// The facilities, by id.
pub(super) async fn facilities(session: &mut Session, sql: &Statements) -> Outcome<Vec<Facility>> {
    session.rows(&sql.all_facilities, &[]).await?.iter().map(read_facility).collect()
}

/// Every facility's census.
pub(super) async fn census(session: &mut Session, sql: &Statements, on: NaiveDate, until: NaiveDate) -> Outcome<Vec<Census>> {
    let rows = session.rows(&sql.census, &[Parameter::Day(day(on)?), Parameter::Day(day(until)?)]).await?;
    let census = |row: &Row| {
        Ok(Census {
            facility: read_facility(row)?,
            occupied: count(row, "occupied")?,
            expected_discharges: count(row, "leaving")?,
            discharged_today: count(row, "leavers")?,
        })
    };
    rows.iter().map(census).collect()
}

fn read_facility(row: &Row) -> Outcome<Facility> {
    let capacity = i32::try_from(number(row, "Capacity")?).map_err(|_| unreadable("capacity"))?;
    let id = FacilityId::parse(text(row, "Id")?).ok_or_else(|| unreadable("facility id"))?;
    Ok(Facility { id, name: text(row, "Name")?.to_owned(), capacity })
}
