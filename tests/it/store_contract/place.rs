//! Where a record lies, and the values the contract puts into it. No patient here is real.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, TimeZone, Utc};
use futures_util::future::BoxFuture;
use health_data_ai::domain::import::{Import, ImportId, LineSpan, Part, Plan, Reject, RowRange, Source};
use health_data_ai::domain::{
    Action, AuditEvent, Caller, Clinical, Contribution, Encounter, EncounterId, FacilityId, Gender, Interval, Outcome, PersonName,
    Phi, Prediction, Role,
};
use health_data_ai::schema::{Feature, Shape};
use health_data_ai::store::{Admitted, Batch, Begun, Discharged, PartTaken, Step, Store};

/// A record of its own; every `open` is another process's handle on it.
pub(super) struct Place {
    /// How many sequences of facts are tried on places of this kind.
    pub(super) cases: u32,
    open: Box<dyn Fn() -> BoxFuture<'static, Handle> + Send + Sync>,
}

/// A store, and whatever must live as long as it does.
pub(super) struct Handle {
    store: Arc<dyn Store>,
    _kept: Arc<dyn Send + Sync>,
}

impl Deref for Handle {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

mod backends;
pub(super) use backends::{azure_sql, sealed, server, sqlite};

/// Makes an empty place.
pub(super) type NewPlace = fn() -> Place;

impl Place {
    pub(super) async fn open(&self) -> Handle {
        (self.open)().await
    }

