//! The columns of the blueprint's `PatientData`, in terms that every SQL dialect shares: names, types, and the way from an
//! [`Encounter`] to values and back. It does not know any SQL.

use std::sync::OnceLock;

use chrono::NaiveDate;

use crate::domain::patient::{NAME_CHARS_MAX, name_fits};
use crate::domain::{Clinical, Encounter, EncounterId, FacilityId, Gender, PersonName, Phi, Prediction};
use crate::error::{Error, Result};
use crate::schema::{self, Column, Feature, READMISSIONS_TOP, Shape};

/// The patients' table, the blueprint's name.
pub(crate) const PATIENTS: &str = "PatientData";

/// The facilities' table, the blueprint's name.
pub(crate) const FACILITIES: &str = "MetaData_Facilities";

/// What the stored form of an encrypted text begins with: the format's version. The key's id and a colon follow.
pub(crate) const SEALED_PREFIX: &str = "hdai1:";

/// Characters of [`SEALED_PREFIX`], a key's id and the colon.
pub(crate) const SEALED_PREFIX_CHARS: usize = 23;

/// Longest stored form of a part of a name, in characters: one of [`NAME_CHARS_MAX`] is at most 150 bytes, and encrypted 274 characters.
pub(crate) const NAME_STORED_CHARS_MAX: usize = 300;

/// What a column holds, whatever a dialect calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// Text of at most so many characters.
    Text(usize),
    /// Text without a limit of its own.
    LongText,
    /// A whole number.
    Integer,
    /// An IEEE 754 double.
    Real,
    /// A day.
    Date,
}

/// A column that comes from an [`Encounter`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncounterColumn {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) kind: Type,
    /// May it be NULL?
    pub(crate) nullable: bool,
    /// Which of the encounter's values it is.
    pub(crate) column: Column,
    /// One sentence for the reader of the schema.
    pub(crate) doc: &'static str,
}

/// The table's columns from an [`Encounter`], in the blueprint's order.
pub(crate) fn encounter_columns() -> &'static [EncounterColumn] {
    static COLUMNS: OnceLock<Vec<EncounterColumn>> = OnceLock::new();
    COLUMNS.get_or_init(|| {
        let column = |csv: &schema::CsvColumn| EncounterColumn {
            name: csv.db_column,
            kind: kind(csv.column),
            nullable: !matches!(csv.column, Column::EncounterId | Column::Admitted | Column::Gender | Column::Facility),
            column: csv.column,
            doc: csv.doc,
        };
        schema::csv_columns().iter().map(column).collect()
    })
}

/// The columns of the patient's name.
pub(crate) fn name_columns() -> impl Iterator<Item = &'static EncounterColumn> + Clone {
    encounter_columns().iter().filter(|column| is_name(column.column))
}

/// Is it a part of the patient's name?
pub(crate) fn is_name(column: Column) -> bool {
    matches!(column, Column::First | Column::Middle | Column::Last)
}

/// [`encounter_columns`] without the patient's name.
pub(crate) fn nameless_columns() -> &'static [EncounterColumn] {
    static COLUMNS: OnceLock<Vec<EncounterColumn>> = OnceLock::new();
    COLUMNS.get_or_init(|| encounter_columns().iter().filter(|c| !is_name(c.column)).copied().collect())
}

fn kind(column: Column) -> Type {
    match column {
        Column::First | Column::Middle | Column::Last => Type::Text(NAME_STORED_CHARS_MAX),
        Column::EncounterId | Column::LengthOfStay => Type::Integer,
        Column::Admitted | Column::Discharged => Type::Date,
        Column::Gender | Column::Facility => Type::Text(1),
        Column::Clinical(feature) => match feature.spec().shape {
            Shape::Readmissions => Type::Text(5),
            Shape::Condition => Type::Integer,
            Shape::Measurement(m) if m.whole => Type::Integer,
            Shape::Measurement(_) => Type::Real,
        },
    }
}

/// The columns that an admission's prediction fills, all nullable, in the order of [`prediction_values`]. The first is the
/// blueprint's. The last is the whole prediction, so that a repeated admission is answered as the first one was.
pub(crate) const PREDICTION_COLUMNS: [(&str, Type, &str); 8] = [
    ("predlengthofstay", Type::Integer, "Predicted stay in whole days, at least 1."),
    ("predictedstaydays", Type::Real, "Predicted stay in days."),
    ("predictedlow80", Type::Real, "Lower end of the 80 % interval, days."),
    ("predictedhigh80", Type::Real, "Upper end of the 80 % interval, days."),
    ("predictedlow90", Type::Real, "Lower end of the 90 % interval, days."),
    ("predictedhigh90", Type::Real, "Upper end of the 90 % interval, days."),
    ("modelversion", Type::Text(100), "The model that predicted."),
    ("prediction", Type::LongText, "The whole prediction with its reasons, JSON."),
];

