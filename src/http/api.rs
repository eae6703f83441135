//! The API's operations: a request in, an answer out.

use chrono::SecondsFormat;
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::auth::NoCaller;
use super::body::Budget;
use super::calls::Seat;
use super::routes::{self, Found, Operation, Route};
use super::{ApiReply, ApiRequest, App, access, audit, auth, openapi, problem, reads};
use crate::codec::fhir::reply::{self, Refusal};
use crate::codec::fhir::{self, Shape};
use crate::domain::import::ImportId;
use crate::domain::model::ModelRecord;
use crate::domain::{Caller, Role};
use crate::error::{Error, Kind, Result};
use crate::workflow::{self, Admission, Departure};

/// Days ahead that the census looks for discharges when the caller names none, or may name none.
const CENSUS_DAYS: u64 = 3;
/// Media types of a message. A body without one is taken for JSON.
const JSON_TYPES: [&str; 4] = ["application/json", "application/fhir+json", "text/json", "application/json+fhir"];

/// A call that its head lets in.
pub(super) struct Entered {
    route: &'static Route,
    /// What stands for `{id}`.
    id: String,
    /// `None` where the route is open to anyone.
    caller: Option<Caller>,
    /// The caller's, until the call is done.
    seat: Option<Seat>,
}

impl Entered {
    /// Whether the body says something.
    pub(super) fn takes_body(&self) -> bool {
        self.route.method != "GET"
    }

    /// What of `budget` the body may use.
    pub(super) fn share_of(&self, budget: &Budget) -> Option<Budget> {
        Some(self.seat.as_ref()?.within(budget))
    }

    /// The route's path.
    pub(super) fn path(&self) -> &'static str {
        self.route.path
    }
}

/// Judges a call by all but its body: is there something at its path, who calls, may they, and do they call too often?
///
/// # Errors
/// The answer. A refusal by role has its audit event.
pub(super) async fn enter(app: &App, request: &ApiRequest) -> Result<Entered, ApiReply> {
    let (route, id) = match routes::find(&request.method, &request.path) {
        Found::Route(route, id) => (route, id.unwrap_or_default().to_owned()),
        Found::Method(allowed) => return Err(problem::method_not_allowed(&allowed)),
        Found::Nothing => {
            return Err(problem::not_found("there is nothing at this path: GET /api/openapi.json lists what there is"));
        }
    };
    if matches!(route.operation, Operation::Health | Operation::OpenApi) {
        return Ok(Entered { route, id, caller: None, seat: None });
    }
    let shape = shape_for_refusal(request);
    let caller = match auth::caller(app, &request.headers, route.path).await {
        Ok(caller) => caller,
        Err(NoCaller { refused, wait: None }) => return Err(problem::unknown_caller(shape, refused)),
        Err(NoCaller { refused, wait: Some(wait) }) => {
            return Err(problem::too_many(shape, refused.words(), wait).with("www-authenticate", refused.challenge()));
        }
    };
    let Some(seat) = app.calls.take(&caller) else {
        return Err(problem::too_many(shape, "too many of your calls are under way: wait for their answers", problem::SHORTLY));
    };
    if let Err(wait) = auth::pace(app, &caller, route.path) {
        return Err(problem::too_many(shape, "you call faster than this app allows: slow down", wait));
    }
    let caller = match app.hospital.elevated(caller, (app.now)()).await {
        Ok(caller) => caller,
        Err(error) => {
            tracing::warn!(path = route.path, %error, "nobody can tell what the caller may reach");
            return Err(problem::message_error(shape, &error));
        }
    };
    if let Some(action) = route.action
        && let Err(error) = app.hospital.allow(&caller, action, (app.now)()).await
    {
        log(&caller, route.path, &error);
        return Err(if is_message(route) { problem::message_error(shape, &error) } else { problem::of(&error) });
    }
    if is_message(route)
        && let Some(media_type) = request.media_type()
        && !JSON_TYPES.contains(&media_type.as_str())
    {
        let detail = "send the message as application/json or application/fhir+json";
        return Err(problem::message(Shape::Blueprint, StatusCode::UNSUPPORTED_MEDIA_TYPE, Refusal::BadRequest, detail, &[]));
    }
    Ok(Entered { route, id, caller: Some(caller), seat: Some(seat) })
}

fn is_message(route: &Route) -> bool {
    matches!(route.operation, Operation::Admit | Operation::Discharge)
}

