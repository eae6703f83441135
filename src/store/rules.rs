//! Decisions that every back end makes alike. It does not know any SQL.

use std::collections::HashMap;

use chrono::NaiveDate;
use sha2::{Digest, Sha256};

use super::columns::unreadable;
use super::{Discharged, Finish, PartEnd, Stored};
use crate::domain::access::Proof;
use crate::domain::anomaly::{Direction, Finding, Group};
use crate::domain::encounter::STAY_DAYS_MAX;
use crate::domain::import::{ImportId, LineSpan, Reject, State};
use crate::domain::model::ModelRecord;
use crate::domain::{Action, AuditEvent, AuditRow, Caller, Encounter, EncounterId, FacilityId, Outcome, Phi, Role};
use crate::error::{Error, Result};
use crate::schema::Feature;

/// An admission says nothing of a discharge, so one that came since does not make a repeated admission another one.
pub(super) fn is_same_admission(new: &Encounter, stored: &Encounter) -> bool {
    match new.discharged.reveal() {
        Some(_) => new == stored,
        None => *new == Encounter { discharged: Phi::new(None), ..stored.clone() },
    }
}

/// What a discharge comes to.
pub(super) enum Departure {
    /// The encounter is open and may be closed; here it is, still open.
    Close(Box<Stored>),
    /// Nothing is to be written.
    Answer(Discharged),
}

/// Decides on a discharge of what was `found`.
pub(super) fn departure(found: Option<Stored>, on: NaiveDate) -> Departure {
    let Some(stored) = found else { return Departure::Answer(Discharged::Unknown) };
    let admitted = *stored.encounter.admitted.reveal();
    match *stored.encounter.discharged.reveal() {
        Some(day) if day == on => Departure::Answer(Discharged::Before(Box::new(stored))),
        Some(_) => Departure::Answer(Discharged::Conflict),
        None if on < admitted => Departure::Answer(Discharged::BeforeAdmission),
        None if (on - admitted).num_days() > STAY_DAYS_MAX => Departure::Answer(Discharged::TooLong),
        None => Departure::Close(Box::new(stored)),
    }
}

/// The reject of the rule that only the store can hold.
pub(super) fn belongs_to_an_admission(line: u64) -> Reject {
    Reject {
        line,
        column: "eid".into(),
        rule: "must not be the id of another encounter that was admitted".into(),
        remedy: "Give the encounter in the file its own id.".into(),
    }
}

/// Rejects with their ordinals among those of their line, from 0.
pub(super) fn numbered<'r>(rejects: impl Iterator<Item = &'r Reject>) -> impl Iterator<Item = (u32, &'r Reject)> {
    let mut ordinals: HashMap<u64, u32> = HashMap::new();
    rejects.map(move |reject| (*ordinals.entry(reject.line).and_modify(|last| *last += 1).or_default(), reject))
}

/// What the ledger says of a finish: state, SHA-256, further columns, lines, failure.
pub(super) fn ending(finish: &Finish) -> (State, &str, String, (u64, u64), &str) {
    match finish {
        Finish::Done { sha256, extra_columns, lines } => (State::Done, sha256, extra_columns.join(","), line_numbers(*lines), ""),
        Finish::Failed { reason } => (State::Failed, "", String::new(), (0, 0), reason),
    }
}

/// What the ledger says of an import that a part's end closes: state, failure.
pub(super) fn closing(end: &PartEnd) -> (State, &str) {
    match end {
        PartEnd::Done => (State::Done, ""),
        PartEnd::Failed { reason } => (State::Failed, reason),
    }
}

/// The first and the last line as the ledger holds them: lines count from 1, so 0 is none.
pub(super) fn line_numbers(lines: Option<LineSpan>) -> (u64, u64) {
    lines.map_or((0, 0), |lines| (lines.first, lines.last))
}

/// Reads what [`line_numbers`] made.
pub(super) fn line_span(first: u64, last: u64) -> Option<LineSpan> {
    (first > 0).then_some(LineSpan { first, last })
}

/// Nobody began this import.
pub(super) fn unknown_import(id: &ImportId) -> Error {
    Error::not_found(format!("no import has the id {id}; begin it first"))
}

/// Largest model kept, in bytes: what an instance loads into memory, with room to spare.
const MODEL_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Refuses a model that is too large.
pub(super) fn check_model(model: &ModelRecord) -> Result<()> {
    match model.bytes.len() > MODEL_BYTES_MAX {
        true => Err(Error::invalid("the model is larger than the record keeps; train a smaller one")),
        false => Ok(()),
    }
}

