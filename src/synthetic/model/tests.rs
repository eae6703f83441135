//! The targets of `docs/synthetic-model.md`, held over 20,000 encounters.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::*;
use crate::domain::encounter::is_believable;
use crate::synthetic::{Options, admission, encounters};

static SAMPLE: LazyLock<Vec<Encounter>> =
    LazyLock::new(|| encounters(&Options { rows: 20_000, seed: 3, first_id: 1 }).unwrap().collect());

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let mean_value = mean(values.clone());
    mean(values.map(|value| (value - mean_value) * (value - mean_value))).sqrt()
}

fn values(feature: Feature) -> impl Iterator<Item = f64> + Clone {
    SAMPLE.iter().map(move |encounter| encounter.clinical.get(feature).unwrap())
}

fn share(found: impl Fn(&Encounter) -> bool) -> f64 {
    mean(SAMPLE.iter().map(|encounter| f64::from(u8::from(found(encounter)))))
}

fn count_of_conditions(encounter: &Encounter) -> usize {
    Feature::conditions().filter(|feature| encounter.clinical.get(*feature) == Some(1.0)).count()
}

fn count_of_abnormal(encounter: &Encounter) -> usize {
    NORMAL.iter().filter(|(feature, low, high)| !(*low..=*high).contains(&encounter.clinical.get(*feature).unwrap())).count()
}

#[track_caller]
fn close(what: &str, found: f64, target: f64, tolerance: f64) {
    assert!((found - target).abs() <= tolerance, "{what}: {found} instead of {target} (within {tolerance})");
}

#[test]
fn shares_of_readmissions_facilities_and_genders() {
    for (class, target) in READMISSIONS.into_iter().enumerate() {
        close("readmissions", share(|e| e.clinical.get(F::Readmissions) == Some(class as f64)), target, 0.012);
    }
    for ((id, ..), target) in facility::SEED.iter().zip([0.305, 0.295, 0.045, 0.045, 0.310]) {
        close(id, share(|e| e.facility.to_string() == *id), target, 0.012);
    }
    close("women", share(|e| e.gender == Gender::Female), 0.586, 0.012);
}

#[test]
fn conditions_come_together_and_follow_the_facility() {
    for (count, target) in [0.573, 0.222, 0.122, 0.049, 0.022, 0.008, 0.004, 0.0006].into_iter().enumerate() {
        close("conditions", share(|e| count_of_conditions(e) == count), target, 0.012);
    }
    let targets = [0.036, 0.035, 0.101, 0.045, 0.065, 0.238, 0.053, 0.053, 0.004, 0.051, 0.084];
    for (feature, target) in Feature::conditions().zip(targets) {
        close(feature.spec().name, mean(values(feature)), target, 0.01);
    }
    for (facility, feature, target) in [
        ("A", F::MajorPsychologicalDisorder, 0.011),
        ("C", F::IronDeficiency, 0.79),
        ("D", F::Pneumonia, 0.42),
        ("D", F::Asthma, 0.45),
        ("E", F::MajorPsychologicalDisorder, 0.74),
    ] {
        let there = SAMPLE.iter().filter(|e| e.facility.to_string() == facility);
        close(facility, mean(there.map(|e| e.clinical.get(feature).unwrap())), target, 0.05);
    }
}

#[test]
fn measurements_have_the_means_spreads_and_roundings_of_the_model() {
    for (feature, mean_target, deviation_target, abnormal, decimals) in [
        (F::Hematocrit, 11.96, 2.04, 0.228, 1),
        (F::Neutrophils, 10.20, 4.84, 0.101, 1),
        (F::Sodium, 137.88, 3.02, 0.245, 7),
        (F::Glucose, 141.9, 30.2, 0.254, 7),
        (F::BloodUreaNitrogen, 14.06, 12.4, 0.046, 1),
        (F::Creatinine, 1.099, 0.2, 0.248, 9),
        (F::BodyMassIndex, 29.82, 2.0, 0.249, 8),
        (F::Pulse, 73.3, 11.66, 0.266, 0),
        (F::Respiration, 6.497, 0.57, 0.179, 1),
        (F::SecondaryDiagnoses, 2.1235, 2.05, 0.0, 0),
    ] {
        let name = feature.spec().name;
        close(name, mean(values(feature)), mean_target, 0.04 * deviation_target);
        close(name, deviation(values(feature)), deviation_target, 0.12 * deviation_target);
        let (low, high) = NORMAL.iter().find(|range| range.0 == feature).map_or((0.0, 10.0), |range| (range.1, range.2));
        close(name, mean(values(feature).map(|v| f64::from(u8::from(!(low..=high).contains(&v))))), abnormal, 0.02);
        assert!(values(feature).all(|value| round(value, decimals) == value), "{name}");
    }
    close("usual breathing", share(|e| e.clinical.get(F::Respiration) == Some(6.5)), 0.647, 0.02);
    close("usual urea nitrogen", share(|e| e.clinical.get(F::BloodUreaNitrogen) == Some(12.0)), 0.455, 0.03);
}

