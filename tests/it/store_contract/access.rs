//! Whose patients a caller reaches: assignments, elevations, and a discharge beyond reach.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use health_data_ai::domain::{
    Action, Assignment, AuditEvent, Caller, Elevated, Elevation, FacilityId, Outcome, Phi, Reach, Reason, Role,
};
use health_data_ai::store::access::{Broken, EndedElevation};
use health_data_ai::store::{Discharged, Leased, Store};

use super::place::*;

fn facilities(letters: &str) -> Reach {
    Reach::only(letters.chars().map(|letter| FacilityId::parse(&letter.to_string()).unwrap()).collect())
}

fn assignment(caller: &str, reach: Reach, seconds: u32) -> Assignment {
    Assignment { caller: caller.into(), reach, by: "site admin".into(), at: at(seconds) }
}

async fn assign(store: &dyn Store, assignment: &Assignment) {
    store.assign(assignment, &event(Action::AssignFacilities, 1).detail("assigned")).await.unwrap();
}

/// An elevation of an hour.
pub(super) fn elevation(number: u32, caller: &str, seconds: u32) -> Elevation {
    Elevation {
        id: format!("{number:032x}"),
        caller: caller.into(),
        roles: vec![Role::CareLineManager, Role::Auditor],
        reason: Reason::PatientSafety,
        words: Phi::new(format!("Ward {number} is unattended, 大丈夫")),
        from: at(seconds),
        until: at(seconds) + TimeDelta::hours(1),
        ended: None,
        events: 0,
    }
}

async fn begin(store: &dyn Store, elevation: &Elevation, most: u32) -> Broken {
    let event = event(Action::BreakGlass, 1).detail("begun").announced(Some(format!("a-{}", elevation.id)));
    store.break_glass(elevation, elevation.from - TimeDelta::days(1), most, &event).await.unwrap()
}

async fn end(store: &dyn Store, id: &str, holder: Option<&str>, seconds: u32) -> EndedElevation {
    store.end_elevation(id, holder, at(seconds), &event(Action::BreakGlass, seconds)).await.unwrap()
}

fn nameless(elevation: &Elevation) -> Elevation {
    Elevation { words: Phi::default(), ..elevation.clone() }
}

async fn newest(store: &dyn Store) -> AuditEvent {
    store.audit_events(1).await.unwrap().swap_remove(0)
}

pub(super) async fn an_assignment_takes_the_place_of_the_one_before(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    assert_eq!(store.standing("ann").await.unwrap().assigned, None);
    let (ann, ben) = (assignment("ann", facilities("AB"), 1), assignment("ben", facilities(""), 2));
    for assigned in [&ann, &ben, &assignment("cat", Reach::All, 3)] {
        assign(&*store, assigned).await;
    }
    let other = place.open().await;
    assert_eq!(other.standing("ann").await.unwrap().assigned, Some(facilities("AB")));
    assert_eq!(other.standing("ben").await.unwrap().assigned, Some(facilities("")));
    assert_eq!(other.assignments("", 2).await.unwrap(), [ann, ben]);
    assert_eq!(other.assignments("ben", 9).await.unwrap(), [assignment("cat", Reach::All, 3)]);
    let changed = assignment("ann", facilities("E"), 4);
    assign(&*other, &changed).await;
    assert_eq!(store.assignments("", 1).await.unwrap(), [changed]);
    assert!(store.assignments("", 0).await.unwrap().is_empty());

    let taken = event(Action::AssignFacilities, 5);
    assert!(store.unassign("ann", &taken).await.unwrap());
    assert_eq!(newest(&*store).await.outcome, Outcome::Success);
    assert!(!store.unassign("ann", &taken).await.unwrap());
    assert_eq!(newest(&*store).await.outcome, Outcome::Failure);
    assert_eq!(store.standing("ann").await.unwrap().assigned, None);
    assert_eq!(super::trail::follow(&*store, 10).await, Ok(6));
}

pub(super) async fn of_many_first_assignments_at_once_one_stays(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    let mut instances = Vec::new();
    for letter in ["A", "B", "C", "D"] {
        let store = place.open().await;
        instances.push(async move { assign(&*store, &assignment("ann", facilities(letter), 1)).await });
    }
    futures_util::future::join_all(instances).await;
    let kept = store.assignments("", 9).await.unwrap();
    assert_eq!((kept.len(), kept[0].reach.code().len()), (1, 1));
    assert_eq!(super::trail::follow(&*store, 10).await, Ok(4));
}

