//! The audit trail: its chains, its questions.

use health_data_ai::domain::audit::{Anchor, Breach, ChainCheck, KeptCheckpoint, Purge, Unchained};
use health_data_ai::domain::{Action, AuditEvent, Caller, Outcome};
use health_data_ai::store::{AuditQuery, Store};

use super::place::*;

/// Follows every chain; answers how many events stand in them.
pub(super) async fn follow(store: &dyn Store, page: u32) -> Result<u64, Breach> {
    let mut events = 0_u64;
    let anchors = store.audit_record().await.unwrap().anchors;
    for head in store.audit_heads().await.unwrap() {
        let mut check = ChainCheck::new(head.partition, vec![(head.number, head.hash.clone())]);
        if let Some(anchor) = anchors.iter().find(|anchor| anchor.partition == head.partition) {
            check.begin_at(anchor)?;
            events = events.wrapping_sub(anchor.number);
        }
        let mut after = (0, 0);
        loop {
            let next = store.audit_chain(head.partition, after, page).await.unwrap();
            let Some(last) = next.last() else { break };
            after = (last.number, last.seq);
            next.iter().try_for_each(|event| check.follow(event, true))?;
        }
        check.end(head.number)?;
        events = events.wrapping_add(head.number);
    }
    Ok(events)
}

pub(super) async fn every_fact_adds_to_an_unbroken_chain(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    assert_eq!(follow(&*store, 10).await, Ok(0));
    admit(&*store, &open_encounter(1), Some(&prediction(3.0))).await;
    admit(&*store, &open_encounter(1), None).await;
    discharge(&*store, eid(9), day("2024-03-01")).await;
    store.save_facilities(&store.facilities().await.unwrap(), &event(Action::Migrate, 4)).await.unwrap();
    let odd = Caller { id: "caller 'é' 大".into(), ..caller() };
    let odd = AuditEvent::new(&odd, Action::ReadAudit, Outcome::Refused, at(5) + chrono::Duration::nanoseconds(789));
    store.append_audit(&odd.detail("blank at the end ")).await.unwrap();
    for _ in 0..20 {
        store.append_audit(&event(Action::ReadImports, 6)).await.unwrap();
    }
    let other = place.open().await;
    for page in [1, 2, 1000] {
        assert_eq!(follow(&*other, page).await, Ok(25));
    }
    assert_eq!(other.audit_unchained().await.unwrap(), Unchained::default());
}

pub(super) async fn eight_instances_at_once_leave_unbroken_chains(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    let mut instances = Vec::new();
    for instance in 0..8_i64 {
        let store = place.open().await;
        instances.push(async move {
            for round in 0..6 {
                let id = instance * 100 + round + 1;
                admit(&*store, &open_encounter(id), None).await;
                store.append_audit(&event(Action::ReadCensus, 3)).await.unwrap();
            }
        });
    }
    futures_util::future::join_all(instances).await;
    assert_eq!(follow(&*store, 7).await, Ok(96));
}

pub(super) async fn a_fact_that_fails_leaves_no_gap(new_place: NewPlace) {
    let store = new_place().migrated().await;
    store.append_audit(&event(Action::ReadAudit, 1)).await.unwrap();
    let broken = prediction(f64::NAN);
    let refused = store.admit(&open_encounter(1), Some(&broken), &event(Action::Admit, 1).about(eid(1))).await;
    assert!(refused.is_err());
    store.append_audit(&event(Action::ReadAudit, 2)).await.unwrap();
    assert_eq!(follow(&*store, 10).await, Ok(2));
}

