//! The keys that names are encrypted with, as the record keeps them: wrapped, never plain. It does not know how to unwrap one.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{Admitted, Store, Stored};
use crate::domain::{AuditEvent, Encounter, EncounterId, PersonName, Phi, Prediction};
use crate::error::Result;

/// The id that stands for names in plain text, which a program without encryption has left.
pub const PLAIN: &str = "plain";

/// What a data key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// New values are encrypted with it. There is one.
    Current,
    /// Values are still to be encrypted anew with the current one.
    Old,
    /// Nothing is encrypted with it any more; it still opens what a late writer or a backup brings.
    Retired,
}

impl KeyState {
    /// All of them.
    pub const ALL: [KeyState; 3] = [KeyState::Current, KeyState::Old, KeyState::Retired];

    /// Its word in the record.
    pub const fn name(self) -> &'static str {
        match self {
            KeyState::Current => "current",
            KeyState::Old => "old",
            KeyState::Retired => "retired",
        }
    }

    /// The state of this word.
    pub fn parse(name: &str) -> Option<KeyState> {
        KeyState::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// A data key as the record keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKey {
    /// Follows from the key itself; [`PLAIN`] for none.
    pub id: String,
    /// The key, encrypted with the one that wraps it.
    pub wrapped: Vec<u8>,
    /// Which key wraps it, with its version.
    pub wrapped_by: String,
    /// What it is for.
    pub state: KeyState,
    /// Since when.
    pub created: DateTime<Utc>,
}

/// A patient's name in another form, under another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renaming {
    /// Whose.
    pub id: EncounterId,
    /// The stored parts that it takes the place of.
    pub from: PersonName,
    /// The parts to store.
    pub to: PersonName,
}

/// The words of an elevation in another form, under another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewording {
    /// The elevation's id.
    pub id: String,
    /// The stored form that it takes the place of.
    pub from: Phi<String>,
    /// The form to store.
    pub to: Phi<String>,
}

/// What an admission meets in a record where one name may have several forms.
#[derive(Debug, Clone, PartialEq)]
pub enum Met {
    /// It is decided, and the audit event is written.
    Decided(Admitted),
    /// An encounter that is the same but for the form of its name is there: whether it is the same name, only its key tells. Nothing is written.
    Undecided(Box<Stored>),
}

impl Met {
    /// The decision, where nothing is left undecided: what is not the same is another's.
    pub(super) fn decided(self) -> Admitted {
        match self {
            Met::Decided(admitted) => admitted,
            Met::Undecided(_) => Admitted::Conflict,
        }
    }
}

/// A record that keeps the data keys beside the names. Its own [`Store`] methods answer and take names as they are stored.
#[async_trait]
pub trait KeyTable: Store {
    /// Every data key, oldest first.
    async fn data_keys(&self) -> Result<Vec<DataKey>>;

    /// [`Store::admit`], where the stored name may be under another key. `another` is a stored name that is known to be another patient's.
    async fn admit_in_form(
        &self,
        encounter: &Encounter,
        another: Option<&PersonName>,
        prediction: Option<&Prediction>,
        audit: &AuditEvent,
    ) -> Result<Met>;

    /// Makes `key` the current one if `after` is it now (`None`: if there is no key at all), which becomes old, with the audit event, in
    /// one transaction; answers whether `key` is current. With the first key, [`PLAIN`] is kept as an old one if there are encounters.
    async fn add_data_key(&self, key: &DataKey, after: Option<&str>, audit: Option<&AuditEvent>) -> Result<bool>;

    /// Retires those of `ids` that are old, with the audit event, in one transaction; answers how many. What is kept in a file of ours holds
    /// nothing under them by then, free pages and log included.
    async fn retire_data_keys(&self, ids: &[String], audit: &AuditEvent) -> Result<u64>;

    /// Puts the wrapping of `key` in the place of the one by `from`, with the audit event, in one transaction; answers whether `from` was
    /// still it.
    async fn rewrap_data_key(&self, key: &DataKey, from: &str, audit: &AuditEvent) -> Result<bool>;

    /// Names with a part whose stored form does not begin with `prefix`, by encounter id after `after`.
    async fn names_not_under(&self, prefix: &str, after: Option<EncounterId>, limit: u32)
    -> Result<Vec<(EncounterId, PersonName)>>;

    /// Puts names into another form, where they still are as `from` says, in one transaction; answers how many were.
    async fn replace_names(&self, renamings: &[Renaming]) -> Result<u64>;

    /// Words of elevations whose stored form does not begin with `prefix`, by id after `after`.
    async fn words_not_under(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<(String, Phi<String>)>>;

    /// Puts words into another form, where they still are as `from` says, in one transaction; answers how many were.
    async fn replace_words(&self, rewordings: &[Rewording]) -> Result<u64>;
}
