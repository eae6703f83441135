//! Runs an experiment: seeded cross-validation in which every step is fitted on the training folds only.

use std::collections::BTreeMap;

use super::design::Design;
use super::folds::deal;
use super::linear::Linear;
use super::measure::{self, CLASS_MAIN, Confusion, Figures, NUMBER_MAIN};
use super::report::{EXPERIMENT_FORMAT, ExperimentReport, FoldMean, FoldReport};
use super::spec::{Algorithm, Experiment};
use super::target::Target;
use super::trees::{Shape, Trees};
use crate::error::{Error, Result};
use crate::predict::features::{Row, mix};
use crate::predict::fit::sample;
use crate::predict::scorer::Algorithm as Served;
use crate::predict::set::TrainingSet;
use crate::predict::train::{TrainOptions, train};
use crate::schema::fingerprint;

/// Standard errors by which the difference from the baseline must exceed zero to be more than noise.
const NOISE_ERRORS: f64 = 1.96;

/// The rows of a run.
struct Data<'a> {
    rows: Vec<&'a Row>,
    labels: Vec<f64>,
    without_target: u64,
    left_out: u64,
}

/// What the folds gave.
#[derive(Default)]
struct Measured {
    folds: Vec<FoldReport>,
    confusion: Option<Confusion>,
    notes: Vec<String>,
}

/// Runs an experiment on rows, deterministically: their order does not matter.
///
/// # Errors
/// Invalid, if there are too few rows for the folds, if the target never varies, or if the columns do not fit in memory. Internal, if a
/// solver fails.
pub fn run(experiment: &Experiment, set: &TrainingSet) -> Result<ExperimentReport> {
    if u32::try_from(set.len()).is_err() {
        return Err(Error::invalid("an experiment takes at most 4294967295 encounters: choose a shorter data window"));
    }
    let data = Data::of(experiment, set);
    let folds = deal(&data.rows, &data.labels, experiment.target.is_class(), experiment.file.folds, experiment.file.seed)?;
    if data.labels.iter().all(|label| *label == data.labels[0]) {
        return Err(Error::invalid(format!(
            "every encounter has the same {}, so there is nothing to learn: choose another target, or check the data",
            experiment.target.name()
        )));
    }
    let mut measured = Measured::default();
    for fold in 0..experiment.file.folds {
        measure_fold(experiment, &data, &folds, fold, &mut measured)?;
    }
    let main_metric = if experiment.target.is_class() { CLASS_MAIN } else { NUMBER_MAIN };
    let baseline = summary(&measured.folds, |fold| &fold.baseline);
    let (metrics, (beats_baseline, verdict), columns) = if experiment.algorithm == Algorithm::Product {
        let metrics = product(experiment, &data, &mut measured.notes)?;
        let verdict = verdict_pooled(&metrics, &baseline);
        measured.folds.clear();
        (metrics, verdict, None)
    } else {
        let metrics = summary(&measured.folds, |fold| &fold.metrics);
        let columns = Design::fit(&experiment.plan, &data.rows).width();
        (metrics, verdict(&measured.folds, main_metric), Some(columns as u64))
    };
    measured.notes.sort();
    measured.notes.dedup();
    Ok(ExperimentReport {
        format: EXPERIMENT_FORMAT.to_owned(),
        name: experiment.name().to_owned(),
        fingerprint: experiment.fingerprint().to_owned(),
        schema_fingerprint: fingerprint().to_owned(),
        data_fingerprint: data.fingerprint(),
        target: experiment.target.name(),
        algorithm: experiment.algorithm.name().to_owned(),
        rows: data.rows.len() as u64,
        rows_without_target: data.without_target,
        rows_left_out: data.left_out,
        columns,
        classes: experiment.target.classes(),
        main_metric: main_metric.to_owned(),
        metrics,
        baseline,
        beats_baseline,
        verdict,
        folds: measured.folds,
        confusion: measured.confusion,
        notes: measured.notes,
        experiment: experiment.file.clone(),
    })
}

impl<'a> Data<'a> {
    fn of(experiment: &Experiment, set: &'a TrainingSet) -> Self {
        let known: Vec<u32> = set.in_time().into_iter().filter(|i| experiment.target.of(set.row(*i)).is_some()).collect();
        let rows: Vec<&Row> = sample(&known, experiment.file.rows_max as usize).map(|i| set.row(i)).collect();
        Self {
            labels: rows.iter().filter_map(|row| experiment.target.of(row)).collect(),
            without_target: (set.len() - known.len()) as u64,
            left_out: (known.len() - rows.len()) as u64,
            rows,
        }
    }

    fn fingerprint(&self) -> String {
        // Rows stand by admission and content, not as they came.
        format!("{:016x}", self.rows.iter().fold(0, |hash, row| mix(hash ^ row.hash())))
    }
}

