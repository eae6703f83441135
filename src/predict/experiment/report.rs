//! What is known of an experiment that ran, as it is stored and compared. It holds counts and averages, and no clock: the same rows and
//! file give the same bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::spec::File;

/// What the stored JSON says it is; a change of its layout changes it.
pub const EXPERIMENT_FORMAT: &str = "hdai-experiment-1";

/// Mean and standard deviation over folds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FoldMean {
    /// The mean.
    pub mean: f64,
    /// The standard deviation; `None` if there are not two folds to tell.
    pub sd: Option<f64>,
}

/// One fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoldReport {
    /// 1 for the first.
    pub fold: u32,
    /// Rows scored.
    pub rows: u64,
    /// The experiment's metrics by name; one that is undefined on these rows is absent.
    pub metrics: BTreeMap<String, f64>,
    /// The baseline's.
    pub baseline: BTreeMap<String, f64>,
}

/// An experiment that ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExperimentReport {
    /// [`EXPERIMENT_FORMAT`].
    pub format: String,
    /// The experiment's name.
    pub name: String,
    /// Of the experiment's file.
    pub fingerprint: String,
    /// Of the clinical schema.
    pub schema_fingerprint: String,
    /// Of the rows, whatever their order.
    pub data_fingerprint: String,
    /// What is predicted: experiments with the same text here can be compared.
    pub target: String,
    /// The algorithm's kind.
    pub algorithm: String,
    /// Rows used.
    pub rows: u64,
    /// Rows that lack the target, and were not used.
    pub rows_without_target: u64,
    /// Rows beyond the file's `rows_max`, which were left out evenly over time.
    pub rows_left_out: u64,
    /// Columns that the transforms make of all rows; `None` for the product's own.
    pub columns: Option<u64>,
    /// Names of the classes; empty for a number.
    pub classes: Vec<String>,
    /// The metric to rank by; lower is better.
    pub main_metric: String,
    /// The experiment's metrics.
    pub metrics: BTreeMap<String, FoldMean>,
    /// Those of always answering the training rows' mean, or their largest class.
    pub baseline: BTreeMap<String, FoldMean>,
    /// Is it better than the baseline by more than the noise between folds?
    pub beats_baseline: bool,
    /// That, in a sentence.
    pub verdict: String,
    /// Every fold; empty for the product, whose report pools them.
    pub folds: Vec<FoldReport>,
    /// Rows by true class (outer) and answered class (inner), over all folds; `None` for a number.
    pub confusion: Option<Vec<Vec<u64>>>,
    /// What a reader must know.
    pub notes: Vec<String>,
    pub(super) experiment: File,
}
