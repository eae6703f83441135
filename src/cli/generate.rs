//! `hdai generate`: synthetic inputs. The same seed gives the same bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{Days, NaiveDate};

use crate::codec::{csv, fhir};
use crate::domain::Encounter;
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
    let last_id = i64::from(args.first_id) + i64::from(args.rows);
    if args.first_id < 1 || last_id > i64::from(i32::MAX) {
        return Err(Error::invalid("encounter ids must stay from 1 to 2147483647: choose another --first-id or fewer --rows"));
    }
    let admitted = args.admitted.unwrap_or_else(|| super::now().date_naive());
    match args.what {
        What::Encounters => {
            let options = synthetic::Options { rows: u64::from(args.rows), seed: args.seed, first_id: args.first_id };
            to_file(&args.out, |out| write_encounters(out, synthetic::encounters(&options), |_| ()))?;
        }
        What::Facilities => to_file(&args.out, synthetic::facilities_csv)?,
        What::Admissions => {
            for encounter in admissions(args.seed, args.first_id, args.rows, |_| admitted) {
                let message = match args.shape {
                    Shape::Blueprint => fhir::encode_blueprint_admission(&encounter),
                    Shape::Bundle => fhir::encode_bundle_admission(&encounter),
                };
                to_json(&args.out, &format!("admit_{}.json", encounter.id), &message)?;
            }
        }
        What::Discharges => {
            for (index, mut encounter) in (0u64..).zip(admissions(args.seed, args.first_id, args.rows, |_| admitted)) {
                encounter.discharged = admitted.checked_add_days(Days::new(1 + index % 7));
                to_json(&args.out, &format!("discharge_{}.json", encounter.id), &fhir::encode_discharge(&encounter))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Open encounters with consecutive ids, admitted when `admitted` says for their index.
pub(super) fn admissions(
    seed: u64,
    first_id: i32,
    rows: u32,
    admitted: impl Fn(u32) -> NaiveDate,
) -> impl Iterator<Item = Encounter> {
    (0..rows).map(move |index| {
        // The caller has checked that the ids fit.
        let id = first_id.saturating_add_unsigned(index);
        synthetic::admission(seed, id, admitted(index))
    })
}

/// Writes encounters as CSV, telling `progress` how many are written.
pub(super) fn write_encounters(
    out: &mut dyn Write,
    encounters: impl Iterator<Item = Encounter>,
    progress: impl Fn(u64),
) -> io::Result<()> {
    let mut writer = csv::Writer::new(out)?;
    for (index, encounter) in (1u64..).zip(encounters) {
        writer.write(&encounter)?;
        if index.is_multiple_of(1_000) {
            progress(index);
        }
    }
    writer.flush()
}

/// Creates `path` (or takes standard output) and lets `write` fill it.
pub(super) fn to_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let failed = |cause: io::Error| Error::unavailable(format!("{} cannot be written", path.display())).caused_by(cause);
    if path == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        return write(&mut out).and_then(|()| out.flush()).map_err(failed);
    }
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    write(&mut out).and_then(|()| out.flush()).map_err(failed)
}

fn to_json(folder: &Path, name: &str, message: &serde_json::Value) -> Result<()> {
    if folder == Path::new("-") {
        println!("{message}");
        return Ok(());
    }
    super::create_private(folder)?;
    to_file(&folder.join(name), |out| writeln!(out, "{message:#}"))
}
