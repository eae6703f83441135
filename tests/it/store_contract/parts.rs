//! Large files in parts: whatever is delivered how often and in what order, a row counts once and the import ends once.

use health_data_ai::domain::import::{Counts, LineSpan, Part, State};
use health_data_ai::domain::{Action, AuditEvent, Encounter, Gender, Outcome};
use health_data_ai::error::Kind;
use health_data_ai::store::{Begun, PartEnd, PartStep, PartTaken, Step, Store};

use super::place::*;

fn counts(stored: u64, updated: u64, unchanged: u64, rejected: u64) -> Counts {
    Counts { read: stored + updated + unchanged + rejected, stored, updated, unchanged, rejected }
}

fn part_event(part: u32) -> AuditEvent {
    event(Action::Import, 20).detail(format!("part {part}"))
}

fn closing() -> AuditEvent {
    event(Action::Import, 30).detail("closed")
}

async fn end(store: &dyn Store, import: u32, part: &Part) -> PartStep {
    store.finish_part(&import_id(import), part, &PartEnd::Done, &part_event(part.number), &closing()).await.unwrap()
}

async fn closings(store: &dyn Store) -> usize {
    store.audit_events(99).await.unwrap().iter().filter(|event| event.detail == "closed").count()
}

pub(super) async fn a_plan_is_kept_once_and_says_what_is_left(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let first = begin(&*store, 1).await;
    let plan = plan_of(&[3, 2, 4]);
    let second = begin(&*store, 1).await;
    let audit = event(Action::Import, 9);
    let late = store.plan_import(&first.id, first.attempt, &plan, &audit).await.unwrap();
    assert_eq!(late, Step::Superseded, "a newer delivery plans");
    assert_eq!(begin(&*store, 1).await.attempt, 3, "and nothing is planned");
    for _ in 0..2 {
        let planned = store.plan_import(&second.id, 3, &plan, &audit).await.unwrap();
        assert_eq!(planned, Step::Committed(Counts::default()));
    }
    assert_eq!(store.audit_events(9).await.unwrap(), std::slice::from_ref(&audit));
    let Begun::InParts(entry, left) = store.begin_import(&second.id, &source(1), at(9)).await.unwrap() else {
        panic!("it is planned")
    };
    assert_eq!((entry.state, entry.attempt, left), (State::Running, 4, vec![0, 1, 2]));
    assert_eq!((entry.sha256, entry.extra_columns), ("cd".repeat(32), "ward,bed".to_owned()));
    assert_eq!((entry.lines, entry.checkpoint), (Some(LineSpan { first: 2, last: 10 }), 0));
    for (number, range) in (0..).zip(&plan.parts) {
        let part = take(&*store, 1, number).await;
        assert_eq!(part, Part { number, header: 3..50, range: range.clone(), attempt: 1, checkpoint: 0 });
    }
    assert_eq!(store.take_part(&import_id(1), 3).await.unwrap(), PartTaken::Unknown);
    assert_eq!(store.take_part(&import_id(2), 0).await.unwrap(), PartTaken::Unknown);
    let unknown = store.plan_import(&import_id(2), 1, &plan, &audit).await.unwrap_err();
    assert_eq!(unknown.kind(), Kind::NotFound);
}

pub(super) async fn what_is_begun_whole_is_not_planned(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let entry = begin(&*store, 1).await;
    store.import_batch(&batch(&entry, vec![encounter(1)])).await.unwrap();
    let step = store.plan_import(&entry.id, 1, &plan_of(&[1]), &event(Action::Import, 9)).await.unwrap();
    assert_eq!(step, Step::Superseded, "its first row would count twice");
    assert_eq!(begin(&*store, 1).await.checkpoint, 1);
    assert!(store.audit_events(9).await.unwrap().is_empty());
}

pub(super) async fn an_older_delivery_of_a_part_is_superseded_and_no_other_part(new_place: NewPlace) {
    let place = new_place();
    let (one, other) = (place.migrated().await, place.open().await);
    planned(&*one, 1, &[2, 2]).await;
    let (first, neighbour) = (take(&*one, 1, 0).await, take(&*one, 1, 1).await);
    let rows = |part: &Part, id| part_batch(1, part, vec![encounter(id)]);
    assert_eq!(one.import_batch(&rows(&first, 1)).await.unwrap(), Step::Committed(counts(1, 0, 0, 0)));
    assert_eq!(one.import_batch(&rows(&first, 1)).await.unwrap(), Step::Superseded, "its checkpoint has passed");

    let second = take(&*other, 1, 0).await;
    assert_eq!((second.attempt, second.checkpoint), (2, 1));
    let late = Part { checkpoint: 1, ..first };
    assert_eq!(one.import_batch(&rows(&late, 2)).await.unwrap(), Step::Superseded);
    assert_eq!(end(&*one, 1, &late).await, PartStep::Superseded);
    let failed = PartEnd::Failed { reason: "late".into() };
    let step = one.finish_part(&import_id(1), &late, &failed, &part_event(0), &closing()).await.unwrap();
    assert_eq!(step, PartStep::Superseded, "nor can it fail the import");
    assert_eq!(one.import_batch(&rows(&neighbour, 3)).await.unwrap(), Step::Committed(counts(1, 0, 0, 0)));
    assert_eq!(other.import_batch(&rows(&second, 2)).await.unwrap(), Step::Committed(counts(1, 0, 0, 0)));
    // A delivery of the whole file disturbs no part.
    assert!(matches!(one.begin_import(&import_id(1), &source(1), at(9)).await.unwrap(), Begun::InParts(_, left) if left == [0, 1]));
    assert_eq!(end(&*other, 1, &second).await, PartStep::Committed);
    assert_eq!(one.import(&import_id(1)).await.unwrap().unwrap().counts, counts(3, 0, 0, 0));
}

