//! Any sequence of imports, admissions and discharges leaves what a model of a few lines says, whichever process did what.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use health_data_ai::domain::import::Counts;
use health_data_ai::domain::{Encounter, EncounterId, FacilityId, PersonName, Phi, Prediction};
use health_data_ai::schema::Feature;
use health_data_ai::store::{Admitted, Discharged, Step, Store, Stored, Totals};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::place::*;

/// One fact, by small numbers so that facts meet.
#[derive(Debug, Clone)]
enum Fact {
    /// A file of these rows.
    Import(Vec<Row>),
    /// An admission with a predicted stay.
    Admit(Row, Option<u8>),
    /// A discharge so many days after a fixed day.
    Discharge(u8, u8),
}

#[derive(Debug, Clone)]
struct Row {
    id: u8,
    variant: u8,
    discharged: Option<u8>,
}

impl Row {
    fn encounter(&self) -> Encounter {
        let mut encounter = bare_encounter(i64::from(self.id));
        encounter.facility = FacilityId::parse(["A", "B"][usize::from(self.variant % 2)]).unwrap();
        encounter.admitted = Phi::new(first_day());
        encounter.clinical.set(Feature::Glucose, (self.variant > 1).then(|| f64::from(self.variant) / 3.0));
        encounter.discharged = Phi::new(self.discharged.map(|days| first_day() + Days::new(days.into())));
        encounter
    }
}

fn first_day() -> NaiveDate {
    day("2024-02-26")
}

fn fact() -> impl Strategy<Value = Fact> {
    let row =
        || (1_u8..6, 0_u8..4, proptest::option::of(0_u8..4)).prop_map(|(id, variant, discharged)| Row { id, variant, discharged });
    prop_oneof![
        2 => proptest::collection::vec(row(), 0..6).prop_map(Fact::Import),
        3 => (row(), proptest::option::of(0_u8..4)).prop_map(|(row, days)| Fact::Admit(Row { discharged: None, ..row }, days)),
        2 => (1_u8..7, 0_u8..5).prop_map(|(id, days)| Fact::Discharge(id, days)),
    ]
}

/// An encounter, its prediction, and whether an import wrote it last.
type Kept = (Encounter, Option<Prediction>, bool);

/// What the record should hold.
#[derive(Default)]
struct Model(BTreeMap<EncounterId, Kept>);

impl Model {
    fn import(&mut self, rows: &[Encounter]) -> Counts {
        let mut counts = Counts { read: rows.len() as u64, ..Counts::default() };
        for row in rows {
            match self.0.get_mut(&row.id) {
                None => {
                    self.0.insert(row.id, (row.clone(), None, true));
                    counts.stored += 1;
                }
                Some(kept) if !kept.2 && is_another(&kept.0, row) => counts.rejected += 1,
                Some(kept) if kept.0 == merged(&kept.0, row) => counts.unchanged += 1,
                Some(kept) => {
                    kept.0 = merged(&kept.0, row);
                    kept.2 = true;
                    counts.updated += 1;
                }
            }
        }
        counts
    }

    fn stored(&self, id: EncounterId) -> Option<Stored> {
        self.0.get(&id).map(|(encounter, prediction, _)| Stored { encounter: encounter.clone(), prediction: prediction.clone() })
    }

    fn admit(&mut self, encounter: &Encounter, prediction: Option<Prediction>) -> Admitted {
        match self.stored(encounter.id) {
            None => {
                self.0.insert(encounter.id, (encounter.clone(), prediction, false));
                Admitted::Now
            }
            Some(stored) if (Encounter { discharged: Phi::new(None), ..stored.encounter.clone() }) == *encounter => {
                Admitted::Before(Box::new(stored))
            }
            Some(_) => Admitted::Conflict,
        }
    }

    fn discharge(&mut self, id: EncounterId, on: NaiveDate) -> Discharged {
        let Some(kept) = self.0.get_mut(&id) else { return Discharged::Unknown };
        match *kept.0.discharged.reveal() {
            Some(day) if day == on => Discharged::Before(Box::new(self.stored(id).unwrap())),
            Some(_) => Discharged::Conflict,
            None if on < *kept.0.admitted.reveal() => Discharged::BeforeAdmission,
            None => {
                kept.0.discharged = Phi::new(Some(on));
                Discharged::Now(Box::new(self.stored(id).unwrap()))
            }
        }
    }

    fn totals(&self) -> Totals {
        let count = |keep: &dyn Fn(&Kept) -> bool| self.0.values().filter(|kept| keep(kept)).count();
        Totals {
            encounters: self.0.len() as u64,
            discharged: count(&|kept| kept.0.discharged.reveal().is_some()) as u64,
            admitted: count(&|kept| !kept.2) as u64,
        }
    }

