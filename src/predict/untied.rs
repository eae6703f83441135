//! Inputs that no longer go with the stays: a column that was shuffled, shifted or joined to the wrong rows keeps its distribution, so
//! drift cannot see it. The model's own reasons can.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::features::Row;
use super::scorer::Scorer;

/// Rows that are looked at.
const ROWS_MAX: usize = 20_000;
/// Fewest rows from which anything is concluded.
const ROWS_MIN: u64 = 50;
/// Share of the errors' variance that an input's reasons must make up to matter.
const WEIGHT_MIN: f64 = 0.05;
/// How much of an input's reasons must be undone by the errors. An input that fits has 0, one without any tie to the stay has 1.
const UNDONE_MIN: f64 = 0.6;

/// An input whose reasons the stays contradict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Untied {
    /// The input, in the words of the reasons.
    pub input: String,
    /// Share of the input's effect that the errors undo (the slope of stay minus answer on the input's reasons, negated): near 0 where
    /// the input fits, near 1 where it says nothing about the stay.
    pub undone: f64,
}

/// Sums of one input's reasons `c` and the errors `e`.
#[derive(Default)]
struct Sums {
    c: f64,
    cc: f64,
    ce: f64,
}

/// The inputs of `rows` that no longer go with the stays, the worst first.
pub(super) fn untied<'a>(scorer: &Scorer, rows: impl Iterator<Item = &'a Row> + Clone) -> Vec<Untied> {
    let step = rows.clone().count().div_ceil(ROWS_MAX).max(1);
    let mut inputs: BTreeMap<String, Sums> = BTreeMap::new();
    let (mut n, mut e, mut ee) = (0_u64, 0.0, 0.0);
    for row in rows.step_by(step) {
        let answer = scorer.answer(row);
        let error = row.stay_days() - answer.days;
        n += 1;
        e += error;
        ee += error * error;
        for reason in scorer.reasons(row, &answer.encoded).1.named() {
            let sums = inputs.entry(reason.factor).or_default();
            sums.c += reason.days;
            sums.cc += reason.days * reason.days;
            sums.ce += reason.days * error;
        }
    }
    if n < ROWS_MIN {
        return Vec::new();
    }
    let n = n as f64;
    let errors = ee / n - (e / n).powi(2);
    let untied = |(input, sums): (String, Sums)| {
        let variance = sums.cc / n - (sums.c / n).powi(2);
        let undone = -(sums.ce / n - sums.c / n * (e / n)) / variance;
        (variance > WEIGHT_MIN * errors && undone > UNDONE_MIN).then_some(Untied { input, undone })
    };
    let mut found: Vec<Untied> = inputs.into_iter().filter_map(untied).collect();
    found.sort_by(|a, b| b.undone.total_cmp(&a.undone));
    found
}