pub(super) async fn parts_count_every_row_once_and_the_last_closes_the_import(new_place: NewPlace) {
    let store = new_place().migrated().await;
    planned(&*store, 1, &[3, 2]).await;
    let mut last = take(&*store, 1, 1).await;
    let mut rows = part_batch(1, &last, vec![encounter(4)]);
    rows.rejects = vec![reject(5, "b"), reject(5, "c")];
    rows.rejected_rows = 1;
    assert_eq!(end(&*store, 1, &last).await, PartStep::Superseded, "rows would be left out");
    assert_eq!(store.import_batch(&rows).await.unwrap(), Step::Committed(counts(1, 0, 0, 1)));
    last.checkpoint = 2;
    assert_eq!(end(&*store, 1, &last).await, PartStep::Committed);
    assert_eq!(end(&*store, 1, &last).await, PartStep::Superseded, "a part ends once");
    let taken = store.take_part(&import_id(1), 1).await.unwrap();
    assert!(matches!(taken, PartTaken::Before(entry) if entry.counts == counts(1, 0, 0, 1)));

    let first = take(&*store, 1, 0).await;
    let mut rows = part_batch(1, &first, vec![encounter(1), encounter(2)]);
    rows.rejects = vec![reject(3, "a")];
    rows.rejected_rows = 1;
    store.import_batch(&rows).await.unwrap();
    assert_eq!(closings(&*store).await, 0);
    assert_eq!(end(&*store, 1, &first).await, PartStep::Closed);
    assert_eq!(end(&*store, 1, &first).await, PartStep::Superseded);
    let entry = store.import(&import_id(1)).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.finished, entry.counts), (State::Done, Some(at(30)), counts(3, 0, 0, 2)));
    assert_eq!((entry.sha256.as_str(), entry.lines), ("cd".repeat(32).as_str(), Some(LineSpan { first: 2, last: 6 })));
    let details: Vec<_> = store.audit_events(9).await.unwrap().into_iter().map(|event| event.detail).collect();
    assert_eq!(details, ["closed", "part 0", "part 1", ""]);
    assert_eq!(store.rejects(&import_id(1), 0, 9).await.unwrap(), [reject(3, "a"), reject(5, "b"), reject(5, "c")]);
    assert_eq!(store.take_part(&import_id(1), 0).await.unwrap(), PartTaken::Over(entry.clone()));
    assert_eq!(store.begin_import(&import_id(1), &source(1), at(99)).await.unwrap(), Begun::Over(entry));
}

/// Every part has two deliveries, each on a handle of its own, as instances would.
pub(super) async fn of_parts_that_end_at_once_one_closes_the_import(new_place: NewPlace) {
    const PARTS: u32 = 8;
    let place = new_place();
    let store = place.migrated().await;
    planned(&*store, 1, &[20; PARTS as usize]).await;
    let mut deliveries = Vec::new();
    for part in (0..PARTS).chain(0..PARTS) {
        let store = place.open().await;
        deliveries.push(tokio::spawn(async move { deliver(&*store, part).await }));
    }
    let mut closed = 0;
    for delivery in deliveries {
        closed += u32::from(delivery.await.unwrap() == Some(PartStep::Closed));
    }
    assert_eq!((closed, closings(&*store).await), (1, 1));
    let entry = store.import(&import_id(1)).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.counts), (State::Done, counts(u64::from(PARTS) * 20, 0, 0, 0)));
    assert_eq!(store.audit_events(99).await.unwrap().len(), 2 + PARTS as usize, "the plan, each part, the end");
    for id in 1..=i64::from(PARTS) * 20 {
        assert_same(&store.encounter(eid(id)).await.unwrap().unwrap().encounter, &encounter(id));
    }
}

/// `None` if there was nothing to do or another delivery took over.
async fn deliver(store: &dyn Store, number: u32) -> Option<PartStep> {
    let PartTaken::Work(_, mut part) = store.take_part(&import_id(1), number).await.unwrap() else { return None };
    while part.checkpoint < part.range.rows {
        let first = part.range.first_line as i64 - 1 + part.checkpoint as i64;
        let rows: Vec<Encounter> = (first..first + 5).map(encounter).collect();
        match store.import_batch(&part_batch(1, &part, rows)).await.unwrap() {
            Step::Committed(counts) => part.checkpoint += counts.read,
            Step::Superseded => return None,
            Step::Busy => {}
        }
    }
    Some(end(store, 1, &part).await)
}

