//! FHIR admissions and discharges.

use chrono::NaiveDate;
use health_data_ai::codec::fhir::{
    self, FAULTS_MAX, Fault, admission, discharge, encode_blueprint_admission, encode_bundle_admission, encode_discharge,
};
use health_data_ai::domain::facility;
use health_data_ai::domain::{Clinical, Encounter, FacilityId, Gender, PersonName, Phi};
use health_data_ai::schema::Feature;
use serde_json::Value;

use super::{Target, Verdict, must, quiet, sample};

pub(super) fn facilities() -> Vec<FacilityId> {
    facility::seed().into_iter().map(|facility| facility.id).collect()
}

fn words() -> Vec<String> {
    let plain = [
        "\"contained\":[],",
        "\"resourceType\":\"Bundle\",",
        "\"entry\":[{\"resource\":",
        "identifier",
        "modifierExtension",
        "Observation",
        "Condition",
        "Encounter",
        "Patient",
        "valueQuantity",
        "valueInteger",
        "effectiveDateTime",
        "clinicalStatus",
        "inactive",
        "entered-in-error",
        "given",
        "family",
        "female",
        "unknown",
        "2026-02-30",
        "9999-12-31T24:00:00Z",
        "Organization/B",
        "mmol/L",
        "mg/dL",
    ];
    let codes = Feature::all().filter_map(|feature| feature.spec().code).map(|code| code.code.to_owned());
    plain.map(str::to_owned).into_iter().chain(codes).collect()
}

fn seeds(bundles: bool) -> Vec<Vec<u8>> {
    let names = [
        "admit/admit_100001.json",
        "admit/admit_100002.json",
        "discharge/discharge_100001.json",
        "discharge/discharge_100002.json",
    ];
    let mut seeds: Vec<Vec<u8>> = names.map(sample).to_vec();
    if bundles {
        for seed in seeds.clone().iter().filter_map(|seed| admission(seed, &facilities()).ok()) {
            seeds.push(encode_bundle_admission(&seed.encounter).to_string().into_bytes());
            // As another client writes it: pretty, and in UTF-16.
            let pretty = serde_json::to_string_pretty(&encode_blueprint_admission(&seed.encounter)).unwrap();
            seeds.push(std::iter::once(0xFEFF).chain(pretty.encode_utf16()).flat_map(u16::to_le_bytes).collect());
        }
    }
    seeds
}

/// Faults are bounded and show nothing, wherever they are shown.
fn told(faults: &[Fault], warnings: &[Fault]) -> Verdict {
    must(faults.len() <= FAULTS_MAX + 1 && warnings.len() <= FAULTS_MAX + 1, "more faults than are promised")?;
    quiet(&format!("{faults:?}{warnings:?}"))?;
    faults.iter().chain(warnings).try_for_each(|fault| quiet(&fault.to_string()))?;
    quiet(&fhir::reply::operation_outcome(faults, warnings).to_string())?;
    quiet(&fhir::reply::problem(fhir::reply::Refusal::BadRequest, 400, "", faults).to_string())
}

fn reads_as(message: &Value, encounter: &Encounter) -> Verdict {
    let read = admission(message.to_string().as_bytes(), &facilities())
        .map_err(|faults| format!("what was encoded is refused: {faults:?}"))?;
    must(read.encounter == *encounter, "what was encoded reads differently")
}

#[test]
fn an_admission_is_read_the_same_again_or_refused_without_its_values() {
    let target = Target { name: "admission", inputs: 4_000, seeds: seeds(true), words: words() };
    target.hold(|input| match admission(input, &facilities()) {
        Err(faults) => must(!faults.is_empty(), "refused without a reason").and_then(|()| told(&faults, &[])),
        Ok(read) => {
            told(&[], &read.warnings)?;
            quiet(&format!("{:?}", read.encounter))?;
            must(read.encounter.discharged.reveal().is_none(), "an admission that ends a stay")?;
            must(fhir::shape_of(input) == read.shape, "two shapes of one message")?;
            reads_as(&encode_blueprint_admission(&read.encounter), &read.encounter)?;
            reads_as(&encode_bundle_admission(&read.encounter), &read.encounter)
        }
    });
}

#[test]
fn a_discharge_is_read_the_same_again_or_refused_without_its_values() {
    let target = Target { name: "discharge", inputs: 8_000, seeds: seeds(false), words: words() };
    target.hold(|input| match discharge(input) {
        Err(faults) => must(!faults.is_empty(), "refused without a reason").and_then(|()| told(&faults, &[])),
        Ok(read) => {
            told(&[], &read.warnings)?;
            let ended = Encounter {
                id: read.id,
                name: PersonName::default(),
                gender: Gender::Female,
                facility: facilities()[0],
                admitted: Phi::new(NaiveDate::from_ymd_opt(1900, 1, 1).unwrap()),
                clinical: Clinical::default(),
                discharged: Phi::new(Some(read.on)),
            };
            let message = encode_discharge(&ended).ok_or("a closed encounter has no discharge")?.to_string();
            let again = discharge(message.as_bytes()).map_err(|faults| format!("what was encoded is refused: {faults:?}"))?;
            must((again.id, again.on) == (read.id, read.on), "what was encoded reads differently")
        }
    });
}
