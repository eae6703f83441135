//! What happened: one event a verb, without any patient value; and the chain that shows whether the trail is whole.

use std::fmt;

use chrono::{DateTime, SubsecRound, Utc};
use sha2::{Digest, Sha256};

use super::access::{Action, Caller, Proof, Role};
use super::elevation::mark;
use super::encounter::EncounterId;
use super::facility::FacilityId;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Success,
    /// Not allowed.
    Refused,
    /// Allowed, and not done.
    Failure,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 3] = [Outcome::Success, Outcome::Refused, Outcome::Failure];

    /// The outcome's name in the audit trail.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Refused => "refused",
            Outcome::Failure => "failure",
        }
    }
}

/// One event of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// When, UTC.
    pub at: DateTime<Utc>,
    /// Who.
    pub caller: Caller,
    /// What.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// Which encounter, where there is one.
    pub encounter: Option<EncounterId>,
    /// A fixed phrase or an id of ours (an import, a model); never a value from a message.
    pub detail: String,
    /// The id of the announcement that the store adds with the fact, if others are to be told of it; `None` once it is in the trail.
    pub announcement: Option<String>,
    /// The id of the caller's elevation, if the action needed it. In the trail it is the end of the detail.
    pub elevation: Option<String>,
}

impl AuditEvent {
    /// An event of `caller` at `at`.
    pub fn new(caller: &Caller, action: Action, outcome: Outcome, at: DateTime<Utc>) -> Self {
        // Patients are read of every facility that the caller reaches; of which the others are, the verb says.
        let elevated = if action == Action::ReadPatients { caller.needs_elevation(action, None) } else { None };
        let elevation = elevated.map(|elevated| elevated.id.clone());
        let (encounter, detail, announcement) = (None, String::new(), None);
        Self { at, caller: caller.clone(), action, outcome, encounter, detail, announcement, elevation }
    }

    /// Says whose patient it is about: if the caller reaches that facility by an elevation alone, the event will tell.
    #[must_use]
    pub fn at_facility(mut self, facility: FacilityId) -> Self {
        self.elevation = self.caller.needs_elevation(self.action, Some(facility)).map(|elevated| elevated.id.clone());
        self
    }

    /// The detail as the trail holds it.
    pub fn told(&self) -> String {
        let marked = self.elevation.as_deref().map(mark);
        [self.detail.clone()].into_iter().chain(marked).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// Names the encounter.
    #[must_use]
    pub fn about(mut self, encounter: EncounterId) -> Self {
        self.encounter = Some(encounter);
        self
    }

    /// Has the store add an announcement of this id with the fact, if it becomes one now.
    #[must_use]
    pub fn announced(mut self, id: Option<String>) -> Self {
        self.announcement = id;
        self
    }

    /// Adds a fixed phrase or an id of ours.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// An event as the record holds it: words alone, so that one which somebody tampered with can still be read and named. `Debug` leaves the
/// encounter out.
#[derive(Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// When, UTC; whole microseconds. `None`: what stands there is no time.
    pub at: Option<DateTime<Utc>>,
    /// [`Caller::id`].
    pub caller: String,
    /// The names of the caller's roles, with commas between them.
    pub roles: String,
    /// The name of the caller's proof.
    pub proof: String,
    /// [`Caller::correlation`].
    pub correlation: String,
    /// [`Caller::origin`].
    pub origin: String,
    /// The action's name.
    pub action: String,
    /// The outcome's name.
    pub outcome: String,
    /// The encounter's id.
    pub encounter: Option<i64>,
    /// [`AuditEvent::detail`].
    pub detail: String,
}

impl fmt::Debug for AuditRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, caller, action, outcome, detail, .. } = self;
        f.debug_struct("AuditRow")
            .field("at", at)
            .field("caller", caller)
            .field("action", action)
            .field("outcome", outcome)
            .field("detail", detail)
            .finish_non_exhaustive()
    }
}

