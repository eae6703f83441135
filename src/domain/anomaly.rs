//! Stays over time: what a control chart is drawn from, and what it finds.

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};

use super::facility::FacilityId;
use crate::schema::Feature;

/// Whose stays: those of every patient of a facility, or of its patients with one condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    /// The facility.
    pub facility: FacilityId,
    /// The condition; `None` is every patient.
    pub condition: Option<Feature>,
}

/// The stays of one group that ended in one week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeekOfStays {
    /// Whose.
    pub group: Group,
    /// Monday of the ISO week of discharge.
    pub week: NaiveDate,
    /// How many, at least 1.
    pub stays: u64,
    /// Sum of their days.
    pub days: u64,
    /// Sum of the squares of their days.
    pub days_squared: u64,
}

/// What control charts are drawn from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StayHistory {
    /// Admissions by ISO week (its Monday), whoever is still in the hospital included; in order of time, weeks without any left out.
    pub admissions: Vec<(NaiveDate, u64)>,
    /// The stays, by group and week.
    pub stays: Vec<WeekOfStays>,
}

/// Which way an average went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Stays became longer.
    Rise,
    /// Stays became shorter.
    Decline,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::Rise, Direction::Decline];

    /// The direction's name in the record and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Rise => "rise",
            Direction::Decline => "decline",
        }
    }
}

/// Consecutive weeks in which a group's average stay was out of its control limits on one side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    /// Whose stays.
    pub group: Group,
    /// Which way.
    pub direction: Direction,
    /// Monday of the first such week.
    pub first_week: NaiveDate,
    /// Monday of the last such week.
    pub last_week: NaiveDate,
    /// Stays that ended in these weeks.
    pub stays: u64,
    /// Their average, days.
    pub mean_days: f64,
    /// The baseline's average, days.
    pub expected_days: f64,
    /// The moving average in the week in which it was farthest out, days.
    pub average_days: f64,
    /// The limit that it left in that week, days.
    pub limit_days: f64,
}

/// What one look at every group found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Survey {
    /// When, UTC.
    pub found: DateTime<Utc>,
    /// Monday of the first and of the last week that was looked at, baselines included; `None` if there was none.
    pub weeks: Option<(NaiveDate, NaiveDate)>,
    /// Groups with a control chart.
    pub charted: u64,
    /// Groups whose history is too short for one: nothing is said about them.
    pub uncharted: u64,
    /// The findings, latest last week first.
    pub findings: Vec<Finding>,
}

/// The Monday of a day's ISO week (ISO 8601: weeks begin on Monday).
pub fn week_of(day: NaiveDate) -> NaiveDate {
    day.checked_sub_days(Days::new(day.weekday().num_days_from_monday().into())).unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_begins_on_monday() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        for (any, monday) in [("2012-01-01", "2011-12-26"), ("2012-01-02", "2012-01-02"), ("2024-02-29", "2024-02-26")] {
            assert_eq!(week_of(day(any)), day(monday));
        }
    }
}
