//! Domain values to T-SQL's and back. What comes back is read tolerantly (a count may be of any width) and never guessed at.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
use tiberius::{ColumnData, FromSql, IntoSql, QueryIdx, Row, TokenRow};

use super::connection::Parameter;
use super::fault::Outcome;
use crate::domain::Encounter;
use crate::error::{Error, Result};
use crate::store::columns::{self, EncounterColumn, Type, Value, unreadable};

/// A value on its way into a statement; a missing text or day is `''`, which the statement makes NULL.
pub(super) fn parameter(value: Value<'_>, kind: Type) -> Result<Bound<'_>> {
    Ok(match (value, kind) {
        (Value::Null, Type::Integer) => Bound::Plain(Parameter::Int(None)),
        (Value::Null, Type::Real) => Bound::Plain(Parameter::Real(None)),
        (Value::Null, Type::Text(_) | Type::LongText | Type::Date) => Bound::Plain(Parameter::Text("")),
        (Value::Integer(number), _) => Bound::Plain(Parameter::Int(Some(int(number)?))),
        (Value::Real(number), _) => Bound::Plain(Parameter::Real(Some(number))),
        (Value::Text(text), kind) => Bound::Plain(Parameter::Text(short(text, kind)?)),
        (Value::Date(on), _) => Bound::Plain(Parameter::Day(day(on)?)),
    })
}

/// A parameter, or the text that one is made of.
pub(super) enum Bound<'a> {
    /// As it is.
    Plain(Parameter<'a>),
    /// A day as ISO text, for a column that may be NULL.
    IsoDay(String),
}

impl Bound<'_> {
    /// The parameter.
    pub(super) fn parameter(&self) -> Parameter<'_> {
        match self {
            Bound::Plain(parameter) => *parameter,
            Bound::IsoDay(text) => Parameter::Text(text),
        }
    }
}

/// The encounter's values in the order of `columns`. A day that may be missing is ISO text, as the statement expects it.
pub(super) fn bind_encounter<'a>(columns: &[EncounterColumn], encounter: &'a Encounter) -> Result<Vec<Bound<'a>>> {
    let bind = |column: &EncounterColumn| match (columns::value(column.column, encounter)?, column.nullable) {
        (Value::Date(on), true) => Ok(Bound::IsoDay(iso(Some(on))?)),
        (value, _) => parameter(value, column.kind),
    };
    columns.iter().map(bind).collect()
}

/// A day as ISO text, `''` for none.
pub(super) fn iso(on: Option<NaiveDate>) -> Result<String> {
    on.map_or(Ok(String::new()), |on| Ok(day(on)?.format("%Y-%m-%d").to_string()))
}

/// The day itself, if SQL's `date` holds it.
///
/// # Errors
/// Invalid, outside the years 1 to 9999.
pub(super) fn day(on: NaiveDate) -> Result<NaiveDate> {
    match (1..=9999).contains(&on.year()) {
        true => Ok(on),
        false => Err(Error::invalid("a date lies outside the years 1 to 9999; correct it")),
    }
}

fn int(number: i64) -> Result<i32> {
    i32::try_from(number).map_err(|_| Error::invalid("a whole number is too large for the record; correct it"))
}

/// The text itself, if its column holds it. The server would cut it or refuse the whole batch.
fn short(text: &str, kind: Type) -> Result<&str> {
    match kind {
        Type::Text(units) if text.len() > units && text.encode_utf16().count() > units => {
            Err(Error::invalid(format!("a text is longer than {units} characters; shorten it")))
        }
        _ => Ok(text),
    }
}

/// SQL's integers are signed.
pub(super) fn signed(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::invalid("a number is too large for the record"))
}

/// A value for a row of a bulk load, which may be NULL whatever its type. The row owns it.
pub(super) fn cell(value: Value<'_>, kind: Type) -> Result<ColumnData<'static>> {
    Ok(match (value, kind) {
        (Value::Null, Type::Integer) => ColumnData::I32(None),
        (Value::Null, Type::Real) => ColumnData::F64(None),
        (Value::Null, Type::Date) => ColumnData::Date(None),
        (Value::Null, Type::Text(_) | Type::LongText) => ColumnData::String(None),
        (Value::Integer(number), _) => ColumnData::I32(Some(int(number)?)),
        (Value::Real(number), _) => ColumnData::F64(Some(number)),
        (Value::Text(words), kind) => text_cell(short(words, kind)?),
        (Value::Date(on), _) => day(on)?.into_sql(),
    })
}

/// A text for a row of a bulk load.
pub(super) fn text_cell(text: &str) -> ColumnData<'static> {
    ColumnData::String(Some(Cow::Owned(text.to_owned())))
}

/// Adds the encounter's values to `row`, in the order of `columns`.
pub(super) fn push_encounter(row: &mut TokenRow<'static>, columns: &[EncounterColumn], encounter: &Encounter) -> Result<()> {
    for column in columns {
        row.push(cell(columns::value(column.column, encounter)?, column.kind)?);
    }
    Ok(())
}