impl AuditRow {
    /// The words of `event`.
    pub fn of(event: &AuditEvent) -> Self {
        let caller = &event.caller;
        Self {
            at: Some(event.at.trunc_subsecs(6)),
            caller: caller.id.clone(),
            roles: caller.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(","),
            proof: caller.proof.name().to_owned(),
            correlation: caller.correlation.clone(),
            origin: caller.origin.clone(),
            action: event.action.name().to_owned(),
            outcome: event.outcome.name().to_owned(),
            encounter: event.encounter.map(|id| id.get().into()),
            detail: event.told(),
        }
    }

    /// The hash of this event as the `number`-th of `partition`, after the one with the hash `previous`: SHA-256 in hex over a tag and
    /// every field with its length before it, so that no two events have the same bytes.
    pub fn hash(&self, partition: u32, number: u64, previous: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(b"hdai-audit-1");
        let mut field = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        field(&partition.to_string());
        field(&number.to_string());
        field(previous);
        field(&self.at.map(|at| at.timestamp_micros().to_string()).unwrap_or_default());
        for text in [&self.caller, &self.roles, &self.proof, &self.correlation, &self.origin, &self.action, &self.outcome] {
            field(text);
        }
        field(&self.encounter.map(|id| id.to_string()).unwrap_or_default());
        field(&self.detail);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Which of its words this program does not know: another one wrote them, a newer one perhaps, or somebody altered them.
    pub fn strange(&self) -> Vec<&'static str> {
        let known = [
            ("at", self.at.is_some()),
            ("roles", self.roles.split(',').all(|name| name.is_empty() || Role::parse(name).is_some())),
            ("proof", self.known_proof().is_some()),
            ("action", self.known_action().is_some()),
            ("outcome", self.known_outcome().is_some()),
            ("encounter", self.encounter.is_none_or(|id| EncounterId::new(id).is_some())),
        ];
        known.into_iter().filter(|(_, known)| !known).map(|(name, _)| name).collect()
    }

    /// The action, if this program knows it.
    pub fn known_action(&self) -> Option<Action> {
        Action::ALL.iter().copied().find(|known| known.name() == self.action)
    }

    /// The outcome, if this program knows it.
    pub fn known_outcome(&self) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|known| known.name() == self.outcome)
    }

    fn known_proof(&self) -> Option<Proof> {
        Proof::ALL.into_iter().find(|known| known.name() == self.proof)
    }

    /// The event, if nothing of it is [`AuditRow::strange`].
    pub fn event(&self) -> Option<AuditEvent> {
        if !self.strange().is_empty() {
            return None;
        }
        let roles = self.roles.split(',').filter_map(Role::parse).collect();
        let caller = Caller::of(self.caller.as_str(), roles, self.known_proof()?, self.correlation.as_str());
        let event = AuditEvent::new(
            &Caller { origin: self.origin.clone(), ..caller },
            self.known_action()?,
            self.known_outcome()?,
            self.at?,
        );
        let encounter = self.encounter.and_then(EncounterId::new);
        Some(AuditEvent { encounter, detail: self.detail.clone(), ..event })
    }
}

/// An event and its place in the chain of its partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chained {
    /// Its number in the whole trail, by which a person finds it.
    pub seq: u64,
    /// Its number in its partition, from 1, without gaps.
    pub number: u64,
    /// [`AuditRow::hash`], as it was when it was written.
    pub hash: String,
    /// The event.
    pub row: AuditRow,
}

/// The end of a partition's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// The partition.
    pub partition: u32,
    /// Events in it.
    pub number: u64,
    /// The hash of the newest; empty while there is none.
    pub hash: String,
}

/// Where a chain goes on after the events before it were removed, their time being over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The partition.
    pub partition: u32,
    /// The number of the last event that was removed.
    pub number: u64,
    /// Its hash.
    pub hash: String,
    /// The name of the signed checkpoint that holds both.
    pub checkpoint: String,
}

/// What the record says of its own trail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrailRecord {
    /// The record's id: drawn when it was made, and anew after a restore.
    pub id: String,
    /// How long events are kept, in years.
    pub retention_years: u32,
    /// The newest checkpoint; none before the first.
    pub newest: KeptCheckpoint,
    /// The anchors, the last of each chain, by chain.
    pub anchors: Vec<Anchor>,
}

/// The newest checkpoint as the record remembers it, so that the next one names it, and so that one whose file was never written is written later.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptCheckpoint {
    /// Its number, from 1; 0 for none.
    pub number: u64,
    /// Its name beside the files.
    pub name: String,
    /// The signed text.
    pub text: String,
}

