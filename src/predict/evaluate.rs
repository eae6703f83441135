//! Every metric of fitted parts on labelled rows, in one pass.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate};

use super::drift::Profile;
use super::features::{
    CONDITION_COUNT, CONDITIONS, FACILITY_COUNT, GENDER_COUNT, MEASUREMENT_COUNT, Row, facility_letter, gender_name,
};
use super::metrics::{Errors, GroupError, Spread, deciles};
use super::report::Evaluation;
use super::scorer::Scorer;
use super::untied::untied;

/// Missing inputs told apart in the report; the last group holds that many and more.
const MISSING_GROUPS: usize = 9;

pub(super) fn evaluate_rows<'a>(scorer: &Scorer, profile: &Profile, rows: impl Iterator<Item = &'a Row> + Clone) -> Evaluation {
    let spread = Spread::of(rows.clone().map(Row::stay_days));
    let mut all = Errors::default();
    let mut gender = [Errors::default(); GENDER_COUNT + 1];
    let mut facility = [Errors::default(); FACILITY_COUNT];
    let mut condition = [Errors::default(); CONDITION_COUNT];
    let mut abnormal = [Errors::default(); MEASUREMENT_COUNT + 1];
    let mut missing = [Errors::default(); MISSING_GROUPS];
    let mut month: BTreeMap<(i32, u32), Errors> = BTreeMap::new();
    let mut pairs = Vec::new();
    for row in rows.clone() {
        let answer = scorer.answer(row);
        let (stay, days, intervals) = (row.stay_days(), answer.days, Some(answer.intervals));
        let add = |errors: &mut Errors| errors.add(stay, days, intervals);
        add(&mut all);
        add(&mut gender[row.gender().unwrap_or(GENDER_COUNT)]);
        add(&mut facility[usize::from(row.facility)]);
        (0..CONDITION_COUNT).filter(|c| row.condition(*c) == Some(true)).for_each(|c| add(&mut condition[c]));
        add(&mut abnormal[answer.abnormal]);
        add(&mut missing[(row.missing().count_ones() as usize).min(MISSING_GROUPS - 1)]);
        if let Some(day) = NaiveDate::from_num_days_from_ce_opt(row.admitted) {
            add(month.entry((day.year(), day.month())).or_default());
        }
        // Deciles need all answers; single precision halves what they hold.
        pairs.push((days as f32, stay as f32));
    }
    Evaluation {
        rows: all.rows,
        metrics: all.metrics(&spread),
        by_gender: named(&gender, |slot| gender_name(slot).to_owned()),
        by_facility: named(&facility, |slot| facility_letter(slot).to_string()),
        by_condition: named(&condition, |slot| CONDITIONS[slot].spec().label.to_owned()),
        by_abnormal_count: named(&abnormal, |k| k.to_string()),
        by_missing: named(&missing, |k| if k == MISSING_GROUPS - 1 { format!("{k} or more") } else { k.to_string() }),
        by_month: month.iter().map(|((year, month), errors)| errors.group(format!("{year:04}-{month:02}"))).collect(),
        calibration: deciles(pairs),
        untied: untied(scorer, rows.clone()),
        drift: profile.drift(rows),
    }
}

fn named(groups: &[Errors], name: impl Fn(usize) -> String) -> Vec<GroupError> {
    groups.iter().enumerate().filter(|(_, errors)| errors.rows > 0).map(|(slot, errors)| errors.group(name(slot))).collect()
}
