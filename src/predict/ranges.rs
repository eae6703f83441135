//! Learned reference ranges: for each measurement the range outside which stays differ, found in the data and nowhere else.
//!
//! Two stages. First, backfitting: a step function with at most two cut points per measurement, on what the readmission and
//! condition counts and the other steps leave. Then, since the *number* of abnormal measurements acts non-linearly, the cut points
//! are moved to where that count explains most. A cut that does not pay for itself is not made.

use serde::{Deserialize, Serialize};

use super::features::{MEASUREMENT_COUNT, READMISSION_LEVELS, Row};

/// Rows that the search looks at; more move a cut point by less than its own uncertainty.
pub(super) const RANGE_ROWS_MAX: usize = 30_000;

const COARSE_CUTS: usize = 200;
const COARSE_PASSES: usize = 3;
const FINE_PASSES: usize = 3;
const COUNTS: usize = MEASUREMENT_COUNT + 1;
const CELLS: usize = (READMISSION_LEVELS + 1) * READMISSION_LEVELS;

/// A reference range; both ends open means that the measurement has none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Range {
    /// Values below are abnormal.
    pub(super) low: Option<f32>,
    /// Values above are abnormal.
    pub(super) high: Option<f32>,
    /// Rounded values next to a cut, and the share of them that is abnormal: 60 beats a minute are 59.6 or 60.4.
    edges: [Option<(f32, f32)>; 4],
}

impl Range {
    /// How abnormal a value is, 0 to 1.
    pub(super) fn share(&self, value: f32) -> f64 {
        let edge = self.edges.iter().flatten().find(|edge| edge.0 == value);
        edge.map_or_else(|| f64::from(u8::from(self.is_outside(value))), |edge| f64::from(edge.1))
    }

    fn is_outside(&self, value: f32) -> bool {
        self.low.is_some_and(|low| value < low) || self.high.is_some_and(|high| value > high)
    }

    pub(super) fn is_open(&self) -> bool {
        self.low.is_none() && self.high.is_none()
    }
}

/// Condition count of a row, at most 5, of those that are known.
fn condition_level(row: &Row) -> usize {
    (row.present.count_ones() as usize).min(READMISSION_LEVELS - 1)
}

struct Search<'a> {
    rows: &'a [&'a Row],
    cell: Vec<u8>,
    /// Known rows by value, for each measurement.
    sorted: Vec<Vec<u32>>,
    side_min: usize,
    ranges: [Range; MEASUREMENT_COUNT],
}

/// Learns the ranges from labelled rows.
pub(super) fn learn(rows: &[&Row]) -> [Range; MEASUREMENT_COUNT] {
    let cell = |row: &Row| (row.readmissions().unwrap_or(READMISSION_LEVELS) * READMISSION_LEVELS + condition_level(row)) as u8;
    let sorted = (0..MEASUREMENT_COUNT).map(|m| {
        let mut order: Vec<u32> = (0..rows.len() as u32).filter(|i| rows[*i as usize].number(m).is_some()).collect();
        order.sort_by(|a, b| rows[*a as usize].numbers[m].total_cmp(&rows[*b as usize].numbers[m]));
        order
    });
    let mut search = Search {
        rows,
        cell: rows.iter().map(|row| cell(row)).collect(),
        sorted: sorted.collect(),
        side_min: (rows.len() / 500).max(8),
        ranges: [Range::default(); MEASUREMENT_COUNT],
    };
    search.coarse();
    for _ in 0..FINE_PASSES {
        search.fine();
    }
    search.soften();
    search.ranges
}

