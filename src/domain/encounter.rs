//! An encounter: one stay of one patient in one facility.

use std::fmt;

use chrono::NaiveDate;

use super::facility::FacilityId;
use super::patient::{Gender, PersonName, Phi};
use crate::schema::{FEATURE_COUNT, Feature};

/// An encounter's id: the blueprint's `eid`, an SQL `int`, from 1 on. It names a patient's stay, so `Debug` prints a placeholder and there is
/// no `Display`: the record, the trail and an answer call [`EncounterId::get`], a log and an error never do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EncounterId(i32);

impl EncounterId {
    /// An id, if `id` is from 1 to 2147483647.
    pub fn new(id: i64) -> Option<Self> {
        i32::try_from(id).ok().filter(|id| *id >= 1).map(Self)
    }

    /// The number.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Debug for EncounterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncounterId([phi])")
    }
}

/// The values of the 22 clinical features, in [`crate::schema::FEATURES`] order. A missing value is `None`.
#[derive(Clone, PartialEq, Default)]
pub struct Clinical([Option<f64>; FEATURE_COUNT]);

impl Clinical {
    /// The value of `feature`, if known.
    pub fn get(&self, feature: Feature) -> Option<f64> {
        self.0[feature as usize]
    }

    /// Sets or clears the value of `feature`. The caller has checked it with [`crate::schema::Spec::check`].
    pub fn set(&mut self, feature: Feature, value: Option<f64>) {
        self.0[feature as usize] = value;
    }

    /// The features without a value.
    pub fn missing(&self) -> impl Iterator<Item = Feature> + '_ {
        Feature::all().filter(|feature| self.get(*feature).is_none())
    }

    /// The features whose value no ward would expect.
    pub fn out_of_range(&self) -> impl Iterator<Item = Feature> + '_ {
        Feature::all().filter(|feature| self.get(*feature).is_some_and(|value| !feature.spec().is_plausible(value)))
    }
}

impl fmt::Debug for Clinical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clinical([phi]; {} known)", FEATURE_COUNT - self.missing().count())
    }
}

/// Longest stay that is believed, in days.
pub const STAY_DAYS_MAX: i64 = 3650;

/// First and last believable admission date: the years 1900 and 2199.
pub fn is_believable(date: NaiveDate) -> bool {
    use chrono::Datelike;
    (1900..=2199).contains(&date.year())
}

/// One stay of one patient. Open while `discharged` is `None`.
#[derive(Clone, PartialEq)]
pub struct Encounter {
    /// Its id.
    pub id: EncounterId,
    /// The patient's name.
    pub name: PersonName,
    /// The patient's administrative gender.
    pub gender: Gender,
    /// Where.
    pub facility: FacilityId,
    /// Day of admission, in the facility's own time zone.
    pub admitted: Phi<NaiveDate>,
    /// What was measured.
    pub clinical: Clinical,
    /// Day of discharge, in the facility's own time zone; never before `admitted`.
    pub discharged: Phi<Option<NaiveDate>>,
}

impl Encounter {
    /// Whole days from admission to discharge, once discharged: the blueprint's `lengthofstay`, `DATEDIFF(day, vdate, discharged)`.
    pub fn stay_days(&self) -> Option<i32> {
        let days = ((*self.discharged.reveal())? - *self.admitted.reveal()).num_days();
        i32::try_from(days).ok()
    }
}

impl fmt::Debug for Encounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encounter").field("facility", &self.facility).finish_non_exhaustive()
    }
}
