//! `hdai evaluate`: how good the model in use is on labelled encounters. Nothing is stored.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::codec::csv;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::predict::{self, TrainingSet};
use crate::schema::Feature;
use crate::workflow::Hospital;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A labelled CSV; without it, the holdout report of the model in use
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Remove this feature before scoring, to see what the model does without it
    #[arg(long, value_name = "FEATURE", requires = "data")]
    blank: Vec<String>,
    /// Remove this share of all clinical cells before scoring
    #[arg(long, value_name = "SHARE", requires = "data")]
    blank_cells: Option<f64>,
    /// Seed of --blank-cells
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A few lines
    Text,
    /// Every metric, as one JSON object
    Json,
}

/// Rows read at once.
const BATCH_ROWS: usize = 4_000;

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = super::open(config).await?;
    let model = hospital
        .champion()
        .await?
        .ok_or_else(|| Error::not_found("no model is trained yet: import discharged encounters and run `hdai train`"))?;
    let Some(data) = &args.data else {
        say!("{}", to_json(model.report())?);
        return Ok(ExitCode::SUCCESS);
    };
    let mut set = read(&hospital, data).await?;
    for name in &args.blank {
        let feature = Feature::by_name(name)
            .ok_or_else(|| Error::invalid(format!("--blank {name}: there is no such feature; `hdai schema` lists them")))?;
        predict::blank(&mut set, feature);
    }
    if let Some(share) = args.blank_cells {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::invalid("--blank-cells must be a share from 0 to 1"));
        }
        predict::blank_cells(&mut set, share, args.seed);
    }
    let evaluation = predict::evaluate(&model, &set);
    let json =
        serde_json::to_value(&evaluation).map_err(|cause| Error::internal("the evaluation cannot be written").caused_by(cause))?;
    match args.format {
        Format::Json => say!("{json}"),
        Format::Text => {
            let of = |name: &str| json[name].as_f64().map_or("?".to_owned(), |value| format!("{value:.4}"));
            say!("Model {} on {} encounters", model.version(), super::thousands(set.len() as u64));
            say!("  R² {}, MAE {}, RMSE {}, within a day {}", of("r2"), of("mae"), of("rmse"), of("within_one_day"));
            for level in ["80", "90"] {
                let interval = &json["intervals"][level];
                let of = |name: &str| interval[name].as_f64().map_or("?".to_owned(), |value| format!("{value:.3}"));
                say!("  {level} % interval: coverage {}, mean width {} days", of("coverage"), of("mean_width_days"));
            }
            let record = model.report().evaluation.metrics.rmse;
            say!("  the model's own holdout, at its training: RMSE {record:.4}");
            for found in &evaluation.untied {
                let share = (100.0 * found.undone).round();
                say!(
                    "  {} no longer goes with the stays ({share} % of its effect is undone): look for a shuffled or shifted column",
                    found.input
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|cause| Error::internal("the report cannot be written").caused_by(cause))
}

/// The labelled encounters of a CSV.
pub(super) async fn read(hospital: &Hospital, path: &PathBuf) -> Result<TrainingSet> {
    let facilities = hospital.store.facilities().await?.into_iter().map(|facility| facility.id).collect::<Vec<_>>();
    let file = File::open(path).map_err(|cause| Error::not_found(format!("{} cannot be read", path.display())).caused_by(cause))?;
    let mut reader = csv::Reader::new(BufReader::new(file), &facilities)?;
    let mut set = TrainingSet::new();
    let (mut rejected, mut unlabelled) = (0, 0u64);
    while let Some(rows) = reader.read_batch(BATCH_ROWS)? {
        rejected += rows.rejected_rows;
        for encounter in &rows.encounters {
            if !set.push(encounter) {
                unlabelled += 1;
            }
        }
    }
    if rejected + unlabelled > 0 {
        eprintln!("hdai: {rejected} rows were rejected and {unlabelled} carry no stay: they are not used");
    }
    if set.is_empty() {
        return Err(Error::invalid("no row of the file can be used: it needs discharged encounters"));
    }
    Ok(set)
}
