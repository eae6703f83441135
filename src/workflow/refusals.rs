//! How often each caller was refused of late, so that one who is refused again and again does not fill the trail.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Duration, Utc};

use crate::domain::access::Proof;
use crate::domain::{Action, AuditEvent, Caller, Outcome};

/// How long refusals of a caller are counted, from the first one on.
const WINDOW: Duration = Duration::minutes(10);
/// Callers that are counted; the refusals of further ones are all told.
const CALLERS_MAX: usize = 10_000;

/// The detail of the event that tells of no more.
pub(super) const FROM_NOW_ON_COUNTED: &str = "refused too often: further refusals within ten minutes are counted";

/// The counts.
#[derive(Default)]
pub(super) struct Refusals {
    callers: Mutex<HashMap<(Option<String>, String), Window>>,
    /// Sums that the trail could not be told.
    owed: Mutex<Vec<AuditEvent>>,
}

/// Sums that the trail is to be told. Those that it is not told are owed still when this goes.
pub(super) struct Owed<'a> {
    refusals: &'a Refusals,
    sums: Vec<AuditEvent>,
}

impl Owed<'_> {
    /// The next sum.
    pub(super) fn next(&self) -> Option<&AuditEvent> {
        self.sums.last()
    }

    /// The trail holds it.
    pub(super) fn told(&mut self) {
        self.sums.pop();
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        let mut owed = self.refusals.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let room = CALLERS_MAX.saturating_sub(owed.len());
        owed.extend(self.sums.drain(..).take(room));
    }
}

struct Window {
    began: DateTime<Utc>,
    refused: u32,
    most: u32,
    caller: Caller,
    action: Action,
}

/// What the trail is told of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tell {
    /// That it was refused.
    Each,
    /// That further ones are counted.
    Counted,
    /// Nothing now: the sum comes later.
    Nothing,
}

impl Refusals {
    fn callers(&self) -> MutexGuard<'_, HashMap<(Option<String>, String), Window>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back a refusal that the trail could not be told.
    pub(super) fn give_back(&self, caller: &Caller) {
        if let Some(window) = self.callers().get_mut(&(caller.tenant.clone(), caller.id.clone())) {
            window.refused = window.refused.saturating_sub(1);
        }
    }

    /// Counts a refusal; `most` are told one by one within the window, 0 for all.
    pub(super) fn note(&self, caller: &Caller, action: Action, most: u32, now: DateTime<Utc>) -> Tell {
        // The platform and the machine's own administrator are no flood.
        if most == 0 || matches!(caller.proof, Proof::Platform | Proof::CommandLine) {
            return Tell::Each;
        }
        let mut callers = self.callers();
        let key = (caller.tenant.clone(), caller.id.clone());
        if callers.len() >= CALLERS_MAX && !callers.contains_key(&key) {
            return Tell::Each;
        }
        let fresh = || Window { began: now, refused: 0, most, caller: caller.clone(), action };
        let window = callers.entry(key).or_insert_with(fresh);
        window.refused = window.refused.saturating_add(1);
        (window.caller, window.action) = (caller.clone(), action);
        match window.refused {
            refused if refused <= most => Tell::Each,
            refused if refused == most.saturating_add(1) => Tell::Counted,
            _ => Tell::Nothing,
        }
    }

    /// Forgets the windows that are over, and answers the sums that the trail is still to be told.
    pub(super) fn sums(&self, now: DateTime<Utc>) -> Owed<'_> {
        let over = self.callers().extract_if(|_, window| now - window.began >= WINDOW).collect::<Vec<_>>();
        let counted = over.into_iter().map(|(_, window)| window).filter(|window| window.refused > window.most);
        let sum = |window: Window| {
            let detail = format!("refused {} more times within ten minutes", window.refused - window.most);
            AuditEvent::new(&window.caller, window.action, Outcome::Refused, now).detail(detail)
        };
        let mut sums = std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner));
        sums.extend(counted.map(sum));
        Owed { refusals: self, sums }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(id: &str) -> Caller {
        Caller::of(id, vec![], Proof::Token, "c")
    }

    #[test]
    fn the_first_are_told_then_that_there_are_more_then_how_many() {
        let refusals = Refusals::default();
        let begun = DateTime::<Utc>::UNIX_EPOCH;
        let note = |id: &str, seconds| refusals.note(&caller(id), Action::ReadAudit, 2, begun + Duration::seconds(seconds));
        assert_eq!(
            [0, 1, 2, 3, 4].map(|second| note("eve", second)),
            [Tell::Each, Tell::Each, Tell::Counted, Tell::Nothing, Tell::Nothing]
        );
        assert_eq!(note("ann", 5), Tell::Each, "each caller alone");
        assert!(refusals.sums(begun + Duration::seconds(599)).next().is_none());
        for _ in 0..2 {
            // The trail is not told at first: the sum is owed.
            let owed = refusals.sums(begun + Duration::seconds(600));
            assert_eq!(owed.sums.len(), 1, "who was told of in full needs no sum");
            let sum = owed.next().unwrap();
            assert_eq!((sum.caller.id.as_str(), sum.outcome), ("eve", Outcome::Refused));
            assert_eq!(sum.detail, "refused 3 more times within ten minutes");
        }
        refusals.sums(begun + Duration::seconds(600)).told();
        assert!(refusals.sums(begun + Duration::seconds(600)).next().is_none());
        assert_eq!(note("eve", 601), Tell::Each, "the window is over");
        for _ in 0..3 {
            assert_eq!(note("eve", 602), Tell::Each);
            refusals.give_back(&caller("eve"));
        }
        assert_eq!([602, 602].map(|second| note("eve", second)), [Tell::Each, Tell::Counted], "what was not told does not count");
    }

    #[test]
    fn the_platform_and_zero_are_without_limit_and_the_memory_has_an_end() {
        let refusals = Refusals::default();
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let platform = Caller::platform("import", "c");
        assert!((0..9).all(|_| refusals.note(&platform, Action::Import, 1, now) == Tell::Each));
        assert!((0..9).all(|_| refusals.note(&caller("x"), Action::Import, 0, now) == Tell::Each));
        for number in 0..CALLERS_MAX + 10 {
            refusals.note(&caller(&number.to_string()), Action::Admit, 1, now);
        }
        assert_eq!(refusals.callers().len(), CALLERS_MAX);
        assert_eq!(refusals.note(&caller("one more"), Action::Admit, 1, now), Tell::Each, "nothing is lost to the trail");
    }
}
