//! Who calls: the headers that say so, and what is told of a call without a caller. `sign_in` judges them.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use warp::http::HeaderMap;
use warp::http::header::AUTHORIZATION;

use super::App;
use crate::domain::Caller;
use crate::sign_in::{Presented, Refused, Told};

const PRINCIPAL: &str = "x-ms-client-principal";
const FORWARDED_FOR: &str = "x-forwarded-for";
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

/// The address that the front end saw: it adds its own word at the end of what the caller may have sent.
fn origin(headers: &HeaderMap) -> String {
    let seen = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok()?.rsplit(',').next());
    let address = seen.map(str::trim).and_then(|text| {
        let plain = text.parse::<IpAddr>().ok();
        plain.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
    });
    address.map(|address| address.to_string()).unwrap_or_default()
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
    match caller {
        // Elsewhere no front end has put it there.
        Ok(caller) if app.hospital.config.in_azure => Ok(Caller { origin: origin(headers), ..caller }),
        Ok(caller) => Ok(caller),
        Err(refused) => {
            tell(app, refused, &correlation, path);
            Err(refused)
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