/// The column that names the import a row was last changed by; NULL for an admission.
pub(crate) const IMPORT_ID: (&str, Type, &str) =
    ("importid", Type::Text(32), "The import that stored or last changed the row; NULL if it was admitted.");

/// A value on its way between an [`Encounter`] and a statement. It holds patient data and so has no `Debug`.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// Missing.
    Null,
    /// For [`Type::Integer`]; it fits SQL's `int`.
    Integer(i64),
    /// For [`Type::Real`]; finite.
    Real(f64),
    /// For [`Type::Text`] and [`Type::LongText`].
    Text(&'a str),
    /// For [`Type::Date`].
    Date(NaiveDate),
}

/// The value of `column` in `encounter`.
///
/// # Errors
/// Invalid, if a value breaks the rule of its type or of its feature's shape: it would not come back as it went in.
pub(crate) fn value(column: Column, encounter: &Encounter) -> Result<Value<'_>> {
    Ok(match column {
        Column::First => name_part(&encounter.name.first)?,
        Column::Middle => name_part(&encounter.name.middle)?,
        Column::Last => name_part(&encounter.name.last)?,
        Column::EncounterId => Value::Integer(encounter.id.get().into()),
        Column::Admitted => Value::Date(*encounter.admitted.reveal()),
        Column::Gender => Value::Text(encounter.gender.code()),
        Column::Discharged if encounter.discharged.reveal().is_some_and(|day| day < *encounter.admitted.reveal()) => {
            return Err(Error::invalid("a discharge lies before its admission; check the row against the schema first"));
        }
        Column::Discharged => encounter.discharged.reveal().map_or(Value::Null, Value::Date),
        Column::Facility => Value::Text(facility_text(encounter.facility)),
        Column::LengthOfStay => encounter.stay_days().map_or(Value::Null, |days| Value::Integer(days.into())),
        Column::Clinical(feature) => match encounter.clinical.get(feature) {
            None => Value::Null,
            Some(number) => clinical_value(feature, number)?,
        },
    })
}

fn name_part(part: &Phi<String>) -> Result<Value<'_>> {
    match part.reveal().as_str() {
        // SQL's text comparison knows no difference between blanks and nothing.
        text if text.bytes().all(|byte| byte == b' ') => Ok(Value::Null),
        text if name_fits(text) || (text.starts_with(SEALED_PREFIX) && text.len() <= NAME_STORED_CHARS_MAX) => {
            Ok(Value::Text(text))
        }
        _ => Err(name_too_long()),
    }
}

/// No column holds it.
pub(crate) fn name_too_long() -> Error {
    Error::invalid(format!("a part of a name is longer than {NAME_CHARS_MAX} characters; shorten it first"))
}

/// The facility's letter, without an allocation for every row of an import.
fn facility_text(facility: FacilityId) -> &'static str {
    const LETTERS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    LETTERS.find(facility.letter()).and_then(|at| LETTERS.get(at..=at)).unwrap_or("")
}

const READMISSIONS: [&str; 6] = ["0", "1", "2", "3", "4", "5+"];

fn clinical_value(feature: Feature, number: f64) -> Result<Value<'static>> {
    let spec = feature.spec();
    let value = match (spec.shape, whole(number)) {
        (Shape::Readmissions, Some(n)) => usize::try_from(n).ok().and_then(|n| READMISSIONS.get(n)).map(|text| Value::Text(text)),
        (Shape::Condition, Some(n @ 0..=1)) => Some(Value::Integer(n)),
        (Shape::Measurement(m), Some(n)) if m.whole => i32::try_from(n).ok().map(|n| Value::Integer(n.into())),
        // SQL's `float` holds no subnormal number.
        (Shape::Measurement(m), _) if !m.whole && number.is_finite() && !number.is_subnormal() => Some(Value::Real(number)),
        _ => None,
    };
    let refused =
        || Error::invalid(format!("{} holds a value that its column cannot; check the row against the schema first", spec.name));
    value.ok_or_else(refused)
}