pub(super) async fn a_discharge_beyond_reach_changes_nothing_and_is_refused_in_the_trail(new_place: NewPlace) {
    let store = new_place().migrated().await;
    // The first is of facility B, the second of C.
    for id in [1, 2] {
        admit(&*store, &open_encounter(id), None).await;
    }
    let on = day("2024-03-01");
    let leave = async |id: i64, reach: &Reach| {
        let event = event(Action::Discharge, 2).about(eid(id)).announced(Some(format!("e-{id}")));
        store.discharge(eid(id), on, reach, &event).await.unwrap()
    };
    for reach in [facilities(""), facilities("C")] {
        assert_eq!(leave(1, &reach).await, Discharged::OutOfReach);
        let event = newest(&*store).await;
        assert_eq!((event.outcome, event.encounter), (Outcome::Refused, Some(eid(1))));
        assert_eq!(leave(9, &reach).await, Discharged::Unknown);
        assert_eq!(newest(&*store).await.outcome, Outcome::Failure);
    }
    assert!(store.encounter(eid(1)).await.unwrap().unwrap().encounter.discharged.reveal().is_none());
    let leased = store.lease_announcements("l", at(9), at(20), 9).await.unwrap();
    assert_eq!(leased, Leased::Nothing, "nobody is told of what did not happen");
    assert!(matches!(leave(2, &facilities("C")).await, Discharged::Now(_)));
    assert!(matches!(leave(1, &Reach::All).await, Discharged::Now(_)));
    assert_eq!(leave(1, &facilities("C")).await, Discharged::OutOfReach, "nor of one that is over");
}

pub(super) async fn an_elevation_runs_until_it_ends_or_is_ended(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    let first = elevation(1, "ann", 10);
    assert_eq!(begin(&*store, &first, 9).await, Broken::Now);
    let other = place.open().await;
    assert_eq!(other.standing("ann").await.unwrap().elevation, Some((first.id.clone(), first.until)));
    assert_eq!(other.standing("ben").await.unwrap().elevation, None);
    assert_eq!(begin(&*other, &elevation(2, "ann", 11), 9).await, Broken::Runs(Box::new(nameless(&first))));
    assert_eq!(newest(&*store).await.detail, format!("runs already: {}", first.id));
    assert_eq!(begin(&*other, &elevation(3, "ben", 11), 9).await, Broken::Now, "each caller alone");

    assert_eq!(end(&*store, &first.id, Some("ben"), 20).await, EndedElevation::Unknown);
    assert_eq!(newest(&*store).await.outcome, Outcome::Failure);
    assert_eq!(end(&*store, &first.id, Some("ann"), 20).await, EndedElevation::Now);
    assert_eq!(end(&*store, &first.id, Some("ann"), 21).await, EndedElevation::Unknown);
    assert_eq!(store.standing("ann").await.unwrap().elevation, None);
    // Over by itself: another may begin at that instant.
    let again = elevation(4, "ben", 11 + 3600);
    assert_eq!(end(&*store, &elevation(3, "ben", 11).id, None, 11 + 3600).await, EndedElevation::Unknown);
    assert_eq!(begin(&*store, &again, 9).await, Broken::Now);
    assert_eq!(end(&*store, &again.id, None, 4000).await, EndedElevation::Now, "whosever it is");

    let found = other.elevation(&first.id).await.unwrap().unwrap();
    assert_eq!(found, Elevation { ended: Some(at(20)), ..first.clone() });
    assert_eq!(other.elevation("none").await.unwrap(), None);
    let listed = other.elevations(9).await.unwrap();
    assert_eq!(
        listed.iter().map(|elevation| elevation.id.as_str()).collect::<Vec<_>>(),
        [&again.id, &elevation(3, "", 1).id, &first.id]
    );
    assert!(listed.iter().all(|elevation| elevation.words.reveal().is_empty()));
    assert_eq!(other.elevations(1).await.unwrap().len(), 1);
    assert!(other.elevations(0).await.unwrap().is_empty());
    let Leased::Taken { announcements, .. } = store.lease_announcements("l", at(9), at(20), 9).await.unwrap() else {
        panic!("nobody is told");
    };
    assert_eq!(announcements.len(), 3, "each beginning, and nothing else");
}

