//! Properties: what is encoded reads back, nothing panics, and no value of a message reaches a fault.

use std::fmt::Write as _;

use chrono::{Duration, NaiveDate};
use health_data_ai::codec::fhir::{
    self, Fault, Shape, admission, discharge, encode_blueprint_admission, encode_bundle_admission, encode_discharge,
};
use health_data_ai::domain::{Clinical, Encounter, EncounterId, Gender, PersonName, Phi};
use health_data_ai::schema::{Feature, SHARED_CODES, Shape as Kind};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{admit, demo_message, discharge_message, end, facilities, sample, utf16_with_bom};

fn value_of(feature: Feature) -> BoxedStrategy<Option<f64>> {
    let value = match feature.spec().shape {
        Kind::Readmissions => (0..=5_i32).prop_map(f64::from).boxed(),
        Kind::Condition => (0..=1_i32).prop_map(f64::from).boxed(),
        Kind::Measurement(m) if m.whole => (m.possible.0 as i32..=m.possible.1 as i32).prop_map(f64::from).boxed(),
        Kind::Measurement(m) => (m.possible.0..=m.possible.1).boxed(),
    };
    proptest::option::weighted(0.7, value).boxed()
}

fn name_part() -> impl Strategy<Value = String> {
    // The empty part, one word, several words, letters of any script.
    prop_oneof![Just(String::new()), "[A-Za-zÀ-ž'-]{1,20}( [A-Za-z字-]{1,20}){0,1}"]
}

fn encounter() -> impl Strategy<Value = Encounter> {
    let clinical = Feature::all().map(value_of).collect::<Vec<_>>().prop_map(|values| {
        let mut clinical = Clinical::default();
        for (feature, value) in Feature::all().zip(values) {
            clinical.set(feature, value);
        }
        clinical
    });
    let person = ([name_part(), name_part(), name_part()], proptest::sample::select(Gender::ALL.to_vec()));
    let stay = (0..100_000_i64, proptest::option::of(0..400_i64));
    (1..=i32::MAX, person, proptest::sample::select(facilities()), stay, clinical).prop_map(
        |(id, ([first, middle, last], gender), facility, (day, stay), clinical)| {
            let admitted = NaiveDate::from_ymd_opt(1900, 1, 1).unwrap() + Duration::days(day);
            Encounter {
                id: EncounterId::new(i64::from(id)).unwrap(),
                name: PersonName::new(first, middle, last),
                gender,
                facility,
                admitted: Phi::new(admitted),
                clinical,
                discharged: Phi::new(stay.map(|days| admitted + Duration::days(days))),
            }
        },
    )
}

/// JSON of the members that the codec looks at, in places right and wrong.
fn fhir_like() -> impl Strategy<Value = Value> {
    const MEMBERS: [&str; 36] = [
        "resourceType",
        "type",
        "entry",
        "resource",
        "fullUrl",
        "patient",
        "encounter",
        "observations",
        "conditions",
        "contained",
        "id",
        "identifier",
        "value",
        "use",
        "status",
        "period",
        "start",
        "end",
        "serviceProvider",
        "reference",
        "display",
        "name",
        "given",
        "family",
        "gender",
        "code",
        "coding",
        "system",
        "valueQuantity",
        "valueInteger",
        "unit",
        "clinicalStatus",
        "verificationStatus",
        "extension",
        "returnCount",
        "effectiveDateTime",
    ];
    const WORDS: [&str; 14] = [
        "Bundle",
        "Encounter",
        "Patient",
        "Observation",
        "Condition",
        "transaction",
        "B",
        "2026-01-24",
        "2026-01-24T1é:00",
        "active",
        "mmol/L",
        "http://loinc.org",
        "5+",
        "",
    ];
    let codes: Vec<String> = Feature::all().filter_map(|feature| Some(feature.spec().code?.code.to_owned())).collect();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(WORDS.to_vec()).prop_map(Value::from),
        proptest::sample::select(codes).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 96, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec((proptest::sample::select(MEMBERS.to_vec()), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}

const CANARY: &str = "Kanarienvogel";
const CANARY_NUMBER: f64 = 918_273.645_5;

/// Plants a canary into the `at`-th leaf. Whether that was a string or a number says which one.
fn plant(value: &mut Value, at: &mut usize, as_number: bool) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| plant(item, at, as_number)),
        Value::Object(members) => members.values_mut().for_each(|member| plant(member, at, as_number)),
        leaf => {
            if *at == 0 {
                *leaf = if as_number { json!(CANARY_NUMBER) } else { json!(CANARY) };
            }
            *at = at.wrapping_sub(1);
        }
    }
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(leaves).sum(),
        Value::Object(members) => members.values().map(leaves).sum(),
        _ => 1,
    }
}

