//! Training: check the data, choose the algorithm, measure it on admissions it has not seen, compare it with the champion of the day.
//!
//! The rules are written down in `docs/model.md`.

use super::drift::Profile;
use super::evaluate::evaluate_rows;
use super::features::{MEASUREMENTS, Row};
use super::fit::{Compared, FOLDS, Fit, Trees, Validated, cross_validate, sample};
use super::hygiene;
use super::interval::Intervals;
use super::linear::Solver;
use super::metrics::Spread;
use super::model::{Model, Parts};
use super::promotion::judge;
use super::report::{Blanked, LIMITS, LearnedRange, Report};
use super::scorer::{Algorithm, Scorer};
use super::set::{TrainingSet, blank, blank_cells};
use crate::error::{Error, Result};
use crate::schema::Feature;

/// Fewest rows that a model is trained on.
pub const TRAINING_ROWS_MIN: usize = 100;

/// Share of the rows, the latest admissions, that are held out.
const HOLDOUT_SHARE: f64 = 0.15;
/// Standard errors by which a difference must exceed zero to be more than noise (97.5 % of chance differences are smaller).
pub(super) const NOISE_ERRORS: f64 = 1.96;
/// Share of squared error that the trees must save to be chosen over the simpler, exactly explained linear model.
const TREES_SAVE_MIN: f64 = 0.02;
/// Rows of the profile that drift is measured against.
const PROFILE_ROWS_MAX: usize = 200_000;
/// Holdout rows of the missing-data checks.
const BLANKED_ROWS_MAX: usize = 50_000;

/// What the caller decides about a training run.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Seed of folds, masks and trees: the same rows and seed give the same bytes.
    pub seed: u64,
    /// The new model's version.
    pub version: String,
    /// Promote a model that beats the champion on the newest admissions even if it is far behind the champion's own record.
    pub accept_lower_quality: bool,
}

/// A trained model and what became of it.
pub struct Trained {
    /// The model.
    pub model: Model,
    /// Should it serve from now on?
    pub promoted: bool,
    /// Why, in sentences.
    pub reason: String,
}

/// Trains a model, deterministically: the order of rows does not matter.
///
/// # Errors
/// Invalid, if there are too few rows, if every stay is equal, or if an input gives the stay away. Internal, if a solver fails.
pub fn train(set: &TrainingSet, options: &TrainOptions, champion: Option<&Model>) -> Result<Trained> {
    if set.len() < TRAINING_ROWS_MIN {
        return Err(Error::invalid(format!(
            "Training needs at least {TRAINING_ROWS_MIN} discharged encounters and has {}; import more.",
            set.len()
        )));
    }
    if u32::try_from(set.len()).is_err() {
        return Err(Error::invalid("Training takes at most 4294967295 encounters; choose a shorter data window."));
    }
    let order = set.in_time();
    let stays = Spread::of(order.iter().map(|i| set.row(*i).stay_days()));
    if stays.squared == 0.0 {
        return Err(Error::invalid("Every stay has the same length, so there is nothing to learn; check the discharge dates."));
    }
    hygiene::refuse_leaks(set, &order)?;

    let (earlier, latest, holdout_rule) = hold_out(set, &order);
    let mut validated = cross_validate(set, earlier, options.seed, Trees::Compared)?;
    let (mut algorithm, mut choice) = choose(&validated);
    if algorithm == Algorithm::Trees {
        // They must still win once they can answer when inputs are missing.
        validated = cross_validate(set, earlier, options.seed, Trees::Blanked)?;
        (algorithm, choice) = choose(&validated);
    }
    let trees = |wins, loses| if algorithm == Algorithm::Trees { wins } else { loses };
    let candidate = Fit::on(set, earlier, options.seed, trees(Trees::Blanked, Trees::Compared))?;
    let holdout = candidate.compare(set, latest);
    let side = usize::from(algorithm == Algorithm::Trees);
    let candidate = scorer(candidate, algorithm, Intervals::fit(&validated.held[side]));

    let profile_rows: Vec<&Row> = sample(earlier, PROFILE_ROWS_MAX).map(|i| set.row(i)).collect();
    let evaluation = evaluate_rows(&candidate, &Profile::of(&profile_rows), latest.iter().map(|i| set.row(*i)));
    let missingness = missingness(&candidate, set, latest, options.seed);
    let verdict = judge(&candidate, champion, options.accept_lower_quality, latest.iter().map(|i| set.row(*i)));

    // What serves is fitted on all rows: the latest patients are the most like tomorrow's. So are its intervals.
    let served = Fit::on(set, &order, options.seed, trees(Trees::Served, Trees::Without))?;
    let notes = notes(&served);
    let held = cross_validate(set, &order, options.seed, trees(Trees::Blanked, Trees::Without))?.held;
    let rows: Vec<&Row> = sample(&order, PROFILE_ROWS_MAX).map(|i| set.row(i)).collect();
    let served = scorer(served, algorithm, Intervals::fit(&held[side]));
    let report = Report {
        rows: set.len() as u64,
        window: hygiene::window(set, &order),
        algorithm: name(algorithm).to_owned(),
        choice,
        holdout_rule,
        holdout: holdout.report(),
        cross_validation: validated.compared.report(),
        folds: FOLDS as u32,
        evaluation,
        missingness,
        hygiene: hygiene::inspect(set, &order),
        ranges: served.design.learned_ranges().map(|(f, low, high)| LearnedRange { feature: f.to_owned(), low, high }).collect(),
        notes,
        limits: LIMITS.iter().map(|limit| (*limit).to_owned()).collect(),
    };
    let parts = Parts { version: options.version.clone(), scorer: served, profile: Profile::of(&rows), report };
    Ok(Trained { model: Model::new(parts), promoted: verdict.promoted, reason: verdict.reason })
}

