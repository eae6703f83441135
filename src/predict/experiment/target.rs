//! What an experiment predicts.

use super::input::value;
use super::spec::{ReadAs, TargetKeys, TargetKind, shown, wrong};
use crate::error::Result;
use crate::predict::features::Row;
use crate::schema::{Feature, READMISSIONS_TOP, Shape};

/// What an experiment predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Days from admission to discharge.
    StayDays,
    /// A feature's value.
    Number(Feature),
    /// Which of a feature's classes.
    Class(Feature),
}

impl Target {
    /// # Errors
    /// Invalid, naming the key.
    pub(super) fn read(keys: &TargetKeys) -> Result<Self> {
        let (name, read_as) = match (keys.kind, &keys.feature, keys.read_as) {
            (TargetKind::StayDays, None, None) => return Ok(Self::StayDays),
            (TargetKind::StayDays, ..) => {
                return Err(wrong("target", "kind = \"stay_days\" takes no other key: leave `feature` and `as` out"));
            }
            (TargetKind::Feature, Some(name), Some(read_as)) => (name, read_as),
            (TargetKind::Feature, None, _) => {
                return Err(wrong("target.feature", "is missing: name the feature to predict; `hdai schema` lists them"));
            }
            (TargetKind::Feature, _, None) => {
                return Err(wrong("target.as", "is missing: write as = \"number\" or as = \"class\""));
            }
        };
        let feature = Feature::by_name(name)
            .ok_or_else(|| wrong("target.feature", format!("there is no feature {}; `hdai schema` lists them", shown(name))))?;
        match (feature.spec().shape, read_as) {
            (Shape::Measurement(_), ReadAs::Class) => {
                Err(wrong("target.as", "a measurement has no classes: write as = \"number\""))
            }
            (Shape::Condition, ReadAs::Number) => Err(wrong("target.as", "a condition is present or absent: write as = \"class\"")),
            (_, ReadAs::Number) => Ok(Self::Number(feature)),
            (_, ReadAs::Class) => Ok(Self::Class(feature)),
        }
    }

    /// The feature that must not be an input.
    pub(super) fn feature(self) -> Option<Feature> {
        match self {
            Self::StayDays => None,
            Self::Number(feature) | Self::Class(feature) => Some(feature),
        }
    }

    /// The label of a row; `None` if it is missing. A class is its index.
    pub(super) fn of(self, row: &Row) -> Option<f64> {
        match self {
            Self::StayDays => Some(row.stay_days()),
            Self::Number(feature) | Self::Class(feature) => value(row, feature),
        }
    }

    /// The classes' names, in the order of their indices; empty for a number.
    pub(super) fn classes(self) -> Vec<String> {
        let Self::Class(feature) = self else { return Vec::new() };
        match feature.spec().shape {
            Shape::Condition => vec!["absent".to_owned(), "present".to_owned()],
            // A small whole number.
            _ => (0..=READMISSIONS_TOP as usize)
                .map(|class| if class as f64 == READMISSIONS_TOP { format!("{class}+") } else { class.to_string() })
                .collect(),
        }
    }

    pub(super) fn is_class(self) -> bool {
        matches!(self, Self::Class(_))
    }

    /// What experiments must share to be compared.
    pub(super) fn name(self) -> String {
        match self {
            Self::StayDays => "stay_days".to_owned(),
            Self::Number(feature) => format!("{} as number", feature.spec().name),
            Self::Class(feature) => format!("{} as class", feature.spec().name),
        }
    }
}
