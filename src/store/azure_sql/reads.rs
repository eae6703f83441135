//! What people read: patients, predictions, and encounters that name nobody; and the events that tell of it, many at once. The texts of
//! its statements are here, too.

use std::collections::BTreeMap;

use chrono::{NaiveDate, SecondsFormat, SubsecRound};
use tiberius::{ColumnData, Row, TokenRow};

use super::audit::CHAINS;
use super::connection::Parameter;
use super::fault::Outcome;
use super::pool::Session;
use super::sql::{AUDIT_COLUMNS, EVENTS, EXACT, Statements, join, names};
use super::values::{count, day, measure, number, optional_text, read_encounter, signed, text, text_cell};
use crate::domain::rows::Class;
use crate::domain::{AuditEvent, AuditRow, Encounter, EncounterId, FacilityId, Gender};
use crate::schema::Feature;
use crate::store::columns::{EncounterColumn, PATIENTS, encounter_columns, nameless_columns, prediction_from_json, unreadable};
use crate::store::rules::head_is_gone;
use crate::store::{Accuracy, BUCKET_IDS, Due, Expected, PatientQuery, RowCell, RowSurvey, Stored};

/// Adds `events`, at least one, to one chain: as many round trips for a hundred as for two.
pub(super) async fn append(session: &mut Session, sql: &Statements, events: &[AuditEvent]) -> Outcome<()> {
    for (elevation, times) in elevations(events) {
        session.execute(&sql.count_under_elevation, &[Parameter::Text(elevation), Parameter::Long(Some(times))]).await?;
    }
    let operation = session.operation().to_owned();
    let chain = session.draw() % CHAINS;
    let number = i64::try_from(events.len()).map_err(|_| unreadable("number of events"))?;
    let head = session.row(&sql.advance_chain_by, &[Parameter::Long(Some(chain.into())), Parameter::Long(Some(number))]).await?;
    let head = head.ok_or_else(head_is_gone)?;
    let (last, mut hash) = (count(&head, "place")?, text(&head, "hash")?.to_owned());
    let first = last.checked_sub(events.len() as u64).ok_or_else(|| unreadable("place in the chain"))? + 1;
    let mut staged = Vec::with_capacity(events.len());
    for (event, place) in events.iter().zip(first..) {
        let row = AuditRow::of(event);
        hash = row.hash(chain, place, &hash);
        staged.push(event_row(&row, event, signed(place)?, &hash));
    }
    session.batch(&sql.create_events).await?;
    session.bulk(EVENTS, staged.into_iter().map(Ok)).await?;
    session
        .execute(
            &sql.insert_events,
            &[Parameter::Text(&operation), Parameter::Long(Some(chain.into())), Parameter::Long(Some(number))],
        )
        .await?;
    session.execute(&sql.chain_hash, &[Parameter::Long(Some(chain.into())), Parameter::Text(&hash)]).await?;
    session.batch(&sql.drop_temporary).await
}

/// The elevations that `events` needed, and how many needed each.
fn elevations(events: &[AuditEvent]) -> BTreeMap<&str, i64> {
    let mut needed = BTreeMap::new();
    for elevation in events.iter().filter_map(|event| event.elevation.as_deref()) {
        *needed.entry(elevation).or_default() += 1;
    }
    needed
}

fn event_row(row: &AuditRow, event: &AuditEvent, place: i64, hash: &str) -> TokenRow<'static> {
    let mut cells = TokenRow::with_capacity(12);
    cells.push(ColumnData::I64(Some(place)));
    cells.push(text_cell(&event.at.trunc_subsecs(6).to_rfc3339_opts(SecondsFormat::Micros, true)));
    for word in [&row.caller, &row.roles, &row.proof, &row.correlation, &row.origin, &row.action, &row.outcome] {
        cells.push(text_cell(word));
    }
    cells.push(ColumnData::I32(event.encounter.map(EncounterId::get)));
    cells.push(text_cell(&row.detail));
    cells.push(text_cell(hash));
    cells
}

/// The columns of [`EVENTS`], in the order of [`event_row`].
pub(super) fn event_columns() -> impl Iterator<Item = String> {
    let columns = [
        "place bigint NOT NULL PRIMARY KEY",
        "[at] nvarchar(40) NOT NULL",
        "caller nvarchar(max) NOT NULL",
        "roles nvarchar(max) NOT NULL",
        "proof nvarchar(20) NOT NULL",
        "correlation nvarchar(max) NOT NULL",
        "origin nvarchar(100) NOT NULL",
        "[action] nvarchar(50) NOT NULL",
        "outcome nvarchar(20) NOT NULL",
        "encounter int NULL",
        "detail nvarchar(max) NOT NULL",
        "hash nvarchar(64) NOT NULL",
    ];
    columns.into_iter().map(str::to_owned)
}

