//! The clock, beside those of whoever was asked.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::Finding;

/// Seconds from which on tokens are refused, and from which on it is worth a look.
const FAILED_SECONDS: i64 = 300;
const WARNING_SECONDS: i64 = 30;

/// What the others' clocks said: who, and how many seconds ahead of ours.
#[derive(Debug, Default)]
pub(super) struct Clocks(Mutex<Vec<(String, i64)>>);

impl Clocks {
    /// Notes the time that `who` just told.
    pub(super) fn note(&self, who: &str, told: DateTime<Utc>) {
        let ahead = (told - crate::cli::now()).num_seconds();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((who.to_owned(), ahead));
    }

    /// Notes an answer's `Date`, if it has one.
    pub(super) fn note_date(&self, who: &str, date: Option<&str>) {
        if let Some(told) = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()) {
            self.note(who, told.to_utc());
        }
    }
}

/// Judges by whoever is furthest away; `failed` says that one who was asked did not answer.
pub(super) fn judge(clocks: &Clocks, failed: bool) -> Finding {
    const PART: &str = "clock";
    const REMEDY: &str = "set this machine's clock by NTP; tokens and signatures are refused when it is minutes off";
    let told = clocks.0.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((_, furthest)) = told.iter().max_by_key(|(_, ahead)| ahead.abs()) else {
        return match failed {
            true => Finding::warning(PART, "nobody who was asked told the time", "see the lines that failed"),
            false => Finding::not_configured(PART, "nobody outside this machine is configured to compare it with"),
        };
    };
    let words: Vec<String> = told.iter().map(|(who, ahead)| format!("{who} is {}", offset(*ahead))).collect();
    let found = words.join(", ");
    match furthest.abs() {
        FAILED_SECONDS.. => Finding::failed(PART, found, REMEDY),
        WARNING_SECONDS.. => Finding::warning(PART, found, REMEDY),
        _ => Finding::ok(PART, found),
    }
}

fn offset(ahead: i64) -> String {
    match ahead {
        -1..=1 => "within a second".into(),
        2.. => format!("{ahead} s ahead of this machine"),
        _ => format!("{} s behind this machine", -ahead),
    }
}

#[cfg(test)]
mod tests {
    use chrono::Duration;

    use super::*;
    use crate::cli::doctor::State;

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much() {
        for (seconds, state) in [(0, State::Ok), (-20, State::Ok), (45, State::Warning), (-400, State::Failed)] {
            let clocks = Clocks::default();
            clocks.note("near", crate::cli::now());
            clocks.note("far", crate::cli::now() + Duration::seconds(seconds));
            assert_eq!(judge(&clocks, false).state, state, "{seconds}");
        }
        let clocks = Clocks::default();
        clocks.note_date("server", Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        clocks.note_date("nobody", Some("soon"));
        let finding = judge(&clocks, false);
        assert!(finding.state == State::Failed && finding.found.contains("server is") && !finding.found.contains("nobody"));
        assert_eq!(judge(&Clocks::default(), false).state, State::NotConfigured);
        assert_eq!(judge(&Clocks::default(), true).state, State::Warning);
    }
}
