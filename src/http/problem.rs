//! Refusals as HTTP: the only place where an error meets a status code.

use std::time::Duration;

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::body::BodyRefused;
use super::request::ApiReply;
use crate::codec::fhir::reply::{self, Refusal};
use crate::codec::fhir::{FHIR_JSON, Fault, Issue, Shape};
use crate::error::{Error, Kind};
use crate::sign_in::Refused;

const PROBLEM_JSON: &str = "application/problem+json";
/// When a call is likely to fare better that met others under way.
pub(super) const SHORTLY: Duration = Duration::from_secs(1);

/// The status of an error.
pub(super) const fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Invalid => StatusCode::BAD_REQUEST,
        Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What the caller may read of an error: our own faults are told in the log only.
fn detail(error: &Error) -> &str {
    match error.kind() {
        Kind::Unavailable => "a part that this needs is away: try again in a few seconds",
        Kind::Internal => "the request could not be carried out; the log says why under this call's id",
        _ => error.message(),
    }
}

/// An error of a report or a trigger.
pub(super) fn of(error: &Error) -> ApiReply {
    let refusal = match error.kind() {
        Kind::Invalid | Kind::NotFound | Kind::Conflict => Refusal::BadRequest,
        Kind::Unauthenticated | Kind::Forbidden => Refusal::Unauthorized,
        Kind::TooMany => Refusal::TooMany,
        Kind::Unavailable | Kind::Internal => Refusal::Failed,
    };
    with_advice(status(error.kind()), plain(status(error.kind()), refusal, detail(error), &[]))
}

/// A refused admission or discharge: problem+json with the blueprint's word, or an `OperationOutcome` for a FHIR-shaped message.
pub(super) fn message(shape: Shape, status: StatusCode, refusal: Refusal, detail: &str, faults: &[Fault]) -> ApiReply {
    if !shape.is_fhir() {
        return with_advice(status, plain(status, refusal, detail, faults));
    }
    let outcome = if faults.is_empty() {
        let code = match status {
            StatusCode::UNAUTHORIZED => Issue::Login,
            StatusCode::FORBIDDEN => Issue::Forbidden,
            StatusCode::NOT_FOUND => Issue::NotFound,
            StatusCode::CONFLICT => Issue::Conflict,
            StatusCode::UNPROCESSABLE_ENTITY => Issue::BusinessRule,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Issue::Transient,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Issue::NotSupported,
            _ => Issue::Exception,
        };
        reply::operation_outcome(&[Fault::new("$", code, detail, "")], &[])
    } else {
        reply::operation_outcome(faults, &[])
    };
    with_advice(status, ApiReply::text(status, FHIR_JSON, outcome.to_string()))
}

/// An error of an admission or a discharge.
pub(super) fn message_error(shape: Shape, error: &Error) -> ApiReply {
    let refusal = match error.kind() {
        Kind::Invalid => Refusal::BadRequest,
        Kind::NotFound | Kind::Conflict => Refusal::InvalidEncounterId,
        Kind::Unauthenticated | Kind::Forbidden => Refusal::Unauthorized,
        Kind::TooMany => Refusal::TooMany,
        Kind::Unavailable | Kind::Internal => Refusal::Failed,
    };
    message(shape, status(error.kind()), refusal, detail(error), &[])
}

/// A call without a caller: problem+json, or an `OperationOutcome` if the media type is FHIR's.
pub(super) fn unknown_caller(shape: Shape, refused: Refused) -> ApiReply {
    let error = Error::from(refused);
    let unauthenticated = error.kind() == Kind::Unauthenticated;
    let reply = message_error(shape, &error);
    if unauthenticated { reply.with("www-authenticate", refused.challenge()) } else { reply }
}

/// Too much in a short time: the same call may be fine after `wait`.
pub(super) fn too_many(shape: Shape, detail: &str, wait: Duration) -> ApiReply {
    let mut reply = message(shape, StatusCode::TOO_MANY_REQUESTS, Refusal::TooMany, detail, &[]);
    reply.headers.retain(|(name, _)| *name != "retry-after");
    // Whole seconds, and never none.
    reply.with("retry-after", (wait.as_secs() + 1).to_string())
}

/// So many calls are under way that the rest of the connections is kept for the platform's own.
pub(super) fn crowded() -> ApiReply {
    let detail = "too many calls are under way: try again in a few seconds";
    with_advice(StatusCode::SERVICE_UNAVAILABLE, plain(StatusCode::SERVICE_UNAVAILABLE, Refusal::Failed, detail, &[]))
}

/// What is no proper call.
pub(super) fn improper(detail: &str) -> ApiReply {
    plain(StatusCode::BAD_REQUEST, Refusal::BadRequest, detail, &[]).with("connection", "close")
}

/// Nothing is there.
pub(super) fn not_found(detail: &str) -> ApiReply {
    plain(StatusCode::NOT_FOUND, Refusal::BadRequest, detail, &[])
}

/// The path is known, the method is not.
pub(super) fn method_not_allowed(allowed: &str) -> ApiReply {
    let detail = format!("this path answers {allowed} only");
    plain(StatusCode::METHOD_NOT_ALLOWED, Refusal::BadRequest, &detail, &[]).with("allow", allowed)
}

/// The body was not read.
pub(super) fn body_refused(refused: BodyRefused) -> ApiReply {
    let reply = match refused {
        BodyRefused::TooLarge(bytes_max) => {
            let detail = format!("the body is larger than {bytes_max} bytes");
            plain(StatusCode::PAYLOAD_TOO_LARGE, Refusal::BadRequest, &detail, &[])
        }
        BodyRefused::TooSlow => {
            plain(StatusCode::REQUEST_TIMEOUT, Refusal::BadRequest, "the body did not come in time: send it at once", &[])
        }
        BodyRefused::Crowded => {
            let detail = "too many bodies are under way: try again in a few seconds";
            with_advice(StatusCode::SERVICE_UNAVAILABLE, plain(StatusCode::SERVICE_UNAVAILABLE, Refusal::Failed, detail, &[]))
        }
        BodyRefused::Share => {
            too_many(Shape::Blueprint, "your calls under way carry too many bytes: wait for their answers", SHORTLY)
        }
        BodyRefused::Broken => plain(StatusCode::BAD_REQUEST, Refusal::BadRequest, "the body broke off", &[]),
    };
    // The rest of it was not read.
    reply.with("connection", "close")
}

fn plain(status: StatusCode, refusal: Refusal, detail: &str, faults: &[Fault]) -> ApiReply {
    let mut body = reply::problem(refusal, status.as_u16(), detail, faults);
    // The blueprint's discharge answered an unknown encounter under `error`; its clients look there.
    if refusal == Refusal::InvalidEncounterId
        && let Value::Object(members) = &mut body
    {
        members.insert("error".into(), json!(refusal.result()));
    }
    ApiReply::text(status, PROBLEM_JSON, body.to_string())
}

fn with_advice(status: StatusCode, reply: ApiReply) -> ApiReply {
    match status {
        // RFC 6750, section 3.1.
        StatusCode::FORBIDDEN => reply.with("www-authenticate", "Bearer realm=\"hdai\", error=\"insufficient_scope\""),
        StatusCode::SERVICE_UNAVAILABLE => reply.with("retry-after", "5"),
        StatusCode::TOO_MANY_REQUESTS => reply.with("retry-after", "60"),
        _ => reply,
    }
}
