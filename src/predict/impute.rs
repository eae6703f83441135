//! What is expected of a missing input, given those that are known: the conditional mean under the training rows' means and
//! covariances (best linear prediction). Nothing is ever replaced by a default value.

use serde::{Deserialize, Serialize};

use super::algebra::{Matrix, cholesky, invert, solve};

/// Means and precision (inverse covariance) of the training rows' inputs.
#[derive(Serialize, Deserialize)]
pub(super) struct Moments {
    mean: Vec<f64>,
    precision: Matrix,
}

/// Sums over rows, pair by pair, of what is known.
pub(super) struct Tally {
    width: usize,
    n: Vec<f64>,
    sum: Vec<f64>,
    /// Rows that miss nothing; they count in every pair.
    complete: f64,
    /// Other rows, by pair of known inputs.
    pair_n: Matrix,
    pair_sum: Matrix,
}

/// Weight of the belief that inputs vary on their own, as a share of their variance. It keeps the inverse tame.
const SHRINK: f64 = 1e-3;

impl Tally {
    pub(super) fn new(width: usize) -> Self {
        let zeros = vec![0.0; width];
        Self { width, n: zeros.clone(), sum: zeros, complete: 0.0, pair_n: Matrix::zero(width), pair_sum: Matrix::zero(width) }
    }

    /// Adds a row; NaN is missing. Most inputs are zero, so the cost is that of what is filled.
    pub(super) fn add(&mut self, inputs: &[f64]) {
        let known: Vec<usize> = (0..self.width).filter(|a| !inputs[*a].is_nan()).collect();
        if known.len() == self.width {
            self.complete += 1.0;
        } else {
            for (k, a) in known.iter().enumerate() {
                self.n[*a] += 1.0;
                known[..=k].iter().for_each(|b| *self.pair_n.at(*a, *b) += 1.0);
            }
        }
        let filled: Vec<usize> = known.into_iter().filter(|a| inputs[*a] != 0.0).collect();
        for (k, a) in filled.iter().enumerate() {
            self.sum[*a] += inputs[*a];
            filled[..=k].iter().for_each(|b| *self.pair_sum.at(*a, *b) += inputs[*a] * inputs[*b]);
        }
    }

    pub(super) fn finish(mut self) -> Moments {
        let complete = self.complete;
        let mean: Vec<f64> = self.sum.iter().zip(&self.n).map(|(sum, n)| sum / (n + complete).max(1.0)).collect();
        let mut covariance = Matrix::zero(self.width);
        for a in 0..self.width {
            for b in 0..=a {
                let n = *self.pair_n.at(a, b) + complete;
                let value = if n < 2.0 { 0.0 } else { *self.pair_sum.at(a, b) / n - mean[a] * mean[b] };
                *covariance.at(a, b) = value;
                *covariance.at(b, a) = value;
            }
        }
        Moments { precision: precision(covariance), mean }
    }
}

/// Inverts a covariance. Pairs were counted on different rows, so it may fail to be one: shrink towards independence until it is.
fn precision(covariance: Matrix) -> Matrix {
    let width = covariance.width();
    let mut shrink = SHRINK;
    while shrink < 1.0 {
        let mut shrunk = covariance.clone();
        for a in 0..width {
            for b in 0..width {
                let value = covariance.get(a, b);
                *shrunk.at(a, b) = if a == b { value * (1.0 + shrink) + 1e-9 } else { value * (1.0 - shrink) };
            }
        }
        if let Some(inverse) = invert(&shrunk) {
            return inverse;
        }
        shrink *= 4.0;
    }
    let mut diagonal = Matrix::zero(width);
    for a in 0..width {
        *diagonal.at(a, a) = 1.0 / (covariance.get(a, a).max(0.0) + 1e-9);
    }
    diagonal
}

impl Moments {
    pub(super) fn is_sound(&self, width: usize) -> bool {
        self.mean.len() == width
            && self.precision.is_square(width)
            && self.mean.iter().chain(self.precision.values()).all(|v| v.is_finite())
    }

    /// Replaces each NaN of `inputs` by what the others lead to expect.
    pub(super) fn fill(&self, inputs: &mut [f64]) {
        let missing: Vec<usize> = (0..inputs.len()).filter(|a| inputs[*a].is_nan()).collect();
        if missing.is_empty() {
            return;
        }
        // Conditional mean of a Gaussian by its precision P: mean_m - P_mm^-1 P_mo (x_o - mean_o).
        let mut block = Matrix::zero(missing.len());
        let mut pull: Vec<f64> = Vec::with_capacity(missing.len());
        for (i, a) in missing.iter().enumerate() {
            for (j, b) in missing.iter().enumerate() {
                *block.at(i, j) = self.precision.get(*a, *b);
            }
            let known = (0..inputs.len()).filter(|b| !inputs[*b].is_nan());
            pull.push(-known.map(|b| self.precision.get(*a, b) * (inputs[b] - self.mean[b])).sum::<f64>());
        }
        let shift = cholesky(&block).map(|factor| solve(&factor, &pull));
        for (i, a) in missing.iter().enumerate() {
            inputs[*a] = self.mean[*a] + shift.as_ref().map_or(0.0, |shift| shift[i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::features::{mix, unit};

    #[test]
    fn a_missing_input_is_what_the_known_ones_lead_to_expect() {
        let mut tally = Tally::new(3);
        for i in 0..2000 {
            let a = unit(mix(i));
            // The third input is missing in every other row.
            let c = if i % 2 == 0 { f64::NAN } else { unit(mix(i + 9000)) };
            tally.add(&[a, 3.0 * a + 0.1 * unit(mix(i + 5000)), c]);
        }
        let moments = tally.finish();
        let mut row = [0.8, f64::NAN, f64::NAN];
        moments.fill(&mut row);
        assert!((row[1] - 2.45).abs() < 0.05, "{}", row[1]);
        assert!((row[2] - 0.5).abs() < 0.05, "{}", row[2]);
        let mut nothing = [f64::NAN; 3];
        moments.fill(&mut nothing);
        assert!((nothing[0] - 0.5).abs() < 0.05, "{}", nothing[0]);
    }
}
