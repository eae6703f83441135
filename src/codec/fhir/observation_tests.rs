//! Tests of the units, the codes and the repetitions of observations.

use super::*;
use crate::codec::fhir::Fault;
use crate::schema::System;
use serde_json::{Value, json};

fn observation(spec: &Spec, quantity: Value) -> Value {
    let code = spec.code.unwrap();
    json!({
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": code.system.uri(), "code": code.code}]},
        "valueQuantity": quantity,
    })
}

fn read_all(shape: Shape, observations: Vec<Value>) -> Result<(Clinical, Vec<Fault>), Vec<Fault>> {
    let message = match shape {
        Shape::Blueprint => json!({"patient": {}, "observations": observations}),
        _ => {
            let entries: Vec<_> = observations.into_iter().map(|resource| json!({"resource": resource})).collect();
            json!({"resourceType": "Bundle", "type": "batch", "entry": entries})
        }
    };
    let mut findings = Findings::default();
    let mut clinical = Clinical::default();
    let message = Message::open(&message, &mut findings).unwrap();
    read(&message, &mut findings, &mut clinical);
    findings.close().map(|warnings| (clinical, warnings))
}

fn read_one(shape: Shape, feature: Feature, quantity: Value) -> Result<(Option<f64>, Vec<Fault>), Vec<Fault>> {
    read_all(shape, vec![observation(feature.spec(), quantity)]).map(|(clinical, warnings)| (clinical.get(feature), warnings))
}

fn measurement(feature: Feature) -> Measurement {
    match feature.spec().shape {
        schema::Shape::Measurement(measurement) => measurement,
        _ => panic!("no measurement"),
    }
}

#[test]
fn every_unit_of_the_schema_and_its_synonyms_are_taken_without_a_word() {
    for feature in Feature::measurements() {
        let m = measurement(feature);
        let value = (m.plausible.0 + m.plausible.1).floor() / 2.0;
        let value = if m.whole { value.floor() } else { value };
        for unit in m.unit_synonyms.iter().chain([&m.unit]) {
            for spelling in [(*unit).to_owned(), format!("{unit} "), unit.to_uppercase()] {
                for member in ["unit", "code"] {
                    let (read, warnings) = read_one(Shape::FhirBundle, feature, json!({"value": value, member: spelling})).unwrap();
                    assert_eq!((read, warnings), (Some(value), vec![]), "{unit}");
                }
            }
        }
    }
}

#[test]
fn a_convertible_unit_is_converted_in_a_bundle_unless_that_makes_no_sense() {
    for feature in Feature::measurements() {
        let m = measurement(feature);
        let Some((unit, factor)) = m.convertible else { continue };
        let own = (m.plausible.0 * m.plausible.1).sqrt();
        let (read, warnings) = read_one(Shape::FhirBundle, feature, json!({"value": own / factor, "unit": unit})).unwrap();
        assert!((read.unwrap() - own).abs() < 1e-9 * own);
        assert_eq!(warnings, []);
        // Converted, the top of the plausible range leaves it only if the factor is above one.
        if factor > 1.0 {
            let (read, warnings) = read_one(Shape::FhirBundle, feature, json!({"value": m.plausible.1, "code": unit})).unwrap();
            assert_eq!(read, Some(m.plausible.1));
            assert_eq!(warnings[0].path, "entry[0].resource.valueQuantity.unit");
        }
    }
}

#[test]
fn in_the_blueprints_shape_a_value_that_makes_sense_as_it_stands_is_taken_so() {
    // The blueprint's demo sends 80 "mmol/L": the number is mg/dL.
    let (read, warnings) = read_one(Shape::Blueprint, Feature::Glucose, json!({"value": 80.5, "unit": "mmol/L"})).unwrap();
    assert_eq!((read, warnings.len()), (Some(80.5), 1));
    let (read, warnings) = read_one(Shape::Blueprint, Feature::Glucose, json!({"value": 5.5, "unit": "mmol/L"})).unwrap();
    assert_eq!((read, warnings.len()), (Some(5.5 * 18.016), 0));
    // Both make sense: the blueprint's clients never had their units looked at, the senders of Bundles mean them.
    let both = json!({"value": 30, "unit": "mmol/L"});
    assert_eq!(read_one(Shape::Blueprint, Feature::Glucose, both.clone()).unwrap().0, Some(30.0));
    assert_eq!(read_one(Shape::FhirBundle, Feature::Glucose, both).unwrap().0, Some(30.0 * 18.016));
    // Micro may be the sign or the letter.
    for unit in ["µmol/L", "μmol/L", "umol/l"] {
        let (read, _) = read_one(Shape::Blueprint, Feature::Creatinine, json!({"value": 88.42, "unit": unit})).unwrap();
        assert!((read.unwrap() - 1.0).abs() < 1e-4, "{unit}");
    }
}

