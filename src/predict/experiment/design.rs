//! The columns of an experiment: a plan fitted on training rows, and applied to any row.

use super::input::{Input, input_value};
use super::plan::{Form, Plan, Step};
use super::spec::ImputeWith;
use crate::error::{Error, Result};
use crate::predict::features::Row;
use crate::schema::Feature;

/// Cells of a matrix: rows times columns. 160 MB.
const CELLS_MAX: usize = 20_000_000;
/// Levels of a count that become columns; a value above falls to none.
const LEVELS_MAX: usize = 50;

/// A plan fitted on training rows. Nothing of it comes from any other row.
pub(super) struct Design {
    fitted: Vec<Fitted>,
    counted: Vec<Feature>,
    width: usize,
    /// Inputs that no training row holds, by name.
    pub(super) never_known: Vec<&'static str>,
}

struct Fitted {
    step: Step,
    kind: Kind,
}

enum Kind {
    /// What stands for a missing value (NaN: nothing), and the centre and scale.
    Number { fill: f64, centre: f64, scale: f64 },
    /// Levels met in training, ascending.
    Levels(Vec<u32>),
    /// Upper ends of all bins but the last, ascending.
    Bins(Vec<f64>),
}

impl Fitted {
    fn width(&self) -> usize {
        let own = match &self.kind {
            Kind::Number { .. } => 1,
            Kind::Levels(levels) => levels.len(),
            Kind::Bins(ends) => ends.len() + 1,
        };
        own + usize::from(self.step.indicator)
    }
}

impl Design {
    /// Fits every step on training rows.
    pub(super) fn fit(plan: &Plan, rows: &[&Row]) -> Self {
        let mut never_known = Vec::new();
        let mut fitted = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let mut known: Vec<f64> = rows.iter().filter_map(|row| input_value(row, step.input, &plan.counted)).collect();
            known.sort_by(f64::total_cmp);
            if known.is_empty() {
                never_known.push(step.input.name());
            }
            let kind = match step.form {
                Form::Number => number(step, &known, rows.len()),
                Form::Levels => Kind::Levels(levels(step.input, &known)),
                Form::Bins(bins) => Kind::Bins(bin_ends(&known, bins as usize)),
            };
            fitted.push(Fitted { step: *step, kind });
        }
        let width = fitted.iter().map(Fitted::width).sum();
        Self { fitted, counted: plan.counted.clone(), width, never_known }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The columns of rows, row by row. A missing cell is NaN.
    ///
    /// # Errors
    /// Invalid, if they are more than fit in memory.
    pub(super) fn matrix(&self, rows: &[&Row]) -> Result<Vec<f64>> {
        if rows.len().saturating_mul(self.width) > CELLS_MAX {
            return Err(Error::invalid(format!(
                "the experiment makes more than {CELLS_MAX} cells of {} columns: lower `rows_max`, or use fewer bins or features",
                self.width
            )));
        }
        let mut cells = Vec::with_capacity(rows.len() * self.width);
        for row in rows {
            for fitted in &self.fitted {
                let value = input_value(row, fitted.step.input, &self.counted);
                match &fitted.kind {
                    Kind::Number { fill, centre, scale } => cells.push((value.unwrap_or(*fill) - centre) / scale),
                    Kind::Levels(levels) => cells.extend(levels.iter().map(|level| is(value == Some(f64::from(*level))))),
                    Kind::Bins(ends) => {
                        let bin = value.map(|value| ends.partition_point(|end| *end < value));
                        cells.extend((0..=ends.len()).map(|own| is(bin == Some(own))));
                    }
                }
                if fitted.step.indicator {
                    cells.push(is(value.is_none()));
                }
            }
        }
        Ok(cells)
    }
}

fn is(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

fn number(step: &Step, known: &[f64], rows: usize) -> Kind {
    let n = known.len() as f64;
    let mean = if known.is_empty() { 0.0 } else { known.iter().sum::<f64>() / n };
    let fill = match step.impute {
        None => f64::NAN,
        Some(ImputeWith::Zero) => 0.0,
        Some(ImputeWith::Mean) => mean,
        Some(ImputeWith::Median) => quantile(known, 0.5),
    };
    if !step.standardize {
        return Kind::Number { fill, centre: 0.0, scale: 1.0 };
    }
    // The column as it is after filling, so that it is the filled one that has mean 0 and deviation 1.
    let filled = if fill.is_nan() { 0.0 } else { rows as f64 - n };
    let value_of_filled = if fill.is_nan() { 0.0 } else { fill };
    let all = (n + filled).max(1.0);
    let centre = (mean * n + value_of_filled * filled) / all;
    let squares = known.iter().map(|value| (value - centre).powi(2)).sum::<f64>() + filled * (value_of_filled - centre).powi(2);
    let scale = (squares / all).sqrt();
    // A column that never varies stays as it is: there is no scale to divide by.
    Kind::Number { fill, centre, scale: if scale > 1e-12 { scale } else { 1.0 } }
}

/// A quantile of ascending values, between neighbours by share; 0 for none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = last as f64 * share;
    let low = place.floor() as usize;
    let high = (low + 1).min(last);
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}

/// The levels met; of a count, the first [`LEVELS_MAX`].
fn levels(input: Input, sorted: &[f64]) -> Vec<u32> {
    let mut levels: Vec<u32> = Vec::new();
    for value in sorted {
        // Counts and categories are whole numbers from 0.
        let level = *value as u32;
        if levels.last() != Some(&level) {
            levels.push(level);
        }
    }
    let most = input.levels().map_or(LEVELS_MAX, |levels| levels as usize);
    levels.truncate(most);
    levels
}

fn bin_ends(sorted: &[f64], bins: usize) -> Vec<f64> {
    let mut ends: Vec<f64> = (1..bins).map(|bin| quantile(sorted, bin as f64 / bins as f64)).collect();
    ends.dedup();
    // An end at the top leaves nothing above it.
    ends.retain(|end| sorted.last().is_some_and(|top| end < top));
    ends
}
