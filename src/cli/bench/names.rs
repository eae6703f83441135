//! What the encryption of names costs: the same rows and admissions in two SQLite files, one with names encrypted and one as they are.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use crate::cli::{caller, generate, local, now, thousands};
use crate::domain::import::{ImportId, Source};
use crate::domain::{Action, AuditEvent, Encounter, Outcome, PersonName};
use crate::error::{Error, Result};
use crate::store::sealed::{KeyFile, Sealed};
use crate::store::sqlite::Sqlite;
use crate::store::{Admitted, Batch, Begun, Step, Store};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Rows stored by an import
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    rows: u32,
    /// Admissions, one after the other
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    admissions: u32,
}

/// Rows of a batch, as an import has them.
const BATCH_ROWS: usize = 4_000;

pub(super) async fn run(args: &Args) -> Result<ExitCode> {
    let rows = named(1, 1, args.rows)?;
    let patients: Vec<_> = named(2, 100_000_001, args.admissions)?;
    let scratch = local::Scratch::new("names")?;
    let open = |name: &str| Sqlite::open(scratch.path().join(name)).map(Arc::new);
    let plain = open("plain.db")?;
    let key = Arc::new(KeyFile::new(scratch.path().join("data.key")));
    let sealed = Sealed::new(open("sealed.db")?, key, now);
    let mut seconds = Vec::new();
    for store in [&*plain as &dyn Store, &sealed] {
        store.migrate().await?;
        seconds.push((import(store, &rows).await?, admit(store, &patients).await?, read(store, &rows).await?));
    }
    let [plain, sealed] = seconds.as_slice() else { return Err(Error::internal("two records were measured")) };
    say!("{:<36} {:>14} {:>14} {:>8}", "", "plain names", "encrypted", "ratio");
    let line = |what: &str, plain: f64, sealed: f64, unit: f64| {
        say!("{what:<36} {:>14.2} {:>14.2} {:>8.2}", plain * unit, sealed * unit, sealed / plain);
    };
    line(&format!("{} rows stored, s", thousands(args.rows.into())), plain.0, sealed.0, 1.0);
    line("an admission, ms", plain.1, sealed.1, 1e3);
    line(&format!("{} rows read with names, s", thousands(args.rows.into())), plain.2, sealed.2, 1.0);
    Ok(ExitCode::SUCCESS)
}

/// Encounters whose names have three parts.
pub(super) fn named(seed: u64, first_id: i32, rows: u32) -> Result<Vec<Encounter>> {
    let name =
        |id: i32| PersonName::new(format!("Given{}", id % 997), format!("Middle{}", id % 89), format!("Family{}", id % 4_999));
    Ok(generate::patients(seed, first_id, rows)?.map(|patient| Encounter { name: name(patient.id.get()), ..patient }).collect())
}

async fn import(store: &dyn Store, rows: &[Encounter]) -> Result<f64> {
    let source = Source { account: "bench".into(), container: "bench".into(), name: "bench".into(), etag: "1".into() };
    let id = ImportId("0".repeat(32));
    let Begun::Work(entry) = store.begin_import(&id, &source, now()).await? else { return Err(Error::internal("it is over")) };
    let (begun, mut after) = (Instant::now(), 0);
    for encounters in rows.chunks(BATCH_ROWS) {
        let (encounters, lines) = (encounters.to_vec(), vec![0; encounters.len()]);
        let count = encounters.len() as u64;
        let (rejects, rejected_rows) = (Vec::new(), 0);
        let batch =
            Batch { import: id.clone(), part: None, attempt: entry.attempt, after, encounters, lines, rejects, rejected_rows };
        match store.import_batch(&batch).await? {
            Step::Committed(counts) if counts.stored == count => after += count,
            _ => return Err(Error::internal("a batch was not stored")),
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Seconds for each.
async fn admit(store: &dyn Store, patients: &[Encounter]) -> Result<f64> {
    let begun = Instant::now();
    for patient in patients {
        let event = AuditEvent::new(&caller(), Action::Admit, Outcome::Success, now()).about(patient.id);
        if store.admit(patient, None, &event).await? != Admitted::Now {
            return Err(Error::internal("an admission was not new"));
        }
    }
    Ok(begun.elapsed().as_secs_f64() / patients.len() as f64)
}

async fn read(store: &dyn Store, rows: &[Encounter]) -> Result<f64> {
    let (begun, mut after, mut count) = (Instant::now(), None, 0);
    while let Some(page) = Some(store.encounters(after, BATCH_ROWS as u32).await?).filter(|page| !page.is_empty()) {
        after = page.last().map(|encounter| encounter.id);
        count += page.len();
    }
    if count < rows.len() {
        return Err(Error::internal("rows are missing"));
    }
    Ok(begun.elapsed().as_secs_f64())
}
