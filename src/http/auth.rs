//! Who calls: the headers that say so, and what is told of a call without a caller. `sign_in` judges them.

use std::time::Instant;

use warp::http::HeaderMap;
use warp::http::header::AUTHORIZATION;

use super::App;
use crate::domain::Caller;
use crate::sign_in::{Presented, Refused, Told};

const PRINCIPAL: &str = "x-ms-client-principal";
const INVOCATION: &str = "x-azure-functions-invocationid";
/// Longest correlation that is read.
const ID_CHARS_MAX: usize = 128;

/// The id that the host gave this call, or a new one.
pub(super) fn correlation(headers: &HeaderMap) -> String {
    let given = headers.get(INVOCATION).and_then(|value| value.to_str().ok());
    match given.filter(|id| id.len() <= ID_CHARS_MAX && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')) {
        Some(id) => id.to_owned(),
        None => uuid::Uuid::new_v4().to_string(),
    }
}

/// The caller of an API call at `path`, a route's.
///
/// # Errors
/// Why it has none. It is told to operators here.
pub(super) async fn caller(app: &App, headers: &HeaderMap, path: &'static str) -> Result<Caller, Refused> {
    let presented = Presented {
        authorizations: headers.get_all(AUTHORIZATION).iter().map(|value| value.as_bytes()).collect(),
        principals: headers.get_all(PRINCIPAL).iter().map(|value| value.as_bytes()).collect(),
    };
    let correlation = correlation(headers);
    let caller = app.sign_in.caller(&presented, correlation.clone(), (app.now)()).await;
    if let Err(refused) = &caller {
        tell(app, *refused, &correlation, path);
    }
    caller
}

/// An event that an alert rule can match. A flood of failures becomes one line, and one more that sums it up.
fn tell(app: &App, refused: Refused, correlation: &str, path: &str) {
    let (told, before) = app.sign_in.failures().note(Instant::now());
    if let Some(failed) = before {
        tracing::warn!(event = "auth.flood", failed, "so many calls without a caller came in the minute before the last lull");
    }
    match told {
        Told::Each => tracing::warn!(event = "auth.failed", reason = refused.name(), correlation, path, "call without a caller"),
        Told::Flood => tracing::warn!(event = "auth.flood", "more calls without a caller come than are told one by one"),
        Told::Nothing => {}
    }
}
