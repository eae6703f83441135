//! Facilities in CSV: the blueprint's `MetaData_Facilities` with the columns `Capacity,Id,Name`, in any order.

use std::io::{Read, Write};

use super::Records;
use super::writer::output_failed;
use crate::domain::{Facility, FacilityId};
use crate::error::{Error, Result};

const HEADER: [&str; 3] = ["Capacity", "Id", "Name"];
const NAME_CHARS_MAX: usize = 100;

/// Reads all facilities, or none: a hospital whose list of facilities is half read would reject its patients.
///
/// # Errors
/// `Invalid`: a column is missing or named twice, or a row has no id of one letter or digit, an id of a row before, a capacity that is
/// not a whole number from 0, or no name (at most 100 characters, no control characters). `Unavailable`: `input` failed.
pub fn read_facilities<R: Read>(input: R) -> Result<Vec<Facility>> {
    let mut records = Records::new(input)?;
    let header = records.header()?;
    let cells = header.len();
    let places = HEADER.map(|name| {
        let mut found = header.iter().enumerate().filter(|(_, cell)| cell.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
        (found.next().map(|(place, _)| place), found.next().is_some())
    });
    let [(Some(capacity), false), (Some(id), false), (Some(name), false)] = places else {
        return Err(Error::invalid("the first line must name the columns Capacity, Id and Name, each once"));
    };
    let mut facilities: Vec<Facility> = Vec::new();
    while let Some((lines, record)) = records.next()? {
        let invalid = |rule: &str| Error::invalid(format!("facilities, line {}: {rule}", lines.start()));
        if record.len() != cells {
            return Err(invalid("must have one value a column"));
        }
        let text = |place: usize| std::str::from_utf8(&record[place]).map(str::trim).map_err(|_| invalid("must be UTF-8 text"));
        let Some(id) = FacilityId::parse(text(id)?) else { return Err(invalid("Id must be one letter or digit")) };
        if facilities.iter().any(|facility| facility.id == id) {
            return Err(invalid("Id was used on a line before"));
        }
        let capacity = text(capacity)?.parse().ok().filter(|beds| *beds >= 0);
        let Some(capacity) = capacity else { return Err(invalid("Capacity must be a whole number of beds from 0")) };
        let name = text(name)?;
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(invalid("Name must be 1 to 100 characters without control characters"));
        }
        facilities.push(Facility { id, name: name.to_owned(), capacity });
    }
    Ok(facilities)
}

/// Writes facilities in the blueprint's shape, in the order given; LF line ends.
///
/// # Errors
/// `Unavailable` if `out` fails.
pub fn write_facilities<'a, W: Write>(out: W, facilities: impl IntoIterator<Item = &'a Facility>) -> Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(HEADER).map_err(output_failed)?;
    for facility in facilities {
        csv.write_record([&facility.capacity.to_string(), &facility.id.to_string(), &facility.name]).map_err(output_failed)?;
    }
    csv.flush().map_err(|error| output_failed(error.into()))
}
