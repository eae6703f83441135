//! The audit trail: its chains, its questions.

use health_data_ai::domain::audit::{Breach, ChainCheck, Unchained};
use health_data_ai::domain::{Action, AuditEvent, Caller, Outcome};
use health_data_ai::store::{AuditQuery, Store};

use super::place::*;

/// Follows every chain; answers how many events stand in them.
pub(super) async fn follow(store: &dyn Store, page: u32) -> Result<u64, Breach> {
    let mut events = 0;
    for head in store.audit_heads().await.unwrap() {
        let mut check = ChainCheck::new(head.partition, vec![(head.number, head.hash.clone())]);
        let mut after = (0, 0);
        loop {
            let next = store.audit_chain(head.partition, after, page).await.unwrap();
            let Some(last) = next.last() else { break };
            after = (last.number, last.seq);
            next.iter().try_for_each(|event| check.follow(event, true))?;
        }
        check.end(head.number)?;
        events += head.number;
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
        page.into_iter().map(|(_, event)| event.detail).collect::<Vec<_>>()
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
