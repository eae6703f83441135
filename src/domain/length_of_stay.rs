//! A predicted length of stay: how long, how sure, and why.

use serde::{Deserialize, Serialize};

/// A range of days that holds the true stay with a stated probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Days, at least 1.
    pub low: f64,
    /// Days.
    pub high: f64,
}

/// One reason: what a group of inputs adds to the average stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// What a clinician calls it, for example `readmissions`.
    pub factor: String,
    /// Days added (or, if negative, taken away) against the average patient.
    pub days: f64,
}

/// A prediction as it is stored, answered and audited. It holds no direct identifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prediction {
    /// Expected stay in days, at least 1.
    pub days: f64,
    /// The range that holds 80 % of stays.
    pub interval80: Interval,
    /// The range that holds 90 % of stays.
    pub interval90: Interval,
    /// The model that said so.
    pub model_version: String,
    /// The average stay that the contributions start from, in days.
    pub baseline_days: f64,
    /// Why, largest effect first. `baseline_days` plus their sum is the prediction before it is clipped at one day.
    pub contributions: Vec<Contribution>,
    /// Names of the inputs that were missing.
    pub missing: Vec<String>,
    /// Names of the inputs outside what a ward would expect.
    pub out_of_range: Vec<String>,
}

impl Prediction {
    /// The stay in whole days, at least 1: the blueprint's `predlengthofstay`, half rounded away from zero.
    pub fn whole_days(&self) -> i32 {
        let days = self.days.round().clamp(1.0, 3650.0);
        // Clamped to a range that fits.
        days as i32
    }
}
