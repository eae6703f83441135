//! The one feature function: an encounter becomes a [`Row`], in training and in serving alike, with the same rounding.
//!
//! It reads the clinical values, gender, facility and day of admission. It does not read ids, names or the day of discharge; the
//! stay is a label, never a feature.

use chrono::Datelike;

use crate::domain::{Encounter, FacilityId, Gender};
use crate::schema::{FEATURE_COUNT, FEATURES, Feature, Shape};

/// Measurements of the schema.
pub(super) const MEASUREMENTS: [Feature; MEASUREMENT_COUNT] = measurements();
/// Conditions of the schema.
pub(super) const CONDITIONS: [Feature; CONDITION_COUNT] = conditions();
/// How many measurements the schema has.
pub(super) const MEASUREMENT_COUNT: usize = count(true);
/// How many conditions the schema has.
pub(super) const CONDITION_COUNT: usize = count(false);
/// Readmission classes: 0 to 4, and 5 or more.
pub(super) const READMISSION_LEVELS: usize = 6;
/// Facility ids that can be: A to Z and 0 to 9.
pub(super) const FACILITY_COUNT: usize = 36;
/// Genders with an effect of their own; unknown is missing.
pub(super) const GENDER_COUNT: usize = 3;

const MISSING: u8 = u8::MAX;
const NO_STAY: u16 = u16::MAX;

const fn count(measurements: bool) -> usize {
    let (mut i, mut n) = (0, 0);
    while i < FEATURE_COUNT {
        let wanted = match FEATURES[i].shape {
            Shape::Measurement(_) => measurements,
            Shape::Condition => !measurements,
            Shape::Readmissions => false,
        };
        n += wanted as usize;
        i += 1;
    }
    n
}

const fn measurements() -> [Feature; MEASUREMENT_COUNT] {
    let mut out = [FEATURES[0].feature; MEASUREMENT_COUNT];
    let (mut i, mut n) = (0, 0);
    while i < FEATURE_COUNT {
        if matches!(FEATURES[i].shape, Shape::Measurement(_)) {
            out[n] = FEATURES[i].feature;
            n += 1;
        }
        i += 1;
    }
    out
}

const fn conditions() -> [Feature; CONDITION_COUNT] {
    let mut out = [FEATURES[0].feature; CONDITION_COUNT];
    let (mut i, mut n) = (0, 0);
    while i < FEATURE_COUNT {
        if matches!(FEATURES[i].shape, Shape::Condition) {
            out[n] = FEATURES[i].feature;
            n += 1;
        }
        i += 1;
    }
    out
}

/// What the model may know of an encounter, in 56 bytes. Measurements are held as `f32`; a missing one is NaN.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) numbers: [f32; MEASUREMENT_COUNT],
    /// Days from the common era; orders rows in time, never a feature.
    pub(super) admitted: i32,
    /// Bit `c`: condition `c` is known.
    pub(super) known: u16,
    /// Bit `c`: condition `c` is present.
    pub(super) present: u16,
    stay: u16,
    readmissions: u8,
    gender: u8,
    pub(super) facility: u8,
}

// Ten million rows within a gigabyte, with room to sort them.
const _: () = assert!(size_of::<Row>() <= 56);

impl Row {
    /// Reads an encounter. A value that [`crate::schema::Spec::check`] calls impossible is missing.
    pub(super) fn of(encounter: &Encounter) -> Self {
        let value = |feature: Feature| encounter.clinical.get(feature).filter(|value| feature.spec().check(*value).is_ok());
        let mut row = Row {
            numbers: MEASUREMENTS.map(|feature| value(feature).map_or(f32::NAN, |value| value as f32)),
            admitted: encounter.admitted.reveal().num_days_from_ce(),
            known: 0,
            present: 0,
            stay: NO_STAY,
            // Checked: a whole number from 0 to 5.
            readmissions: value(Feature::Readmissions).map_or(MISSING, |value| value as u8),
            gender: match encounter.gender {
                Gender::Female => 0,
                Gender::Male => 1,
                Gender::Other => 2,
                Gender::Unknown => MISSING,
            },
            facility: facility_slot(encounter.facility),
        };
        for (bit, feature) in CONDITIONS.iter().enumerate() {
            if let Some(value) = value(*feature) {
                row.known |= 1 << bit;
                row.present |= u16::from(value == 1.0) << bit;
            }
        }
        row
    }

