//! How often signing in fails: what is told of it, by reason, and which origins have used up a minute's worth of it.
//!
//! An origin is never shut out: it only loses the right to have every one of its calls looked into. Whoever shows something that could
//! be good is looked at all the same, so that nobody is locked out by the failures of others behind the same address, and it does not
//! matter to the innocent if somebody lies about the address.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::Refused;

/// Failures of one reason and window that are told one by one.
pub(super) const EACH_MAX: u64 = 20;
/// A window.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Failures of one origin in a window that are looked into, unless a setting says another number.
const LOOKED_INTO: u64 = 60;
/// Origins that are told apart; further ones count as one, which harms nobody.
const ORIGINS_MAX: usize = 10_000;
/// Going through all of them is too much for every call.
const SWEPT_EVERY: Duration = Duration::from_secs(1);
/// Tokens that are remembered as forged; when there are more, all are forgotten.
const FORGED_MAX: usize = 4_096;

/// Counts failures.
#[derive(Debug)]
pub struct Failures {
    looked_into: u64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    reasons: HashMap<Refused, Window>,
    origins: HashMap<String, Window>,
    forged: HashSet<[u8; 32]>,
    /// When the origins whose minute is over were last forgotten.
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    failed: u64,
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= WINDOW
    }
}

/// What to tell of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// This one.
    Each,
    /// That there are more of its reason than are told one by one.
    Flood,
    /// Nothing.
    Nothing,
}

impl Default for Failures {
    fn default() -> Self {
        Self { looked_into: LOOKED_INTO, seen: Mutex::default() }
    }
}

