//! Experiments on encounters made by hand.

use chrono::{Days, NaiveDate};

use super::design::Design;
use super::input::Input;
use super::spec::Experiment;
use super::{ExperimentReport, run};
use crate::domain::{Clinical, Encounter, EncounterId, FacilityId, Gender, PersonName, Phi};
use crate::predict::features::{Row, mix, unit};
use crate::predict::set::TrainingSet;
use crate::schema::{FEATURES, Feature, Shape};

/// A condition, a measurement, a whole one, and the readmission count, by name.
fn names() -> [&'static str; 4] {
    [Feature::Asthma, Feature::Hematocrit, Feature::Pulse, Feature::Readmissions].map(|feature| feature.spec().name)
}

fn encounter(id: u64) -> Encounter {
    let draw = |what: u64| unit(mix(id ^ mix(what)));
    let mut clinical = Clinical::default();
    for spec in &FEATURES {
        let value = match spec.shape {
            Shape::Readmissions => (draw(1) * 6.0).floor(),
            Shape::Condition => f64::from(u8::from(draw(spec.feature as u64 + 10) < 0.3)),
            Shape::Measurement(m) => {
                let value = m.plausible.0 + draw(spec.feature as u64 + 10) * (m.plausible.1 - m.plausible.0);
                if m.whole { value.round() } else { value }
            }
        };
        clinical.set(spec.feature, Some(value));
    }
    let admitted = NaiveDate::from_ymd_opt(2025, 1, 1).unwrap() + Days::new(id % 300);
    let readmissions = clinical.get(Feature::Readmissions).unwrap();
    let stay = 1.0 + 2.0 * readmissions + 3.0 * clinical.get(Feature::Asthma).unwrap();
    Encounter {
        id: EncounterId::new(id as i64 + 1).unwrap(),
        name: PersonName::default(),
        gender: [Gender::Female, Gender::Male][(draw(2) < 0.5) as usize],
        facility: FacilityId::parse(["A", "B", "C"][(draw(3) * 3.0) as usize]).unwrap(),
        admitted: Phi::new(admitted),
        clinical,
        discharged: Phi::new(Some(admitted + Days::new(stay as u64))),
    }
}

fn set(rows: u64, change: impl Fn(&mut Encounter)) -> TrainingSet {
    let mut set = TrainingSet::new();
    for id in 0..rows {
        let mut encounter = encounter(id);
        change(&mut encounter);
        assert!(set.push(&encounter));
    }
    set
}

const STAY: &str = "{ kind = \"stay_days\" }";
const LINEAR: &str = "[algorithm]\nkind = \"linear\"";
const TREES: &str = "[algorithm]\nkind = \"boosted_trees\"\nrounds = 30\ndepth = 3";
const IMPUTE: &str = "[[transform]]\nkind = \"impute\"\nwith = \"median\"\n";

fn toml(target: &str, features: &str, keys: &str, rest: &str) -> String {
    format!("name = \"x\"\ntarget = {target}\nfeatures = {features}\n{keys}\n{rest}\n")
}

fn read(text: &str) -> Experiment {
    Experiment::from_toml(text).unwrap()
}

fn refusal(text: &str) -> String {
    Experiment::from_toml(text).map(|_| ()).expect_err(text).to_string()
}

fn class_target(name: &str) -> String {
    format!("{{ kind = \"feature\", feature = \"{name}\", as = \"class\" }}")
}

fn ran(text: &str, set: &TrainingSet) -> ExperimentReport {
    run(&read(text), set).unwrap()
}

#[test]
fn least_squares_finds_a_linear_stay() {
    let set = set(300, |_| ());
    for algorithm in [LINEAR, "[algorithm]\nkind = \"elastic_net\"\npenalty = 0.00001"] {
        let report = ran(&toml(STAY, "[\"*\"]", "", &format!("{IMPUTE}{algorithm}")), &set);
        assert!(report.beats_baseline, "{}", report.verdict);
        assert!(report.metrics["r2"].mean > 0.999, "{algorithm}: {:?}", report.metrics);
        assert_eq!(report.metrics["within_one_day"].mean, 1.0);
        assert_eq!(report.folds.len(), 5);
        assert_eq!(report.folds.iter().map(|fold| fold.rows).sum::<u64>(), 300);
        assert!(report.baseline["r2"].mean <= 0.0);
    }
}

#[test]
fn trees_need_no_imputation() {
    let set = set(400, |encounter| {
        if encounter.id.get() % 5 == 0 {
            encounter.clinical.set(Feature::Hematocrit, None);
        }
    });
    let report = ran(&toml(STAY, "[\"*\"]", "folds = 3", TREES), &set);
    assert!(report.metrics["r2"].mean > 0.9, "{:?}", report.metrics);
}

