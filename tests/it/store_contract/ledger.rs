//! Imports: whatever is delivered how often, a row of a file counts once.

use std::sync::Arc;

use health_data_ai::domain::import::{Counts, Import, LineSpan, Source, State};
use health_data_ai::domain::{Action, Encounter, Gender, Outcome, PersonName, Phi};
use health_data_ai::error::Kind;
use health_data_ai::schema::Feature;
use health_data_ai::store::{Begun, Finish, REJECTS_KEPT_MAX, Step, Store};

use super::place::*;

/// More than 32 bits hold.
const LINES: Option<LineSpan> = Some(LineSpan { first: 2, last: 5_000_000_000 });

fn done() -> Finish {
    Finish::Done { sha256: "ab".repeat(32), extra_columns: vec!["ward".into(), "é\"".into()], lines: LINES }
}

fn counts(stored: u64, updated: u64, unchanged: u64, rejected: u64) -> Counts {
    Counts { read: stored + updated + unchanged + rejected, stored, updated, unchanged, rejected }
}

pub(super) async fn an_import_begins_once_and_is_taken_over(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let first = begin(&*store, 7).await;
    let expected = Import {
        id: import_id(7),
        source: source(7),
        state: State::Running,
        attempt: 1,
        checkpoint: 0,
        counts: Counts::default(),
        failure: String::new(),
        extra_columns: String::new(),
        sha256: String::new(),
        lines: None,
        started: at(7),
        finished: None,
    };
    assert_eq!(first, expected);
    let again = store.begin_import(&import_id(7), &source(7), at(99)).await.unwrap();
    assert_eq!(
        again,
        Begun::Work(Import { attempt: 2, ..expected.clone() }),
        "a second delivery takes over, and the first began it"
    );
    assert_eq!(store.import(&import_id(7)).await.unwrap(), Some(Import { attempt: 2, ..expected }));
    assert_eq!(store.import(&import_id(8)).await.unwrap(), None);
}

pub(super) async fn a_batch_is_counted_exactly(new_place: NewPlace) {
    let store = new_place().migrated().await;
    assert_eq!(import(&*store, 1, (1..=20).map(encounter).collect()).await, Step::Committed(counts(20, 0, 0, 0)));

    let mut entry = begin(&*store, 2).await;
    let mut renamed = encounter(4);
    renamed.name = PersonName::new("Other", "New", "Name");
    let mut unknown = encounter(9);
    unknown.clinical.set(Feature::Sodium, None);
    let rows = vec![encounter(1), encounter(30), renamed.clone(), encounter(2), unknown.clone(), encounter(31)];
    let mut second = batch(&entry, rows);
    second.rejects = vec![reject(4, "must be a date"), reject(4, "must be a number"), reject(8, "must be a date")];
    second.rejected_rows = 2;
    assert_eq!(store.import_batch(&second).await.unwrap(), Step::Committed(counts(2, 2, 2, 2)));

    entry.checkpoint = 8;
    assert_eq!(store.import_batch(&batch(&entry, vec![encounter(30)])).await.unwrap(), Step::Committed(counts(0, 0, 1, 0)));
    let entry = store.import(&import_id(2)).await.unwrap().unwrap();
    assert_eq!((entry.checkpoint, entry.counts), (9, counts(2, 2, 3, 2)));
    assert_same(&store.encounter(eid(4)).await.unwrap().unwrap().encounter, &renamed);
    assert_same(&store.encounter(eid(9)).await.unwrap().unwrap().encounter, &unknown);
    assert_eq!(store.totals().await.unwrap().encounters, 22);
}

/// A file may leave out names and discharges; what is known of them stays. Another day of admission is another stay.
pub(super) async fn a_file_without_names_or_discharges_erases_none(new_place: NewPlace) {
    let store = new_place().migrated().await;
    assert_eq!(import(&*store, 1, vec![encounter(5)]).await, Step::Committed(counts(1, 0, 0, 0)));
    let bare = Encounter { name: PersonName::default(), discharged: Phi::new(None), ..encounter(5) };
    assert_eq!(import(&*store, 2, vec![bare.clone()]).await, Step::Committed(counts(0, 0, 1, 0)));
    assert_same(&store.encounter(eid(5)).await.unwrap().unwrap().encounter, &encounter(5));
    let later = bare.admitted.reveal().succ_opt().unwrap();
    assert_eq!(
        import(&*store, 3, vec![Encounter { admitted: Phi::new(later), ..bare }]).await,
        Step::Committed(counts(0, 1, 0, 0))
    );
    let stored = store.encounter(eid(5)).await.unwrap().unwrap().encounter;
    assert_same(&stored, &Encounter { admitted: Phi::new(later), discharged: Phi::new(None), ..encounter(5) });
}