impl Search<'_> {
    fn value(&self, m: usize, place: usize) -> f32 {
        self.rows[self.sorted[m][place] as usize].numbers[m]
    }

    /// The point between two neighbours in the order of measurement `m`.
    fn between(&self, m: usize, place: usize) -> f32 {
        f32::midpoint(self.value(m, place - 1), self.value(m, place))
    }

    /// What a cut must explain to be more than chance: the search tries many cuts, so a multiple of `ln n` residual variances.
    fn price(&self, residual: &[f64]) -> f64 {
        let n = residual.len() as f64;
        3.0 * n.ln() * residual.iter().map(|r| r * r).sum::<f64>() / n
    }

    fn remove_cell_means(&self, residual: &mut [f64]) {
        let (mut sum, mut count) = ([0.0; CELLS], [0.0; CELLS]);
        for (r, cell) in residual.iter().zip(&self.cell) {
            sum[usize::from(*cell)] += r;
            count[usize::from(*cell)] += 1.0;
        }
        for (r, cell) in residual.iter_mut().zip(&self.cell) {
            *r -= sum[usize::from(*cell)] / count[usize::from(*cell)];
        }
    }

    fn coarse(&mut self) {
        let mut residual: Vec<f64> = self.rows.iter().map(|row| row.stay_days()).collect();
        let mut effect = [0.0; MEASUREMENT_COUNT];
        self.remove_cell_means(&mut residual);
        for _ in 0..COARSE_PASSES {
            for (m, effect) in effect.iter_mut().enumerate() {
                self.shift(&mut residual, m, *effect);
                (self.ranges[m], *effect) = self.best_step(m, &residual);
                self.shift(&mut residual, m, -*effect);
            }
            self.remove_cell_means(&mut residual);
        }
    }

    /// Adds `days` to what is left of each row that is abnormal in measurement `m`.
    fn shift(&self, residual: &mut [f64], m: usize, days: f64) {
        for (r, row) in residual.iter_mut().zip(self.rows) {
            *r += days * self.abnormal(row, m) as f64;
        }
    }

    /// Places where a cut may be made: between different neighbours, about equally many rows apart.
    fn cut_places(&self, m: usize) -> Vec<usize> {
        let n = self.sorted[m].len();
        let mut places: Vec<usize> = Vec::with_capacity(COARSE_CUTS);
        for step in 1..COARSE_CUTS {
            let mut place = (n * step / COARSE_CUTS).max(1);
            while place < n && self.value(m, place - 1) == self.value(m, place) {
                place += 1;
            }
            if place < n && places.last() != Some(&place) {
                places.push(place);
            }
        }
        places
    }

    /// The two-cut step that explains most of `residual`, and its effect outside against inside.
    fn best_step(&self, m: usize, residual: &[f64]) -> (Range, f64) {
        let n = self.sorted[m].len();
        let mut prefix = Vec::with_capacity(n + 1);
        prefix.push(0.0);
        for (k, i) in self.sorted[m].iter().enumerate() {
            prefix.push(prefix[k] + residual[*i as usize]);
        }
        let price = self.price(residual);
        let total = prefix[n];
        let mut best = (0.0, Range::default(), 0.0);
        let mut consider = |low: usize, high: usize| {
            let (low_open, high_open) = (low == 0, high == n);
            let (n_in, s_in) = ((high - low) as f64, prefix[high] - prefix[low]);
            let (n_out, s_out) = (n as f64 - n_in, total - s_in);
            let effect = s_out / n_out - s_in / n_in;
            let cuts = f64::from(u8::from(!low_open) + u8::from(!high_open));
            let gain = effect * effect * n_out * n_in / n as f64 - price * cuts;
            if gain > best.0 {
                let (low, high) = ((!low_open).then(|| self.between(m, low)), (!high_open).then(|| self.between(m, high)));
                let range = Range { low, high, ..Range::default() };
                best = (gain, range, effect);
            }
        };
        let places: Vec<usize> =
            self.cut_places(m).into_iter().filter(|p| *p >= self.side_min && n - *p >= self.side_min).collect();
        for (k, low) in places.iter().enumerate() {
            // One cut splits in two: the smaller side is the abnormal one.
            if *low <= n / 2 {
                consider(*low, n)
            } else {
                consider(0, *low)
            }
            places[k + 1..].iter().for_each(|high| consider(*low, *high));
        }
        (best.1, best.2)
    }

    fn abnormal(&self, row: &Row, m: usize) -> usize {
        usize::from(row.number(m).is_some_and(|value| self.ranges[m].is_outside(value)))
    }

    fn abnormal_counts(&self) -> Vec<usize> {
        self.rows.iter().map(|row| (0..MEASUREMENT_COUNT).map(|m| self.abnormal(row, m)).sum()).collect()
    }

    /// For each row, what is left to explain without measurement `m`, and what its being abnormal would add.
    fn without(&self, m: usize, count: &[usize]) -> (Vec<(f64, f64)>, f64) {
        let (effect, residual) = self.count_effect(count);
        let price = self.price(&residual);
        let rows = self.rows.iter().zip(&residual).zip(count);
        let left = rows.map(|((row, residual), count)| {
            let others = count - self.abnormal(row, m);
            (residual + effect[*count] - effect[others], effect[others + 1] - effect[others])
        });
        (left.collect(), price)
    }

    /// Moves each range to where the number of abnormal measurements explains most, given the others.
    fn fine(&mut self) {
        let mut count = self.abnormal_counts();
        for m in 0..MEASUREMENT_COUNT {
            if self.ranges[m].is_open() {
                continue;
            }
            let (left, price) = self.without(m, &count);
            // How much squared error falls if a row is called abnormal.
            let scores: Vec<f64> = left.iter().map(|(left, step)| 2.0 * left * step - step * step).collect();
            let range = self.best_outside(m, &scores, price);
            for (row, count) in self.rows.iter().zip(&mut count) {
                *count -= self.abnormal(row, m);
                *count += usize::from(row.number(m).is_some_and(|value| range.is_outside(value)));
            }
            self.ranges[m] = range;
        }
    }

    /// Finds rounded values next to a cut of which only a share is abnormal.
    fn soften(&mut self) {
        let count = self.abnormal_counts();
        for m in 0..MEASUREMENT_COUNT {
            if self.ranges[m].is_open() {
                continue;
            }
            let (left, price) = self.without(m, &count);
            let sorted = &self.sorted[m];
            let mut edges = [None; 4];
            for (side, cut) in [self.ranges[m].low, self.ranges[m].high].into_iter().enumerate() {
                let Some(cut) = cut else { continue };
                let place = sorted.partition_point(|i| self.rows[*i as usize].numbers[m] < cut);
                for (beyond, neighbour) in [place.checked_sub(1), Some(place)].into_iter().enumerate() {
                    let Some(value) = neighbour.filter(|k| *k < sorted.len()).map(|k| self.value(m, k)) else { continue };
                    let hard = f64::from(u8::from(self.ranges[m].is_outside(value)));
                    let same = sorted.iter().filter(|i| self.rows[**i as usize].numbers[m] == value);
                    let (product, square) = same.fold((0.0, 0.0), |(product, square), i| {
                        let (left, step) = left[*i as usize];
                        (product + left * step, square + step * step)
                    });
                    let share = (product / square.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
                    if (hard - share).powi(2) * square > price {
                        edges[2 * side + beyond] = Some((value, share as f32));
                    }
                }
            }
            self.ranges[m].edges = edges;
        }
    }

    /// Mean effect of each abnormal count beside the cells, and what is left. Counts too rare to know continue the last slope.
    fn count_effect(&self, count: &[usize]) -> ([f64; COUNTS + 1], Vec<f64>) {
        let mut effect = [0.0; COUNTS + 1];
        let mut left: Vec<f64> = Vec::new();
        for _ in 0..2 {
            left = self.rows.iter().zip(count).map(|(row, k)| row.stay_days() - effect[*k]).collect();
            self.remove_cell_means(&mut left);
            let (mut sum, mut n) = ([0.0; COUNTS + 1], [0.0; COUNTS + 1]);
            for (r, k) in left.iter().zip(count) {
                sum[*k] += r + effect[*k];
                n[*k] += 1.0;
            }
            for k in 0..=COUNTS {
                effect[k] = match k {
                    _ if n[k] >= self.side_min as f64 => sum[k] / n[k],
                    0 | 1 => 0.0,
                    _ => 2.0 * effect[k - 1] - effect[k - 2],
                };
            }
        }
        (effect, left)
    }

    /// The outside (below one cut, above another) with the highest total score; a side that does not pay its price stays open.
    fn best_outside(&self, m: usize, scores: &[f64], price: f64) -> Range {
        let n = self.sorted[m].len();
        let best_side = |from_below: bool| {
            let (mut sum, mut best) = (0.0, (price, None));
            for taken in 1..=n / 2 {
                let place = if from_below { taken } else { n - taken };
                let i = if from_below { place - 1 } else { place };
                sum += scores[self.sorted[m][i] as usize];
                if taken < n && taken >= self.side_min && sum > best.0 && self.value(m, place - 1) != self.value(m, place) {
                    best = (sum, Some(place));
                }
            }
            best.1
        };
        match (best_side(true), best_side(false)) {
            // Sides that meet leave nothing normal: keep what backfitting found.
            (Some(low), Some(high)) if low >= high => self.ranges[m],
            (low, high) => {
                Range { low: low.map(|p| self.between(m, p)), high: high.map(|p| self.between(m, p)), ..Range::default() }
            }
        }
    }
}
