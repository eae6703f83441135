//! Labelled rows, held compactly: 56 bytes each, in blocks, so that ten million stay within a gigabyte.

use super::features::{Row, mix, unit};
use crate::domain::Encounter;
use crate::schema::Feature;

const BLOCK: usize = 1 << 16;

/// Encounters with a known stay, as the model sees them: no id, no name, no date of discharge.
#[derive(Default)]
pub struct TrainingSet {
    blocks: Vec<Vec<Row>>,
    len: usize,
}

impl TrainingSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an encounter. `false`: it has no stay (or one that is negative or longer than is believed), and was ignored.
    pub fn push(&mut self, encounter: &Encounter) -> bool {
        let Some(row) = Row::labelled(encounter) else { return false };
        self.push_row(row);
        true
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No rows?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push_row(&mut self, row: Row) {
        if self.len.is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK.min(self.len.max(1024))));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.push(row);
            self.len += 1;
        }
    }

    pub(super) fn row(&self, index: u32) -> &Row {
        &self.blocks[index as usize / BLOCK][index as usize % BLOCK]
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> + Clone {
        self.blocks.iter().flatten()
    }

    /// Row indices by admission, then by content: the same order however the rows came in.
    pub(super) fn in_time(&self) -> Vec<u32> {
        let mut keys: Vec<(i32, u64, u32)> = self.rows().enumerate().map(|(i, row)| (row.admitted, row.hash(), i as u32)).collect();
        keys.sort_unstable();
        keys.into_iter().map(|key| key.2).collect()
    }
}

/// Makes `feature` missing in every row, for a missing-data check.
pub fn blank(set: &mut TrainingSet, feature: Feature) {
    set.blocks.iter_mut().flatten().for_each(|row| row.blank(feature));
}

/// Makes each cell of the clinical features missing with probability `share` (0 to 1), for a missing-data check. The same seed and
/// row order blank the same cells.
pub fn blank_cells(set: &mut TrainingSet, share: f64, seed: u64) {
    for (i, row) in set.blocks.iter_mut().flatten().enumerate() {
        for feature in Feature::all() {
            let draw = mix(seed ^ mix((i as u64) << 8 | feature as u64));
            if unit(draw) < share {
                row.blank(feature);
            }
        }
    }
}
