//! Conformal intervals: how far held-out patients were off, among patients like this one.
//!
//! Mondrian groups (Vovk et al. 2005, section 4.5): where nothing that matters is missing, by the number of abnormal measurements;
//! otherwise by how much the missing inputs leave open, the error being scaled by that spread.

use serde::{Deserialize, Serialize};

use super::design::{Encoded, FLAGS};
use super::features::MEASUREMENT_COUNT;
use super::linear::Linear;
use crate::domain::Interval;

/// Shortest stay that is answered, days.
pub(super) const STAY_MIN: f64 = 1.0;

/// Rows that a group needs for quantiles of its own.
const GROUP_ROWS_MIN: usize = 60;
/// Rows a spread group needs, and how many groups there are at most.
const SPREAD_ROWS_MIN: usize = 150;
const SPREAD_GROUPS_MAX: usize = 12;
/// Missing inputs that leave open less than this share of the mean squared error do not matter.
const OPEN_SHARE_MIN: f64 = 0.02;

/// A held-out patient: the error made, and what it is grouped by.
#[derive(Clone, Copy)]
pub(super) struct Held {
    /// True stay minus answered stay, days.
    pub(super) error: f64,
    /// Most likely number of abnormal measurements.
    pub(super) abnormal: usize,
    /// Variance of the answer due to missing inputs, square days.
    pub(super) open: f64,
}

/// Error quantiles: days (or multiples of the spread) from the answer to the ends of the 80 and the 90 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Band {
    low80: f64,
    high80: f64,
    low90: f64,
    high90: f64,
}

/// Fitted intervals.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Intervals {
    /// Variance left open above which a row is judged by its spread.
    open_min: f64,
    /// Mean squared error by abnormal count, where nothing is missing.
    variance: Vec<f64>,
    /// Band of each abnormal count; empty if every held-out row missed something.
    bands: Vec<Band>,
    /// Upper spread of each spread group, ascending, and its band in spreads.
    spread_bands: Vec<(f64, Band)>,
}

/// How much of the answer the missing inputs leave open: its variance over readmission class, condition count and abnormal count.
pub(super) fn open_variance(linear: &Linear, encoded: &Encoded) -> f64 {
    if encoded.complete {
        return 0.0;
    }
    let (mut mean, mut square) = (0.0, 0.0);
    let known = encoded.readmissions.contains(&1.0);
    for (p_class, days) in encoded.readmissions.iter().zip(linear.cells()) {
        for (p_level, days) in encoded.conditions.iter().zip(days) {
            mean += p_class * p_level * days;
            square += p_class * p_level * days * days;
        }
    }
    let cells = if known && encoded.conditions.contains(&1.0) { 0.0 } else { square - mean * mean };
    let flags = &linear.weights[FLAGS..FLAGS + MEASUREMENT_COUNT];
    let used = flags.iter().filter(|w| **w != 0.0).count().max(1);
    let slope = flags.iter().sum::<f64>() / used as f64;
    let (mut mean, mut square) = (0.0, 0.0);
    for (k, (p, beyond)) in encoded.abnormal.iter().zip(linear.counts()).enumerate() {
        let days = k as f64 * slope + beyond;
        mean += p * days;
        square += p * days * days;
    }
    cells.max(0.0) + (square - mean * mean).max(0.0)
}

impl Intervals {
    /// Learns the bands from held-out errors.
    pub(super) fn fit(held: &[Held]) -> Self {
        let exact = |open_min: f64| held.iter().filter(move |h| h.open <= open_min);
        let rows = exact(0.0).count();
        let mse = exact(0.0).map(|h| h.error * h.error).sum::<f64>() / rows.max(1) as f64;
        let open_min = OPEN_SHARE_MIN * mse;
        let mut groups: Vec<Vec<f64>> = vec![Vec::new(); MEASUREMENT_COUNT + 1];
        exact(open_min).for_each(|h| groups[h.abnormal.min(MEASUREMENT_COUNT)].push(h.error));
        let (mut bands, mut variance) = (Vec::new(), vec![mse.max(1e-6); MEASUREMENT_COUNT + 1]);
        if groups.iter().map(Vec::len).sum::<usize>() >= GROUP_ROWS_MIN {
            bands = vec![Band::default(); MEASUREMENT_COUNT + 1];
            for (first, last) in runs(&groups) {
                let mut errors: Vec<f64> = groups[first..=last].concat();
                let mean_square = errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64;
                let band = Band::of(&mut errors);
                bands[first..=last].fill(band);
                variance[first..=last].fill(mean_square.max(1e-6));
            }
        }
        let mut fitted = Self { open_min, variance, bands, spread_bands: Vec::new() };
        let mut spread: Vec<(f64, f64)> = held
            .iter()
            .filter(|h| h.open > open_min || fitted.bands.is_empty())
            .map(|h| (fitted.spread(h), h.error / fitted.spread(h)))
            .collect();
        spread.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let groups = (spread.len() / SPREAD_ROWS_MIN).clamp(1, SPREAD_GROUPS_MAX);
        for chunk in spread.chunks(spread.len().div_ceil(groups).max(1)) {
            let mut errors: Vec<f64> = chunk.iter().map(|(_, error)| *error).collect();
            let upper = chunk.last().map_or(0.0, |(spread, _)| *spread);
            fitted.spread_bands.push((upper, Band::of(&mut errors)));
        }
        fitted
    }

