//! What is asked of the record for people who read: patients, predictions, and encounters that name nobody. It does not know any SQL.

use chrono::NaiveDate;

use crate::domain::rows::Class;
use crate::domain::{EncounterId, FacilityId, Reach};

/// Which patients are asked for, newest encounter first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientQuery {
    /// Of these facilities alone.
    pub within: Reach,
    /// Those who are in the hospital, or those who have left.
    pub open: bool,
    /// Only those admitted on this day or later.
    pub from: Option<NaiveDate>,
    /// Only those admitted on this day or before.
    pub to: Option<NaiveDate>,
    /// Only those with a smaller id: the last one of the page before.
    pub before: Option<EncounterId>,
    /// How many, at most.
    pub limit: u32,
}

impl PatientQuery {
    /// The letters of the facilities; every letter there can be for all.
    pub(super) fn letters(&self) -> String {
        match &self.within {
            Reach::All => "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".to_owned(),
            Reach::Only(facilities) => facilities.iter().map(|facility| facility.letter()).collect(),
        }
    }
}

/// When an open encounter is predicted to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// Nothing was predicted.
    Unpredicted,
    /// It should have ended before today.
    Overdue,
    /// In so many days; 0 is today.
    In(u32),
    /// Later than was asked for.
    Later,
}

impl Due {
    /// Reads what the statements write: -2 for unpredicted, -1 for overdue, a day up to `days`, or more.
    pub(super) fn of(number: i64, days: u32) -> Self {
        match u32::try_from(number) {
            Ok(day) if day <= days => Due::In(day),
            Ok(_) => Due::Later,
            Err(_) if number == -1 => Due::Overdue,
            Err(_) => Due::Unpredicted,
        }
    }
}

/// Open encounters of a facility that are predicted to end at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// The facility.
    pub facility: FacilityId,
    /// When.
    pub due: Due,
    /// How many, at least 1.
    pub encounters: u64,
}

/// How far the predictions of a facility's stays were off, as sums over those stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accuracy {
    /// The facility.
    pub facility: FacilityId,
    /// Stays that ended and had a prediction, at least 1.
    pub stays: u64,
    /// Days off, whichever way.
    pub off_days: f64,
    /// Days that they took longer than predicted, less those that they took shorter.
    pub longer_days: f64,
    /// Stays that were off by one day or less.
    pub within_day: u64,
    /// Stays inside the 80 % interval.
    pub inside80: u64,
    /// Stays inside the 90 % interval.
    pub inside90: u64,
}

/// How many encounters share what others may know of a patient: the year of admission, the facility and the gender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowCell {
    /// What they share.
    pub class: Class,
    /// How many.
    pub encounters: u64,
    /// How many of them have each of the conditions, in the order of the clinical table.
    pub conditions: Vec<u64>,
}

/// Ids that lie side by side: bucket `n` is of the ids from `n * BUCKET_IDS` up to before the next bucket.
pub const BUCKET_IDS: i32 = 128;

/// What must be known of all encounters before one of them is shown without a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowSurvey {
    /// Every class that there is.
    pub cells: Vec<RowCell>,
    /// Every bucket of ids with an encounter in it, in order, and how many it has.
    pub buckets: Vec<(i32, u64)>,
}
