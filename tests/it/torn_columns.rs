//! Columns that were shuffled or renamed: a stated fallback or a clear error, never a silent wrong number.

use chrono::Days;
use health_data_ai::codec::csv::Reader;
use health_data_ai::domain::Encounter;
use health_data_ai::predict::{Evaluation, Model, TrainOptions, evaluate, train};
use health_data_ai::schema::{Feature, csv_columns};

use super::predict::{Draw, ROWS, options, patients, set, trained};

/// The patients with one feature's values dealt out anew among them.
fn shuffled(mut patients: Vec<Encounter>, feature: Feature) -> Vec<Encounter> {
    let mut values: Vec<Option<f64>> = patients.iter().map(|patient| patient.clinical.get(feature)).collect();
    let mut draw = Draw(4242);
    for i in (1..values.len()).rev() {
        values.swap(i, draw.below(i as u32 + 1) as usize);
    }
    patients.iter_mut().zip(values).for_each(|(patient, value)| patient.clinical.set(feature, value));
    patients
}

#[test]
fn a_model_trained_on_a_shuffled_column_gives_it_no_weight_and_its_intervals_hold() {
    let torn = Feature::Readmissions;
    let blind = train(&set(&shuffled(patients(ROWS, 1), torn)), &options(), None).unwrap();
    let again = shuffled(patients(1500, 2), torn);
    let evaluation = evaluate(&blind.model, &set(&again));
    let at90 = evaluation.metrics.intervals["90"];
    assert!((0.84..=0.96).contains(&at90.coverage), "{at90:?}");
    assert!(at90.mean_width_days > 2.0 * sound().metrics.intervals["90"].mean_width_days, "{at90:?}");
    let effect = |model: &Model| {
        let reason = |patient: &Encounter| {
            let reasons = model.predict(patient).contributions;
            reasons.into_iter().find(|reason| reason.factor == torn.spec().label).map_or(0.0, |reason| reason.days)
        };
        again.iter().map(|patient| reason(patient).abs()).sum::<f64>() / again.len() as f64
    };
    assert!(effect(&blind.model) < 0.25 * effect(&trained().model), "{} days", effect(&blind.model));
}

fn sound() -> Evaluation {
    evaluate(&trained().model, &set(&patients(1500, 2)))
}

#[test]
fn an_evaluation_names_a_column_that_was_shuffled_though_no_distribution_moved() {
    assert_eq!(sound().untied, [], "nothing is wrong with these");
    for torn in [Feature::Readmissions, Feature::measurements().next().unwrap()] {
        let evaluation = evaluate(&trained().model, &set(&shuffled(patients(1500, 2), torn)));
        let named: Vec<&str> = evaluation.untied.iter().map(|found| found.input.as_str()).collect();
        assert_eq!(named, [torn.spec().label], "{:?}", evaluation.untied);
        assert!(evaluation.drift.iter().all(|drift| drift.psi < 0.2), "drift cannot see it");
        assert!((0.8..1.2).contains(&evaluation.untied[0].undone), "{:?}", evaluation.untied);
    }
}

#[test]
fn a_model_of_shuffled_data_never_takes_the_champions_place_silently() {
    let torn = Feature::Readmissions;
    let data = set(&shuffled(patients(ROWS, 31), torn));
    let next = TrainOptions { version: "test-2".into(), ..options() };
    let held = train(&data, &next, Some(&trained().model)).unwrap();
    assert!(!held.promoted, "{}", held.reason);
    assert!(held.reason.starts_with("Held for a person"), "{}", held.reason);
    for word in ["Quality fell", "test-1", torn.spec().label, "--accept-lower-quality"] {
        assert!(held.reason.contains(word), "{word}: {}", held.reason);
    }
    let accepted = train(&data, &TrainOptions { accept_lower_quality: true, ..next }, Some(&trained().model)).unwrap();
    assert!(accepted.promoted && accepted.reason.contains("Quality fell"), "{}", accepted.reason);
}

#[test]
fn a_refused_candidate_also_says_that_quality_fell() {
    let torn = Feature::Readmissions;
    let first = train(&set(&shuffled(patients(ROWS, 1), torn)), &options(), None).unwrap();
    // Noise: nothing can be learned, so the candidate does not win, and the champion is far behind its record.
    let mut noise = patients(ROWS, 33);
    let mut draw = Draw(34);
    for patient in &mut noise {
        patient.discharged = patient.admitted.map(|day| Some(day + Days::new(u64::from(draw.below(30)) + 1)));
    }
    let refused = train(&set(&noise), &TrainOptions { version: "test-2".into(), ..options() }, Some(&first.model)).unwrap();
    assert!(!refused.promoted && refused.reason.contains("Quality fell"), "{}", refused.reason);
}

#[test]
fn a_renamed_feature_is_a_missing_column_that_is_named() {
    let header = |renamed: &str| {
        let name = |header: &'static str| if header == renamed { "renamed".to_owned() } else { header.to_owned() };
        csv_columns().iter().map(|column| name(column.header)).collect::<Vec<_>>().join(",") + "\n"
    };
    assert!(Reader::new(header("none of them").as_bytes(), &[]).is_ok());
    for feature in Feature::all() {
        let name = feature.spec().name;
        let error = Reader::new(header(name).as_bytes(), &[]).err().unwrap_or_else(|| panic!("{name} was not missed"));
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn a_model_of_a_renamed_feature_is_refused() {
    let text = String::from_utf8(trained().model.to_bytes().unwrap()).unwrap();
    let fingerprint = health_data_ai::schema::fingerprint();
    // The fingerprint is a hash over every feature's name: another name is another fingerprint.
    let other = fingerprint.chars().rev().collect::<String>();
    let error = Model::from_bytes(text.replacen(fingerprint, &other, 1).as_bytes()).err().unwrap();
    assert!(error.message().contains("another clinical schema"), "{error}");
}
