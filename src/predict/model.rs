//! A trained model: immutable, checked when it is read, shared between threads.

use serde::{Deserialize, Serialize};

use super::drift::Profile;
use super::evaluate::evaluate_rows;
use super::features::Row;
use super::probe;
use super::report::{Evaluation, Report};
use super::scorer::Scorer;
use super::set::TrainingSet;
use crate::domain::{Encounter, Prediction};
use crate::error::{Error, Result};
use crate::schema::{FEATURES, Feature, fingerprint};

/// What the first bytes of a model say; a change of the model's layout changes it.
const FORMAT: &str = "hdai-length-of-stay-1";

/// Largest model that is read, bytes.
pub const MODEL_BYTES_MAX: usize = 32 << 20;

/// Fewest predictions that are worth a thread of their own.
const PREDICTIONS_A_THREAD_MIN: usize = 256;

/// A trained length-of-stay model.
pub struct Model {
    parts: Parts,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parts {
    pub(super) version: String,
    pub(super) scorer: Scorer,
    pub(super) profile: Profile,
    pub(super) report: Report,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    format: &'a str,
    schema_fingerprint: &'a str,
    parity: &'a str,
    #[serde(flatten)]
    model: Body<'a>,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a Parts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    format: String,
    schema_fingerprint: String,
    parity: String,
}

#[derive(Deserialize)]
struct Read {
    model: Parts,
}

impl Model {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// The predicted stay of an encounter, its intervals and reasons. It never fails: what is missing or impossible is left open,
    /// widens the interval and is listed. It does not look at the encounter's id, name or discharge.
    pub fn predict(&self, encounter: &Encounter) -> Prediction {
        let row = Row::of(encounter);
        let answer = self.parts.scorer.answer(&row);
        let (baseline_days, reasons) = self.parts.scorer.reasons(&row, &answer.encoded);
        let (missing, out_of_range) = shortcomings(encounter, &row, answer.encoded.facility_known);
        Prediction {
            days: answer.days,
            interval80: answer.intervals.0,
            interval90: answer.intervals.1,
            model_version: self.parts.version.clone(),
            baseline_days,
            contributions: reasons.named(),
            missing,
            out_of_range,
        }
    }

    /// [`Model::predict`] for each of `encounters`, in their order, on as many threads as the machine has cores.
    pub fn predict_all(&self, encounters: &[Encounter]) -> Vec<Prediction> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = encounters.len().div_ceil(threads).max(PREDICTIONS_A_THREAD_MIN);
        let mut predictions = Vec::with_capacity(encounters.len());
        std::thread::scope(|scope| {
            let parts = encounters.chunks(share).map(|part| {
                let predict = move || part.iter().map(|encounter| self.predict(encounter)).collect::<Vec<_>>();
                (part, scope.spawn(predict))
            });
            for (part, thread) in parts.collect::<Vec<_>>() {
                // A thread that stopped by a fault of ours leaves its part to this one, where the fault is seen.
                predictions
                    .extend(thread.join().unwrap_or_else(|_| part.iter().map(|encounter| self.predict(encounter)).collect()));
            }
        });
        predictions
    }

    /// The learned features of an encounter, as the linear model sees them: for a peer to be trained on the same.
    pub fn learned_features(&self, encounter: &Encounter) -> Vec<f64> {
        let design = &self.parts.scorer.design;
        let encoded = design.encode(&Row::of(encounter));
        design.columns.iter().map(|column| encoded.values[*column]).collect()
    }

    /// The version it was trained as.
    pub fn version(&self) -> &str {
        &self.parts.version
    }

    /// What is known of its quality.
    pub fn report(&self) -> &Report {
        &self.parts.report
    }

    /// The model as JSON, with the schema's fingerprint and the parity hash.
    ///
    /// # Errors
    /// Internal, if it cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let parity = probe::hash(self);
        let body = Body { model: &self.parts };
        let written = Written { format: FORMAT, schema_fingerprint: fingerprint(), parity: &parity, model: body };
        serde_json::to_vec(&written).map_err(|e| Error::internal("The model could not be written as JSON.").caused_by(e))
    }

    /// Reads a model and proves that it answers here as it did where it was trained.
    ///
    /// # Errors
    /// Invalid, if the bytes are truncated, foreign, of another schema, or if the answers to the parity probe differ.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model> {
        if bytes.len() > MODEL_BYTES_MAX {
            return Err(Error::invalid("The model file is larger than any model; check that it is a model of this program."));
        }
        let unreadable = "The model file is truncated or not a model of this program; restore it from the record or train again.";
        let header: Header = serde_json::from_slice(bytes).map_err(|e| Error::invalid(unreadable).caused_by(e))?;
        if header.format != FORMAT {
            return Err(Error::invalid("The model file has another format; train again with this version of the program."));
        }
        if header.schema_fingerprint != fingerprint() {
            return Err(Error::invalid("The model was trained with another clinical schema; train again with this one."));
        }
        let mut parts: Parts = serde_json::from_slice::<Read>(bytes).map_err(|e| Error::invalid(unreadable).caused_by(e))?.model;
        if !parts.scorer.is_sound() || !parts.profile.is_sound() {
            return Err(Error::invalid("The model file is damaged; restore it from the record or train again."));
        }
        parts.scorer.challenger.iter_mut().for_each(|trees| trees.prepare());
        let model = Self { parts };
        if probe::hash(&model) != header.parity {
            return Err(Error::invalid(
                "The model answers its parity probe differently here than where it was trained; train again with this program.",
            ));
        }
        Ok(model)
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }
}

/// Scores labelled rows with every metric. It stores nothing.
pub fn evaluate(model: &Model, set: &TrainingSet) -> Evaluation {
    evaluate_rows(&model.parts.scorer, &model.parts.profile, set.rows())
}

/// Names of the missing and of the out-of-range inputs.
fn shortcomings(encounter: &Encounter, row: &Row, facility_known: bool) -> (Vec<String>, Vec<String>) {
    let mask = row.missing();
    let mut missing: Vec<String> =
        FEATURES.iter().filter(|spec| mask >> spec.feature as usize & 1 == 1).map(|spec| spec.name.to_owned()).collect();
    if row.gender().is_none() {
        missing.push("gender".to_owned());
    }
    let refused = |feature: Feature| encounter.clinical.get(feature).is_some_and(|value| feature.spec().check(value).is_err());
    let implausible = |feature: Feature| encounter.clinical.get(feature).is_some_and(|v| !feature.spec().is_plausible(v));
    let mut out_of_range: Vec<String> =
        Feature::all().filter(|f| implausible(*f) || refused(*f)).map(|feature| feature.spec().name.to_owned()).collect();
    if !facility_known {
        out_of_range.push("facility".to_owned());
    }
    (missing, out_of_range)
}