pub(super) async fn the_trail_answers_who_what_and_when(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let by = |id: &str, action, outcome, seconds| {
        AuditEvent::new(&Caller { id: id.into(), ..caller() }, action, outcome, at(seconds)).detail(format!("{seconds}"))
    };
    let events = [
        by("ann", Action::Admit, Outcome::Success, 10).about(eid(7)),
        by("ann", Action::Discharge, Outcome::Refused, 20).about(eid(7)),
        by("Ann", Action::Admit, Outcome::Failure, 30).about(eid(8)),
        by("bob", Action::ReadCensus, Outcome::Success, 40),
        by("ann ", Action::Admit, Outcome::Success, 50).about(eid(7)),
    ];
    for event in &events {
        store.append_audit(event).await.unwrap();
    }
    let all = || AuditQuery::newest(10);
    let asked = async |query: AuditQuery| {
        let page = store.audit_page(&query).await.unwrap();
        page.into_iter().map(|(_, row)| row.detail).collect::<Vec<_>>()
    };
    assert_eq!(asked(all()).await, ["50", "40", "30", "20", "10"]);
    assert_eq!(asked(AuditQuery { encounter: Some(eid(7)), ..all() }).await, ["50", "20", "10"]);
    assert_eq!(asked(AuditQuery { caller: Some("ann".into()), ..all() }).await, ["20", "10"]);
    assert_eq!(asked(AuditQuery { action: Some(Action::Admit), ..all() }).await, ["50", "30", "10"]);
    assert_eq!(asked(AuditQuery { outcome: Some(Outcome::Refused), ..all() }).await, ["20"]);
    assert_eq!(asked(AuditQuery { from: Some(at(20)), to: Some(at(40)), ..all() }).await, ["30", "20"]);
    let narrow = AuditQuery { encounter: Some(eid(7)), action: Some(Action::Admit), from: Some(at(11)), ..all() };
    assert_eq!(asked(narrow).await, ["50"]);
    let first = store.audit_page(&AuditQuery::newest(2)).await.unwrap();
    let rest = AuditQuery { before: first.last().map(|(seq, _)| *seq), ..all() };
    assert_eq!(asked(rest).await, ["30", "20", "10"]);
}

fn kept(number: u64) -> KeptCheckpoint {
    KeptCheckpoint { number, name: format!("2026/02/t-id-{number:08}.json"), text: format!("{{ \"näme\": {number} }}") }
}

pub(super) async fn a_checkpoint_is_remembered_once_and_a_record_may_get_another_id(new_place: NewPlace) {
    let place = new_place();
    let (store, other) = (place.migrated().await, place.open().await);
    let record = store.audit_record().await.unwrap();
    assert!(record.id.len() >= 32 && record.id != new_place().migrated().await.audit_record().await.unwrap().id);
    assert_eq!((record.retention_years, record.newest, record.anchors), (7, KeptCheckpoint::default(), vec![]));
    let event = event(Action::CheckpointAudit, 1);
    assert!(store.save_checkpoint(&record.id, &kept(1), 6, &event).await.unwrap());
    assert!(!other.save_checkpoint(&record.id, &kept(1), 6, &event).await.unwrap(), "another one came first");
    assert!(!other.save_checkpoint(&record.id, &kept(3), 6, &event).await.unwrap(), "none is left out");
    assert!(!other.save_checkpoint("another", &kept(2), 6, &event).await.unwrap());
    assert!(other.save_checkpoint(&record.id, &kept(2), 6, &event).await.unwrap());
    assert_eq!(store.audit_record().await.unwrap().newest, kept(2));
    assert_eq!(store.audit_record().await.unwrap().retention_years, 7, "it is never lowered");
    assert!(other.save_checkpoint(&record.id, &kept(3), 9, &event).await.unwrap());
    assert_eq!(store.audit_record().await.unwrap().retention_years, 9);
    assert!(!store.renew_record("another", "new", &event).await.unwrap());
    assert!(store.renew_record(&record.id, "new", &event).await.unwrap());
    let renewed = store.audit_record().await.unwrap();
    assert_eq!((renewed.id.as_str(), renewed.newest), ("new", KeptCheckpoint::default()));
    assert_eq!(store.audit_events(9).await.unwrap().len(), 4, "an event for each fact, and for nothing else");
}

