//! `hdai experiment`: models for another target or feature subset, described by TOML files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::predict::experiment::{EXPERIMENT_BYTES_MAX, Experiment, ExperimentReport, FoldMean};
use crate::workflow;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Run an experiment by cross-validation and keep its result
    Run {
        /// The experiment, a TOML file (docs/experiments.md)
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// A CSV of discharged encounters to use in place of the record
        #[arg(long, value_name = "CSV")]
        data: Option<PathBuf>,
        /// What to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Compare the stored results of experiments, best first, one table a target
    Compare {
        /// Experiment files; without any, every stored result
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// What to print
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A table
    Text,
    /// The whole result as JSON
    Json,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    match args.what {
        What::Run { file, data, format } => {
            // A file with a mistake is refused before anything is opened.
            let experiment = read(&file)?;
            let hospital = super::open(config).await?;
            let rows = match &data {
                None => None,
                Some(data) => Some(super::evaluate::read(&hospital, data).await?),
            };
            let done = workflow::run_experiment(&super::caller(), &hospital, experiment, rows, super::now()).await?;
            match format {
                Format::Json => say!("{}", json(&done.report)?),
                Format::Text => {
                    tell(&done.report);
                    say!("Result: {}", done.path.display());
                }
            }
            if done.replaced_other_data {
                eprintln!("hdai: an earlier result of this experiment, on other encounters, was replaced");
            }
        }
        What::Compare { files, format } => {
            let experiments = files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
            let hospital = super::open(config).await?;
            let (caller, now) = (super::caller(), super::now());
            let results = match experiments.is_empty() {
                true => workflow::all_experiment_results(&caller, &hospital, now).await?,
                false => workflow::experiment_results(&caller, &hospital, &experiments, now).await?,
            };
            if results.is_empty() {
                return Err(Error::not_found("no experiment has run yet: run one with `hdai experiment run FILE`"));
            }
            match format {
                Format::Json => say!("{}", json(&results)?),
                Format::Text => compare(results),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|cause| Error::internal("the result cannot be written as JSON").caused_by(cause))
}

fn read(path: &Path) -> Result<Experiment> {
    let missing = |cause| Error::not_found(format!("the experiment {} cannot be read", path.display())).caused_by(cause);
    let mut text = String::new();
    // One byte more than allowed is enough to be refused.
    File::open(path).map_err(missing)?.take(EXPERIMENT_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(missing)?;
    Experiment::from_toml(&text).map_err(|cause| Error::new(cause.kind(), format!("{}: {}", path.display(), cause.message())))
}

fn figure(figure: Option<&FoldMean>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(FoldMean { mean, sd: None }) => format!("{mean:.4}"),
        Some(FoldMean { mean, sd: Some(sd) }) => format!("{mean:.4} ± {sd:.4}"),
    }
}

fn tell(report: &ExperimentReport) {
    let rows = super::thousands(report.rows);
    say!("{} {}: {} by {} on {rows} encounters", report.name, report.fingerprint, report.target, report.algorithm);
    for (why, rows) in [("lack the target", report.rows_without_target), ("are beyond rows_max", report.rows_left_out)] {
        if rows > 0 {
            say!("{} encounters {why} and were left out.", super::thousands(rows));
        }
    }
    let line = |name: &str| vec![name.to_owned(), figure(report.metrics.get(name)), figure(report.baseline.get(name))];
    // The metric that ranks comes first.
    let rest = report.baseline.keys().filter(|name| **name != report.main_metric).map(|name| line(name));
    table(
        ["metric", "experiment", "baseline"].map(str::to_owned).to_vec(),
        std::iter::once(line(&report.main_metric)).chain(rest).collect(),
    );
    if let Some(confusion) = &report.confusion {
        say!("Encounters by true class (down) and answered class (across):");
        let lines = report.classes.iter().zip(confusion);
        let lines = lines.map(|(class, row)| std::iter::once(class.clone()).chain(row.iter().map(u64::to_string)).collect());
        table(std::iter::once(String::new()).chain(report.classes.iter().cloned()).collect(), lines.collect());
    }
    say!("{}", report.verdict);
    report.notes.iter().for_each(|note| say!("{note}"));
}

/// One table a target: errors of days and of classes have no common order.
fn compare(results: Vec<ExperimentReport>) {
    let mut by_target: BTreeMap<String, Vec<ExperimentReport>> = BTreeMap::new();
    for result in results {
        by_target.entry(result.target.clone()).or_default().push(result);
    }
    for (index, (target, mut results)) in by_target.into_iter().enumerate() {
        if index > 0 {
            say!("");
        }
        let main = results[0].main_metric.clone();
        let rank = |result: &ExperimentReport| result.metrics.get(&main).map_or(f64::INFINITY, |figure| figure.mean);
        results.sort_by(|a, b| rank(a).total_cmp(&rank(b)).then_with(|| (&a.name, &a.fingerprint).cmp(&(&b.name, &b.fingerprint))));
        say!("Target {target}, by {main} (lower is better)");
        let others: Vec<String> = results[0].baseline.keys().filter(|name| **name != main).cloned().collect();
        let mut head: Vec<String> = ["experiment", "fingerprint", "algorithm", "encounters", "data"].map(str::to_owned).to_vec();
        head.push(main.clone());
        head.extend(others.iter().cloned());
        head.extend([format!("baseline {main}"), "beats it".to_owned()]);
        let line = |result: &ExperimentReport| {
            let mut line =
                vec![result.name.clone(), result.fingerprint.clone(), result.algorithm.clone(), super::thousands(result.rows)];
            line.push(result.data_fingerprint.chars().take(8).collect());
            line.push(figure(result.metrics.get(&main)));
            line.extend(others.iter().map(|name| figure(result.metrics.get(name))));
            line.push(figure(result.baseline.get(&main)));
            line.push(if result.beats_baseline { "yes" } else { "no" }.to_owned());
            line
        };
        table(head, results.iter().map(line).collect());
        for result in &results {
            result.notes.iter().for_each(|note| say!("{}: {note}", result.name));
        }
        if results.iter().any(|result| result.data_fingerprint != results[0].data_fingerprint) {
            say!("These ran on different encounters (column data): run them on the same before you choose.");
        }
        if results.iter().any(|result| result.schema_fingerprint != crate::schema::fingerprint()) {
            say!("Some ran with another clinical schema: run them again.");
        }
    }
}

/// Columns as wide as their widest cell.
fn table(head: Vec<String>, lines: Vec<Vec<String>>) {
    let width = |column: usize| {
        let cells = std::iter::once(&head).chain(&lines).filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for line in std::iter::once(&head).chain(&lines) {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        say!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
