//! The length-of-stay model, through its public interface, on encounters made up here.

#![allow(clippy::unwrap_used)] // Clippy allows it in tests, but not in what tests share.

use std::sync::OnceLock;

use chrono::{Days, NaiveDate};
use health_data_ai::domain::{Clinical, Encounter, EncounterId, FacilityId, Gender, PersonName, Phi};
use health_data_ai::error::Kind;
use health_data_ai::predict::{Model, TRAINING_ROWS_MIN, TrainOptions, Trained, TrainingSet, blank, blank_cells, evaluate, train};
use health_data_ai::schema::{FEATURES, Feature, Shape};

pub(super) const ROWS: usize = 900;

/// A small generator (Numerical Recipes' LCG, upper bits).
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, n: u32) -> u32 {
        (self.unit() * f64::from(n)) as u32
    }
}

/// Patients whose stay is 2 days, 1.5 more for each readmission, 1 for each condition, and 1 for each of the first six measurements in
/// the outer quarter of the plausible range.
pub(super) fn patients(n: usize, seed: u64) -> Vec<Encounter> {
    let mut draw = Draw(seed);
    (0..n)
        .map(|i| {
            let mut clinical = Clinical::default();
            let (mut days, mut measurement) = (2.0, 0);
            for spec in &FEATURES {
                let value = match spec.shape {
                    Shape::Readmissions => f64::from(draw.below(6).saturating_sub(draw.below(4))),
                    Shape::Condition => f64::from(u8::from(draw.unit() < 0.12)),
                    Shape::Measurement(m) => {
                        let place = draw.unit();
                        measurement += 1;
                        days += f64::from(u8::from(measurement <= 6 && place > 0.75));
                        let value = m.plausible.0 + (m.plausible.1 - m.plausible.0) * place;
                        if m.whole { value.round() } else { value }
                    }
                };
                days += match spec.shape {
                    Shape::Readmissions => 1.5 * value,
                    Shape::Condition => value,
                    Shape::Measurement(_) => 0.0,
                };
                clinical.set(spec.feature, Some(value));
            }
            let admitted = NaiveDate::from_ymd_opt(2012, 1, 1).unwrap() + Days::new(u64::from(draw.below(360)));
            let stay = (days + draw.unit() - 0.5).round() as u64;
            Encounter {
                id: EncounterId::new(i as i64 + 1).unwrap(),
                name: PersonName::new("Made", "Up", format!("Person {i}")),
                gender: [Gender::Female, Gender::Male][draw.below(2) as usize],
                facility: FacilityId::parse(["A", "B", "C"][draw.below(3) as usize]).unwrap(),
                admitted: Phi::new(admitted),
                clinical,
                discharged: Phi::new(Some(admitted + Days::new(stay))),
            }
        })
        .collect()
}

pub(super) fn set(patients: &[Encounter]) -> TrainingSet {
    let mut set = TrainingSet::new();
    for patient in patients {
        assert!(set.push(patient));
    }
    set
}

pub(super) fn options() -> TrainOptions {
    TrainOptions { seed: 7, version: "test-1".into(), accept_lower_quality: false }
}

pub(super) fn trained() -> &'static Trained {
    static TRAINED: OnceLock<Trained> = OnceLock::new();
    TRAINED.get_or_init(|| train(&set(&patients(ROWS, 1)), &options(), None).unwrap())
}

fn r2(model: &Model, set: &TrainingSet) -> f64 {
    evaluate(model, set).metrics.r2.unwrap()
}

#[test]
fn a_model_learns_what_stays_depend_on_and_says_how_sure_it_is() {
    let evaluation = evaluate(&trained().model, &set(&patients(1500, 2)));
    assert!(evaluation.metrics.r2.unwrap() > 0.9, "{:?}", evaluation.metrics);
    assert!(evaluation.metrics.within_one_day > 0.85, "{:?}", evaluation.metrics);
    let at90 = evaluation.metrics.intervals["90"];
    assert!((0.84..=0.96).contains(&at90.coverage), "{at90:?}");
    assert!(evaluation.metrics.intervals["80"].mean_width_days < at90.mean_width_days);
    let baseline = trained().model.report().holdout.baseline.r2.unwrap();
    assert!(trained().model.report().evaluation.metrics.r2.unwrap() > baseline + 0.05, "the baseline has {baseline}");
    assert_eq!(evaluation.rows, evaluation.by_gender.iter().map(|group| group.rows).sum::<u64>());
    assert_eq!(evaluation.rows, evaluation.by_facility.iter().map(|group| group.rows).sum::<u64>());
    assert!(evaluation.calibration.windows(2).all(|pair| pair[0].mean_predicted_days <= pair[1].mean_predicted_days));
    assert!(evaluation.drift.iter().all(|drift| drift.psi < 0.2), "same generator, no drift: {:?}", evaluation.drift);
}

