//! The little linear algebra that streaming needs: a square matrix and its Cholesky factor. Least squares itself is linfa's.

use serde::{Deserialize, Serialize};

/// A square matrix, row by row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Matrix {
    width: usize,
    values: Vec<f64>,
}

impl Matrix {
    pub(super) fn zero(width: usize) -> Self {
        Self { width, values: vec![0.0; width * width] }
    }

    pub(super) fn at(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.values[row * self.width + column]
    }

    pub(super) fn get(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.width + column]
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn is_square(&self, width: usize) -> bool {
        self.width == width && self.values.len() == width * width
    }

    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }
}

/// Pivots below this share of their diagonal are rounding, not information.
const PIVOT_MIN: f64 = 1e-9;

/// Lower `L` with `L Lᵀ = matrix`; `None` unless `matrix` is well positive definite.
pub(super) fn cholesky(matrix: &Matrix) -> Option<Matrix> {
    let (factor, singular) = semi_cholesky(matrix);
    singular.is_empty().then_some(factor)
}

/// Lower `L` with `L Lᵀ = matrix` for a matrix that may be singular, and the columns that depend on those before them (zero in `L`).
pub(super) fn semi_cholesky(matrix: &Matrix) -> (Matrix, Vec<usize>) {
    let width = matrix.width();
    let (mut factor, mut singular) = (Matrix::zero(width), Vec::new());
    for j in 0..width {
        let pivot = matrix.get(j, j) - (0..j).map(|k| factor.get(j, k) * factor.get(j, k)).sum::<f64>();
        if pivot.is_nan() || pivot <= PIVOT_MIN * matrix.get(j, j) {
            singular.push(j);
            continue;
        }
        let root = pivot.sqrt();
        *factor.at(j, j) = root;
        for i in j + 1..width {
            let dot: f64 = (0..j).map(|k| factor.get(i, k) * factor.get(j, k)).sum();
            *factor.at(i, j) = (matrix.get(i, j) - dot) / root;
        }
    }
    (factor, singular)
}

/// `L x = b`; where `L` has a zero pivot, `x` is zero.
pub(super) fn forward(factor: &Matrix, b: &[f64]) -> Vec<f64> {
    let mut x = vec![0.0; b.len()];
    for i in 0..b.len() {
        let dot: f64 = (0..i).map(|k| factor.get(i, k) * x[k]).sum();
        let pivot = factor.get(i, i);
        x[i] = if pivot > 0.0 { (b[i] - dot) / pivot } else { 0.0 };
    }
    x
}

/// `L Lᵀ x = b`.
pub(super) fn solve(factor: &Matrix, b: &[f64]) -> Vec<f64> {
    let mut x = forward(factor, b);
    for i in (0..x.len()).rev() {
        let dot: f64 = (i + 1..x.len()).map(|k| factor.get(k, i) * x[k]).sum();
        x[i] = (x[i] - dot) / factor.get(i, i);
    }
    x
}

/// The inverse of a positive definite matrix.
pub(super) fn invert(matrix: &Matrix) -> Option<Matrix> {
    let factor = cholesky(matrix)?;
    let width = matrix.width();
    let mut inverse = Matrix::zero(width);
    for column in 0..width {
        let mut unit = vec![0.0; width];
        unit[column] = 1.0;
        for (row, value) in solve(&factor, &unit).into_iter().enumerate() {
            *inverse.at(row, column) = value;
        }
    }
    Some(inverse)
}