pub(super) async fn a_row_twice_in_one_file_is_stored_and_then_updated(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let changed = Encounter { gender: Gender::Other, ..encounter(5) };
    let rows = vec![encounter(5), encounter(5), changed.clone(), changed.clone(), encounter(6), encounter(5)];
    assert_eq!(import(&*store, 1, rows).await, Step::Committed(counts(2, 2, 2, 0)));
    // The same id first in a batch of its own, right after the insert, on the same connection.
    assert_eq!(import(&*store, 2, vec![encounter(7)]).await, Step::Committed(counts(1, 0, 0, 0)));
    let changed = Encounter { gender: Gender::Other, ..encounter(7) };
    assert_eq!(import(&*store, 3, vec![changed]).await, Step::Committed(counts(0, 1, 0, 0)));
}

pub(super) async fn the_same_batch_twice_changes_nothing(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let entry = begin(&*store, 1).await;
    let mut first = batch(&entry, (1..=5).map(encounter).collect());
    first.rejects = vec![reject(3, "must be a date")];
    first.rejected_rows = 1;
    assert_eq!(store.import_batch(&first).await.unwrap(), Step::Committed(counts(5, 0, 0, 1)));
    let before = store.import(&import_id(1)).await.unwrap();
    assert_eq!(store.import_batch(&first).await.unwrap(), Step::Superseded, "its checkpoint has passed");
    let mut ahead = batch(&entry, vec![encounter(9)]);
    ahead.after = 7;
    assert_eq!(store.import_batch(&ahead).await.unwrap(), Step::Superseded, "rows would be left out");
    assert_eq!(store.import(&import_id(1)).await.unwrap(), before);
    assert_eq!(store.totals().await.unwrap().encounters, 5);
    assert_eq!(store.rejects(&import_id(1), 0, 10).await.unwrap().len(), 1);
}

pub(super) async fn an_older_attempt_is_superseded(new_place: NewPlace) {
    let place = new_place();
    let (one, other) = (place.migrated().await, place.open().await);
    let first = begin(&*one, 1).await;
    one.import_batch(&batch(&first, vec![encounter(1)])).await.unwrap();
    let second = begin(&*other, 1).await;
    assert_eq!((second.attempt, second.checkpoint), (2, 1));

    let mut late = batch(&first, vec![encounter(2)]);
    late.after = 1;
    assert_eq!(one.import_batch(&late).await.unwrap(), Step::Superseded);
    assert_eq!(
        one.finish_import(&import_id(1), first.attempt, &done(), &event(Action::Import, 3)).await.unwrap(),
        Step::Superseded
    );
    assert!(one.audit_events(10).await.unwrap().is_empty(), "a superseded finish is no fact");

    assert_eq!(other.import_batch(&batch(&second, vec![encounter(2)])).await.unwrap(), Step::Committed(counts(1, 0, 0, 0)));
    let finished = other.finish_import(&import_id(1), 2, &done(), &event(Action::Import, 4)).await.unwrap();
    assert_eq!(finished, Step::Committed(counts(2, 0, 0, 0)), "a finish answers the whole import's counts");
}

pub(super) async fn an_import_resumes_from_its_checkpoint_in_another_process(new_place: NewPlace) {
    let place = new_place();
    let file: Vec<_> = (1..=50).map(encounter).collect();
    {
        let store = place.migrated().await;
        let entry = begin(&*store, 1).await;
        store.import_batch(&batch(&entry, file[..20].to_vec())).await.unwrap();
    }
    let store = place.open().await;
    let entry = begin(&*store, 1).await;
    assert_eq!((entry.attempt, entry.checkpoint, entry.counts), (2, 20, counts(20, 0, 0, 0)));
    store.import_batch(&batch(&entry, file[20..].to_vec())).await.unwrap();
    let finished = store.finish_import(&import_id(1), 2, &done(), &event(Action::Import, 4)).await.unwrap();
    assert_eq!(finished, Step::Committed(counts(50, 0, 0, 0)));
    for row in &file {
        assert_same(&store.encounter(row.id).await.unwrap().unwrap().encounter, row);
    }
}

