//! `hdai model`: the models in the record, and the card of the one in use.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::config::Config;
use crate::domain::model::ModelRecord;
use crate::error::{Error, Result};
use crate::predict::{Comparison, GroupError, Metrics, Report};
use crate::workflow;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The newest models, newest first
    List,
    /// The card of the model in use: data, quality, limits
    Card {
        /// What to print
        #[arg(long, value_enum, default_value_t = Format::Markdown)]
        format: Format,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Markdown,
    Json,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = super::open(config).await?;
    match args.what {
        What::List => {
            for model in workflow::models(&super::caller(), &hospital, 50, super::now()).await? {
                say!("{}  {} rows  {}", model.version, super::thousands(model.rows), model.reason);
            }
        }
        What::Card { format } => {
            let record = workflow::champion_report(&super::caller(), &hospital, super::now()).await?;
            match format {
                Format::Json => say!("{}", record.metrics),
                Format::Markdown => say!("{}", card(&record)?),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A model card in the sense of Mitchell et al., "Model Cards for Model Reporting" (2019).
fn card(record: &ModelRecord) -> Result<String> {
    let report: Report = serde_json::from_str(&record.metrics).map_err(|cause| {
        Error::conflict("the model's report is of another version of this program: train again").caused_by(cause)
    })?;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_card(&mut text, record, &report);
    Ok(text)
}

fn write_card(text: &mut String, record: &ModelRecord, report: &Report) -> std::fmt::Result {
    writeln!(text, "# Model card: {}\n", record.version)?;
    writeln!(text, "Predicts the length of a hospital stay in days at admission, with 80 and 90 % intervals and reasons.\n")?;
    writeln!(text, "## Data\n")?;
    writeln!(text, "- {} discharged encounters, admitted {} to {}", report.rows, report.window.first, report.window.last)?;
    writeln!(
        text,
        "- trained {}; schema fingerprint `{}`",
        record.trained.format("%Y-%m-%d %H:%M UTC"),
        record.schema_fingerprint
    )?;
    writeln!(text, "- duplicates {}, unusually long stays {}", report.hygiene.duplicates, report.hygiene.long_stays)?;
    for (feature, share) in &report.hygiene.missing {
        writeln!(text, "- `{feature}` is missing in {:.1} %", share * 100.0)?;
    }
    for (feature, rows) in &report.hygiene.implausible {
        writeln!(text, "- `{feature}` is outside what a ward expects in {rows} rows")?;
    }
    writeln!(text, "\n## Algorithm\n\n{}. {}\n\n{}", report.algorithm, report.choice, record.reason)?;
    writeln!(text, "\n## Quality\n\n{}\n", report.holdout_rule)?;
    write_comparison(text, "Holdout", &report.holdout)?;
    write_comparison(text, &format!("Cross-validation, {} folds", report.folds), &report.cross_validation)?;
    writeln!(text, "### With inputs missing (holdout)\n\n{METRICS_HEAD}")?;
    for blanked in &report.missingness {
        write_metrics(text, &format!("without {}", blanked.blanked), &blanked.metrics)?;
    }
    let evaluation = &report.evaluation;
    for (what, groups) in [
        ("gender", &evaluation.by_gender),
        ("facility", &evaluation.by_facility),
        ("condition", &evaluation.by_condition),
        ("number of abnormal measurements", &evaluation.by_abnormal_count),
    ] {
        write_groups(text, what, groups)?;
    }
    writeln!(text, "\n### Calibration (holdout)\n\n| tenth | rows | mean predicted | mean stay |\n|---|---|---|---|")?;
    for tenth in &evaluation.calibration {
        writeln!(text, "| {} | {} | {:.2} | {:.2} |", tenth.decile, tenth.rows, tenth.mean_predicted_days, tenth.mean_stay_days)?;
    }
    writeln!(text, "\n## Learned reference ranges\n\n| measurement | from | to |\n|---|---|---|")?;
    for range in &report.ranges {
        let end = |end: Option<f32>| end.map_or("open".to_owned(), |end| format!("{end}"));
        writeln!(text, "| `{}` | {} | {} |", range.feature, end(range.low), end(range.high))?;
    }
    writeln!(text, "\n## Limits\n")?;
    for line in report.limits.iter().chain(&report.notes) {
        writeln!(text, "- {line}")?;
    }
    Ok(())
}

const METRICS_HEAD: &str =
    "| | R² | MAE | RMSE | RAE | RSE | within a day | 90 % coverage | width, days |\n|---|---|---|---|---|---|---|---|---|";

fn write_comparison(text: &mut String, title: &str, comparison: &Comparison) -> std::fmt::Result {
    writeln!(text, "### {title} ({} rows)\n\n{METRICS_HEAD}", comparison.rows)?;
    write_metrics(text, "linear on learned features", &comparison.primary)?;
    if let Some(challenger) = &comparison.challenger {
        write_metrics(text, "boosted trees on the same", challenger)?;
    }
    write_metrics(text, "baseline: least squares on raw columns", &comparison.baseline)?;
    writeln!(text)
}

fn write_metrics(text: &mut String, label: &str, metrics: &Metrics) -> std::fmt::Result {
    let or_dash = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
    let interval = metrics.intervals.get("90");
    writeln!(
        text,
        "| {label} | {} | {:.4} | {:.4} | {} | {} | {:.4} | {} | {} |",
        or_dash(metrics.r2),
        metrics.mae,
        metrics.rmse,
        or_dash(metrics.rae),
        or_dash(metrics.rse),
        metrics.within_one_day,
        interval.map_or("-".to_owned(), |interval| format!("{:.3}", interval.coverage)),
        interval.map_or("-".to_owned(), |interval| format!("{:.2}", interval.mean_width_days)),
    )
}

fn write_groups(text: &mut String, what: &str, groups: &[GroupError]) -> std::fmt::Result {
    writeln!(text, "\n### By {what} (holdout)\n\n| | rows | MAE | bias, days | 90 % coverage |\n|---|---|---|---|---|")?;
    for group in groups {
        let coverage = group.intervals.get("90").map_or("-".to_owned(), |interval| format!("{:.3}", interval.coverage));
        writeln!(text, "| {} | {} | {:.3} | {:+.3} | {coverage} |", group.group, group.rows, group.mae, group.bias_days)?;
    }
    Ok(())
}
