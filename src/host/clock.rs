//! The host's clock: the one place here that reads it.

use chrono::{DateTime, Utc};

#[allow(clippy::disallowed_methods, reason = "the host is an edge: leases, timers and envelopes need the time")]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}
