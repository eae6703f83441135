//! One row: an encounter, or what it broke.

use std::ops::RangeInclusive;

use chrono::{Days, NaiveDate};
use csv::ByteRecord;

use super::REJECTS_PER_ROW_MAX;
use super::date;
use super::header::Layout;
use crate::domain::encounter::{STAY_DAYS_MAX, is_believable};
use crate::domain::import::Reject;
use crate::domain::patient::{NAME_CHARS_MAX, name_fits};
use crate::domain::{Clinical, Encounter, EncounterId, FacilityId, Gender, PersonName, Phi};
use crate::schema::{Column, Feature, READMISSIONS_TOP, Shape, Spec, Violation, csv_columns};

/// How a missing value is written, whatever its case; an empty cell is missing too.
const MISSING: [&str; 5] = ["NA", "N/A", "NULL", "NaN", "?"];

/// Reads a row that starts and ends on these lines. A row that breaks a rule leaves its rejects and answers `None`.
pub(super) fn encounter(
    record: &ByteRecord,
    lines: RangeInclusive<u64>,
    layout: &Layout,
    facilities: &[FacilityId],
    rejects: &mut Vec<Reject>,
) -> Option<Encounter> {
    let mut row = Row { record, line: *lines.start(), rejects, broken: 0 };
    if !row.has_shape(layout.cells, &lines) {
        return None;
    }
    let name = |place: Option<usize>| name(place.map_or(&b""[..], |place| &record[place]));
    let first = row.keep(Column::First, name(layout.first));
    let middle = row.keep(Column::Middle, name(layout.middle));
    let last = row.keep(Column::Last, name(layout.last));
    let id = row.keep(Column::EncounterId, encounter_id(row.cell(layout.id)));
    let admitted = row.keep(Column::Admitted, required(day(row.cell(layout.admitted))));
    let gender = row.keep(Column::Gender, gender(row.cell(layout.gender)));
    let facility = row.keep(Column::Facility, facility(row.cell(layout.facility), facilities));
    let mut clinical = Clinical::default();
    for (feature, place) in Feature::all().zip(layout.clinical) {
        match clinical_value(feature.spec(), row.cell(place)) {
            Ok(value) => clinical.set(feature, value),
            Err(violation) => row.reject(feature.spec().name, violation.rule, violation.remedy),
        }
    }
    let discharged = row.keep(Column::Discharged, day(row.cell(layout.discharged)));
    let stay_days = row.keep(Column::LengthOfStay, stay(row.cell(layout.stay)));
    let discharged = match (admitted, discharged, stay_days) {
        (Some(admitted), Some(discharged), Some(stay_days)) => row.outcome(admitted, discharged, stay_days),
        _ => None,
    };
    if row.broken > 0 {
        return None;
    }
    Some(Encounter {
        id: id?,
        name: PersonName::new(first?, middle?, last?),
        gender: gender?,
        facility: facility?,
        admitted: Phi::new(admitted?),
        clinical,
        discharged: Phi::new(discharged),
    })
}

/// A row under examination.
struct Row<'a> {
    record: &'a ByteRecord,
    line: u64,
    rejects: &'a mut Vec<Reject>,
    /// Rules broken so far.
    broken: usize,
}

