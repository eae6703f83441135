//! Back-fill: predict for the open encounters that have no prediction, because no model was there when they came in.

use chrono::{DateTime, Utc};

use super::{Hospital, blocking};
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Result};

/// Encounters predicted in one transaction.
const PAGE_ROWS: u32 = 2_000;

/// Predicts for every open encounter that has no prediction; answers how many took one.
///
/// # Errors
/// The caller may not train models, no model is trained yet, or the record is away. What is committed before stays.
pub async fn backfill(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<u64> {
    hospital.allow(caller, Action::Train, now).await?;
    let model = hospital
        .champion()
        .await?
        .ok_or_else(|| Error::not_found("no model is trained yet: import discharged encounters and run `hdai train`"))?;
    let (mut after, mut taken) = (None, 0);
    loop {
        let page = hospital.store.unpredicted_encounters(after, PAGE_ROWS).await?;
        let Some(last) = page.last() else { return Ok(taken) };
        after = Some(last.id);
        let model = std::sync::Arc::clone(&model);
        let predictions = blocking(move || {
            let said = model.predict_all(&page);
            Ok(page.iter().map(|encounter| encounter.id).zip(said).collect::<Vec<_>>())
        })
        .await?;
        let audit = AuditEvent::new(caller, Action::Train, Outcome::Success, now).detail("predictions back-filled");
        taken += hospital.store.save_predictions(&predictions, &audit).await?;
    }
}
