//! Whose patients a caller reaches, through the verbs themselves: time that is given, and assignments that change meanwhile.

use std::path::Path;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use health_data_ai::blob::local::Local;
use health_data_ai::config::{Config, Unassigned};
use health_data_ai::domain::access::Proof;
use health_data_ai::domain::{Action, Caller, Encounter, EncounterId, FacilityId, Outcome, Phi, Reach, Reason, Role};
use health_data_ai::error::Kind;
use health_data_ai::store::sqlite::Sqlite;
use health_data_ai::store::{AuditQuery, Store};
use health_data_ai::synthetic;
use health_data_ai::workflow::{self, Admission, Departure, Glass, Hospital, PseudonymKey, SigningKey};

async fn hospital(folder: &Path) -> Hospital {
    let config = Config { unassigned: Unassigned::None, refusals_max: 0, ..Config::from_vars(|_| None).unwrap() };
    let store = Sqlite::open(folder.join("record.db")).unwrap();
    store.migrate().await.unwrap();
    let key = SigningKey::from_base64(&BASE64_STANDARD.encode([7; 32])).unwrap();
    let pseudonyms = PseudonymKey::from_base64(&BASE64_STANDARD.encode([8; 32])).unwrap();
    Hospital::new(config, Arc::new(store), Arc::new(Local::new(folder.join("blobs"))), key, pseudonyms)
}

fn at(minutes: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 2, 3, 4, 0, 0).unwrap() + TimeDelta::minutes(minutes)
}

fn manager() -> Caller {
    Caller::of("ann", vec![Role::CareLineManager], Proof::Token, "c-1")
}

fn facility(letter: &str) -> FacilityId {
    FacilityId::parse(letter).unwrap()
}

fn patient(id: i64, letter: &str) -> Encounter {
    let options = synthetic::Options { rows: 1, seed: 1, first_id: 1 };
    let encounter = synthetic::encounters(&options).unwrap().next().unwrap();
    let admitted = Phi::new(at(0).date_naive());
    Encounter { id: EncounterId::new(id).unwrap(), facility: facility(letter), admitted, discharged: Phi::new(None), ..encounter }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_elevation_ends_by_itself_at_its_minute() {
    let folder = tempfile::tempdir().unwrap();
    let hospital = hospital(folder.path()).await;
    let begin = async |minute, minutes| {
        let words = Phi::new(" nobody\nelse\u{1b}[2J is there".to_owned());
        workflow::break_glass(&manager(), &hospital, Reason::PatientSafety, words, minutes, at(minute)).await
    };
    let admit = async |id, minute| {
        let caller = hospital.elevated(manager(), at(minute)).await.unwrap();
        let running = caller.elevated.is_some();
        (running, workflow::admit(&caller, &hospital, patient(id, "B"), at(minute)).await.map_err(|error| error.kind()))
    };
    let Ok(Glass::Broken(broken)) = begin(0, Some(30)).await else { panic!("it breaks") };
    assert_eq!(broken.until, at(30));
    assert_eq!(broken.words.reveal(), "nobody else [2J is there", "it forges no line of a terminal");
    assert!(matches!(admit(1, 29).await, (true, Ok(Admission::New(_)))));
    assert!(matches!(begin(29, None).await, Ok(Glass::Runs(running)) if running.id == broken.id));
    assert_eq!(admit(2, 30).await, (false, Err(Kind::Forbidden)));
    // A caller who was let in a moment before the end is not let in by what was true then.
    let late = hospital.elevated(manager(), at(29)).await.unwrap();
    assert_eq!(hospital.reach(&late, at(29)).await.unwrap(), Reach::All);
    assert_eq!(hospital.reach(&late, at(30)).await.unwrap(), Reach::Only(vec![]));
    let Ok(Glass::Broken(second)) = begin(30, None).await else { panic!("it breaks again") };
    assert_eq!(second.until, at(90), "an hour, unless somebody says otherwise");
    assert!(matches!(admit(2, 31).await, (true, Ok(Admission::New(_)))));
    assert_eq!(begin(91, Some(241)).await.map_err(|error| error.kind()), Err(Kind::Invalid));
    let auditor = Caller::of("aud", vec![Role::Auditor], Proof::Token, "c-2");
    let (shown, events) = workflow::elevation(&auditor, &hospital, &broken.id, at(95)).await.unwrap();
    assert_eq!((shown.events, events.len()), (1, 1));
    assert_eq!(events[0].1.encounter, Some(1));
    assert_eq!(workflow::elevations(&manager(), &hospital, 9, at(95)).await.unwrap_err().kind(), Kind::Forbidden);
}

/// Whatever an admission or a discharge met, the record and the trail say the same of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_changes_under_calls_leaves_each_of_them_whole() {
    const CALLS: i64 = 60;
    let folder = tempfile::tempdir().unwrap();
    let hospital = hospital(folder.path()).await;
    let admin = Caller::command_line("c-0");
    let changing = async {
        for turn in 0..40 {
            match turn % 3 {
                0 => drop(workflow::assign(&admin, &hospital, "ANN", Reach::only(vec![facility("B")]), at(1)).await.unwrap()),
                1 => drop(workflow::assign(&admin, &hospital, "ann", Reach::only(vec![facility("C")]), at(1)).await.unwrap()),
                _ => workflow::unassign(&admin, &hospital, "ann", at(1)).await.unwrap(),
            }
            tokio::task::yield_now().await;
        }
    };
    let calling = async {
        let calls = (1..=CALLS).map(async |id| {
            let admitted = workflow::admit(&manager(), &hospital, patient(id, "B"), at(1)).await;
            let left = workflow::discharge(&manager(), &hospital, EncounterId::new(id).unwrap(), at(1).date_naive(), at(1)).await;
            (admitted, left.unwrap())
        });
        futures_util::future::join_all(calls).await
    };
    let ((), outcomes) = tokio::join!(changing, calling);
    let (mut admitted, mut left) = (0, 0);
    for (id, (admission, departure)) in (1..=CALLS).zip(&outcomes) {
        let stored = hospital.store.encounter(EncounterId::new(id).unwrap()).await.unwrap();
        match admission {
            Ok(Admission::New(_)) => admitted += 1,
            Err(error) => assert_eq!((error.kind(), stored.is_none(), departure), (Kind::Forbidden, true, &Departure::Unknown)),
            other => panic!("{other:?}"),
        }
        let discharged = stored.is_some_and(|stored| stored.encounter.discharged.reveal().is_some());
        assert_eq!(matches!(departure, Departure::New(_)), discharged);
        left += usize::from(discharged);
    }
    let count = async |action, outcome| {
        let query = AuditQuery { action: Some(action), outcome: Some(outcome), ..AuditQuery::newest(1000) };
        hospital.store.audit_page(&query).await.unwrap().len()
    };
    assert_eq!(count(Action::Admit, Outcome::Success).await, admitted);
    assert_eq!(count(Action::Admit, Outcome::Refused).await, CALLS as usize - admitted);
    assert_eq!(count(Action::Discharge, Outcome::Success).await, left);
    assert_eq!(count(Action::Discharge, Outcome::Refused).await, admitted - left);
    // What was changed last is what counts, at once.
    assert_eq!(hospital.reach(&manager(), at(1)).await.unwrap(), Reach::only(vec![facility("B")]));
}
