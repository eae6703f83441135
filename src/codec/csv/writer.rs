//! Encounters as CSV.

use std::fmt::Write as _;
use std::io::Write;

use chrono::{Datelike, NaiveDate};

use crate::domain::Encounter;
use crate::error::{Error, Result};
use crate::schema::{Column, Feature, READMISSIONS_TOP, Shape, csv_columns};

/// Writes encounters in the blueprint's columns and order. The same encounters give the same bytes.
///
/// UTF-8 without byte order mark, LF line ends, dates as `M/D/YYYY`, the shortest decimal that reads back as the same number, quotes only
/// where needed, an empty cell for a missing value. [`super::Reader`] reads it back unchanged.
pub struct Writer<W: Write> {
    csv: csv::Writer<W>,
    text: String,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// `Unavailable` if `out` fails; so for the other methods.
    pub fn new(out: W) -> Result<Self> {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(csv_columns().iter().map(|column| column.header)).map_err(output_failed)?;
        Ok(Self { csv, text: String::new() })
    }

    /// Writes a row.
    pub fn write(&mut self, encounter: &Encounter) -> Result<()> {
        for column in csv_columns() {
            let text = match column.column {
                Column::First => encounter.name.first.reveal(),
                Column::Middle => encounter.name.middle.reveal(),
                Column::Last => encounter.name.last.reveal(),
                Column::Gender => encounter.gender.code(),
                other => {
                    self.text.clear();
                    append(&mut self.text, encounter, other);
                    &self.text
                }
            };
            self.csv.write_field(text).map_err(output_failed)?;
        }
        self.csv.write_record(None::<&[u8]>).map_err(output_failed)
    }

    /// Flushes, and gives the output back.
    pub fn finish(self) -> Result<W> {
        self.csv.into_inner().map_err(|error| output_failed(error.into_error().into()))
    }
}

fn append(text: &mut String, encounter: &Encounter, column: Column) {
    // Writing to a String cannot fail.
    let _ = match column {
        Column::EncounterId => write!(text, "{}", encounter.id.get()),
        Column::Admitted => date(text, *encounter.admitted.reveal()),
        Column::Discharged => encounter.discharged.reveal().map_or(Ok(()), |day| date(text, day)),
        Column::Facility => write!(text, "{}", encounter.facility),
        Column::LengthOfStay => encounter.stay_days().map_or(Ok(()), |days| write!(text, "{days}")),
        Column::Clinical(feature) => clinical(text, feature, encounter.clinical.get(feature)),
        Column::First | Column::Middle | Column::Last | Column::Gender => Ok(()),
    };
}

fn date(text: &mut String, day: NaiveDate) -> std::fmt::Result {
    write!(text, "{}/{}/{:04}", day.month(), day.day(), day.year())
}

fn clinical(text: &mut String, feature: Feature, value: Option<f64>) -> std::fmt::Result {
    match value {
        None => Ok(()),
        Some(value) if feature.spec().shape == Shape::Readmissions && value == READMISSIONS_TOP => write!(text, "{value}+"),
        Some(value) => write!(text, "{value}"),
    }
}

pub(super) fn output_failed(error: csv::Error) -> Error {
    Error::unavailable("the CSV output could not be written").caused_by(error)
}
