//! Trained models: kept for ever, the newest promoted one is the champion.

use rusqlite::{Connection, OptionalExtension, Row, Transaction};

use super::fault::Outcome;
use super::values::{count, instant, instant_text, signed};
use super::{audit, outbox, sql};
use crate::domain::model::ModelRecord;
use crate::domain::{AuditEvent, Fact};
use crate::store::rules;

/// Keeps `model`; a version is kept once.
pub(super) fn save(transaction: &Transaction<'_>, model: &ModelRecord, event: &AuditEvent) -> Outcome<()> {
    rules::check_model(model)?;
    if transaction.prepare_cached(&sql::MODEL_EXISTS)?.exists([&model.version])? {
        return Err(rules::version_is_taken().into());
    }
    transaction.prepare_cached(&sql::INSERT_MODEL)?.execute((
        &model.version,
        instant_text(model.trained),
        signed(model.rows)?,
        &model.schema_fingerprint,
        &model.metrics,
        model.promoted,
        &model.reason,
        &model.bytes,
    ))?;
    outbox::announce(transaction, event, &Fact::ModelTrained(model.version.clone()))?;
    audit::append(transaction, event)
}

/// The champion's version.
pub(super) fn champion_version(connection: &Connection) -> Outcome<Option<String>> {
    Ok(connection.prepare_cached(&sql::CHAMPION_VERSION)?.query_row([], |row| row.get(0)).optional()?)
}

/// The champion, with its bytes.
pub(super) fn champion(connection: &Connection) -> Outcome<Option<ModelRecord>> {
    let mut statement = connection.prepare_cached(&sql::CHAMPION)?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(ModelRecord { bytes: row.get("bytes")?, ..read(row)? }))
}

/// The newest models, newest first, without their bytes.
pub(super) fn newest(connection: &Connection, limit: u32) -> Outcome<Vec<ModelRecord>> {
    connection.prepare_cached(&sql::MODELS)?.query_and_then([limit], read)?.collect()
}

fn read(row: &Row<'_>) -> Outcome<ModelRecord> {
    Ok(ModelRecord {
        version: row.get("version")?,
        trained: instant(&row.get::<_, String>("trained")?)?,
        rows: count(row, "trainingrows")?,
        schema_fingerprint: row.get("schemafingerprint")?,
        metrics: row.get("metrics")?,
        promoted: row.get("promoted")?,
        reason: row.get("reason")?,
        bytes: Vec::new(),
    })
}