impl<'a> Row<'a> {
    /// The cell without blanks around it; empty for a column the file does not have.
    fn cell(&self, place: Option<usize>) -> &'a [u8] {
        place.map_or(b"", |place| self.record[place].trim_ascii())
    }

    /// One value a column, and no rows swallowed by a quote that was left open. The second matters in a column the schema does not
    /// know, where nothing else would notice the loss.
    fn has_shape(&mut self, cells: usize, lines: &RangeInclusive<u64>) -> bool {
        let several = lines.start() < lines.end();
        if self.record.len() != cells {
            let until = if several { format!("; it goes on until line {}", lines.end()) } else { String::new() };
            let rule = format!("must have {cells} values, one a column{until}");
            self.reject(
                "row",
                rule,
                "Check its commas, and that a value with a comma or a quote is quoted and every quote closed.",
            );
            return false;
        }
        let holds_a_row = |cell: &[u8]| cell.iter().filter(|byte| **byte == b',').count() >= cells - 1;
        if several && self.record.iter().any(holds_a_row) {
            let rule = format!("must not hold other rows in one value; it goes on until line {}", lines.end());
            self.reject("row", rule, "Close the quote that was left open, or shorten the text.");
            return false;
        }
        true
    }

    fn reject(&mut self, column: &str, rule: String, remedy: &str) {
        self.broken += 1;
        if self.broken <= REJECTS_PER_ROW_MAX {
            self.rejects.push(Reject { line: self.line, column: column.to_owned(), rule, remedy: remedy.to_owned() });
        }
    }

    fn keep<T>(&mut self, column: Column, value: Result<T, Violation>) -> Option<T> {
        value.map_err(|violation| self.reject(header(column), violation.rule, violation.remedy)).ok()
    }

    /// The day of discharge from the two ways to say it, which must agree.
    fn outcome(&mut self, admitted: NaiveDate, discharged: Option<NaiveDate>, stay_days: Option<u64>) -> Option<NaiveDate> {
        let (from, to, days) = (header(Column::Admitted), header(Column::Discharged), header(Column::LengthOfStay));
        let Some(discharged) = discharged else {
            let last = admitted.checked_add_days(Days::new(stay_days?)).filter(|day| is_believable(*day));
            if last.is_none() {
                self.reject(
                    days,
                    format!("must end in the years 1900 to 2199, counted from {from}"),
                    "Correct the date or the days.",
                );
            }
            return last;
        };
        match u64::try_from((discharged - admitted).num_days()) {
            Err(_) => self.reject(to, format!("must not lie before {from}"), "Correct one of the two dates."),
            Ok(found) if found > STAY_DAYS_MAX.unsigned_abs() => {
                self.reject(to, format!("must lie within {STAY_DAYS_MAX} days of {from}"), "Correct one of the two dates.");
            }
            Ok(found) if stay_days.is_some_and(|stay_days| stay_days != found) => {
                self.reject(
                    days,
                    format!("must be the days from {from} to {to}"),
                    "Correct the days or the dates, or leave the days empty.",
                );
            }
            Ok(_) => {}
        }
        Some(discharged)
    }
}

fn header(column: Column) -> &'static str {
    csv_columns().iter().find(|c| c.column == column).map_or("row", |c| c.header)
}

fn violation<T>(rule: impl Into<String>, remedy: &'static str) -> Result<T, Violation> {
    Err(Violation { rule: rule.into(), remedy })
}

fn required<T>(value: Result<Option<T>, Violation>) -> Result<T, Violation> {
    value?.map_or_else(|| violation("must not be empty", "Fill it in: an encounter cannot be kept without it."), Ok)
}

fn is_missing(cell: &[u8]) -> bool {
    match cell {
        [] => true,
        [b'0'..=b'9', ..] => false,
        _ => MISSING.iter().any(|word| cell.eq_ignore_ascii_case(word.as_bytes())),
    }
}

/// A name part is kept as written, blanks around it dropped. `Null` is a surname here, not a missing value.
fn name(cell: &[u8]) -> Result<String, Violation> {
    let Ok(name) = std::str::from_utf8(cell) else {
        return violation("must be UTF-8 text", "Save the file as UTF-8.");
    };
    let name = name.trim();
    if name.chars().any(char::is_control) {
        return violation("must not contain control characters or line ends", "Remove them.");
    }
    if !name_fits(name) {
        return violation(format!("must be at most {NAME_CHARS_MAX} characters long"), "Shorten the name.");
    }
    Ok(name.to_owned())
}