pub(super) async fn of_many_who_break_the_glass_at_once_one_does(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    let mut instances = Vec::new();
    for number in 1..=6 {
        let store = place.open().await;
        instances.push(async move { begin(&*store, &elevation(number, "ann", 10), 9).await });
    }
    let outcomes = futures_util::future::join_all(instances).await;
    assert_eq!(outcomes.iter().filter(|broken| **broken == Broken::Now).count(), 1, "{outcomes:?}");
    let ran: BTreeSet<_> = outcomes
        .iter()
        .filter_map(|broken| if let Broken::Runs(elevation) = broken { Some(elevation.id.clone()) } else { None })
        .collect();
    let kept: BTreeSet<_> = store.elevations(9).await.unwrap().into_iter().map(|elevation| elevation.id).collect();
    assert_eq!((ran.len(), ran), (1, kept));
    assert_eq!(super::trail::follow(&*store, 10).await, Ok(6));
}

pub(super) async fn a_caller_has_so_many_elevations_a_day(new_place: NewPlace) {
    let store = new_place().migrated().await;
    for number in 1..=3 {
        assert_eq!(begin(&*store, &elevation(number, "ann", number * 4000), 3).await, Broken::Now);
    }
    assert_eq!(begin(&*store, &elevation(4, "ann", 16_000), 3).await, Broken::TooMany);
    let refused = newest(&*store).await;
    assert_eq!((refused.outcome, refused.detail.as_str()), (Outcome::Refused, "too many within a day"));
    assert_eq!(begin(&*store, &elevation(5, "ben", 16_000), 3).await, Broken::Now);
    assert_eq!(begin(&*store, &elevation(6, "ann", 4001 + 86_400), 3).await, Broken::Now, "the first is a day old");
    assert_eq!(store.elevations(9).await.unwrap().len(), 5);
}

pub(super) async fn what_needed_an_elevation_says_so_and_is_counted(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let running = elevation(7, "ann", 1);
    begin(&*store, &running, 9).await;
    let elevated = Elevated { id: running.id.clone(), until: running.until, own: facilities("C") };
    let ann = Caller { elevated: Some(elevated), ..Caller { roles: vec![Role::CareLineManager], ..caller() } };
    let by_ann = |action, id: i64| AuditEvent::new(&ann, action, Outcome::Success, at(5)).about(eid(id));
    let mark = format!("break-glass {}", running.id);
    // Facility B is beyond her own, C is not.
    for (id, marked) in [(1, mark.as_str()), (2, "")] {
        let encounter = open_encounter(id);
        let event = by_ann(Action::Admit, id).at_facility(encounter.facility);
        store.admit(&encounter, None, &event).await.unwrap();
        assert_eq!(newest(&*store).await.detail, marked);
        let on = *encounter.admitted.reveal();
        store.discharge(eid(id), on, &Reach::All, &by_ann(Action::Discharge, id)).await.unwrap();
        assert_eq!(newest(&*store).await.detail, marked);
    }
    store.append_audit(&by_ann(Action::ReadPatients, 1).at_every_facility().detail("list")).await.unwrap();
    assert_eq!(newest(&*store).await.detail, format!("list; {mark}"));
    assert_eq!(store.elevation(&running.id).await.unwrap().unwrap().events, 3);
    // A page of both: each is marked by its own facility, and all are counted at once.
    let page: Vec<_> = [(1, "B"), (2, "C"), (3, "A"), (4, "C")]
        .into_iter()
        .map(|(id, letter)| by_ann(Action::ReadPatients, id).at_facility(FacilityId::parse(letter).unwrap()).detail("list"))
        .chain([by_ann(Action::ReadPatients, 5).detail("list")])
        .collect();
    store.append_audits(&page).await.unwrap();
    let mut told: Vec<_> = store.audit_events(5).await.unwrap().into_iter().map(|event| event.detail).collect();
    told.reverse();
    let marked = format!("list; {mark}");
    assert_eq!(told, [marked.as_str(), "list", &marked, "list", "list"]);
    assert_eq!(store.elevation(&running.id).await.unwrap().unwrap().events, 5);
    assert_eq!(super::trail::follow(&*store, 10).await, Ok(11));
}
