//! The fitted parts that turn a row into an answer.

use serde::{Deserialize, Serialize};

use super::challenger::Challenger;
use super::design::{Design, Encoded};
use super::explain::Reasons;
use super::features::Row;
use super::interval::{Intervals, STAY_MIN, open_variance};
use super::linear::Linear;
use crate::domain::Interval;
use crate::domain::encounter::STAY_DAYS_MAX;

/// Which of the fitted models answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Algorithm {
    Linear,
    Trees,
}

/// Design, models and intervals of one fit.
#[derive(Serialize, Deserialize)]
pub(super) struct Scorer {
    pub(super) algorithm: Algorithm,
    pub(super) design: Design,
    pub(super) linear: Linear,
    /// Kept only where it answers.
    pub(super) challenger: Option<Challenger>,
    pub(super) intervals: Intervals,
}

/// An answer without its reasons.
pub(super) struct Answer {
    /// Days, clipped.
    pub(super) days: f64,
    pub(super) intervals: (Interval, Interval),
    pub(super) abnormal: usize,
    pub(super) encoded: Encoded,
}

/// Days as they are answered: from one day to the longest stay that is believed.
pub(super) fn clip(days: f64) -> f64 {
    days.clamp(STAY_MIN, STAY_DAYS_MAX as f64)
}

/// Most likely number of abnormal measurements.
pub(super) fn abnormal(encoded: &Encoded) -> usize {
    // At most the number of measurements.
    encoded.abnormal_count().round() as usize
}

impl Scorer {
    pub(super) fn answer(&self, row: &Row) -> Answer {
        let encoded = self.design.encode(row);
        let days = match (&self.algorithm, &self.challenger) {
            (Algorithm::Trees, Some(trees)) => trees.predict(row, &encoded),
            _ => self.linear.predict(&encoded.values),
        };
        let (days, abnormal) = (clip(days), abnormal(&encoded));
        let open = open_variance(&self.linear, &encoded);
        Answer { days, intervals: self.intervals.around(days, abnormal, open), abnormal, encoded }
    }

    /// The average stay that reasons start from, and the reasons; together they are [`Answer::days`] before clipping.
    pub(super) fn reasons(&self, row: &Row, encoded: &Encoded) -> (f64, Reasons) {
        match (&self.algorithm, &self.challenger) {
            (Algorithm::Trees, Some(trees)) => Reasons::trees(trees, row, encoded),
            _ => (self.linear.mean_days, Reasons::linear(&self.design, &self.linear, encoded)),
        }
    }

    /// Could every row be answered without a fault?
    pub(super) fn is_sound(&self) -> bool {
        let trees = match self.algorithm {
            Algorithm::Linear => self.challenger.is_none(),
            Algorithm::Trees => self.challenger.as_ref().is_some_and(Challenger::is_sound),
        };
        trees && self.design.is_sound() && self.linear.is_sound() && self.intervals.is_sound()
    }
}
