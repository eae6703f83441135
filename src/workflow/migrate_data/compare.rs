//! A table and the record side by side, in the order of their ids.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::reading::{Chunk, Reading};
use super::{Phase, Progress, hex};
use crate::codec::csv::Writer;
use crate::domain::import::Import;
use crate::domain::{Encounter, EncounterId, PersonName};
use crate::error::Result;
use crate::store::{REJECTS_KEPT_MAX, Store};
use crate::workflow::Hospital;

/// Ranges of ids that are named; more are counted.
const DIFFERENCES_MAX: usize = 10;

/// A range of ids whose rows are not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// First id of the range.
    pub first: EncounterId,
    /// Last id of the range.
    pub last: EncounterId,
    /// Rows in it that differ.
    pub rows: u64,
}

/// What the comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Rows compared: those of the table that no rule rejects.
    pub rows: u64,
    /// Rows where the record keeps a name or a discharge that the table does not say.
    pub kept: u64,
    /// SHA-256 of the rows of the table, hex, as the CSV that this program writes of them, with what the record keeps.
    pub source_sha256: String,
    /// SHA-256 of the rows of the record with the same ids, hex, in the same form.
    pub record_sha256: String,
    /// Where they differ: the first ranges.
    pub differences: Vec<Difference>,
    /// Rows that differ, in all ranges.
    pub differing: u64,
    /// SHA-256 of the table's cells, hex.
    pub(super) table_sha256: String,
}

impl Compared {
    /// Is every row the same on both sides?
    pub fn agrees(&self) -> bool {
        self.differing == 0 && self.source_sha256 == self.record_sha256
    }
}

/// Reads both sides and compares them.
pub(super) async fn compare(
    hospital: &Hospital,
    import: &Import,
    mut reading: Reading<'_>,
    batch_rows: u32,
    progress: Progress<'_>,
) -> Result<Compared> {
    let refused = lines_with_rejects(hospital, import).await?;
    let mut record = Side { store: &*hospital.store, limit: batch_rows, waiting: VecDeque::new(), ended: false };
    let (mut ours, mut theirs) = (Writer::new(Sum::default())?, Writer::new(Sum::default())?);
    let (mut rows, mut kept, mut differing, mut differences) = (0, 0, 0, Vec::new());
    while let Some(chunk) = reading.next(batch_rows).await? {
        let mut range: Option<Difference> = None;
        for encounter in taken(&chunk, &refused) {
            rows += 1;
            let found = record.row(encounter.id).await?;
            let expected = found.as_ref().map_or_else(|| encounter.clone(), |found| as_kept(encounter, found));
            kept += u64::from(expected != *encounter);
            theirs.write(&expected)?;
            if let Some(found) = &found {
                ours.write(found)?;
            }
            if found.as_ref() != Some(&expected) {
                differing += 1;
                let first = range.as_ref().map_or(encounter.id, |range| range.first);
                range = Some(Difference { first, last: encounter.id, rows: range.map_or(1, |range| range.rows + 1) });
            }
        }
        differences.extend(range.filter(|_| differences.len() < DIFFERENCES_MAX));
        progress(Phase::Compare, reading.done(), import.counts.read);
    }
    Ok(Compared {
        rows,
        kept,
        source_sha256: theirs.finish()?.hex(),
        record_sha256: ours.finish()?.hex(),
        differences,
        differing,
        table_sha256: reading.sha256(),
    })
}

/// The chunk's rows but for those that only the store refused: their ids belong to patients that were admitted.
fn taken<'c>(chunk: &'c Chunk, refused: &'c HashSet<u64>) -> impl Iterator<Item = &'c Encounter> {
    chunk.encounters.iter().zip(&chunk.lines).filter(|(_, line)| !refused.contains(line)).map(|(encounter, _)| encounter)
}

async fn lines_with_rejects(hospital: &Hospital, import: &Import) -> Result<HashSet<u64>> {
    const PAGE: u32 = 1_000;
    let mut lines = HashSet::new();
    let mut after = 0;
    while after < REJECTS_KEPT_MAX && import.counts.rejected > 0 {
        let page = hospital.store.rejects(&import.id, after, PAGE).await?;
        lines.extend(page.iter().map(|reject| reject.line));
        if page.len() < PAGE as usize {
            break;
        }
        after += u64::from(PAGE);
    }
    Ok(lines)
}

/// `encounter` as an import leaves it beside what was `found`: where it says nothing, the record keeps the names, and the discharge of the
/// same stay.
fn as_kept(encounter: &Encounter, found: &Encounter) -> Encounter {
    let part = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
    let (new, old) = (&encounter.name, &found.name);
    Encounter {
        name: PersonName::new(
            part(new.first.reveal(), old.first.reveal()),
            part(new.middle.reveal(), old.middle.reveal()),
            part(new.last.reveal(), old.last.reveal()),
        ),
        discharged: encounter
            .discharged
            .map(|day| day.or(found.discharged.reveal().filter(|_| encounter.admitted == found.admitted))),
        ..encounter.clone()
    }
}

/// The record's rows, as they are asked for in the order of their ids.
struct Side<'s> {
    store: &'s dyn Store,
    limit: u32,
    waiting: VecDeque<Encounter>,
    ended: bool,
}

impl Side<'_> {
    async fn row(&mut self, id: EncounterId) -> Result<Option<Encounter>> {
        loop {
            while self.waiting.front().is_some_and(|encounter| encounter.id < id) {
                self.waiting.pop_front();
            }
            if !self.waiting.is_empty() || self.ended {
                return Ok(self.waiting.pop_front_if(|encounter| encounter.id == id));
            }
            let before = EncounterId::new(i64::from(id.get()) - 1);
            self.waiting = self.store.encounters(before, self.limit).await?.into();
            self.ended = self.waiting.is_empty();
        }
    }
}

/// A digest that is written to.
#[derive(Default)]
struct Sum(Sha256);

impl Sum {
    fn hex(self) -> String {
        hex(&self.0.finalize())
    }
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
