//! Copy another system's table of patients into the record, and compare the two.
//!
//! The table is read three times. The first pass counts and checks its rows and takes their checksum, which names the import: the same
//! rows are the same import, however often this is run. The second stores them in batches under the ledger's checkpoint, as a file's
//! rows are, so that a run that was killed goes on where it stopped. The third reads both sides in the order of their ids and compares
//! every row. A table that changes meanwhile is noticed by its checksum.

mod compare;
mod reading;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

pub use self::compare::{Compared, Difference};
use self::reading::Reading;
use super::import::{hex, import_id, ledger_entry};
use super::receipt::leave_receipt;
use super::{Hospital, Imported};
use crate::domain::import::{Import, Source};
use crate::domain::{Action, AuditEvent, Caller, FacilityId, Outcome};
use crate::error::{Error, Result};
use crate::store::legacy::{Legacy, RowCount};
use crate::store::{Batch, Begun, Finish, Step};

/// What a copy is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Counting and checking the table's rows.
    Survey,
    /// Storing them.
    Copy,
    /// Comparing the table with the record.
    Compare,
}

/// Told how many of how many rows a phase has done.
pub type Progress<'p> = &'p (dyn Fn(Phase, u64, u64) + Send + Sync);

/// What a table holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// Its rows.
    pub rows: u64,
    /// Those that break a rule.
    pub rejected: u64,
    /// How often each rule is broken: column, rule, times.
    pub broken: Vec<(String, String, u64)>,
    /// SHA-256 of its rows, hex.
    pub sha256: String,
}

/// What became of a copy.
#[derive(Debug, Clone)]
pub struct Copied {
    /// The ledger entry at the end, and whether these very rows were copied before.
    pub imported: Imported,
    /// The table.
    pub surveyed: Surveyed,
    /// The comparison; `None` if another process has taken the copy over.
    pub compared: Option<Compared>,
}

impl Copied {
    /// Is every row of the table in the record, or counted as rejected?
    pub fn is_verified(&self) -> bool {
        let counts = &self.imported.import.counts;
        let accounted = counts.stored + counts.updated + counts.unchanged + counts.rejected;
        accounted == self.surveyed.rows && self.compared.as_ref().is_some_and(Compared::agrees)
    }
}

/// Counts and checks the rows of a table; stores nothing and so leaves no audit event.
///
/// # Errors
/// Unavailable, if the table cannot be read.
pub async fn survey_table(
    table: &dyn Legacy,
    facilities: &[FacilityId],
    batch_rows: u32,
    progress: Progress<'_>,
) -> Result<Surveyed> {
    let count = table.count().await?;
    survey(table, facilities, count, batch_rows, progress).await
}

async fn survey(
    table: &dyn Legacy,
    facilities: &[FacilityId],
    count: RowCount,
    batch_rows: u32,
    progress: Progress<'_>,
) -> Result<Surveyed> {
    let mut reading = Reading::new(table, facilities, count)?;
    let mut rejected = 0;
    let mut broken: BTreeMap<(String, String), u64> = BTreeMap::new();
    while let Some(chunk) = reading.next(batch_rows).await? {
        rejected += chunk.rejected_rows;
        for reject in chunk.rejects {
            *broken.entry((reject.column, reject.rule)).or_default() += 1;
        }
        progress(Phase::Survey, reading.done(), count.rows);
    }
    let rows = reading.done();
    if rows != count.rows {
        return Err(changed());
    }
    let broken = broken.into_iter().map(|((column, rule), times)| (column, rule, times)).collect();
    Ok(Surveyed { rows, rejected, broken, sha256: reading.sha256() })
}

fn changed() -> Error {
    Error::conflict("the table changed while it was copied: stop whatever writes to it and run this again; nothing is lost")
}