fn told(faults: &[Fault]) -> String {
    let mut text = String::new();
    for fault in faults {
        writeln!(text, "{fault} {fault:?}").unwrap();
    }
    let answers =
        [fhir::reply::problem(fhir::reply::Refusal::BadRequest, 400, "", faults), fhir::reply::operation_outcome(faults, faults)];
    text + &json!(answers).to_string()
}

#[test]
fn no_value_of_a_message_reaches_a_fault_wherever_it_stands() {
    for message in [demo_message(), discharge_message(), encode_bundle_admission(&sample())] {
        for position in 0..leaves(&message) {
            for as_number in [false, true] {
                let mut planted = message.clone();
                plant(&mut planted, &mut position.clone(), as_number);
                let admitted = admit(&planted);
                let mut text = told(&admitted.as_ref().map_or_else(Clone::clone, |read| read.warnings.clone()));
                write!(text, "{:?}", admitted.map(|read| read.encounter)).unwrap();
                let discharged = end(&planted);
                text += &told(&discharged.as_ref().map_or_else(Clone::clone, |read| read.warnings.clone()));
                write!(text, "{discharged:?}").unwrap();
                assert!(!text.contains(CANARY) && !text.contains("918273"), "position {position}: {text}");
            }
        }
    }
}

#[test]
fn shared_codes_go_round_in_every_combination() {
    let values = [None, Some(0.0), Some(1.0)];
    for (_, first, second) in SHARED_CODES {
        for one in values {
            for two in values {
                let mut encounter = sample();
                encounter.clinical.set(first, one);
                encounter.clinical.set(second, two);
                assert_eq!(admit(&encode_blueprint_admission(&encounter)).unwrap().encounter, encounter);
                assert_eq!(admit(&encode_bundle_admission(&encounter)).unwrap().encounter, encounter);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_encoded_admission_reads_back_as_it_was(encounter in encounter()) {
        let open = Encounter { discharged: Phi::new(None), ..encounter.clone() };
        for (message, shape) in [
            (encode_blueprint_admission(&encounter), Shape::Blueprint),
            (encode_bundle_admission(&encounter), Shape::FhirBundle),
        ] {
            let read = admit(&message).unwrap();
            prop_assert!(read.encounter == open, "{message}");
            prop_assert_eq!(read.shape, shape);
            let nameless = encounter.name == PersonName::default();
            prop_assert!(read.warnings.len() == usize::from(nameless), "{:?}", read.warnings);
            let wide = admission(&utf16_with_bom(&message), &facilities()).unwrap();
            prop_assert!(wide == read);
        }
    }

    #[test]
    fn an_encoded_discharge_reads_back_as_it_was(encounter in encounter()) {
        match (encode_discharge(&encounter), *encounter.discharged.reveal()) {
            (Some(message), Some(on)) => {
                let read = end(&message).unwrap();
                prop_assert_eq!((read.id, read.on), (encounter.id, on));
            }
            (None, None) => {}
            _ => prop_assert!(false, "a discharge is encoded exactly for a closed encounter"),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(admission(&bytes, &facilities()).map_or_else(|faults| !faults.is_empty(), |_| true));
        prop_assert!(discharge(&bytes).map_or_else(|faults| !faults.is_empty(), |_| true));
        fhir::shape_of(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_json_makes_it_panic(value in fhir_like(), inside in any::<prop::sample::Index>()) {
        // Alone, and in the place of one member of a message that is otherwise right.
        let mut grafted = demo_message();
        let places = ["/patient", "/encounter", "/observations", "/conditions", "/encounter/period", "/observations/0", "/conditions/0",
            "/observations/0/valueQuantity", "/patient/name", "/encounter/serviceProvider", "/conditions/0/clinicalStatus"];
        *grafted.pointer_mut(places[inside.index(places.len())]).unwrap() = value.clone();
        for message in [value, grafted] {
            let bytes = message.to_string();
            if let Err(faults) = admission(bytes.as_bytes(), &facilities()) {
                prop_assert!(!faults.is_empty() && faults.len() <= fhir::FAULTS_MAX + 1);
            }
            if let Err(faults) = discharge(bytes.as_bytes()) {
                prop_assert!(!faults.is_empty() && faults.len() <= fhir::FAULTS_MAX + 1);
            }
            fhir::shape_of(bytes.as_bytes());
        }
    }
}
