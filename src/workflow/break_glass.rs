//! Break the glass: reach patients beyond one's facilities or role, for a short time, for a stated reason, and loudly.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use uuid::Uuid;

use super::Hospital;
use super::read::note;
use crate::domain::alert::BEGUN;
use crate::domain::elevation::{WORDS_CHARS_MAX, WORDS_CHARS_MIN, caller_key, marked};
use crate::domain::{Action, AuditEvent, AuditRow, Caller, Elevation, Outcome, Phi, Reason};
use crate::error::{Error, Kind, Result};
use crate::store::AuditQuery;
use crate::store::access::{Broken, EndedElevation};

/// Minutes that an elevation lasts when nobody says how long.
const MINUTES: u32 = 60;

/// Elevations that one caller may begin within 24 hours.
pub const ELEVATIONS_A_DAY_MAX: u32 = 10;

/// Most elevations, and most events of one, of one answer.
const ENTRIES_MAX: u32 = 1_000;

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Glass {
    /// It is broken from now on.
    Broken(Box<Elevation>),
    /// It was broken before, and still is: this elevation runs.
    Runs(Box<Elevation>),
}

/// Begins an elevation of the caller for `minutes`. It holds from the next call on.
///
/// # Errors
/// The caller may not; invalid, if the words are too short or too long or the time is; conflict, if the caller has had too many within a
/// day; the record is away.
pub async fn break_glass(
    caller: &Caller,
    hospital: &Hospital,
    reason: Reason,
    words: Phi<String>,
    minutes: Option<u32>,
    now: DateTime<Utc>,
) -> Result<Glass> {
    hospital.allow(caller, Action::BreakGlass, now).await?;
    let key = caller_key(&caller.id).ok_or_else(|| Error::invalid("a caller of this id cannot break the glass"))?;
    let most = hospital.config.break_glass_minutes_max;
    let minutes = minutes.unwrap_or(MINUTES.min(most));
    if !(1..=most).contains(&minutes) {
        return Err(Error::invalid(format!("minutes must be from 1 to {most}")));
    }
    let id = Uuid::new_v4().simple().to_string();
    let detail = format!("{BEGUN}{id}: {}, {minutes} minutes", reason.code());
    // It is shown on terminals, too: no line and no control of a terminal is the caller's to write.
    let plain = |word: char| if word.is_control() { ' ' } else { word };
    let words = Phi::new(words.reveal().chars().map(plain).collect::<String>().trim().to_owned());
    if !(WORDS_CHARS_MIN..=WORDS_CHARS_MAX).contains(&words.reveal().chars().count()) {
        return Err(Error::invalid(format!("text must have {WORDS_CHARS_MIN} to {WORDS_CHARS_MAX} characters: say why")));
    }
    // What was done under it is found by time, too, and the trail keeps whole microseconds.
    let from = now.trunc_subsecs(6);
    let elevation = Elevation {
        id,
        caller: key,
        roles: caller.roles.clone(),
        reason,
        words,
        from,
        until: from + TimeDelta::minutes(i64::from(minutes)),
        ended: None,
        events: 0,
    };
    let event = hospital.announced(AuditEvent::new(caller, Action::BreakGlass, Outcome::Success, now).detail(detail));
    let broken = hospital.store.break_glass(&elevation, from - TimeDelta::days(1), ELEVATIONS_A_DAY_MAX, &event).await?;
    hospital.standings.forget(&elevation.caller);
    match broken {
        Broken::Now => {
            hospital.wake_relay();
            Ok(Glass::Broken(Box::new(elevation)))
        }
        Broken::Runs(running) => Ok(Glass::Runs(running)),
        Broken::TooMany => Err(Error::conflict(format!(
            "you have broken the glass {ELEVATIONS_A_DAY_MAX} times within 24 hours: let the site administrator assign the facilities"
        ))),
    }
}

/// Ends an elevation before its time: the caller's own, or on the command line anybody's.
///
/// # Errors
/// The caller may not break the glass; not found, if no such elevation runs; the record is away.
pub async fn end_break_glass(caller: &Caller, hospital: &Hospital, id: &str, now: DateTime<Utc>) -> Result<()> {
    hospital.allow(caller, Action::BreakGlass, now).await?;
    let key = caller_key(&caller.id).unwrap_or_default();
    let holder = (!caller.is_command_line()).then_some(key.as_str());
    let known = is_id(id);
    // What is no id of ours is no word for the trail.
    let detail = if known { format!("ended {id}") } else { "ended an unknown one".to_owned() };
    let event = AuditEvent::new(caller, Action::BreakGlass, Outcome::Success, now).detail(detail);
    let ended = match known {
        true => hospital.store.end_elevation(id, holder, now, &event).await?,
        false => {
            hospital.store.append_audit(&AuditEvent { outcome: Outcome::Failure, ..event }).await?;
            EndedElevation::Unknown
        }
    };
    match (ended, holder) {
        (EndedElevation::Now, Some(holder)) => hospital.standings.forget(holder),
        (EndedElevation::Now, None) => {}
        (EndedElevation::Unknown, _) => return Err(none_of_this_id()),
    }
    Ok(())
}

/// The newest elevations, at most `limit`, without their words.
///
/// # Errors
/// The caller may not read the trail, or the record is away.
pub async fn elevations(caller: &Caller, hospital: &Hospital, limit: u32, now: DateTime<Utc>) -> Result<Vec<Elevation>> {
    note(hospital, caller, Action::ReadAudit, "list of break-glass", now).await?;
    hospital.store.elevations(limit.min(ENTRIES_MAX)).await
}

/// One elevation with its words, and the newest events that needed it, with their numbers in the trail.
///
/// # Errors
/// As [`elevations`]; not found.
pub async fn elevation(
    caller: &Caller,
    hospital: &Hospital,
    id: &str,
    now: DateTime<Utc>,
) -> Result<(Elevation, Vec<(u64, AuditRow)>)> {
    let detail = if is_id(id) { format!("text of break-glass {id}") } else { "text of an unknown break-glass".to_owned() };
    hospital.allow(caller, Action::ReadAudit, now).await?;
    let event = AuditEvent::new(caller, Action::ReadAudit, Outcome::Success, now).detail(detail);
    let found = if is_id(id) { hospital.store.elevation(id).await } else { Ok(None) };
    let outcome = if matches!(found, Ok(Some(_))) { Outcome::Success } else { Outcome::Failure };
    hospital.store.append_audit(&AuditEvent { outcome, ..event }).await?;
    let elevation = found?.ok_or_else(none_of_this_id)?;
    let events = events_under(hospital, &elevation).await?;
    Ok((elevation, events))
}

/// The events whose detail says that they needed it.
async fn events_under(hospital: &Hospital, elevation: &Elevation) -> Result<Vec<(u64, AuditRow)>> {
    let mut query = AuditQuery { from: Some(elevation.from), to: Some(elevation.until), ..AuditQuery::newest(ENTRIES_MAX) };
    let mut events = Vec::new();
    while (events.len() as u64) < elevation.events.min(u64::from(ENTRIES_MAX)) {
        let page = hospital.store.audit_page(&query).await?;
        let Some((last, _)) = page.last() else { break };
        query.before = Some(*last);
        events.extend(page.into_iter().filter(|(_, event)| marked(&event.detail) == Some(&elevation.id)));
    }
    events.truncate(ENTRIES_MAX as usize);
    Ok(events)
}

fn is_id(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn none_of_this_id() -> Error {
    Error::new(Kind::NotFound, "no break-glass of this id that you may see or end is there, or runs")
}
