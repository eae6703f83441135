//! Encounters and facilities in CSV (RFC 4180), read by header name and written byte for byte the same.
//!
//! It does not know where the bytes come from or go, and no value of a cell ever leaves it in an error or a reject.
//!
//! What is accepted beyond the standard: a UTF-8 byte order mark, CRLF, LF or CR line ends, blank lines (skipped, not counted), blanks
//! around a value, columns in any order, the header synonyms of [`schema::csv_columns`], and columns the schema does not know. What is
//! refused as a whole: UTF-16, binary data, a header that misses or repeats a column, and a row longer than [`ROW_BYTES_MAX`].

mod date;
mod facilities;
mod header;
mod lines;
mod row;
mod split;
mod writer;

use std::fmt;
use std::io::Read;
use std::ops::RangeInclusive;

use csv::{ByteRecord, ErrorKind, ReaderBuilder};

use crate::domain::import::{LineSpan, Reject};
use crate::domain::{Encounter, FacilityId};
use crate::error::{Error, Kind, Result};
#[cfg(doc)]
use crate::schema;
use header::Layout;
use lines::Lines;

pub use facilities::{read_facilities, write_facilities};
pub use header::EXTRA_COLUMNS_MAX;
pub use split::{Split, split};
pub use writer::Writer;

/// Longest row, in bytes, line end included. It bounds the memory a file without line ends (or with a quote left open) can take.
pub const ROW_BYTES_MAX: usize = 64 * 1024;

/// Most rejects kept for one row.
pub const REJECTS_PER_ROW_MAX: usize = 8;

/// Consecutive data rows of a file.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The rows that passed, in file order.
    pub encounters: Vec<Encounter>,
    /// The line that each of them starts on, from 1.
    pub lines: Vec<u64>,
    /// What the others broke: from 1 to [`REJECTS_PER_ROW_MAX`] rejects each, in file order.
    pub rejects: Vec<Reject>,
    /// Rows that broke a rule.
    pub rejected_rows: u64,
    /// All rows: `encounters.len() + rejected_rows`.
    pub rows: u64,
}

/// Reads encounters from CSV in batches, in memory that does not grow with the file.
///
/// Memory: two buffers of about [`ROW_BYTES_MAX`], and the batch that [`Reader::read_batch`] answers.
pub struct Reader<R> {
    records: Records<R>,
    layout: Layout,
    facilities: Vec<FacilityId>,
    lines: Option<LineSpan>,
}

impl<R> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl<R: Read> Reader<R> {
    /// Reads the byte order mark and the header. Encounters must belong to one of `facilities`.
    ///
    /// # Errors
    /// `Invalid`: not UTF-8 text, no header, a required column missing or a column named twice. `Unavailable`: `input` failed.
    pub fn new(input: R, facilities: &[FacilityId]) -> Result<Self> {
        let mut records = Records::new(input)?;
        let layout = Layout::read(records.header()?)?;
        Ok(Self { records, layout, facilities: facilities.to_vec(), lines: None })
    }

    /// Reads rows from further down in a file: `input` is the file's header, and then rows of which the first starts on `first_line`
    /// of the file, as [`split`] found both.
    ///
    /// # Errors
    /// As [`Reader::new`].
    pub fn further_down(input: R, first_line: u64, facilities: &[FacilityId]) -> Result<Self> {
        let mut reader = Self::new(input, facilities)?;
        reader.records.csv.get_mut().go_on_at(first_line);
        Ok(reader)
    }

    /// Where the rows that were read or passed over lie.
    pub fn lines(&self) -> Option<LineSpan> {
        self.lines
    }

    /// The headers the schema does not know, fit to be shown: at most [`EXTRA_COLUMNS_MAX`] of them, then how many more.
    pub fn extra_columns(&self) -> &[String] {
        &self.layout.extra
    }

    /// Passes over `rows` data rows without validating them, to resume behind a checkpoint. Answers how many there were.
    ///
    /// # Errors
    /// As [`Reader::read_batch`].
    pub fn skip(&mut self, rows: u64) -> Result<u64> {
        for skipped in 0..rows {
            let Some((lines, _)) = self.records.next()? else { return Ok(skipped) };
            self.lines = Some(LineSpan::after(self.lines, *lines.start(), *lines.end()));
        }
        Ok(rows)
    }

