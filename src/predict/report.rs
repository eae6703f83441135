//! What is known of a model's quality, as it is stored and shown.

use serde::{Deserialize, Serialize};

use super::drift::Drift;
use super::metrics::{Decile, GroupError, Metrics};
use super::untied::Untied;

/// Every metric on labelled rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Rows scored.
    pub rows: u64,
    /// The metrics over all rows.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Errors by gender.
    pub by_gender: Vec<GroupError>,
    /// Errors by facility.
    pub by_facility: Vec<GroupError>,
    /// Errors by condition present; a row counts in each of its conditions.
    pub by_condition: Vec<GroupError>,
    /// Errors by number of abnormal measurements, which the intervals are grouped by.
    pub by_abnormal_count: Vec<GroupError>,
    /// Errors by number of missing inputs.
    pub by_missing: Vec<GroupError>,
    /// Errors by month of admission.
    pub by_month: Vec<GroupError>,
    /// Mean answer against mean stay, by tenths of the answers.
    pub calibration: Vec<Decile>,
    /// Drift of each input since training.
    pub drift: Vec<Drift>,
    /// Inputs that no longer go with the stays.
    #[serde(default)]
    pub untied: Vec<Untied>,
}

/// The three models side by side on the same rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Rows scored.
    pub rows: u64,
    /// Linear model on learned features.
    pub primary: Metrics,
    /// Boosted trees on the same features; `None` if they could not be trained.
    pub challenger: Option<Metrics>,
    /// Least squares on plain one-hot columns: always shown.
    pub baseline: Metrics,
}

/// How the champion does when inputs are blanked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blanked {
    /// What was blanked.
    pub blanked: String,
    /// The metrics on the holdout rows so blanked.
    pub metrics: Metrics,
}

/// First and last day of admission of the training rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// First day, ISO 8601.
    pub first: String,
    /// Last day, ISO 8601.
    pub last: String,
}

/// What the training rows look like. Nothing is dropped because of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hygiene {
    /// Rows equal to another in every input, day and stay.
    pub duplicates: u64,
    /// Stays above the third quartile by more than three interquartile ranges.
    pub long_stays: u64,
    /// Share missing, for each input that is ever missing.
    pub missing: Vec<(String, f64)>,
    /// Rows with a value outside what a ward would expect, for each such measurement.
    pub implausible: Vec<(String, u64)>,
}

/// A learned reference range; an open end is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LearnedRange {
    /// The measurement's name.
    pub feature: String,
    /// Values below prolong (or shorten) stays.
    pub low: Option<f32>,
    /// Values above prolong (or shorten) stays.
    pub high: Option<f32>,
}

/// A model's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Rows the served model was fitted on.
    pub rows: u64,
    /// Their admissions.
    pub window: Window,
    /// The algorithm that serves.
    pub algorithm: String,
    /// How it was chosen.
    pub choice: String,
    /// How the holdout was cut.
    pub holdout_rule: String,
    /// Untouched, latest admissions; models fitted on the earlier ones.
    pub holdout: Comparison,
    /// Seeded cross-validation on the rows before the holdout.
    pub cross_validation: Comparison,
    /// Folds of it.
    pub folds: u32,
    /// The serving algorithm on the holdout, in detail.
    pub evaluation: Evaluation,
    /// The serving algorithm on the holdout with inputs blanked.
    pub missingness: Vec<Blanked>,
    /// The training data.
    pub hygiene: Hygiene,
    /// Learned reference ranges.
    pub ranges: Vec<LearnedRange>,
    /// Fallbacks taken, in sentences.
    pub notes: Vec<String>,
    /// Limits that a reader must know.
    pub limits: Vec<String>,
}

/// Limits that hold for every model of this kind.
pub(super) const LIMITS: [&str; 3] = [
    "The blueprint's sample data is synthetic-like: stays follow clean steps that no real ward shows. Published length-of-stay models \
     on real hospitals are near R² 0.5; expect that, not the sample's accuracy.",
    "An answer supports planning of beds; it does not judge a patient, and it must not decide a discharge.",
    "Intervals hold for patients like those of the data window. Watch coverage and drift, and retrain when they move.",
];