/// A version is kept once.
pub(super) fn version_is_taken() -> Error {
    Error::conflict("a model of this version is kept already; give the new one its own version")
}

/// Refuses a finding that does not come back as it went in.
pub(super) fn check_finding(finding: &Finding) -> Result<()> {
    let numbers = [finding.mean_days, finding.expected_days, finding.average_days, finding.limit_days];
    match numbers.iter().all(|number| number.is_finite()) {
        true => Ok(()),
        false => Err(Error::internal("a finding holds a number that is not finite; the findings before stay")),
    }
}

/// Reads a finding's group and direction.
pub(super) fn group_and_direction(facility: &str, condition: Option<&str>, direction: &str) -> Result<(Group, Direction)> {
    let known =
        |name: &str| Feature::conditions().find(|feature| feature.spec().name == name).ok_or_else(|| unreadable("condition"));
    let condition = condition.map(known).transpose()?;
    let facility = FacilityId::parse(facility).ok_or_else(|| unreadable("facility id"))?;
    let direction = Direction::ALL.into_iter().find(|known| known.name() == direction).ok_or_else(|| unreadable("direction"))?;
    Ok((Group { facility, condition }, direction))
}

/// `event` as it is if the fact was `done`, as a failure if not.
pub(super) fn event_as(event: &AuditEvent, done: bool) -> AuditEvent {
    let outcome = if done { event.outcome } else { Outcome::Failure };
    AuditEvent { outcome, ..event.clone() }
}

/// The names of a caller's roles, with commas between them.
pub(super) fn role_names(caller: &Caller) -> String {
    caller.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(",")
}

/// Without its head a chain cannot go on, and nothing is done that leaves no trace.
pub(super) fn head_is_gone() -> Error {
    Error::internal(
        "the table audithead lacks the head of a chain: somebody deleted it; run `hdai audit verify`, then restore it from a backup",
    )
}

/// Reads the words of an event.
pub(super) fn audit_event(row: AuditRow) -> Result<AuditEvent> {
    let roles: Option<Vec<_>> = row.roles.split(',').filter(|name| !name.is_empty()).map(Role::parse).collect();
    let roles = roles.ok_or_else(|| unreadable("role"))?;
    let proof = Proof::ALL.into_iter().find(|known| known.name() == row.proof).ok_or_else(|| unreadable("proof"))?;
    let caller = Caller { origin: row.origin, ..Caller::of(row.caller, roles, proof, row.correlation) };
    let encounter = |id| EncounterId::new(id).ok_or_else(|| unreadable("encounter id"));
    Ok(AuditEvent {
        at: row.at,
        caller,
        action: Action::ALL.iter().copied().find(|known| known.name() == row.action).ok_or_else(|| unreadable("action"))?,
        outcome: Outcome::ALL.into_iter().find(|known| known.name() == row.outcome).ok_or_else(|| unreadable("outcome"))?,
        encounter: row.encounter.map(encounter).transpose()?,
        detail: row.detail,
        announcement: None,
    })
}

/// A migration: one that ran on a database, or one that this program knows.
pub(super) struct Numbered {
    pub(super) number: i64,
    pub(super) name: String,
    pub(super) checksum: String,
}

/// How many of `known` are `applied`, if those are exactly the first ones.
pub(super) fn check_migrations(applied: &[Numbered], known: &[Numbered]) -> Result<usize> {
    if let Some(newer) = applied.get(known.len()) {
        return Err(Error::conflict(format!(
            "the database is newer than this program: it has migration {} which this program does not know; install the newer program",
            newer.name
        )));
    }
    for (ran, migration) in applied.iter().zip(known) {
        if ran.number != migration.number || ran.checksum != migration.checksum {
            return Err(Error::conflict(format!(
                "migration {} of the database is not the one this program has as {}: the database was made by a build with another \
                 schema; use that build, or begin a new database and import the files again",
                ran.name, migration.name
            )));
        }
    }
    Ok(applied.len())
}

/// SHA-256 of what a database makes of `sql`: comments and layout may change, statements may not.
pub(super) fn checksum(sql: &str) -> String {
    let mut hash = Sha256::new();
    for word in sql.lines().flat_map(|line| line.split("--").next().unwrap_or_default().split_whitespace()) {
        hash.update(word);
        hash.update(" ");
    }
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_follows_statements_and_not_comments() {
        assert_eq!(checksum("CREATE TABLE a (\n  b, -- why\n  c);"), checksum("CREATE TABLE a ( b,\n\n c);"));
        assert_ne!(checksum("CREATE TABLE a (b);"), checksum("CREATE TABLE a (c);"));
    }
}
