//! Experiments: a model for another target or feature subset, described by a TOML file and measured by cross-validation.
//!
//! It does not know where the file or the rows come from, nor where results are kept. No experiment ever serves a prediction.

mod design;
mod folds;
mod input;
mod linear;
mod measure;
mod plan;
mod report;
mod run;
mod spec;
mod target;
#[cfg(test)]
mod tests;
mod trees;

pub use report::{EXPERIMENT_FORMAT, ExperimentReport, FoldMean, FoldReport};
pub use run::run;
pub use spec::{EXPERIMENT_BYTES_MAX, Experiment};