    /// The next `rows_max` data rows (at least one), or fewer at the end of the file; `None` behind the end.
    ///
    /// # Errors
    /// `Invalid`: a row longer than [`ROW_BYTES_MAX`]. `Unavailable`: the input failed. Rows read before it in the same batch are not
    /// answered; called again, it fails again with the same kind.
    pub fn read_batch(&mut self, rows_max: usize) -> Result<Option<Rows>> {
        let rows_max = rows_max.max(1);
        let mut rows = Rows { encounters: Vec::with_capacity(rows_max.min(4096)), ..Rows::default() };
        for _ in 0..rows_max {
            let Some((lines, record)) = self.records.next()? else { break };
            rows.rows += 1;
            let line = *lines.start();
            self.lines = Some(LineSpan::after(self.lines, line, *lines.end()));
            match row::encounter(record, lines, &self.layout, &self.facilities, &mut rows.rejects) {
                Some(encounter) => {
                    rows.encounters.push(encounter);
                    rows.lines.push(line);
                }
                None => rows.rejected_rows += 1,
            }
        }
        Ok((rows.rows > 0).then_some(rows))
    }
}

/// Reads encounters from the rows of a table that is no file, under the rules of a file's rows.
pub struct Table {
    layout: Layout,
    facilities: Vec<FacilityId>,
}

impl Table {
    /// Rows whose cells are these columns, named as in a file's header. Encounters must belong to one of `facilities`.
    ///
    /// # Errors
    /// `Invalid`: a required column is missing or a column is named twice.
    pub fn new(columns: &[&str], facilities: &[FacilityId]) -> Result<Self> {
        Ok(Self { layout: Layout::read(&ByteRecord::from(columns.to_vec()))?, facilities: facilities.to_vec() })
    }

    /// The encounter in the row of this number. A row that breaks a rule answers `None` and leaves from 1 to
    /// [`REJECTS_PER_ROW_MAX`] rejects that carry the number as their line.
    pub fn encounter(&self, number: u64, cells: &ByteRecord, rejects: &mut Vec<Reject>) -> Option<Encounter> {
        row::encounter(cells, number..=number, &self.layout, &self.facilities, rejects)
    }
}

/// The records of a CSV stream, blank lines left out, each with the line it starts on.
struct Records<R> {
    csv: csv::Reader<Lines<R>>,
    record: ByteRecord,
    failed: Option<Kind>,
}

impl<R: Read> Records<R> {
    fn new(input: R) -> Result<Self> {
        let mut lines = Lines::new(input);
        lines.strip_byte_order_mark()?;
        let csv = ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(ROW_BYTES_MAX).from_reader(lines);
        Ok(Self { csv, record: ByteRecord::new(), failed: None })
    }

    /// The first record, which must be text.
    fn header(&mut self) -> Result<&ByteRecord> {
        let Some((_, record)) = self.next()? else {
            return Err(Error::invalid("the file is empty: its first line must name the columns"));
        };
        if record.iter().any(|cell| cell.contains(&0) || std::str::from_utf8(cell).is_err()) {
            return Err(Error::invalid("the file is not UTF-8 text: save it as a CSV file in UTF-8"));
        }
        Ok(record)
    }

    /// The next record, and the lines it starts and ends on.
    fn next(&mut self) -> Result<Option<(RangeInclusive<u64>, &ByteRecord)>> {
        loop {
            if let Some(kind) = self.failed {
                return Err(Error::new(kind, "the file could not be read to its end: read it again from the start"));
            }
            self.csv.get_mut().start_record();
            match self.csv.read_byte_record(&mut self.record) {
                Ok(false) => return Ok(None),
                Ok(true) if is_blank(&self.record) => {}
                Ok(true) => break,
                Err(error) => {
                    let error = self.failure(error);
                    self.failed = Some(error.kind());
                    return Err(error);
                }
            }
        }
        let lines = self.csv.get_ref();
        Ok(Some((lines.record_line()..=lines.last_line(), &self.record)))
    }

    fn failure(&self, error: csv::Error) -> Error {
        let lines = self.csv.get_ref();
        if lines.is_too_long() {
            return Error::invalid(format!(
                "the row at line {} is longer than {ROW_BYTES_MAX} bytes: check that the file is CSV text and that every quote is closed",
                lines.record_line()
            ));
        }
        match error.into_kind() {
            ErrorKind::Io(error) => lines::input_failed(error),
            _ => Error::invalid(format!("the row at line {} is not CSV", lines.record_line())),
        }
    }
}

fn is_blank(record: &ByteRecord) -> bool {
    record.len() == 1 && record[0].trim_ascii().is_empty()
}
