//! Application locks (`sp_getapplock`), shared by all sessions of a server. Only exclusive ones.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Who holds a lock, and for how long.
struct Held {
    session: u64,
    for_transaction: bool,
}

#[derive(Default)]
pub(super) struct Locks {
    held: Mutex<HashMap<String, Held>>,
    freed: Condvar,
}

impl Locks {
    /// Waits for the lock. Answers what `sp_getapplock` returns: 0 at once, 1 after a wait, -1 too late, -2 cancelled.
    pub(super) fn acquire(&self, name: &str, session: u64, for_transaction: bool, wait: Duration, cancelled: &AtomicBool) -> i64 {
        let end = Instant::now() + wait;
        let mut waited = 0;
        let mut held = self.held.lock().unwrap();
        loop {
            match held.get(name) {
                Some(other) if other.session != session => {}
                _ => {
                    held.insert(name.to_owned(), Held { session, for_transaction });
                    return waited;
                }
            }
            if cancelled.load(Ordering::SeqCst) {
                return -2;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return -1;
            }
            waited = 1;
            held = self.freed.wait_timeout(held, left.min(Duration::from_millis(20))).unwrap().0;
        }
    }

    /// Gives one lock back; false if it was not held.
    pub(super) fn release(&self, name: &str, session: u64) -> bool {
        let mut held = self.held.lock().unwrap();
        let ours = held.get(name).is_some_and(|lock| lock.session == session);
        if ours {
            held.remove(name);
            self.freed.notify_all();
        }
        ours
    }

    /// Gives back what the session's transaction held, or all that the session held.
    pub(super) fn release_all(&self, session: u64, only_of_transaction: bool) {
        self.held.lock().unwrap().retain(|_, lock| lock.session != session || only_of_transaction && !lock.for_transaction);
        self.freed.notify_all();
    }
}
