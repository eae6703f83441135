//! Seeded folds that do not depend on the order of rows.

use crate::error::{Error, Result};
use crate::predict::features::{Row, mix};

/// The fold of each row, 0 to `folds - 1`. Equal rows share a fold, so that no row is tested by a model that has seen its copy; each class
/// is spread evenly.
///
/// # Errors
/// Invalid, if a fold would stay empty.
pub(super) fn deal(rows: &[&Row], labels: &[f64], classes: bool, folds: u32, seed: u64) -> Result<Vec<u32>> {
    let needed = u64::from(folds) * 2;
    let too_few = |what: &str| {
        Err(Error::invalid(format!(
            "{folds} folds need at least {needed} {what} with a known target: lower `folds`, or bring more encounters into the record"
        )))
    };
    if (rows.len() as u64) < needed {
        return too_few("encounters");
    }
    let mut order: Vec<(u64, u64, usize)> = rows
        .iter()
        .zip(labels)
        .enumerate()
        // A class is a small whole number.
        .map(|(i, (row, label))| (if classes { *label as u64 } else { 0 }, mix(seed ^ mix(row.hash())), i))
        .collect();
    order.sort_unstable();
    let mut dealt = vec![0; rows.len()];
    let (mut next, mut groups) = (0, 0_u64);
    let mut last = None;
    for (class, key, row) in order {
        if last != Some((class, key)) {
            groups += 1;
            next = (next + 1) % folds;
            last = Some((class, key));
        }
        dealt[row] = next;
    }
    if groups < needed {
        return too_few("different encounters");
    }
    Ok(dealt)
}