#[test]
fn a_planted_class_is_found_and_noise_is_not() {
    let [asthma, ..] = names();
    let planted = set(500, |encounter| {
        let high = encounter.clinical.get(Feature::Hematocrit).unwrap() > 40.0;
        encounter.clinical.set(Feature::Asthma, Some(f64::from(u8::from(high))));
    });
    let noise = set(500, |_| ());
    for algorithm in [TREES.to_owned(), format!("{IMPUTE}{LINEAR}")] {
        let text = toml(&class_target(asthma), "[\"measurements\", \"gender\", \"facility\"]", "", &algorithm);
        let found = ran(&text, &planted);
        assert!(found.beats_baseline, "{}", found.verdict);
        assert!(found.metrics["accuracy"].mean > 0.8, "{:?}", found.metrics);
        assert_eq!(found.confusion.as_ref().unwrap().iter().flatten().sum::<u64>(), 500);
        assert_eq!(found.classes, ["absent", "present"]);
        let none = ran(&text, &noise);
        assert!(!none.beats_baseline, "{}", none.verdict);
    }
}

#[test]
fn the_order_of_rows_changes_nothing() {
    let text = toml(STAY, "[\"*\"]", "seed = 7", &format!("{IMPUTE}{LINEAR}"));
    let mut reversed = TrainingSet::new();
    (0..200).rev().for_each(|id| assert!(reversed.push(&encounter(id))));
    let json = |set: &TrainingSet, text: &str| serde_json::to_string(&ran(text, set)).unwrap();
    let first = json(&set(200, |_| ()), &text);
    assert_eq!(first, json(&reversed, &text));
    let other = text.replace("seed = 7", "seed = 8");
    assert_ne!(ran(&other, &reversed).folds, ran(&text, &reversed).folds);
    assert_eq!(ran(&other, &reversed).data_fingerprint, ran(&text, &reversed).data_fingerprint);
}

