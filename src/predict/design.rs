//! The design: how a row becomes the numbers that the models weigh. Fitted on training rows only, and stored with the model.
//!
//! Its columns, in blocks: readmission class x condition count, as steps; abnormal flags; abnormal count, as steps; numbers; conditions;
//! genders; facilities; and one indicator for each input that was missing in training. Where an input is missing, each column it touches
//! holds its *expectation* given the inputs that are known, so a linear model answers its expected answer.
//!
//! A step says "of this class, and this many or more". Steps that few rows know are drawn towards zero, so a rare patient is answered
//! like the nearest common one and never like the reference.

use serde::{Deserialize, Serialize};

use super::features::{CONDITION_COUNT, FACILITY_COUNT, GENDER_COUNT, MEASUREMENT_COUNT, MEASUREMENTS, READMISSION_LEVELS, Row};
use super::impute::{Moments, Tally};
use super::ranges::{self, RANGE_ROWS_MAX, Range};
use crate::schema::FEATURE_COUNT;

/// Condition counts told apart: 0 to 4, and 5 or more.
pub(super) const CONDITION_LEVELS: usize = READMISSION_LEVELS;
const CELL_COUNT: usize = READMISSION_LEVELS * CONDITION_LEVELS;

pub(super) const FLAGS: usize = CELL_COUNT;
pub(super) const COUNTS: usize = FLAGS + MEASUREMENT_COUNT;
pub(super) const NUMBERS: usize = COUNTS + MEASUREMENT_COUNT;
pub(super) const CONDITION_FLAGS: usize = NUMBERS + MEASUREMENT_COUNT;
pub(super) const GENDERS: usize = CONDITION_FLAGS + CONDITION_COUNT;
pub(super) const FACILITIES: usize = GENDERS + GENDER_COUNT;
pub(super) const INDICATORS: usize = FACILITIES + FACILITY_COUNT;
/// Columns of the design.
pub(super) const WIDTH: usize = INDICATORS + FEATURE_COUNT;

/// Rows that a gender, facility or indicator needs for a column of its own.
const LEVEL_ROWS_MIN: f64 = 20.0;

/// Inputs of [`Moments`]: numbers, flags, conditions, genders, facilities.
const MOMENTS: usize = 2 * MEASUREMENT_COUNT + CONDITION_COUNT + GENDER_COUNT + FACILITY_COUNT;

/// A fitted design.
#[derive(Serialize, Deserialize)]
pub(super) struct Design {
    pub(super) ranges: [Range; MEASUREMENT_COUNT],
    /// Mean, standard deviation, least and greatest of each measurement in training.
    scales: Vec<[f64; 4]>,
    /// Facilities met often enough to have a column.
    facilities: Vec<bool>,
    genders: Vec<bool>,
    /// Training rows in each readmission x condition-count cell, smoothed.
    joint: Vec<f64>,
    moments: Moments,
    /// Columns of the linear model.
    pub(super) columns: Vec<usize>,
    /// Columns of the plain one-hot baseline.
    pub(super) baseline_columns: Vec<usize>,
}

/// A row in the design's terms.
#[derive(Clone)]
pub(super) struct Encoded {
    pub(super) values: [f64; WIDTH],
    /// Probability of each readmission class.
    pub(super) readmissions: [f64; READMISSION_LEVELS],
    /// Probability of each condition count.
    pub(super) conditions: [f64; CONDITION_LEVELS],
    /// Probability of each number of abnormal measurements.
    pub(super) abnormal: [f64; MEASUREMENT_COUNT + 1],
    pub(super) facility_known: bool,
    /// Is any input missing that the design uses?
    pub(super) complete: bool,
}

impl Encoded {
    /// Most likely number of abnormal measurements; exact where none is missing.
    pub(super) fn abnormal_count(&self) -> f64 {
        self.abnormal.iter().enumerate().map(|(k, p)| k as f64 * p).sum()
    }
}

