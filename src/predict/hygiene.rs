//! What the training data looks like: duplicates, outliers, holes, and inputs that give the stay away.

use chrono::NaiveDate;

use super::features::{CONDITIONS, MEASUREMENTS, Row};
use super::fit::sample;
use super::report::{Hygiene, Window};
use super::set::TrainingSet;
use crate::error::{Error, Result};
use crate::schema::{FEATURES, Feature};

/// Share of the variance of stays that no honest input explains alone; one that does was written after the stay was known.
const LEAK_SHARE: f64 = 0.95;
const LEAK_ROWS_MAX: usize = 50_000;
const LEAK_BINS_MAX: usize = 50;
const LEAK_BIN_ROWS: usize = 10;

/// Refuses data in which one input all but equals the stay.
///
/// # Errors
/// Invalid, naming the input.
pub(super) fn refuse_leaks(set: &TrainingSet, order: &[u32]) -> Result<()> {
    let rows: Vec<&Row> = sample(order, LEAK_ROWS_MAX).map(|i| set.row(i)).collect();
    let class = |row: &Row| row.readmissions().map(|class| class as f64);
    let mut suspects = vec![(Feature::Readmissions, explained(&rows, class))];
    for (m, feature) in MEASUREMENTS.iter().enumerate() {
        suspects.push((*feature, explained(&rows, |row| row.number(m).map(f64::from))));
    }
    for (c, feature) in CONDITIONS.iter().enumerate() {
        suspects.push((*feature, explained(&rows, |row| row.condition(c).map(|present| f64::from(u8::from(present))))));
    }
    match suspects.iter().find(|(_, share)| *share > LEAK_SHARE) {
        Some((feature, _)) => Err(Error::invalid(format!(
            "The column {} alone all but gives the length of stay: it was probably written after discharge. Remove or correct it, then train again.",
            feature.spec().name
        ))),
        None => Ok(()),
    }
}

/// Share of the variance of stays that tenths (or fiftieths) of one input explain.
fn explained(rows: &[&Row], value: impl Fn(&Row) -> Option<f64>) -> f64 {
    let mut pairs: Vec<(f64, f64)> = rows.iter().filter_map(|row| Some((value(row)?, row.stay_days()))).collect();
    if pairs.len() < rows.len() / 2 || pairs.len() < 2 * LEAK_BIN_ROWS {
        return 0.0;
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let n = pairs.len();
    let mean = pairs.iter().map(|pair| pair.1).sum::<f64>() / n as f64;
    let total: f64 = pairs.iter().map(|pair| (pair.1 - mean).powi(2)).sum();
    let bin_rows = n.div_ceil((n / LEAK_BIN_ROWS).clamp(1, LEAK_BINS_MAX));
    let (mut between, mut start) = (0.0, 0);
    while start < n {
        let mut end = (start + bin_rows).min(n);
        // Equal values stay together, or sorting by stay within them would explain what they do not.
        while end < n && pairs[end].0 == pairs[end - 1].0 {
            end += 1;
        }
        let bin_mean = pairs[start..end].iter().map(|pair| pair.1).sum::<f64>() / (end - start) as f64;
        between += (end - start) as f64 * (bin_mean - mean).powi(2);
        start = end;
    }
    if total > 0.0 { between / total } else { 0.0 }
}

/// First and last day of admission.
pub(super) fn window(set: &TrainingSet, order: &[u32]) -> Window {
    let day = |i: Option<&u32>| {
        i.and_then(|i| NaiveDate::from_num_days_from_ce_opt(set.row(*i).admitted)).map(|day| day.to_string()).unwrap_or_default()
    };
    Window { first: day(order.first()), last: day(order.last()) }
}

/// Counts what a data steward should look at.
pub(super) fn inspect(set: &TrainingSet, order: &[u32]) -> Hygiene {
    let key = |i: u32| (set.row(i).admitted, set.row(i).hash());
    let mut previous = None;
    let duplicates = order.iter().filter(|i| previous.replace(key(**i)) == Some(key(**i))).count() as u64;
    let mut by_stay = vec![0_u64; crate::domain::encounter::STAY_DAYS_MAX as usize + 1];
    set.rows().for_each(|row| by_stay[row.stay_days() as usize] += 1);
    let quartile = |quarter: u64| {
        let mut left = set.len() as u64 * quarter / 4;
        by_stay
            .iter()
            .position(|n| {
                if *n > left {
                    true
                } else {
                    left -= n;
                    false
                }
            })
            .unwrap_or_default()
    };
    let (first, third) = (quartile(1), quartile(3));
    let limit = third + 3 * (third - first).max(1);
    let n = set.len().max(1) as f64;
    let mut missing = vec![0_u64; FEATURES.len()];
    let mut implausible = vec![0_u64; MEASUREMENTS.len()];
    for row in set.rows() {
        let mask = row.missing();
        missing.iter_mut().enumerate().for_each(|(f, count)| *count += u64::from(mask >> f & 1));
        for (m, feature) in MEASUREMENTS.iter().enumerate() {
            let strange = row.number(m).is_some_and(|value| !feature.spec().is_plausible(f64::from(value)));
            implausible[m] += u64::from(strange);
        }
    }
    Hygiene {
        duplicates,
        long_stays: by_stay.iter().skip(limit + 1).sum(),
        missing: FEATURES
            .iter()
            .zip(missing)
            .filter(|(_, n)| *n > 0)
            .map(|(s, rows)| (s.name.to_owned(), rows as f64 / n))
            .collect(),
        implausible: MEASUREMENTS
            .iter()
            .zip(implausible)
            .filter(|(_, n)| *n > 0)
            .map(|(feature, rows)| (feature.spec().name.to_owned(), rows))
            .collect(),
    }
}