    /// Reads an encounter and its stay. `None` while there is no believable stay.
    pub(super) fn labelled(encounter: &Encounter) -> Option<Self> {
        let days = encounter.stay_days()?;
        let stay = u16::try_from(days).ok().filter(|days| i64::from(*days) <= crate::domain::encounter::STAY_DAYS_MAX)?;
        Some(Row { stay, ..Row::of(encounter) })
    }

    /// The label, days.
    pub(super) fn stay_days(&self) -> f64 {
        f64::from(self.stay)
    }

    /// Readmission class, 0 to 5.
    pub(super) fn readmissions(&self) -> Option<usize> {
        (self.readmissions != MISSING).then_some(usize::from(self.readmissions))
    }

    /// 0 female, 1 male, 2 other.
    pub(super) fn gender(&self) -> Option<usize> {
        (self.gender != MISSING).then_some(usize::from(self.gender))
    }

    pub(super) fn number(&self, measurement: usize) -> Option<f32> {
        Some(self.numbers[measurement]).filter(|value| !value.is_nan())
    }

    pub(super) fn condition(&self, condition: usize) -> Option<bool> {
        (self.known >> condition & 1 == 1).then_some(self.present >> condition & 1 == 1)
    }

    /// Bit `f`: feature `f` of the schema is missing.
    pub(super) fn missing(&self) -> u32 {
        let mut mask = u32::from(self.readmissions == MISSING) << Feature::Readmissions as usize;
        for (slot, feature) in MEASUREMENTS.iter().enumerate() {
            mask |= u32::from(self.numbers[slot].is_nan()) << *feature as usize;
        }
        for (slot, feature) in CONDITIONS.iter().enumerate() {
            mask |= u32::from(self.known >> slot & 1 == 0) << *feature as usize;
        }
        mask
    }

    /// Makes `feature` missing.
    pub(super) fn blank(&mut self, feature: Feature) {
        if feature == Feature::Readmissions {
            self.readmissions = MISSING;
        }
        if let Some(slot) = MEASUREMENTS.iter().position(|m| *m == feature) {
            self.numbers[slot] = f32::NAN;
        }
        if let Some(slot) = CONDITIONS.iter().position(|c| *c == feature) {
            self.known &= !(1 << slot);
            self.present &= !(1 << slot);
        }
    }

    /// A hash of everything the row holds: equal rows are equal wherever they stand, so folds and masks do not depend on row order.
    pub(super) fn hash(&self) -> u64 {
        let mut hash = mix(u64::from(self.known) << 32 | u64::from(self.present));
        for number in self.numbers {
            hash = mix(hash ^ u64::from(if number.is_nan() { u32::MAX } else { number.to_bits() }));
        }
        let rest = u64::from(self.stay) << 24 | u64::from(self.readmissions) << 16 | u64::from(self.gender) << 8;
        mix(mix(hash ^ rest ^ u64::from(self.facility)) ^ u64::from(self.admitted.unsigned_abs()))
    }
}

/// Name of a gender slot.
pub(super) fn gender_name(slot: usize) -> &'static str {
    [Gender::Female, Gender::Male, Gender::Other].get(slot).map_or("unknown", |gender| gender.fhir())
}

/// 0 to 35 for A to Z, 0 to 9.
fn facility_slot(facility: FacilityId) -> u8 {
    let letter = facility.letter() as u8;
    if letter.is_ascii_digit() { letter - b'0' + 26 } else { letter.saturating_sub(b'A').min(25) }
}

/// The facility of a slot.
pub(super) fn facility_letter(slot: usize) -> char {
    // `slot` is below 36.
    let slot = slot.min(FACILITY_COUNT - 1) as u8;
    char::from(if slot < 26 { b'A' + slot } else { b'0' + slot - 26 })
}

/// `SplitMix64`'s finaliser (Steele, Lea, Flood 2014): a good 64-bit mixing of its input.
pub(super) fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A number in `[0, 1)` from a hash.
pub(super) fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
