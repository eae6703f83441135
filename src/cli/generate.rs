//! `hdai generate`: synthetic inputs. The same seed gives the same bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{Duration, NaiveDate};

use crate::codec::{csv, fhir};
use crate::domain::{Encounter, Phi, facility};
use crate::error::{Error, Result};
use crate::synthetic;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to write
    #[arg(value_enum, default_value_t = What::Encounters)]
    what: What,
    /// How many encounters, admissions or discharges
    #[arg(long, default_value_t = 1_000)]
    rows: u32,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// First encounter id
    #[arg(long, default_value_t = 1)]
    first_id: i32,
    /// Day of admission of admissions and discharges [default: today]
    #[arg(long, value_name = "YYYY-MM-DD")]
    admitted: Option<NaiveDate>,
    /// Shape of the admissions
    #[arg(long, value_enum, default_value_t = Shape::Blueprint)]
    shape: Shape,
    /// File to write (encounters, facilities; `-` is standard output), or folder (admissions, discharges)
    #[arg(long, default_value = "-", value_name = "PATH")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// A CSV of discharged encounters
    Encounters,
    /// One JSON file an admission
    Admissions,
    /// One JSON file a discharge, for the admissions of the same seed and ids
    Discharges,
    /// The facilities as CSV
    Facilities,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shape {
    /// The blueprint's four-part message
    Blueprint,
    /// A FHIR R4 transaction Bundle
    Bundle,
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let admitted = args.admitted.unwrap_or_else(|| super::now().date_naive());
    match args.what {
        What::Encounters => {
            let options = synthetic::Options { rows: u64::from(args.rows), seed: args.seed, first_id: args.first_id };
            to_file(&args.out, |out| write_encounters(out, &options, |_| ()))?;
        }
        What::Facilities => to_file(&args.out, |out| csv::write_facilities(out, &facility::seed()))?,
        What::Admissions => {
            for encounter in patients(args.seed, args.first_id, args.rows)?.map(|patient| admit(patient, admitted)) {
                let message = match args.shape {
                    Shape::Blueprint => fhir::encode_blueprint_admission(&encounter),
                    Shape::Bundle => fhir::encode_bundle_admission(&encounter),
                };
                to_json(&args.out, &format!("admit_{}.json", encounter.id.get()), &message)?;
            }
        }
        What::Discharges => {
            for patient in patients(args.seed, args.first_id, args.rows)? {
                let left = Phi::new(admitted.checked_add_signed(stay(&patient)));
                let discharged = Encounter { admitted: Phi::new(admitted), discharged: left, ..patient };
                let Some(message) = fhir::encode_discharge(&discharged) else { continue };
                to_json(&args.out, &format!("discharge_{}.json", discharged.id.get()), &message)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Discharged patients with consecutive ids.
///
/// # Errors
/// An id would lie outside 1 to 2147483647.
pub(super) fn patients(seed: u64, first_id: i32, rows: u32) -> Result<impl Iterator<Item = Encounter>> {
    synthetic::encounters(&synthetic::Options { rows: u64::from(rows), seed, first_id })
}

/// The same patient on the day of admission.
pub(super) fn admit(patient: Encounter, admitted: NaiveDate) -> Encounter {
    Encounter { admitted: Phi::new(admitted), discharged: Phi::new(None), ..patient }
}

/// How long the patient stays.
pub(super) fn stay(patient: &Encounter) -> Duration {
    Duration::days(i64::from(patient.stay_days().unwrap_or(0)))
}

/// Writes generated encounters as CSV, telling `progress` how many are written.
pub(super) fn write_encounters(out: &mut dyn Write, options: &synthetic::Options, progress: impl Fn(u64)) -> Result<()> {
    let mut writer = csv::Writer::new(out)?;
    for (index, encounter) in (1u64..).zip(synthetic::encounters(options)?) {
        writer.write(&encounter)?;
        if index.is_multiple_of(1_000) {
            progress(index);
        }
    }
    writer.finish().map(|_| ())
}

/// Creates `path` (or takes standard output) and lets `write` fill it.
pub(super) fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let failed = |cause: io::Error| Error::unavailable(format!("{} cannot be written", path.display())).caused_by(cause);
    let mut out: Box<dyn Write> = match path == Path::new("-") {
        true => Box::new(BufWriter::new(io::stdout().lock())),
        false => Box::new(BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?)),
    };
    write(&mut out)?;
    out.flush().map_err(failed)
}

fn to_json(folder: &Path, name: &str, message: &serde_json::Value) -> Result<()> {
    if folder == Path::new("-") {
        say!("{message}");
        return Ok(());
    }
    super::create_private(folder)?;
    let path = folder.join(name);
    to_file(&path, |out| {
        writeln!(out, "{message:#}")
            .map_err(|cause| Error::unavailable(format!("{} cannot be written", path.display())).caused_by(cause))
    })
}
