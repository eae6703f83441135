//! The inputs an experiment may name, and what a row holds for each. The stay, dates, ids and names are none of them.

use crate::predict::features::{CONDITIONS, FACILITY_COUNT, GENDER_COUNT, MEASUREMENTS, Row};
use crate::schema::{Feature, Shape};

/// An input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    /// A clinical feature.
    Clinical(Feature),
    /// Administrative gender: a category.
    Gender,
    /// Facility: a category.
    Facility,
    /// How many of the experiment's condition inputs are present. Made by the transform `count_conditions`.
    ConditionCount,
}

/// The derived input's name.
pub(super) const CONDITION_COUNT: &str = "condition_count";

impl Input {
    /// Every input that a file's `features` may name.
    pub(super) fn all() -> impl Iterator<Item = Input> {
        Feature::all().map(Input::Clinical).chain([Input::Gender, Input::Facility])
    }

    /// The inputs of a name or a group; `None` if there is no such thing.
    pub(super) fn named(name: &str) -> Option<Vec<Input>> {
        Some(match name {
            "*" => Input::all().collect(),
            "conditions" => Feature::conditions().map(Input::Clinical).collect(),
            "measurements" => Feature::measurements().map(Input::Clinical).collect(),
            "gender" => vec![Input::Gender],
            "facility" => vec![Input::Facility],
            CONDITION_COUNT => vec![Input::ConditionCount],
            _ => vec![Input::Clinical(Feature::by_name(name)?)],
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Input::Clinical(feature) => feature.spec().name,
            Input::Gender => "gender",
            Input::Facility => "facility",
            Input::ConditionCount => CONDITION_COUNT,
        }
    }

    /// A category has no order: it always becomes one column a level.
    pub(super) fn is_category(self) -> bool {
        matches!(self, Input::Gender | Input::Facility)
    }

    pub(super) fn is_condition(self) -> bool {
        matches!(self, Input::Clinical(feature) if matches!(feature.spec().shape, Shape::Condition))
    }

    /// Counts with few values, which may become one column a level.
    pub(super) fn is_count(self) -> bool {
        match self {
            Input::Clinical(feature) => match feature.spec().shape {
                Shape::Readmissions => true,
                Shape::Measurement(measurement) => measurement.whole,
                Shape::Condition => false,
            },
            Input::ConditionCount => true,
            Input::Gender | Input::Facility => false,
        }
    }

    /// Has it a handful of levels at most?
    pub(super) fn is_few(self) -> bool {
        matches!(self, Input::Clinical(Feature::Readmissions) | Input::ConditionCount)
    }

    /// How many levels a category can have; a count's are learned.
    pub(super) fn levels(self) -> Option<u32> {
        match self {
            Input::Gender => Some(GENDER_COUNT as u32),
            Input::Facility => Some(FACILITY_COUNT as u32),
            Input::Clinical(_) | Input::ConditionCount => None,
        }
    }
}

/// A clinical value of a row, if known.
pub(super) fn value(row: &Row, feature: Feature) -> Option<f64> {
    match feature.spec().shape {
        Shape::Readmissions => row.readmissions().map(|class| class as f64),
        Shape::Condition => {
            let slot = CONDITIONS.iter().position(|condition| *condition == feature)?;
            row.condition(slot).map(|present| f64::from(u8::from(present)))
        }
        Shape::Measurement(_) => row.number(MEASUREMENTS.iter().position(|m| *m == feature)?).map(f64::from),
    }
}

/// What a row holds for an input; `counted` are the conditions that the count counts.
pub(super) fn input_value(row: &Row, input: Input, counted: &[Feature]) -> Option<f64> {
    match input {
        Input::Clinical(feature) => value(row, feature),
        Input::Gender => row.gender().map(|slot| slot as f64),
        Input::Facility => Some(f64::from(row.facility)),
        // A condition nobody recorded is not counted; a missing_indicator tells it from an absent one.
        Input::ConditionCount => Some(counted.iter().filter_map(|condition| value(row, *condition)).sum()),
    }
}
