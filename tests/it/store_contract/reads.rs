//! What people read, held against a plain model: patients by page, predictions in sums, encounters that name nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{Days, NaiveDate};
use health_data_ai::domain::rows::Class;
use health_data_ai::domain::{Action, AuditEvent, Encounter, EncounterId, FacilityId, Outcome, PersonName, Phi, Prediction, Reach};
use health_data_ai::schema::Feature;
use health_data_ai::store::{AuditQuery, BUCKET_IDS, Due, PatientQuery, RowSurvey, Store, Stored};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::place::*;
use super::trail::follow;

const TODAY: &str = "2024-03-10";

/// Encounters of three facilities, near each other in time; some open, some with a prediction.
fn ward() -> Vec<Stored> {
    let stored = |id: i64| {
        let mut encounter = encounter(id);
        encounter.facility = FacilityId::parse(["A", "B", "C"][(id % 3) as usize]).unwrap();
        let admitted = day("2024-02-26") + Days::new((id * 7 % 12) as u64);
        encounter.admitted = Phi::new(admitted);
        encounter.discharged = Phi::new((id % 4 > 1).then(|| admitted + Days::new((id % 6) as u64)));
        // Halves are whole in binary, so that sums are exact in any order.
        let prediction = (id % 5 != 0).then(|| prediction((id % 9) as f64 + 1.5));
        Stored { encounter, prediction }
    };
    (1..=60).map(|number| stored(number * 5)).collect()
}

async fn admitted(store: &dyn Store) -> Vec<Stored> {
    let ward = ward();
    for stored in &ward {
        admit(store, &stored.encounter, stored.prediction.as_ref()).await;
    }
    ward
}

fn nameless(encounter: &Encounter) -> Encounter {
    Encounter { name: PersonName::default(), ..encounter.clone() }
}

fn everyone(open: bool, limit: u32) -> PatientQuery {
    PatientQuery { within: Reach::All, open, from: None, to: None, before: None, limit }
}

/// All pages of `query`, one after the other.
async fn paged(store: &dyn Store, mut query: PatientQuery) -> Vec<Stored> {
    let mut all = Vec::new();
    loop {
        let page = store.patients(&query).await.unwrap();
        assert!(page.len() <= query.limit as usize);
        let Some(last) = page.last() else { return all };
        query.before = Some(last.encounter.id);
        all.extend(page);
    }
}

pub(super) async fn patients_are_filtered_and_paged_as_a_plain_model_says(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    let ward = admitted(&*store).await;
    let facilities = proptest::option::of(proptest::collection::vec("[ABCZ]", 0..4));
    let days = || proptest::option::of(0..14_u64);
    let queries = (facilities, any::<bool>(), days(), days(), 1..25_u32);
    let mut runner = TestRunner::deterministic();
    for _ in 0..place.cases {
        let (letters, open, from, to, limit) = queries.new_tree(&mut runner).unwrap().current();
        let within = letters
            .map_or(Reach::All, |letters| Reach::Only(letters.iter().map(|letter| FacilityId::parse(letter).unwrap()).collect()));
        let [from, to] = [from, to].map(|days| days.map(|days| day("2024-02-25") + Days::new(days)));
        let query = PatientQuery { within, open, from, to, before: None, limit };
        let mut expected: Vec<_> = ward.iter().filter(|stored| is_asked_for(&stored.encounter, &query)).cloned().collect();
        expected.sort_by_key(|stored| std::cmp::Reverse(stored.encounter.id));
        assert_eq!(paged(&*store, query.clone()).await, expected, "{query:?}");
    }
    assert_eq!(store.patients(&everyone(true, 0)).await.unwrap(), []);
    let named = store.patients(&everyone(true, 1)).await.unwrap().remove(0).encounter;
    assert_eq!(named.name, encounter(named.id.get().into()).name, "with the name");
}

fn is_asked_for(encounter: &Encounter, query: &PatientQuery) -> bool {
    query.within.holds(encounter.facility)
        && encounter.discharged.reveal().is_none() == query.open
        && query.from.is_none_or(|from| *encounter.admitted.reveal() >= from)
        && query.to.is_none_or(|to| *encounter.admitted.reveal() <= to)
}