#[test]
fn the_learned_ranges_are_where_the_data_has_them() {
    let ranges = &trained().model.report().ranges;
    let steps: Vec<Feature> = Feature::measurements().take(6).collect();
    let found = ranges.iter().filter(|range| steps.iter().any(|f| f.spec().name == range.feature)).count();
    assert!(found >= 5, "{ranges:?}");
    for range in ranges.iter().filter(|range| steps.iter().any(|f| f.spec().name == range.feature)) {
        let Shape::Measurement(m) = Feature::by_name(&range.feature).unwrap().spec().shape else { panic!("not a measurement") };
        let place = (f64::from(range.high.unwrap()) - m.plausible.0) / (m.plausible.1 - m.plausible.0);
        assert!((0.70..0.80).contains(&place), "{} at {place}", range.feature);
    }
}

#[test]
fn reasons_add_up_and_are_sorted_and_named_for_clinicians() {
    let mut clipped = 0;
    for (i, patient) in patients(300, 3).iter_mut().enumerate() {
        if i % 2 == 0 {
            patient.clinical.set(FEATURES[i % FEATURES.len()].feature, None);
        }
        let answer = trained().model.predict(patient);
        let sum = answer.baseline_days + answer.contributions.iter().map(|c| c.days).sum::<f64>();
        if sum < 1.0 {
            clipped += 1;
            assert_eq!(answer.days, 1.0);
        } else {
            assert!((sum - answer.days).abs() < 1e-9, "{sum} against {}", answer.days);
        }
        assert!(answer.contributions.windows(2).all(|pair| pair[0].days.abs() >= pair[1].days.abs()));
        for interval in [answer.interval80, answer.interval90] {
            assert!(1.0 <= interval.low && interval.low <= answer.days && answer.days <= interval.high);
        }
        let labels: Vec<&str> = FEATURES.iter().map(|spec| spec.label).chain(["conditions", "gender", "facility"]).collect();
        assert!(answer.contributions.iter().all(|c| labels.contains(&c.factor.as_str())));
    }
    assert!(clipped < 30);
    let mut often = patients(1, 4).remove(0);
    often.clinical.set(Feature::Readmissions, Some(5.0));
    assert_eq!(trained().model.predict(&often).contributions[0].factor, Feature::Readmissions.spec().label);
}

#[test]
fn identity_and_discharge_can_never_change_an_answer() {
    for patient in patients(50, 5) {
        let mut other = patient.clone();
        other.id = EncounterId::new(2_000_000_000).unwrap();
        other.name = PersonName::new("Another", "", "Name");
        other.discharged = Phi::new(None);
        other.admitted = patient.admitted.map(|day| day + Days::new(400));
        assert_eq!(trained().model.predict(&patient), trained().model.predict(&other));
    }
}

#[test]
fn missing_inputs_widen_the_interval_are_listed_and_shift_nothing_on_average() {
    let patients = patients(1500, 6);
    for feature in [Feature::Readmissions, Feature::measurements().next().unwrap(), Feature::conditions().next().unwrap()] {
        let (mut shift, mut wider) = (0.0, 0);
        for patient in &patients {
            let mut blanked = patient.clone();
            blanked.clinical.set(feature, None);
            let (full, without) = (trained().model.predict(patient), trained().model.predict(&blanked));
            assert!(full.missing.is_empty());
            assert_eq!(without.missing, [feature.spec().name]);
            shift += without.days - full.days;
            wider += usize::from(without.interval90.high - without.interval90.low > full.interval90.high - full.interval90.low);
        }
        let shift = shift / patients.len() as f64;
        assert!(shift.abs() < 0.15, "{}: {shift} days", feature.spec().name);
        assert!(wider > patients.len() * 8 / 10, "{}: wider for {wider}", feature.spec().name);
    }
}