/// An event of long ago.
fn old(days: i64) -> AuditEvent {
    AuditEvent { at: at(0) - chrono::Duration::days(days), ..event(Action::Admit, 0) }
}

pub(super) async fn a_chains_beginning_goes_when_its_time_is_over_and_leaves_an_anchor(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    for number in 0..40 {
        store.append_audit(&old(6_000 - number)).await.unwrap();
    }
    let mut gone = 0;
    for head in store.audit_heads().await.unwrap().into_iter().filter(|head| head.number > 1) {
        let first = store.audit_chain(head.partition, (0, 0), 1).await.unwrap().remove(0);
        let anchor = Anchor { partition: head.partition, number: 1, hash: first.hash, checkpoint: "cp".into() };
        let purge = Purge { anchor: anchor.clone(), after: 0, retention_years: 8 };
        assert_eq!(store.purge_audit(&purge, &event(Action::CheckpointAudit, 1)).await.unwrap(), 1);
        assert_eq!(place.open().await.purge_audit(&purge, &event(Action::CheckpointAudit, 2)).await.unwrap(), 0, "once");
        gone += 1;
    }
    let record = store.audit_record().await.unwrap();
    assert!(gone > 0 && record.anchors.len() == gone && record.retention_years == 8);
    assert_eq!(follow(&*store, 7).await, Ok(40), "as many events told of it as went");
    for anchor in record.anchors {
        let head = store.audit_heads().await.unwrap().into_iter().find(|head| head.partition == anchor.partition).unwrap();
        let before = store.audit_chain(head.partition, (0, 0), 99).await.unwrap();
        let number = before.iter().rev().find(|event| event.row.action == "admit").map_or(1, |event| event.number);
        let upto = before.iter().find(|event| event.number == number).map(|event| event.hash.clone()).unwrap_or_default();
        if number > 1 {
            let next = Purge { after: anchor.number, anchor: Anchor { number, hash: upto, ..anchor }, retention_years: 6 };
            assert_eq!(store.purge_audit(&next, &event(Action::CheckpointAudit, 3)).await.unwrap(), number - 1, "and on");
        }
    }
    assert_eq!(store.audit_record().await.unwrap().retention_years, 8, "no purge lowers it");
    assert!(follow(&*store, 7).await.is_ok());
    assert_eq!(store.audit_unchained().await.unwrap(), Unchained::default());
}

pub(super) async fn a_young_event_and_a_wrong_anchor_stay(new_place: NewPlace) {
    let store = new_place().migrated().await;
    for days in [4_000, 0, 0] {
        for _ in 0..24 {
            store.append_audit(&old(days)).await.unwrap();
        }
    }
    let purge = |partition, number, hash: &str, retention_years| Purge {
        anchor: Anchor { partition, number, hash: hash.to_owned(), checkpoint: "cp".into() },
        after: 0,
        retention_years,
    };
    for head in store.audit_heads().await.unwrap().into_iter().filter(|head| head.number > 0) {
        let all = store.audit_chain(head.partition, (0, 0), 99).await.unwrap();
        let (first, young) = (&all[0], all.iter().find(|event| event.row.at == Some(at(0))));
        let Some(young) = young.filter(|young| young.number > 1) else { continue };
        for refused in [
            purge(head.partition, young.number, &young.hash, 6),
            purge(head.partition, 1, "another hash", 6),
            purge(head.partition, head.number + 1, &head.hash, 6),
            purge(head.partition, 1, &first.hash, 30),
        ] {
            let told = event(Action::CheckpointAudit, 1);
            assert!(store.purge_audit(&refused, &told).await.is_err(), "{refused:?}");
        }
    }
    let record = store.audit_record().await.unwrap();
    assert_eq!((record.anchors, record.retention_years), (vec![], 7));
    assert_eq!(follow(&*store, 100).await, Ok(72));
}