/// Does what a call asks for.
pub(super) async fn carry_out(app: &App, entered: &Entered, request: &ApiRequest) -> ApiReply {
    let Entered { route, id, caller, .. } = entered;
    let Some(caller) = caller else {
        return match route.operation {
            Operation::OpenApi => ApiReply::json(StatusCode::OK, &openapi::document()),
            _ => health(),
        };
    };
    let answered = match route.operation {
        Operation::Admit => return admission_reply(app, caller, &request.body).await,
        Operation::Discharge => return discharge_reply(app, caller, &request.body).await,
        Operation::Me
        | Operation::Assignments
        | Operation::Assign
        | Operation::Unassign
        | Operation::BreakGlass
        | Operation::EndBreakGlass
        | Operation::Elevations
        | Operation::Elevation => access::answer(app, caller, request, route.operation, id).await,
        Operation::Patients | Operation::Patient | Operation::Predictions | Operation::Rows => {
            reads::answer(app, caller, request, route.operation, id).await
        }
        operation => read(app, caller, request, operation, id).await.map(|body| ApiReply::json(StatusCode::OK, &body)),
    };
    answered.unwrap_or_else(|error| {
        log(caller, route.path, &error);
        if reads::answers_fhir(route.operation) && reads::wants_fhir(request) {
            problem::message_error(Shape::FhirBundle, &error)
        } else {
            problem::of(&error)
        }
    })
}

fn health() -> ApiReply {
    ApiReply::json(StatusCode::OK, &json!({ "status": "up", "version": env!("CARGO_PKG_VERSION") }))
}

fn log(caller: &Caller, path: &str, error: &Error) {
    // The trail holds that there are more.
    if error.kind() == Kind::TooMany {
        return;
    }
    tracing::warn!(correlation = caller.correlation, path, kind = ?error.kind(), %error, "call refused");
}

fn shape_for_refusal(request: &ApiRequest) -> Shape {
    // Whoever is refused does not make us parse; the media type says enough.
    match request.media_type().as_deref() {
        Some("application/fhir+json") => Shape::FhirBundle,
        _ => Shape::Blueprint,
    }
}

const RULES_BROKEN: &str = "the message breaks rules: each fault names its place, its rule and its remedy";

/// Admits the patient of a message.
pub async fn admission_reply(app: &App, caller: &Caller, body: &[u8]) -> ApiReply {
    let now = (app.now)();
    if let Err(error) = app.hospital.allow(caller, crate::domain::Action::Admit, now).await {
        return problem::message_error(fhir::shape_of(body), &error);
    }
    let facilities = match app.hospital.store.facilities().await {
        Ok(facilities) => facilities.into_iter().map(|facility| facility.id).collect::<Vec<_>>(),
        Err(error) => return failed(caller, body, &error),
    };
    let message = match fhir::admission(body, &facilities) {
        Ok(message) => message,
        Err(faults) => return faulty(app, caller, crate::domain::Action::Admit, body, &faults).await,
    };
    let shape = message.shape;
    let refuse = |status, refusal, detail| problem::message(shape, status, refusal, detail, &[]);
    match workflow::admit(caller, &app.hospital, message.encounter, now).await {
        Ok(Admission::New(stored)) => {
            let body = reply::admitted(&stored.encounter, stored.prediction.as_ref(), &message.warnings);
            ApiReply::json(StatusCode::CREATED, &body)
        }
        Ok(Admission::Repeated(stored)) => {
            let body = reply::admitted(&stored.encounter, stored.prediction.as_ref(), &message.warnings);
            ApiReply::json(StatusCode::OK, &body)
        }
        Ok(Admission::Conflict) => {
            refuse(StatusCode::CONFLICT, Refusal::InvalidEncounterId, "another encounter has this id: use a new encounter id")
        }
        Ok(Admission::InFuture) => refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::BadRequest,
            "the day of admission lies in the future: admit the patient on the day",
        ),
        Err(error) => failed(caller, body, &error),
    }
}

/// Discharges the patient of a message.
pub async fn discharge_reply(app: &App, caller: &Caller, body: &[u8]) -> ApiReply {
    let now = (app.now)();
    if let Err(error) = app.hospital.allow(caller, crate::domain::Action::Discharge, now).await {
        return problem::message_error(fhir::shape_of(body), &error);
    }
    let message = match fhir::discharge(body) {
        Ok(message) => message,
        Err(faults) => return faulty(app, caller, crate::domain::Action::Discharge, body, &faults).await,
    };
    let shape = message.shape;
    let refuse = |status, refusal, detail| problem::message(shape, status, refusal, detail, &[]);
    match workflow::discharge(caller, &app.hospital, message.id, message.on, now).await {
        Ok(Departure::New(stored) | Departure::Repeated(stored)) => {
            let body = reply::discharged(&stored.encounter, stored.prediction.as_ref(), &message.warnings);
            ApiReply::json(StatusCode::OK, &body)
        }
        Ok(Departure::Unknown) => {
            let detail = "no open encounter with this id in your facilities: admit the patient first, or look at the id";
            refuse(StatusCode::NOT_FOUND, Refusal::InvalidEncounterId, detail)
        }
        Ok(Departure::Conflict) => refuse(
            StatusCode::CONFLICT,
            Refusal::InvalidEncounterId,
            "the encounter was discharged on another day: a discharge is not changed by a second one",
        ),
        Ok(Departure::BeforeAdmission) => refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::BadRequest,
            "the day of discharge lies before the admission: correct encounter.period.end",
        ),
        Ok(Departure::TooLong) => refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::BadRequest,
            "the stay would be longer than ten years: correct encounter.period.end, or the admission",
        ),
        Ok(Departure::InFuture) => refuse(
            StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::BadRequest,
            "the day of discharge lies in the future: discharge the patient on the day",
        ),
        Err(error) => failed(caller, body, &error),
    }
}