impl Failures {
    /// Looks into this many failures of one origin in a minute.
    pub fn looking_into(most: u32) -> Self {
        Self { looked_into: most.into(), ..Self::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure at `now`. Answers what to tell of it, and how many of its reason failed in the window before, if not all of them
    /// were told and [`Failures::sums`] has not told them.
    pub fn note(&self, refused: Refused, origin: &str, now: Instant) -> (Told, Option<u64>) {
        let mut seen = self.seen();
        let fresh = Window { began: now, failed: 0 };
        // Not their fault.
        if !matches!(refused, Refused::KeysAway | Refused::NotConfigured) {
            if seen.origins.len() >= ORIGINS_MAX && seen.swept.is_none_or(|at| now.duration_since(at) >= SWEPT_EVERY) {
                seen.swept = Some(now);
                seen.origins.retain(|_, window| !window.is_over(now));
            }
            let known = seen.origins.contains_key(origin) || seen.origins.len() < ORIGINS_MAX;
            let window = seen.origins.entry(if known { origin.to_owned() } else { String::new() }).or_insert(fresh);
            if window.is_over(now) {
                *window = fresh;
            }
            window.failed += 1;
        }
        let window = seen.reasons.entry(refused).or_insert(fresh);
        let before = untold(window, now);
        if window.is_over(now) {
            *window = fresh;
        }
        window.failed += 1;
        let told = match window.failed {
            1..=EACH_MAX => Told::Each,
            failed if failed == EACH_MAX + 1 => Told::Flood,
            _ => Told::Nothing,
        };
        (told, before)
    }

    /// The sums of floods that are over at `now`, by reason; each is told once.
    pub fn sums(&self, now: Instant) -> Vec<(Refused, u64)> {
        let mut seen = self.seen();
        let sums = seen.reasons.iter().filter_map(|(refused, window)| Some((*refused, untold(window, now)?))).collect();
        seen.reasons.retain(|_, window| !window.is_over(now));
        seen.origins.retain(|_, window| !window.is_over(now));
        sums
    }

    /// How long an origin that has failed too often is only glanced at; `None` if its calls are looked into.
    pub fn glanced_at(&self, origin: &str, now: Instant) -> Option<Duration> {
        let seen = self.seen();
        let full = seen.origins.len() >= ORIGINS_MAX;
        let window = seen.origins.get(origin).or_else(|| seen.origins.get("").filter(|_| full))?;
        (window.failed >= self.looked_into && !window.is_over(now)).then(|| WINDOW - now.duration_since(window.began))
    }

    /// Remembers a token whose signature is not the issuer's.
    pub(super) fn remember_forged(&self, token: &[u8]) {
        let mut seen = self.seen();
        if seen.forged.len() >= FORGED_MAX {
            seen.forged.clear();
        }
        seen.forged.insert(Sha256::digest(token).into());
    }

    /// Is it a token that was found to be forged?
    pub(super) fn is_forged(&self, token: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.seen().forged.contains(&digest)
    }
}

/// What of a window that is over was not told one by one, if anything.
fn untold(window: &Window, now: Instant) -> Option<u64> {
    Some(window.failed).filter(|failed| *failed > EACH_MAX && window.is_over(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_once_and_summed_up_when_it_is_over() {
        let failures = Failures::default();
        let begun = Instant::now();
        let note = |now| failures.note(Refused::Malformed, "", now);
        let told: Vec<Told> = (0..1_000).map(|_| note(begun).0).collect();
        assert_eq!(told.iter().filter(|told| **told == Told::Each).count() as u64, EACH_MAX);
        assert_eq!(told.iter().filter(|told| **told == Told::Flood).count(), 1);
        assert_eq!(failures.sums(begun), []);
        assert_eq!(note(begun + WINDOW), (Told::Each, Some(1_000)));
        assert_eq!(note(begun + WINDOW * 2), (Told::Each, None));
        for _ in 0..30 {
            note(begun + WINDOW * 2);
        }
        assert_eq!(failures.sums(begun + WINDOW * 3), [(Refused::Malformed, 31)]);
        assert_eq!(failures.sums(begun + WINDOW * 3), [], "told once");
    }

    #[test]
    fn no_reason_hides_behind_another() {
        let failures = Failures::default();
        let now = Instant::now();
        for _ in 0..10_000 {
            failures.note(Refused::Nothing, "", now);
        }
        assert_eq!(failures.note(Refused::Signature, "", now).0, Told::Each);
        let mut sums = failures.sums(now + WINDOW);
        sums.sort_by_key(|(_, failed)| *failed);
        assert_eq!(sums, [(Refused::Nothing, 10_000)], "what was told one by one needs no sum");
    }

    #[test]
    fn an_origin_is_glanced_at_for_the_rest_of_its_minute_and_others_are_not() {
        let failures = Failures::looking_into(3);
        let begun = Instant::now();
        for (failed, glanced) in [(1, false), (2, false), (3, true), (4, true)] {
            failures.note(Refused::Signature, "203.0.113.9", begun);
            assert_eq!(failures.glanced_at("203.0.113.9", begun).is_some(), glanced, "{failed}");
        }
        assert_eq!(failures.glanced_at("198.51.100.7", begun), None);
        assert_eq!(failures.glanced_at("203.0.113.9", begun + WINDOW / 3), Some(WINDOW * 2 / 3));
        assert_eq!(failures.glanced_at("203.0.113.9", begun + WINDOW), None);
        for _ in 0..9 {
            failures.note(Refused::KeysAway, "192.0.2.1", begun);
        }
        assert_eq!(failures.glanced_at("192.0.2.1", begun), None, "our own trouble is nobody's failure");
    }

    #[test]
    fn the_memory_has_an_end() {
        let failures = Failures::looking_into(2);
        let now = Instant::now();
        for number in 0..ORIGINS_MAX + 100 {
            failures.note(Refused::Nothing, &number.to_string(), now);
            failures.remember_forged(&number.to_be_bytes());
        }
        let seen = failures.seen();
        assert!(seen.origins.len() <= ORIGINS_MAX + 1 && seen.forged.len() <= FORGED_MAX);
        drop(seen);
        assert!(failures.glanced_at("new", now).is_some(), "further origins count as one");
        assert!(failures.sums(now + WINDOW).len() == 1 && failures.seen().origins.is_empty());
    }
}
