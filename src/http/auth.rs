//! Who calls: the headers that say so, and what is told of a call without a caller. `sign_in` judges them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use warp::http::HeaderMap;
use warp::http::header::AUTHORIZATION;

use super::App;
use crate::domain::Caller;
use crate::sign_in::{Presented, Refused, Told};

const PRINCIPAL: &str = "x-ms-client-principal";
const PRINCIPAL_ID: &str = "x-ms-client-principal-id";
const PRINCIPAL_PROVIDER: &str = "x-ms-client-principal-idp";
const FORWARDED_FOR: &str = "x-forwarded-for";
/// A GUID in its usual form.
const GUID_CHARS: usize = 36;
pub(super) const INVOCATION: &str = "x-azure-functions-invocationid";
/// The id that the host gave this call, or a new one. The host's are GUIDs; other words are somebody else's.
pub(super) fn correlation(headers: &HeaderMap) -> String {
    let given = headers.get(INVOCATION).and_then(|value| value.to_str().ok());
    let guid = given.filter(|id| id.len() == GUID_CHARS).and_then(|id| uuid::Uuid::try_parse(id).ok());
    guid.unwrap_or_else(uuid::Uuid::new_v4).to_string()
}

/// The address that the front end saw: it adds its own word at the end of what the caller may have sent.
fn origin(headers: &HeaderMap) -> String {
    let seen = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok()?.rsplit(',').next());
    let address = seen.map(str::trim).and_then(|text| {
        let plain = text.parse::<IpAddr>().ok();
        plain.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
    });
    address.map(|address| address.to_string()).unwrap_or_default()
}

/// A call that has no caller.
pub(super) struct NoCaller {
    /// Why.
    pub(super) refused: Refused,
    /// How long its origin, which failed too often, is only glanced at; `None` if it did not, or if the caller need only sign in.
    pub(super) wait: Option<Duration>,
}

/// The caller of an API call at `path`, a route's.
///
/// # Errors
/// Why it has none. It is told to operators here.
pub(super) async fn caller(app: &App, headers: &HeaderMap, path: &'static str) -> Result<Caller, NoCaller> {
    let all = |name: &str| headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
    let presented = Presented {
        authorizations: all(AUTHORIZATION.as_str()),
        principals: all(PRINCIPAL),
        principal_ids: all(PRINCIPAL_ID),
        principal_providers: all(PRINCIPAL_PROVIDER),
    };
    let correlation = correlation(headers);
    // Elsewhere no front end has put it there, and every call is this machine's.
    let origin = if app.hospital.config.in_azure { origin(headers) } else { String::new() };
    let (at, now) = (Instant::now(), (app.now)());
    let wait = app.sign_in.failures().glanced_at(&origin, at);
    let glance = if wait.is_some() { app.sign_in.glance(&presented, now) } else { Ok(()) };
    let caller = match glance {
        Ok(()) => app.sign_in.caller(&presented, correlation.clone(), now).await,
        Err(refused) => Err(refused),
    };
    caller.map(|caller| Caller { origin: origin.clone(), ..caller }).map_err(|refused| {
        tell(app, refused, &origin, &correlation, path, at);
        // That the issuer is away is not the origin's failure; and without a look at a key it is known who need only sign in (again).
        let plain = matches!(refused, Refused::KeysAway | Refused::Nothing | Refused::Expired | Refused::NotYet);
        NoCaller { refused, wait: wait.filter(|_| !plain) }
    })
}

/// An event that an alert rule can match. A flood of failures of one reason becomes one line, and one more that sums it up.
fn tell(app: &App, refused: Refused, origin: &str, correlation: &str, path: &str, at: Instant) {
    let (told, before) = app.sign_in.failures().note(refused, origin, at);
    if let Some(failed) = before {
        tell_sum(refused, failed);
    }
    let reason = refused.name();
    match told {
        Told::Each => tracing::warn!(event = "auth.failed", reason, origin, correlation, path, "call without a caller"),
        Told::Flood => {
            tracing::warn!(event = "auth.flood", reason, origin, "more calls without a caller come than are told one by one");
        }
        Told::Nothing => {}
    }
}

fn tell_sum(refused: Refused, failed: u64) {
    tracing::warn!(event = "auth.flood", reason = refused.name(), failed, "so many calls without a caller came within a minute");
}

/// Sums up the floods that are over.
pub(super) fn tell_sums(app: &App) {
    for (refused, failed) in app.sign_in.failures().sums(Instant::now()) {
        tell_sum(refused, failed);
    }
}

/// Takes a call from what the caller may make.
///
/// # Errors
/// How long to wait before the next one.
pub(super) fn pace(app: &App, caller: &Caller, path: &'static str) -> Result<(), Duration> {
    app.pace.take(caller, Instant::now()).map_err(|too_fast| {
        if too_fast.tell {
            let Caller { id, correlation, origin, .. } = caller;
            tracing::warn!(event = "caller.too_fast", caller = id, origin, correlation, path, "calls beyond HDAI_CALLER_RATE");
        }
        too_fast.wait
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guid_is_taken_for_the_hosts_id() {
        let mut headers = HeaderMap::new();
        let id = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
        headers.insert(INVOCATION, id.parse().unwrap());
        assert_eq!(correlation(&headers), id);
        for other in ["Smith-1970-01-01", "6f9619ff8b86d011b42d00c04fc964ff", "{6f9619ff-8b86-d011-b42d-00c04fc964}", ""] {
            headers.insert(INVOCATION, other.parse().unwrap());
            let made = correlation(&headers);
            assert!(made != other && uuid::Uuid::try_parse(&made).is_ok(), "{other}");
        }
    }

    #[test]
    fn the_origin_is_what_the_front_end_saw_and_not_what_the_caller_says() {
        let mut headers = HeaderMap::new();
        assert_eq!(origin(&headers), "");
        for (seen, expected) in [
            ("6.6.6.6, 203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::1", "::1"),
            ("1.2.3.4, smith", ""),
        ] {
            headers.insert(FORWARDED_FOR, seen.parse().unwrap());
            assert_eq!(origin(&headers), expected, "{seen}");
        }
        headers.append(FORWARDED_FOR, "198.51.100.7".parse().unwrap());
        assert_eq!(origin(&headers), "198.51.100.7");
    }
}
