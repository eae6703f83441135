//! What people read: patients, predictions, and encounters that name nobody.

use std::collections::HashMap;

use chrono::NaiveDate;
use rusqlite::{Connection, Row};

use super::fault::Outcome;
use super::sql;
use super::values::{Day, count, read_encounter, text};
use crate::domain::rows::Class;
use crate::domain::{Encounter, EncounterId, FacilityId, Gender};
use crate::schema::Feature;
use crate::store::columns::{EncounterColumn, encounter_columns, nameless_columns, prediction_from_json, unreadable};
use crate::store::{Accuracy, BUCKET_IDS, Due, Expected, PatientQuery, RowCell, RowSurvey, Stored};

/// The patients of `query`.
pub(super) fn patients(connection: &Connection, query: &PatientQuery) -> Outcome<Vec<Stored>> {
    let (from, to) = (Day::of(query.from.unwrap_or(first_day()))?, Day::of(query.to.unwrap_or(last_day()))?);
    let before = query.before.map_or(i64::MAX, |id| i64::from(id.get()));
    let values = (query.letters(), from.as_str()?, to.as_str()?, before, query.limit);
    let statement = if query.open { &sql::PATIENTS_OPEN } else { &sql::PATIENTS_DISCHARGED };
    connection.prepare_cached(statement)?.query_and_then(values, |row| stored(row, encounter_columns()))?.collect()
}

fn first_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(0, 1, 1).unwrap_or_default()
}

fn last_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or_default()
}

fn stored(row: &Row<'_>, columns: &[EncounterColumn]) -> Outcome<Stored> {
    let json: Option<String> = row.get("prediction")?;
    Ok(Stored { encounter: read_encounter(row, columns)?, prediction: json.as_deref().map(prediction_from_json).transpose()? })
}

/// Open encounters by facility and by when they are predicted to end.
pub(super) fn expected(connection: &Connection, today: NaiveDate, days: u32) -> Outcome<Vec<Expected>> {
    let expected = |row: &Row<'_>| -> Outcome<_> {
        let due = Due::of(row.get("due")?, days);
        Ok(Expected { facility: facility(text(row, 0)?)?, due, encounters: count(row, "encounters")? })
    };
    let today = Day::of(today)?;
    connection.prepare_cached(&sql::EXPECTED_DISCHARGES)?.query_and_then((today.as_str()?, days), expected)?.collect()
}

/// How far the predictions were off, by facility.
pub(super) fn accuracy(connection: &Connection, from: NaiveDate, to: NaiveDate) -> Outcome<Vec<Accuracy>> {
    let accuracy = |row: &Row<'_>| -> Outcome<_> {
        Ok(Accuracy {
            facility: facility(text(row, 0)?)?,
            stays: count(row, "stays")?,
            off_days: row.get("off")?,
            longer_days: row.get("longer")?,
            within_day: count(row, "withinday")?,
            inside80: count(row, "inside80")?,
            inside90: count(row, "inside90")?,
        })
    };
    let (from, to) = (Day::of(from)?, Day::of(to)?);
    connection.prepare_cached(&sql::ACCURACY)?.query_and_then((from.as_str()?, to.as_str()?), accuracy)?.collect()
}

/// Encounters with a prediction, latest admission first, without names.
pub(super) fn newest(connection: &Connection, limit: u32) -> Outcome<Vec<Stored>> {
    connection.prepare_cached(&sql::NEWEST_PREDICTIONS)?.query_and_then([limit], |row| stored(row, nameless_columns()))?.collect()
}

/// What must be known of all encounters admitted before `before`, before one of them is shown without a name.
pub(super) fn survey(connection: &Connection, before: NaiveDate) -> Outcome<RowSurvey> {
    let conditions = Feature::conditions().count();
    let mut cells: HashMap<Class, RowCell> = HashMap::new();
    let mut buckets: Vec<(i32, u64)> = Vec::new();
    let before = Day::of(before)?;
    let mut statement = connection.prepare_cached(&sql::ROW_SURVEY)?;
    let mut rows = statement.query([before.as_str()?])?;
    while let Some(row) = rows.next()? {
        let bucket = row.get::<_, i32>(0)? / BUCKET_IDS;
        match buckets.last_mut() {
            Some((last, encounters)) if *last == bucket => *encounters += 1,
            _ => buckets.push((bucket, 1)),
        }
        let year: i32 = text(row, 1)?.parse().map_err(|_| unreadable("date"))?;
        let gender = Gender::parse(text(row, 3)?).ok_or_else(|| unreadable("gender"))?;
        let class = Class { year, facility: facility(text(row, 2)?)?, gender };
        let cell = cells.entry(class).or_insert_with(|| RowCell { class, encounters: 0, conditions: vec![0; conditions] });
        cell.encounters += 1;
        for (place, number) in (4..).zip(&mut cell.conditions) {
            *number += u64::from(row.get::<_, Option<i64>>(place)? == Some(1));
        }
    }
    Ok(RowSurvey { cells: cells.into_values().collect(), buckets })
}

/// Encounters with the ids from `first` to `last`, without names.
pub(super) fn between(connection: &Connection, first: EncounterId, last: EncounterId, limit: u32) -> Outcome<Vec<Encounter>> {
    connection
        .prepare_cached(&sql::ENCOUNTERS_BETWEEN)?
        .query_and_then((first.get(), last.get(), limit), |row| read_encounter(row, nameless_columns()))?
        .collect()
}

fn facility(text: &str) -> Outcome<FacilityId> {
    Ok(FacilityId::parse(text).ok_or_else(|| unreadable("facility id"))?)
}
