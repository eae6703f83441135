//! The reports: bounded, without patient values, each with its audit event.

use chrono::{DateTime, Days, Utc};

use super::Hospital;
use crate::domain::alert::LIST;
use crate::domain::anomaly::Survey;
use crate::domain::import::{Import, ImportId, Reject};
use crate::domain::model::ModelRecord;
use crate::domain::{Action, AuditEvent, AuditRow, Caller, Outcome};
use crate::error::{Error, Result};
use crate::store::{AuditQuery, Census, Totals};

/// Most entries of one answer.
const ENTRIES_MAX: u32 = 1_000;

pub(super) async fn note(hospital: &Hospital, caller: &Caller, action: Action, detail: &str, now: DateTime<Utc>) -> Result<()> {
    hospital.allow(caller, action, now).await?;
    hospital.store.append_audit(&AuditEvent::new(caller, action, Outcome::Success, now).detail(detail)).await
}

/// The newest imports, at most `limit`.
///
/// # Errors
/// The caller may not read them, or the record is away; so for every report.
pub async fn imports(caller: &Caller, hospital: &Hospital, limit: u32, now: DateTime<Utc>) -> Result<Vec<Import>> {
    note(hospital, caller, Action::ReadImports, "list", now).await?;
    hospital.store.imports(limit.min(ENTRIES_MAX)).await
}

/// One import.
///
/// # Errors
/// As [`imports`], and there is none of this id.
pub async fn import_entry(caller: &Caller, hospital: &Hospital, id: &ImportId, now: DateTime<Utc>) -> Result<Import> {
    note(hospital, caller, Action::ReadImports, "one", now).await?;
    hospital.store.import(id).await?.ok_or_else(|| Error::not_found("no import has this id: list them with GET /api/imports"))
}

/// An import's rejects in line order, after `after` of them, at most `limit`.
///
/// # Errors
/// As [`import_entry`].
pub async fn rejects(
    caller: &Caller,
    hospital: &Hospital,
    id: &ImportId,
    after: u64,
    limit: u32,
    now: DateTime<Utc>,
) -> Result<Vec<Reject>> {
    import_entry(caller, hospital, id, now).await?;
    hospital.store.rejects(id, after, limit.min(ENTRIES_MAX)).await
}

/// Every facility's census today, with the discharges expected within `days_ahead` days (at most 30).
///
/// # Errors
/// As [`imports`].
pub async fn census(caller: &Caller, hospital: &Hospital, days_ahead: u64, now: DateTime<Utc>) -> Result<Vec<Census>> {
    note(hospital, caller, Action::ReadCensus, "today", now).await?;
    let today = now.date_naive();
    let until = today.checked_add_days(Days::new(days_ahead.min(30))).unwrap_or(today);
    hospital.store.census(today, until).await
}

/// How many encounters there are.
///
/// # Errors
/// As [`imports`].
pub async fn totals(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<Totals> {
    note(hospital, caller, Action::ReadCensus, "totals", now).await?;
    hospital.store.totals().await
}

/// What the newest look at the stays found, at most `limit` findings; `None` before the first.
///
/// # Errors
/// As [`imports`].
pub async fn anomalies(caller: &Caller, hospital: &Hospital, limit: u32, now: DateTime<Utc>) -> Result<Option<Survey>> {
    note(hospital, caller, Action::ReadAnomalies, "list", now).await?;
    hospital.store.survey(limit.min(ENTRIES_MAX)).await
}

/// The newest models, at most `limit`, without their bytes.
///
/// # Errors
/// As [`imports`].
pub async fn models(caller: &Caller, hospital: &Hospital, limit: u32, now: DateTime<Utc>) -> Result<Vec<ModelRecord>> {
    note(hospital, caller, Action::ReadModel, "list", now).await?;
    hospital.store.models(limit.min(ENTRIES_MAX)).await
}

/// The champion's record.
///
/// # Errors
/// As [`imports`], and no model was trained yet.
pub async fn champion_report(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<ModelRecord> {
    note(hospital, caller, Action::ReadModel, "champion", now).await?;
    hospital
        .store
        .champion()
        .await?
        .ok_or_else(|| Error::not_found("no model is trained yet: import discharged encounters or run `hdai train`"))
}

/// The audit events that `query` asks for, newest first, with their numbers in the trail.
///
/// # Errors
/// As [`imports`].
pub async fn audit_trail(
    caller: &Caller,
    hospital: &Hospital,
    query: &AuditQuery,
    now: DateTime<Utc>,
) -> Result<Vec<(u64, AuditRow)>> {
    note(hospital, caller, Action::ReadAudit, LIST, now).await?;
    hospital.store.audit_page(&AuditQuery { limit: query.limit.min(ENTRIES_MAX), ..query.clone() }).await
}
