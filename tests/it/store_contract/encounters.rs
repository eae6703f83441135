//! Admissions, discharges and what is read of them.

use std::sync::Arc;
use std::thread;

use chrono::{Days, NaiveDate};
use health_data_ai::domain::{Clinical, Encounter, EncounterId, FacilityId, Gender, Outcome, PersonName, Phi};
use health_data_ai::error::Kind;
use health_data_ai::schema::{Feature, Shape};
use health_data_ai::store::{Admitted, Census, Discharged, Store, Stored, Totals};

use super::place::*;

async fn outcomes(store: &dyn Store) -> Vec<Outcome> {
    let mut events = store.audit_events(1000).await.unwrap();
    events.reverse();
    events.into_iter().map(|event| event.outcome).collect()
}

pub(super) async fn an_admission_is_stored_once_and_answered_again(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    let (encounter, said) = (open_encounter(1), prediction(2.0 / 3.0 + 4.0));
    assert_eq!(admit(&*store, &encounter, Some(&said)).await, Admitted::Now);
    let stored = Stored { encounter: encounter.clone(), prediction: Some(said) };
    assert_eq!(store.encounter(eid(1)).await.unwrap(), Some(stored.clone()));
    // Another process answers the same, whatever its model says by now.
    let other = place.open().await;
    for newer in [None, Some(&prediction(9.0))] {
        assert_eq!(admit(&*other, &encounter, newer).await, Admitted::Before(Box::new(stored.clone())));
    }
    assert_eq!(outcomes(&*store).await, [Outcome::Success; 3]);

    assert_eq!(admit(&*store, &bare_encounter(2), None).await, Admitted::Now);
    let stored = Stored { encounter: bare_encounter(2), prediction: None };
    assert_eq!(admit(&*store, &bare_encounter(2), None).await, Admitted::Before(Box::new(stored)));
    assert_eq!(store.totals().await.unwrap(), Totals { encounters: 2, discharged: 0, admitted: 2 });
    assert_eq!(store.encounter(eid(3)).await.unwrap(), None);
}

/// One variant of `encounter` for everything an admission says.
fn variants(encounter: &Encounter) -> Vec<Encounter> {
    let with = |change: &dyn Fn(&mut Encounter)| {
        let mut other = encounter.clone();
        change(&mut other);
        other
    };
    let mut all = vec![
        with(&|e| e.name = PersonName::new("Other", e.name.middle.reveal().clone(), e.name.last.reveal().clone())),
        with(&|e| e.name = PersonName::new(e.name.first.reveal().clone(), "", e.name.last.reveal().clone())),
        with(&|e| e.name = PersonName::new(e.name.first.reveal().clone(), e.name.middle.reveal().clone(), "other")),
        with(&|e| e.gender = if e.gender == Gender::Female { Gender::Male } else { Gender::Female }),
        with(&|e| e.facility = FacilityId::parse("9").unwrap()),
        with(&|e| e.admitted = e.admitted.map(|day| day.pred_opt().unwrap())),
        with(&|e| e.discharged = e.admitted.map(Some)),
    ];
    for feature in Feature::all() {
        all.push(with(&|e| e.clinical.set(feature, None)));
    }
    all
}

pub(super) async fn an_admission_that_differs_in_anything_is_a_conflict(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let encounter = open_encounter(1);
    admit(&*store, &encounter, None).await;
    let variants = variants(&encounter);
    for other in &variants {
        assert_eq!(admit(&*store, other, Some(&prediction(2.0))).await, Admitted::Conflict);
    }
    assert_same(&store.encounter(eid(1)).await.unwrap().unwrap().encounter, &encounter);
    let outcomes = outcomes(&*store).await;
    assert_eq!(outcomes.len(), 1 + variants.len(), "a refusal leaves its event too");
    assert!(outcomes[1..].iter().all(|outcome| *outcome == Outcome::Failure));
}

pub(super) async fn an_admission_of_an_imported_encounter_is_a_conflict_unless_equal(new_place: NewPlace) {
    let store = new_place().migrated().await;
    import(&*store, 1, vec![open_encounter(1), open_encounter(2)]).await;
    let stored = Stored { encounter: open_encounter(1), prediction: None };
    assert_eq!(admit(&*store, &open_encounter(1), Some(&prediction(2.0))).await, Admitted::Before(Box::new(stored)));
    let mut other = open_encounter(2);
    other.clinical = Clinical::default();
    assert_eq!(admit(&*store, &other, None).await, Admitted::Conflict);
    assert_eq!(store.totals().await.unwrap(), Totals { encounters: 2, discharged: 0, admitted: 0 });
}

