//! Bodies that no host sends.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

const FUNCTIONS: &[&str] = &[
    BLOB,
    QUEUE,
    "PatientDataEvents",
    "TrainLengthOfStay",
    "TrainLengthOfStaySchedule",
    "AuditCheckpoint",
    "PublishEvents",
    "PatientAdmissionFunc",
    "PatientDischargeFunc",
    "Api",
];

#[test]
fn garbage_is_answered_and_never_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let mut handler = Handler::start(folder.path(), &[]);
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(50_000), close.repeat(50_000));
    let mut bodies: Vec<Vec<u8>> = [
        "",
        "null",
        "[]",
        "{}",
        "0",
        "\"\"",
        "{\"Data\":null}",
        "{\"Data\":{}}",
        "{\"Data\":{\"blob\":1},\"Metadata\":7}",
        "\u{feff}{}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    bodies.push(deep("[", "]").into_bytes());
    bodies.push(deep("{\"Data\":", "}").into_bytes());
    for binding in ["blob", "item", "event", "req", "timer"] {
        for value in [json!(null), json!([]), json!({}), json!(deep("[", "]")), json!(json!(deep("{\"a\":", "}")).to_string())] {
            bodies.push(delivery(binding, value, "\u{0}").to_string().into_bytes());
        }
    }
    for body in &bodies {
        for function in FUNCTIONS {
            let answer = handler.post(function, body.clone());
            assert_eq!(answer.status, 200, "{function} {}", String::from_utf8_lossy(&body[..body.len().min(80)]));
            well_formed(&answer, function).unwrap();
        }
    }

    let text = prop_oneof!["\\PC{0,30}", Just(uri("a.csv")), Just("GET".to_owned()), Just("http://h/api/audit".to_owned())];
    let value = prop_oneof![Just(Value::Null), any::<i64>().prop_map(Value::from), text.prop_map(Value::from)].prop_recursive(
        3,
        12,
        4,
        |inner| {
            let key = "Url|Method|Headers|Body|url|dataChanged|data|eventType|id|\\PC{0,4}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::hash_map(key, inner, 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        },
    );
    let envelope = ("blob|item|event|req|timer", value, "\\PC{0,30}")
        .prop_map(|(binding, value, uri)| delivery(&binding, value, &uri).to_string().into_bytes());
    let body = prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 4 => envelope];
    let mut runner = TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(prop::sample::select(FUNCTIONS), body), |(function, body)| {
        let answer = handler.post(function, body);
        prop_assert_eq!(answer.status, 200);
        well_formed(&answer, function).map_err(TestCaseError::fail)
    });
    outcome.unwrap();
    handler.lives();
    assert_eq!((handler.count("PatientData"), handler.count("models")), (0, 0));
}

/// What the host takes for an answer: any other would fail the call or leave it hanging.
fn well_formed(answer: &Answer, function: &str) -> Result<(), String> {
    let object = answer.body.as_object().is_some_and(|members| !members.is_empty());
    if object && answer.content_type == "application/json" { Ok(()) } else { Err(format!("{function}: {}", answer.content_type)) }
}
