//! FHIR messages end to end: the shapes that are read, what is refused, and that no value of a message ever reaches a fault.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod properties;

use chrono::NaiveDate;
use health_data_ai::codec::fhir::{
    self, Admission, Discharge, Fault, Issue, READMISSION_COUNT_URL, Shape, admission, discharge, encode_bundle_admission,
};
use health_data_ai::domain::facility::seed;
use health_data_ai::domain::{Clinical, Encounter, EncounterId, FacilityId, Gender, PersonName, Phi};
use health_data_ai::schema::{Feature, Shape as Kind, System};
use serde_json::{Value, json};

fn facilities() -> Vec<FacilityId> {
    seed().into_iter().map(|facility| facility.id).collect()
}

fn admit(message: &Value) -> Result<Admission, Vec<Fault>> {
    admission(message.to_string().as_bytes(), &facilities())
}

fn end(message: &Value) -> Result<Discharge, Vec<Fault>> {
    discharge(message.to_string().as_bytes())
}

fn paths(faults: &[Fault]) -> Vec<&str> {
    faults.iter().map(|fault| fault.path.as_str()).collect()
}

/// A message as the blueprint's demo client sends it, every habit included: numeric encounter id, string statuses, blanks in units, no
/// readmission count, a glucose in mg/dL under the unit mmol/L, `finished` at admission.
fn demo_message() -> Value {
    let subject = json!({"reference": "Patient/1", "display": "FirstA"});
    let units = |feature: Feature| match feature.spec().shape {
        Kind::Measurement(m) => m.unit_synonyms.first().copied().unwrap_or(m.unit),
        _ => "",
    };
    let observations: Vec<_> = Feature::measurements()
        .filter(|feature| *feature != Feature::SecondaryDiagnoses)
        .map(|feature| {
            let unit = if feature == Feature::Glucose { "mmol/L".to_owned() } else { format!("{} ", units(feature)) };
            json!({
                "resourceType": "Observation", "id": "1", "status": "final", "subject": subject,
                "code": {"coding": [{"system": "http://loinc.org", "code": feature.spec().code.unwrap().code, "display": "Heart rate "}]},
                "valueQuantity": {"value": 60, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit},
            })
        })
        .collect();
    let words = ["inactive", "active", "recurrence", "resolved", "remission"];
    let conditions: Vec<_> = Feature::conditions()
        .enumerate()
        .map(|(at, feature)| {
            json!({
                "resourceType": "Condition", "id": "1", "clinicalStatus": words[at % words.len()], "verificationStatus": "confirmed",
                "code": {"coding": [{"system": "http://snomed.info/sct", "code": feature.spec().code.unwrap().code}]},
                "subject": subject,
            })
        })
        .collect();
    json!({
        "patient": {
            "resourceType": "Patient", "id": "1", "active": true, "gender": "male",
            "name": [{"use": "official", "family": "Lasta", "given": ["Firsta", "Amiddle"]}],
        },
        "encounter": {
            "resourceType": "Encounter", "id": 100_001, "status": "finished", "subject": subject,
            "class": {"system": "http://hl7.org/fhir/v3/ActCode", "code": "IMP", "display": "inpatient encounter"},
            "period": {"start": "2026-01-24T00:31:32+05:30"},
            "serviceProvider": {"reference": "Organization/B", "display": "B"},
        },
        "observations": observations,
        "conditions": conditions,
    })
}

fn discharge_message() -> Value {
    json!({
        "patient": {"resourceType": "Patient", "id": "1"},
        "encounter": {
            "resourceType": "Encounter", "id": 100_001, "status": "finished",
            "period": {"start": "2012-08-29T00:00:00+00:00", "end": "2026-01-26T00:12:58+05:30"},
        },
    })
}

