//! A trained model as the record keeps it.

use chrono::{DateTime, Utc};

/// A trained model: opaque bytes, and what an operator asks about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRecord {
    /// Its version, unique.
    pub version: String,
    /// When it was trained, UTC.
    pub trained: DateTime<Utc>,
    /// Encounters it was trained on.
    pub rows: u64,
    /// The schema it was trained with, [`crate::schema::fingerprint`].
    pub schema_fingerprint: String,
    /// Holdout metrics and the report, as JSON.
    pub metrics: String,
    /// Was it promoted over the champion of its day?
    pub promoted: bool,
    /// Why it was promoted or refused.
    pub reason: String,
    /// The model itself.
    pub bytes: Vec<u8>,
}
