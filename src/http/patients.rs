//! `GET /api/patients`: who is in the caller's facilities, and one of them.

use chrono::NaiveDate;
use serde_json::{Map, Value, json};
use warp::http::StatusCode;

use super::reads::{Parameter, parameter, refuse, wants_fhir};
use super::{ApiReply, ApiRequest, App};
use crate::codec::fhir::{patients as fhir, reply};
use crate::codec::rows::number;
use crate::domain::{Caller, EncounterId, FacilityId};
use crate::error::Result;
use crate::schema::Feature;
use crate::store::Stored;
use crate::workflow::{self, PATIENTS_MAX, PatientFilter};

/// Patients of a page when the caller asks for no number.
const PATIENTS: u32 = 50;

/// The query parameters of the list.
pub(super) const PARAMETERS: [Parameter; 6] = [
    ("facility", "string", "Only patients of this facility, by its letter."),
    ("status", "string", "`open`, who is in the hospital (the default), or `discharged`."),
    ("admitted_from", "string", "Only patients admitted on this day or later."),
    ("admitted_to", "string", "Only patients admitted on this day or before."),
    ("limit", "integer", "Patients of a page, at most 100."),
    ("cursor", "string", "The `next` of the page before, with the same filters."),
];

/// The page that the request asks for.
pub(super) async fn page(app: &App, caller: &Caller, request: &ApiRequest) -> Result<ApiReply> {
    let now = (app.now)();
    let filter = filter(request)?;
    let page = workflow::patients(caller, &app.hospital, &filter, now).await?;
    if wants_fhir(request) {
        let own = format!("/api/patients?{}", filters(&filter));
        let next = page.next.map(|next| format!("{own}&cursor={next}"));
        let pairs = page.patients.iter().map(|stored| (&stored.encounter, stored.prediction.as_ref()));
        return Ok(fhir_reply(&fhir::searchset(pairs, &own, next.as_deref())));
    }
    let today = now.date_naive();
    let patients: Vec<_> = page.patients.iter().map(|stored| shown(stored, today)).collect();
    Ok(ApiReply::json(StatusCode::OK, &json!({ "patients": patients, "next": page.next })))
}

/// One encounter.
pub(super) async fn one(app: &App, caller: &Caller, request: &ApiRequest, id: &str) -> Result<ApiReply> {
    let now = (app.now)();
    let id = id.parse().ok().and_then(EncounterId::new);
    let stored = workflow::patient(caller, &app.hospital, id, now).await?;
    if wants_fhir(request) {
        return Ok(fhir_reply(&fhir::collection(&stored.encounter, stored.prediction.as_ref())));
    }
    let mut body = shown(&stored, now.date_naive());
    let value = |feature: Feature| stored.encounter.clinical.get(feature).map_or(Value::Null, number);
    let clinical: Map<_, _> = Feature::all().map(|feature| (feature.spec().name.to_owned(), value(feature))).collect();
    body["clinical"] = Value::Object(clinical);
    body["prediction"] = json!(stored.prediction.as_ref().map(|p| reply::predicted(p, *stored.encounter.admitted.reveal())));
    Ok(ApiReply::json(StatusCode::OK, &body))
}

fn fhir_reply(bundle: &Value) -> ApiReply {
    ApiReply::text(StatusCode::OK, fhir::MEDIA_TYPE, bundle.to_string())
}

pub(super) fn filter(request: &ApiRequest) -> Result<PatientFilter> {
    let facility = request.text("facility").map(|text| FacilityId::parse(&text).ok_or_else(|| refuse("facility", "a letter")));
    let open = match request.text("status").as_deref() {
        None | Some("open") => true,
        Some("discharged") => false,
        Some(_) => return Err(refuse("status", "open or discharged")),
    };
    let day = |name: &str| parameter::<NaiveDate>(request, name, "a day such as 2026-11-22");
    let limit: u32 = parameter(request, "limit", "a whole number")?.unwrap_or(PATIENTS);
    Ok(PatientFilter {
        facility: facility.transpose()?,
        open,
        from: day("admitted_from")?,
        to: day("admitted_to")?,
        cursor: request.text("cursor"),
        limit: limit.clamp(1, PATIENTS_MAX),
    })
}

/// The filters as a query, without the cursor.
fn filters(filter: &PatientFilter) -> String {
    let status = if filter.open { "open" } else { "discharged" };
    let parts = [
        Some(format!("status={status}&limit={}", filter.limit)),
        filter.facility.map(|facility| format!("facility={facility}")),
        filter.from.map(|day| format!("admitted_from={day}")),
        filter.to.map(|day| format!("admitted_to={day}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("&")
}

fn shown(Stored { encounter, prediction }: &Stored, today: NaiveDate) -> Value {
    let prediction = prediction.as_ref();
    let so_far = encounter.discharged.reveal().unwrap_or(today) - *encounter.admitted.reveal();
    json!({
        "encounterId": encounter.id.get(),
        "name": encounter.name.display().reveal(),
        "gender": encounter.gender.fhir(),
        "facility": encounter.facility.to_string(),
        "admittedOn": encounter.admitted.reveal().to_string(),
        "dischargedOn": encounter.discharged.reveal().map(|day| day.to_string()),
        "days": so_far.num_days().max(0),
        "predictedDays": prediction.map(|p| p.days),
        "interval80": prediction.map(|p| p.interval80),
        "interval90": prediction.map(|p| p.interval90),
        "predictedDischarge": prediction.and_then(|p| reply::expected_discharge(p, *encounter.admitted.reveal())).map(|day| day.to_string()),
    })
}

/// A patient, for the documents; `whole` with what the list leaves out.
pub(super) fn schema(whole: bool) -> Value {
    let day = json!({ "type": ["string", "null"], "format": "date" });
    let interval =
        json!({ "type": ["object", "null"], "properties": { "low": { "type": "number" }, "high": { "type": "number" } } });
    let mut properties = json!({
        "encounterId": { "type": "integer" }, "name": { "type": "string" }, "gender": { "type": "string" },
        "facility": { "type": "string" }, "admittedOn": day, "dischargedOn": day,
        "days": { "type": "integer", "minimum": 0, "description": "Whole days up to today, or up to the discharge." },
        "predictedDays": { "type": ["number", "null"] }, "interval80": interval, "interval90": interval, "predictedDischarge": day,
    });
    if whole {
        properties["clinical"] = json!({ "type": "object", "additionalProperties": { "type": ["number", "null"] } });
        properties["prediction"] = json!({ "oneOf": [{ "$ref": "#/components/schemas/Prediction" }, { "type": "null" }] });
    }
    json!({ "type": "object", "properties": properties })
}

/// The list, for the documents.
pub(super) fn page_schema() -> Value {
    json!({ "type": "object", "required": ["patients", "next"], "properties": {
        "patients": { "type": "array", "items": schema(false) },
        "next": { "type": ["string", "null"], "description": "The `cursor` of the next page; null after the last." } } })
}
