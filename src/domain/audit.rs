//! What happened: one event a verb, without any patient value.

use chrono::{DateTime, Utc};

use super::access::{Action, Caller};
use super::encounter::EncounterId;

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
}

impl AuditEvent {
    /// An event of `caller` at `at`.
    pub fn new(caller: &Caller, action: Action, outcome: Outcome, at: DateTime<Utc>) -> Self {
        Self { at, caller: caller.clone(), action, outcome, encounter: None, detail: String::new(), announcement: None }
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