pub(super) async fn a_repeated_admission_after_the_discharge_is_the_same_admission(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let (encounter, said) = (open_encounter(1), prediction(2.5));
    admit(&*store, &encounter, Some(&said)).await;
    let on = *encounter.admitted.reveal() + Days::new(3);
    discharge(&*store, eid(1), on).await;
    let stored = Stored { encounter: Encounter { discharged: Phi::new(Some(on)), ..encounter.clone() }, prediction: Some(said) };
    assert_eq!(admit(&*store, &encounter, None).await, Admitted::Before(Box::new(stored.clone())));
    assert_eq!(admit(&*store, &stored.encounter, None).await, Admitted::Before(Box::new(stored)));
    let other_day = Encounter { discharged: Phi::new(Some(on + Days::new(1))), ..encounter };
    assert_eq!(admit(&*store, &other_day, None).await, Admitted::Conflict);
}

/// Runs `act` on eight OS threads, each with a runtime and a handle of its own, all let go at once.
fn race<T: Send, W: Future<Output = T>>(place: &Place, act: impl Fn(Handle, u64) -> W + Sync) -> Vec<T> {
    let start = std::sync::Barrier::new(8);
    thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|number| {
                let (start, act) = (&start, &act);
                scope.spawn(move || {
                    let runtime = runtime();
                    let store = runtime.block_on(place.open());
                    start.wait();
                    runtime.block_on(act(store, number))
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    })
}

pub(super) async fn of_many_equal_admissions_at_once_one_is_new(new_place: NewPlace) {
    let place = Arc::new(new_place());
    let store = place.migrated().await;
    let racing = Arc::clone(&place);
    let admitted = tokio::task::spawn_blocking(move || {
        race(&racing, |store, number| async move {
            let said = prediction(2.0 + number as f64);
            admit(&*store, &open_encounter(1), Some(&said)).await
        })
    });
    let admitted = admitted.await.unwrap();
    assert_eq!(admitted.iter().filter(|admitted| **admitted == Admitted::Now).count(), 1);
    let stored = store.encounter(eid(1)).await.unwrap().unwrap();
    for answer in admitted.into_iter().filter(|admitted| *admitted != Admitted::Now) {
        assert_eq!(answer, Admitted::Before(Box::new(stored.clone())), "all are answered with the one prediction");
    }
    assert_eq!(outcomes(&*store).await.len(), 8);
}

pub(super) async fn of_many_discharges_at_once_one_wins(new_place: NewPlace) {
    let place = Arc::new(new_place());
    let store = place.migrated().await;
    let encounter = open_encounter(1);
    admit(&*store, &encounter, None).await;
    let (racing, admitted) = (Arc::clone(&place), *encounter.admitted.reveal());
    let discharged = tokio::task::spawn_blocking(move || {
        race(&racing, |store, number| async move { discharge(&*store, eid(1), admitted + Days::new(number)).await })
    });
    let discharged = discharged.await.unwrap();
    let won: Vec<_> = discharged.iter().filter(|answer| matches!(answer, Discharged::Now(_))).collect();
    let [Discharged::Now(winner)] = won[..] else { panic!("{} won", won.len()) };
    assert_eq!(discharged.iter().filter(|answer| **answer == Discharged::Conflict).count(), 7);
    assert_eq!(store.encounter(eid(1)).await.unwrap().as_ref(), Some(&**winner));
}

pub(super) async fn a_discharge_meets_every_case(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let (encounter, said) = (open_encounter(1), prediction(2.5));
    let on = *encounter.admitted.reveal() + Days::new(4);
    assert_eq!(discharge(&*store, eid(1), on).await, Discharged::Unknown);
    admit(&*store, &encounter, Some(&said)).await;
    assert_eq!(discharge(&*store, eid(1), encounter.admitted.reveal().pred_opt().unwrap()).await, Discharged::BeforeAdmission);
    assert_eq!(store.encounter(eid(1)).await.unwrap().unwrap().encounter.discharged, Phi::new(None));
    let stored =
        Box::new(Stored { encounter: Encounter { discharged: Phi::new(Some(on)), ..encounter.clone() }, prediction: Some(said) });
    assert_eq!(discharge(&*store, eid(1), on).await, Discharged::Now(stored.clone()));
    assert_eq!(discharge(&*store, eid(1), on).await, Discharged::Before(stored.clone()));
    assert_eq!(discharge(&*store, eid(1), on + Days::new(1)).await, Discharged::Conflict);
    assert_eq!(discharge(&*store, eid(1), day("1900-01-01")).await, Discharged::Conflict, "it is closed, whatever the day");
    assert_eq!(store.encounter(eid(1)).await.unwrap(), Some(*stored));
    let (good, bad) = (Outcome::Success, Outcome::Failure);
    assert_eq!(outcomes(&*store).await, [bad, good, bad, good, good, bad, bad]);

    // Nobody stays for more than ten years.
    admit(&*store, &open_encounter(3), None).await;
    let decades_later = *open_encounter(3).admitted.reveal() + Days::new(3_651);
    assert_eq!(discharge(&*store, eid(3), decades_later).await, Discharged::TooLong);
    assert!(matches!(discharge(&*store, eid(3), decades_later - Days::new(1)).await, Discharged::Now(_)));

    // The day of admission itself is a stay of no days.
    admit(&*store, &open_encounter(2), None).await;
    let Discharged::Now(stored) = discharge(&*store, eid(2), *open_encounter(2).admitted.reveal()).await else {
        panic!("not discharged")
    };
    assert_eq!(stored.encounter.stay_days(), Some(0));
    assert_eq!(store.totals().await.unwrap(), Totals { encounters: 3, discharged: 3, admitted: 3 });
}

/// Encounters at the ends of everything.
fn extremes() -> Vec<Encounter> {
    let edge = |id: i64, number: &dyn Fn(Feature) -> f64| {
        let mut encounter = encounter(id);
        for feature in Feature::measurements() {
            encounter.clinical.set(feature, Some(number(feature)));
        }
        encounter
    };
    let limits = |feature: Feature| match feature.spec().shape {
        Shape::Measurement(m) => (m.possible, m.whole),
        _ => unreachable!(),
    };
    let mut all = vec![
        edge(1, &|f| limits(f).0.0),
        edge(2, &|f| limits(f).0.1),
        edge(3, &|f| if limits(f).1 { f64::from(i32::MAX) } else { f64::MAX }),
        edge(4, &|f| if limits(f).1 { f64::from(i32::MIN) } else { f64::MIN_POSITIVE }),
        edge(5, &|f| if limits(f).1 { -1.0 } else { f64::MIN }),
        edge(6, &|f| if limits(f).1 { 1.0 } else { 0.1 + 0.2 }),
        edge(7, &|f| if limits(f).1 { 0.0 } else { -1.0 / 3.0 }),
        Encounter { admitted: Phi::new(day("1900-01-01")), discharged: Phi::new(Some(day("1900-01-01"))), ..bare_encounter(8) },
        Encounter { admitted: Phi::new(day("1900-01-01")), discharged: Phi::new(Some(day("2199-12-31"))), ..bare_encounter(9) },
        Encounter { admitted: Phi::new(day("2000-02-29")), discharged: Phi::new(None), ..bare_encounter(i64::from(i32::MAX)) },
    ];
    let long = "é".repeat(50);
    let names = [("Zoë", "中文 名", "O'Brien"), ("𝔘𝔫𝔦", "\"; DROP TABLE PatientData;--", " x "), ("\u{202e}rtl\t", "a\nb", &long)];
    for (number, (first, middle, last)) in (100..).zip(names) {
        all.push(Encounter { name: PersonName::new(first, middle, last), ..bare_encounter(number) });
    }
    for (number, gender) in (200..).zip(Gender::ALL) {
        all.push(Encounter { gender, facility: FacilityId::parse("z").unwrap(), ..bare_encounter(number) });
    }
    all
}

pub(super) async fn every_value_comes_back_as_it_went_in(new_place: NewPlace) {
    let (imported, admitted) = (new_place().migrated().await, new_place().migrated().await);
    import(&*imported, 1, extremes()).await;
    for encounter in extremes() {
        assert_eq!(admit(&*admitted, &encounter, None).await, Admitted::Now);
        for store in [&*imported, &*admitted] {
            assert_same(&store.encounter(encounter.id).await.unwrap().unwrap().encounter, &encounter);
            let repeated = admit(store, &encounter, None).await;
            assert!(matches!(repeated, Admitted::Before(_)), "encounter {} is equal to itself", encounter.id.get());
        }
    }
    let again = import(&*imported, 2, extremes()).await;
    assert!(matches!(again, health_data_ai::store::Step::Committed(counts) if counts.unchanged == counts.read), "{again:?}");
}

pub(super) async fn a_prediction_that_is_not_finite_is_refused_whole(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let refused =
        store.admit(&open_encounter(1), Some(&prediction(f64::NAN)), &event(health_data_ai::domain::Action::Admit, 1)).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Internal);
    assert_eq!(store.encounter(eid(1)).await.unwrap(), None);
    assert!(store.audit_events(9).await.unwrap().is_empty(), "the fact and its event stand or fall together");
}