pub(super) async fn sixteen_deliveries_at_once_end_in_one_table(new_place: NewPlace) {
    let place = new_place();
    place.migrated().await;
    let file: Arc<Vec<_>> = Arc::new((1..=300).map(encounter).collect());
    let mut deliveries = Vec::new();
    for _ in 0..16 {
        // Every delivery has a handle of its own, as every instance would.
        let (store, file) = (place.open().await, Arc::clone(&file));
        deliveries.push(tokio::spawn(async move { deliver(&*store, &file).await }));
    }
    let mut finished = 0;
    for delivery in deliveries {
        finished += u32::from(delivery.await.unwrap());
    }
    assert_eq!(finished, 1, "one delivery finishes the import");
    let store = place.open().await;
    let entry = store.import(&import_id(1)).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.checkpoint, entry.counts), (State::Done, 300, counts(300, 0, 0, 0)));
    assert_eq!(store.totals().await.unwrap().encounters, 300);
    assert_eq!(store.audit_events(20).await.unwrap().len(), 1);
    for row in file.iter() {
        assert_same(&store.encounter(row.id).await.unwrap().unwrap().encounter, row);
    }
}

/// One delivery of the file; true if it was the one that finished it.
async fn deliver(store: &dyn Store, file: &[Encounter]) -> bool {
    let mut entry = match store.begin_import(&import_id(1), &source(1), at(1)).await.unwrap() {
        Begun::Work(entry) => entry,
        Begun::Over(_) => return false,
        Begun::InParts(..) => panic!("nobody planned it"),
    };
    while (entry.checkpoint as usize) < file.len() {
        let from = entry.checkpoint as usize;
        let rows = file[from..(from + 30).min(file.len())].to_vec();
        match store.import_batch(&batch(&entry, rows)).await.unwrap() {
            Step::Committed(counts) => entry.checkpoint += counts.read,
            Step::Superseded => return false,
        }
    }
    store.finish_import(&entry.id, entry.attempt, &done(), &event(Action::Import, 5)).await.unwrap() != Step::Superseded
}

pub(super) async fn a_finished_import_is_over(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let entry = begin(&*store, 1).await;
    store.import_batch(&batch(&entry, vec![encounter(1)])).await.unwrap();
    let audit = event(Action::Import, 60).detail(import_id(1).0);
    assert_eq!(store.finish_import(&import_id(1), 1, &done(), &audit).await.unwrap(), Step::Committed(counts(1, 0, 0, 0)));

    let entry = store.import(&import_id(1)).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.finished, entry.failure.as_str()), (State::Done, Some(at(60)), ""));
    assert_eq!((entry.sha256.as_str(), entry.extra_columns.as_str()), ("ab".repeat(32).as_str(), "ward,é\""));
    assert_eq!(entry.lines, LINES);
    assert_eq!(store.audit_events(10).await.unwrap(), [audit]);
    assert_eq!(store.begin_import(&import_id(1), &source(1), at(90)).await.unwrap(), Begun::Over(entry.clone()));
    let mut late = batch(&entry, vec![encounter(2)]);
    late.after = 1;
    assert_eq!(store.import_batch(&late).await.unwrap(), Step::Superseded);
    assert_eq!(store.finish_import(&import_id(1), 1, &done(), &event(Action::Import, 91)).await.unwrap(), Step::Superseded);
    assert_eq!(store.import(&import_id(1)).await.unwrap(), Some(entry));
}

