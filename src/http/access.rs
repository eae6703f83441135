//! Who the caller is, whose facilities are whose, and break-glass, as JSON.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::routes::Operation;
use super::{ApiReply, ApiRequest, App, audit};
use crate::domain::{Action, Assignment, Caller, Elevation, FacilityId, Phi, Reach, Reason, Role};
use crate::error::{Error, Kind, Result};
use crate::workflow::{self, ASSIGNMENTS_MAX, Glass};

/// Answers a call of these operations. One that cannot be understood leaves its event, too.
pub(super) async fn answer(app: &App, caller: &Caller, request: &ApiRequest, operation: Operation, id: &str) -> Result<ApiReply> {
    let answered = act(app, caller, request, operation, id).await;
    let action = match operation {
        Operation::Assign | Operation::Unassign => Action::AssignFacilities,
        _ => Action::BreakGlass,
    };
    if answered.as_ref().is_err_and(|error| error.kind() == Kind::Invalid) {
        workflow::refuse_message(caller, &app.hospital, action, (app.now)()).await?;
    }
    answered
}

async fn act(app: &App, caller: &Caller, request: &ApiRequest, operation: Operation, id: &str) -> Result<ApiReply> {
    let (hospital, now) = (&app.hospital, (app.now)());
    let limit = request.limit();
    Ok(match operation {
        Operation::Assignments => {
            let after = request.text("after").unwrap_or_default();
            let limit = limit.min(ASSIGNMENTS_MAX);
            let assignments = workflow::assignments(caller, hospital, &after, limit, now).await?;
            let next = assignments.last().filter(|_| assignments.len() as u64 >= u64::from(limit)).map(|last| &last.caller);
            done(&json!({ "assignments": assignments.iter().map(assignment).collect::<Vec<_>>(), "next": next }))
        }
        Operation::Assign => {
            hospital.allow(caller, Action::AssignFacilities, now).await?;
            let reach = facilities(&read::<NewAssignment>(request, ASSIGNMENT)?)?;
            done(&assignment(&workflow::assign(caller, hospital, id, reach, now).await?))
        }
        Operation::Unassign => {
            workflow::unassign(caller, hospital, id, now).await?;
            done(&json!({ "caller": id.to_ascii_lowercase(), "facilities": null }))
        }
        Operation::BreakGlass => {
            hospital.allow(caller, Action::BreakGlass, now).await?;
            let NewElevation { reason, text, minutes } = read(request, ELEVATION)?;
            let reason = Reason::parse(&reason).ok_or_else(|| Error::invalid(format!("reason must be one of {}", reasons())))?;
            match workflow::break_glass(caller, hospital, reason, Phi::new(text), minutes, now).await? {
                Glass::Broken(elevation) => ApiReply::json(StatusCode::CREATED, &shown(&elevation, now)),
                Glass::Runs(elevation) => done(&shown(&elevation, now)),
            }
        }
        Operation::EndBreakGlass => {
            workflow::end_break_glass(caller, hospital, id, now).await?;
            done(&json!({ "id": id, "ended": instant(now) }))
        }
        Operation::Elevations => {
            let elevations = workflow::elevations(caller, hospital, limit, now).await?;
            done(&json!({ "elevations": elevations.iter().map(|elevation| shown(elevation, now)).collect::<Vec<_>>() }))
        }
        Operation::Elevation => {
            let (elevation, events) = workflow::elevation(caller, hospital, id, now).await?;
            let mut body = shown(&elevation, now);
            body["text"] = json!(elevation.words.reveal());
            body["trail"] = events.iter().map(|(seq, event)| audit::shown(*seq, event)).collect();
            done(&body)
        }
        _ => done(&me(app, caller, now).await?),
    })
}

fn done(body: &Value) -> ApiReply {
    ApiReply::json(StatusCode::OK, body)
}

/// Who the caller is and what that allows now. It tells nobody else's, so the trail holds no event of it.
async fn me(app: &App, caller: &Caller, now: DateTime<Utc>) -> Result<Value> {
    let facilities = match caller.roles.contains(&Role::CareLineManager) || caller.elevated.is_some() {
        true => reach(&app.hospital.reach(caller, now).await?),
        false => Value::Null,
    };
    let actions = Action::ALL.iter().filter(|action| caller.may(**action)).map(|action| action.name());
    Ok(json!({
        "id": caller.id,
        "name": caller.name.as_ref().map(|name| name.reveal()),
        "tenant": caller.tenant,
        "roles": caller.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "actions": actions.collect::<Vec<_>>(),
        "facilities": facilities,
        "elevation": caller.elevated.as_ref().map(|elevated| json!({ "id": elevated.id, "until": instant(elevated.until) })),
        "proof": caller.proof.name(),
        "program": caller.program,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewAssignment {
    facilities: Facilities,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Facilities {
    All(String),
    These(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewElevation {
    reason: String,
    text: String,
    minutes: Option<u32>,
}

const ASSIGNMENT: &str = "the body must be JSON such as {\"facilities\": [\"A\", \"B\"]} or {\"facilities\": \"all\"}";
const ELEVATION: &str =
    "the body must be JSON such as {\"reason\": \"emergency-treatment\", \"text\": \"why, in your words\", \"minutes\": 60}";

/// Reads a body. What is wrong with it is not told in serde's words: they quote it.
fn read<T: for<'de> Deserialize<'de>>(request: &ApiRequest, expected: &str) -> Result<T> {
    let json = request.media_type().is_none_or(|media_type| media_type == "application/json");
    let body = if json { serde_json::from_slice(&request.body).ok() } else { None };
    body.ok_or_else(|| Error::invalid(expected))
}

fn facilities(new: &NewAssignment) -> Result<Reach> {
    match &new.facilities {
        Facilities::All(word) if word == "all" => Ok(Reach::All),
        Facilities::All(_) => Err(Error::invalid(ASSIGNMENT)),
        Facilities::These(ids) => {
            let ids: Option<Vec<FacilityId>> = ids.iter().map(|id| FacilityId::parse(id)).collect();
            ids.map(Reach::only).ok_or_else(|| Error::invalid("a facility is one letter or digit"))
        }
    }
}

fn assignment(assignment: &Assignment) -> Value {
    json!({
        "caller": assignment.caller, "facilities": reach(&assignment.reach), "assignedBy": assignment.by, "at": instant(assignment.at),
    })
}

fn reach(reach: &Reach) -> Value {
    match reach {
        Reach::All => json!("all"),
        Reach::Only(facilities) => facilities.iter().map(ToString::to_string).collect(),
    }
}

/// Without its words.
fn shown(elevation: &Elevation, now: DateTime<Utc>) -> Value {
    json!({
        "id": elevation.id,
        "caller": elevation.caller,
        "roles": elevation.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "reason": elevation.reason.code(),
        "purposeOfUse": elevation.reason.purpose_of_use(),
        "from": instant(elevation.from),
        "until": instant(elevation.until),
        "ended": elevation.ended.map(instant),
        "runs": elevation.runs(now),
        "events": elevation.events,
    })
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The codes of the reasons.
fn reasons() -> String {
    Reason::ALL.map(Reason::code).join(", ")
}
