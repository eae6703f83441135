//! Domain values to SQLite's and back: days and instants are ISO text, counts are integers.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};
use rusqlite::types::ValueRef;
use rusqlite::{Row, Statement};

use super::fault::Outcome;
use crate::domain::Encounter;
use crate::error::Error;
use crate::store::columns::{self, EncounterColumn, Type, Value, unreadable};

/// Binds the encounter's values to the statement's first parameters, in the order of `columns`.
pub(super) fn bind_encounter(statement: &mut Statement<'_>, columns: &[EncounterColumn], encounter: &Encounter) -> Outcome<()> {
    for (place, column) in (1..).zip(columns) {
        bind(statement, place, columns::value(column.column, encounter)?)?;
    }
    Ok(())
}

/// Binds one value in its own type.
pub(super) fn bind(statement: &mut Statement<'_>, place: usize, value: Value<'_>) -> Outcome<()> {
    match value {
        Value::Null => statement.raw_bind_parameter(place, rusqlite::types::Null)?,
        Value::Integer(number) => statement.raw_bind_parameter(place, number)?,
        Value::Real(number) => statement.raw_bind_parameter(place, number)?,
        Value::Text(text) => statement.raw_bind_parameter(place, text)?,
        Value::Date(day) => statement.raw_bind_parameter(place, Day::of(day)?.as_str()?)?,
    }
    Ok(())
}

/// The encounter whose values are the row's first columns.
pub(super) fn read_encounter(row: &Row<'_>, columns: &[EncounterColumn]) -> Outcome<Encounter> {
    columns::encounter(columns, |place, kind| {
        Ok(match (row.get_ref(place)?, kind) {
            (ValueRef::Null, _) => Value::Null,
            (ValueRef::Integer(number), Type::Integer) => Value::Integer(number),
            (ValueRef::Real(number), Type::Real) => Value::Real(number),
            (ValueRef::Text(text), Type::Date) => Value::Date(day(utf8(text)?)?),
            (ValueRef::Text(text), Type::Text(_) | Type::LongText) => Value::Text(utf8(text)?),
            _ => return Err(unreadable("value of another type").into()),
        })
    })
}

/// A text that is there, without an allocation.
pub(super) fn text<'a>(row: &'a Row<'_>, place: usize) -> Outcome<&'a str> {
    optional_text(row, place)?.ok_or_else(|| unreadable("missing text").into())
}

/// A text or NULL, without an allocation.
pub(super) fn optional_text<'a>(row: &'a Row<'_>, place: usize) -> Outcome<Option<&'a str>> {
    match row.get_ref(place)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(text) => utf8(text).map(Some),
        _ => Err(unreadable("value of another type").into()),
    }
}

fn utf8(text: &[u8]) -> Outcome<&str> {
    Ok(std::str::from_utf8(text).map_err(|_| unreadable("text that is not UTF-8"))?)
}

/// `YYYY-MM-DD` without an allocation: an import writes two for every row.
pub(super) struct Day([u8; 10]);

impl Day {
    /// # Errors
    /// Invalid, outside the years 0 to 9999: text would no longer sort as days do.
    pub(super) fn of(day: NaiveDate) -> Outcome<Self> {
        let year = u32::try_from(day.year()).ok().filter(|year| *year <= 9999);
        let year = year.ok_or_else(|| Error::invalid("a date lies outside the years 0 to 9999; correct it"))?;
        let digit = |number: u32, power: u32| b'0' + (number / 10_u32.pow(power) % 10) as u8;
        let (month, day) = (day.month(), day.day());
        Ok(Self([
            digit(year, 3),
            digit(year, 2),
            digit(year, 1),
            digit(year, 0),
            b'-',
            digit(month, 1),
            digit(month, 0),
            b'-',
            digit(day, 1),
            digit(day, 0),
        ]))
    }

    pub(super) fn as_str(&self) -> Outcome<&str> {
        utf8(&self.0)
    }
}

/// Reads [`Day`].
pub(super) fn day(text: &str) -> Outcome<NaiveDate> {
    Ok(text.parse().map_err(|_| unreadable("date"))?)
}

/// RFC 3339, UTC, with nine decimals: nothing is rounded, and text sorts as time does.
pub(super) fn instant_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// Reads [`instant_text`].
pub(super) fn instant(text: &str) -> Outcome<DateTime<Utc>> {
    Ok(DateTime::parse_from_rfc3339(text).map_err(|_| unreadable("time"))?.to_utc())
}

/// SQLite's integers are signed.
pub(super) fn signed(number: u64) -> Outcome<i64> {
    Ok(i64::try_from(number).map_err(|_| Error::invalid("a number is too large for the record"))?)
}

/// A count out of the record.
pub(super) fn count(row: &Row<'_>, place: &str) -> Outcome<u64> {
    Ok(u64::try_from(row.get::<_, i64>(place)?).map_err(|_| unreadable("negative count"))?)
}
