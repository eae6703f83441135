//! Drift: how far the patients of today differ from those of training, by the population stability index of each input.

use serde::{Deserialize, Serialize};

use super::features::{FACILITY_COUNT, MEASUREMENT_COUNT, MEASUREMENTS, READMISSION_LEVELS, Row};
use crate::schema::{FEATURE_COUNT, FEATURES, Shape};

/// Drift of one input. By convention below 0.1 is stable, 0.1 to 0.25 worth a look, above 0.25 a change (Siddiqi 2006).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The input's name.
    pub feature: String,
    /// Population stability index.
    pub psi: f64,
    /// Share missing in these rows.
    pub missing_share: f64,
    /// Share missing in training.
    pub missing_share_training: f64,
}

const TENTHS: usize = 10;
/// Inputs: the features, gender and facility.
const INPUTS: usize = FEATURE_COUNT + 2;
/// Bins of an input; the last holds what is missing.
const BINS: usize = FACILITY_COUNT + 1;

/// How the inputs were distributed in training.
#[derive(Serialize, Deserialize)]
pub(super) struct Profile {
    /// Inner edges of each measurement's tenths.
    edges: Vec<Vec<f32>>,
    /// Share of rows in each bin of each input.
    shares: Vec<Vec<f64>>,
}

impl Profile {
    /// Takes the distribution of `rows`.
    pub(super) fn of(rows: &[&Row]) -> Self {
        let edges = (0..MEASUREMENT_COUNT).map(|m| {
            let mut values: Vec<f32> = rows.iter().filter_map(|row| row.number(m)).collect();
            values.sort_by(f32::total_cmp);
            let mut edges: Vec<f32> = (1..TENTHS).filter_map(|d| values.get(values.len() * d / TENTHS).copied()).collect();
            edges.dedup();
            edges
        });
        let mut profile = Self { edges: edges.collect(), shares: Vec::new() };
        profile.shares = profile.shares_of(rows.iter().copied());
        profile
    }

    fn shares_of<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> Vec<Vec<f64>> {
        let mut counts = vec![vec![0.0; BINS]; INPUTS];
        let mut n = 0.0_f64;
        for row in rows {
            n += 1.0;
            for (input, counts) in counts.iter_mut().enumerate() {
                counts[self.bin(row, input).unwrap_or(BINS - 1)] += 1.0;
            }
        }
        counts.iter_mut().flatten().for_each(|count| *count /= n.max(1.0));
        counts
    }

    fn bin(&self, row: &Row, input: usize) -> Option<usize> {
        let Some(spec) = FEATURES.get(input) else {
            return if input == FEATURE_COUNT { row.gender() } else { Some(usize::from(row.facility)) };
        };
        match spec.shape {
            Shape::Readmissions => row.readmissions(),
            Shape::Condition => {
                super::features::CONDITIONS.iter().position(|c| *c == spec.feature).and_then(|c| row.condition(c)).map(usize::from)
            }
            Shape::Measurement(_) => {
                let m = MEASUREMENTS.iter().position(|m| *m == spec.feature)?;
                let value = row.number(m)?;
                Some(self.edges[m].partition_point(|edge| *edge <= value))
            }
        }
    }

    /// Drift of each input between training and `rows`.
    pub(super) fn drift<'a>(&self, rows: impl Iterator<Item = &'a Row>) -> Vec<Drift> {
        let now = self.shares_of(rows);
        let names = FEATURES.iter().map(|spec| spec.name).chain(["gender", "facility"]);
        names
            .zip(self.shares.iter().zip(&now))
            .map(|(name, (then, now))| Drift {
                feature: name.to_owned(),
                psi: then.iter().zip(now).map(|(a, b)| stability(*a, *b)).sum(),
                missing_share: now[BINS - 1],
                missing_share_training: then[BINS - 1],
            })
            .collect()
    }

    pub(super) fn is_sound(&self) -> bool {
        self.edges.len() == MEASUREMENT_COUNT
            && self.edges.iter().all(|edges| edges.len() < TENTHS)
            && self.shares.len() == INPUTS
            && self.shares.iter().all(|bins| bins.len() == BINS && bins.iter().all(|share| share.is_finite()))
    }
}

/// One bin's part of the index. Empty bins count as one row in ten thousand.
fn stability(then: f64, now: f64) -> f64 {
    if then == 0.0 && now == 0.0 {
        return 0.0;
    }
    let (then, now) = (then.max(1e-4), now.max(1e-4));
    (now - then) * (now / then).ln()
}

const _: () = assert!(READMISSION_LEVELS <= BINS && TENTHS <= BINS);
