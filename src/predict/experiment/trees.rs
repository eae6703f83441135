//! Boosted trees by forust: squared loss for a number, one-vs-rest logistic loss for classes. A missing cell stays missing.

use forust_ml::GradientBooster;
use forust_ml::Matrix;
use forust_ml::objective::ObjectiveType;

use crate::error::{Error, Result};

/// What shapes the trees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) rounds: u32,
    pub(super) learning_rate: f64,
    pub(super) depth: u32,
    pub(super) seed: u64,
}

/// A fitted booster, or the constant of a target that does not vary.
pub(super) struct Trees {
    booster: Option<GradientBooster>,
    constant: f64,
    /// Columns with at least two values in training.
    columns: Vec<usize>,
}

impl Trees {
    /// Fits one target. `classes`: it is 0 or 1, and scores are log odds.
    ///
    /// # Errors
    /// Internal, when forust refuses.
    pub(super) fn fit(cells: &[f64], width: usize, values: &[f64], classes: bool, shape: Shape) -> Result<Self> {
        let columns: Vec<usize> = (0..width).filter(|column| varies(cells, width, *column)).collect();
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        // Log odds of a class that no row or every row has are infinite: the count is taken half a row from the end.
        let constant = if classes { log_odds(mean.clamp(0.5 / n, 1.0 - 0.5 / n)) } else { mean };
        if columns.is_empty() || values.iter().all(|value| *value == values[0]) {
            return Ok(Self { booster: None, constant, columns });
        }
        let matrix = gather(cells, width, &columns);
        let objective = if classes { ObjectiveType::LogLoss } else { ObjectiveType::SquaredLoss };
        let mut booster = GradientBooster::default()
            .set_objective_type(objective)
            .set_iterations(shape.rounds as usize)
            .set_learning_rate(shape.learning_rate as f32)
            .set_max_depth(shape.depth as usize)
            .set_seed(shape.seed)
            // One thread: the same rows and seed must give the same bytes on any machine.
            .set_parallel(false);
        booster
            .fit_unweighted(&Matrix::new(&matrix, values.len(), columns.len()), values, None)
            .map_err(|e| Error::internal("the boosted trees of the experiment could not be fitted").caused_by(e))?;
        Ok(Self { booster: Some(booster), constant, columns })
    }

    /// The score of every row.
    pub(super) fn scores(&self, cells: &[f64], width: usize) -> Vec<f64> {
        let rows = cells.len() / width.max(1);
        match &self.booster {
            None => vec![self.constant; rows],
            Some(booster) => {
                let matrix = gather(cells, width, &self.columns);
                booster.predict(&Matrix::new(&matrix, rows, self.columns.len()), false)
            }
        }
    }
}

fn log_odds(share: f64) -> f64 {
    (share / (1.0 - share)).ln()
}

fn varies(cells: &[f64], width: usize, column: usize) -> bool {
    let mut known = cells[column..].iter().step_by(width).filter(|cell| !cell.is_nan());
    known.next().is_some_and(|first| known.any(|cell| cell != first))
}

/// The chosen columns, one after the other.
fn gather(cells: &[f64], width: usize, columns: &[usize]) -> Vec<f64> {
    columns.iter().flat_map(|column| cells[*column..].iter().step_by(width).copied()).collect()
}
