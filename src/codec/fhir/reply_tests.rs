//! Tests of the answers: the blueprint's members, what its demo script counts, and that predictions are told.

use super::*;
use crate::domain::{Clinical, Contribution, EncounterId, FacilityId, Gender, Interval, PersonName, Phi};

fn encounter() -> Encounter {
    Encounter {
        id: EncounterId::new(100_001).unwrap(),
        name: PersonName::new("Ann", "", "Lee"),
        gender: Gender::Female,
        facility: FacilityId::parse("B").unwrap(),
        admitted: Phi::new(NaiveDate::from_ymd_opt(2026, 1, 30).unwrap()),
        clinical: Clinical::default(),
        discharged: Phi::new(NaiveDate::from_ymd_opt(2026, 2, 4)),
    }
}

fn prediction() -> Prediction {
    Prediction {
        days: 3.5,
        interval80: Interval { low: 2.0, high: 5.0 },
        interval90: Interval { low: 1.0, high: 6.0 },
        model_version: "m1".into(),
        baseline_days: 4.0,
        contributions: vec![Contribution { factor: "a factor".into(), days: -0.5 }],
        missing: vec!["a".into()],
        out_of_range: vec![],
    }
}

/// How the blueprint's `HealthcareDemo.ps1` counts a success: a status other than 2xx makes it put `failed` in the place of the answer;
/// then `result` must be neither of two words (an absent one is neither).
fn demo_counts_as_success(status: u16, body: &Value) -> bool {
    let result = if (200..300).contains(&status) { body["result"].as_str() } else { Some("failed") };
    result != Some("invalid encounter id") && result != Some("failed")
}

#[test]
fn the_demo_script_counts_our_successes_and_none_of_our_refusals() {
    assert!(demo_counts_as_success(200, &admitted(&encounter(), Some(&prediction()), &[])));
    assert!(demo_counts_as_success(200, &discharged(&encounter(), None, &[])));
    for refusal in Refusal::ALL {
        for status in [400, 401, 403, 404, 409, 422, 500, 503] {
            assert!(!demo_counts_as_success(status, &problem(refusal, status, "detail", &[])), "{refusal:?}");
        }
    }
    // Even with the ancestor's 200 for an encounter that is there already or is not there; its own discharge said `error` in the place
    // of `result`, and was counted.
    assert!(!demo_counts_as_success(200, &problem(Refusal::InvalidEncounterId, 200, "detail", &[])));
    assert!(demo_counts_as_success(200, &json!({"error": "invalid encounter id"})));
}

#[test]
fn an_admission_answers_the_blueprints_members_and_the_prediction() {
    let warning = Fault::new("encounter.period.end", Issue::NotSupported, "was left out", "Nothing.");
    let body = admitted(&encounter(), Some(&prediction()), std::slice::from_ref(&warning));
    assert_eq!(
        body,
        json!({
            "encounterId": 100001, "name": "Ann Lee", "gender": "female", "admittedOn": "2026-01-30", "result": "success",
            "prediction": {
                "days": 3.5, "wholeDays": 4, "predictedDischarge": "2026-02-03",
                "interval80": {"low": 2.0, "high": 5.0}, "interval90": {"low": 1.0, "high": 6.0},
                "modelVersion": "m1", "baselineDays": 4.0, "contributions": [{"factor": "a factor", "days": -0.5}],
                "missing": ["a"], "outOfRange": [],
            },
            "predictionUnavailable": false,
            "warnings": [{"path": "encounter.period.end", "rule": "was left out", "remedy": "Nothing."}],
        })
    );
    let body = admitted(&encounter(), None, &[]);
    assert_eq!((&body["prediction"], &body["predictionUnavailable"]), (&Value::Null, &json!(true)));
}

#[test]
fn a_discharge_answers_the_stay_and_how_far_the_prediction_was_off() {
    let body = discharged(&encounter(), Some(&prediction()), &[]);
    assert_eq!((&body["dischargedOn"], &body["daysStayed"]), (&json!("2026-02-04"), &json!(5)));
    assert_eq!((&body["predictionErrorDays"], &body["result"]), (&json!(1.5), &json!("success")));
    assert_eq!(discharged(&encounter(), None, &[])["predictionErrorDays"], Value::Null);
}

#[test]
fn a_refusal_is_a_problem_or_an_operation_outcome() {
    let faults = [
        Fault::new("entry[3].resource.code", Issue::CodeInvalid, "rule", "remedy"),
        Fault::new("$", Issue::Structure, "rule", "remedy"),
    ];
    let body = problem(Refusal::BadRequest, 422, "2 faults", &faults);
    assert_eq!((&body["status"], &body["result"]), (&json!(422), &json!("bad request")));
    assert_eq!(body["faults"][0], json!({"path": "entry[3].resource.code", "rule": "rule", "remedy": "remedy"}));

    let outcome = operation_outcome(&faults[..1], &faults[1..]);
    assert_eq!(
        outcome,
        json!({"resourceType": "OperationOutcome", "issue": [
            {"severity": "error", "code": "code-invalid", "details": {"text": "rule"}, "diagnostics": "remedy",
             "expression": ["entry[3].resource.code"]},
            {"severity": "warning", "code": "structure", "details": {"text": "rule"}, "diagnostics": "remedy"},
        ]})
    );
    assert_eq!(operation_outcome(&[], &[])["issue"].as_array().unwrap().len(), 1);
}

#[test]
fn a_predicted_discharge_beyond_the_calendar_is_left_open() {
    let mut last = encounter();
    last.admitted = Phi::new(NaiveDate::MAX);
    last.discharged = Phi::new(None);
    let body = admitted(&last, Some(&prediction()), &[]);
    assert_eq!(body["prediction"]["predictedDischarge"], Value::Null);
    assert_eq!(discharged(&last, None, &[])["daysStayed"], Value::Null);
}