pub(super) async fn pages_neither_lose_nor_repeat_while_patients_come(new_place: NewPlace) {
    let place = new_place();
    let (store, other) = (place.migrated().await, place.open().await);
    let ward = admitted(&*store).await;
    let come = async {
        for number in 0..40 {
            // Between those that are there, and above them.
            admit(&*other, &open_encounter(if number % 2 == 0 { number * 5 + 2 } else { 1000 + number }), None).await;
        }
    };
    let (pages, ()) = futures_util::future::join(paged(&*store, everyone(true, 3)), come).await;
    let mut seen = BTreeSet::new();
    for stored in &pages {
        assert!(seen.insert(stored.encounter.id), "{} comes twice", stored.encounter.id.get());
    }
    let there = ward.iter().filter(|stored| stored.encounter.discharged.reveal().is_none()).map(|stored| stored.encounter.id);
    assert!(there.into_iter().all(|id| seen.contains(&id)), "somebody was lost");
}

pub(super) async fn predictions_are_summed_as_a_plain_model_says(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let ward = admitted(&*store).await;
    let today = day(TODAY);
    for days in [0, 2, 30] {
        let mut expected: BTreeMap<(FacilityId, Due), u64> = BTreeMap::new();
        for Stored { encounter, prediction } in &ward {
            if encounter.discharged.reveal().is_none() && *encounter.admitted.reveal() <= today {
                let due = prediction
                    .as_ref()
                    .map(|said| (*encounter.admitted.reveal() - today).num_days() + i64::from(said.whole_days()));
                let due = due.map_or(Due::Unpredicted, |due| match u32::try_from(due) {
                    Err(_) => Due::Overdue,
                    Ok(due) if due <= days => Due::In(due),
                    Ok(_) => Due::Later,
                });
                *expected.entry((encounter.facility, due)).or_default() += 1;
            }
        }
        let found = store.expected_discharges(today, days).await.unwrap();
        let found: BTreeMap<_, _> = found.into_iter().map(|row| ((row.facility, row.due), row.encounters)).collect();
        assert_eq!(found, expected, "{days} days ahead");
    }
    for (from, to) in [("2024-02-26", TODAY), ("2024-03-01", "2024-03-04"), ("2023-01-01", "2023-12-31")] {
        let (from, to) = (day(from), day(to));
        for facility in ["A", "B", "C"] {
            let facility = FacilityId::parse(facility).unwrap();
            let found = store.accuracy(from, to).await.unwrap().into_iter().find(|sums| sums.facility == facility);
            let found = found.map(|s| (s.stays, s.off_days, s.longer_days, s.within_day, s.inside80, s.inside90));
            assert_eq!(found, sums(&ward, facility, from, to), "{facility} from {from}");
        }
    }
}

type Sums = (u64, f64, f64, u64, u64, u64);

fn sums(ward: &[Stored], facility: FacilityId, from: NaiveDate, to: NaiveDate) -> Option<Sums> {
    let judged = ward.iter().filter_map(|Stored { encounter, prediction }| {
        let ended = encounter.discharged.reveal().filter(|day| (from..=to).contains(day) && encounter.facility == facility);
        ended.and(encounter.stay_days().map(f64::from)).zip(prediction.as_ref())
    });
    let add = |sums: Sums, (stay, said): (f64, &Prediction)| {
        let off = stay - said.days;
        let inside = |low: f64, high: f64| u64::from((low..=high).contains(&stay));
        let (in80, in90) = (inside(said.interval80.low, said.interval80.high), inside(said.interval90.low, said.interval90.high));
        let within = u64::from(off.abs() <= 1.0);
        (sums.0 + 1, sums.1 + off.abs(), sums.2 + off, sums.3 + within, sums.4 + in80, sums.5 + in90)
    };
    let sums = judged.fold((0, 0.0, 0.0, 0, 0, 0), add);
    (sums.0 > 0).then_some(sums)
}

pub(super) async fn the_newest_predictions_come_without_names(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let mut ward = admitted(&*store).await;
    ward.retain(|stored| stored.prediction.is_some());
    ward.sort_by_key(|stored| std::cmp::Reverse((*stored.encounter.admitted.reveal(), stored.encounter.id)));
    let nameless: Vec<_> = ward.into_iter().map(|s| Stored { encounter: nameless(&s.encounter), ..s }).collect();
    for limit in [0, 1, 7, 100] {
        let found = store.newest_predictions(limit).await.unwrap();
        assert_eq!(found, nameless[..nameless.len().min(limit as usize)]);
    }
}

