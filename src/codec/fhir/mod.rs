//! FHIR messages to domain values and back: admissions, discharges, and the replies to them.
//! It deliberately does not know HTTP (status codes are handed in), the clock, the store or the model.
//!
//! Three shapes are read: the blueprint's four-part JSON, an R4 `Bundle`, and an R4 `Encounter` with its resources `contained`.
//! `docs/fhir.md` is the contract in words; every rule there is held by a test here or in `tests/it/codec_fhir.rs`.

mod admission;
pub mod audit;
mod condition;
mod discharge;
mod encode;
mod encounter;
mod fault;
mod message;
mod node;
mod observation;
mod patient;
pub mod patients;
pub mod reply;
pub mod text;

pub use admission::{Admission, admission};
pub use discharge::{Discharge, discharge};
pub use encode::{encode_blueprint_admission, encode_bundle_admission, encode_discharge};
pub use fault::{FAULTS_MAX, Fault, Issue};
pub use message::{Shape, shape_of};

/// Base of the URLs this project mints: extensions, full URLs of encoded resources, problem types.
pub const BASE_URL: &str = "https://health-data-ai.example/fhir";

/// Extension of `Encounter`: readmissions in the past 180 days, as `valueInteger`, `valueUnsignedInt` or `valueString` (`5+`).
pub const READMISSION_COUNT_URL: &str = "https://health-data-ai.example/fhir/StructureDefinition/readmission-count";

/// FHIR's extension that says why a value is not there (<https://hl7.org/fhir/R4/extension-data-absent-reason.html>).
pub const DATA_ABSENT_REASON_URL: &str = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";

/// System of `Condition.clinicalStatus` codes in R4.
pub const CONDITION_CLINICAL_URL: &str = "http://terminology.hl7.org/CodeSystem/condition-clinical";

/// Media type of FHIR JSON.
pub const FHIR_JSON: &str = "application/fhir+json";