pub(super) async fn a_failed_import_says_why(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let entry = begin(&*store, 1).await;
    store.import_batch(&batch(&entry, vec![encounter(1)])).await.unwrap();
    let failed = Finish::Failed { reason: "the header lacks a column".into() };
    let audit = health_data_ai::domain::AuditEvent { outcome: Outcome::Failure, ..event(Action::Import, 9) };
    store.finish_import(&import_id(1), 1, &failed, &audit).await.unwrap();
    let entry = store.import(&import_id(1)).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.failure.as_str()), (State::Failed, "the header lacks a column"));
    assert_eq!((entry.sha256.as_str(), entry.counts), ("", counts(1, 0, 0, 0)), "what was committed before stays counted");
    assert_eq!(store.audit_events(10).await.unwrap(), [audit]);

    // The reason may be cured: a new delivery goes on behind what is committed.
    let Begun::Work(entry) = store.begin_import(&import_id(1), &source(1), at(10)).await.unwrap() else { panic!("it goes on") };
    assert_eq!((entry.state, entry.attempt, entry.checkpoint, entry.failure.as_str()), (State::Running, 2, 1, ""));
    assert_eq!(entry.finished, None);
}

pub(super) async fn an_entry_of_a_replaced_file_is_closed(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let old = begin(&*store, 1).await;
    store.import_batch(&batch(&old, vec![encounter(1)])).await.unwrap();
    let newer = Source { etag: "newer".into(), ..source(1) };
    store.begin_import(&import_id(2), &newer, at(10)).await.unwrap();
    let old = store.import(&import_id(1)).await.unwrap().unwrap();
    assert_eq!((old.state, old.failure.is_empty(), old.finished), (State::Failed, false, Some(at(10))));
    assert_eq!(store.import_batch(&batch(&old, vec![encounter(2)])).await.unwrap(), Step::Superseded);
    assert_eq!(store.import(&import_id(2)).await.unwrap().unwrap().state, State::Running);
}

/// A patient on a ward is not written over by a file that happens to use the same id.
pub(super) async fn a_row_with_the_id_of_another_admission_is_a_reject(new_place: NewPlace) {
    let store = new_place().migrated().await;
    admit(&*store, &open_encounter(1), None).await;
    let another = Encounter { admitted: Phi::new(open_encounter(1).admitted.reveal().pred_opt().unwrap()), ..encounter(1) };
    let mut entry = begin(&*store, 1).await;
    let mut rows = batch(&entry, vec![encounter(2), another]);
    rows.lines = vec![2, 7];
    assert_eq!(store.import_batch(&rows).await.unwrap(), Step::Committed(counts(1, 0, 0, 1)));
    entry = store.import(&import_id(1)).await.unwrap().unwrap();
    assert_eq!((entry.checkpoint, entry.counts), (2, counts(1, 0, 0, 1)));
    let rejects = store.rejects(&import_id(1), 0, 9).await.unwrap();
    assert_eq!((rejects.len(), rejects[0].line, rejects[0].column.as_str()), (1, 7, "eid"));
    assert_same(&store.encounter(eid(1)).await.unwrap().unwrap().encounter, &open_encounter(1));
}

