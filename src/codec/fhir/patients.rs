//! Patients who are read, as FHIR R4: a searchset Bundle of many, a collection Bundle of one.

use serde_json::{Value, json};

use super::encode::{Dialect, admitted, conditions, observations, patient};
use super::reply::expected_discharge;
use super::{BASE_URL, FHIR_JSON};
use crate::domain::{Encounter, Interval, Prediction};

/// Media type of the answers.
pub const MEDIA_TYPE: &str = FHIR_JSON;

/// A page: for each encounter its Patient, the match, with the Encounter and, if there is a prediction, a `RiskAssessment`. `own` and `next` are the
/// addresses of this page and of the next one.
pub fn searchset<'a>(page: impl Iterator<Item = (&'a Encounter, Option<&'a Prediction>)>, own: &str, next: Option<&str>) -> Value {
    let mut entries = Vec::new();
    for (encounter, prediction) in page {
        let included = [Some(stay(encounter)), prediction.map(|prediction| risk(encounter, prediction))];
        entries.push(entry(patient(encounter, &subject(encounter)), "match"));
        entries.extend(included.into_iter().flatten().map(|resource| entry(resource, "include")));
    }
    let links = [Some(("self", own)), next.map(|next| ("next", next))];
    let links: Vec<_> = links.into_iter().flatten().map(|(relation, url)| json!({"relation": relation, "url": url})).collect();
    json!({"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries})
}

/// One encounter with all that is known of it.
pub fn collection(encounter: &Encounter, prediction: Option<&Prediction>) -> Value {
    let id = subject(encounter);
    let mut resources = vec![patient(encounter, &id), stay(encounter)];
    resources.extend(observations(encounter, &id));
    resources.extend(conditions(encounter, Dialect::R4, &id));
    resources.extend(prediction.map(|prediction| risk(encounter, prediction)));
    let entries = resources.into_iter().map(|resource| json!({"fullUrl": full_url(&resource), "resource": resource}));
    json!({"resourceType": "Bundle", "type": "collection", "entry": entries.collect::<Vec<_>>()})
}

fn subject(encounter: &Encounter) -> String {
    format!("admission-{}", encounter.id.get())
}

fn entry(resource: Value, mode: &str) -> Value {
    json!({"fullUrl": full_url(&resource), "resource": resource, "search": {"mode": mode}})
}

fn full_url(resource: &Value) -> String {
    let part = |name: &str| resource[name].as_str().unwrap_or_default();
    format!("{BASE_URL}/{}/{}", part("resourceType"), part("id"))
}

fn stay(encounter: &Encounter) -> Value {
    let mut resource = admitted(encounter, Dialect::R4);
    if let Some(day) = *encounter.discharged.reveal() {
        resource["status"] = json!("finished");
        resource["period"]["end"] = json!(day.to_string());
    }
    resource
}

/// The day first, then the intervals with their probabilities in percent.
fn risk(encounter: &Encounter, prediction: &Prediction) -> Value {
    let days = |value: f64| json!({"value": value, "unit": "d", "system": "http://unitsofmeasure.org", "code": "d"});
    let interval = |interval: &Interval, percent: u32| {
        json!({"outcome": {"text": "Length of stay"}, "probabilityDecimal": percent,
            "whenRange": {"low": days(interval.low), "high": days(interval.high)}})
    };
    let mut first =
        json!({"outcome": {"text": "Expected discharge"}, "rationale": format!("{} days predicted", prediction.whole_days())});
    if let Some(day) = expected_discharge(prediction, *encounter.admitted.reveal()) {
        first["whenPeriod"] = json!({"start": day.to_string(), "end": day.to_string()});
    }
    json!({
        "resourceType": "RiskAssessment",
        "id": format!("{}-r1", encounter.id.get()),
        "status": "final",
        "method": {"text": format!("model {}", prediction.model_version)},
        "subject": {"reference": format!("Patient/{}", subject(encounter))},
        "encounter": {"reference": format!("Encounter/{}", encounter.id.get())},
        "prediction": [first, interval(&prediction.interval80, 80), interval(&prediction.interval90, 90)],
    })
}
