//! How good answers are: errors, intervals and calibration on rows whose stay is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::Interval;

/// A range's share of true stays inside it, and its mean width.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Coverage {
    /// Share of stays inside, 0 to 1.
    pub coverage: f64,
    /// Mean width, days.
    pub mean_width_days: f64,
}

/// Every metric of a model on labelled rows. The relative ones are `None` where every stay is equal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Coefficient of determination, `1 - rse`.
    pub r2: Option<f64>,
    /// Mean absolute error, days.
    pub mae: f64,
    /// Root mean squared error, days.
    pub rmse: f64,
    /// Relative absolute error: against always answering the mean of these rows.
    pub rae: Option<f64>,
    /// Relative squared error: against always answering the mean of these rows.
    pub rse: Option<f64>,
    /// Share of answers, in whole days, at most one day off.
    pub within_one_day: f64,
    /// Coverage and width by level: `"80"` and `"90"`. Empty for models without intervals.
    pub intervals: BTreeMap<String, Coverage>,
}

/// Errors of a group of rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupError {
    /// Which rows.
    pub group: String,
    /// How many.
    pub rows: u64,
    /// Mean absolute error, days.
    pub mae: f64,
    /// Root mean squared error, days.
    pub rmse: f64,
    /// Mean answer less mean stay, days: above zero, stays are overestimated.
    pub bias_days: f64,
    /// Coverage and width by level.
    pub intervals: BTreeMap<String, Coverage>,
}

/// A tenth of the rows, by answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decile {
    /// 1 for the shortest answers, 10 for the longest.
    pub decile: u8,
    /// How many rows.
    pub rows: u64,
    /// Mean answer, days.
    pub mean_predicted_days: f64,
    /// Mean stay, days.
    pub mean_stay_days: f64,
}

/// Sums of errors as rows stream by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Errors {
    pub(super) rows: u64,
    sum: f64,
    absolute: f64,
    squared: f64,
    within_one_day: u64,
    inside: [u64; 2],
    width: [f64; 2],
}

impl Errors {
    pub(super) fn add(&mut self, stay: f64, days: f64, intervals: Option<(Interval, Interval)>) {
        let error = days - stay;
        self.rows += 1;
        self.sum += error;
        self.absolute += error.abs();
        self.squared += error * error;
        // Of the answer in whole days, as a ward reads it.
        self.within_one_day += u64::from((days.round() - stay).abs() <= 1.0);
        if let Some((at80, at90)) = intervals {
            for (level, interval) in [at80, at90].iter().enumerate() {
                self.inside[level] += u64::from((interval.low..=interval.high).contains(&stay));
                self.width[level] += interval.high - interval.low;
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Errors) {
        self.rows += other.rows;
        self.sum += other.sum;
        self.absolute += other.absolute;
        self.squared += other.squared;
        self.within_one_day += other.within_one_day;
        for level in 0..2 {
            self.inside[level] += other.inside[level];
            self.width[level] += other.width[level];
        }
    }

    fn n(&self) -> f64 {
        self.rows.max(1) as f64
    }

    pub(super) fn mean_squared(&self) -> f64 {
        self.squared / self.n()
    }

    fn coverage(&self) -> BTreeMap<String, Coverage> {
        if self.width == [0.0; 2] && self.inside == [0; 2] {
            return BTreeMap::new();
        }
        let at = |level: usize| Coverage {
            coverage: self.inside[level] as f64 / self.n(),
            mean_width_days: self.width[level] / self.n(),
        };
        BTreeMap::from([("80".to_owned(), at(0)), ("90".to_owned(), at(1))])
    }

    /// The metrics, given how the same rows' stays vary.
    pub(super) fn metrics(&self, spread: &Spread) -> Metrics {
        let share = |error: f64, whole: f64| (whole > 0.0).then(|| error / whole);
        let rse = share(self.squared, spread.squared);
        Metrics {
            r2: rse.map(|rse| 1.0 - rse),
            mae: self.absolute / self.n(),
            rmse: self.mean_squared().sqrt(),
            rae: share(self.absolute, spread.absolute),
            rse,
            within_one_day: self.within_one_day as f64 / self.n(),
            intervals: self.coverage(),
        }
    }

    pub(super) fn group(&self, group: impl Into<String>) -> GroupError {
        GroupError {
            group: group.into(),
            rows: self.rows,
            mae: self.absolute / self.n(),
            rmse: self.mean_squared().sqrt(),
            bias_days: self.sum / self.n(),
            intervals: self.coverage(),
        }
    }
}

/// How much stays vary about their mean.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spread {
    absolute: f64,
    pub(super) squared: f64,
}

impl Spread {
    pub(super) fn of(stays: impl Iterator<Item = f64> + Clone) -> Self {
        let (n, sum) = stays.clone().fold((0.0_f64, 0.0), |(n, sum), stay| (n + 1.0, sum + stay));
        let mean = sum / n.max(1.0);
        stays.fold(Self::default(), |s, stay| Self {
            absolute: s.absolute + (stay - mean).abs(),
            squared: s.squared + (stay - mean) * (stay - mean),
        })
    }
}

/// Tenths of (answer, stay) pairs, by answer.
pub(super) fn deciles(mut pairs: Vec<(f32, f32)>) -> Vec<Decile> {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let n = pairs.len();
    let tenth = |d: usize| &pairs[n * d / 10..n * (d + 1) / 10];
    (0..10)
        .filter(|d| !tenth(*d).is_empty())
        .map(|d| {
            let rows = tenth(d);
            let mean =
                |pick: fn(&(f32, f32)) -> f32| rows.iter().map(|pair| f64::from(pick(pair))).sum::<f64>() / rows.len() as f64;
            Decile {
                decile: d as u8 + 1,
                rows: rows.len() as u64,
                mean_predicted_days: mean(|pair| pair.0),
                mean_stay_days: mean(|pair| pair.1),
            }
        })
        .collect()
}
