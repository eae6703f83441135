//! `hdai anomalies`: average stays that rise or decline, found, stored and listed.

use std::process::ExitCode;

use crate::config::Config;
use crate::domain::anomaly::{Finding, Survey};
use crate::error::Result;
use crate::workflow;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line a finding
    Text,
    /// What GET /api/anomalies answers
    Json,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let hospital = super::open(config).await?;
    let survey = workflow::find_anomalies(&super::caller(), &hospital, super::now()).await?;
    match args.format {
        Format::Json => say!("{:#}", workflow::survey_report(Some(&survey), 0)),
        Format::Text => tell(&survey),
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(survey: &Survey) {
    match survey.weeks {
        Some((first, last)) => say!(
            "{} control charts over the weeks of {first} to {last}; {} groups have too short a history for one.",
            survey.charted,
            survey.uncharted
        ),
        None => say!("The record is too short for a control chart: import more discharged encounters."),
    }
    if survey.charted > 0 && survey.findings.is_empty() {
        say!("No average stay rises or declines.");
    }
    for Finding { group, direction, first_week, last_week, stays, mean_days, expected_days, average_days, limit_days } in
        &survey.findings
    {
        let patients = group.condition.map_or("all patients", |feature| feature.spec().label);
        say!(
            "{:<7}  facility {}, {patients}: {mean_days:.2} days instead of {expected_days:.2}, weeks of {first_week} to {last_week}, {} stays \
             (moving average {average_days:.2}, limit {limit_days:.2})",
            direction.name(),
            group.facility,
            super::thousands(*stays)
        );
    }
}
