//! Timer triggers: six-field NCRONTAB schedules in UTC, with the last run written down so that a missed one is made up for.
//! It does not retry a run that failed, as Azure does not.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike, Days, TimeDelta, Timelike, Utc};

use super::app::Function;
use super::process::stopped;
use super::{Host, clock};
use crate::codec::envelope::delivery::{self, TimerStatus};
use crate::error::{Error, Result};

/// How long to sleep at most before the clock is read again: a laptop that slept is late by no more.
const NAP_MAX: Duration = Duration::from_secs(30);
/// How far ahead a schedule is searched: every day, 29 February included, comes within eight years.
const DAYS_AHEAD: u64 = 8 * 366;

/// `{second} {minute} {hour} {day} {month} {day of week}`, each `*`, a number, a range `a-b`, a step `*/n` or `a-b/n`, or a list of these;
/// the day of the week counts from Sunday, 0. Day and day of the week must both match, as in `NCrontab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// A bit for each value.
    fields: [u64; 6],
}

const RANGES: [(u32, u32); 6] = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];

impl Schedule {
    pub(crate) fn parse(text: &str) -> Result<Schedule> {
        let fault = || {
            Error::invalid("`schedule` must have six fields (second minute hour day month weekday) of *, numbers, ranges, steps")
        };
        let parts: Vec<&str> = text.split_whitespace().collect();
        let mut fields = [0; 6];
        if parts.len() != fields.len() {
            return Err(fault());
        }
        for ((field, part), range) in fields.iter_mut().zip(parts).zip(RANGES) {
            for item in part.split(',') {
                *field |= parse_item(item, range).ok_or_else(fault)?;
            }
        }
        Ok(Schedule { fields })
    }

    /// The first moment after `now`; `None` if there is none (31 February).
    pub(crate) fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let from = now.with_nanosecond(0)?.checked_add_signed(TimeDelta::seconds(1))?;
        for ahead in 0..=DAYS_AHEAD {
            let day = from.date_naive().checked_add_days(Days::new(ahead))?;
            if !(self.has(3, day.day()) && self.has(4, day.month()) && self.has(5, day.weekday().num_days_from_sunday())) {
                continue;
            }
            let earliest = if ahead == 0 { from.num_seconds_from_midnight() } else { 0 };
            if let Some(second) = self.first_second(earliest) {
                return Some((day.and_hms_opt(0, 0, 0)? + TimeDelta::seconds(second.into())).and_utc());
            }
        }
        None
    }

    fn first_second(&self, earliest: u32) -> Option<u32> {
        (earliest / 3600..24)
            .filter(|hour| self.has(2, *hour))
            .find_map(|hour| {
                (0..60).filter(|minute| self.has(1, *minute) && (hour * 60 + minute) * 60 + 59 >= earliest).find_map(|minute| {
                    let start = (hour * 60 + minute) * 60;
                    (0..60).map(|second| (second, start + second)).find(|(second, at)| self.has(0, *second) && *at >= earliest)
                })
            })
            .map(|(_, at)| at)
    }

    fn has(&self, field: usize, value: u32) -> bool {
        self.fields[field] & (1 << value) != 0
    }
}

fn parse_item(item: &str, (low, high): (u32, u32)) -> Option<u64> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, step.parse::<u32>().ok().filter(|step| *step > 0)?),
        None => (item, 1),
    };
    let (from, to) = match range.split_once('-') {
        None if range == "*" => (low, high),
        None => {
            let value = range.parse::<u32>().ok()?;
            // NCrontab reads `5/10` as "from 5 on".
            (value, if item.contains('/') { high } else { value })
        }
        Some((from, to)) => (from.parse::<u32>().ok()?, to.parse::<u32>().ok()?),
    };
    if from < low || to > high || from > to {
        return None;
    }
    Some((from..=to).step_by(step as usize).fold(0, |bits, value| bits | (1 << value)))
}