impl Design {
    /// Fits a design on training rows. Level counts and moments need all of what is handed in; hand in a sample of a large set.
    pub(super) fn fit(rows: &[&Row]) -> Self {
        let sample: Vec<&Row> = rows.iter().step_by(rows.len().div_ceil(RANGE_ROWS_MAX).max(1)).copied().collect();
        let ranges = ranges::learn(&sample);
        let mut design = Design {
            scales: (0..MEASUREMENT_COUNT).map(|m| scale(rows, m)).collect(),
            ranges,
            facilities: vec![false; FACILITY_COUNT],
            genders: vec![false; GENDER_COUNT],
            joint: Vec::new(),
            moments: Tally::new(MOMENTS).finish(),
            columns: Vec::new(),
            baseline_columns: Vec::new(),
        };
        design.count_levels(rows);
        let mut tally = Tally::new(MOMENTS);
        sample.iter().for_each(|row| tally.add(&design.inputs(row)));
        design.moments = tally.finish();
        design
    }

    /// Decides which genders, facilities and indicators have rows enough for a column, and drops one of each as reference.
    fn count_levels(&mut self, rows: &[&Row]) {
        let mut cells = [0.0; CELL_COUNT];
        let (mut conditions, mut genders) = ([0.0; CONDITION_COUNT], [0.0; GENDER_COUNT]);
        let (mut facilities, mut missing) = ([0.0; FACILITY_COUNT], [0.0; FEATURE_COUNT]);
        for row in rows {
            let level = (row.present.count_ones() as usize).min(CONDITION_LEVELS - 1);
            if let Some(class) = row.readmissions() {
                cells[class * CONDITION_LEVELS + level] += 1.0;
            }
            (0..CONDITION_COUNT).for_each(|c| conditions[c] += f64::from(u8::from(row.condition(c) == Some(true))));
            row.gender().into_iter().for_each(|gender| genders[gender] += 1.0);
            facilities[usize::from(row.facility)] += 1.0;
            let mask = row.missing();
            (0..FEATURE_COUNT).for_each(|f| missing[f] += f64::from(mask >> f & 1));
        }
        let often = |n: &f64| *n >= LEVEL_ROWS_MIN;
        self.genders = genders.iter().map(often).collect();
        self.facilities = facilities.iter().map(often).collect();
        // A little doubt, spread as if readmissions and conditions were independent.
        let total = cells.iter().sum::<f64>().max(1.0);
        let by = |class: usize, level: usize| {
            let p_class: f64 = (0..CONDITION_LEVELS).map(|l| cells[class * CONDITION_LEVELS + l]).sum::<f64>() / total;
            let p_level: f64 = (0..READMISSION_LEVELS).map(|c| cells[c * CONDITION_LEVELS + level]).sum::<f64>() / total;
            (p_class + 1e-6) * (p_level + 1e-6)
        };
        self.joint = (0..CELL_COUNT)
            .map(|cell| cells[cell] + JOINT_PRIOR_ROWS * by(cell / CONDITION_LEVELS, cell % CONDITION_LEVELS))
            .collect();

        let has = |column: usize, offset: usize, levels: &[bool]| {
            column.checked_sub(offset).and_then(|slot| levels.get(slot)).copied().unwrap_or(true)
        };
        let indicators: Vec<bool> = missing.iter().map(|n| often(n) && *n <= rows.len() as f64 - LEVEL_ROWS_MIN).collect();
        let references = [GENDERS + most(&genders), FACILITIES + most(&facilities)];
        let common = |column: &usize| {
            !references.contains(column)
                && has(*column, GENDERS, &self.genders)
                && has(*column, FACILITIES, &self.facilities)
                && has(*column, INDICATORS, &indicators)
        };
        let reference_condition = CONDITION_FLAGS + most(&conditions);
        self.columns = (0..WIDTH)
            .filter(common)
            .filter(|column| match *column {
                // No readmission and no condition is the reference; the flags alone describe the first abnormal measurement.
                0 | COUNTS => false,
                c => c != reference_condition,
            })
            .collect();
        self.baseline_columns = (0..WIDTH)
            .filter(|column| match *column {
                c if c < FLAGS => c % CONDITION_LEVELS == 0 && c > 0,
                c => (NUMBERS..INDICATORS).contains(&c),
            })
            .filter(common)
            .collect();
    }

