//! Whose patients a caller reaches: the facilities that are assigned to a care line manager, and an elevation that lifts that for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::Hospital;
use crate::config::Unassigned;
use crate::domain::access::Proof;
use crate::domain::elevation::caller_key;
use crate::domain::{Action, Caller, Elevated, Reach, Role, Standing};
use crate::error::Result;

impl Hospital {
    /// Whose patients the caller reaches at `now`: those of every facility, unless the way to them is that of a care line manager.
    ///
    /// # Errors
    /// The record is away.
    pub async fn reach(&self, caller: &Caller, now: DateTime<Utc>) -> Result<Reach> {
        if caller.elevated.as_ref().is_some_and(|elevated| now < elevated.until) || !is_restricted(caller) {
            return Ok(Reach::All);
        }
        Ok(self.own_reach(&self.standing(caller).await?))
    }

    /// The caller with the elevation that runs at `now`, if one does. An elevation counts only while the caller may still break the glass.
    ///
    /// # Errors
    /// The record is away.
    pub async fn elevated(&self, caller: Caller, now: DateTime<Utc>) -> Result<Caller> {
        if caller.proof == Proof::CommandLine || !caller.may(Action::BreakGlass) {
            return Ok(caller);
        }
        let standing = self.standing(&caller).await?;
        let own = if is_restricted(&caller) { self.own_reach(&standing) } else { Reach::All };
        let running = standing.elevation.filter(|(_, until)| now < *until);
        Ok(Caller { elevated: running.map(|(id, until)| Elevated { id, until, own }), ..caller })
    }

    fn own_reach(&self, standing: &Standing) -> Reach {
        standing.assigned.clone().unwrap_or(match self.config.unassigned {
            Unassigned::All => Reach::All,
            Unassigned::None => Reach::Only(Vec::new()),
        })
    }

    /// What the record says of the caller, not older than a few seconds.
    async fn standing(&self, caller: &Caller) -> Result<Standing> {
        // Nothing can be assigned to an id of another form.
        let Some(key) = caller_key(&caller.id) else { return Ok(Standing::default()) };
        let turn = match self.standings.get(&key) {
            Ok(standing) => return Ok(standing),
            Err(turn) => turn,
        };
        let standing = self.store.standing(&key).await?;
        self.standings.put(key, standing.clone(), turn);
        Ok(standing)
    }
}

/// Is the caller one whose reach assignments decide?
fn is_restricted(caller: &Caller) -> bool {
    let signed_in = matches!(caller.proof, Proof::Entra | Proof::Token | Proof::Local);
    signed_in && caller.roles.contains(&Role::CareLineManager)
}

/// How long what the record said is used before it is asked again.
const FRESH: Duration = Duration::from_secs(3);

/// Callers that are remembered; when there are more, all are forgotten.
const CALLERS_MAX: usize = 10_000;

/// What the record said of the callers who were here just now.
#[derive(Default)]
pub(super) struct Standings(Mutex<Known>);

#[derive(Default)]
struct Known {
    standings: HashMap<String, (Instant, Standing)>,
    /// Changes that were made through this process.
    turn: u64,
}

impl Standings {
    /// What is known of a caller, or the turn in which to ask the record.
    fn get(&self, caller: &str) -> std::result::Result<Standing, u64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = known.standings.get(caller).filter(|(asked, _)| asked.elapsed() < FRESH);
        standing.map(|(_, standing)| standing.clone()).ok_or(known.turn)
    }

    /// Keeps what the record said, unless something was changed since it was asked.
    fn put(&self, caller: String, standing: Standing, turn: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.turn != turn {
            return;
        }
        if known.standings.len() >= CALLERS_MAX {
            known.standings.clear();
        }
        known.standings.insert(caller, (Instant::now(), standing));
    }

    /// Something of the caller was changed: the record is asked next.
    pub(super) fn forget(&self, caller: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.standings.remove(caller);
        known.turn += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned() -> Standing {
        Standing { assigned: Some(Reach::All), elevation: None }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let standings = Standings::default();
        let turn = standings.get("ann").unwrap_err();
        standings.forget("ann");
        standings.put("ann".into(), Standing::default(), turn);
        let turn = standings.get("ann").expect_err("it may be from before the change");
        standings.put("ann".into(), assigned(), turn);
        assert_eq!(standings.get("ann"), Ok(assigned()));
        standings.forget("ann");
        assert!(standings.get("ann").is_err());
    }

    #[test]
    fn the_memory_has_an_end() {
        let standings = Standings::default();
        for number in 0..CALLERS_MAX + 10 {
            standings.put(number.to_string(), assigned(), 0);
        }
        assert!(standings.0.lock().unwrap().standings.len() <= CALLERS_MAX);
    }
}