/// Runs `function` by its schedule until the host stops.
pub(crate) async fn listen(host: Arc<Host>, function: Function, schedule: Schedule, run_on_startup: bool) {
    let mut shutdown = host.shutdown.clone();
    tokio::select! {
        () = run(&host, &function, &schedule, run_on_startup) => {}
        () = stopped(&mut shutdown) => {}
    }
}

async fn run(host: &Host, function: &Function, schedule: &Schedule, run_on_startup: bool) {
    let mut status = match host.queues.timer_status(&function.name).await {
        Ok(status) => status,
        Err(error) => {
            tracing::error!(function = function.name, "the timer's last run cannot be read: {error}");
            None
        }
    };
    let mut last = status.map_or_else(never, |status| status.last);
    // By the schedule as it is now, which may differ from the one that the status was written under.
    let missed = status.and_then(|status| schedule.next(status.updated)).is_some_and(|next| next <= clock::now());
    if missed || run_on_startup {
        last = clock::now();
        fire(host, function, status, missed).await;
    }
    loop {
        let now = clock::now();
        let Some(next) = schedule.next(now) else {
            return tracing::warn!(function = function.name, "the schedule never comes due");
        };
        status = Some(note(host, function, TimerStatus { last, next, updated: now }).await);
        while let Ok(wait) = (next - clock::now()).to_std() {
            tokio::time::sleep(wait.min(NAP_MAX)).await;
        }
        last = clock::now();
        fire(host, function, status, false).await;
    }
}

async fn note(host: &Host, function: &Function, status: TimerStatus) -> TimerStatus {
    if let Err(error) = host.queues.set_timer_status(&function.name, status).await {
        tracing::error!(function = function.name, "the timer's run cannot be written down: {error}");
    }
    status
}

pub(crate) async fn fire(host: &Host, function: &Function, status: Option<TimerStatus>, past_due: bool) {
    // The outcome is logged where the call is made; a failed run waits for the next.
    let _ = host.invoker.invoke(function, |sys| delivery::timer(sys, &function.binding, status, past_due)).await;
}

/// .NET's smallest date, which means "not yet".
fn never() -> DateTime<Utc> {
    DateTime::from_timestamp(-62_135_596_800, 0).unwrap_or(DateTime::<Utc>::MIN_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, now: &str) -> Option<String> {
        let now = DateTime::parse_from_rfc3339(now).unwrap().with_timezone(&Utc);
        Schedule::parse(schedule).unwrap().next(now).map(|next| next.format("%a %Y-%m-%d %H:%M:%S").to_string())
    }

    #[test]
    fn the_next_moment() {
        let at = |schedule, now| next(schedule, now).unwrap();
        assert_eq!(at("0 30 2 * * *", "2026-11-22T02:29:59.5Z"), "Sun 2026-11-22 02:30:00");
        assert_eq!(at("0 30 2 * * *", "2026-11-22T02:30:00Z"), "Mon 2026-11-23 02:30:00");
        assert_eq!(at("*/15 * * * * *", "2026-12-31T23:59:46Z"), "Fri 2027-01-01 00:00:00");
        assert_eq!(at("0 0 9-17/4 * * 1-5", "2026-11-20T13:00:00Z"), "Fri 2026-11-20 17:00:00");
        assert_eq!(at("0 0 9-17/4 * * 1-5", "2026-11-20T17:00:00Z"), "Mon 2026-11-23 09:00:00");
        assert_eq!(at("5,10 0 0 29 2 *", "2026-01-01T00:00:00Z"), "Tue 2028-02-29 00:00:05");
        assert_eq!(at("30 59 23 * * *", "2026-11-22T23:59:29Z"), "Sun 2026-11-22 23:59:30");
        assert_eq!(at("0 50/5 * * * *", "2026-11-22T10:52:00Z"), "Sun 2026-11-22 10:55:00");
        assert_eq!(next("0 0 0 31 2 *", "2026-01-01T00:00:00Z"), None);
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "0 30 2 * *",
            "60 * * * * *",
            "* * 24 * * *",
            "* * * 0 * *",
            "* * * * * 7",
            "*/0 * * * * *",
            "5-1 * * * * *",
            "a * * * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
