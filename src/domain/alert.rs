//! What in the audit trail somebody should look at: rules over the events of one instance, with a short memory of each caller.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Duration, Timelike, Utc};

use super::access::{Action, Proof};
use super::audit::{AuditEvent, Outcome};

/// How long a caller's events are remembered.
const WINDOW: Duration = Duration::minutes(10);

/// Callers that are remembered; when there are more, all are forgotten.
const CALLERS_MAX: usize = 10_000;

/// What is asked of the events. Counts are of one caller, on one instance, within ten minutes; zero asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertRules {
    /// Patients' records touched.
    pub mass_access: u32,
    /// Actions refused.
    pub refusals: u32,
    /// Hours of the day, UTC, in which nobody but those who care for patients is expected: from the first, up to before the second.
    pub off_hours: Option<(u32, u32)>,
}

/// What was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// One caller touched many patients' records.
    MassAccess,
    /// One caller was refused again and again.
    Refusals,
    /// The trail was exported.
    Export,
    /// Somebody who does not care for patients was at work at an unusual hour.
    OffHours,
    /// Somebody broke the glass.
    BreakGlass,
}

impl Alert {
    /// The name of the event that an alert rule matches.
    pub const fn event(self) -> &'static str {
        match self {
            Alert::MassAccess => "alert.mass_access",
            Alert::Refusals => "alert.refusals",
            Alert::Export => "alert.export",
            Alert::OffHours => "alert.off_hours",
            Alert::BreakGlass => "alert.break_glass",
        }
    }
}

#[derive(Debug, Default)]
struct Recent {
    touched: VecDeque<DateTime<Utc>>,
    refused: VecDeque<DateTime<Utc>>,
    /// When work at an unusual hour was told of.
    unusual: Option<DateTime<Utc>>,
}

/// The rules at work.
#[derive(Debug)]
pub struct Watch {
    rules: AlertRules,
    recent: HashMap<String, Recent>,
}

impl Watch {
    /// Nothing was seen yet.
    pub fn new(rules: AlertRules) -> Self {
        Self { rules, recent: HashMap::new() }
    }

    /// Looks at the next event; answers what somebody should look at. What was told of is forgotten, so that it is told of once.
    pub fn see(&mut self, event: &AuditEvent) -> Vec<Alert> {
        let mut alerts = Vec::new();
        if event.detail == EXPORT && event.action == Action::ReadAudit {
            alerts.push(Alert::Export);
        }
        if event.action == Action::BreakGlass && event.outcome == Outcome::Success && event.detail.starts_with(BEGUN) {
            alerts.push(Alert::BreakGlass);
        }
        // The platform and the machine's own administrator work in bulk.
        if matches!(event.caller.proof, Proof::Platform | Proof::CommandLine) {
            return alerts;
        }
        let cares = matches!(event.action, Action::Admit | Action::Discharge | Action::ReadCensus | Action::ReadPatients);
        let unusual = !cares && self.rules.off_hours.is_some_and(|hours| within(hours, event.at.hour()));
        if self.recent.len() >= CALLERS_MAX && !self.recent.contains_key(&event.caller.id) {
            self.recent.clear();
        }
        let recent = self.recent.entry(event.caller.id.clone()).or_default();
        if unusual && recent.unusual.is_none_or(|told| event.at - told > WINDOW) {
            recent.unusual = Some(event.at);
            alerts.push(Alert::OffHours);
        }
        if event.encounter.is_some() && reached(&mut recent.touched, event.at, self.rules.mass_access) {
            alerts.push(Alert::MassAccess);
        }
        if event.outcome == Outcome::Refused && reached(&mut recent.refused, event.at, self.rules.refusals) {
            alerts.push(Alert::Refusals);
        }
        alerts
    }
}

/// The detail of an export's event.
pub const EXPORT: &str = "export";

/// What the detail of an elevation's first event begins with.
pub const BEGUN: &str = "begun ";

/// A span of hours may pass midnight.
const fn within((from, to): (u32, u32), hour: u32) -> bool {
    if from <= to { from <= hour && hour < to } else { from <= hour || hour < to }
}