#[test]
fn accuracy_falls_slowly_and_coverage_holds_when_cells_are_blanked() {
    let full = r2(&trained().model, &set(&patients(1500, 7)));
    let mut tenth = set(&patients(1500, 7));
    blank_cells(&mut tenth, 0.1, 1);
    let mut without = set(&patients(1500, 7));
    blank(&mut without, Feature::Readmissions);
    let tenth = evaluate(&trained().model, &tenth);
    let without = evaluate(&trained().model, &without);
    assert!(tenth.metrics.r2.unwrap() > 0.7 && tenth.metrics.r2.unwrap() < full);
    // Without the count, what conditions and measurements say is left.
    assert!(without.metrics.r2.unwrap() > 0.2, "{:?}", without.metrics);
    for evaluation in [tenth, without] {
        let coverage = evaluation.metrics.intervals["90"].coverage;
        assert!((0.83..=0.97).contains(&coverage), "{coverage}");
    }
}

#[test]
fn extreme_and_impossible_values_are_answered_and_listed() {
    let mut patient = patients(1, 8).remove(0);
    let measurement = Feature::measurements().next().unwrap();
    let Shape::Measurement(limits) = measurement.spec().shape else { panic!("not a measurement") };
    patient.facility = FacilityId::parse("9").unwrap();
    patient.clinical.set(measurement, Some(limits.possible.1));
    let answer = trained().model.predict(&patient);
    assert_eq!(answer.out_of_range, [measurement.spec().name, "facility"]);
    assert!(answer.missing.is_empty());
    for impossible in [f64::NAN, f64::INFINITY, f64::MAX, -1e300] {
        patient.clinical.set(measurement, Some(impossible));
        let answer = trained().model.predict(&patient);
        assert!(answer.days.is_finite() && (1.0..100.0).contains(&answer.days));
        assert_eq!(answer.missing, [measurement.spec().name]);
        assert!(answer.out_of_range.contains(&measurement.spec().name.to_owned()));
    }
    patient.clinical = Clinical::default();
    patient.gender = Gender::Unknown;
    let nothing = trained().model.predict(&patient);
    assert_eq!(nothing.missing.len(), FEATURES.len() + 1);
    assert!((nothing.days - nothing.baseline_days).abs() < 0.5, "{} against {}", nothing.days, nothing.baseline_days);
}

#[test]
fn a_model_read_back_answers_bit_for_bit() {
    let bytes = trained().model.to_bytes().unwrap();
    let read = Model::from_bytes(&bytes).unwrap();
    for patient in patients(200, 9) {
        assert_eq!(read.predict(&patient), trained().model.predict(&patient));
    }
    assert_eq!(read.to_bytes().unwrap(), bytes);
    assert_eq!(read.report(), trained().model.report());
}

#[test]
fn many_predictions_at_once_are_the_single_ones_in_order() {
    let encounters = patients(1_500, 21);
    let model = &trained().model;
    let single: Vec<_> = encounters.iter().map(|encounter| model.predict(encounter)).collect();
    assert_eq!(model.predict_all(&encounters), single);
    assert!(model.predict_all(&[]).is_empty());
}

#[test]
fn a_model_may_be_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&trained().model);
    let patient = patients(1, 24).remove(0);
    let here = trained().model.predict(&patient);
    let there = std::thread::scope(|scope| scope.spawn(|| trained().model.predict(&patient)).join().unwrap());
    assert_eq!(here, there);
}

#[test]
fn a_truncated_foreign_or_altered_model_is_refused() {
    let bytes = trained().model.to_bytes().unwrap();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let fingerprint = health_data_ai::schema::fingerprint();
    let weight = text.find("\"meanDays\"").or_else(|| text.find("\"mean_days\"")).unwrap();
    let digit = weight + text[weight..].find('.').unwrap() + 1;
    let mut altered = bytes.clone();
    altered[digit] = if altered[digit] == b'9' { b'8' } else { altered[digit] + 1 };
    let cases: [(&str, Vec<u8>); 6] = [
        ("truncated", bytes[..bytes.len() - 10].to_vec()),
        ("not a model", b"PK\x03\x04 something else".to_vec()),
        ("empty", Vec::new()),
        ("another schema", text.replacen(fingerprint, "0123456789abcdef", 1).into_bytes()),
        ("another format", text.replacen("hdai-length-of-stay", "other", 1).into_bytes()),
        ("another answer", altered),
    ];
    for (name, bytes) in cases {
        let error = Model::from_bytes(&bytes).err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert_eq!(error.kind(), Kind::Invalid, "{name}");
        assert!(error.message().contains("train again") || error.message().contains("model of this program"), "{name}: {error}");
    }
}

