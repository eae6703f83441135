//! What `Observation` resources say: the measurements of the schema, in the schema's units.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

use super::fault::{Findings, Issue};
use super::message::{Message, Shape};
use super::node::Node;
use crate::domain::Clinical;
use crate::schema::{self, FEATURE_COUNT, FEATURES, Feature, Measurement, Spec};

/// Members that may hold an observation's value besides the two that are read.
const OTHER_VALUES: [&str; 9] = [
    "valueString",
    "valueCodeableConcept",
    "valueBoolean",
    "valueRange",
    "valueRatio",
    "valueSampledData",
    "valueTime",
    "valueDateTime",
    "valuePeriod",
];

/// Sets every measurement that the message's observations give. Of several for one feature the latest counts.
pub(super) fn read(message: &Message<'_>, findings: &mut Findings, clinical: &mut Clinical) {
    let mut heard: [Option<(Option<NaiveDateTime>, f64)>; FEATURE_COUNT] = [None; FEATURE_COUNT];
    for observation in message.observations.iter().map(|resource| &resource.node) {
        if matches!(observation.get("status").text(findings), Some("entered-in-error" | "cancelled")) {
            continue;
        }
        message.check_subject(observation, findings);
        let Some((feature, measurement)) = measured(observation, message.shape, findings) else { continue };
        let Some(value) = value(observation, feature.spec(), &measurement, message.shape, findings) else { continue };
        let at = time(observation);
        let slot = &mut heard[feature as usize];
        if let Some((before, _)) = slot {
            let rule = "is given more than once; the latest counts";
            findings.warn(observation.path(), Issue::Duplicate, rule, "Send one value, or effectiveDateTime with each.");
            if matches!((*before, at), (Some(before), Some(at)) if at < before) {
                continue;
            }
        }
        *slot = Some((at, value));
    }
    for feature in Feature::measurements() {
        if let Some((_, value)) = heard[feature as usize] {
            clinical.set(feature, Some(value));
        }
    }
}

/// The measurement an observation is about. One that the schema does not know is a warning.
fn measured(observation: &Node<'_>, shape: Shape, findings: &mut Findings) -> Option<(Feature, Measurement)> {
    let measurement = |feature: Feature| match feature.spec().shape {
        schema::Shape::Measurement(measurement) => Some((feature, measurement)),
        schema::Shape::Readmissions | schema::Shape::Condition => None,
    };
    let found = coded(observation, shape).into_iter().filter_map(measurement).collect::<Vec<_>>();
    match found.as_slice() {
        [only] => Some(*only),
        [] => {
            let rule = "is no measurement that is known here; the observation was left out";
            findings.warn(
                observation.get("code").path(),
                Issue::NotSupported,
                rule,
                "Nothing, or use a LOINC code of docs/fhir.md.",
            );
            None
        }
        _ => {
            let rule = "must not name two different measurements";
            findings.fault(observation.get("code").path(), Issue::CodeInvalid, rule, "Send an observation for each.");
            None
        }
    }
}

/// The features that the codings of `resource.code` name, each once, in the order of the codings. A coding counts if its system is the
/// schema's; in the blueprint's parts also one without a system (the ancestor never looked at it).
pub(super) fn coded(resource: &Node<'_>, shape: Shape) -> Vec<Feature> {
    let mut features = Vec::new();
    for coding in resource.get("code").get("coding").list() {
        let Some(code) = coding.get("code").word() else { continue };
        let system = coding.get("system");
        for feature in Feature::by_code(code) {
            let is_own = feature.spec().code.is_some_and(|own| system.word() == Some(own.system.uri()));
            let is_tolerated = shape == Shape::Blueprint && system.is_absent();
            if (is_own || is_tolerated) && !features.contains(&feature) {
                features.push(feature);
            }
        }
    }
    features
}

/// The value in the schema's unit, checked. `None` if there is none, with a fault or a warning unless the sender says that it is absent.
fn value(observation: &Node<'_>, spec: &Spec, measurement: &Measurement, shape: Shape, findings: &mut Findings) -> Option<f64> {
    let quantity = observation.get("valueQuantity");
    let integer = observation.get("valueInteger");
    if !quantity.is_absent() && !quantity.value().is_object() {
        findings.fault(quantity.path(), Issue::Structure, "must be a quantity", "Send an object with value and unit.");
        return None;
    }
    let node = if integer.is_absent() { quantity.get("value") } else { integer };
    if node.is_absent() {
        note_absence(observation, findings);
        return None;
    }
    let Some(raw) = node.value().as_f64() else {
        findings.fault(node.path(), Issue::Structure, "must be a number", "Send the value as a JSON number.");
        return None;
    };
    if !quantity.get("comparator").is_absent() {
        let rule = "is no exact value; the limit was taken for the value";
        findings.warn(quantity.get("comparator").path(), Issue::Value, rule, "Send the exact value if there is one.");
    }
    let mut value = in_own_unit(raw, &quantity, spec, measurement, shape, findings)?;
    if measurement.whole && value.is_finite() && value.fract() != 0.0 {
        value = value.round();
        findings.warn(node.path(), Issue::Value, "must be a whole number; it was rounded", "Send a whole number.");
    }
    match spec.check(value) {
        Ok(()) => Some(value),
        Err(violation) => {
            findings.fault(node.path(), Issue::Value, violation.rule, violation.remedy);
            None
        }
    }
}

