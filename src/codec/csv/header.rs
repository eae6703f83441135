//! The header: which column of the file holds what. Names decide, never positions.

use csv::ByteRecord;

use crate::error::{Error, Result};
use crate::schema::{Column, FEATURE_COUNT, Feature, csv_columns};

/// Most unknown headers that are named.
pub const EXTRA_COLUMNS_MAX: usize = 32;
const EXTRA_COLUMN_CHARS_MAX: usize = 64;

/// Where a file keeps each column; `None` for a column it does not have.
#[derive(Debug)]
pub(super) struct Layout {
    /// Cells of a row.
    pub(super) cells: usize,
    pub(super) first: Option<usize>,
    pub(super) middle: Option<usize>,
    pub(super) last: Option<usize>,
    pub(super) id: Option<usize>,
    pub(super) admitted: Option<usize>,
    pub(super) gender: Option<usize>,
    pub(super) discharged: Option<usize>,
    pub(super) facility: Option<usize>,
    pub(super) stay: Option<usize>,
    pub(super) clinical: [Option<usize>; FEATURE_COUNT],
    /// Unknown headers, fit to be shown.
    pub(super) extra: Vec<String>,
}

impl Layout {
    /// Reads the header, whose cells are UTF-8.
    pub(super) fn read(header: &ByteRecord) -> Result<Self> {
        let columns = csv_columns();
        let mut places = vec![None; columns.len()];
        let mut twice = Vec::new();
        let mut unknown = Vec::new();
        for (place, cell) in header.iter().enumerate() {
            let name = String::from_utf8_lossy(cell).trim().to_lowercase();
            match columns.iter().position(|c| c.header.eq_ignore_ascii_case(&name) || c.synonyms.contains(&name.as_str())) {
                Some(column) if places[column].is_some() => twice.push(columns[column].header),
                Some(column) => places[column] = Some(place),
                None => unknown.push((place, cell)),
            }
        }
        let missing: Vec<_> = columns
            .iter()
            .zip(&places)
            .filter(|(column, place)| column.required && place.is_none())
            .map(|(c, _)| c.header)
            .collect();
        // The cells are not echoed: in a file without a header they are a patient's.
        if !missing.is_empty() {
            let hint = if header.len() == 1 { " (the first line holds one column: columns are separated by commas)" } else { "" };
            return Err(Error::invalid(format!(
                "the first line must name the columns, and these are missing: {}{hint}",
                missing.join(", ")
            )));
        }
        if !twice.is_empty() {
            twice.dedup();
            return Err(Error::invalid(format!("these columns are named more than once: {}", twice.join(", "))));
        }
        let place = |wanted| columns.iter().position(|c| c.column == wanted).and_then(|column| places[column]);
        let mut clinical = [None; FEATURE_COUNT];
        for feature in Feature::all() {
            clinical[feature as usize] = place(Column::Clinical(feature));
        }
        Ok(Self {
            cells: header.len(),
            first: place(Column::First),
            middle: place(Column::Middle),
            last: place(Column::Last),
            id: place(Column::EncounterId),
            admitted: place(Column::Admitted),
            gender: place(Column::Gender),
            discharged: place(Column::Discharged),
            facility: place(Column::Facility),
            stay: place(Column::LengthOfStay),
            clinical,
            extra: presentable(&unknown),
        })
    }
}

/// Names of unknown columns, bounded in number and length, of letters, digits and plain punctuation.
fn presentable(unknown: &[(usize, &[u8])]) -> Vec<String> {
    let mut names: Vec<String> = unknown
        .iter()
        .take(EXTRA_COLUMNS_MAX)
        .map(|(place, cell)| {
            let name = String::from_utf8_lossy(cell);
            let plain = |c: char| if c.is_alphanumeric() || " _-.()/%#".contains(c) { c } else { '?' };
            match name.trim() {
                "" => format!("(column {} without a name)", place + 1),
                name => name.chars().take(EXTRA_COLUMN_CHARS_MAX).map(plain).collect(),
            }
        })
        .collect();
    if unknown.len() > EXTRA_COLUMNS_MAX {
        names.push(format!("({} more)", unknown.len() - EXTRA_COLUMNS_MAX));
    }
    names
}
