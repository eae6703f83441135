//! How fast one caller may call: a bucket of calls for each, which fills again at a steady rate.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::Caller;

/// Callers that are told apart; when there are more, all have a full bucket again.
const CALLERS_MAX: usize = 10_000;
/// A caller who is too fast is told of once in this time.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Every caller's bucket.
pub(super) struct Pace {
    /// Calls a second; zero for any number.
    rate: f64,
    burst: f64,
    callers: Mutex<HashMap<(Option<String>, String), Bucket>>,
}

struct Bucket {
    calls: f64,
    at: Instant,
    told: Option<Instant>,
}

/// A call too many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooFast {
    /// When the next one is due.
    pub(super) wait: Duration,
    /// Whether it is time to tell of it.
    pub(super) tell: bool,
}

impl Pace {
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        Self { rate: rate.into(), burst: burst.into(), callers: Mutex::default() }
    }

    /// Takes a call out of the caller's bucket.
    pub(super) fn take(&self, caller: &Caller, now: Instant) -> Result<(), TooFast> {
        if self.rate == 0.0 {
            return Ok(());
        }
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (caller.tenant.clone(), caller.id.clone());
        if callers.len() >= CALLERS_MAX && !callers.contains_key(&key) {
            callers.clear();
        }
        let bucket = callers.entry(key).or_insert(Bucket { calls: self.burst, at: now, told: None });
        let since = now.duration_since(bucket.at).as_secs_f64();
        bucket.calls = (bucket.calls + since * self.rate).min(self.burst);
        bucket.at = now;
        if bucket.calls >= 1.0 {
            bucket.calls -= 1.0;
            return Ok(());
        }
        let tell = bucket.told.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
        if tell {
            bucket.told = Some(now);
        }
        Err(TooFast { wait: Duration::from_secs_f64((1.0 - bucket.calls) / self.rate), tell })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::Proof;

    fn caller(id: &str) -> Caller {
        Caller::of(id, vec![], Proof::Token, "c")
    }

    #[test]
    fn a_burst_is_free_then_the_rate_counts_for_each_caller_alone() {
        let pace = Pace::new(10, 3);
        let begun = Instant::now();
        let ann = |millis| pace.take(&caller("ann"), begun + Duration::from_millis(millis));
        assert_eq!([ann(0), ann(0), ann(0)], [Ok(()), Ok(()), Ok(())]);
        assert_eq!(ann(0), Err(TooFast { wait: Duration::from_millis(100), tell: true }));
        assert!(!ann(0).unwrap_err().tell, "told once");
        assert_eq!(pace.take(&caller("bob"), begun), Ok(()));
        assert!(ann(99).is_err() && ann(101).is_ok() && ann(102).is_err());
        assert_eq!([ann(60_000), ann(60_000), ann(60_000)], [Ok(()), Ok(()), Ok(())], "no more than a burst is saved up");
        assert!(ann(60_000).unwrap_err().tell);
        let free = Pace::new(0, 1);
        assert!((0..99).all(|_| free.take(&caller("ann"), begun).is_ok()));
    }

    #[test]
    fn the_memory_has_an_end() {
        let pace = Pace::new(1, 1);
        let now = Instant::now();
        for number in 0..CALLERS_MAX + 10 {
            pace.take(&caller(&number.to_string()), now).unwrap();
        }
        assert!(pace.callers.lock().unwrap().len() <= CALLERS_MAX);
    }
}
