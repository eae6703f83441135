//! The statements of an admission with its audit event, beside the insert alone. The record has no admission without an event, so finished
//! admissions are copied, by turns, into two new records of the same schema and durability: into one with an event, its hash and the chain's
//! head, as the record does it; into the other without.

use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::SecondsFormat;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{Times, admission};
use crate::domain::{AuditEvent, AuditRow, Encounter};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::sqlite::Sqlite;

/// Microseconds with and without the events, of the admissions of `patients`, which are in the record at `made`.
pub(super) async fn run(made: PathBuf, records: [PathBuf; 2], patients: &[Encounter]) -> Result<(f64, f64)> {
    for path in &records {
        Sqlite::open(path.clone())?.migrate().await?;
    }
    let events: Vec<AuditEvent> = patients.iter().map(admission).collect();
    let copied = tokio::task::spawn_blocking(move || by_turns(&made, records, &events));
    let copied = copied.await.map_err(|_| Error::internal("a worker thread stopped"))?;
    copied.map_err(|cause| Error::internal("the admissions cannot be copied").caused_by(cause))
}

fn by_turns(made: &Path, [with, without]: [PathBuf; 2], events: &[AuditEvent]) -> rusqlite::Result<(f64, f64)> {
    let (mut with, mut without) = (open(&with, made)?, open(&without, made)?);
    let (mut times_with, mut times_without) = (Times::default(), Times::default());
    for event in events {
        let begun = Instant::now();
        let transaction = with.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert(&transaction, event)?;
        append(&transaction, event)?;
        transaction.commit()?;
        times_with.note(begun);

        let begun = Instant::now();
        let transaction = without.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert(&transaction, event)?;
        transaction.commit()?;
        times_without.note(begun);
    }
    Ok((times_with.median(), times_without.median()))
}

fn open(path: &Path, made: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    connection.execute("ATTACH ?1 AS made", [made.to_string_lossy()])?;
    Ok(connection)
}

/// The row of the encounter that `event` is about.
fn insert(transaction: &Transaction<'_>, event: &AuditEvent) -> rusqlite::Result<()> {
    let sql = "INSERT INTO main.PatientData SELECT * FROM made.PatientData WHERE eid = ?1";
    match transaction.prepare_cached(sql)?.execute([event.encounter.map(|id| id.get())])? {
        1 => Ok(()),
        stored => Err(rusqlite::Error::StatementChangedRows(stored)),
    }
}

fn append(transaction: &Transaction<'_>, event: &AuditEvent) -> rusqlite::Result<()> {
    let advance = "UPDATE main.audithead SET place = place + 1 WHERE chain = 0 RETURNING place, hash";
    let head = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
    let (place, previous) = transaction.prepare_cached(advance)?.query_row([], head)?;
    let row = AuditRow::of(event);
    let hash = row.hash(0, place.unsigned_abs(), &previous);
    let sql = "INSERT INTO main.audit (at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail, chain, place, hash) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, ?11, ?12)";
    transaction.prepare_cached(sql)?.execute(params![
        event.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        row.caller,
        row.roles,
        row.proof,
        row.correlation,
        row.origin,
        row.action,
        row.outcome,
        row.encounter,
        row.detail,
        place,
        hash
    ])?;
    transaction.prepare_cached("UPDATE main.audithead SET hash = ?1 WHERE chain = 0")?.execute([hash]).map(drop)
}