/// The beginning of a chain that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// Where the chain goes on afterwards.
    pub anchor: Anchor,
    /// The place of the anchor before, behind which events go; 0 for none. One that was put in before it stays, as what it is.
    pub after: u64,
    /// How long events are kept, in years: the record refuses to give up younger ones, and never keeps them shorter than it said before.
    pub retention_years: u32,
}

/// Events that stand in no chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unchained {
    /// Those from before the chain began.
    pub before: u64,
    /// Those from after: a program of before the chain wrote them, or somebody who is no program of ours.
    pub since: u64,
    /// The first of the latter, by its number in the whole trail.
    pub first_since: Option<u64>,
}

/// What is wrong with the trail, and where it shows first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// The event's words, or those of one before it, are not those that were written; or it stands in another's place.
    Altered {
        /// Its number in the whole trail.
        seq: u64,
    },
    /// Events are gone.
    Missing {
        /// The number in the partition of the first one.
        number: u64,
    },
    /// The event has a number that another one had before.
    Inserted {
        /// Its number in the whole trail.
        seq: u64,
    },
    /// The anchor, after the events that were removed, is not what a signed checkpoint says.
    Anchor {
        /// The number in the partition that it stands at.
        number: u64,
    },
    /// The chain was made anew up to here: it contradicts its head, or a signed checkpoint.
    Rewritten {
        /// The number in the partition that is vouched for.
        number: u64,
    },
}

/// Follows one partition's chain, event by event. After a breach it goes on behind it.
#[derive(Debug)]
pub struct ChainCheck {
    partition: u32,
    number: u64,
    seq: u64,
    previous: String,
    vouched: Vec<(u64, String)>,
}

impl ChainCheck {
    /// A check of `partition` from its beginning. `vouched`: numbers and hashes that the head had, or that signed checkpoints hold.
    pub fn new(partition: u32, mut vouched: Vec<(u64, String)>) -> Self {
        vouched.sort();
        vouched.dedup();
        vouched.retain(|(number, _)| *number > 0);
        Self { partition, number: 0, seq: 0, previous: String::new(), vouched }
    }

    /// The check goes on from `anchor`.
    ///
    /// # Errors
    /// The anchor contradicts what is vouched for.
    pub fn begin_at(&mut self, anchor: &Anchor) -> Result<(), Breach> {
        (self.number, self.previous) = (anchor.number, anchor.hash.clone());
        let contradicts = self.vouched.iter().any(|(number, hash)| *number == anchor.number && *hash != anchor.hash);
        self.vouched.retain(|(number, _)| *number > anchor.number);
        if contradicts { Err(Breach::Anchor { number: anchor.number }) } else { Ok(()) }
    }

