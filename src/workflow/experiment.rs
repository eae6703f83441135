//! Run an experiment on the record or on rows the caller brought, keep what came of it, and read what is kept.
//!
//! Results are files of their owner alone in `experiments/` of the folder of local state: counts and averages, no patient's value.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::{Hospital, blocking};
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Result};
use crate::predict::TrainingSet;
use crate::predict::experiment::{EXPERIMENT_FORMAT, Experiment, ExperimentReport, run};

/// Rows read from the store at once.
const PAGE_ROWS: u32 = 5_000;
/// Largest stored result that is read, bytes.
const RESULT_BYTES_MAX: u64 = 1 << 20;
/// Most stored results that are read at once.
const RESULTS_MAX: usize = 1_000;

/// An experiment that ran, and where its result lies.
#[derive(Debug)]
pub struct Experimented {
    /// The result.
    pub report: ExperimentReport,
    /// Its file.
    pub path: PathBuf,
    /// The rows of the result that it replaced, if they were others.
    pub replaced_other_data: bool,
}

/// Runs an experiment on `rows`, or on every discharged encounter in the record, and keeps the result in place of an earlier one of the
/// same file.
///
/// # Errors
/// The caller may not train, the experiment cannot run on these rows, or the record or the folder is away.
pub async fn run_experiment(
    caller: &Caller,
    hospital: &Hospital,
    experiment: Experiment,
    rows: Option<TrainingSet>,
    now: DateTime<Utc>,
) -> Result<Experimented> {
    hospital.allow(caller, Action::Train, now).await?;
    let id = experiment.id();
    let done = measure(hospital, experiment, rows).await;
    let (outcome, detail) = match &done {
        Ok(_) => (Outcome::Success, format!("experiment {id}")),
        Err(_) => (Outcome::Failure, format!("experiment {id} failed")),
    };
    hospital.store.append_audit(&AuditEvent::new(caller, Action::Train, outcome, now).detail(detail)).await?;
    done
}

async fn measure(hospital: &Hospital, experiment: Experiment, rows: Option<TrainingSet>) -> Result<Experimented> {
    let set = match rows {
        Some(set) => set,
        None => recorded(hospital).await?,
    };
    let path = result_path(hospital, &experiment);
    blocking(move || {
        let report = run(&experiment, &set)?;
        // An earlier result that cannot be read is not worth keeping.
        let earlier = if path.exists() { read(&path).ok() } else { None };
        let replaced_other_data = earlier.is_some_and(|earlier| earlier.data_fingerprint != report.data_fingerprint);
        write(&path, &report)?;
        Ok(Experimented { report, path, replaced_other_data })
    })
    .await
}

/// Every discharged encounter in the record.
async fn recorded(hospital: &Hospital) -> Result<TrainingSet> {
    let mut set = TrainingSet::new();
    let mut after = None;
    loop {
        let page = hospital.store.discharged_encounters(after, PAGE_ROWS).await?;
        let Some(last) = page.last() else { return Ok(set) };
        after = Some(last.id);
        for encounter in &page {
            set.push(encounter);
        }
    }
}

/// The stored results of `experiments`, in that order.
///
/// # Errors
/// The caller may not read models; an experiment has not run; a result cannot be read.
pub async fn experiment_results(
    caller: &Caller,
    hospital: &Hospital,
    experiments: &[Experiment],
    now: DateTime<Utc>,
) -> Result<Vec<ExperimentReport>> {
    note(caller, hospital, now).await?;
    let paths: Vec<(String, PathBuf)> =
        experiments.iter().map(|experiment| (experiment.name().to_owned(), result_path(hospital, experiment))).collect();
    blocking(move || {
        let stored = |(name, path): &(String, PathBuf)| match path.exists() {
            true => read(path),
            false => Err(Error::not_found(format!(
                "the experiment {name} has not run as its file now is: run it with `hdai experiment run FILE`"
            ))),
        };
        paths.iter().map(stored).collect()
    })
    .await
}

/// Every stored result, by file name.
///
/// # Errors
/// The caller may not read models, there are more than are read at once, or one cannot be read.
pub async fn all_experiment_results(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<Vec<ExperimentReport>> {
    note(caller, hospital, now).await?;
    let folder = folder(hospital);
    blocking(move || {
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let away = |cause| Error::unavailable(format!("the folder {} cannot be read", folder.display())).caused_by(cause);
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder).map_err(away)? {
            let path = entry.map_err(away)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        if paths.len() > RESULTS_MAX {
            return Err(Error::invalid(format!(
                "there are more than {RESULTS_MAX} results in {}: name the experiment files to compare, or remove old results",
                folder.display()
            )));
        }
        paths.sort();
        paths.iter().map(|path| read(path)).collect()
    })
    .await
}

async fn note(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<()> {
    hospital.allow(caller, Action::ReadModel, now).await?;
    let event = AuditEvent::new(caller, Action::ReadModel, Outcome::Success, now).detail("experiments");
    hospital.store.append_audit(&event).await
}

fn folder(hospital: &Hospital) -> PathBuf {
    hospital.config.folder.join("experiments")
}

fn result_path(hospital: &Hospital, experiment: &Experiment) -> PathBuf {
    folder(hospital).join(format!("{}.json", experiment.id()))
}

fn read(path: &Path) -> Result<ExperimentReport> {
    let away = |cause| Error::unavailable(format!("the result {} cannot be read", path.display())).caused_by(cause);
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(away)?.take(RESULT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(away)?;
    let foreign =
        || Error::invalid(format!("{} is no result of this version of the program: run its experiment again", path.display()));
    if bytes.len() as u64 > RESULT_BYTES_MAX {
        return Err(foreign());
    }
    let report: ExperimentReport = serde_json::from_slice(&bytes).map_err(|cause| foreign().caused_by(cause))?;
    if report.format != EXPERIMENT_FORMAT {
        return Err(foreign());
    }
    Ok(report)
}

/// Whole or not at all, and never readable by others.
fn write(path: &Path, report: &ExperimentReport) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(report)
        .map_err(|cause| Error::internal("the experiment's result cannot be written as JSON").caused_by(cause))?;
    json.push(b'\n');
    let put = || {
        if let Some(folder) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(folder)?;
        }
        // Another run of the same experiment writes to a file of its own.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&fresh)?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    put().map_err(|cause: std::io::Error| {
        Error::unavailable(format!("the result {} cannot be written: check the folder", path.display())).caused_by(cause)
    })
}