#[test]
fn the_stay_is_what_readmissions_conditions_and_abnormal_values_make_it() {
    let days = || SAMPLE.iter().map(|e| f64::from(e.stay_days().unwrap()));
    close("mean stay", mean(days()), 3.98, 0.08);
    close("spread of the stay", deviation(days()), 2.33, 0.08);
    for (count, target) in [0.138, 0.301, 0.288, 0.178, 0.074, 0.018].into_iter().enumerate() {
        close("abnormal values", share(|e| count_of_abnormal(e) == count), target, 0.02);
    }
    // The best any model can do: the mean of each cell.
    let mut cells: HashMap<_, Vec<f64>> = HashMap::new();
    for e in SAMPLE.iter() {
        let readmissions = e.clinical.get(F::Readmissions).unwrap() as u8;
        let cell = (readmissions, count_of_conditions(e).min(4), count_of_abnormal(e));
        cells.entry(cell).or_default().push(f64::from(e.stay_days().unwrap()));
    }
    let within: f64 = cells.values().map(|days| deviation(days.iter().copied()).powi(2) * days.len() as f64).sum();
    close("best R2", 1.0 - within / (deviation(days()).powi(2) * SAMPLE.len() as f64), 0.975, 0.006);
    // And what it says: two abnormal values against none, the same patient otherwise.
    let effect = mean(cells[&(0, 0, 2)].iter().copied()) - mean(cells[&(0, 0, 0)].iter().copied());
    close("two abnormal values", effect, 0.73, 0.05);
    let effect = mean(cells[&(0, 1, 0)].iter().copied()) - mean(cells[&(0, 0, 0)].iter().copied());
    close("a condition", effect, 2.0, 0.01);
}

#[test]
fn every_encounter_is_complete_and_implausible_values_are_as_rare_as_in_a_ward() {
    for (encounter, id) in SAMPLE.iter().zip(1..) {
        assert_eq!(encounter.id.get(), id);
        assert_eq!(encounter.clinical.missing().count(), 0, "{id}");
        assert!(is_believable(*encounter.admitted.reveal()) && (1..=22).contains(&encounter.stay_days().unwrap()), "{id}");
        for feature in Feature::all() {
            feature.spec().check(encounter.clinical.get(feature).unwrap()).unwrap();
        }
    }
    close("implausible", share(|e| e.clinical.out_of_range().count() > 0), 0.001, 0.001);
    let first = SAMPLE.iter().map(|e| *e.admitted.reveal()).min();
    let last = SAMPLE.iter().map(|e| *e.admitted.reveal()).max();
    assert_eq!((first, last), (NaiveDate::from_ymd_opt(2012, 1, 1), NaiveDate::from_ymd_opt(2013, 1, 1)));
}

#[test]
fn an_encounter_depends_on_the_seed_and_its_id_alone() {
    let part: Vec<_> = encounters(&Options { rows: 10, seed: 3, first_id: 101 }).unwrap().collect();
    assert!(part == SAMPLE[100..110]);
    let other: Vec<_> = encounters(&Options { rows: 10, seed: 4, first_id: 101 }).unwrap().collect();
    assert!(part.iter().zip(&other).all(|(a, b)| a.clinical != b.clinical && a.name != b.name));

    let today = NaiveDate::from_ymd_opt(2026, 2, 3).unwrap();
    let open = admission(3, part[0].id, today);
    assert!(open == Encounter { admitted: Phi::new(today), discharged: Phi::new(None), ..part[0].clone() });
}

#[test]
fn names_are_nobodys() {
    for encounter in SAMPLE.iter() {
        for part in [encounter.name.first.reveal(), encounter.name.last.reveal()] {
            assert!(
                part.len() <= 9
                    && part.ends_with(|c: char| c.is_ascii_digit())
                    && part.starts_with(|c: char| c.is_ascii_uppercase())
            );
        }
    }
}

#[test]
fn ids_outside_their_range_are_refused_before_the_first_row() {
    for (rows, first_id) in [(1, 0), (1, -5), (2, i32::MAX), (u64::MAX, 1)] {
        assert!(encounters(&Options { rows, seed: 1, first_id }).is_err());
    }
    assert_eq!(encounters(&Options { rows: 1, seed: 1, first_id: i32::MAX }).unwrap().count(), 1);
    assert_eq!(encounters(&Options { rows: 0, seed: 1, first_id: 1 }).unwrap().size_hint(), (0, Some(0)));
}
