//! How often signing in fails. Behind the platform every call comes from the same address, so nobody can be locked out without locking out
//! everybody: what is bounded instead is what a failure costs us, a line of the log each.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures of one window that are told one by one.
pub(super) const EACH_MAX: u64 = 60;
/// A window.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Counts failures.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Option<Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    failed: u64,
}

/// What to tell of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// This one.
    Each,
    /// That there are more of them than are told one by one.
    Flood,
    /// Nothing.
    Nothing,
}

impl Failures {
    /// Counts a failure at `now`. Answers what to tell of it, and how many failed in the window before, if not all of them were told.
    pub fn note(&self, now: Instant) -> (Told, Option<u64>) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut window, before) = match slot.take() {
            Some(window) if now.duration_since(window.began) < WINDOW => (window, None),
            past => (Window { began: now, failed: 0 }, past.map(|window| window.failed).filter(|failed| *failed > EACH_MAX)),
        };
        window.failed += 1;
        let told = match window.failed {
            1..=EACH_MAX => Told::Each,
            failed if failed == EACH_MAX + 1 => Told::Flood,
            _ => Told::Nothing,
        };
        *slot = Some(window);
        (told, before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_and_summed_up_when_it_is_over() {
        let failures = Failures::default();
        let begun = Instant::now();
        let told: Vec<Told> = (0..1_000).map(|_| failures.note(begun).0).collect();
        assert_eq!(told.iter().filter(|told| **told == Told::Each).count() as u64, EACH_MAX);
        assert_eq!(told.iter().filter(|told| **told == Told::Flood).count(), 1);
        assert_eq!(failures.note(begun + WINDOW), (Told::Each, Some(1_000)));
        assert_eq!(failures.note(begun + WINDOW * 2), (Told::Each, None));
    }
}