#[test]
fn transforms_are_fitted_on_the_rows_given_and_fill_what_is_missing() {
    let [asthma, hematocrit, _, readmissions] = names();
    let transforms = format!(
        "[[transform]]\nkind = \"missing_indicator\"\nfeatures = [\"{hematocrit}\"]\n[[transform]]\nkind = \"impute\"\nwith = \"mean\"\n\
         [[transform]]\nkind = \"standardize\"\nfeatures = [\"{hematocrit}\"]\n[[transform]]\nkind = \"one_hot\"\n{LINEAR}"
    );
    let experiment =
        read(&toml(STAY, &format!("[\"{asthma}\", \"{hematocrit}\", \"{readmissions}\", \"gender\"]"), "", &transforms));
    let inputs: Vec<Input> = experiment.plan.steps.iter().map(|step| step.input).collect();
    assert_eq!(
        inputs,
        [
            Input::Clinical(Feature::Readmissions),
            Input::Clinical(Feature::Asthma),
            Input::Clinical(Feature::Hematocrit),
            Input::Gender
        ]
    );
    let row = |readmissions: Option<f64>, hematocrit: Option<f64>, gender| {
        let mut encounter = encounter(1);
        encounter.gender = gender;
        encounter.clinical.set(Feature::Readmissions, readmissions);
        encounter.clinical.set(Feature::Asthma, None);
        encounter.clinical.set(Feature::Hematocrit, hematocrit);
        Row::of(&encounter)
    };
    let train = [row(Some(1.0), Some(10.0), Gender::Female), row(Some(3.0), Some(14.0), Gender::Female)];
    let design = Design::fit(&experiment.plan, &[&train[0], &train[1]]);
    assert_eq!(design.never_known, [asthma]);
    // Readmissions 1 and 3, asthma, hematocrit and its indicator, female.
    let cells = |row: &Row| design.matrix(&[row]).unwrap();
    assert_eq!(cells(&train[0]), [1.0, 0.0, 0.0, -1.0, 0.0, 1.0]);
    assert_eq!(cells(&train[1]), [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    // A level training has not met has no column; a missing number is the mean.
    assert_eq!(cells(&row(Some(2.0), None, Gender::Male)), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert_eq!(cells(&row(None, Some(16.0), Gender::Unknown)), [0.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
}

#[test]
fn bins_are_quantiles_of_training() {
    let [_, hematocrit, ..] = names();
    let bins = format!("[[transform]]\nkind = \"bins\"\nbins = 4\n{LINEAR}");
    let experiment = read(&toml(STAY, &format!("[\"{hematocrit}\"]"), "", &bins));
    let row = |value: Option<f64>| {
        let mut encounter = encounter(1);
        encounter.clinical.set(Feature::Hematocrit, value);
        Row::of(&encounter)
    };
    let rows: Vec<Row> = (0..=8).map(|value| row(Some(f64::from(value) + 10.0))).collect();
    let design = Design::fit(&experiment.plan, &rows.iter().collect::<Vec<_>>());
    for (value, bin) in [(Some(1.0), Some(0)), (Some(12.0), Some(0)), (Some(12.5), Some(1)), (Some(60.0), Some(3)), (None, None)] {
        let cells = design.matrix(&[&row(value)]).unwrap();
        assert_eq!(cells.iter().position(|cell| *cell == 1.0), bin, "{value:?}");
        assert_eq!(cells.len(), 4);
    }
}

#[test]
fn the_condition_count_never_counts_the_target() {
    let [asthma, ..] = names();
    let count = format!("[[transform]]\nkind = \"count_conditions\"\n{TREES}");
    let experiment = read(&toml(&class_target(asthma), "[\"conditions\"]", "", &count));
    assert!(!experiment.plan.counted.contains(&Feature::Asthma));
    assert_eq!(experiment.plan.counted.len(), Feature::conditions().count() - 1);
    assert!(experiment.plan.steps.iter().all(|step| step.input != Input::Clinical(Feature::Asthma)));
}

#[test]
fn what_gives_the_outcome_away_is_never_an_input() {
    for name in ["lengthofstay", "LOS", "discharged", "stay_days", "eid", "vdate", "First", "lastname"] {
        let text = toml(STAY, &format!("[\"*\", \"{name}\"]"), "", TREES);
        let message = refusal(&text);
        assert!(message.contains("`features`") && message.contains("can never be an input"), "{message}");
        // Nor by way of a transform.
        let transform = format!("[[transform]]\nkind = \"impute\"\nwith = \"mean\"\nfeatures = [\"{name}\"]\n{LINEAR}");
        assert!(refusal(&toml(STAY, "[\"*\"]", "", &transform)).contains("there is no input"), "{name}");
    }
    let [asthma, ..] = names();
    let message = refusal(&toml(&class_target(asthma), &format!("[\"gender\", \"{asthma}\"]"), "", TREES));
    assert!(message.contains("is the target, so it cannot be an input"), "{message}");
    // Every column that a plan can hold is a clinical feature, gender, facility or the count.
    assert_eq!(read(&toml(STAY, "[\"*\"]", "", TREES)).plan.steps.len(), FEATURES.len() + 2);
}

#[test]
fn a_mistake_is_refused_with_its_key() {
    let [asthma, hematocrit, pulse, readmissions] = names();
    let all = "[\"*\"]";
    let transform = |text: &str| toml(STAY, all, "", &format!("[[transform]]\n{text}\n{TREES}"));
    let target = |text: &str| toml(text, "[\"gender\"]", "", TREES);
    let cases = [
        (toml(STAY, all, "fold = 3", TREES), "unknown field `fold`"),
        (toml(STAY, all, "folds = 1", TREES), "`folds`: must be from 2 to 20"),
        (toml(STAY, all, "rows_max = 0", TREES), "`rows_max`: must be from 1 to"),
        (toml(STAY, all, "seed = -1", TREES), "line 4, key `seed`: invalid value"),
        (toml(STAY, all, "", "[algorithm]\nkind = \"forest\""), "unknown variant `forest`"),
        (toml(STAY, all, "", "[algorithm]\nkind = \"linear\"\ndepth = 3"), "`algorithm.depth`: does not belong"),
        (toml(STAY, all, "", "[algorithm]\nkind = \"elastic_net\"\nl1_ratio = 2.0"), "`algorithm.l1_ratio`: must be from 0 to 1"),
        (toml(STAY, all, "", "[algorithm]\nkind = \"boosted_trees\"\ndepth = 99"), "`algorithm.depth`: must be from 1 to 8"),
        (toml(STAY, all, "", LINEAR), "cannot work with missing values"),
        (toml(STAY, "[\"nothing\"]", "", TREES), "there is no input \"nothing\""),
        (toml(STAY, "[]", "", TREES), "no input is left"),
        (toml(STAY, "[\"gender\"]", "exclude = [\"facility\"]", TREES), "`exclude`: \"facility\" is not among"),
        (toml(STAY, "[\"condition_count\"]", "", TREES), "made by a transform"),
        (target("{ kind = \"weeks\" }"), "unknown variant `weeks`"),
        (target("{ kind = \"stay_days\", as = \"class\" }"), "takes no other key"),
        (target("{ kind = \"feature\", as = \"class\" }"), "`target.feature`: is missing"),
        (target(&class_target("nothing")), "there is no feature \"nothing\""),
        (target(&class_target(hematocrit)), "write as = \"number\""),
        (target(&class_target(asthma).replace("class", "number")), "write as = \"class\""),
        (target(&format!("{{ kind = \"feature\", feature = \"{asthma}\" }}")), "`target.as`: is missing"),
        (transform("kind = \"log\""), "unknown variant `log`"),
        (transform("kind = \"impute\""), "impute needs the key `with`"),
        (transform("kind = \"bins\""), "needs the key `bins`"),
        (transform("kind = \"bins\"\nbins = 1"), "from 2 to 50"),
        (transform("kind = \"one_hot\"\nbins = 2"), "belongs to the kind bins"),
        (transform("kind = \"standardize\"\nwith = \"mean\""), "belongs to impute"),
        (transform("kind = \"standardize\"\nfeatures = [\"gender\"]"), "does not fit the input gender"),
        (transform(&format!("kind = \"one_hot\"\nfeatures = [\"{hematocrit}\"]")), "use bins for a measurement"),
        (
            transform("kind = \"impute\"\nwith = \"mean\"\nfeatures = [\"condition_count\"]"),
            "add a transform of kind count_conditions",
        ),
        (
            transform(&format!(
                "kind = \"bins\"\nbins = 3\nfeatures = [\"{pulse}\"]\n[[transform]]\nkind = \"one_hot\"\nfeatures = [\"{pulse}\"]"
            )),
            "already",
        ),
        (toml(STAY, all, "folds = 4", "[algorithm]\nkind = \"product\""), "`folds`: the algorithm product"),
        (toml(STAY, "[\"gender\"]", "", "[algorithm]\nkind = \"product\""), "`features`: the algorithm product"),
        (
            toml(&class_target(readmissions), "[\"gender\"]", "", "[algorithm]\nkind = \"product\""),
            "product predicts stay_days only",
        ),
        (toml(STAY, all, "", TREES).replace("\"x\"", "\"../x\""), "`name`: must be"),
        ("a".repeat(100_000), "larger than"),
        ("name = ".to_owned(), "the experiment file, line 1"),
        (toml(STAY, all, "fold = 3", TREES), "the experiment file, line 4"),
        ("name = \"x\"".to_owned(), "missing field `target`"),
    ];
    for (text, expected) in cases {
        let message = refusal(&text);
        assert!(message.contains(expected), "{expected:?} is not in {message:?} of\n{}", &text[..text.len().min(400)]);
    }
}

#[test]
fn too_few_encounters_and_a_target_that_never_varies_are_refused() {
    let text = toml(STAY, "[\"*\"]", "folds = 20", TREES);
    let message = |text: &str, set: &TrainingSet| run(&read(text), set).map(|_| ()).unwrap_err().to_string();
    assert!(message(&text, &set(10, |_| ())).contains("20 folds need at least 40 encounters"));
    assert!(message(&text, &TrainingSet::new()).contains("need at least 40"));
    // Copies of one encounter are no evidence.
    let mut copies = TrainingSet::new();
    (0..100).for_each(|_| assert!(copies.push(&encounter(1))));
    assert!(message(&text, &copies).contains("different encounters"));
    let [asthma, ..] = names();
    let same = set(100, |encounter| encounter.clinical.set(Feature::Asthma, Some(0.0)));
    assert!(message(&toml(&class_target(asthma), "[\"gender\"]", "", TREES), &same).contains("nothing to learn"));
    let missing = set(100, |encounter| encounter.clinical.set(Feature::Asthma, None));
    assert!(message(&toml(&class_target(asthma), "[\"gender\"]", "", TREES), &missing).contains("known target"));
}

#[test]
fn an_input_that_is_always_missing_is_told_and_harms_nothing() {
    let [_, hematocrit, ..] = names();
    let set = set(200, |encounter| encounter.clinical.set(Feature::Hematocrit, None));
    let bins = format!("[[transform]]\nkind = \"bins\"\nbins = 4\nfeatures = [\"{hematocrit}\"]\n");
    for rest in [TREES.to_owned(), format!("{IMPUTE}{LINEAR}"), format!("{bins}{IMPUTE}{LINEAR}")] {
        let report = ran(&toml(STAY, "[\"*\"]", "", &rest), &set);
        assert!(report.metrics["r2"].mean > 0.9, "{:?}", report.metrics);
        assert_eq!(report.notes.len(), 1);
        assert!(report.notes[0].contains(hematocrit));
    }
    let only = toml(STAY, &format!("[\"{hematocrit}\"]"), "", &format!("{IMPUTE}{LINEAR}"));
    assert!(!ran(&only, &set).beats_baseline);
}

#[test]
fn rows_beyond_the_limit_and_without_the_target_are_counted() {
    let [asthma, ..] = names();
    let set = set(300, |encounter| {
        if encounter.id.get() <= 100 {
            encounter.clinical.set(Feature::Asthma, None);
        }
    });
    let report = ran(&toml(&class_target(asthma), "[\"gender\"]", "rows_max = 50", TREES), &set);
    assert_eq!((report.rows, report.rows_without_target, report.rows_left_out), (50, 100, 150));
}
