//! Reasons: what each input adds to the average stay, exactly additive, in words a clinician knows.
//!
//! For the linear model each column's part is `weight x (value - training mean)`. Columns that two inputs share are divided: a
//! readmission x condition-count cell by Shapley's rule for two players (Shapley 1953), the abnormal count among the measurements that
//! are abnormal. For the trees, each split's change of the mean answer goes to the input that was asked (Saabas 2014; the
//! `approx_contribs` of `XGBoost`).

use super::challenger::{Challenger, Topic};
use super::design::{
    CONDITION_FLAGS, CONDITION_LEVELS, COUNTS, Design, Encoded, FACILITIES, FLAGS, GENDERS, INDICATORS, NUMBERS, WIDTH,
};
use super::features::{MEASUREMENT_COUNT, MEASUREMENTS, READMISSION_LEVELS, Row};
use super::linear::Linear;
use crate::domain::Contribution;
use crate::schema::{FEATURES, Feature, Shape};

/// Days added to the average, by what a clinician would name.
#[derive(Default)]
pub(super) struct Reasons {
    readmissions: f64,
    conditions: f64,
    measurements: [f64; MEASUREMENT_COUNT],
    gender: f64,
    facility: f64,
}

impl Reasons {
    /// Named and sorted, largest effect first; what adds nothing is left out.
    pub(super) fn named(self) -> Vec<Contribution> {
        let mut out = Vec::with_capacity(MEASUREMENT_COUNT + 4);
        let mut push = |factor: &str, days: f64| {
            if days != 0.0 {
                out.push(Contribution { factor: factor.to_owned(), days });
            }
        };
        push(Feature::Readmissions.spec().label, self.readmissions);
        push("conditions", self.conditions);
        MEASUREMENTS.iter().zip(self.measurements).for_each(|(feature, days)| push(feature.spec().label, days));
        push("gender", self.gender);
        push("facility", self.facility);
        out.sort_by(|a, b| b.days.abs().total_cmp(&a.days.abs()));
        out
    }

    /// Divides `days` among the measurements by how abnormal each is; among all alike, if none is.
    fn share_abnormal(&mut self, days: f64, encoded: &Encoded) {
        let flags = &encoded.values[FLAGS..COUNTS];
        let total: f64 = flags.iter().sum();
        for (m, flag) in flags.iter().enumerate() {
            self.measurements[m] += days * if total > 0.0 { flag / total } else { 1.0 / MEASUREMENT_COUNT as f64 };
        }
    }

    /// Reasons of the linear model. They sum to its answer less [`Linear::mean_days`].
    pub(super) fn linear(design: &Design, linear: &Linear, encoded: &Encoded) -> Self {
        let mut reasons = Self::default();
        let part = |column: usize| linear.weights[column] * (encoded.values[column] - linear.means[column]);
        for m in 0..MEASUREMENT_COUNT {
            reasons.measurements[m] = part(NUMBERS + m) + part(FLAGS + m);
        }
        reasons.conditions = (CONDITION_FLAGS..GENDERS).map(part).sum();
        reasons.gender = (GENDERS..FACILITIES).map(part).sum();
        reasons.facility = (FACILITIES..INDICATORS).map(part).sum();
        for (spec, column) in FEATURES.iter().zip(INDICATORS..WIDTH) {
            match spec.shape {
                Shape::Readmissions => reasons.readmissions += part(column),
                Shape::Condition => reasons.conditions += part(column),
                Shape::Measurement(_) => {
                    let slot = MEASUREMENTS.iter().position(|m| *m == spec.feature).unwrap_or_default();
                    reasons.measurements[slot] += part(column);
                }
            }
        }
        reasons.add_cells(design, linear, encoded);
        reasons.add_counts(linear, encoded);
        reasons
    }

    fn add_cells(&mut self, design: &Design, linear: &Linear, encoded: &Encoded) {
        let days = linear.cells();
        let (mut by_class, mut by_level) = ([0.0; READMISSION_LEVELS], [0.0; CONDITION_LEVELS]);
        for (cell, share) in design.cell_shares().enumerate() {
            by_class[cell / CONDITION_LEVELS] += share;
            by_level[cell % CONDITION_LEVELS] += share;
        }
        let (mut class_alone, mut level_alone, mut neither) = (0.0, 0.0, 0.0);
        for class in 0..READMISSION_LEVELS {
            for level in 0..CONDITION_LEVELS {
                let days = days[class][level];
                class_alone += encoded.readmissions[class] * by_level[level] * days;
                level_alone += by_class[class] * encoded.conditions[level] * days;
                neither += by_class[class] * by_level[level] * days;
            }
        }
        let cells = 0..FLAGS;
        let both: f64 = cells.clone().map(|c| linear.weights[c] * encoded.values[c]).sum();
        let average: f64 = cells.map(|c| linear.weights[c] * linear.means[c]).sum();
        // What readmissions and conditions do together on average belongs to both alike.
        let common = (neither - average) / 2.0;
        self.readmissions += ((class_alone - neither) + (both - level_alone)) / 2.0 + common;
        self.conditions += ((level_alone - neither) + (both - class_alone)) / 2.0 + common;
    }

    fn add_counts(&mut self, linear: &Linear, encoded: &Encoded) {
        let effect: f64 = (COUNTS..NUMBERS).map(|c| linear.weights[c] * encoded.values[c]).sum();
        let average: f64 = (COUNTS..NUMBERS).map(|c| linear.weights[c] * linear.means[c]).sum();
        self.share_abnormal(effect, encoded);
        let usual = &linear.means[FLAGS..COUNTS];
        let total: f64 = usual.iter().sum();
        for (m, share) in usual.iter().enumerate() {
            self.measurements[m] -= average * if total > 0.0 { share / total } else { 1.0 / MEASUREMENT_COUNT as f64 };
        }
    }

    /// Reasons of the trees, and the average answer that they start from.
    pub(super) fn trees(challenger: &Challenger, row: &Row, encoded: &Encoded) -> (f64, Self) {
        let mut reasons = Self::default();
        let mut abnormal = 0.0;
        let start = challenger.contributions(row, encoded, |topic, days| match topic {
            Topic::Readmissions => reasons.readmissions += days,
            Topic::Conditions => reasons.conditions += days,
            Topic::Abnormal => abnormal += days,
            Topic::Gender => reasons.gender += days,
            Topic::Facility => reasons.facility += days,
            Topic::Measurement(m) => reasons.measurements[m] += days,
        });
        reasons.share_abnormal(abnormal, encoded);
        (start, reasons)
    }
}