pub(super) fn insert_events(s: &str) -> String {
    let columns = AUDIT_COLUMNS.split(", ").map(|column| match column.trim() {
        "[at]" => "CAST(e.[at] AS datetimeoffset(7))".to_owned(),
        column => format!("e.{column}"),
    });
    format!(
        "INSERT INTO {s}.audit ({AUDIT_COLUMNS}, operation, chain, place, hash)\n\
         SELECT {}, @P1, @P2, e.place, e.hash FROM {EVENTS} AS e\n\
         ORDER BY e.place OFFSET 0 ROWS FETCH NEXT @P3 ROWS ONLY",
        join(columns)
    )
}

/// The patients of `query`, at least one asked for.
pub(super) async fn find_patients(session: &mut Session, sql: &Statements, query: &PatientQuery) -> Outcome<Vec<Stored>> {
    let letters = query.letters();
    let ends = [NaiveDate::from_ymd_opt(1, 1, 1), NaiveDate::from_ymd_opt(9999, 12, 31)].map(Option::unwrap_or_default);
    let values = [
        Parameter::Text(&letters),
        Parameter::Day(day(query.from.unwrap_or(ends[0]))?),
        Parameter::Day(day(query.to.unwrap_or(ends[1]))?),
        Parameter::Long(Some(query.before.map_or(i64::MAX, |id| id.get().into()))),
        Parameter::Long(Some(query.limit.into())),
    ];
    let statement = if query.open { &sql.patients_open } else { &sql.patients_discharged };
    session.rows(statement, &values).await?.iter().map(|row| stored(row, encounter_columns())).collect()
}

/// The page's ids are found first: who is in the hospital is in the index of open encounters.
pub(super) fn patients(s: &str, which: &str) -> String {
    format!(
        "SELECT {}, prediction FROM {s}.{PATIENTS} WHERE eid IN (\n  \
         SELECT eid FROM {s}.{PATIENTS} WHERE {which} AND @P1 {EXACT} LIKE CONCAT(N'%', facid, N'%') {EXACT}\n  \
         AND vdate >= @P2 AND vdate <= @P3 AND eid < @P4\n  \
         ORDER BY eid DESC OFFSET 0 ROWS FETCH NEXT @P5 ROWS ONLY)\nORDER BY eid DESC",
        names(encounter_columns())
    )
}

fn stored(row: &Row, columns: &[EncounterColumn]) -> Outcome<Stored> {
    Ok(Stored {
        encounter: read_encounter(row, columns)?,
        prediction: optional_text(row, "prediction")?.map(prediction_from_json).transpose()?,
    })
}

/// Open encounters by facility and by when they are predicted to end.
pub(super) async fn expected(session: &mut Session, sql: &Statements, today: NaiveDate, days: u32) -> Outcome<Vec<Expected>> {
    let rows = session.rows(&sql.expected_discharges, &[Parameter::Day(day(today)?), Parameter::Long(Some(days.into()))]).await?;
    let expected = |row: &Row| {
        let due = Due::of(number(row, "due")?, days);
        Ok(Expected { facility: facility(row)?, due, encounters: count(row, "encounters")? })
    };
    rows.iter().map(expected).collect()
}

/// From the index of open encounters alone.
pub(super) fn expected_discharges(s: &str) -> String {
    format!(
        "SELECT y.facid, CAST(y.due AS bigint) AS due, CAST(COUNT_BIG(*) AS bigint) AS encounters\n\
         FROM (SELECT x.facid, CASE WHEN x.due IS NULL THEN CAST(-2 AS bigint) WHEN x.due < 0 THEN CAST(-1 AS bigint)\n    \
         WHEN x.due > @P2 THEN @P2 + 1 ELSE x.due END AS due\n  \
         FROM (SELECT facid, CAST(DATEDIFF(day, @P1, vdate) + predlengthofstay AS bigint) AS due\n    \
         FROM {s}.{PATIENTS} WHERE discharged IS NULL AND vdate <= @P1) AS x) AS y\n\
         GROUP BY y.facid, y.due ORDER BY y.facid, y.due"
    )
}

/// How far the predictions were off, by facility.
pub(super) async fn accuracy(session: &mut Session, sql: &Statements, from: NaiveDate, to: NaiveDate) -> Outcome<Vec<Accuracy>> {
    let rows = session.rows(&sql.accuracy, &[Parameter::Day(day(from)?), Parameter::Day(day(to)?)]).await?;
    let accuracy = |row: &Row| {
        Ok(Accuracy {
            facility: facility(row)?,
            stays: count(row, "stays")?,
            off_days: measure(row, "offdays")?,
            longer_days: measure(row, "longerdays")?,
            within_day: count(row, "withinday")?,
            inside80: count(row, "inside80")?,
            inside90: count(row, "inside90")?,
        })
    };
    rows.iter().map(accuracy).collect()
}

