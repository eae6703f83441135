//! What `Condition` resources say: which conditions of the schema are present.

use super::fault::{Findings, Issue};
use super::message::{Message, Shape};
use super::node::{Node, says_absent};
use super::observation::coded;
use crate::domain::Clinical;
use crate::schema::{self, FEATURE_COUNT, Feature};

/// Sets every condition: present or absent as said, absent if the message speaks of conditions and not of this one, missing if it does
/// not speak of conditions at all or says that the status is unknown. Codes that two features share set the first, then the second.
pub(super) fn read(message: &Message<'_>, findings: &mut Findings, clinical: &mut Clinical) {
    if !message.speaks_of_conditions {
        return;
    }
    // Outer: was it mentioned? Inner: present, absent or unknown.
    let mut heard: [Option<Option<f64>>; FEATURE_COUNT] = [None; FEATURE_COUNT];
    for condition in message.conditions.iter().map(|resource| &resource.node) {
        if is_withdrawn(&condition.get("verificationStatus")) {
            continue;
        }
        message.check_subject(condition, findings);
        let features = named(condition, message.shape, findings);
        let Some(last) = features.last() else { continue };
        let Some(status) = clinical_status(condition, findings) else { continue };
        let free = features.iter().find(|feature| heard[**feature as usize].is_none());
        if free.is_none() {
            let rule = "is given more than once; present counts over absent";
            findings.warn(condition.path(), Issue::Duplicate, rule, "Send each condition once.");
        }
        let slot = &mut heard[*free.unwrap_or(last) as usize];
        // `None < Some(0.0) < Some(1.0)`: what is known counts over what is not, present over absent.
        *slot = match *slot {
            Some(before) if before > status => Some(before),
            _ => Some(status),
        };
    }
    for feature in Feature::conditions() {
        clinical.set(feature, heard[feature as usize].unwrap_or(Some(0.0)));
    }
}

/// The condition's feature, or both that share its code. One that the schema does not know is a warning.
fn named(condition: &Node<'_>, shape: Shape, findings: &mut Findings) -> Vec<Feature> {
    let mut features = coded(condition, shape);
    features.retain(|feature| matches!(feature.spec().shape, schema::Shape::Condition));
    let place = condition.get("code");
    let Some(code) = features.first().and_then(|feature| feature.spec().code) else {
        let rule = "is no condition that is known here; the condition was left out";
        findings.warn(place.path(), Issue::NotSupported, rule, "Nothing, or use a SNOMED CT code of docs/fhir.md.");
        return Vec::new();
    };
    if features.iter().any(|feature| feature.spec().code != Some(code)) {
        let rule = "must not name two different conditions";
        findings.fault(place.path(), Issue::CodeInvalid, rule, "Send a condition for each.");
        return Vec::new();
    }
    features
}

/// Has the sender taken the condition back?
fn is_withdrawn(verification: &Node<'_>) -> bool {
    let is_back = |word: Option<&str>| matches!(word, Some("entered-in-error" | "refuted"));
    is_back(verification.word()) || verification.get("coding").list().iter().any(|coding| is_back(coding.get("code").word()))
}

/// Present (1), absent (0) or unknown (`None`) by `clinicalStatus`, a string up to STU3, a `CodeableConcept` in R4. The outer `None` is a
/// fault. The ancestor counted everything but `resolved` as present, `inactive` and `remission` too.
fn clinical_status(condition: &Node<'_>, findings: &mut Findings) -> Option<Option<f64>> {
    let status = condition.get("clinicalStatus");
    if says_absent(&status) || says_absent(&condition.get("_clinicalStatus")) {
        return Some(None);
    }
    let coding = status.get("coding").list().into_iter().find(|coding| {
        let system = coding.get("system");
        system.is_absent() || system.word().is_some_and(|system| system.ends_with("condition-clinical"))
    });
    let word = match status.value() {
        serde_json::Value::Null => {
            let rule = "is not there; the condition was read as present";
            findings.warn(status.path(), Issue::Required, rule, "Send active, or resolved if it is over.");
            return Some(Some(1.0));
        }
        serde_json::Value::String(_) => status.word(),
        _ => coding.as_ref().and_then(|coding| coding.get("code").word()),
    };
    match word {
        Some("active" | "recurrence" | "relapse") => Some(Some(1.0)),
        Some("inactive" | "remission" | "resolved") => Some(Some(0.0)),
        _ => {
            let rule = "must be active, recurrence, relapse, inactive, remission or resolved";
            findings.fault(status.path(), Issue::CodeInvalid, rule, "Use a code of FHIR's condition-clinical.");
            None
        }
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