    fn spread(&self, held: &Held) -> f64 {
        (held.open + self.variance[held.abnormal.min(MEASUREMENT_COUNT)]).sqrt()
    }

    /// The 80 and the 90 % interval around `days`.
    pub(super) fn around(&self, days: f64, abnormal: usize, open: f64) -> (Interval, Interval) {
        let held = Held { error: 0.0, abnormal, open };
        let (band, unit) = if open <= self.open_min && !self.bands.is_empty() {
            (self.bands[abnormal.min(MEASUREMENT_COUNT)], 1.0)
        } else {
            let spread = self.spread(&held);
            let group = self.spread_bands.iter().find(|(upper, _)| spread <= *upper).or(self.spread_bands.last());
            (group.map_or_else(Band::default, |(_, band)| *band), spread)
        };
        let interval = |low: f64, high: f64| {
            // An interval that leaves out its own answer would only confuse.
            Interval { low: (days + low.min(0.0) * unit).max(STAY_MIN), high: (days + high.max(0.0) * unit).max(STAY_MIN) }
        };
        (interval(band.low80, band.high80), interval(band.low90, band.high90))
    }

    pub(super) fn is_sound(&self) -> bool {
        let bands = self.bands.iter().chain(self.spread_bands.iter().map(|(_, band)| band));
        self.open_min.is_finite()
            && self.variance.len() == MEASUREMENT_COUNT + 1
            && self.variance.iter().all(|v| v.is_finite() && *v > 0.0)
            && (self.bands.is_empty() || self.bands.len() == MEASUREMENT_COUNT + 1)
            && !(self.bands.is_empty() && self.spread_bands.is_empty())
            && bands.into_iter().all(|b| [b.low80, b.high80, b.low90, b.high90].iter().all(|v| v.is_finite()))
    }
}

/// Runs of neighbouring groups with rows enough; what remains at the end joins the last run.
fn runs(groups: &[Vec<f64>]) -> Vec<(usize, usize)> {
    let (mut runs, mut first, mut rows) = (Vec::<(usize, usize)>::new(), 0, 0);
    for (i, group) in groups.iter().enumerate() {
        rows += group.len();
        if rows >= GROUP_ROWS_MIN {
            runs.push((first, i));
            (first, rows) = (i + 1, 0);
        }
    }
    if let Some(run) = runs.last_mut().filter(|_| first < groups.len()) {
        run.1 = groups.len() - 1;
    }
    runs
}

impl Band {
    fn of(errors: &mut [f64]) -> Self {
        errors.sort_by(f64::total_cmp);
        let (low80, high80) = quantiles(errors, 0.80);
        let (low90, high90) = quantiles(errors, 0.90);
        Band { low80, high80, low90, high90 }
    }
}

/// The shortest range that holds the share `level` of sorted `errors`, with split conformal's correction for finite samples.
fn quantiles(errors: &[f64], level: f64) -> (f64, f64) {
    let n = errors.len();
    if n == 0 {
        return (0.0, 0.0);
    }
    let holds = (((n + 1) as f64 * level).ceil() as usize).clamp(1, n);
    let ranges = (0..=n - holds).map(|i| (errors[i], errors[i + holds - 1]));
    ranges.fold((errors[0], errors[n - 1]), |best, range| if range.1 - range.0 < best.1 - best.0 { range } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_too_small_for_quantiles_join_their_neighbours() {
        let groups: Vec<Vec<f64>> = [10, 60, 100, 5].iter().map(|n| vec![0.0; *n]).collect();
        assert_eq!(runs(&groups), [(0, 1), (2, 3)]);
    }

    #[test]
    fn the_band_holds_its_share_of_errors() {
        let errors: Vec<f64> = (0..100).map(f64::from).collect();
        let (low, high) = quantiles(&errors, 0.90);
        assert_eq!(errors.iter().filter(|e| (low..=high).contains(*e)).count(), 91);
        assert_eq!(quantiles(&[2.0, 3.0], 0.90), (2.0, 3.0));
    }

    #[test]
    fn an_interval_holds_its_answer_and_starts_at_one_day() {
        let held: Vec<Held> = (0..200).map(|i| Held { error: f64::from(i) / 50.0 + 1.0, abnormal: 1, open: 0.0 }).collect();
        let (at80, at90) = Intervals::fit(&held).around(1.2, 1, 0.0);
        assert!(at80.low >= STAY_MIN && at80.low <= 1.2 && at80.high > 1.2 && at90.high >= at80.high);
    }
}
