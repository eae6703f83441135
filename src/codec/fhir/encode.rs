//! Encounters to messages, for the demo, the generator and the tests. Reading an encoded admission gives back the same encounter,
//! missing values included.

use serde_json::{Map, Value, json};

use super::{BASE_URL, CONDITION_CLINICAL_URL, DATA_ABSENT_REASON_URL, READMISSION_COUNT_URL};
use crate::domain::{Encounter, PersonName};
use crate::schema::{Feature, Measurement, READMISSIONS_TOP, Shape, Spec};

/// How statuses, ids and readmissions are written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Dialect {
    /// As the blueprint's demo writes them: numeric ids, string statuses (FHIR STU3), `returnCount`.
    Blueprint,
    /// FHIR R4.
    R4,
}

/// An admission in the blueprint's four parts, `{patient, encounter, observations, conditions}`.
///
/// A missing measurement is left out. Conditions are `active` or `resolved`; one that is missing while others are known carries
/// `_clinicalStatus` with FHIR's data-absent-reason, and if all are missing there is no `conditions` part.
pub fn encode_blueprint_admission(encounter: &Encounter) -> Value {
    let mut message = Map::new();
    message.insert("patient".into(), patient(encounter, "1"));
    message.insert("encounter".into(), admitted(encounter, Dialect::Blueprint));
    message.insert("observations".into(), Value::Array(observations(encounter, "1")));
    let conditions = conditions(encounter, Dialect::Blueprint, "1");
    if !conditions.is_empty() {
        message.insert("conditions".into(), Value::Array(conditions));
    }
    Value::Object(message)
}

/// An admission as a FHIR R4 transaction Bundle. Missing values as in [`encode_blueprint_admission`]; without any known condition there is
/// no Condition entry.
pub fn encode_bundle_admission(encounter: &Encounter) -> Value {
    let subject = format!("admission-{}", encounter.id.get());
    let resources = [patient(encounter, &subject), admitted(encounter, Dialect::R4)]
        .into_iter()
        .chain(observations(encounter, &subject))
        .chain(conditions(encounter, Dialect::R4, &subject));
    let entries = resources.map(|resource| {
        let place = [&resource["resourceType"], &resource["id"]].map(|part| part.as_str().unwrap_or_default()).join("/");
        json!({"fullUrl": format!("{BASE_URL}/{place}"), "resource": resource, "request": {"method": "PUT", "url": place}})
    });
    json!({"resourceType": "Bundle", "type": "transaction", "entry": entries.collect::<Vec<_>>()})
}

/// A discharge in the blueprint's parts, `{patient, encounter}`; `None` while the encounter is open.
pub fn encode_discharge(encounter: &Encounter) -> Option<Value> {
    let on = (*encounter.discharged.reveal())?;
    let mut closed = admitted(encounter, Dialect::Blueprint);
    closed["status"] = json!("finished");
    closed["period"]["end"] = json!(on.to_string());
    Some(json!({"patient": patient(encounter, "1"), "encounter": closed}))
}

pub(super) fn patient(encounter: &Encounter, id: &str) -> Value {
    let mut resource = json!({"resourceType": "Patient", "id": id, "active": true, "gender": encounter.gender.fhir()});
    if let Some(name) = human_name(&encounter.name) {
        resource["name"] = json!([name]);
    }
    resource
}

/// FHIR forbids empty strings: a part that is not there is left out, or `null` where it holds the place of the first given name.
fn human_name(name: &PersonName) -> Option<Value> {
    let [first, middle, last] =
        [&name.first, &name.middle, &name.last].map(|part| Some(part.reveal()).filter(|part| !part.is_empty()));
    let mut human = Map::new();
    human.insert("use".into(), json!("official"));
    if let Some(last) = last {
        human.insert("family".into(), json!(last));
    }
    match (first, middle) {
        (Some(first), Some(middle)) => human.insert("given".into(), json!([first, middle])),
        (Some(first), None) => human.insert("given".into(), json!([first])),
        (None, Some(middle)) => {
            human.insert("_given".into(), json!([absent(), null]));
            human.insert("given".into(), json!([null, middle]))
        }
        (None, None) => None,
    };
    (human.len() > 1).then_some(Value::Object(human))
}