fn utf16_with_bom(message: &Value) -> Vec<u8> {
    let text = serde_json::to_string_pretty(message).unwrap();
    std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

#[test]
fn the_demo_clients_admission_is_read() {
    let message = demo_message();
    let read = admit(&message).unwrap();
    let e = &read.encounter;
    assert_eq!((e.id.get(), e.facility.letter(), e.gender, read.shape), (100_001, 'B', Gender::Male, Shape::Blueprint));
    assert_eq!(e.admitted, Phi::new(NaiveDate::from_ymd_opt(2026, 1, 24).unwrap()), "the day as written, not in UTC");
    assert_eq!(e.name, PersonName::new("Firsta", "Amiddle", "Lasta"));
    assert_eq!(e.discharged, Phi::new(None));
    assert_eq!(e.clinical.get(Feature::Glucose), Some(60.0));
    assert_eq!(e.clinical.get(Feature::Readmissions), None, "a missing count is missing, never 1");
    assert_eq!(e.clinical.get(Feature::SecondaryDiagnoses), None);
    let words = [0.0, 1.0, 1.0, 0.0, 0.0];
    for (at, feature) in Feature::conditions().enumerate() {
        assert_eq!(e.clinical.get(feature), Some(words[at % words.len()]), "condition {at}");
    }
    assert_eq!(read.warnings.len(), 1, "the unit of glucose: {:?}", read.warnings);

    assert_eq!(admission(&utf16_with_bom(&message), &facilities()).unwrap(), read);
}

#[test]
fn the_demo_clients_discharge_is_read_and_its_start_is_not_trusted() {
    let read = end(&discharge_message()).unwrap();
    assert_eq!((read.id.get(), read.shape), (100_001, Shape::Blueprint));
    assert_eq!(read.on, NaiveDate::from_ymd_opt(2026, 1, 26).unwrap());
    assert_eq!(read.warnings, []);
    assert_eq!(discharge(&utf16_with_bom(&discharge_message())).unwrap(), read);
    assert!(!format!("{read:?}").contains("2026"));
}

#[test]
fn the_four_parts_may_hold_r4_resources() {
    let mut message = demo_message();
    message["encounter"]["id"] = json!("100001");
    message["encounter"]["serviceProvider"] = json!({"reference": "Organization/d"});
    message["encounter"]["extension"] = json!([{"url": READMISSION_COUNT_URL, "valueInteger": 2}]);
    for condition in message["conditions"].as_array_mut().unwrap() {
        condition["clinicalStatus"] = json!({"coding": [{"system": fhir::CONDITION_CLINICAL_URL, "code": "active"}]});
        condition["verificationStatus"] = json!({"coding": [{"code": "confirmed"}]});
    }
    let e = admit(&message).unwrap().encounter;
    assert_eq!((e.id.get(), e.facility.letter()), (100_001, 'D'));
    assert_eq!(e.clinical.get(Feature::Readmissions), Some(2.0));
    assert!(Feature::conditions().all(|feature| e.clinical.get(feature) == Some(1.0)));
    message["encounter"]["serviceProvider"] = json!({"identifier": {"value": "E"}});
    assert_eq!(admit(&message).unwrap().encounter.facility.letter(), 'E');
}

#[test]
fn a_bundle_of_any_acting_type_is_read() {
    for of_type in ["transaction", "batch", "collection", "message"] {
        let message = json!({
            "resourceType": "Bundle", "type": of_type,
            "entry": [
                {"fullUrl": "urn:uuid:1", "resource": {"resourceType": "Patient", "name": [{"family": "Lee", "given": ["Ann"]}]}},
                {"fullUrl": "urn:uuid:2", "resource": {
                    "resourceType": "Encounter", "id": "enc", "identifier": [{"value": "77"}], "subject": {"reference": "urn:uuid:1"},
                    "period": {"start": "2026-01-24"}, "serviceProvider": {"reference": "urn:uuid:3", "display": "Pulmonary 2 West"},
                }},
                {"fullUrl": "urn:uuid:3", "resource": {"resourceType": "Organization", "identifier": [{"value": "B"}]}},
                {"resource": {"resourceType": "Practitioner", "id": "x"}},
                {"resource": {
                    "resourceType": "Observation", "subject": {"reference": "urn:uuid:1"},
                    "code": {"coding": [{"system": System::Loinc.uri(), "code": Feature::Sodium.spec().code.unwrap().code}]},
                    "valueQuantity": {"value": 140, "code": "mmol/L"},
                }},
            ],
        });
        let read = admit(&message).unwrap();
        assert_eq!((read.encounter.id.get(), read.encounter.facility.letter(), read.shape), (77, 'B', Shape::FhirBundle));
        assert_eq!(read.encounter.gender, Gender::Unknown);
        assert_eq!(read.encounter.clinical.get(Feature::Sodium), Some(140.0));
        assert_eq!(read.encounter.clinical.get(Feature::Asthma), None, "no Condition: not known");
        assert_eq!(read.warnings, []);
    }
}

#[test]
fn an_encounter_may_contain_its_patient() {
    let message = json!({
        "resourceType": "Encounter", "id": "5", "period": {"start": "2026-01-24T10:00:00Z"}, "subject": {"reference": "#p"},
        "serviceProvider": {"reference": "Organization/A"}, "contained": [{"resourceType": "Patient", "id": "p", "gender": "female"}],
    });
    let read = admit(&message).unwrap();
    assert_eq!((read.encounter.id.get(), read.encounter.gender, read.shape), (5, Gender::Female, Shape::FhirEncounter));
    assert_eq!(paths(&read.warnings), ["contained[0].name"]);
}

#[test]
fn a_bundle_must_hold_one_patient_and_one_encounter_and_no_other_patients_values() {
    let whole = encode_bundle_admission(&sample());
    let of_type = |of_type: &str| {
        whole["entry"].as_array().unwrap().iter().position(|entry| entry["resource"]["resourceType"] == of_type).unwrap()
    };
    for kind in ["Patient", "Encounter"] {
        let mut without = whole.clone();
        without["entry"].as_array_mut().unwrap().remove(of_type(kind));
        let faults = admit(&without).unwrap_err();
        assert_eq!((paths(&faults), faults[0].code), (vec!["entry"], Issue::Required));
        let mut twice = whole.clone();
        let copy = twice["entry"][of_type(kind)].clone();
        twice["entry"].as_array_mut().unwrap().push(copy);
        assert_eq!(paths(&admit(&twice).unwrap_err()), ["entry"]);
    }
    for kind in ["Encounter", "Observation", "Condition"] {
        let mut mixed = whole.clone();
        let at = of_type(kind);
        mixed["entry"][at]["resource"]["subject"]["reference"] = json!("Patient/another");
        assert_eq!(paths(&admit(&mixed).unwrap_err()), [format!("entry[{at}].resource.subject.reference")]);
    }
    let mut searchset = whole;
    searchset["type"] = json!("searchset");
    assert_eq!(paths(&admit(&searchset).unwrap_err()), ["type"]);
}

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let mut message = demo_message();
    message["patient"]["gender"] = json!("x");
    message["encounter"]["id"] = json!(0);
    message["encounter"]["period"]["start"] = json!("2026-01");
    message["encounter"]["serviceProvider"] = json!({"display": "Z"});
    message["encounter"]["status"] = json!("cancelled");
    message["encounter"]["returnCount"] = json!("often");
    message["observations"][2]["valueQuantity"]["value"] = json!(-5);
    message["conditions"][1]["clinicalStatus"] = json!("perhaps");
    message["conditions"][3]["resourceType"] = json!("Claim");
    let faults = admit(&message).unwrap_err();
    let mut found = paths(&faults);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "conditions[1].clinicalStatus",
            "conditions[3].resourceType",
            "encounter.id",
            "encounter.period.start",
            "encounter.returnCount",
            "encounter.serviceProvider",
            "encounter.status",
            "observations[2].valueQuantity.value",
            "patient.gender",
        ]
    );
    assert!(faults.iter().all(|fault| !fault.rule.is_empty() && !fault.remedy.is_empty()));
}