fn encounter_id(cell: &[u8]) -> Result<EncounterId, Violation> {
    if is_missing(cell) {
        return required(Ok(None));
    }
    let number = cell.iter().try_fold(0_i64, |number, byte| {
        byte.is_ascii_digit().then_some(())?;
        number.checked_mul(10)?.checked_add(i64::from(byte - b'0'))
    });
    number.and_then(EncounterId::new).map_or_else(
        || violation(format!("must be a whole number from 1 to {}", i32::MAX), "Write the encounter's own id, in digits only."),
        Ok,
    )
}

fn day(cell: &[u8]) -> Result<Option<NaiveDate>, Violation> {
    if is_missing(cell) {
        return Ok(None);
    }
    match date::parse(cell) {
        None => violation("must be a date: month/day/year or year-month-day", "Write it as 5/25/2012 or 2012-05-25."),
        Some(day) if !is_believable(day) => violation("must be in the years 1900 to 2199", "Correct the year."),
        day => Ok(day),
    }
}

fn gender(cell: &[u8]) -> Result<Gender, Violation> {
    if is_missing(cell) {
        return Ok(Gender::Unknown);
    }
    std::str::from_utf8(cell)
        .ok()
        .and_then(Gender::parse)
        .map_or_else(|| violation("must be F, M, O or U", "Write one of these letters, or leave it empty if it is unknown."), Ok)
}

fn facility(cell: &[u8], facilities: &[FacilityId]) -> Result<FacilityId, Violation> {
    if is_missing(cell) {
        return required(Ok(None));
    }
    std::str::from_utf8(cell).ok().and_then(FacilityId::parse).filter(|id| facilities.contains(id)).map_or_else(
        || {
            violation(
                "must be the id of a known facility",
                "Correct the id, or add the facility with `hdai facilities` and drop the file again.",
            )
        },
        Ok,
    )
}

/// Whole days, also written as `6.0`.
fn stay(cell: &[u8]) -> Result<Option<u64>, Violation> {
    if is_missing(cell) {
        return Ok(None);
    }
    match number(cell) {
        Some(days) if days.fract() == 0.0 && (0.0..=STAY_DAYS_MAX as f64).contains(&days) => Ok(Some(days as u64)),
        _ => violation(format!("must be whole days from 0 to {STAY_DAYS_MAX}"), "Correct the days, or leave them empty."),
    }
}

fn clinical_value(spec: &Spec, cell: &[u8]) -> Result<Option<f64>, Violation> {
    /// Outside the range of every count and condition, so that the schema itself words the rule.
    const UNREADABLE: f64 = -1.0;
    if is_missing(cell) {
        return Ok(None);
    }
    let value = match (spec.shape, cell) {
        (Shape::Readmissions, [digit @ b'0'..=b'4']) => f64::from(digit - b'0'),
        (Shape::Readmissions, b"5" | b"5+") => READMISSIONS_TOP,
        (Shape::Readmissions, _) => UNREADABLE,
        (Shape::Condition, [digit @ (b'0' | b'1')]) => f64::from(digit - b'0'),
        (Shape::Condition, _) if ["true", "yes"].iter().any(|word| cell.eq_ignore_ascii_case(word.as_bytes())) => 1.0,
        (Shape::Condition, _) if ["false", "no"].iter().any(|word| cell.eq_ignore_ascii_case(word.as_bytes())) => 0.0,
        (Shape::Condition, _) => number(cell).unwrap_or(UNREADABLE),
        (Shape::Measurement(_), _) => match number(cell) {
            Some(value) => value,
            None => return violation("must be a number", "Write digits with a decimal point, or leave it empty."),
        },
    };
    spec.check(value)?;
    Ok(Some(value))
}

/// A decimal number. Words that Rust would read as a number (`inf`) are none, and minus zero is zero.
fn number(cell: &[u8]) -> Option<f64> {
    if !matches!(cell, [b'0'..=b'9' | b'+' | b'-' | b'.', ..]) || !cell.iter().any(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(cell).ok()?.parse::<f64>().ok().map(|value| value + 0.0)
}