    /// The inputs of [`Moments`]; NaN is missing.
    fn inputs(&self, row: &Row) -> [f64; MOMENTS] {
        let mut inputs = [f64::NAN; MOMENTS];
        for m in 0..MEASUREMENT_COUNT {
            if let Some(value) = row.number(m) {
                inputs[m] = self.standard(m, value);
                inputs[MEASUREMENT_COUNT + m] = self.ranges[m].share(value);
            }
        }
        let (conditions, rest) = inputs[2 * MEASUREMENT_COUNT..].split_at_mut(CONDITION_COUNT);
        let (genders, facilities) = rest.split_at_mut(GENDER_COUNT);
        for (c, input) in conditions.iter_mut().enumerate() {
            *input = row.condition(c).map_or(f64::NAN, |present| f64::from(u8::from(present)));
        }
        if let Some(gender) = row.gender().filter(|gender| self.genders[*gender]) {
            genders.fill(0.0);
            genders[gender] = 1.0;
        }
        if self.facilities[usize::from(row.facility)] {
            facilities.fill(0.0);
            facilities[usize::from(row.facility)] = 1.0;
        }
        inputs
    }

    /// A number in standard deviations from the training mean, no further out than training saw.
    fn standard(&self, m: usize, value: f32) -> f64 {
        let [mean, deviation, least, greatest] = self.scales[m];
        (f64::from(value).clamp(least, greatest) - mean) / deviation
    }

    /// Encodes a row.
    pub(super) fn encode(&self, row: &Row) -> Encoded {
        let mut inputs = self.inputs(row);
        let complete = inputs.iter().all(|v| !v.is_nan()) && row.readmissions().is_some();
        if !complete {
            self.moments.fill(&mut inputs);
        }
        let (numbers, rest) = inputs.split_at(MEASUREMENT_COUNT);
        let (flags, rest) = rest.split_at(MEASUREMENT_COUNT);
        let (conditions, rest) = rest.split_at(CONDITION_COUNT);
        let mut out = Encoded {
            values: [0.0; WIDTH],
            readmissions: [0.0; READMISSION_LEVELS],
            conditions: [0.0; CONDITION_LEVELS],
            abnormal: [0.0; MEASUREMENT_COUNT + 1],
            facility_known: self.facilities[usize::from(row.facility)],
            complete,
        };
        for m in 0..MEASUREMENT_COUNT {
            out.values[NUMBERS + m] = numbers[m];
            out.values[FLAGS + m] = if self.ranges[m].is_open() { 0.0 } else { flags[m].clamp(0.0, 1.0) };
        }
        out.abnormal = sum_of(&out.values[FLAGS..COUNTS]);
        for (c, condition) in conditions.iter().enumerate() {
            out.values[CONDITION_FLAGS + c] = condition.clamp(0.0, 1.0);
        }
        out.conditions = sum_of(&out.values[CONDITION_FLAGS..GENDERS]);
        out.values[GENDERS..INDICATORS].copy_from_slice(rest);
        let mut above = 0.0;
        for k in (1..=MEASUREMENT_COUNT).rev() {
            above += out.abnormal[k];
            out.values[COUNTS + k - 1] = above;
        }
        self.fill_cells(row, &mut out);
        if !complete {
            let missing = row.missing();
            (0..FEATURE_COUNT).for_each(|f| out.values[INDICATORS + f] = f64::from(missing >> f & 1));
        }
        out
    }

    fn fill_cells(&self, row: &Row, out: &mut Encoded) {
        let mut above = [0.0; READMISSION_LEVELS];
        for level in (0..CONDITION_LEVELS).rev() {
            let p_level = out.conditions[level];
            if p_level > 0.0 {
                let total: f64 = (0..READMISSION_LEVELS).map(|class| self.joint[class * CONDITION_LEVELS + level]).sum();
                for (class, above) in above.iter_mut().enumerate() {
                    *above += p_level
                        * match row.readmissions() {
                            Some(known) => f64::from(u8::from(known == class)),
                            None => self.joint[class * CONDITION_LEVELS + level] / total,
                        };
                }
            }
            for (class, above) in above.iter().enumerate().skip(1) {
                out.values[class * CONDITION_LEVELS + level] = *above;
            }
            out.values[level] = above.iter().sum();
        }
        out.readmissions = above;
    }