fn note_absence(observation: &Node<'_>, findings: &mut Findings) {
    if let Some(other) = OTHER_VALUES.into_iter().map(|member| observation.get(member)).find(|node| !node.is_absent()) {
        findings.fault(other.path(), Issue::NotSupported, "must be valueQuantity or valueInteger", "Send the value as a quantity.");
    } else if observation.get("dataAbsentReason").is_absent() {
        let rule = "carries no value and was left out";
        findings.warn(observation.path(), Issue::Required, rule, "Send valueQuantity, or dataAbsentReason.");
    }
}

/// What a quantity's unit is to a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    /// There is none.
    Absent,
    /// The schema's, or a synonym of it.
    Own,
    /// One the schema can convert, by this factor.
    Convertible(f64),
    /// Of other measurements only: the code or the unit is wrong.
    Foreign,
    /// Not known.
    Unknown,
}

impl Unit {
    fn of(quantity: &Node<'_>, measurement: &Measurement) -> Unit {
        let spoken: Vec<Unit> = [quantity.get("code").word(), quantity.get("unit").word()]
            .into_iter()
            .flatten()
            .map(|text| Unit::classify(&text.replace(['\u{b5}', '\u{3bc}'], "u"), measurement))
            .collect();
        // The code is for machines and counts first; the unit for people helps where the code is not known.
        let known = spoken.iter().find(|unit| **unit != Unit::Unknown).or(spoken.first());
        known.copied().unwrap_or(Unit::Absent)
    }

    fn classify(text: &str, measurement: &Measurement) -> Unit {
        let owned_by = |m: &Measurement| {
            text.eq_ignore_ascii_case(m.unit) || m.unit_synonyms.iter().any(|synonym| text.eq_ignore_ascii_case(synonym))
        };
        let converted_by =
            |m: &Measurement| m.convertible.filter(|(unit, _)| text.eq_ignore_ascii_case(unit)).map(|(_, factor)| factor);
        if owned_by(measurement) {
            return Unit::Own;
        }
        if let Some(factor) = converted_by(measurement) {
            return Unit::Convertible(factor);
        }
        let is_foreign = FEATURES.iter().any(|spec| match spec.shape {
            schema::Shape::Measurement(other) => owned_by(&other) || converted_by(&other).is_some(),
            schema::Shape::Readmissions | schema::Shape::Condition => false,
        });
        if is_foreign { Unit::Foreign } else { Unit::Unknown }
    }
}

fn in_own_unit(
    raw: f64,
    quantity: &Node<'_>,
    spec: &Spec,
    measurement: &Measurement,
    shape: Shape,
    findings: &mut Findings,
) -> Option<f64> {
    let unit = measurement.unit;
    let place = quantity.get("unit");
    match Unit::of(quantity, measurement) {
        Unit::Own => Some(raw),
        Unit::Absent => {
            if !quantity.is_absent() && unit != "1" {
                findings.warn(
                    place.path(),
                    Issue::Required,
                    format!("is not there; the value was read as {unit}"),
                    "Send the unit.",
                );
            }
            Some(raw)
        }
        Unit::Convertible(factor) => {
            let converted = raw * factor;
            // The blueprint's own demo codes mg/dL values as mmol/L, and its clients' units were never looked at: in its shape a value
            // that makes sense as it stands is taken so. The sender of a Bundle means the unit, unless that makes no sense at all.
            let means_own = spec.is_plausible(raw) && (shape == Shape::Blueprint || !spec.is_plausible(converted));
            if means_own {
                let rule = format!("does not fit the value; the value was read as {unit}");
                findings.warn(place.path(), Issue::Value, rule, "Send the unit that the value is in.");
            }
            Some(if means_own { raw } else { converted })
        }
        Unit::Foreign => {
            let rule = format!("belongs to another measurement; must be {unit}; the observation was left out");
            findings.warn(place.path(), Issue::Value, rule, "Correct the code or the unit.");
            None
        }
        Unit::Unknown if spec.is_plausible(raw) => {
            findings.warn(
                place.path(),
                Issue::Value,
                format!("is not known; the value was read as {unit}"),
                "Send the value in that unit.",
            );
            Some(raw)
        }
        Unit::Unknown => {
            findings.fault(place.path(), Issue::Value, format!("must be {unit}"), "Send the value in that unit.");
            None
        }
    }
}

/// When the observation was made, in UTC, as far as its sender says; for ordering only.
fn time(observation: &Node<'_>) -> Option<NaiveDateTime> {
    let text = observation.get("effectiveDateTime").word().or_else(|| observation.get("effectiveInstant").word())?;
    match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Some(at.naive_utc()),
        Err(_) => NaiveDate::parse_from_str(text.get(..10)?, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN)),
    }
}

#[cfg(test)]
#[path = "observation_tests.rs"]
mod tests;