fn scorer(fit: Fit, algorithm: Algorithm, intervals: Intervals) -> Scorer {
    let challenger = fit.challenger.filter(|_| algorithm == Algorithm::Trees);
    Scorer { algorithm, design: fit.design, linear: fit.linear, challenger, intervals }
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Linear => "linear model on learned features",
        Algorithm::Trees => "boosted trees on learned features",
    }
}

/// The latest admissions, from the start of a day where a day does not hold too many.
fn hold_out<'a>(set: &TrainingSet, order: &'a [u32]) -> (&'a [u32], &'a [u32], String) {
    let n = order.len();
    let cut = n - ((n as f64 * HOLDOUT_SHARE) as usize).max(1);
    let day = set.row(order[cut]).admitted;
    let start = order.partition_point(|i| set.row(*i).admitted < day);
    if n - start <= 2 * (n - cut) && start > n / 2 {
        let rule = format!("The latest {} admissions, from a day's start; the earlier {start} train.", n - start);
        return (&order[..start], &order[start..], rule);
    }
    let rule = format!("The latest {} admissions; many share a day, which was cut by a fixed hash.", n - cut);
    (&order[..cut], &order[cut..], rule)
}

/// The simpler model wins unless the trees save enough, beyond chance.
fn choose(validated: &Validated) -> (Algorithm, String) {
    let Compared { linear, challenger, advantage, .. } = &validated.compared;
    let saved = advantage.mean() / linear.mean_squared().max(f64::MIN_POSITIVE);
    let (line, trees) = (linear.mean_squared().sqrt(), challenger.mean_squared().sqrt());
    if advantage.mean() > NOISE_ERRORS * advantage.standard_error() && saved > TREES_SAVE_MIN {
        let why = format!(
            "In cross-validation the trees' root mean squared error, {trees:.3} days, is below the linear model's, \
             {line:.3}, by more than the noise."
        );
        return (Algorithm::Trees, why);
    }
    let why = format!(
        "In cross-validation the trees' root mean squared error, {trees:.3} days, is not below the linear model's, \
         {line:.3}, by more than the noise; the linear model is simpler and explains itself exactly."
    );
    (Algorithm::Linear, why)
}

/// Fallbacks, in sentences.
fn notes(fit: &Fit) -> Vec<String> {
    let mut notes = Vec::new();
    if fit.linear.solver == Solver::ElasticNet {
        notes.push("Columns depend on one another or rows are few: the linear model was fitted with the elastic net.".to_owned());
    }
    let open = fit.design.ranges.iter().zip(MEASUREMENTS).filter(|(range, _)| range.is_open());
    let open: Vec<&str> = open.map(|(_, feature)| feature.spec().name).collect();
    if !open.is_empty() {
        notes.push(format!("No reference range pays for itself in these rows for: {}.", open.join(", ")));
    }
    notes
}

/// The holdout again, with inputs blanked.
fn missingness(scorer: &Scorer, set: &TrainingSet, latest: &[u32], seed: u64) -> Vec<Blanked> {
    let copy = || {
        let mut rows = TrainingSet::new();
        sample(latest, BLANKED_ROWS_MAX).for_each(|i| rows.push_row(*set.row(i)));
        rows
    };
    let score = |blanked: &str, rows: &TrainingSet| {
        let spread = Spread::of(rows.rows().map(Row::stay_days));
        let mut errors = super::metrics::Errors::default();
        rows.rows().for_each(|row| {
            let answer = scorer.answer(row);
            errors.add(row.stay_days(), answer.days, Some(answer.intervals));
        });
        Blanked { blanked: blanked.to_owned(), metrics: errors.metrics(&spread) }
    };
    let mut without = copy();
    blank(&mut without, Feature::Readmissions);
    let mut out = vec![score(Feature::Readmissions.spec().label, &without)];
    for (share, name) in [(0.1, "10 % of all inputs"), (0.3, "30 % of all inputs")] {
        let mut rows = copy();
        blank_cells(&mut rows, share, seed);
        out.push(score(name, &rows));
    }
    out
}