pub(super) async fn rejects_are_read_in_line_order_and_capped(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let mut entry = begin(&*store, 1).await;
    let per_batch = 3_000;
    for number in 0..4 {
        let mut part = batch(&entry, vec![]);
        let first = 2 + number * per_batch;
        part.rejects = (first..first + per_batch).map(|line| reject(line, &format!("rule of line {line}"))).collect();
        part.rejected_rows = per_batch;
        assert_eq!(store.import_batch(&part).await.unwrap(), Step::Committed(counts(0, 0, 0, per_batch)));
        entry.checkpoint += per_batch;
    }
    let mut read = Vec::new();
    loop {
        let page = store.rejects(&import_id(1), read.len() as u64, 999).await.unwrap();
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    let expected: Vec<_> = (2..2 + REJECTS_KEPT_MAX).map(|line| reject(line, &format!("rule of line {line}"))).collect();
    assert!(read == expected, "the first {REJECTS_KEPT_MAX} are kept, in order");
    assert_eq!(store.import(&import_id(1)).await.unwrap().unwrap().counts.rejected, 4 * per_batch, "all are counted");

    // Several rules of one line keep their order, and another import has its own.
    let entry = begin(&*store, 2).await;
    let mut part = batch(&entry, vec![]);
    part.rejects = vec![reject(9, "a"), reject(5, "b"), reject(9, "c"), reject(5, "d")];
    part.rejected_rows = 2;
    store.import_batch(&part).await.unwrap();
    assert_eq!(store.rejects(&import_id(2), 0, 9).await.unwrap(), [reject(5, "b"), reject(5, "d"), reject(9, "a"), reject(9, "c")]);
    assert_eq!(store.rejects(&import_id(2), 3, 9).await.unwrap(), [reject(9, "c")]);
    assert!(store.rejects(&import_id(3), 0, 9).await.unwrap().is_empty());
}

pub(super) async fn a_batch_with_an_impossible_value_leaves_nothing(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let entry = begin(&*store, 1).await;
    for (feature, number) in [
        (Feature::Asthma, 2.0),
        (Feature::Readmissions, 5.5),
        (Feature::Pulse, 0.25),
        (Feature::Sodium, f64::NAN),
        (Feature::Pulse, 3e9),
        (Feature::Sodium, 5e-324),
    ] {
        let mut wrong = encounter(3);
        wrong.clinical.set(feature, Some(number));
        let mut part = batch(&entry, vec![encounter(1), encounter(2), wrong]);
        part.rejects = vec![reject(9, "a")];
        part.rejected_rows = 1;
        let error = store.import_batch(&part).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().contains(feature.spec().name) && !error.to_string().contains(&number.to_string()), "{error}");
    }
    let before_admission = Encounter { discharged: Phi::new(encounter(3).admitted.reveal().pred_opt()), ..encounter(3) };
    let long_name = Encounter { name: PersonName::new("é".repeat(51), "", ""), ..encounter(3) };
    // Each of these characters is two of the column's.
    let wide_name = Encounter { name: PersonName::new("\u{1f600}".repeat(26), "", ""), ..encounter(3) };
    for wrong in [before_admission, long_name, wide_name] {
        let part = batch(&entry, vec![encounter(1), wrong]);
        assert_eq!(store.import_batch(&part).await.unwrap_err().kind(), Kind::Invalid);
    }
    assert_eq!(store.import(&import_id(1)).await.unwrap(), Some(entry.clone()));
    assert_eq!(store.totals().await.unwrap().encounters, 0);
    assert!(store.rejects(&import_id(1), 0, 9).await.unwrap().is_empty());
    let right = batch(&entry, vec![encounter(1), encounter(2), encounter(3)]);
    assert_eq!(store.import_batch(&right).await.unwrap(), Step::Committed(counts(3, 0, 0, 0)), "the store works on");
}

pub(super) async fn an_import_nobody_began_is_not_found(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let mut entry = begin(&*store, 1).await;
    entry.id = import_id(2);
    assert_eq!(store.import_batch(&batch(&entry, vec![])).await.unwrap_err().kind(), Kind::NotFound);
    let finish = store.finish_import(&import_id(2), 1, &done(), &event(Action::Import, 1)).await;
    assert_eq!(finish.unwrap_err().kind(), Kind::NotFound);
}

pub(super) async fn an_import_keeps_the_prediction_of_an_admission(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let said = prediction(3.7);
    admit(&*store, &open_encounter(1), Some(&said)).await;
    admit(&*store, &open_encounter(2), Some(&said)).await;
    assert_eq!(store.totals().await.unwrap().admitted, 2);
    assert_eq!(import(&*store, 1, vec![encounter(1), open_encounter(2)]).await, Step::Committed(counts(0, 1, 1, 0)));
    let stored = store.encounter(eid(1)).await.unwrap().unwrap();
    assert_same(&stored.encounter, &encounter(1));
    assert_eq!(stored.prediction, Some(said));
    assert_eq!(store.totals().await.unwrap().admitted, 1, "the row that the import did not change is still the admission's");
}

pub(super) async fn imports_are_listed_newest_first(new_place: NewPlace) {
    let store = new_place().migrated().await;
    for number in [3, 1, 2] {
        begin(&*store, number).await;
    }
    begin(&*store, 3).await;
    let ids = |imports: Vec<Import>| imports.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
    assert_eq!(ids(store.imports(9).await.unwrap()), [import_id(2), import_id(1), import_id(3)]);
    assert_eq!(ids(store.imports(1).await.unwrap()), [import_id(2)]);
}