#[test]
fn an_unknown_unit_is_taken_if_plausible_and_a_foreign_one_is_left_out() {
    let (read, warnings) = read_one(Shape::Blueprint, Feature::Sodium, json!({"value": 140, "unit": "canary"})).unwrap();
    assert_eq!((read, warnings.len()), (Some(140.0), 1));
    assert!(!warnings[0].to_string().contains("canary"));
    let faults = read_one(Shape::Blueprint, Feature::Hematocrit, json!({"value": 0.41, "unit": "L/L"})).unwrap_err();
    assert_eq!(faults[0].path, "observations[0].valueQuantity.unit");
    // The blueprint's template sends one measurement under the code of another: taken for it, it would make a very sick patient.
    let (read, warnings) = read_one(Shape::Blueprint, Feature::Creatinine, json!({"value": 30.4, "unit": "kg/m2"})).unwrap();
    assert_eq!((read, warnings.len()), (None, 1));
    // The code for machines counts before the unit for people, and each helps where the other is not known.
    for quantity in
        [json!({"value": 140, "code": "mmol/L", "unit": "mg/dL"}), json!({"value": 140, "code": "canary", "unit": "mmol/L"})]
    {
        assert_eq!(read_one(Shape::FhirBundle, Feature::Sodium, quantity).unwrap(), (Some(140.0), vec![]));
    }
    let (read, warnings) = read_one(Shape::FhirBundle, Feature::Sodium, json!({"value": 140})).unwrap();
    assert_eq!((read, warnings.len()), (Some(140.0), 1));
}

#[test]
fn what_is_impossible_is_a_fault_and_what_is_implausible_is_not() {
    for feature in Feature::measurements() {
        let m = measurement(feature);
        for value in [m.possible.0 - 1.0, m.possible.1 + 1.0] {
            let faults = read_one(Shape::FhirBundle, feature, json!({"value": value, "unit": m.unit})).unwrap_err();
            assert_eq!((faults[0].code, faults[0].path.as_str()), (Issue::Value, "entry[0].resource.valueQuantity.value"));
        }
        let (read, warnings) = read_one(Shape::FhirBundle, feature, json!({"value": m.possible.0, "unit": m.unit})).unwrap();
        assert_eq!((read, warnings), (Some(m.possible.0), vec![]));
    }
}

#[test]
fn whole_numbers_are_rounded_with_a_warning() {
    let (read, warnings) = read_one(Shape::Blueprint, Feature::Pulse, json!({"value": 65.4, "unit": "/min"})).unwrap();
    assert_eq!((read, warnings.len()), (Some(65.0), 1));
    let counted = json!({
        "code": {"coding": [{"code": Feature::SecondaryDiagnoses.spec().code.unwrap().code}]},
        "valueInteger": 3,
    });
    let (clinical, warnings) = read_all(Shape::Blueprint, vec![counted]).unwrap();
    assert_eq!((clinical.get(Feature::SecondaryDiagnoses), warnings), (Some(3.0), vec![]));
}

