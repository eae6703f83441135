//! The outbox: an announcement stands or falls with its fact, and is published under one lease at a time.

use chrono::TimeDelta;
use health_data_ai::domain::Action;
use health_data_ai::domain::model::ModelRecord;
use health_data_ai::domain::{Announcement, AuditEvent, Fact, Reach};
use health_data_ai::store::{Admitted, Finish, Leased, Store};

use super::place::*;

fn announced(action: Action, seconds: u32, id: &str) -> AuditEvent {
    event(action, seconds).announced(Some(id.to_owned()))
}

/// Takes what waits, at most `limit`, for ten seconds from `seconds` on.
async fn lease(store: &dyn Store, lease: &str, seconds: u32, limit: u32) -> Leased {
    store.lease_announcements(lease, at(seconds), at(seconds + 10), limit).await.unwrap()
}

fn taken(leased: Leased) -> Vec<String> {
    match leased {
        Leased::Taken { announcements, .. } => announcements.into_iter().map(|announcement| announcement.id).collect(),
        other => panic!("{other:?}"),
    }
}

async fn admit_announced(store: &dyn Store, id: i64) -> Admitted {
    let event = announced(Action::Admit, 1, &format!("e-{id}")).about(eid(id));
    store.admit(&open_encounter(id), None, &event).await.unwrap()
}

fn model(version: &str, bytes: usize) -> ModelRecord {
    ModelRecord {
        version: version.into(),
        trained: at(12),
        rows: 1,
        schema_fingerprint: "f".into(),
        metrics: "{}".into(),
        promoted: false,
        reason: "r".into(),
        bytes: vec![0; bytes],
    }
}

pub(super) async fn every_fact_is_announced_once_and_in_order(new_place: NewPlace) {
    let store = new_place().migrated().await;
    assert_eq!(lease(&*store, "none", 1, 9).await, Leased::Nothing);
    // Each of them twice: the second is a repeat, a conflict or a failure, and nobody is told.
    for round in 1..=2 {
        let id = |what: &str| format!("{what}-{round}");
        let admission = announced(Action::Admit, 1, &id("admit")).about(eid(17));
        store.admit(&open_encounter(17), None, &admission).await.unwrap();
        store.admit(&open_encounter(17 + 400), None, &event(Action::Admit, 1)).await.unwrap();
        let on = *open_encounter(17).admitted.reveal();
        store.discharge(eid(17), on, &Reach::All, &announced(Action::Discharge, 2, &id("discharge"))).await.unwrap();
        store.discharge(eid(99), on, &Reach::All, &announced(Action::Discharge, 2, &id("unknown"))).await.unwrap();
        if round == 1 {
            let entry = begin(&*store, 1).await;
            store.import_batch(&batch(&entry, vec![encounter(18)])).await.unwrap();
        }
        let done = Finish::Done { sha256: "0a".into(), extra_columns: Vec::new(), lines: None };
        store.finish_import(&import_id(1), 1, &done, &announced(Action::Import, 3, &id("import"))).await.unwrap();
        let kept = store.save_model(&model("m-1", 3), &announced(Action::Train, 4, &id("train"))).await;
        assert_eq!(kept.is_ok(), round == 1);
    }
    let other = begin(&*store, 2).await;
    let failed = Finish::Failed { reason: "no header".into() };
    store.finish_import(&other.id, 1, &failed, &announced(Action::Import, 3, "failed")).await.unwrap();

    let Leased::Taken { announcements, failures } = lease(&*store, "l-1", 5, 9).await else { panic!("nothing waits") };
    let announcement = |id: &str, fact: Fact, seconds: u32| Announcement { id: id.into(), fact, at: at(seconds) };
    let expected = [
        announcement("admit-1", Fact::PatientAdmitted(eid(17)), 1),
        announcement("discharge-1", Fact::PatientDischarged(eid(17)), 2),
        announcement("import-1", Fact::ImportCompleted(import_id(1)), 3),
        announcement("train-1", Fact::ModelTrained("m-1".into()), 4),
    ];
    assert_eq!((announcements, failures), (expected.to_vec(), 0));
    // The trail says nothing of it.
    assert!(store.audit_events(100).await.unwrap().iter().all(|event| event.announcement.is_none()));
}

pub(super) async fn a_fact_that_does_not_commit_is_not_announced(new_place: NewPlace) {
    let store = new_place().migrated().await;
    admit_announced(&*store, 1).await;
    // The announcement's id is taken: the admission must not stay without one.
    let taken_id = announced(Action::Admit, 1, "e-1").about(eid(2));
    assert!(store.admit(&open_encounter(2), None, &taken_id).await.is_err());
    assert_eq!(store.encounter(eid(2)).await.unwrap(), None);
    assert_eq!(store.audit_events(9).await.unwrap().len(), 1);
    // An impossible prediction fails the admission: no announcement stays.
    let impossible = prediction(f64::NAN);
    let event = announced(Action::Admit, 1, "e-3").about(eid(3));
    assert!(store.admit(&open_encounter(3), Some(&impossible), &event).await.is_err());
    assert_eq!(taken(lease(&*store, "l", 5, 9).await), ["e-1"]);
}

