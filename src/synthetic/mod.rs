//! Synthetic encounters from a documented model of a hospital (`docs/synthetic-model.md`). Pure: the same seed gives the same values on
//! every machine. It knows no file format, and no real patient: its parameters are summary statistics of the blueprint's sample.
//!
//! Each encounter is a function of the seed and its id alone, so any part of a population can be made again without the rest.

mod draw;
mod model;

use chrono::NaiveDate;

use crate::domain::{Encounter, EncounterId, Phi};
use crate::error::{Error, Result};

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Encounters.
    pub rows: u64,
    /// The population: another seed, other patients.
    pub seed: u64,
    /// Id of the first encounter, from 1; the others follow.
    pub first_id: i32,
}

/// The encounters of [`encounters`], made one at a time in constant memory.
#[derive(Debug, Clone)]
pub struct Encounters {
    seed: u64,
    next: i64,
    end: i64,
}

/// Discharged encounters with consecutive ids, admitted from 2012-01-01 to 2013-01-01.
///
/// # Errors
/// `Invalid` if an id would lie outside 1 to 2147483647.
pub fn encounters(options: &Options) -> Result<Encounters> {
    let next = i64::from(options.first_id);
    let end = i64::try_from(options.rows).ok().and_then(|rows| next.checked_add(rows));
    match end {
        Some(end) if next >= 1 && end - 1 <= i64::from(i32::MAX) => Ok(Encounters { seed: options.seed, next, end }),
        _ => Err(Error::invalid(format!("encounter ids must lie from 1 to {}: ask for fewer rows or another first id", i32::MAX))),
    }
}

/// One discharged encounter: the one that [`encounters`] gives this id under this seed.
pub fn encounter(seed: u64, id: EncounterId) -> Encounter {
    model::encounter(seed, id)
}

/// The same patient as [`encounter`], admitted on `admitted` and still in the hospital. The stay to come is that of [`encounter`].
pub fn admission(seed: u64, id: EncounterId, admitted: NaiveDate) -> Encounter {
    Encounter { admitted: Phi::new(admitted), discharged: Phi::new(None), ..encounter(seed, id) }
}

impl Iterator for Encounters {
    type Item = Encounter;

    fn next(&mut self) -> Option<Encounter> {
        if self.next >= self.end {
            return None;
        }
        let id = EncounterId::new(self.next)?;
        self.next += 1;
        Some(encounter(self.seed, id))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}
