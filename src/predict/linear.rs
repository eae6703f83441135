//! The linear model: linfa's least squares on sufficient statistics.
//!
//! The design matrix is never held. Rows are folded into sums as they stream by; the Cholesky factor `R` of the centred cross products
//! and `z = R⁻ᵀXᵀy` have as many rows as there are columns, and least squares on (`R`, `z`) has the same solution as on all rows.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_elasticnet::ElasticNet;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

use super::algebra::{Matrix, forward, semi_cholesky};
use super::design::{CONDITION_LEVELS, COUNTS, FLAGS, NUMBERS, WIDTH};
use super::features::{MEASUREMENT_COUNT, READMISSION_LEVELS};
use crate::error::{Error, Result};

/// Sums over rows.
pub(super) struct Sums {
    rows: f64,
    days: f64,
    values: Vec<f64>,
    /// Upper triangle of the cross products.
    products: Matrix,
    with_days: Vec<f64>,
    filled: Vec<(usize, f64)>,
}

impl Sums {
    pub(super) fn new() -> Self {
        Self {
            rows: 0.0,
            days: 0.0,
            values: vec![0.0; WIDTH],
            products: Matrix::zero(WIDTH),
            with_days: vec![0.0; WIDTH],
            filled: Vec::with_capacity(WIDTH),
        }
    }

    /// Adds a row. Most of a row is zero, so the cost is that of what is filled.
    pub(super) fn add(&mut self, values: &[f64; WIDTH], days: f64) {
        self.filled.clear();
        self.filled.extend(values.iter().copied().enumerate().filter(|(_, value)| *value != 0.0));
        for (k, (i, a)) in self.filled.iter().enumerate() {
            self.values[*i] += a;
            self.with_days[*i] += a * days;
            for (j, b) in &self.filled[k..] {
                *self.products.at(*i, *j) += a * b;
            }
        }
        self.rows += 1.0;
        self.days += days;
    }
}

/// How a linear model was fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Solver {
    /// linfa-linear.
    LeastSquares,
    /// linfa-elasticnet: columns depend on one another, or rows are few.
    ElasticNet,
}

/// A fitted linear model over the design's columns.
#[derive(Serialize, Deserialize)]
pub(super) struct Linear {
    /// Mean stay of the training rows.
    pub(super) mean_days: f64,
    /// Mean of each column in training.
    pub(super) means: Vec<f64>,
    /// Days for one more of each column; zero for columns left out.
    pub(super) weights: Vec<f64>,
    pub(super) solver: Solver,
}

/// Rows a column needs before plain least squares is trusted.
const ROWS_PER_COLUMN: f64 = 5.0;
/// Weight, in rows, of the belief that a step adds nothing: what a ridge penalty of this size on its days means.
const STEP_PRIOR_ROWS: f64 = 1.0;
/// Elastic net's penalty, in standard deviations of the stay, and its share of absolute values.
const PENALTY: f64 = 0.002;
const L1_RATIO: f64 = 0.5;

/// Steps on top of others: condition counts within a readmission class, and abnormal counts.
fn is_step(column: usize) -> bool {
    column < FLAGS && !column.is_multiple_of(CONDITION_LEVELS) || (COUNTS..NUMBERS).contains(&column)
}

impl Linear {
    /// Fits `columns` of the design.
    ///
    /// # Errors
    /// Internal, when linfa finds no solution.
    pub(super) fn fit(sums: &Sums, columns: &[usize]) -> Result<Self> {
        let n = sums.rows;
        let means: Vec<f64> = sums.values.iter().map(|sum| sum / n).collect();
        let mean_days = sums.days / n;
        let covariance = |i: usize, j: usize| sums.products.get(i.min(j), i.max(j)) / n - means[i] * means[j];
        // Columns that never vary say nothing.
        let used: Vec<usize> = columns.iter().copied().filter(|c| covariance(*c, *c) > 1e-10).collect();
        let deviation: Vec<f64> = used.iter().map(|c| covariance(*c, *c).sqrt()).collect();
        let mut correlation = Matrix::zero(used.len());
        let mut with_days = Vec::with_capacity(used.len());
        for (a, i) in used.iter().enumerate() {
            for (b, j) in used.iter().enumerate() {
                *correlation.at(a, b) = covariance(*i, *j) / (deviation[a] * deviation[b]);
            }
            if is_step(*i) {
                *correlation.at(a, a) += STEP_PRIOR_ROWS / (n * deviation[a] * deviation[a]);
            }
            with_days.push((sums.with_days[*i] / n - means[*i] * mean_days) / deviation[a]);
        }
        let (factor, singular) = semi_cholesky(&correlation);
        let target = forward(&factor, &with_days);
        let trusted = singular.is_empty() && n >= ROWS_PER_COLUMN * used.len() as f64;
        let solver = if trusted { Solver::LeastSquares } else { Solver::ElasticNet };
        let solution = least_squares(&factor, &target, solver)?;
        let mut weights = vec![0.0; WIDTH];
        for (a, column) in used.iter().enumerate() {
            weights[*column] = solution[a] / deviation[a];
        }
        if weights.iter().chain(&means).any(|v| !v.is_finite()) || !mean_days.is_finite() {
            return Err(Error::internal(
                "The linear model has no finite solution on these rows; the previous model stays in service.",
            ));
        }
        Ok(Self { mean_days, means, weights, solver })
    }