/// `number` as an integer, if it is one that a double holds exactly.
fn whole(number: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

/// Puts an encounter together from `columns`; `read` answers the value of the column at a place, as its [`Type`] says. Columns that
/// are not asked for stay empty; the length of stay is derived and so ignored.
///
/// # Errors
/// What `read` answers, or internal if a value is not one that [`value`] writes.
pub(crate) fn encounter<'r, E: From<Error>>(
    columns: &[EncounterColumn],
    mut read: impl FnMut(usize, Type) -> std::result::Result<Value<'r>, E>,
) -> std::result::Result<Encounter, E> {
    let (mut first, mut middle, mut last) = (String::new(), String::new(), String::new());
    let (mut id, mut gender, mut facility, mut admitted, mut discharged) = (None, None, None, None, None);
    let mut clinical = Clinical::default();
    for (place, column) in columns.iter().enumerate() {
        match (column.column, read(place, column.kind)?) {
            (Column::Discharged, Value::Date(day)) => discharged = Some(day),
            (Column::Clinical(feature), found) => clinical.set(feature, clinical_number(feature, found)?),
            (_, Value::Null) => {}
            (Column::First, Value::Text(text)) => text.clone_into(&mut first),
            (Column::Middle, Value::Text(text)) => text.clone_into(&mut middle),
            (Column::Last, Value::Text(text)) => text.clone_into(&mut last),
            (Column::EncounterId, Value::Integer(number)) => id = EncounterId::new(number),
            (Column::Admitted, Value::Date(day)) => admitted = Some(day),
            (Column::Gender, Value::Text(text)) => gender = Gender::parse(text),
            (Column::Facility, Value::Text(text)) => facility = FacilityId::parse(text),
            (Column::LengthOfStay, _) => {}
            _ => return Err(unreadable(column.name).into()),
        }
    }
    Ok(Encounter {
        id: id.ok_or_else(|| unreadable("encounter id"))?,
        name: PersonName::new(first, middle, last),
        gender: gender.ok_or_else(|| unreadable("gender"))?,
        facility: facility.ok_or_else(|| unreadable("facility"))?,
        admitted: Phi::new(admitted.ok_or_else(|| unreadable("admission date"))?),
        clinical,
        discharged: Phi::new(discharged),
    })
}

fn clinical_number(feature: Feature, found: Value<'_>) -> Result<Option<f64>> {
    let number = match (feature.spec().shape, found) {
        (_, Value::Null) => return Ok(None),
        (Shape::Readmissions, Value::Text(text)) => {
            READMISSIONS.iter().position(|known| *known == text).map(|n| (n as f64).min(READMISSIONS_TOP))
        }
        (Shape::Condition | Shape::Measurement(_), Value::Integer(number)) => Some(number as f64),
        (Shape::Measurement(_), Value::Real(number)) => Some(number),
        _ => None,
    };
    number.map(Some).ok_or_else(|| unreadable(feature.spec().name))
}

/// The record holds something that this program does not write.
pub(crate) fn unreadable(what: &str) -> Error {
    Error::internal(format!(
        "the record holds a {what} that this program cannot have written; find out what else writes to the database, and restore a backup"
    ))
}

/// The values of [`PREDICTION_COLUMNS`]; `json` is [`prediction_json`].
pub(crate) fn prediction_values<'a>(prediction: &'a Prediction, json: &'a str) -> [Value<'a>; 8] {
    [
        Value::Integer(prediction.whole_days().into()),
        Value::Real(prediction.days),
        Value::Real(prediction.interval80.low),
        Value::Real(prediction.interval80.high),
        Value::Real(prediction.interval90.low),
        Value::Real(prediction.interval90.high),
        Value::Text(&prediction.model_version),
        Value::Text(json),
    ]
}

/// The prediction as JSON that reads back as the same prediction.
///
/// # Errors
/// Internal, if it does not: JSON has no word for a number that is not finite, and the row would be unreadable for ever.
pub(crate) fn prediction_json(prediction: &Prediction) -> Result<String> {
    let json =
        serde_json::to_string(prediction).map_err(|error| Error::internal("a prediction has no JSON form").caused_by(error))?;
    match prediction_from_json(&json) {
        Ok(read) if read == *prediction => Ok(json),
        _ => Err(Error::internal("a prediction holds a number that is not finite; the model is at fault")),
    }
}

/// Reads what [`prediction_json`] wrote.
pub(crate) fn prediction_from_json(json: &str) -> Result<Prediction> {
    // The cause is left out: it could quote a value.
    serde_json::from_str(json).map_err(|_| unreadable("prediction"))
}