    /// The next event, by its number in the partition. `recompute`: its hash, too, or only that it follows.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn follow(&mut self, event: &Chained, recompute: bool) -> Result<(), Breach> {
        let expected = self.number + 1;
        if event.number < expected {
            return Err(Breach::Inserted { seq: event.seq });
        }
        let previous = std::mem::replace(&mut self.previous, event.hash.clone());
        (self.number, self.seq) = (event.number, event.seq);
        if event.number > expected {
            return Err(Breach::Missing { number: expected });
        }
        if recompute && event.row.hash(self.partition, event.number, &previous) != event.hash {
            return Err(Breach::Altered { seq: event.seq });
        }
        if self.vouched.iter().any(|(number, hash)| *number == event.number && *hash != event.hash) {
            return Err(Breach::Rewritten { number: event.number });
        }
        Ok(())
    }

    /// The number and the hash of the last event.
    pub fn reached(&self) -> (u64, &str) {
        (self.number, &self.previous)
    }

    /// No further event is there: is that all there were? `newest`: the head's number after the last event was read.
    ///
    /// # Errors
    /// It is not.
    pub fn end(&self, newest: u64) -> Result<(), Breach> {
        if self.number < self.vouched.last().map_or(0, |(number, _)| *number) {
            return Err(Breach::Missing { number: self.number + 1 });
        }
        if self.number > newest { Err(Breach::Inserted { seq: self.seq }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(length: u64) -> Vec<Chained> {
        let mut previous = String::new();
        (1..=length)
            .map(|number| {
                let caller = Caller::platform("import", format!("c-{number}"));
                let row = AuditRow::of(&AuditEvent::new(&caller, Action::Import, Outcome::Success, DateTime::<Utc>::UNIX_EPOCH));
                previous = row.hash(3, number, &previous);
                Chained { seq: number + 100, number, hash: previous.clone(), row }
            })
            .collect()
    }

    fn check(events: &[Chained], head: &ChainHead, mut vouched: Vec<(u64, String)>) -> Result<(), Breach> {
        vouched.push((head.number, head.hash.clone()));
        let mut check = ChainCheck::new(3, vouched);
        events.iter().try_for_each(|event| check.follow(event, true))?;
        check.end(head.number)
    }

    #[test]
    fn whatever_is_done_to_a_chain_is_found_where_it_begins() {
        let whole = chain(9);
        let head = ChainHead { partition: 3, number: 9, hash: whole[8].hash.clone() };
        let done = |change: &dyn Fn(&mut Vec<Chained>)| {
            let mut events = whole.clone();
            change(&mut events);
            check(&events, &head, vec![])
        };
        assert_eq!(done(&|_| {}), Ok(()));
        assert_eq!(done(&|events| events[4].row.outcome = "refused".into()), Err(Breach::Altered { seq: 105 }));
        assert_eq!(done(&|events| events[4].row.encounter = Some(7)), Err(Breach::Altered { seq: 105 }));
        assert_eq!(done(&|events| events[4].hash = events[3].hash.clone()), Err(Breach::Altered { seq: 105 }));
        assert_eq!(done(&|events| drop(events.remove(2))), Err(Breach::Missing { number: 3 }));
        assert_eq!(done(&|events| drop(events.pop())), Err(Breach::Missing { number: 9 }));
        assert_eq!(done(&|events| events.insert(2, events[1].clone())), Err(Breach::Inserted { seq: 102 }));
        let swap = |events: &mut Vec<Chained>| {
            let (a, b) = (events[2].row.clone(), events[3].row.clone());
            (events[2].row, events[3].row) = (b, a);
        };
        assert_eq!(done(&swap), Err(Breach::Altered { seq: 103 }));
        let forged = |events: &mut Vec<Chained>| {
            let row = events[8].row.clone();
            let hash = row.hash(3, 10, &events[8].hash);
            events.push(Chained { seq: 110, number: 10, hash, row });
        };
        assert_eq!(done(&forged), Err(Breach::Inserted { seq: 110 }));
    }

    #[test]
    fn a_chain_that_was_made_anew_contradicts_a_checkpoint() {
        let (before, mut after) = (chain(9), chain(9));
        let mut previous = String::new();
        for event in &mut after {
            event.row.caller = "another".into();
            previous = event.row.hash(3, event.number, &previous);
            event.hash.clone_from(&previous);
        }
        let head = ChainHead { partition: 3, number: 9, hash: previous };
        assert_eq!(check(&after, &head, vec![]), Ok(()), "without a checkpoint nobody can tell");
        let vouched = vec![(5, before[4].hash.clone())];
        assert_eq!(check(&after, &head, vouched.clone()), Err(Breach::Rewritten { number: 5 }));
        let short = ChainHead { partition: 3, number: 2, hash: before[1].hash.clone() };
        assert_eq!(check(&before[..2], &short, vouched), Err(Breach::Missing { number: 3 }), "cut off, with its head");
    }

    #[test]
    fn bytes_cannot_move_from_one_field_to_the_next() {
        let caller = Caller::platform("ab", "c");
        let one = AuditRow::of(&AuditEvent::new(&caller, Action::Import, Outcome::Success, DateTime::<Utc>::UNIX_EPOCH));
        let other = AuditRow { caller: "a".into(), roles: "b".into(), ..one.clone() };
        assert_ne!(one.hash(0, 1, ""), other.hash(0, 1, ""));
        assert_ne!(one.hash(0, 1, ""), one.hash(1, 1, ""));
        assert_ne!(one.hash(0, 1, ""), one.hash(0, 2, ""));
    }
}
