//! Encounters that name nobody (45 CFR 164.514(b)(2), Safe Harbor; ADR 0012): what is left out of them, and which small groups are not told
//! apart. It does not know keys: a pseudonym is handed in.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{Datelike, NaiveDate};

use super::encounter::{Clinical, Encounter};
use super::facility::FacilityId;
use super::patient::Gender;

/// Fewest patients that a count may be of: cells from 1 to 10 are not shown (the cell size policy of the US Centers for Medicare & Medicaid
/// Services).
pub const CELL_MIN: u64 = 11;

/// The longest stay that is told, in days; it stands for longer ones, too. A stay of many months is remembered by others.
pub const STAY_DAYS_TOLD: i32 = 90;

/// What others may know of a patient, as far as a row tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class {
    /// The year of admission.
    pub year: i32,
    /// The facility.
    pub facility: FacilityId,
    /// The gender.
    pub gender: Gender,
}

/// A [`Class`] as far as it is shared by enough patients; what is not, is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Told {
    /// The year of admission.
    pub year: Option<i32>,
    /// The facility.
    pub facility: Option<FacilityId>,
    /// The gender.
    pub gender: Option<Gender>,
}

/// An encounter that names nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Stands for the encounter, the same each time under one key.
    pub pseudonym: String,
    /// When, where and who, coarsely.
    pub told: Told,
    /// Whole days from admission to discharge, at most [`STAY_DAYS_TOLD`]; `None` while the patient stays, and as long as the discharge
    /// is not told.
    pub stay_days: Option<i32>,
    /// What was measured. Missing stays missing.
    pub clinical: Clinical,
}

impl Class {
    /// The class of `encounter`.
    pub fn of(encounter: &Encounter) -> Self {
        Self { year: encounter.admitted.reveal().year(), facility: encounter.facility, gender: encounter.gender }
    }
}

/// The first day of the quarter that `today` is in: of what was before it is told, of what came since is not. Rows that appeared day by day
/// would tell whoever looks each day which patient came and left on it.
pub fn told_before(today: NaiveDate) -> NaiveDate {
    NaiveDate::from_ymd_opt(today.year(), today.month0() / 3 * 3 + 1, 1).unwrap_or(today)
}

/// Is `encounter` told to whoever is told of what was before the day `before`?
pub fn is_told(encounter: &Encounter, before: NaiveDate) -> bool {
    *encounter.admitted.reveal() < before
}

/// A stay as it is told to whoever is told of what was before the day `before`.
pub fn stay_told(encounter: &Encounter, before: NaiveDate) -> Option<i32> {
    let ended = encounter.discharged.reveal().is_some_and(|day| day < before);
    encounter.stay_days().filter(|_| ended).map(|days| days.min(STAY_DAYS_TOLD))
}

/// Which of `counts` are not shown: those from 1 up to before `least`, and as many of the next larger ones as it takes that what is left
/// out cannot be found from the sum of all (two of them at least, `least` patients together). If they are not that many, nothing is shown
/// but zeros.
pub fn withheld(counts: &[u64], least: u64) -> Vec<bool> {
    let mut hidden: Vec<bool> = counts.iter().map(|count| (1..least).contains(count)).collect();
    loop {
        let of_hidden = || counts.iter().zip(&hidden).filter(|(_, hidden)| **hidden).map(|(count, _)| *count);
        let (cells, sum) = (of_hidden().count(), of_hidden().sum::<u64>());
        if cells == 0 || (cells > 1 && sum >= least) {
            return hidden;
        }
        let next = (0..counts.len()).filter(|at| !hidden[*at] && counts[*at] > 0).min_by_key(|at| counts[*at]);
        match next {
            Some(at) => hidden[at] = true,
            None => return hidden,
        }
    }
}