#[test]
fn any_coding_counts_if_its_system_is_right() {
    let spec = Feature::Sodium.spec();
    let code = spec.code.unwrap().code;
    let coded = |codings: Value| json!({"code": {"coding": codings}, "valueQuantity": {"value": 140, "unit": "mmol/L"}, "resourceType": "Observation"});
    let second = json!([{"system": "urn:local", "code": "NA"}, {"system": System::Loinc.uri(), "code": code}]);
    let wrong = json!([{"system": "urn:local", "code": code}]);
    let none = json!([{"code": code}]);
    for (shape, codings, expected) in [
        (Shape::FhirBundle, &second, Some(140.0)),
        (Shape::Blueprint, &second, Some(140.0)),
        (Shape::FhirBundle, &wrong, None),
        (Shape::Blueprint, &wrong, None),
        (Shape::FhirBundle, &none, None),
        (Shape::Blueprint, &none, Some(140.0)),
    ] {
        let (clinical, warnings) = read_all(shape, vec![coded(codings.clone())]).unwrap();
        assert_eq!(clinical.get(Feature::Sodium), expected, "{shape:?} {codings}");
        assert_eq!(warnings.len(), usize::from(expected.is_none()));
    }
    let two = json!([{"system": System::Loinc.uri(), "code": code}, {"system": System::Loinc.uri(), "code": Feature::Glucose.spec().code.unwrap().code}]);
    assert_eq!(read_all(Shape::FhirBundle, vec![coded(two)]).unwrap_err()[0].path, "entry[0].resource.code");
}

#[test]
fn of_several_values_the_latest_counts() {
    let at = |value: f64, time: Value| {
        let mut resource = observation(Feature::Sodium.spec(), json!({"value": value, "unit": "mmol/L"}));
        resource["effectiveDateTime"] = time;
        resource
    };
    for (values, expected) in [
        (vec![at(140.0, json!("2026-01-02T10:00:00+02:00")), at(141.0, json!("2026-01-02T08:30:00Z"))], 141.0),
        (vec![at(140.0, json!("2026-01-02T10:00:00+02:00")), at(141.0, json!("2026-01-02T07:30:00Z"))], 140.0),
        (vec![at(140.0, json!("2026-01-03")), at(141.0, json!("2026-01-02"))], 140.0),
        (vec![at(140.0, json!("2026-01-03")), at(141.0, json!(null))], 141.0),
        (vec![at(140.0, json!(null)), at(141.0, json!("2026-01-02")), at(142.0, json!("2026"))], 142.0),
    ] {
        let count = values.len();
        let (clinical, warnings) = read_all(Shape::FhirBundle, values).unwrap();
        assert_eq!(clinical.get(Feature::Sodium), Some(expected));
        assert_eq!(warnings.len(), count - 1);
        assert_eq!(warnings[0].code, Issue::Duplicate);
    }
}

#[test]
fn observations_without_a_value_are_missing_and_withdrawn_ones_are_passed_over() {
    let spec = Feature::Sodium.spec();
    let mut absent = observation(spec, json!(null));
    assert_eq!(read_all(Shape::FhirBundle, vec![absent.clone()]).unwrap().1.len(), 1);
    absent["dataAbsentReason"] = json!({"text": "not done"});
    let (clinical, warnings) = read_all(Shape::FhirBundle, vec![absent.clone()]).unwrap();
    assert_eq!((clinical.get(Feature::Sodium), warnings), (None, vec![]));
    absent["valueString"] = json!("140");
    assert_eq!(read_all(Shape::FhirBundle, vec![absent]).unwrap_err()[0].code, Issue::NotSupported);

    for status in ["entered-in-error", "cancelled"] {
        let mut withdrawn = observation(spec, json!({"value": -1}));
        withdrawn["status"] = json!(status);
        let (clinical, warnings) = read_all(Shape::FhirBundle, vec![withdrawn]).unwrap();
        assert_eq!((clinical.get(Feature::Sodium), warnings), (None, vec![]));
    }
    for (quantity, path) in [
        (json!({"value": "140", "unit": "mmol/L"}), "observations[0].valueQuantity.value"),
        (json!("140 mmol/L"), "observations[0].valueQuantity"),
    ] {
        let faults = read_one(Shape::Blueprint, Feature::Sodium, quantity).unwrap_err();
        assert_eq!((faults[0].code, faults[0].path.as_str()), (Issue::Structure, path));
    }
    let (read, warnings) =
        read_one(Shape::Blueprint, Feature::Glucose, json!({"value": 40, "unit": "mg/dL", "comparator": "<"})).unwrap();
    assert_eq!((read, warnings.len()), (Some(40.0), 1));
}
