//! Tests of the statuses, the shared codes and the difference between absent and missing.

use super::*;
use crate::codec::fhir::{CONDITION_CLINICAL_URL, DATA_ABSENT_REASON_URL, Fault};
use crate::schema::SHARED_CODES;
use serde_json::{Value, json};

fn coded(feature: Feature) -> Value {
    let code = feature.spec().code.unwrap();
    json!({"coding": [{"system": code.system.uri(), "code": code.code}]})
}

fn condition(feature: Feature, status: Value) -> Value {
    json!({"resourceType": "Condition", "code": coded(feature), "clinicalStatus": status})
}

fn read_parts(conditions: Value) -> Result<(Clinical, Vec<Fault>), Vec<Fault>> {
    let message = json!({"patient": {}, "conditions": conditions});
    let mut findings = Findings::default();
    let mut clinical = Clinical::default();
    let message = Message::open(&message, &mut findings).unwrap();
    read(&message, &mut findings, &mut clinical);
    findings.close().map(|warnings| (clinical, warnings))
}

#[test]
fn a_status_is_present_or_absent_in_stu3_and_in_r4() {
    for (word, expected) in
        [("active", 1.0), ("recurrence", 1.0), ("relapse", 1.0), ("inactive", 0.0), ("remission", 0.0), ("resolved", 0.0)]
    {
        let concept = json!({"coding": [{"system": "urn:local", "code": "x"}, {"system": CONDITION_CLINICAL_URL, "code": word}]});
        for status in [json!(word), concept, json!({"coding": [{"code": word}]})] {
            let (clinical, warnings) = read_parts(json!([condition(Feature::Asthma, status)])).unwrap();
            assert_eq!((clinical.get(Feature::Asthma), warnings), (Some(expected), vec![]), "{word}");
        }
    }
    for bad in [json!("canary"), json!({"text": "active"}), json!(1), json!([])] {
        let faults = read_parts(json!([condition(Feature::Asthma, bad)])).unwrap_err();
        assert_eq!((faults[0].code, faults[0].path.as_str()), (Issue::CodeInvalid, "conditions[0].clinicalStatus"));
    }
    let (clinical, warnings) = read_parts(json!([condition(Feature::Asthma, json!(null))])).unwrap();
    assert_eq!((clinical.get(Feature::Asthma), warnings.len()), (Some(1.0), 1));
}

#[test]
fn what_is_not_mentioned_is_absent_only_if_conditions_are_spoken_of() {
    let (clinical, _) = read_parts(json!([])).unwrap();
    assert!(Feature::conditions().all(|feature| clinical.get(feature) == Some(0.0)));
    let (clinical, _) = read_parts(json!(null)).unwrap();
    assert!(Feature::conditions().all(|feature| clinical.get(feature).is_none()));
    assert!(read_parts(json!({})).is_err());
}

#[test]
fn a_shared_code_sets_the_first_then_the_second_of_its_pair() {
    for (_, first, second) in SHARED_CODES {
        let one = |words: &[&str]| {
            let list: Vec<_> = words.iter().map(|word| condition(first, json!(word))).collect();
            let (clinical, warnings) = read_parts(Value::Array(list)).unwrap();
            (clinical.get(first), clinical.get(second), warnings.len())
        };
        assert_eq!(one(&["active"]), (Some(1.0), Some(0.0), 0));
        assert_eq!(one(&["resolved", "active"]), (Some(0.0), Some(1.0), 0));
        assert_eq!(one(&["active", "active"]), (Some(1.0), Some(1.0), 0));
        assert_eq!(one(&["active", "resolved", "active"]), (Some(1.0), Some(1.0), 1));
    }
}

#[test]
fn of_a_repeated_condition_present_counts() {
    for words in [["active", "resolved"], ["resolved", "active"]] {
        let list = words.map(|word| condition(Feature::Asthma, json!(word)));
        let (clinical, warnings) = read_parts(json!(list)).unwrap();
        assert_eq!((clinical.get(Feature::Asthma), warnings.len()), (Some(1.0), 1));
        assert_eq!(warnings[0].code, Issue::Duplicate);
    }
}

#[test]
fn withdrawn_conditions_take_no_place_and_unknown_ones_are_missing() {
    for verification in ["entered-in-error", "refuted"] {
        for said in [json!(verification), json!({"coding": [{"code": verification}]})] {
            let (_, first, second) = SHARED_CODES[0];
            let mut withdrawn = condition(first, json!("active"));
            withdrawn["verificationStatus"] = said;
            let (clinical, warnings) = read_parts(json!([withdrawn, condition(first, json!("active"))])).unwrap();
            assert_eq!((clinical.get(first), clinical.get(second), warnings.len()), (Some(1.0), Some(0.0), 0));
        }
    }
    let extension = json!({"extension": [{"url": DATA_ABSENT_REASON_URL, "valueCode": "unknown"}]});
    let mut primitive = condition(Feature::Asthma, json!(null));
    primitive["_clinicalStatus"] = extension.clone();
    for unknown in [condition(Feature::Asthma, extension), primitive] {
        let (clinical, warnings) = read_parts(json!([unknown])).unwrap();
        assert_eq!((clinical.get(Feature::Asthma), warnings), (None, vec![]));
        assert_eq!(clinical.get(Feature::Depression), Some(0.0));
    }
}

#[test]
fn an_unknown_condition_is_a_warning_and_two_in_one_a_fault() {
    let unknown = json!({"code": {"coding": [{"system": "http://snomed.info/sct", "code": "canary"}]}, "clinicalStatus": "active"});
    let (_, warnings) = read_parts(json!([unknown])).unwrap();
    assert_eq!(warnings[0].path, "conditions[0].code");
    let mut two = condition(Feature::Asthma, json!("active"));
    two["code"]["coding"].as_array_mut().unwrap().push(coded(Feature::Depression)["coding"][0].clone());
    assert_eq!(read_parts(json!([two])).unwrap_err()[0].code, Issue::CodeInvalid);
}