    /// The plain one-hot columns of the baseline: readmissions alone, no learned feature.
    pub(super) fn baseline(&self, encoded: &Encoded) -> Encoded {
        let mut out = encoded.clone();
        out.values[..NUMBERS].fill(0.0);
        for (class, p) in encoded.readmissions.iter().enumerate() {
            out.values[class * CONDITION_LEVELS] = *p;
        }
        out
    }

    /// Share of training rows in each cell.
    pub(super) fn cell_shares(&self) -> impl Iterator<Item = f64> + '_ {
        let total: f64 = self.joint.iter().sum();
        self.joint.iter().map(move |n| n / total)
    }

    /// Has everything the size and the finite values that encoding relies on?
    pub(super) fn is_sound(&self) -> bool {
        let mut columns = self.columns.iter().chain(&self.baseline_columns);
        self.scales.len() == MEASUREMENT_COUNT
            && self.scales.iter().flatten().all(|v| v.is_finite())
            && self.scales.iter().all(|scale| scale[1] > 0.0 && scale[2] <= scale[3])
            && self.facilities.len() == FACILITY_COUNT
            && self.genders.len() == GENDER_COUNT
            && self.joint.len() == CELL_COUNT
            && self.joint.iter().all(|n| n.is_finite() && *n > 0.0)
            && columns.all(|column| *column < WIDTH)
            && self.moments.is_sound(MOMENTS)
    }

    /// Names of the measurements that have a learned range, with it, for the report.
    pub(super) fn learned_ranges(&self) -> impl Iterator<Item = (&'static str, Option<f32>, Option<f32>)> + '_ {
        MEASUREMENTS.iter().zip(&self.ranges).filter(|(_, r)| !r.is_open()).map(|(m, r)| (m.spec().name, r.low, r.high))
    }
}

/// Rows of prior belief in the joint distribution of readmissions and condition count.
const JOINT_PRIOR_ROWS: f64 = 30.0;

fn most(counts: &[f64]) -> usize {
    counts.iter().enumerate().fold(0, |best, (i, n)| if *n > counts[best] { i } else { best })
}

/// Mean, deviation, least and greatest of a measurement. One that never varies has deviation 1, so that it encodes as zero.
fn scale(rows: &[&Row], m: usize) -> [f64; 4] {
    let (mut n, mut sum, mut least, mut greatest) = (0.0_f64, 0.0, f64::INFINITY, f64::NEG_INFINITY);
    for value in rows.iter().filter_map(|row| row.number(m)).map(f64::from) {
        n += 1.0;
        sum += value;
        least = least.min(value);
        greatest = greatest.max(value);
    }
    if n == 0.0 {
        return [0.0, 1.0, 0.0, 0.0];
    }
    let mean = sum / n;
    let variance = rows.iter().filter_map(|row| row.number(m)).map(|v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let deviation = variance.sqrt();
    [mean, if deviation > 1e-9 * mean.abs().max(1.0) { deviation } else { 1.0 }, least, greatest]
}

/// Distribution of the sum of independent yes-or-no values (Poisson binomial); the last place holds that many and more.
fn sum_of<const N: usize>(chances: &[f64]) -> [f64; N] {
    let mut out = [0.0; N];
    out[0] = 1.0;
    for p in chances.iter().filter(|p| **p > 0.0) {
        for k in (1..N).rev() {
            let stay = if k == N - 1 { 1.0 } else { 1.0 - p };
            out[k] = out[k] * stay + out[k - 1] * p;
        }
        out[0] *= 1.0 - p;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_conditions_is_distributed_as_its_chances_say() {
        assert_eq!(sum_of::<4>(&[1.0, 0.0, 1.0]), [0.0, 0.0, 1.0, 0.0]);
        let halves: [f64; 4] = sum_of(&[0.5, 0.5]);
        assert_eq!(halves, [0.25, 0.5, 0.25, 0.0]);
        let capped: [f64; 2] = sum_of(&[0.5, 0.5, 1.0]);
        assert_eq!(capped, [0.0, 1.0]);
    }
}