    /// Days, unclipped.
    pub(super) fn predict(&self, values: &[f64; WIDTH]) -> f64 {
        let terms = self.weights.iter().zip(values).zip(&self.means).map(|((w, x), m)| w * (x - m));
        self.mean_days + terms.sum::<f64>()
    }

    /// Days of each readmission class and condition count, against none of either.
    pub(super) fn cells(&self) -> [[f64; CONDITION_LEVELS]; READMISSION_LEVELS] {
        let mut cells = [[0.0; CONDITION_LEVELS]; READMISSION_LEVELS];
        for (class, days) in cells.iter_mut().enumerate() {
            let mut sum = 0.0;
            for (level, days) in days.iter_mut().enumerate() {
                sum += self.weights[level] + if class > 0 { self.weights[class * CONDITION_LEVELS + level] } else { 0.0 };
                *days = sum;
            }
        }
        cells
    }

    /// Days of each number of abnormal measurements beyond what the flags say.
    pub(super) fn counts(&self) -> [f64; MEASUREMENT_COUNT + 1] {
        let mut counts = [0.0; MEASUREMENT_COUNT + 1];
        (1..=MEASUREMENT_COUNT).for_each(|k| counts[k] = counts[k - 1] + self.weights[COUNTS + k - 1]);
        counts
    }

    pub(super) fn is_sound(&self) -> bool {
        let finite = |values: &[f64]| values.len() == WIDTH && values.iter().all(|v| v.is_finite());
        self.mean_days.is_finite() && finite(&self.means) && finite(&self.weights)
    }
}

/// Solves `min |L^T w - target|` with linfa.
fn least_squares(factor: &Matrix, target: &[f64], solver: Solver) -> Result<Vec<f64>> {
    let width = target.len();
    if width == 0 {
        return Ok(Vec::new());
    }
    let records = Array2::from_shape_fn((width, width), |(i, j)| factor.get(j, i));
    let spread = target.iter().map(|t| t * t).sum::<f64>().sqrt();
    let dataset = Dataset::new(records, Array1::from(target.to_vec()));
    let failed = |cause: String| Error::internal(format!("The linear model could not be solved: {cause}."));
    match solver {
        Solver::LeastSquares => {
            let model = LinearRegression::default().with_intercept(false).fit(&dataset).map_err(|e| failed(e.to_string()))?;
            Ok(model.params().to_vec())
        }
        Solver::ElasticNet => {
            // linfa averages over its rows, of which there are `width` here instead of one for the whole (already averaged) set.
            let penalty = PENALTY * spread.max(f64::MIN_POSITIVE) / width as f64;
            let model = ElasticNet::params()
                .penalty(penalty)
                .l1_ratio(L1_RATIO)
                .with_intercept(false)
                .max_iterations(10_000)
                .tolerance(1e-7)
                .fit(&dataset)
                .map_err(|e| failed(e.to_string()))?;
            Ok(model.hyperplane().to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::features::{mix, unit};

    #[test]
    fn streamed_sums_give_linfas_solution_on_all_rows() {
        let columns = [NUMBERS, NUMBERS + 1, NUMBERS + 2];
        let rows = 200;
        let cell = |i: usize, j: usize| unit(mix((3 * i + j) as u64)) * 10.0_f64.powi(j as i32);
        let days = |i: usize| 4.0 + 2.0 * cell(i, 0) - 0.3 * cell(i, 1) + unit(mix(10_000 + i as u64));
        let mut sums = Sums::new();
        for i in 0..rows {
            let mut values = [0.0; WIDTH];
            columns.iter().enumerate().for_each(|(j, column)| values[*column] = cell(i, j));
            sums.add(&values, days(i));
        }
        let ours = Linear::fit(&sums, &columns).unwrap();
        assert_eq!(ours.solver, Solver::LeastSquares);
        let records = Array2::from_shape_fn((rows, 3), |(i, j)| cell(i, j));
        let theirs = LinearRegression::default().fit(&Dataset::new(records, Array1::from_shape_fn(rows, days))).unwrap();
        for (j, column) in columns.iter().enumerate() {
            assert!((ours.weights[*column] - theirs.params()[j]).abs() < 1e-9);
        }
        assert!((ours.predict(&[0.0; WIDTH]) - theirs.intercept()).abs() < 1e-8);
    }

    #[test]
    fn dependent_columns_fall_back_to_the_elastic_net() {
        let mut sums = Sums::new();
        for i in 0..100 {
            let mut values = [0.0; WIDTH];
            values[NUMBERS] = unit(mix(i));
            values[NUMBERS + 1] = 2.0 * values[NUMBERS];
            sums.add(&values, 5.0 + values[NUMBERS]);
        }
        let fitted = Linear::fit(&sums, &[NUMBERS, NUMBERS + 1]).unwrap();
        assert_eq!(fitted.solver, Solver::ElasticNet);
        let mut values = [0.0; WIDTH];
        (values[NUMBERS], values[NUMBERS + 1]) = (0.5, 1.0);
        assert!((fitted.predict(&values) - 5.5).abs() < 0.05, "{}", fitted.predict(&values));
    }
}