pub(super) async fn one_lease_runs_at_a_time_and_runs_out(new_place: NewPlace) {
    let place = new_place();
    let (one, other) = (place.migrated().await, place.open().await);
    for id in 1..=5 {
        admit_announced(&*one, id).await;
    }
    assert_eq!(taken(lease(&*one, "one", 100, 2).await), ["e-1", "e-2"]);
    // The answer to the commit may have been lost: the same lease is answered the same.
    assert_eq!(taken(lease(&*one, "one", 100, 2).await), ["e-1", "e-2"]);
    assert_eq!(lease(&*other, "other", 105, 9).await, Leased::Held(at(110)));
    // Its holder is dead; the next one takes what it had, and whatever the dead one says later changes nothing of that.
    assert_eq!(taken(lease(&*other, "other", 110, 3).await), ["e-1", "e-2", "e-3"]);
    one.publish_announcements("one", at(111)).await.unwrap();
    assert_eq!(one.postpone_announcements("one", at(500), 9, at(500)).await.unwrap(), 0);
    assert_eq!(lease(&*one, "one-2", 112, 9).await, Leased::Held(at(120)));
    other.publish_announcements("other", at(113)).await.unwrap();
    assert_eq!(taken(lease(&*one, "one-3", 114, 9).await), ["e-4", "e-5"]);
    one.publish_announcements("one-3", at(115)).await.unwrap();
    one.publish_announcements("one-3", at(115)).await.unwrap();
    assert_eq!(lease(&*other, "other-2", 116, 9).await, Leased::Nothing);
}

pub(super) async fn a_pause_binds_everybody_and_old_announcements_go(new_place: NewPlace) {
    let place = new_place();
    let (one, other) = (place.migrated().await, place.open().await);
    admit_announced(&*one, 1).await;
    assert_eq!(taken(lease(&*one, "a", 10, 9).await), ["e-1"]);
    assert_eq!(one.postpone_announcements("a", at(60), 1, at(0)).await.unwrap(), 0);
    assert_eq!(lease(&*other, "b", 59, 9).await, Leased::Held(at(60)));
    let event = announced(Action::Admit, 61, "e-2").about(eid(2));
    other.admit(&open_encounter(2), None, &event).await.unwrap();
    let Leased::Taken { announcements, failures } = lease(&*other, "b", 62, 9).await else { panic!("nothing waits") };
    assert_eq!((announcements.len(), failures), (2, 1));
    // What is older than this goes, and is counted.
    assert_eq!(other.postpone_announcements("b", at(70), 2, at(61) - TimeDelta::microseconds(1)).await.unwrap(), 1);
    assert_eq!(taken(lease(&*one, "c", 70, 9).await), ["e-2"]);
    one.publish_announcements("c", at(71)).await.unwrap();
    // A success ends the row of failures.
    admit_announced(&*one, 3).await;
    assert!(matches!(lease(&*one, "d", 72, 9).await, Leased::Taken { failures: 0, .. }));
}

pub(super) async fn of_many_relays_at_once_one_has_the_lease(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    for id in 1..=20 {
        admit_announced(&*store, id).await;
    }
    let mut published = Vec::new();
    for round in 0..4 {
        let mut handles = Vec::new();
        for _ in 0..4 {
            handles.push(place.open().await);
        }
        let names: Vec<String> = (0..4).map(|number| format!("r{round}-{number}")).collect();
        let all = handles.iter().zip(&names).map(|(handle, name)| lease(&**handle, name, 200, 5));
        let mut winners = Vec::new();
        for (leased, name) in futures_util::future::join_all(all).await.into_iter().zip(&names) {
            match leased {
                Leased::Taken { .. } => winners.push((name, taken(leased))),
                Leased::Held(until) => assert_eq!(until, at(210)),
                Leased::Nothing => panic!("something waits"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        // While it is published, admissions go on.
        admit_announced(&*store, 100 + round).await;
        store.publish_announcements(winners[0].0, at(200)).await.unwrap();
        published.extend(winners.remove(0).1);
    }
    let expected: Vec<String> = (1..=20).map(|id| format!("e-{id}")).collect();
    assert_eq!(published, expected);
    assert_eq!(taken(lease(&*store, "last", 201, 9).await).len(), 4);
}