/// How each class is told. Years that few were admitted in are told as one group without a year; within each group so are facilities, and
/// within those, genders. So every group that can be told apart has at least `least` patients, if there are so many at all.
pub fn told(counts: &[(Class, u64)], least: u64) -> HashMap<Class, Told> {
    let mut told: HashMap<Class, Told> = counts.iter().map(|(class, _)| (*class, Told::default())).collect();
    let years = coarse(counts, least, |_| (), |class| class.year);
    for (class, told) in &mut told {
        told.year = (!years.contains(&((), class.year))).then_some(class.year);
    }
    let facilities = coarse(counts, least, |class| told[class].year, |class| class.facility);
    for (class, told) in &mut told {
        told.facility = (!facilities.contains(&(told.year, class.facility))).then_some(class.facility);
    }
    let genders = coarse(counts, least, |class| (told[class].year, told[class].facility), |class| class.gender.code());
    for (class, told) in &mut told {
        let hidden = genders.contains(&((told.year, told.facility), class.gender.code()));
        told.gender = (!hidden).then_some(class.gender);
    }
    told
}

/// The values that are withheld in each group.
fn coarse<G: Ord + Copy, V: Ord + Copy>(
    counts: &[(Class, u64)],
    least: u64,
    group: impl Fn(&Class) -> G,
    value: impl Fn(&Class) -> V,
) -> BTreeSet<(G, V)> {
    let mut groups: BTreeMap<G, BTreeMap<V, u64>> = BTreeMap::new();
    for (class, count) in counts {
        *groups.entry(group(class)).or_default().entry(value(class)).or_default() += count;
    }
    let mut hidden = BTreeSet::new();
    for (group, values) in groups {
        let counts: Vec<u64> = values.values().copied().collect();
        let marks = withheld(&counts, least);
        hidden.extend(values.into_keys().zip(marks).filter(|(_, mark)| *mark).map(|(value, _)| (group, value)));
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_counts_are_withheld_and_cannot_be_found_from_the_sum() {
        for (counts, hidden) in [
            (vec![0, 11, 40], vec![false, false, false]),
            (vec![10, 11, 40], vec![true, true, false]),
            (vec![1, 2, 40, 30], vec![true, true, false, true]),
            (vec![5, 6, 40], vec![true, true, false]),
            (vec![3, 0, 0], vec![true, false, false]),
            (vec![], vec![]),
        ] {
            assert_eq!(withheld(&counts, CELL_MIN), hidden, "{counts:?}");
        }
        assert_eq!(withheld(&[1, 2], 0), [false, false], "nothing is small");
    }

    #[test]
    fn what_came_in_this_quarter_is_not_told() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        for (today, first) in
            [("2026-01-01", "2026-01-01"), ("2026-03-31", "2026-01-01"), ("2026-11-23", "2026-10-01"), ("2024-02-29", "2024-01-01")]
        {
            assert_eq!(told_before(day(today)), day(first), "{today}");
        }
    }

    fn counted() -> impl Strategy<Value = Vec<(Class, u64)>> {
        let class = (2020..2024, "[ABC]", 0..4_usize);
        proptest::collection::btree_map(class, 1..40_u64, 0..20).prop_map(|classes| {
            let class = |(year, letter, gender): (i32, String, usize)| Class {
                year,
                facility: FacilityId::parse(&letter).unwrap(),
                gender: Gender::ALL[gender],
            };
            classes.into_iter().map(|(key, count)| (class(key), count)).collect()
        })
    }

    proptest! {
        #[test]
        fn whoever_is_told_apart_is_one_of_many(counts in counted()) {
            let told = told(&counts, CELL_MIN);
            let all: u64 = counts.iter().map(|(_, count)| count).sum();
            let mut groups: HashMap<Told, u64> = HashMap::new();
            for (class, count) in &counts {
                *groups.entry(told[class]).or_default() += count;
                let shown = told[class];
                prop_assert!(shown.year.is_none_or(|year| year == class.year));
                prop_assert!(shown.facility.is_none_or(|facility| facility == class.facility));
                prop_assert!(shown.gender.is_none_or(|gender| gender == class.gender));
            }
            for (shown, count) in groups {
                prop_assert!(count >= CELL_MIN || (all < CELL_MIN && shown == Told::default()), "{shown:?}: {count}");
            }
        }
    }
}