/// Remembers `at`; is that the `most`-th within the window?
fn reached(times: &mut VecDeque<DateTime<Utc>>, at: DateTime<Utc>, most: u32) -> bool {
    if most == 0 {
        return false;
    }
    times.push_back(at);
    while times.front().is_some_and(|first| at - *first > WINDOW) {
        times.pop_front();
    }
    let reached = times.len() >= most as usize;
    if reached {
        times.clear();
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Caller, EncounterId};

    const RULES: AlertRules = AlertRules { mass_access: 3, refusals: 2, off_hours: Some((20, 6)) };

    fn by(id: &str, action: Action, minutes: i64) -> AuditEvent {
        let caller = Caller { id: id.into(), proof: Proof::Entra, ..Caller::platform("", "c") };
        AuditEvent::new(
            &caller,
            action,
            Outcome::Success,
            DateTime::<Utc>::UNIX_EPOCH + Duration::hours(9) + Duration::minutes(minutes),
        )
    }

    fn admits(id: &str, minutes: i64) -> AuditEvent {
        by(id, Action::Admit, minutes).about(EncounterId::new(1).unwrap())
    }

    #[test]
    fn many_records_of_one_caller_in_a_short_time_are_told_of_once() {
        let mut watch = Watch::new(RULES);
        let seen: Vec<_> = [0, 1, 2, 3, 4, 5].map(|minute| watch.see(&admits("ann", minute))).into();
        let told = vec![Alert::MassAccess];
        assert_eq!(seen, [vec![], vec![], told.clone(), vec![], vec![], told]);
        for minute in [20, 26, 32, 38] {
            assert_eq!(watch.see(&admits("slow", minute)), [], "never three within ten minutes");
        }
        for id in ["a", "b", "c", "d"] {
            assert_eq!(watch.see(&admits(id, 50)), [], "each caller alone");
        }
    }

    #[test]
    fn refusals_exports_and_unusual_hours_are_told_of() {
        let mut watch = Watch::new(RULES);
        let refused = AuditEvent { outcome: Outcome::Refused, ..by("eve", Action::ReadAudit, 0) };
        assert_eq!(watch.see(&refused), []);
        assert_eq!(watch.see(&refused), [Alert::Refusals]);
        assert_eq!(watch.see(&by("aud", Action::ReadAudit, 0).detail(EXPORT)), [Alert::Export]);
        for _ in 0..2 {
            assert_eq!(
                watch.see(&by("cmio", Action::BreakGlass, 0).detail(format!("{BEGUN}0a"))),
                [Alert::BreakGlass],
                "each time"
            );
        }
        assert_eq!(watch.see(&by("cmio", Action::BreakGlass, 0).detail("ended 0a")), []);
        let night = 14 * 60;
        assert_eq!(watch.see(&by("sue", Action::ReadModel, night)), [Alert::OffHours]);
        assert_eq!(watch.see(&by("sue", Action::ReadModel, night + 1)), [], "told of once in a while");
        assert_eq!(watch.see(&by("sue", Action::ReadModel, 24 * 60 - 3 * 60 - 1)), [Alert::OffHours], "past midnight");
        assert_eq!(watch.see(&by("sue", Action::ReadModel, 22 * 60)), [], "seven in the morning");
        assert_eq!(watch.see(&admits("nurse", night)), [], "patients come at night, too");
    }

    #[test]
    fn the_platform_works_in_bulk_and_a_rule_of_zero_is_off() {
        let mut watch = Watch::new(RULES);
        let platform = AuditEvent::new(&Caller::platform("import", "c"), Action::Import, Outcome::Refused, DateTime::UNIX_EPOCH);
        assert!((0..9).all(|_| watch.see(&platform).is_empty()));
        let mut off = Watch::new(AlertRules { mass_access: 0, refusals: 0, off_hours: None });
        assert!((0..9).all(|_| off.see(&AuditEvent { outcome: Outcome::Refused, ..admits("x", 14 * 60) }).is_empty()));
    }

    #[test]
    fn the_memory_has_an_end() {
        let mut watch = Watch::new(RULES);
        for number in 0..CALLERS_MAX + 10 {
            watch.see(&admits(&number.to_string(), 0));
        }
        assert!(watch.recent.len() <= CALLERS_MAX);
    }
}
