//! Predictions in process, with interval and reasons: one after the other, and in bulk on every core.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use crate::cli::{generate, thousands};
use crate::domain::Encounter;
use crate::error::Result;
use crate::predict::{self, TrainOptions, TrainingSet};
use crate::schema::Feature;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Encounters that the model is trained on
    #[arg(long, default_value_t = 20_000)]
    rows: u32,
    /// Predictions
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    predictions: u32,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let mut set = TrainingSet::new();
    for encounter in generate::patients(1, 1, args.rows)? {
        set.push(&encounter);
    }
    let begun = Instant::now();
    let model = predict::train(&set, &TrainOptions { seed: 1, version: "bench".into(), accept_lower_quality: false }, None)?.model;
    say!("trained on {} encounters in {:.2} s", thousands(u64::from(args.rows)), begun.elapsed().as_secs_f64());
    let complete: Vec<Encounter> = generate::patients(2, 1, args.predictions)?.collect();
    let unknown = [Feature::Readmissions, Feature::Glucose, Feature::Pulse];
    let holed: Vec<Encounter> = complete
        .iter()
        .cloned()
        .map(|mut encounter| {
            unknown.iter().for_each(|feature| encounter.clinical.set(*feature, None));
            encounter
        })
        .collect();
    say!("{:<44} {:>12} {:>14}", "", "µs each", "predictions/s");
    for (label, encounters) in
        [("one after the other, every input known", &complete), ("one after the other, three inputs missing", &holed)]
    {
        let begun = Instant::now();
        for encounter in encounters {
            black_box(model.predict(black_box(encounter)));
        }
        line(label, begun, encounters.len());
    }
    let begun = Instant::now();
    // In batches of the size in which files and the record are read.
    for batch in complete.chunks(4_000) {
        black_box(model.predict_all(black_box(batch)));
    }
    line("in bulk, on every core", begun, complete.len());
    Ok(ExitCode::SUCCESS)
}

fn line(label: &str, begun: Instant, count: usize) {
    let seconds = begun.elapsed().as_secs_f64();
    let rate = thousands((count as f64 / seconds) as u64);
    say!("{label:<44} {:>12.2} {rate:>14}", seconds * 1e6 / count as f64);
}