pub(super) fn admitted(encounter: &Encounter, dialect: Dialect) -> Value {
    let facility = encounter.facility.to_string();
    let class_system = match dialect {
        Dialect::Blueprint => "http://hl7.org/fhir/v3/ActCode",
        Dialect::R4 => "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    };
    let mut resource = json!({
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": class_system, "code": "IMP", "display": "inpatient encounter"},
        "period": {"start": encounter.admitted.reveal().to_string()},
        "serviceProvider": {"reference": format!("Organization/{facility}"), "display": facility},
    });
    match dialect {
        Dialect::Blueprint => {
            resource["id"] = json!(encounter.id.get());
            resource["subject"] = json!({"reference": "Patient/1"});
        }
        Dialect::R4 => {
            resource["id"] = json!(encounter.id.get().to_string());
            resource["subject"] = json!({"reference": format!("Patient/admission-{}", encounter.id.get())});
        }
    }
    if let Some(count) = encounter.clinical.get(Feature::Readmissions) {
        match dialect {
            Dialect::Blueprint if count >= READMISSIONS_TOP => resource["returnCount"] = json!("5+"),
            Dialect::Blueprint => resource["returnCount"] = json!(count.to_string()),
            Dialect::R4 => resource["extension"] = json!([{"url": READMISSION_COUNT_URL, "valueInteger": number(count)}]),
        }
    }
    resource
}

pub(super) fn observations(encounter: &Encounter, subject: &str) -> Vec<Value> {
    let known = Feature::measurements().filter_map(|feature| {
        let spec = feature.spec();
        let Shape::Measurement(measurement) = spec.shape else { return None };
        Some((spec, measurement, encounter.clinical.get(feature)?))
    });
    let write = |(at, (spec, measurement, value)): (usize, (&Spec, Measurement, f64))| {
        json!({
            "resourceType": "Observation",
            "id": format!("{}-o{}", encounter.id.get(), at + 1),
            "status": "final",
            "code": concept(spec),
            "subject": {"reference": format!("Patient/{subject}")},
            "valueQuantity": {
                "value": number(value),
                "unit": measurement.unit,
                "system": "http://unitsofmeasure.org",
                "code": measurement.unit,
            },
        })
    };
    known.enumerate().map(write).collect()
}

/// In table order, so that of two features that share a code the first is read first.
pub(super) fn conditions(encounter: &Encounter, dialect: Dialect, subject: &str) -> Vec<Value> {
    if Feature::conditions().all(|feature| encounter.clinical.get(feature).is_none()) {
        return Vec::new();
    }
    let write = |(at, feature): (usize, Feature)| {
        let mut resource = json!({
            "resourceType": "Condition",
            "id": format!("{}-c{}", encounter.id.get(), at + 1),
            "code": concept(feature.spec()),
            "subject": {"reference": format!("Patient/{subject}")},
        });
        let status = encounter.clinical.get(feature).map(|value| if value > 0.0 { "active" } else { "resolved" });
        match (dialect, status) {
            (Dialect::Blueprint, Some(status)) => {
                resource["clinicalStatus"] = json!(status);
                resource["verificationStatus"] = json!("confirmed");
            }
            (Dialect::Blueprint, None) => resource["_clinicalStatus"] = absent(),
            (Dialect::R4, Some(status)) => {
                resource["clinicalStatus"] = json!({"coding": [{"system": CONDITION_CLINICAL_URL, "code": status}]});
            }
            (Dialect::R4, None) => resource["clinicalStatus"] = absent(),
        }
        resource
    };
    Feature::conditions().enumerate().map(write).collect()
}

fn absent() -> Value {
    json!({"extension": [{"url": DATA_ABSENT_REASON_URL, "valueCode": "unknown"}]})
}

fn concept(spec: &Spec) -> Value {
    match spec.code {
        Some(code) => json!({"coding": [{"system": code.system.uri(), "code": code.code, "display": spec.label}]}),
        None => json!({"text": spec.label}),
    }
}

/// Whole numbers without a decimal point, as FHIR's `integer` wants them.
fn number(value: f64) -> Value {
    let whole = value as i64;
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(whole) } else { json!(value) }
}