/// The encounter whose values are the row's first columns.
pub(super) fn read_encounter(row: &Row, columns: &[EncounterColumn]) -> Outcome<Encounter> {
    columns::encounter(columns, |place, kind| {
        Ok(match kind {
            Type::Integer => integer(row, place)?.map_or(Value::Null, Value::Integer),
            Type::Real => real(row, place)?.map_or(Value::Null, Value::Real),
            Type::Date => optional_day(row, place)?.map_or(Value::Null, Value::Date),
            Type::Text(_) | Type::LongText => optional_text(row, place)?.map_or(Value::Null, Value::Text),
        })
    })
}

fn data<I: QueryIdx>(row: &Row, place: I) -> Outcome<&ColumnData<'static>> {
    row.get_column_data(place).map_err(|_| unreadable("row without a column").into())
}

fn of_another_type<T>() -> Outcome<T> {
    Err(unreadable("value of another type").into())
}

/// A whole number or NULL.
pub(super) fn integer<I: QueryIdx>(row: &Row, place: I) -> Outcome<Option<i64>> {
    match data(row, place)? {
        ColumnData::U8(number) => Ok(number.map(i64::from)),
        ColumnData::I16(number) => Ok(number.map(i64::from)),
        ColumnData::I32(number) => Ok(number.map(i64::from)),
        ColumnData::I64(number) => Ok(*number),
        ColumnData::Bit(flag) => Ok(flag.map(i64::from)),
        _ => of_another_type(),
    }
}

/// A whole number that is there.
pub(super) fn number<I: QueryIdx>(row: &Row, place: I) -> Outcome<i64> {
    integer(row, place)?.ok_or_else(|| unreadable("missing number").into())
}

/// A count.
pub(super) fn count<I: QueryIdx>(row: &Row, place: I) -> Outcome<u64> {
    Ok(u64::try_from(number(row, place)?).map_err(|_| unreadable("negative count"))?)
}

/// A number or NULL.
pub(super) fn real<I: QueryIdx>(row: &Row, place: I) -> Outcome<Option<f64>> {
    match data(row, place)? {
        ColumnData::F64(number) => Ok(*number),
        ColumnData::F32(number) => Ok(number.map(f64::from)),
        _ => of_another_type(),
    }
}

/// A number that is there.
pub(super) fn measure<I: QueryIdx>(row: &Row, place: I) -> Outcome<f64> {
    real(row, place)?.ok_or_else(|| unreadable("missing number").into())
}

/// A text or NULL.
pub(super) fn optional_text<I: QueryIdx>(row: &Row, place: I) -> Outcome<Option<&str>> {
    match data(row, place)? {
        ColumnData::String(text) => Ok(text.as_deref()),
        _ => of_another_type(),
    }
}

/// A text that is there.
pub(super) fn text<I: QueryIdx>(row: &Row, place: I) -> Outcome<&str> {
    optional_text(row, place)?.ok_or_else(|| unreadable("missing text").into())
}

/// A day or NULL.
pub(super) fn optional_day<I: QueryIdx>(row: &Row, place: I) -> Outcome<Option<NaiveDate>> {
    let read = match data(row, place)? {
        found @ ColumnData::Date(_) => NaiveDate::from_sql(found),
        found @ (ColumnData::DateTime2(_) | ColumnData::DateTime(_) | ColumnData::SmallDateTime(_)) => {
            NaiveDateTime::from_sql(found).map(|at| at.map(|at| at.date()))
        }
        _ => return of_another_type(),
    };
    Ok(read.map_err(|_| unreadable("date"))?)
}

/// A day that is there.
pub(super) fn read_day<I: QueryIdx>(row: &Row, place: I) -> Outcome<NaiveDate> {
    optional_day(row, place)?.ok_or_else(|| unreadable("missing date").into())
}

/// An instant or NULL.
pub(super) fn optional_instant<I: QueryIdx>(row: &Row, place: I) -> Outcome<Option<DateTime<Utc>>> {
    match data(row, place)? {
        found @ (ColumnData::DateTimeOffset(_) | ColumnData::DateTime2(_)) => {
            Ok(DateTime::<Utc>::from_sql(found).map_err(|_| unreadable("time"))?)
        }
        _ => of_another_type(),
    }
}

/// An instant that is there.
pub(super) fn instant<I: QueryIdx>(row: &Row, place: I) -> Outcome<DateTime<Utc>> {
    optional_instant(row, place)?.ok_or_else(|| unreadable("missing time").into())
}

/// Bytes that are there.
pub(super) fn bytes<I: QueryIdx>(row: &Row, place: I) -> Outcome<Vec<u8>> {
    match data(row, place)? {
        ColumnData::Binary(Some(bytes)) => Ok(bytes.to_vec()),
        ColumnData::Binary(None) => Err(unreadable("missing value").into()),
        _ => of_another_type(),
    }
}