pub(super) async fn all_encounters_are_counted_by_class_and_found_by_range(new_place: NewPlace) {
    let store = new_place().migrated().await;
    assert_eq!(store.row_survey(day(TODAY)).await.unwrap(), Default::default());
    let mut ward: Vec<_> = admitted(&*store).await.into_iter().map(|stored| stored.encounter).collect();
    let far = [bare_encounter(70_000), open_encounter(i64::from(i32::MAX))];
    import(&*store, 1, far.to_vec()).await;
    ward.extend(far);
    let all = (ward.clone(), store.row_survey(day("9999-12-31")).await.unwrap());
    let cut = day("2024-03-02");
    let before: Vec<_> = ward.iter().filter(|encounter| *encounter.admitted.reveal() < cut).cloned().collect();
    assert!(!before.is_empty() && before.len() < ward.len());
    for (ward, survey) in [all, (before, store.row_survey(cut).await.unwrap())] {
        assert_survey(&ward, survey);
    }
    for (first, last, limit) in [(1, 300, 200), (5, 5, 9), (6, 9, 9), (1, 300, 4), (60_000, i64::from(i32::MAX), 9), (1, 9, 0)] {
        let found = store.encounters_between(eid(first), eid(last), limit).await.unwrap();
        let there = |encounter: &&Encounter| (eid(first)..=eid(last)).contains(&encounter.id);
        let expected: Vec<_> = ward.iter().filter(there).take(limit as usize).map(nameless).collect();
        assert_eq!(found, expected, "{first} to {last}");
    }
}

fn assert_survey(ward: &[Encounter], survey: RowSurvey) {
    let mut expected: HashMap<Class, (u64, Vec<u64>)> = HashMap::new();
    for encounter in ward {
        let cell = expected.entry(Class::of(encounter)).or_insert_with(|| (0, vec![0; Feature::conditions().count()]));
        cell.0 += 1;
        for (count, feature) in cell.1.iter_mut().zip(Feature::conditions()) {
            *count += u64::from(encounter.clinical.get(feature) == Some(1.0));
        }
    }
    let found: HashMap<_, _> = survey.cells.into_iter().map(|cell| (cell.class, (cell.encounters, cell.conditions))).collect();
    assert_eq!(found, expected);
    let mut buckets: BTreeMap<i32, u64> = BTreeMap::new();
    ward.iter().for_each(|encounter| *buckets.entry(encounter.id.get() / BUCKET_IDS).or_default() += 1);
    assert_eq!(survey.buckets, buckets.into_iter().collect::<Vec<_>>());
}

fn seen(id: i64, seconds: u32) -> AuditEvent {
    AuditEvent::new(&caller(), Action::ReadPatients, Outcome::Success, at(seconds)).about(eid(id)).detail("it's a list ")
}

pub(super) async fn events_of_a_page_stand_in_the_chain_together(new_place: NewPlace) {
    let place = new_place();
    let store = place.migrated().await;
    store.append_audits(&[]).await.unwrap();
    assert_eq!(follow(&*store, 50).await, Ok(0));
    store.append_audit(&event(Action::ReadCensus, 1)).await.unwrap();
    for (first, number) in [(1, 1), (100, 3), (1000, 150)] {
        let events: Vec<_> = (first..first + number).map(|id| seen(id, 2)).collect();
        store.append_audits(&events).await.unwrap();
        let mut newest = store.audit_events(number as u32).await.unwrap();
        newest.reverse();
        assert_eq!(newest, events, "each as it was, in their order");
    }
    let no_encounter = [event(Action::ReadCensus, 3), event(Action::ReadRows, 4).detail("")];
    store.append_audits(&no_encounter).await.unwrap();
    assert_eq!(follow(&*place.open().await, 50).await, Ok(157));
    let who = AuditQuery { encounter: EncounterId::new(1007), ..AuditQuery::newest(9) };
    assert_eq!(store.audit_page(&who).await.unwrap().len(), 1);
    let instances = (0..6_i64).map(|instance| {
        let place = &place;
        async move {
            let store = place.open().await;
            for round in 0..4 {
                let first = 5000 + instance * 100 + round * 10;
                store.append_audits(&(first..first + 5).map(|id| seen(id, 5)).collect::<Vec<_>>()).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(instances).await;
    assert_eq!(follow(&*store, 50).await, Ok(157 + 6 * 4 * 5));
}
