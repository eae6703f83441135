//! What of this instance one caller may hold at once: calls under way, and bytes of their bodies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body::{self, Budget};
use crate::domain::Caller;

/// Callers that are remembered although they have no call under way.
const IDLE_MAX: usize = 10_000;

/// A tenant and an object of it.
type Key = (Option<String>, String);

/// Every caller's share.
pub(super) struct Calls {
    calls_max: usize,
    bodies_bytes_max: usize,
    callers: Mutex<HashMap<Key, Arc<Share>>>,
}

struct Share {
    calls: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

/// A call under way, until it is done.
pub(super) struct Seat {
    share: Arc<Share>,
    _call: OwnedSemaphorePermit,
}

impl Calls {
    /// Each caller may have so many calls under way, and so many bytes of bodies.
    pub(super) fn new(calls_max: u32, bodies_bytes_max: usize) -> Self {
        Self { calls_max: calls_max as usize, bodies_bytes_max, callers: Mutex::default() }
    }

    /// A seat for one more call; `None` if the caller has too many under way.
    pub(super) fn take(&self, caller: &Caller) -> Option<Seat> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (caller.tenant.clone(), caller.id.clone());
        if callers.len() >= IDLE_MAX && !callers.contains_key(&key) {
            callers.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let fresh = || {
            let (calls, bodies) = (Arc::new(Semaphore::new(self.calls_max)), body::pieces(self.bodies_bytes_max));
            Arc::new(Share { calls, bodies })
        };
        let share = Arc::clone(callers.entry(key).or_insert_with(fresh));
        let call = Arc::clone(&share.calls).try_acquire_owned().ok()?;
        Some(Seat { share, _call: call })
    }
}

impl Seat {
    /// What of `budget` the caller may use.
    pub(super) fn within(&self, budget: &Budget) -> Budget {
        budget.shared(Arc::clone(&self.share.bodies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::Proof;

    #[test]
    fn a_caller_has_so_many_calls_under_way_and_the_memory_has_an_end() {
        let calls = Calls::new(2, 1);
        let caller = |id: &str| Caller::of(id, vec![], Proof::Token, "c");
        let first = calls.take(&caller("ann"));
        let second = calls.take(&caller("ann"));
        assert!(first.is_some() && second.is_some() && calls.take(&caller("ann")).is_none());
        let bob = calls.take(&caller("bob"));
        assert!(bob.is_some(), "each caller alone");
        drop(first);
        let third = calls.take(&caller("ann"));
        assert!(third.is_some());
        for number in 0..IDLE_MAX + 10 {
            calls.take(&caller(&number.to_string())).unwrap();
        }
        assert!(calls.callers.lock().unwrap().len() <= IDLE_MAX);
        assert!(calls.take(&caller("ann")).is_none(), "who has calls under way is not forgotten");
    }
}