    /// A handle on a record that has its schema.
    pub(super) async fn migrated(&self) -> Handle {
        let store = self.open().await;
        store.migrate().await.unwrap();
        store
    }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(super) fn eid(id: i64) -> EncounterId {
    EncounterId::new(id).unwrap()
}

pub(super) fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// An instant, `seconds` into the tests' day; whole microseconds, which every record keeps.
pub(super) fn at(seconds: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 2, 3, 4, 0, 0).unwrap() + chrono::Duration::microseconds(i64::from(seconds) * 1_000_000 + 1_234)
}

/// A discharged encounter with every value there; each id has its own values.
pub(super) fn encounter(id: i64) -> Encounter {
    let mut clinical = Clinical::default();
    for feature in Feature::all() {
        let turn = id + feature as i64;
        let number = match feature.spec().shape {
            Shape::Readmissions => (turn % 6) as f64,
            Shape::Condition => (turn % 2) as f64,
            Shape::Measurement(m) if m.whole => m.plausible.0.ceil() + (turn % 7) as f64,
            Shape::Measurement(m) => m.plausible.0 + (turn % 97) as f64 / 97.0,
        };
        clinical.set(feature, Some(number));
    }
    let admitted = day("2024-02-20") + Days::new(id.rem_euclid(400) as u64);
    Encounter {
        id: eid(id),
        name: PersonName::new(format!("Given{id}"), format!("Middle{}", id % 3), format!("Family{}", id % 11)),
        gender: Gender::ALL[(id % 4) as usize],
        facility: FacilityId::parse(["A", "B", "C", "D", "E"][(id % 5) as usize]).unwrap(),
        admitted: Phi::new(admitted),
        clinical,
        discharged: Phi::new(Some(admitted + Days::new(id.rem_euclid(9) as u64))),
    }
}

/// The same, still in the hospital.
pub(super) fn open_encounter(id: i64) -> Encounter {
    Encounter { discharged: Phi::new(None), ..encounter(id) }
}

/// An encounter of which only the necessary is known.
pub(super) fn bare_encounter(id: i64) -> Encounter {
    Encounter { name: PersonName::default(), clinical: Clinical::default(), ..open_encounter(id) }
}

pub(super) fn prediction(days: f64) -> Prediction {
    Prediction {
        days,
        interval80: Interval { low: days * 0.8, high: days * 1.3 },
        interval90: Interval { low: days * 0.7, high: days / 0.6 },
        model_version: "m-1".into(),
        baseline_days: 4.0 / 3.0,
        contributions: vec![Contribution { factor: "one reason".into(), days: days - 4.0 / 3.0 }],
        missing: vec!["one".into(), "two".into()],
        out_of_range: vec![],
    }
}

pub(super) fn caller() -> Caller {
    Caller { roles: vec![Role::CareLineManager], ..Caller::command_line("correlation-1") }
}

pub(super) fn event(action: Action, seconds: u32) -> AuditEvent {
    AuditEvent::new(&caller(), action, Outcome::Success, at(seconds))
}

pub(super) fn import_id(number: u32) -> ImportId {
    ImportId(format!("{number:032x}"))
}

pub(super) fn source(number: u32) -> Source {
    Source {
        account: "https://account.blob.core.windows.net".into(),
        container: "trainingdata".into(),
        name: format!("folder/file {number} é.csv"),
        etag: format!("0x{number:X}"),
    }
}

/// Begins the import and answers its entry; it must not be over.
pub(super) async fn begin(store: &dyn Store, number: u32) -> Import {
    match store.begin_import(&import_id(number), &source(number), at(number)).await.unwrap() {
        Begun::Work(entry) => entry,
        begun => panic!("import {number}: {begun:?}"),
    }
}

/// The batch that follows `entry`'s checkpoint.
pub(super) fn batch(entry: &Import, encounters: Vec<Encounter>) -> Batch {
    Batch {
        import: entry.id.clone(),
        part: None,
        attempt: entry.attempt,
        after: entry.checkpoint,
        encounters,
        rejects: Vec::new(),
        lines: Vec::new(),
        rejected_rows: 0,
    }
}

/// A plan of parts with so many rows each; lines and bytes are those of rows of a hundred bytes.
pub(super) fn plan_of(rows: &[u64]) -> Plan {
    let mut next = 0;
    let parts = rows.iter().map(|rows| {
        let first = next;
        next += rows;
        RowRange { bytes: 50 + first * 100..50 + next * 100, first_line: 2 + first, rows: *rows }
    });
    let parts = parts.collect();
    let lines = Some(LineSpan { first: 2, last: 1 + next });
    Plan { sha256: "cd".repeat(32), extra_columns: vec!["ward".into(), "bed".into()], lines, header: 3..50, parts }
}

/// Plans the import in parts with so many rows each.
pub(super) async fn planned(store: &dyn Store, number: u32, rows: &[u64]) -> Import {
    let entry = begin(store, number).await;
    let step = store.plan_import(&entry.id, entry.attempt, &plan_of(rows), &event(Action::Import, 7)).await.unwrap();
    assert!(matches!(step, Step::Committed(_)));
    entry
}

/// Takes a part that is to be worked on.
pub(super) async fn take(store: &dyn Store, import: u32, part: u32) -> Part {
    match store.take_part(&import_id(import), part).await.unwrap() {
        PartTaken::Work(_, part) => part,
        taken => panic!("part {part} of import {import}: {taken:?}"),
    }
}

/// The batch that follows the part's checkpoint.
pub(super) fn part_batch(import: u32, part: &Part, encounters: Vec<Encounter>) -> Batch {
    Batch {
        import: import_id(import),
        part: Some(part.number),
        attempt: part.attempt,
        after: part.checkpoint,
        encounters,
        rejects: Vec::new(),
        lines: Vec::new(),
        rejected_rows: 0,
    }
}

/// Imports `encounters` as one whole file.
pub(super) async fn import(store: &dyn Store, number: u32, encounters: Vec<Encounter>) -> Step {
    let entry = begin(store, number).await;
    store.import_batch(&batch(&entry, encounters)).await.unwrap()
}

pub(super) fn reject(line: u64, rule: &str) -> Reject {
    Reject { line, column: "vdate".into(), rule: rule.into(), remedy: "Correct it.".into() }
}

pub(super) async fn admit(store: &dyn Store, encounter: &Encounter, prediction: Option<&Prediction>) -> Admitted {
    store.admit(encounter, prediction, &event(Action::Admit, 1).about(encounter.id)).await.unwrap()
}

pub(super) async fn discharge(store: &dyn Store, id: EncounterId, on: NaiveDate) -> Discharged {
    store.discharge(id, on, &event(Action::Discharge, 2).about(id)).await.unwrap()
}

/// Equality to the last bit of every number.
#[track_caller]
pub(super) fn assert_same(found: &Encounter, expected: &Encounter) {
    assert!(found == expected, "encounter {} differs", expected.id.get());
    for feature in Feature::all() {
        let bits = |encounter: &Encounter| encounter.clinical.get(feature).map(f64::to_bits);
        assert!(bits(found) == bits(expected), "{} of encounter {} differs in its bits", feature.spec().name, expected.id.get());
    }
}