pub(super) async fn a_part_that_fails_ends_the_import_once_and_it_can_go_on(new_place: NewPlace) {
    let store = new_place().migrated().await;
    planned(&*store, 1, &[1, 1]).await;
    let (one, other) = (take(&*store, 1, 0).await, take(&*store, 1, 1).await);
    store.import_batch(&part_batch(1, &other, vec![encounter(2)])).await.unwrap();
    let failed = PartEnd::Failed { reason: "the file is gone".into() };
    let failure = AuditEvent { outcome: Outcome::Failure, ..closing() };
    let fail = |part: Part| {
        let (store, failed, failure) = (&store, &failed, &failure);
        async move { store.finish_part(&import_id(1), &part, failed, &part_event(part.number), failure).await.unwrap() }
    };
    assert_eq!(fail(one.clone()).await, PartStep::Closed);
    assert_eq!(fail(one).await, PartStep::Superseded);
    assert_eq!(fail(other.clone()).await, PartStep::Superseded, "one of them says why");
    assert_eq!(end(&*store, 1, &other).await, PartStep::Superseded);
    let late = Part { checkpoint: 1, ..other };
    assert_eq!(store.import_batch(&part_batch(1, &late, vec![encounter(3)])).await.unwrap(), Step::Superseded);
    assert_eq!(closings(&*store).await, 1);
    let entry = store.import(&import_id(1)).await.unwrap().unwrap();
    assert_eq!((entry.state, entry.failure.as_str(), entry.finished), (State::Failed, "the file is gone", Some(at(30))));
    assert_eq!(entry.counts, counts(1, 0, 0, 0), "what was committed before stays counted");
    assert_eq!(store.take_part(&import_id(1), 1).await.unwrap(), PartTaken::Over(entry));

    // The reason may be cured: a new delivery of the file goes on with the parts that are left.
    let Begun::InParts(entry, left) = store.begin_import(&import_id(1), &source(1), at(40)).await.unwrap() else {
        panic!("it goes on")
    };
    assert_eq!((entry.state, entry.failure.as_str(), entry.finished, left), (State::Running, "", None, vec![0, 1]));
    assert_eq!(end(&*store, 1, &take(&*store, 1, 1).await).await, PartStep::Committed);
    let one = take(&*store, 1, 0).await;
    store.import_batch(&part_batch(1, &one, vec![encounter(1)])).await.unwrap();
    assert_eq!(end(&*store, 1, &one).await, PartStep::Closed);
    assert_eq!(store.import(&import_id(1)).await.unwrap().unwrap().counts, counts(2, 0, 0, 0));
}

pub(super) async fn parts_of_a_replaced_file_stop(new_place: NewPlace) {
    let store = new_place().migrated().await;
    planned(&*store, 1, &[2, 1]).await;
    let part = take(&*store, 1, 0).await;
    store.import_batch(&part_batch(1, &part, vec![encounter(1)])).await.unwrap();
    let newer = health_data_ai::domain::import::Source { etag: "newer".into(), ..source(1) };
    assert!(matches!(store.begin_import(&import_id(2), &newer, at(10)).await.unwrap(), Begun::Work(_)), "it has no parts");
    let late = Part { checkpoint: 1, ..part };
    assert_eq!(store.import_batch(&part_batch(1, &late, vec![encounter(2)])).await.unwrap(), Step::Superseded);
    assert_eq!(end(&*store, 1, &late).await, PartStep::Superseded);
    let PartTaken::Over(old) = store.take_part(&import_id(1), 1).await.unwrap() else { panic!("it was replaced") };
    assert_eq!((old.state, old.finished, old.counts), (State::Failed, Some(at(10)), counts(1, 0, 0, 0)));
    assert_eq!((closings(&*store).await, store.totals().await.unwrap().encounters), (0, 1));
}

pub(super) async fn an_id_in_two_parts_ends_as_whoever_commits_last_says(new_place: NewPlace) {
    let store = new_place().migrated().await;
    planned(&*store, 1, &[1, 2]).await;
    let (one, other) = (take(&*store, 1, 0).await, take(&*store, 1, 1).await);
    let changed = Encounter { gender: Gender::Other, ..encounter(5) };
    let rows = vec![changed, encounter(6)];
    assert_eq!(store.import_batch(&part_batch(1, &other, rows)).await.unwrap(), Step::Committed(counts(2, 0, 0, 0)));
    let rows = vec![encounter(5)];
    assert_eq!(store.import_batch(&part_batch(1, &one, rows)).await.unwrap(), Step::Committed(counts(0, 1, 0, 0)));
    assert_same(&store.encounter(eid(5)).await.unwrap().unwrap().encounter, &encounter(5));
    assert_eq!(store.import(&import_id(1)).await.unwrap().unwrap().counts, counts(2, 1, 0, 0));
}