#[test]
fn what_is_no_message_is_refused_with_one_fault() {
    for (body, path) in [
        ("", "$"),
        ("null", "$"),
        ("[]", "$"),
        ("{}", "$"),
        ("{\"resourceType\": \"Claim\"}", "$"),
        ("\u{0}", "$"),
        ("{\"resourceType\": \"Bundle\"}", "type"),
    ] {
        assert_eq!(admission(body.as_bytes(), &facilities()).unwrap_err()[0].path, path, "{body:?}");
        assert_eq!(discharge(body.as_bytes()).unwrap_err()[0].path, path, "{body:?}");
    }
    let faults = admit(&json!({"encounter": demo_message()["encounter"]})).unwrap_err();
    assert_eq!(paths(&faults), ["patient"]);
    assert_eq!(paths(&admit(&json!({"patient": "text", "encounter": 7})).unwrap_err()), ["patient", "encounter"]);
    assert_eq!(paths(&end(&json!({"patient": {}})).unwrap_err()), ["encounter"]);
}

#[test]
fn deep_nesting_and_large_bodies_are_refused() {
    let mut deep = "{\"patient\":".repeat(4000);
    deep.push_str("{}");
    deep.push_str(&"}".repeat(4000));
    assert_eq!(admission(deep.as_bytes(), &facilities()).unwrap_err()[0].code, Issue::Structure);
    let large = vec![b' '; fhir::text::BODY_BYTES_MAX + 1];
    assert_eq!(discharge(&large).unwrap_err()[0].code, Issue::TooCostly);
}

