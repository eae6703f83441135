//! A file in stretches of whole rows, which several readers read side by side.
//!
//! The rows are found by the parser that reads them afterwards, not by a faster look for line ends: where a row starts depends on every
//! quote before it, and two opinions about that would lose a row.

use std::io::Read;
use std::ops::Range;

use super::Records;
use super::header::Layout;
use crate::domain::import::{LineSpan, RowRange};
use crate::error::Result;

/// Where a file can be cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Where the header lies in the file.
    pub header: Range<u64>,
    /// The parts, in file order; together they hold every data row once. None, if there is no data row.
    pub parts: Vec<RowRange>,
    /// Where the data rows lie.
    pub lines: Option<LineSpan>,
    /// The headers that the schema does not know.
    pub extra_columns: Vec<String>,
}

/// Reads a file once and says where it can be cut into at most `parts_max` parts of `part_bytes`, or as few more as the last row of each
/// needs. Values are not looked at. Memory: that of [`super::Reader`] without a batch, and the parts.
///
/// # Errors
/// As [`super::Reader::new`] and [`super::Reader::read_batch`].
pub fn split(input: impl Read, part_bytes: u64, parts_max: usize) -> Result<Split> {
    let mut records = Records::new(input)?;
    let extra_columns = Layout::read(records.header()?)?.extra;
    let header = records.csv.get_ref().record_offset()..records.csv.get_ref().offset();
    let (mut parts, mut lines): (Vec<RowRange>, Option<LineSpan>) = (Vec::new(), None);
    while let Some(place) = records.next()?.map(|(place, _)| place) {
        let (first, last) = place.into_inner();
        lines = Some(LineSpan::after(lines, first, last));
        let start = records.csv.get_ref().record_offset();
        let full = parts.len() >= parts_max.max(1);
        match parts.last_mut() {
            Some(part) if full || start - part.bytes.start < part_bytes => part.rows += 1,
            before => {
                if let Some(before) = before {
                    before.bytes.end = start;
                }
                parts.push(RowRange { bytes: start..start, first_line: first, rows: 1 });
            }
        }
    }
    if let Some(last) = parts.last_mut() {
        last.bytes.end = records.csv.get_ref().offset();
    }
    Ok(Split { header, parts, lines, extra_columns })
}