/// The rows and labels of one side of a fold.
struct Side<'a> {
    rows: Vec<&'a Row>,
    labels: Vec<f64>,
}

impl<'a> Side<'a> {
    fn of(data: &Data<'a>, mine: impl Fn(usize) -> bool) -> Self {
        let chosen = || (0..data.rows.len()).filter(|i| mine(*i));
        Self { rows: chosen().map(|i| data.rows[i]).collect(), labels: chosen().map(|i| data.labels[i]).collect() }
    }

    fn classes(&self) -> Vec<usize> {
        // Small whole numbers.
        self.labels.iter().map(|label| *label as usize).collect()
    }
}

fn measure_fold(experiment: &Experiment, data: &Data<'_>, folds: &[u32], fold: u32, measured: &mut Measured) -> Result<()> {
    let train = Side::of(data, |i| folds[i] != fold);
    let test = Side::of(data, |i| folds[i] == fold);
    let fitted = match experiment.algorithm {
        // Only the baseline is measured here; the product measures itself.
        Algorithm::Product => None,
        _ => Some(Cells::of(experiment, &train, &test, measured)?),
    };
    let (metrics, baseline) = match experiment.target {
        Target::Class(_) => {
            let count = experiment.target.classes().len();
            let shares = measure::shares(&train.classes(), count);
            let same = vec![shares; test.rows.len()];
            let (baseline, _) = measure::classes(&test.classes(), &same, count);
            let metrics = match fitted {
                None => Figures::new(),
                Some(cells) => {
                    let probabilities = cells.probabilities(experiment, &train, count)?;
                    let (metrics, confusion) = measure::classes(&test.classes(), &probabilities, count);
                    add(&mut measured.confusion, confusion);
                    metrics
                }
            };
            (metrics, baseline)
        }
        Target::StayDays | Target::Number(_) => {
            let days = experiment.target == Target::StayDays;
            let mean = train.labels.iter().sum::<f64>() / train.labels.len().max(1) as f64;
            let baseline = measure::number(&test.labels, &vec![mean; test.labels.len()], days);
            let metrics = match fitted {
                None => Figures::new(),
                Some(cells) => measure::number(&test.labels, &cells.answers(experiment, &train)?, days),
            };
            (metrics, baseline)
        }
    };
    measured.folds.push(FoldReport { fold: fold + 1, rows: test.rows.len() as u64, metrics, baseline });
    Ok(())
}

fn add(sum: &mut Option<Confusion>, confusion: Confusion) {
    match sum {
        None => *sum = Some(confusion),
        Some(sum) => sum.iter_mut().flatten().zip(confusion.into_iter().flatten()).for_each(|(sum, rows)| *sum += rows),
    }
}

/// The columns of both sides of a fold, made by a design fitted on the training side.
struct Cells {
    width: usize,
    train: Vec<f64>,
    test: Vec<f64>,
}

impl Cells {
    fn of(experiment: &Experiment, train: &Side<'_>, test: &Side<'_>, measured: &mut Measured) -> Result<Self> {
        let design = Design::fit(&experiment.plan, &train.rows);
        for name in &design.never_known {
            measured.notes.push(format!("{name} is missing in every training row of at least one fold, where it says nothing."));
        }
        let cells = Self { width: design.width(), train: design.matrix(&train.rows)?, test: design.matrix(&test.rows)? };
        if cells.width == 0 {
            return Err(Error::invalid("no column is left: every input is missing in the training rows; choose other `features`"));
        }
        Ok(cells)
    }

    fn linear(&self, experiment: &Experiment, targets: &[Vec<f64>]) -> Result<Linear> {
        Linear::fit(&self.train, self.width, targets, experiment.algorithm)
    }

    /// Answers of the test rows.
    fn answers(&self, experiment: &Experiment, train: &Side<'_>) -> Result<Vec<f64>> {
        if let Some(shape) = shape(experiment) {
            return Ok(Trees::fit(&self.train, self.width, &train.labels, false, shape)?.scores(&self.test, self.width));
        }
        let linear = self.linear(experiment, std::slice::from_ref(&train.labels))?;
        Ok(self.test.chunks_exact(self.width).flat_map(|row| linear.scores(row)).collect())
    }