pub(super) fn accuracy_sums(s: &str) -> String {
    let inside = |low: &str, high: &str| {
        format!("CAST(SUM(CASE WHEN {low} <= lengthofstay AND lengthofstay <= {high} THEN 1 ELSE 0 END) AS bigint)")
    };
    format!(
        "SELECT facid, CAST(COUNT_BIG(*) AS bigint) AS stays, CAST(SUM(ABS(lengthofstay - predictedstaydays)) AS float) AS offdays,\n  \
         CAST(SUM(lengthofstay - predictedstaydays) AS float) AS longerdays,\n  \
         CAST(SUM(CASE WHEN ABS(lengthofstay - predictedstaydays) <= 1 THEN 1 ELSE 0 END) AS bigint) AS withinday,\n  \
         {} AS inside80,\n  {} AS inside90\n\
         FROM {s}.{PATIENTS} WHERE predictedstaydays IS NOT NULL AND discharged >= @P1 AND discharged <= @P2\n\
         GROUP BY facid ORDER BY facid",
        inside("predictedlow80", "predictedhigh80"),
        inside("predictedlow90", "predictedhigh90")
    )
}

/// Encounters with a prediction, latest admission first, without names; at least one asked for.
pub(super) async fn newest(session: &mut Session, sql: &Statements, limit: u32) -> Outcome<Vec<Stored>> {
    let rows = session.rows(&sql.newest_predictions, &[Parameter::Long(Some(limit.into()))]).await?;
    rows.iter().map(|row| stored(row, nameless_columns())).collect()
}

pub(super) fn newest_predictions(s: &str) -> String {
    format!(
        "SELECT {}, prediction FROM {s}.{PATIENTS} WHERE predictedstaydays IS NOT NULL\n\
         ORDER BY vdate DESC, eid DESC OFFSET 0 ROWS FETCH NEXT @P1 ROWS ONLY",
        names(nameless_columns())
    )
}

/// What must be known of all encounters admitted before `before`, before one of them is shown without a name.
pub(super) async fn survey(session: &mut Session, sql: &Statements, before: NaiveDate) -> Outcome<RowSurvey> {
    let before = [Parameter::Day(day(before)?)];
    let cell = |row: &Row| {
        let gender = Gender::parse(text(row, "gender")?).ok_or_else(|| unreadable("gender"))?;
        let year = int(number(row, "admissionyear")?)?;
        let conditions = 1..=Feature::conditions().count();
        Ok(RowCell {
            class: Class { year, facility: facility(row)?, gender },
            encounters: count(row, "encounters")?,
            conditions: conditions.map(|place| count(row, format!("condition{place}").as_str())).collect::<Outcome<_>>()?,
        })
    };
    let cells = session.rows(&sql.row_survey, &before).await?.iter().map(cell).collect::<Outcome<_>>()?;
    let bucket = |row: &Row| Ok((int(number(row, "bucket")?)?, count(row, "encounters")?));
    let buckets = session.rows(&sql.row_buckets, &before).await?.iter().map(bucket).collect::<Outcome<_>>()?;
    Ok(RowSurvey { cells, buckets })
}

fn int(number: i64) -> Outcome<i32> {
    Ok(i32::try_from(number).map_err(|_| unreadable("number out of its range"))?)
}

/// The conditions come last, in the order of the clinical table.
pub(super) fn row_survey(s: &str) -> String {
    let conditions: Vec<_> = Feature::conditions().map(|feature| feature.spec().name).collect();
    let sums = conditions
        .iter()
        .zip(1..)
        .map(|(name, place)| format!("\n  CAST(SUM(CASE WHEN x.{name} = 1 THEN 1 ELSE 0 END) AS bigint) AS condition{place}"));
    format!(
        "SELECT x.admissionyear, x.facid, x.gender, CAST(COUNT_BIG(*) AS bigint) AS encounters, {}\n\
         FROM (SELECT CAST(YEAR(vdate) AS int) AS admissionyear, facid, gender, {} FROM {s}.{PATIENTS} WHERE vdate < @P1) AS x\n\
         GROUP BY x.admissionyear, x.facid, x.gender",
        join(sums),
        join(conditions.iter())
    )
}

pub(super) fn row_buckets(s: &str) -> String {
    format!(
        "SELECT CAST(x.bucket AS int) AS bucket, CAST(COUNT_BIG(*) AS bigint) AS encounters\n\
         FROM (SELECT eid / {BUCKET_IDS} AS bucket FROM {s}.{PATIENTS} WHERE vdate < @P1) AS x\n\
         GROUP BY x.bucket ORDER BY x.bucket"
    )
}

/// Encounters with the ids from `first` to `last`, without names; at least one asked for.
pub(super) async fn between(
    session: &mut Session,
    sql: &Statements,
    first: EncounterId,
    last: EncounterId,
    limit: u32,
) -> Outcome<Vec<Encounter>> {
    let values = [Parameter::Int(Some(first.get())), Parameter::Int(Some(last.get())), Parameter::Long(Some(limit.into()))];
    session.rows(&sql.encounters_between, &values).await?.iter().map(|row| read_encounter(row, nameless_columns())).collect()
}

pub(super) fn encounters_between(s: &str) -> String {
    format!(
        "SELECT {} FROM {s}.{PATIENTS} WHERE eid >= @P1 AND eid <= @P2\nORDER BY eid OFFSET 0 ROWS FETCH NEXT @P3 ROWS ONLY",
        names(nameless_columns())
    )
}

fn facility(row: &Row) -> Outcome<FacilityId> {
    Ok(FacilityId::parse(text(row, "facid")?).ok_or_else(|| unreadable("facility id"))?)
}