/// A message that cannot be read still leaves its audit event.
async fn faulty(app: &App, caller: &Caller, action: crate::domain::Action, body: &[u8], faults: &[fhir::Fault]) -> ApiReply {
    if let Err(error) = workflow::refuse_message(caller, &app.hospital, action, (app.now)()).await {
        return failed(caller, body, &error);
    }
    problem::message(fhir::shape_of(body), StatusCode::BAD_REQUEST, Refusal::BadRequest, RULES_BROKEN, faults)
}

fn failed(caller: &Caller, body: &[u8], error: &Error) -> ApiReply {
    log(caller, "message", error);
    problem::message_error(fhir::shape_of(body), error)
}

async fn read(app: &App, caller: &Caller, request: &ApiRequest, operation: Operation, id: &str) -> Result<Value> {
    let (hospital, now) = (&app.hospital, (app.now)());
    let limit = request.limit();
    let import_id = ImportId(id.to_owned());
    Ok(match operation {
        Operation::Imports => {
            let imports = workflow::imports(caller, hospital, limit, now).await?;
            json!({ "imports": imports.iter().map(|import| workflow::receipt(hospital, import)).collect::<Result<Vec<_>>>()? })
        }
        Operation::Import => workflow::receipt(hospital, &workflow::import_entry(caller, hospital, &import_id, now).await?)?,
        Operation::Rejects => {
            let after = request.number("after").unwrap_or(0);
            let rejects = workflow::rejects(caller, hospital, &import_id, after, limit, now).await?;
            json!({ "rejects": rejects.iter().map(|reject| json!({
                "line": reject.line, "column": reject.column, "rule": reject.rule, "remedy": reject.remedy,
            })).collect::<Vec<_>>() })
        }
        Operation::Census => census(app, caller, request.number("days").unwrap_or(CENSUS_DAYS)).await?,
        Operation::Anomalies => {
            let survey = workflow::anomalies(caller, hospital, limit, now).await?;
            workflow::survey_report(survey.as_ref(), cell_min(app, caller))
        }
        Operation::Totals => {
            let totals = workflow::totals(caller, hospital, now).await?;
            json!({ "encounters": totals.encounters, "discharged": totals.discharged, "admitted": totals.admitted })
        }
        Operation::Models => {
            let models = workflow::models(caller, hospital, limit, now).await?;
            json!({ "models": models.iter().map(model).collect::<Vec<_>>() })
        }
        Operation::Champion => champion(&workflow::champion_report(caller, hospital, now).await?),
        Operation::Audit => audit::page(app, caller, request, limit).await?,
        _ => Value::Null,
    })
}

/// Whoever does not care for the patients themselves gets no small counts.
fn cell_min(app: &App, caller: &Caller) -> u64 {
    if caller.roles.contains(&Role::CareLineManager) { 0 } else { app.hospital.config.cell_min }
}

/// Beds and patients.
async fn census(app: &App, caller: &Caller, days_ahead: u64) -> Result<Value> {
    let cell_min = cell_min(app, caller);
    // Two windows that differ by a day would show by their difference what is suppressed.
    let days_ahead = if cell_min == 0 { days_ahead } else { CENSUS_DAYS };
    let cell = |count: u64| (count == 0 || count >= cell_min).then_some(count);
    let census = workflow::census(caller, &app.hospital, days_ahead, (app.now)()).await?;
    let facilities = census.iter().map(|row| {
        json!({
            "facility": row.facility.id.to_string(), "name": row.facility.name, "capacity": row.facility.capacity,
            "occupied": cell(row.occupied),
            // Of whom a part leaves soon is asked of /api/predictions, which withholds it day by day: a sum would undo that.
            "expectedDischarges": (cell_min == 0).then_some(row.expected_discharges),
            "dischargedToday": cell(row.discharged_today),
        })
    });
    Ok(json!({ "daysAhead": days_ahead.min(30), "suppressedBelow": cell_min, "facilities": facilities.collect::<Vec<_>>() }))
}

fn model(record: &ModelRecord) -> Value {
    json!({
        "version": record.version,
        "trained": record.trained.to_rfc3339_opts(SecondsFormat::Millis, true),
        "rows": record.rows,
        "schemaFingerprint": record.schema_fingerprint,
        "promoted": record.promoted,
        "reason": record.reason,
    })
}

fn champion(record: &ModelRecord) -> Value {
    let mut body = model(record);
    body["report"] = serde_json::from_str(&record.metrics).unwrap_or(Value::Null);
    body
}
