//! What was predicted, and how far it was off: sums by facility, and the newest predictions without a name.

use chrono::{DateTime, Days, NaiveDate, Utc};

use super::Hospital;
use super::read::note;
use crate::domain::{Action, Caller, Facility, Prediction};
use crate::error::Result;
use crate::store::{Accuracy, Expected};

/// Days ahead that discharges are counted for, each.
pub const DAYS_AHEAD_MAX: u32 = 30;

/// Most predictions that are listed.
pub const NEWEST_MAX: u32 = 100;

/// The spans, in days, that predictions are judged over. A few set ones, for two that differ by a day would tell of that day's patients.
pub const JUDGED_DAYS: [u32; 3] = [30, 90, 365];

/// What was predicted, and how far it was off.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// The day of the report.
    pub today: NaiveDate,
    /// Every facility, by id.
    pub facilities: Vec<Facility>,
    /// Open encounters by when they are predicted to end, up to [`DAYS_AHEAD_MAX`] days ahead.
    pub expected: Vec<Expected>,
    /// How far predictions were off.
    pub accuracy: Vec<Accuracy>,
    /// The same over each of the longer spans, which hold those stays and more.
    pub longer: Vec<Accuracy>,
    /// The newest predictions, by pseudonym: their order tells nothing.
    pub newest: Vec<Foretold>,
}

/// A prediction without a name, a place or a stay: with those a list of the newest would tell what is withheld of small groups.
#[derive(Debug, Clone, PartialEq)]
pub struct Foretold {
    /// Stands for the encounter.
    pub pseudonym: String,
    /// What was predicted.
    pub prediction: Prediction,
}

/// The report of today: judged over the last `days_back` days, with the `newest` newest predictions.
///
/// # Errors
/// The caller may not read it, or the record is away.
pub async fn predictions(
    caller: &Caller,
    hospital: &Hospital,
    days_back: u32,
    newest: u32,
    now: DateTime<Utc>,
) -> Result<Predictions> {
    note(hospital, caller, Action::ReadPredictions, "today", now).await?;
    let (store, today) = (&hospital.store, now.date_naive());
    let since = |days: u32| today.checked_sub_days(Days::new(days.into())).unwrap_or(today);
    let mut longer = Vec::new();
    for days in JUDGED_DAYS.into_iter().filter(|days| *days > days_back) {
        longer.extend(store.accuracy(since(days), today).await?);
    }
    let foretold = store.newest_predictions(newest.min(NEWEST_MAX)).await?.into_iter().filter_map(|stored| {
        Some(Foretold { pseudonym: hospital.pseudonyms.foretold(stored.encounter.id), prediction: stored.prediction? })
    });
    let mut newest: Vec<_> = foretold.collect();
    newest.sort_by(|one, other| one.pseudonym.cmp(&other.pseudonym));
    Ok(Predictions {
        today,
        newest,
        longer,
        facilities: store.facilities().await?,
        expected: store.expected_discharges(today, DAYS_AHEAD_MAX).await?,
        accuracy: store.accuracy(since(days_back), today).await?,
    })
}
