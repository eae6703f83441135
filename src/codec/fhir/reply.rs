//! The bodies of our answers. The blueprint's members come first and keep their names, so that its clients go on working; what it never
//! said (the prediction, the warnings) is added beside them. Status codes are the HTTP layer's: it hands them in.

use chrono::{Duration, NaiveDate};
use serde_json::{Value, json};

use super::fault::{Fault, Issue};
use crate::domain::{Encounter, Prediction};

/// Why a request is refused, with the word that the blueprint's clients look for in `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The message breaks a rule.
    BadRequest,
    /// The encounter is not there, or there already, or in a state that excludes the request.
    InvalidEncounterId,
    /// Nobody proved who they are, or the caller may not do this.
    Unauthorized,
    /// Too much in a short time.
    TooMany,
    /// A fault of ours.
    Failed,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 5] =
        [Refusal::BadRequest, Refusal::InvalidEncounterId, Refusal::Unauthorized, Refusal::TooMany, Refusal::Failed];

    /// The blueprint's `result`.
    pub const fn result(self) -> &'static str {
        match self {
            Refusal::BadRequest => "bad request",
            Refusal::InvalidEncounterId => "invalid encounter id",
            Refusal::Unauthorized => "Unauthorized Unauthorized",
            Refusal::TooMany => "too many requests",
            Refusal::Failed => "failed",
        }
    }

    /// The problem's `type` and `title` (RFC 9457).
    const fn problem(self) -> (&'static str, &'static str) {
        match self {
            Refusal::BadRequest => ("https://health-data-ai.example/problems/bad-request", "The message breaks a rule"),
            Refusal::InvalidEncounterId => {
                ("https://health-data-ai.example/problems/invalid-encounter-id", "The encounter does not allow this")
            }
            Refusal::Unauthorized => ("https://health-data-ai.example/problems/unauthorized", "The caller may not do this"),
            Refusal::TooMany => ("https://health-data-ai.example/problems/too-many-requests", "Too many calls in a short time"),
            Refusal::Failed => ("https://health-data-ai.example/problems/failed", "The request could not be carried out"),
        }
    }
}

/// The answer to an admission: `encounterId, name, gender, admittedOn` as the blueprint has them, `result: success`, the prediction or
/// `predictionUnavailable: true`, and the warnings of the message.
pub fn admitted(encounter: &Encounter, prediction: Option<&Prediction>, warnings: &[Fault]) -> Value {
    json!({
        "encounterId": encounter.id.get(),
        "name": encounter.name.display().reveal(),
        "gender": encounter.gender.fhir(),
        "admittedOn": encounter.admitted.reveal().to_string(),
        "result": "success",
        "prediction": prediction.map(|prediction| predicted(prediction, *encounter.admitted.reveal())),
        "predictionUnavailable": prediction.is_none(),
        "warnings": warnings.iter().map(fault).collect::<Vec<_>>(),
    })
}

/// The answer to a discharge: `encounterId, name, dischargedOn, daysStayed` as the blueprint has them, `result: success`, what was
/// predicted at admission, and how many days longer (or, if negative, shorter) the patient stayed.
pub fn discharged(encounter: &Encounter, prediction: Option<&Prediction>, warnings: &[Fault]) -> Value {
    let stayed = encounter.stay_days();
    let error_days = stayed.zip(prediction).map(|(stayed, prediction)| f64::from(stayed) - prediction.days);
    json!({
        "encounterId": encounter.id.get(),
        "name": encounter.name.display().reveal(),
        "dischargedOn": encounter.discharged.reveal().map(|day| day.to_string()),
        "daysStayed": stayed,
        "result": "success",
        "prediction": prediction.map(|prediction| predicted(prediction, *encounter.admitted.reveal())),
        "predictionErrorDays": error_days,
        "warnings": warnings.iter().map(fault).collect::<Vec<_>>(),
    })
}

/// A prediction for a stay that began on `admitted`; the expected day of discharge is left `null` beyond the calendar.
pub fn predicted(prediction: &Prediction, admitted: NaiveDate) -> Value {
    let whole_days = prediction.whole_days();
    let day = expected_discharge(prediction, admitted);
    json!({
        "days": prediction.days,
        "wholeDays": whole_days,
        "predictedDischarge": day.map(|day| day.to_string()),
        "interval80": prediction.interval80,
        "interval90": prediction.interval90,
        "modelVersion": prediction.model_version,
        "baselineDays": prediction.baseline_days,
        "contributions": prediction.contributions,
        "missing": prediction.missing,
        "outOfRange": prediction.out_of_range,
    })
}

/// The day that the stay is predicted to end, if the calendar has it.
pub fn expected_discharge(prediction: &Prediction, admitted: NaiveDate) -> Option<NaiveDate> {
    admitted.checked_add_signed(Duration::days(i64::from(prediction.whole_days())))
}

/// A refusal as `application/problem+json` (RFC 9457) with the blueprint's `result` beside its members. `detail` names no value from
/// the request.
pub fn problem(refusal: Refusal, status: u16, detail: &str, faults: &[Fault]) -> Value {
    let (of_type, title) = refusal.problem();
    json!({
        "type": of_type,
        "title": title,
        "status": status,
        "detail": detail,
        "result": refusal.result(),
        "faults": faults.iter().map(fault).collect::<Vec<_>>(),
    })
}

/// A FHIR R4 `OperationOutcome`: the faults as errors, the warnings as warnings; without either, one informational issue.
pub fn operation_outcome(faults: &[Fault], warnings: &[Fault]) -> Value {
    let errors = faults.iter().map(|fault| issue("error", fault));
    let mut issues: Vec<Value> = errors.chain(warnings.iter().map(|fault| issue("warning", fault))).collect();
    if issues.is_empty() {
        issues.push(json!({
            "severity": "information",
            "code": Issue::Informational.code(),
            "details": {"text": "No issues were found."},
        }));
    }
    json!({"resourceType": "OperationOutcome", "issue": issues})
}

fn issue(severity: &str, fault: &Fault) -> Value {
    let mut issue = json!({
        "severity": severity,
        "code": fault.code.code(),
        "details": {"text": fault.rule},
        "diagnostics": fault.remedy,
    });
    // `$` is no FHIRPath; an issue without an expression is about the whole message.
    if fault.path != "$" {
        issue["expression"] = json!([fault.path]);
    }
    issue
}

fn fault(fault: &Fault) -> Value {
    json!({"path": fault.path, "rule": fault.rule, "remedy": fault.remedy})
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
