//! Decisions that every back end makes alike. It does not know any SQL.

use std::collections::HashMap;

use chrono::NaiveDate;
use sha2::{Digest, Sha256};

use super::access::Broken;
use super::columns::unreadable;
use super::{AuditQuery, Discharged, Finish, PartEnd, Stored};
use crate::domain::anomaly::{Direction, Finding, Group};
use crate::domain::audit::Anchor;
use crate::domain::encounter::STAY_DAYS_MAX;
use crate::domain::import::{ImportId, LineSpan, Reject, State};
use crate::domain::model::ModelRecord;
use crate::domain::{AuditEvent, Encounter, FacilityId, Outcome, PersonName, Phi, Reach, Role};
use crate::error::{Error, Result};
use crate::schema::Feature;

/// An admission says nothing of a discharge, so one that came since does not make a repeated admission another one.
pub(super) fn is_same_admission(new: &Encounter, stored: &Encounter) -> bool {
    match new.discharged.reveal() {
        Some(_) => new == stored,
        None => *new == Encounter { discharged: Phi::new(None), ..stored.clone() },
    }
}

/// Would it be the same admission if its name were the stored one, in another form? `another` is a stored name that is known to be another's.
pub(super) fn may_be_same_admission(new: &Encounter, stored: &Encounter, another: Option<&PersonName>) -> bool {
    let named_alike = || Encounter { name: stored.name.clone(), ..new.clone() };
    another != Some(&stored.name) && is_same_admission(&named_alike(), stored)
}

/// What a discharge comes to.
pub(super) enum Departure {
    /// The encounter is open and may be closed; here it is, still open.
    Close(Box<Stored>),
    /// Nothing is to be written.
    Answer(Discharged),
}

/// Decides on a discharge of what was `found`.
pub(super) fn departure(found: Option<Stored>, on: NaiveDate, reach: &Reach) -> Departure {
    let Some(stored) = found else { return Departure::Answer(Discharged::Unknown) };
    if !reach.holds(stored.encounter.facility) {
        return Departure::Answer(Discharged::OutOfReach);
    }
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

/// What the trail says of a discharge of a patient of `facility`, where that is known.
pub(super) fn discharge_event(event: &AuditEvent, discharged: &Discharged, facility: Option<FacilityId>) -> AuditEvent {
    let event = facility.map_or_else(|| event.clone(), |facility| event.clone().at_facility(facility));
    match discharged {
        Discharged::Now(_) | Discharged::Before(_) => event,
        Discharged::OutOfReach => AuditEvent { outcome: Outcome::Refused, ..event }.detail("the facility is out of reach"),
        _ => event_as(&event, false),
    }
}

/// What the trail says of an attempt to break the glass.
pub(super) fn broken_event(event: &AuditEvent, broken: &Broken) -> AuditEvent {
    match broken {
        Broken::Now => event.clone(),
        Broken::Runs(elevation) => event.clone().detail(format!("runs already: {}", elevation.id)),
        Broken::TooMany => AuditEvent { outcome: Outcome::Refused, ..event.clone() }.detail("too many within a day"),
    }
}

/// The names of a caller's roles, with commas between them.
pub(super) fn role_names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(",")
}

/// Reads [`role_names`].
pub(super) fn roles_named(names: &str) -> Result<Vec<Role>> {
    let roles: Option<Vec<_>> = names.split(',').filter(|name| !name.is_empty()).map(Role::parse).collect();
    roles.ok_or_else(|| unreadable("role"))
}

/// Without its head a chain cannot go on, and nothing is done that leaves no trace.
pub(super) fn head_is_gone() -> Error {
    Error::internal(
        "the table audithead lacks the head of a chain: somebody deleted it; run `hdai audit verify`, then restore it from a backup",
    )
}

/// The database keeps what is younger than its retention.
pub(super) fn time_is_not_over() -> Error {
    Error::conflict("the record keeps audit events until their time is over by the database's clock: nothing was removed")
}

/// By what the events of a question are found: the filter that leaves the fewest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// An index of the encounters.
    Encounter,
    /// An index of the callers.
    Caller,
    /// An index of the actions.
    Action,
    /// An index of the times.
    Time,
    /// The trail from its end, or from the page before: the events of a span of time lie close together there.
    Place,
}

impl By {
    pub(super) fn of(query: &AuditQuery) -> Self {
        match query {
            AuditQuery { encounter: Some(_), .. } => By::Encounter,
            AuditQuery { caller: Some(_), .. } => By::Caller,
            AuditQuery { action: Some(_), .. } => By::Action,
            AuditQuery { from: None, to: None, .. } | AuditQuery { before: Some(_), .. } => By::Place,
            _ => By::Time,
        }
    }
}

/// The last of each chain of `anchors`, which are in order.
pub(super) fn last_anchors(anchors: Vec<Anchor>) -> Vec<Anchor> {
    let mut last: Vec<Anchor> = Vec::new();
    for anchor in anchors {
        if last.last().is_some_and(|before| before.partition == anchor.partition) {
            last.pop();
        }
        last.push(anchor);
    }
    last
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
