//! Linear scores by linfa. Rows are folded into their cross products first, so columns that depend on one another are found and left
//! out, and every target shares one factor.

use linfa::Dataset;
use linfa::traits::Fit;
use linfa_elasticnet::ElasticNet;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};

use super::spec::Algorithm;
use crate::error::{Error, Result};
use crate::predict::algebra::{Matrix, forward, semi_cholesky};

/// Weights of one or more targets over the same columns.
pub(super) struct Linear {
    means: Vec<f64>,
    /// By target: its mean and its weights.
    targets: Vec<(f64, Vec<f64>)>,
}

/// The columns that are used (those that are constant, or depend on the ones before them, are not), and the factor of their covariance.
struct Factor {
    used: Vec<usize>,
    deviations: Vec<f64>,
    factor: Matrix,
}

impl Linear {
    /// Fits `targets` (each one value a row) on `cells`, row by row, without missing ones.
    ///
    /// # Errors
    /// Internal, when linfa finds no solution.
    pub(super) fn fit(cells: &[f64], width: usize, targets: &[Vec<f64>], algorithm: Algorithm) -> Result<Self> {
        let rows = cells.chunks_exact(width.max(1));
        let n = rows.len().max(1) as f64;
        let mut means = vec![0.0; width];
        rows.clone().for_each(|row| means.iter_mut().zip(row).for_each(|(mean, cell)| *mean += cell / n));
        let (products, with_targets) = covariances(rows, &means, targets);
        let factor = Factor::of(&products, width, algorithm);
        let mut solved = Vec::with_capacity(targets.len());
        for (values, covariance) in targets.iter().zip(with_targets) {
            let mean = values.iter().sum::<f64>() / n;
            let spread = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
            solved.push((mean, factor.solve(&covariance, spread, width, algorithm)?));
        }
        Ok(Self { means, targets: solved })
    }

    /// The scores of a row, one a target.
    pub(super) fn scores(&self, row: &[f64]) -> Vec<f64> {
        let score = |(mean, weights): &(f64, Vec<f64>)| {
            mean + weights.iter().zip(row).zip(&self.means).map(|((weight, cell), m)| weight * (cell - m)).sum::<f64>()
        };
        self.targets.iter().map(score).collect()
    }

    /// The mean of each target in training.
    pub(super) fn target_means(&self) -> Vec<f64> {
        self.targets.iter().map(|(mean, _)| *mean).collect()
    }
}

/// Covariances of the columns (upper triangle) and of each target with the columns.
fn covariances<'a>(rows: impl ExactSizeIterator<Item = &'a [f64]>, means: &[f64], targets: &[Vec<f64>]) -> (Matrix, Vec<Vec<f64>>) {
    let (width, n) = (means.len(), rows.len().max(1) as f64);
    let mut products = Matrix::zero(width);
    let mut with_targets = vec![vec![0.0; width]; targets.len()];
    let mut centred = vec![0.0; width];
    for (index, row) in rows.enumerate() {
        centred.iter_mut().zip(row).zip(means).for_each(|((out, cell), mean)| *out = cell - mean);
        for (i, a) in centred.iter().enumerate() {
            for (j, b) in centred[i..].iter().enumerate() {
                *products.at(i, i + j) += a * b / n;
            }
        }
        for (with, values) in with_targets.iter_mut().zip(targets) {
            // Centred columns: the target's own mean adds nothing.
            with.iter_mut().zip(&centred).for_each(|(sum, cell)| *sum += cell * values[index] / n);
        }
    }
    (products, with_targets)
}

impl Factor {
    fn of(products: &Matrix, width: usize, algorithm: Algorithm) -> Self {
        let varying = (0..width).filter(|column| products.get(*column, *column) > 1e-12);
        let mut used: Vec<usize> = varying.collect();
        loop {
            let deviations: Vec<f64> = used.iter().map(|column| products.get(*column, *column).sqrt()).collect();
            let mut correlation = Matrix::zero(used.len());
            for (a, i) in used.iter().enumerate() {
                for (b, j) in used.iter().enumerate() {
                    *correlation.at(a, b) = products.get(*i.min(j), *i.max(j)) / (deviations[a] * deviations[b]);
                }
            }
            let (factor, singular) = semi_cholesky(&correlation);
            // The elastic net chooses between dependent columns by its penalty; least squares cannot.
            if singular.is_empty() || matches!(algorithm, Algorithm::ElasticNet { .. }) {
                return Self { used, deviations, factor };
            }
            used = used.iter().enumerate().filter(|(place, _)| !singular.contains(place)).map(|(_, column)| *column).collect();
        }
    }

    /// Weights of all columns. `covariance`: of the target, whose standard deviation is `spread`, with each column.
    fn solve(&self, covariance: &[f64], spread: f64, width: usize, algorithm: Algorithm) -> Result<Vec<f64>> {
        let mut weights = vec![0.0; width];
        let size = self.used.len();
        if size == 0 || spread <= 0.0 {
            return Ok(weights);
        }
        let scaled: Vec<f64> = self.used.iter().zip(&self.deviations).map(|(c, deviation)| covariance[*c] / deviation).collect();
        let targets = Array1::from(forward(&self.factor, &scaled));
        let failed = |cause: String| Error::internal(format!("the linear model of the experiment could not be solved: {cause}"));
        // min |Lᵀ w - target| has the solution of least squares over all rows, in standard deviations of each column.
        let solution = match algorithm {
            Algorithm::ElasticNet { penalty, l1_ratio } => {
                // The penalty weighs the columns as the file made them, and the target in its standard deviations.
                let records = Array2::from_shape_fn((size, size), |(i, j)| self.factor.get(j, i) * self.deviations[j]);
                let model = ElasticNet::params()
                    // linfa averages over its rows: `size` here instead of one for the whole, already averaged set.
                    .penalty(penalty / size as f64)
                    .l1_ratio(l1_ratio)
                    .with_intercept(false)
                    .max_iterations(10_000)
                    .tolerance(1e-7)
                    .fit(&Dataset::new(records, targets / spread))
                    .map_err(|e| failed(e.to_string()))?;
                model.hyperplane().iter().map(|weight| weight * spread).collect::<Vec<f64>>()
            }
            _ => {
                let records = Array2::from_shape_fn((size, size), |(i, j)| self.factor.get(j, i));
                let model = LinearRegression::default()
                    .with_intercept(false)
                    .fit(&Dataset::new(records, targets))
                    .map_err(|e| failed(e.to_string()))?;
                model.params().iter().zip(&self.deviations).map(|(weight, deviation)| weight / deviation).collect()
            }
        };
        for (column, weight) in self.used.iter().zip(solution) {
            weights[*column] = weight;
        }
        match weights.iter().all(|weight| weight.is_finite()) {
            true => Ok(weights),
            false => Err(failed("the weights are not finite".to_owned())),
        }
    }
}
