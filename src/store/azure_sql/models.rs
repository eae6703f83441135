//! Trained models: kept for ever, the newest promoted one is the champion.

use tiberius::Row;

use super::connection::Parameter;
use super::fault::Outcome;
use super::pool::Session;
use super::sql::Statements;
use super::values::{bytes, count, instant, number, signed, text};
use super::{audit, outbox};
use crate::domain::model::ModelRecord;
use crate::domain::{AuditEvent, Fact};
use crate::store::rules;

/// Keeps `model`; a version is kept once. Whoever loses a race for the version is tried again and finds it taken.
pub(super) async fn save(session: &mut Session, sql: &Statements, model: &ModelRecord, event: &AuditEvent) -> Outcome<()> {
    rules::check_model(model)?;
    if session.row(&sql.model_exists, &[Parameter::Text(&model.version)]).await?.is_some() {
        return Err(rules::version_is_taken().into());
    }
    let values = [
        Parameter::Text(&model.version),
        Parameter::Instant(model.trained),
        Parameter::Long(Some(signed(model.rows)?)),
        Parameter::Text(&model.schema_fingerprint),
        Parameter::Text(&model.metrics),
        Parameter::Flag(model.promoted),
        Parameter::Text(&model.reason),
        Parameter::Bytes(&model.bytes),
    ];
    session.execute(&sql.insert_model, &values).await?;
    outbox::announce(session, sql, event, &Fact::ModelTrained(model.version.clone())).await?;
    audit::append(session, sql, event).await
}

/// The champion's version.
pub(super) async fn champion_version(session: &mut Session, sql: &Statements) -> Outcome<Option<String>> {
    let row = session.row(&sql.champion_version, &[]).await?;
    row.map(|row| text(&row, 0).map(str::to_owned)).transpose()
}

/// The champion, with its bytes.
pub(super) async fn champion(session: &mut Session, sql: &Statements) -> Outcome<Option<ModelRecord>> {
    let row = session.row(&sql.champion, &[]).await?;
    row.map(|row| Ok(ModelRecord { bytes: bytes(&row, "bytes")?, ..read(&row)? })).transpose()
}

/// The newest models, newest first, without their bytes.
pub(super) async fn newest(session: &mut Session, sql: &Statements, limit: u32) -> Outcome<Vec<ModelRecord>> {
    let rows = session.rows(&sql.models, &[Parameter::Long(Some(limit.into()))]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Outcome<ModelRecord> {
    Ok(ModelRecord {
        version: text(row, "version")?.to_owned(),
        trained: instant(row, "trained")?,
        rows: count(row, "trainingrows")?,
        schema_fingerprint: text(row, "schemafingerprint")?.to_owned(),
        metrics: text(row, "metrics")?.to_owned(),
        promoted: number(row, "promoted")? == 1,
        reason: text(row, "reason")?.to_owned(),
        bytes: Vec::new(),
    })
}