    fn census(&self, facility: FacilityId, on: NaiveDate, until: NaiveDate) -> (u64, u64, u64) {
        let here = || self.0.values().filter(move |(encounter, ..)| encounter.facility == facility);
        let open =
            || here().filter(move |(encounter, ..)| encounter.discharged.reveal().is_none() && *encounter.admitted.reveal() <= on);
        let leaves = |(encounter, said, _): &&Kept| {
            said.as_ref().is_some_and(|said| *encounter.admitted.reveal() + Days::new(said.whole_days() as u64) <= until)
        };
        let today = here().filter(|(encounter, ..)| *encounter.discharged.reveal() == Some(on)).count();
        (open().count() as u64, open().filter(leaves).count() as u64, today as u64)
    }
}

/// Another encounter under the same id; one that was admitted is not written over.
fn is_another(kept: &Encounter, row: &Encounter) -> bool {
    (kept.admitted, kept.facility, kept.gender) != (row.admitted, row.facility, row.gender)
}

/// What a row makes of the one that is there: empty names, and an empty discharge of the same stay, erase nothing.
fn merged(kept: &Encounter, row: &Encounter) -> Encounter {
    let name = |new: &Phi<String>, old: &Phi<String>| if new.reveal().is_empty() { old.clone() } else { new.clone() };
    Encounter {
        name: PersonName {
            first: name(&row.name.first, &kept.name.first),
            middle: name(&row.name.middle, &kept.name.middle),
            last: name(&row.name.last, &kept.name.last),
        },
        discharged: if row.admitted == kept.admitted {
            row.discharged.map(|day| day.or(*kept.discharged.reveal()))
        } else {
            row.discharged
        },
        ..row.clone()
    }
}

pub(super) async fn any_sequence_of_facts_leaves_what_a_simple_model_says(new_place: NewPlace) {
    let runtime = tokio::runtime::Handle::current();
    let checking = tokio::task::spawn_blocking(move || {
        // A failing sequence is printed by the panic; it is not kept in a file.
        let mut runner = TestRunner::new(Config { cases: new_place().cases, failure_persistence: None, ..Config::default() });
        runner.run(&proptest::collection::vec(fact(), 1..25), |facts| {
            runtime.block_on(check(new_place(), &facts));
            Ok(())
        })
    });
    checking.await.unwrap().unwrap();
}

async fn check(place: Place, facts: &[Fact]) {
    let handles = [place.migrated().await, place.open().await];
    let mut model = Model::default();
    for (number, fact) in (0_u32..).zip(facts) {
        apply(&*handles[number as usize % 2], &mut model, number, fact).await;
    }
    compare(&*handles[0], &model).await;
    assert_eq!(handles[1].audit_events(100).await.unwrap().len(), facts.iter().filter(|f| !matches!(f, Fact::Import(_))).count());
}

async fn apply(store: &dyn Store, model: &mut Model, number: u32, fact: &Fact) {
    match fact {
        Fact::Import(rows) => {
            let rows: Vec<_> = rows.iter().map(Row::encounter).collect();
            let expected = model.import(&rows);
            assert_eq!(import(store, number, rows).await, Step::Committed(expected));
        }
        Fact::Admit(row, days) => {
            let said = days.map(|days| prediction(f64::from(days) + 0.75));
            let expected = model.admit(&row.encounter(), said.clone());
            assert_eq!(admit(store, &row.encounter(), said.as_ref()).await, expected);
        }
        Fact::Discharge(id, days) => {
            let (id, on) = (eid(i64::from(*id)), first_day() + Days::new(u64::from(*days)) - Days::new(1));
            let expected = model.discharge(id, on);
            assert_eq!(discharge(store, id, on).await, expected);
        }
    }
}

async fn compare(store: &dyn Store, model: &Model) {
    for id in 1..8 {
        assert_eq!(store.encounter(eid(id)).await.unwrap(), model.stored(eid(id)));
    }
    assert_eq!(store.totals().await.unwrap(), model.totals());
    let discharged: Vec<_> =
        model.0.values().map(|kept| kept.0.clone()).filter(|encounter| encounter.discharged.reveal().is_some()).collect();
    let nameless: Vec<_> = discharged.into_iter().map(|e| Encounter { name: PersonName::default(), ..e }).collect();
    assert_eq!(store.discharged_encounters(None, 100).await.unwrap(), nameless);
    for days in 0..4 {
        let (on, until) = (first_day() + Days::new(days), first_day() + Days::new(days + 1));
        for census in store.census(on, until).await.unwrap() {
            let counted = (census.occupied, census.expected_discharges, census.discharged_today);
            assert_eq!(counted, model.census(census.facility.id, on, until));
        }
    }
}
