//! The length-of-stay model: features, training, prediction, intervals and reasons. Pure and CPU-bound; it does not know files, the
//! store, HTTP, the clock or unseeded randomness.

mod algebra;
mod challenger;
pub mod control_chart;
mod design;
mod drift;
mod evaluate;
pub mod experiment;
mod explain;
mod features;
mod fit;
mod hygiene;
mod impute;
mod interval;
mod linear;
mod metrics;
mod model;
mod probe;
mod promotion;
mod ranges;
mod report;
mod scorer;
mod set;
mod train;
mod untied;

pub use drift::Drift;
pub use metrics::{Coverage, Decile, GroupError, Metrics};
pub use model::{MODEL_BYTES_MAX, Model, evaluate};
pub use report::{Blanked, Comparison, Evaluation, Hygiene, LearnedRange, Report, Window};
pub use set::{TrainingSet, blank, blank_cells};
pub use train::{TRAINING_ROWS_MIN, TrainOptions, Trained, train};
pub use untied::Untied;