/// Copies a table into the record, `batch_rows` a transaction, and compares the two.
///
/// # Errors
/// Forbidden; conflict, if the table changes meanwhile; unavailable, if either side is away: run it again.
pub async fn migrate_data(
    caller: &Caller,
    hospital: &Hospital,
    table: &dyn Legacy,
    batch_rows: u32,
    progress: Progress<'_>,
    now: fn() -> DateTime<Utc>,
) -> Result<Copied> {
    hospital.allow(caller, Action::Import, now()).await?;
    let facilities: Vec<FacilityId> = hospital.store.facilities().await?.into_iter().map(|facility| facility.id).collect();
    let count = table.count().await?;
    let surveyed = survey(table, &facilities, count, batch_rows, progress).await?;
    let origin = table.origin();
    let source = Source {
        account: origin.server.clone(),
        container: origin.database.clone(),
        name: origin.table.clone(),
        etag: format!("sha256-{}", surveyed.sha256),
    };
    let imported = match hospital.store.begin_import(&import_id(&source), &source, now()).await? {
        Begun::Over(import) => {
            let audit =
                AuditEvent::new(caller, Action::Import, Outcome::Success, now()).detail(format!("{} was over before", import.id));
            hospital.store.append_audit(&audit).await?;
            leave_receipt(hospital, &import).await?;
            Imported { already: true, ..Imported::of(import) }
        }
        Begun::InParts(..) => return Err(Error::internal("a table was planned in parts, as only a file can be")),
        Begun::Work(entry) => {
            let reading = Reading::new(table, &facilities, count)?;
            copy(caller, hospital, entry, reading, (&surveyed, batch_rows), progress, now).await?
        }
    };
    let compared = match imported.superseded {
        true => None,
        false => {
            let reading = Reading::new(table, &facilities, count)?;
            let compared = compare::compare(hospital, &imported.import, reading, batch_rows, progress).await?;
            if compared.table_sha256 != surveyed.sha256 {
                return Err(changed());
            }
            Some(compared)
        }
    };
    Ok(Copied { imported, surveyed, compared })
}

/// Stores the rows behind the entry's checkpoint and closes the ledger.
async fn copy(
    caller: &Caller,
    hospital: &Hospital,
    entry: Import,
    mut reading: Reading<'_>,
    (surveyed, batch_rows): (&Surveyed, u32),
    progress: Progress<'_>,
    now: fn() -> DateTime<Utc>,
) -> Result<Imported> {
    let id = entry.id.clone();
    let stored = store_rows(hospital, &entry, &mut reading, surveyed, batch_rows, progress).await;
    let whole = match stored {
        Ok(whole) => whole,
        Err(error) => {
            let audit = AuditEvent::new(caller, Action::Import, Outcome::Failure, now()).detail(format!("{id} was interrupted"));
            // The store itself may be what is away; the first error says more.
            if let Err(unheard) = hospital.store.append_audit(&audit).await {
                tracing::error!(import = %id, error = %unheard, "the interruption could not be audited");
            }
            return Err(error);
        }
    };
    if !whole {
        return super::import::superseded(caller, hospital, &id, now()).await;
    }
    let finish = Finish::Done { sha256: surveyed.sha256.clone(), extra_columns: reading.unused().to_vec(), lines: None };
    let audit = AuditEvent::new(caller, Action::Import, Outcome::Success, now()).detail(id.to_string());
    if hospital.store.finish_import(&id, entry.attempt, &finish, &audit).await? == Step::Superseded {
        return super::import::superseded(caller, hospital, &id, now()).await;
    }
    let import = ledger_entry(hospital, &id).await?;
    leave_receipt(hospital, &import).await?;
    Ok(Imported::of(import))
}

/// False if another process has taken over.
async fn store_rows(
    hospital: &Hospital,
    entry: &Import,
    reading: &mut Reading<'_>,
    surveyed: &Surveyed,
    batch_rows: u32,
    progress: Progress<'_>,
) -> Result<bool> {
    // What is stored is read once more: where the rest begins, and the checksum, follow from it.
    while reading.done() < entry.checkpoint {
        let limit = u32::try_from(entry.checkpoint - reading.done()).map_or(batch_rows, |left| left.min(batch_rows));
        reading.next(limit).await?.ok_or_else(changed)?;
    }
    while let Some(chunk) = reading.next(batch_rows).await? {
        let batch = Batch {
            import: entry.id.clone(),
            part: None,
            attempt: entry.attempt,
            after: chunk.after,
            encounters: chunk.encounters,
            lines: chunk.lines,
            rejects: chunk.rejects,
            rejected_rows: chunk.rejected_rows,
        };
        match hospital.store.import_batch(&batch).await? {
            Step::Committed(_) => {}
            Step::Superseded => return Ok(false),
            Step::Busy => return Err(super::import::busy()),
        }
        progress(Phase::Copy, reading.done(), surveyed.rows);
    }
    if reading.sha256() == surveyed.sha256 { Ok(true) } else { Err(changed()) }
}