#[test]
fn the_order_of_rows_does_not_matter_and_the_seed_decides_the_rest() {
    let mut shuffled = patients(400, 10);
    let first = train(&set(&shuffled), &options(), None).unwrap().model.to_bytes().unwrap();
    let mut draw = Draw(99);
    for i in (1..shuffled.len()).rev() {
        shuffled.swap(i, draw.below(i as u32 + 1) as usize);
    }
    let second = train(&set(&shuffled), &options(), None).unwrap().model.to_bytes().unwrap();
    assert!(first == second, "the same rows in another order gave another model");
}

#[test]
fn a_first_model_is_promoted_and_the_same_data_again_is_not() {
    assert!(trained().promoted, "{}", trained().reason);
    assert!(trained().reason.starts_with("Promoted"));
    let again =
        train(&set(&patients(ROWS, 1)), &TrainOptions { seed: 8, version: "test-2".into(), ..options() }, Some(&trained().model))
            .unwrap();
    assert!(!again.promoted, "{}", again.reason);
    assert!(again.reason.contains("test-1"), "{}", again.reason);
}

#[test]
fn data_without_a_pattern_is_refused_promotion() {
    let mut noise = patients(400, 11);
    let mut draw = Draw(12);
    for patient in &mut noise {
        patient.discharged = patient.admitted.map(|day| Some(day + Days::new(u64::from(draw.below(12)) + 1)));
    }
    let trained = train(&set(&noise), &options(), None).unwrap();
    assert!(!trained.promoted, "{}", trained.reason);
}

#[test]
fn too_little_equal_or_leaking_data_is_refused_in_words() {
    let few = train(&set(&patients(10, 13)), &options(), None).err().unwrap();
    assert_eq!(few.kind(), Kind::Invalid);
    assert!(few.message().contains(&TRAINING_ROWS_MIN.to_string()) && few.message().contains("has 10"), "{few}");

    let mut equal = patients(200, 14);
    equal.iter_mut().for_each(|p| p.discharged = p.admitted.map(|day| Some(day + Days::new(3))));
    let equal = train(&set(&equal), &options(), None).err().unwrap();
    assert!(equal.message().contains("same length"), "{equal}");

    let leak = Feature::measurements().last().unwrap();
    let mut leaking = patients(300, 15);
    for patient in &mut leaking {
        let stay = f64::from(patient.stay_days().unwrap());
        patient.clinical.set(leak, Some(60.0 - stay));
    }
    let leaking = train(&set(&leaking), &options(), None).err().unwrap();
    assert_eq!(leaking.kind(), Kind::Invalid);
    assert!(leaking.message().contains(leak.spec().name), "{leaking}");
}

#[test]
fn one_facility_constant_and_missing_columns_still_give_a_sound_model() {
    let mut odd = patients(500, 16);
    let (constant, absent) = (Feature::measurements().nth(1).unwrap(), Feature::measurements().nth(2).unwrap());
    for patient in &mut odd {
        patient.facility = FacilityId::parse("A").unwrap();
        patient.gender = Gender::Unknown;
        patient.clinical.set(constant, Some(9.5));
        patient.clinical.set(absent, None);
        Feature::conditions().take(3).for_each(|condition| patient.clinical.set(condition, Some(0.0)));
    }
    let trained = train(&set(&odd), &options(), None).unwrap();
    assert!(trained.promoted, "{}", trained.reason);
    let report = trained.model.report();
    assert_eq!(report.hygiene.missing, [(absent.spec().name.to_owned(), 1.0)]);
    assert!(report.notes.iter().any(|note| note.contains(constant.spec().name) && note.contains(absent.spec().name)), "{report:?}");
    for patient in patients(100, 17) {
        let answer = trained.model.predict(&patient);
        assert!(answer.days.is_finite() && answer.interval90.high.is_finite(), "{answer:?}");
    }
    assert!(Model::from_bytes(&trained.model.to_bytes().unwrap()).is_ok());
}