pub(super) async fn encounters_are_paged_with_names(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let stored: Vec<Encounter> =
        [3, 5, 8, 700].into_iter().map(|id| if id == 5 { open_encounter(id) } else { encounter(id) }).collect();
    import(&*store, 1, stored.iter().rev().cloned().collect()).await;
    let first = store.encounters(None, 3).await.unwrap();
    let rest = store.encounters(first.last().map(|last| last.id), 3).await.unwrap();
    assert_eq!((first.len(), rest.len()), (3, 1));
    for (read, expected) in first.iter().chain(&rest).zip(&stored) {
        assert_same(read, expected);
    }
    assert!(store.encounters(Some(eid(700)), 3).await.unwrap().is_empty());
}

pub(super) async fn discharged_encounters_are_paged_without_names(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let ids = [5, 1, 9, 700, 3, 20, 21];
    import(&*store, 1, ids.into_iter().map(encounter).collect()).await;
    import(&*store, 2, [2, 8, 22].into_iter().map(open_encounter).collect()).await;
    let mut read: Vec<Encounter> = Vec::new();
    let mut after: Option<EncounterId> = None;
    loop {
        let page = store.discharged_encounters(after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        read.extend(page);
    }
    let mut expected: Vec<_> = ids.into_iter().map(|id| Encounter { name: PersonName::default(), ..encounter(id) }).collect();
    expected.sort_by_key(|encounter| encounter.id);
    assert_eq!(read.len(), expected.len());
    for (read, expected) in read.iter().zip(&expected) {
        assert_same(read, expected);
    }
}

pub(super) async fn the_census_counts_by_facility(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let today = day("2024-02-28");
    let in_facility = |id: i64, facility: &str, admitted: NaiveDate| Encounter {
        facility: FacilityId::parse(facility).unwrap(),
        admitted: Phi::new(admitted),
        ..bare_encounter(id)
    };
    // A: four open; one leaves today, one on the last day of the window (over the leap day), one after it, one without a prediction.
    for (id, days) in [(1, Some(1.0)), (2, Some(4.0)), (3, Some(5.0)), (4, None)] {
        let said = days.map(prediction);
        admit(&*store, &in_facility(id, "A", day("2024-02-27")), said.as_ref()).await;
    }
    // B: one comes tomorrow. C: two went today, one yesterday. D: nobody.
    admit(&*store, &in_facility(5, "B", today + Days::new(1)), Some(&prediction(1.0))).await;
    for (id, on) in [(6, today), (7, today), (8, day("2024-02-27"))] {
        admit(&*store, &in_facility(id, "C", day("2024-02-20")), Some(&prediction(3.0))).await;
        discharge(&*store, eid(id), on).await;
    }
    let census = store.census(today, day("2024-03-02")).await.unwrap();
    let counted: Vec<_> = census.iter().map(|c| (c.occupied, c.expected_discharges, c.discharged_today)).collect();
    assert_eq!(counted, [(4, 2, 0), (0, 0, 0), (0, 0, 2), (0, 0, 0), (0, 0, 0)]);
    let facilities: Vec<_> = census.into_iter().map(|Census { facility, .. }| facility).collect();
    assert_eq!(facilities, store.facilities().await.unwrap());
}
