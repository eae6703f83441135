//! What callers may ask of the handler before anybody asks who they are, and what those may who are known.

use std::time::Duration;

use crate::error::{Error, Result};

/// The limits of the HTTP edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Connections at once.
    pub connections_max: usize,
    /// Longest wait for the head of the next call on a connection.
    pub head_time_max: Duration,
    /// Longest wait until an answer is taken.
    pub answer_time_max: Duration,
    /// Bytes of bodies under way at once: of the API's calls, and as many of the triggers'.
    pub bodies_bytes_max: usize,
    /// Failed sign-ins of one origin in a minute that are looked into.
    pub failures_max: u32,
    /// Calls a second that one caller may make in the long run; 0 for any number.
    pub caller_rate: u32,
    /// Calls that one caller may make at once.
    pub caller_burst: u32,
    /// Calls of one caller that may be under way at once.
    pub caller_calls: u32,
}

/// Most of anything that is counted here.
const MOST: u64 = 1_000_000;

/// Reads the limits. `body_least`: the largest body that one call may have, in bytes.
pub(super) fn read(number: &dyn Fn(&str) -> Result<u64>, body_least: usize) -> Result<EdgeSettings> {
    let count = |name: &str, least: u64| -> Result<u32> {
        match number(name)? {
            count if (least..=MOST).contains(&count) => Ok(count as u32),
            _ => Err(Error::invalid(format!("the setting {name} must be from {least} to {MOST}"))),
        }
    };
    let bodies_bytes_max = usize::try_from(number("HDAI_BODIES_BYTES_MAX")?).unwrap_or(usize::MAX);
    if bodies_bytes_max < body_least {
        return Err(Error::invalid(
            "the setting HDAI_BODIES_BYTES_MAX must be at least HDAI_BODY_BYTES_MAX and HDAI_TRIGGER_BYTES_MAX: one body must fit",
        ));
    }
    let seconds = |name: &str| count(name, 1).map(|seconds| Duration::from_secs(seconds.into()));
    Ok(EdgeSettings {
        connections_max: count("HDAI_CONNECTIONS_MAX", 1)? as usize,
        head_time_max: seconds("HDAI_HEAD_SECONDS_MAX")?,
        answer_time_max: seconds("HDAI_ANSWER_SECONDS_MAX")?,
        bodies_bytes_max,
        failures_max: count("HDAI_FAILURES_MAX", 1)?,
        caller_rate: count("HDAI_CALLER_RATE", 0)?,
        caller_burst: count("HDAI_CALLER_BURST", 1)?,
        caller_calls: count("HDAI_CALLER_CALLS", 1)?,
    })
}