#[test]
fn boosted_trees_serve_where_inputs_act_on_one_another() {
    let mut crossed = patients(1200, 23);
    let pair: Vec<Feature> = Feature::measurements().take(2).collect();
    for patient in &mut crossed {
        let place = |feature: Feature| {
            let Shape::Measurement(m) = feature.spec().shape else { panic!("not a measurement") };
            (patient.clinical.get(feature).unwrap() - m.plausible.0) / (m.plausible.1 - m.plausible.0)
        };
        let again = patient.clinical.get(Feature::Readmissions).unwrap();
        let days = 2.0 + 6.0 * (again + 1.0) * place(pair[0]) * place(pair[1]);
        patient.discharged = patient.admitted.map(|day| Some(day + Days::new(days.round() as u64)));
    }
    let rows = set(&crossed[..900]);
    let trained = train(&rows, &options(), None).unwrap();
    let report = trained.model.report();
    assert!(trained.promoted, "{}", trained.reason);
    assert!(report.algorithm.contains("trees"), "{}", report.choice);
    assert!(report.holdout.challenger.as_ref().unwrap().rmse < report.holdout.primary.rmse);
    let read = Model::from_bytes(&trained.model.to_bytes().unwrap()).unwrap();
    for (i, patient) in crossed[900..].iter().enumerate() {
        let mut patient = patient.clone();
        if i % 2 == 0 {
            patient.clinical.set(pair[i / 2 % 2], None);
        }
        let answer = trained.model.predict(&patient);
        let sum = answer.baseline_days + answer.contributions.iter().map(|c| c.days).sum::<f64>();
        assert!((sum.max(1.0) - answer.days).abs() < 1e-9, "{sum} against {}", answer.days);
        assert_eq!(answer.missing.len(), usize::from(i % 2 == 0));
        assert_eq!(read.predict(&patient), answer);
    }
    let coverage = evaluate(&trained.model, &set(&crossed[900..])).metrics.intervals["90"].coverage;
    assert!((0.82..=0.97).contains(&coverage), "{coverage}");
}

#[test]
fn few_rows_fall_back_to_the_elastic_net_and_say_so() {
    let trained = train(&set(&patients(TRAINING_ROWS_MIN, 18)), &options(), None).unwrap();
    assert!(trained.model.report().notes.iter().any(|note| note.contains("elastic net")), "{:?}", trained.model.report().notes);
    assert!(r2(&trained.model, &set(&patients(500, 19))) > 0.5);
}

#[test]
fn open_or_unbelievable_stays_are_not_rows_and_duplicates_are_counted() {
    let mut rows = TrainingSet::new();
    let mut patient = patients(1, 20).remove(0);
    patient.discharged = Phi::new(None);
    assert!(!rows.push(&patient));
    patient.discharged = patient.admitted.map(|day| Some(day + Days::new(5000)));
    assert!(!rows.push(&patient));
    patient.discharged = patient.admitted.map(|day| Some(day - Days::new(1)));
    assert!(!rows.push(&patient));
    assert!(rows.is_empty());

    let mut twice = patients(150, 21);
    twice.extend(twice.clone().into_iter().take(30));
    let trained = train(&set(&twice), &options(), None).unwrap();
    assert_eq!(trained.model.report().hygiene.duplicates, 30);
    assert_eq!(trained.model.report().rows, 180);
}

#[test]
fn metrics_are_written_under_the_agreed_names() {
    let json = serde_json::to_value(evaluate(&trained().model, &set(&patients(200, 22)))).unwrap();
    for name in ["r2", "mae", "rmse", "rae", "rse", "within_one_day"] {
        assert!(json[name].is_f64(), "{name}");
    }
    for level in ["80", "90"] {
        assert!(json["intervals"][level]["coverage"].is_f64() && json["intervals"][level]["mean_width_days"].is_f64());
    }
    let report = serde_json::to_value(trained().model.report()).unwrap();
    assert!(report["holdout"]["baseline"]["r2"].is_f64() && report["crossValidation"]["challenger"]["r2"].is_f64());
}