    /// Class probabilities of the test rows.
    fn probabilities(&self, experiment: &Experiment, train: &Side<'_>, count: usize) -> Result<Vec<Vec<f64>>> {
        let truth = train.classes();
        let against_rest = |class: usize| truth.iter().map(|own| f64::from(u8::from(*own == class))).collect::<Vec<f64>>();
        if let Some(shape) = shape(experiment) {
            let mut scores = vec![Vec::with_capacity(count); self.test.len() / self.width];
            for class in 0..count {
                let trees = Trees::fit(&self.train, self.width, &against_rest(class), true, shape)?;
                scores.iter_mut().zip(trees.scores(&self.test, self.width)).for_each(|(row, score)| row.push(score));
            }
            return Ok(scores.iter().map(|row| measure::from_log_odds(row)).collect());
        }
        let linear = self.linear(experiment, &(0..count).map(against_rest).collect::<Vec<_>>())?;
        let (shares, means) = (measure::shares(&truth, count), linear.target_means());
        let scores = |cells: &[f64]| cells.chunks_exact(self.width).map(|row| linear.scores(row)).collect::<Vec<_>>();
        let temperature = measure::temperature(&scores(&self.train), &truth, &shares, &means);
        Ok(scores(&self.test).iter().map(|row| measure::softmax(row, &shares, &means, temperature)).collect())
    }
}

fn shape(experiment: &Experiment) -> Option<Shape> {
    match experiment.algorithm {
        Algorithm::BoostedTrees { rounds, learning_rate, depth } => {
            Some(Shape { rounds, learning_rate, depth, seed: experiment.file.seed })
        }
        _ => None,
    }
}

fn mean_and_sd(values: &[f64]) -> Option<FoldMean> {
    let n = values.len() as f64;
    let mean = (!values.is_empty()).then(|| values.iter().sum::<f64>() / n)?;
    let sd = (values.len() > 1).then(|| (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt());
    Some(FoldMean { mean, sd })
}

/// Every metric over the folds that have it.
fn summary(folds: &[FoldReport], pick: fn(&FoldReport) -> &Figures) -> BTreeMap<String, FoldMean> {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, value) in folds.iter().flat_map(pick) {
        values.entry(name.clone()).or_default().push(*value);
    }
    values.into_iter().filter_map(|(name, values)| Some((name, mean_and_sd(&values)?))).collect()
}

/// Better by more than the noise? The variance between folds is corrected for their sharing training rows (Nadeau and Bengio, "Inference for
/// the Generalization Error", 2003).
fn verdict(folds: &[FoldReport], main: &str) -> (bool, String) {
    let differences: Vec<f64> = folds.iter().filter_map(|fold| Some(fold.baseline.get(main)? - fold.metrics.get(main)?)).collect();
    let Some(FoldMean { mean, sd }) = mean_and_sd(&differences) else { return (false, "Nothing could be measured.".to_owned()) };
    let n = differences.len() as f64;
    let error = sd.unwrap_or(f64::INFINITY) * (1.0 / n + 1.0 / (n - 1.0)).sqrt();
    let better = mean > 0.0 && mean > NOISE_ERRORS * error;
    let relation = if better { "below the baseline's by more than" } else { "not below the baseline's by more than" };
    (better, format!("{main} is {relation} the noise between folds: {mean:+.4} ± {:.4}.", NOISE_ERRORS * error))
}

fn verdict_pooled(metrics: &BTreeMap<String, FoldMean>, baseline: &BTreeMap<String, FoldMean>) -> (bool, String) {
    let of = |from: &BTreeMap<String, FoldMean>| from.get(NUMBER_MAIN).map_or(f64::INFINITY, |figure| figure.mean);
    let saved = of(baseline) - of(metrics);
    let relation = if saved > 0.0 { "below" } else { "not below" };
    (saved > 0.0, format!("{NUMBER_MAIN} over all folds is {relation} the baseline's: {saved:+.4}."))
}

/// The product's own pipeline and its own cross-validation.
fn product(experiment: &Experiment, data: &Data<'_>, notes: &mut Vec<String>) -> Result<BTreeMap<String, FoldMean>> {
    let mut set = TrainingSet::new();
    data.rows.iter().for_each(|row| set.push_row(**row));
    let options = TrainOptions { seed: experiment.file.seed, version: experiment.id(), accept_lower_quality: false };
    let trained = train(&set, &options, None)?;
    let report = trained.model.report();
    let compared = &report.cross_validation;
    let own = match trained.model.parts().scorer.algorithm {
        Served::Trees => compared.challenger.as_ref().unwrap_or(&compared.primary),
        Served::Linear => &compared.primary,
    };
    notes.push(format!(
        "The product chose: {}. Its metrics are pooled over {} folds of its own ({} rows: the latest admissions are its holdout).",
        report.algorithm, report.folds, compared.rows
    ));
    let mut figures = Figures::from(
        [("mae", own.mae), (NUMBER_MAIN, own.rmse), ("within_one_day", own.within_one_day)].map(|(k, v)| (k.to_owned(), v)),
    );
    figures.extend(own.r2.map(|r2| ("r2".to_owned(), r2)));
    Ok(figures.into_iter().map(|(name, mean)| (name, FoldMean { mean, sd: None })).collect())
}