#[test]
fn faults_and_warnings_are_bounded() {
    let mut message = demo_message();
    message["observations"] = Value::Array(vec![json!({"resourceType": "Observation", "status": 1, "code": {}}); 500]);
    let faults = admit(&message).unwrap_err();
    assert_eq!(faults.len(), fhir::FAULTS_MAX + 1);
    message["observations"] = Value::Array(vec![json!({"resourceType": "Observation"}); 500]);
    assert_eq!(admit(&message).unwrap().warnings.len(), fhir::FAULTS_MAX + 1);
}

#[test]
fn an_end_at_admission_is_a_warning() {
    let mut message = demo_message();
    message["encounter"]["period"]["end"] = json!("2026-02-01");
    let read = admit(&message).unwrap();
    assert_eq!(read.encounter.discharged, Phi::new(None));
    assert!(paths(&read.warnings).contains(&"encounter.period.end"));
}

#[test]
fn a_discharge_needs_its_encounter_and_its_day() {
    for message in [
        json!({"resourceType": "Encounter", "id": "5", "period": {"end": "2026-01-24T10:00:00Z"}}),
        json!({"encounter": {"id": 5, "period": {"end": "2026-01-24"}}}),
        json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": {"resourceType": "Encounter", "id": "5", "period": {"end": "2026-01-24"}}}]}),
    ] {
        assert_eq!(end(&message).unwrap().id.get(), 5);
    }
    let mut message = discharge_message();
    message["encounter"]["period"] = json!({"start": "2026-01-01"});
    assert_eq!(paths(&end(&message).unwrap_err()), ["encounter.period.end"]);
    message["encounter"]["resourceType"] = json!("Patient");
    assert_eq!(paths(&end(&message).unwrap_err()), ["encounter.resourceType"]);
}

#[test]
fn the_documents_table_of_codes_is_the_schemas() {
    let document = include_str!("../../docs/fhir.md");
    for feature in Feature::conditions().chain(Feature::measurements()) {
        let (spec, code) = (feature.spec(), feature.spec().code.unwrap());
        let row = match spec.shape {
            Kind::Measurement(m) => {
                let also = m.unit_synonyms.iter().map(|unit| format!("`{unit}`"));
                let converted = m.convertible.iter().map(|(unit, factor)| format!("`{unit}` (× {factor})"));
                let others = also.chain(converted).collect::<Vec<_>>().join(", ");
                format!("| {} | {} | `{}` | {others} |", spec.label, code.code, m.unit)
            }
            _ => format!("| {} | {} |", spec.label, code.code),
        };
        assert!(document.lines().any(|line| line == row), "docs/fhir.md lacks the line\n{row}");
    }
    for url in [READMISSION_COUNT_URL, fhir::DATA_ABSENT_REASON_URL, fhir::CONDITION_CLINICAL_URL] {
        assert!(document.contains(url), "docs/fhir.md lacks {url}");
    }
}

fn sample() -> Encounter {
    let mut clinical = Clinical::default();
    for feature in Feature::conditions() {
        clinical.set(feature, Some(f64::from(feature as u32 % 2)));
    }
    clinical.set(Feature::Sodium, Some(140.25));
    clinical.set(Feature::Readmissions, Some(5.0));
    Encounter {
        id: EncounterId::new(42).unwrap(),
        name: PersonName::new("Ann", "Bea Cy", "Lee"),
        gender: Gender::Other,
        facility: FacilityId::parse("C").unwrap(),
        admitted: Phi::new(NaiveDate::from_ymd_opt(2026, 1, 31).unwrap()),
        clinical,
        discharged: Phi::new(None),
    }
}

#[test]
fn an_encoded_bundle_is_r4() {
    let bundle = encode_bundle_admission(&sample());
    for entry in bundle["entry"].as_array().unwrap() {
        let resource = &entry["resource"];
        let url = format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
        assert_eq!((&entry["request"]["method"], &entry["request"]["url"]), (&json!("PUT"), &json!(url)));
        assert_eq!(entry["fullUrl"], json!(format!("{}/{url}", fhir::BASE_URL)));
        if resource["resourceType"] == "Condition" {
            assert!(resource["clinicalStatus"].is_object());
        }
    }
    let ids: std::collections::HashSet<_> =
        bundle["entry"].as_array().unwrap().iter().map(|entry| entry["fullUrl"].as_str()).collect();
    assert_eq!(ids.len(), bundle["entry"].as_array().unwrap().len());
}
