//! The schema, the facilities, the models and the audit trail.

use health_data_ai::domain::access::Proof;
use health_data_ai::domain::model::ModelRecord;
use health_data_ai::domain::{Action, AuditEvent, Caller, Outcome, Role, facility};
use health_data_ai::error::Kind;

use super::place::*;

pub(super) async fn two_processes_migrate_at_once(new_place: NewPlace) {
    let place = new_place();
    let (one, other) = (place.open().await, place.open().await);
    let (first, second) = tokio::join!(one.migrate(), other.migrate());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert!(first.is_empty() != second.is_empty(), "one of them migrates: {first:?} {second:?}");
    assert!(one.migrate().await.unwrap().is_empty());
    assert_eq!(other.facilities().await.unwrap().len(), facility::SEED.len());
}

pub(super) async fn a_new_record_has_the_blueprints_facilities(new_place: NewPlace) {
    let store = new_place().migrated().await;
    assert_eq!(store.facilities().await.unwrap(), facility::seed());
    assert_eq!(store.totals().await.unwrap(), Default::default());
    assert!(store.discharged_encounters(None, 10).await.unwrap().is_empty());
    assert!(store.imports(10).await.unwrap().is_empty());
}

fn model(version: &str, promoted: bool) -> ModelRecord {
    ModelRecord {
        version: version.into(),
        trained: at(12),
        rows: 4_000_000_000,
        schema_fingerprint: "0123456789abcdef".into(),
        metrics: r#"{"mae": 0.5, "näme": "x"}"#.into(),
        promoted,
        reason: "better on the holdout".into(),
        bytes: (0..=255).cycle().take(70_000).collect(),
    }
}

pub(super) async fn the_newest_promoted_model_is_the_champion(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    assert_eq!((store.champion_version().await.unwrap(), store.champion().await.unwrap()), (None, None));
    for (version, promoted) in [("m-1", false), ("m-2", true), ("m-3", true), ("m-4", false)] {
        store.save_model(&model(version, promoted), &event(Action::Train, 20).detail(version)).await.unwrap();
    }
    let other = place.open().await;
    assert_eq!(other.champion_version().await.unwrap().as_deref(), Some("m-3"));
    assert_eq!(other.champion().await.unwrap(), Some(model("m-3", true)));
    let listed = other.models(3).await.unwrap();
    let expected = [("m-4", false), ("m-3", true), ("m-2", true)];
    assert_eq!(listed, expected.map(|(version, promoted)| ModelRecord { bytes: Vec::new(), ..model(version, promoted) }));
    let details: Vec<_> = other.audit_events(2).await.unwrap().into_iter().map(|event| event.detail).collect();
    assert_eq!(details, ["m-4", "m-3"]);
}

pub(super) async fn a_models_version_is_kept_once(new_place: NewPlace) {
    let store = new_place().migrated().await;
    store.save_model(&model("m-1", true), &event(Action::Train, 1)).await.unwrap();
    let other = ModelRecord { bytes: vec![1], ..model("m-1", true) };
    assert_eq!(store.save_model(&other, &event(Action::Train, 2)).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(store.champion().await.unwrap(), Some(model("m-1", true)));
    assert_eq!(store.audit_events(9).await.unwrap().len(), 1, "the fact and its event stand or fall together");
}

pub(super) async fn every_audit_event_comes_back_newest_first(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let mut written = Vec::new();
    for (number, action) in (0_u32..).zip(Action::ALL.iter().copied()) {
        for outcome in [Outcome::Success, Outcome::Refused, Outcome::Failure] {
            for proof in Proof::ALL {
                let roles = Role::ALL.into_iter().take(number as usize % 7).collect();
                let caller = Caller {
                    origin: "2001:db8::7".into(),
                    ..Caller::of(format!("caller é {number}"), roles, proof, format!("c-{number}"))
                };
                let event = AuditEvent::new(&caller, action, outcome, at(number)).detail("a fixed phrase");
                written.push(if number % 2 == 0 { event.about(eid(i64::from(i32::MAX))) } else { event });
            }
        }
    }
    for event in &written {
        store.append_audit(event).await.unwrap();
    }
    written.reverse();
    assert_eq!(store.audit_events(1000).await.unwrap(), written);
    assert_eq!(store.audit_events(3).await.unwrap(), written[..3]);
}
