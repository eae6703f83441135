//! One pass over a table, under the rules of a file's rows.

use csv::ByteRecord;
use sha2::{Digest, Sha256};

use super::hex;
use crate::codec::csv::Table;
use crate::domain::import::Reject;
use crate::domain::{Encounter, EncounterId, FacilityId};
use crate::error::Result;
use crate::schema::{Column, csv_columns};
use crate::store::legacy::{Cursor, Legacy, RowCount};

/// Consecutive rows, numbered from 1 in the order of their ids; those without an id come first.
pub(super) struct Chunk {
    /// Rows before.
    pub(super) after: u64,
    /// The rows that passed, by id.
    pub(super) encounters: Vec<Encounter>,
    /// Their numbers.
    pub(super) lines: Vec<u64>,
    /// What the others broke.
    pub(super) rejects: Vec<Reject>,
    /// Rows that broke a rule.
    pub(super) rejected_rows: u64,
}

/// A pass over a table.
pub(super) struct Reading<'t> {
    source: &'t dyn Legacy,
    rules: Table,
    cursor: Cursor,
    keyless: u64,
    done: u64,
    last: Option<EncounterId>,
    digest: Sha256,
}

impl<'t> Reading<'t> {
    pub(super) fn new(source: &'t dyn Legacy, facilities: &[FacilityId], count: RowCount) -> Result<Self> {
        let rules = Table::new(source.columns(), facilities)?;
        let mut digest = Sha256::new();
        feed(&mut digest, &ByteRecord::from(source.columns().to_vec()));
        digest.update(count.keyless.to_be_bytes());
        Ok(Self { source, rules, cursor: Cursor::START, keyless: count.keyless, done: 0, last: None, digest })
    }

    /// Rows read so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// The columns of the table that are not read.
    pub(super) fn unused(&self) -> &'t [String] {
        self.source.unused()
    }

    /// SHA-256 of the cells read so far, hex.
    pub(super) fn sha256(&self) -> String {
        hex(&self.digest.clone().finalize())
    }

    /// At most `limit` further rows.
    pub(super) async fn next(&mut self, limit: u32) -> Result<Option<Chunk>> {
        let mut chunk =
            Chunk { after: self.done, encounters: Vec::new(), lines: Vec::new(), rejects: Vec::new(), rejected_rows: 0 };
        if self.done < self.keyless {
            chunk.rejected_rows = (self.keyless - self.done).min(limit.into());
            chunk.rejects = (1..=chunk.rejected_rows).map(|row| without_id(self.done + row)).collect();
            self.done += chunk.rejected_rows;
            return Ok(Some(chunk));
        }
        let page = self.source.page(self.cursor, limit).await?;
        self.cursor = page.next;
        for cells in &page.rows {
            self.done += 1;
            feed(&mut self.digest, cells);
            match self.rules.encounter(self.done, cells, &mut chunk.rejects) {
                Some(encounter) if self.last == Some(encounter.id) => {
                    chunk.rejects.push(repeated(self.done));
                    chunk.rejected_rows += 1;
                }
                Some(encounter) => {
                    self.last = Some(encounter.id);
                    chunk.encounters.push(encounter);
                    chunk.lines.push(self.done);
                }
                None => chunk.rejected_rows += 1,
            }
        }
        Ok((!page.rows.is_empty()).then_some(chunk))
    }
}

/// Each cell with its length before it, so that no two rows read the same.
fn feed(digest: &mut Sha256, cells: &ByteRecord) {
    for cell in cells {
        digest.update((cell.len() as u64).to_be_bytes());
        digest.update(cell);
    }
}

fn id_reject(line: u64, rule: &str, remedy: &str) -> Reject {
    let column = csv_columns().iter().find(|column| column.column == Column::EncounterId).map_or("row", |column| column.header);
    Reject { line, column: column.into(), rule: rule.into(), remedy: remedy.into() }
}

fn without_id(line: u64) -> Reject {
    id_reject(
        line,
        "must be a whole number and not empty",
        "Fill it in: an encounter cannot be kept without it. These rows are counted first.",
    )
}

fn repeated(line: u64) -> Reject {
    id_reject(
        line,
        "must not be the id of another row of the table",
        "Find out which of the rows is right, remove the others from the table, and migrate again.",
    )
}
