//! Stays over time: the weekly sums that control charts are drawn from, and the newest survey with its findings.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use rusqlite::{Connection, Row, Transaction};

use super::fault::Outcome;
use super::values::{Day, count, day, instant, instant_text, optional_text, signed, text};
use super::{audit, sql};
use crate::domain::anomaly::{Finding, Group, StayHistory, Survey, WeekOfStays, week_of};
use crate::domain::{AuditEvent, FacilityId};
use crate::schema::Feature;
use crate::store::columns::unreadable;
use crate::store::rules::{check_finding, group_and_direction};

/// Columns of [`sql::STAYS`] before the conditions.
const BEFORE_CONDITIONS: usize = 4;

#[derive(Clone, Copy, Default)]
struct Sums {
    stays: u64,
    days: u64,
    days_squared: u64,
}

/// The newest `weeks_max` weeks up to `today`. Memory is bounded by the weeks there are, not by the encounters.
pub(super) fn history(connection: &Connection, today: NaiveDate, weeks_max: u32) -> Outcome<StayHistory> {
    let conditions: Vec<Feature> = Feature::conditions().collect();
    let mut admissions: BTreeMap<NaiveDate, u64> = BTreeMap::new();
    // A place for every patient, then one for each condition.
    let mut discharges: BTreeMap<(FacilityId, NaiveDate), Vec<Sums>> = BTreeMap::new();
    let mut statement = connection.prepare_cached(&sql::STAYS)?;
    let mut rows = statement.query([Day::of(today)?.as_str()?])?;
    while let Some(row) = rows.next()? {
        *admissions.entry(week_of(day(text(row, 1)?)?)).or_default() += 1;
        let Some(discharged) = optional_text(row, 2)?.map(day).transpose()?.filter(|day| *day <= today) else { continue };
        let Some(days) = row.get::<_, Option<i64>>(3)? else { continue };
        let days = u64::try_from(days).map_err(|_| unreadable("negative stay"))?;
        let facility = FacilityId::parse(text(row, 0)?).ok_or_else(|| unreadable("facility id"))?;
        let cell = discharges.entry((facility, week_of(discharged))).or_insert_with(|| vec![Sums::default(); 1 + conditions.len()]);
        add(&mut cell[0], days);
        for (place, sums) in cell[1..].iter_mut().enumerate() {
            if row.get::<_, Option<i64>>(BEFORE_CONDITIONS + place)? == Some(1) {
                add(sums, days);
            }
        }
    }
    let weeks: BTreeSet<NaiveDate> = admissions.keys().copied().chain(discharges.keys().map(|(_, week)| *week)).collect();
    let Some(first) = weeks.iter().rev().take(weeks_max as usize).next_back() else { return Ok(StayHistory::default()) };
    let groups = std::iter::once(None).chain(conditions.iter().copied().map(Some));
    let mut stays = Vec::new();
    for ((facility, week), cell) in discharges.iter().filter(|((_, week), _)| week >= first) {
        for (condition, sums) in groups.clone().zip(cell).filter(|(_, sums)| sums.stays > 0) {
            let group = Group { facility: *facility, condition };
            let Sums { stays: number, days, days_squared } = *sums;
            stays.push(WeekOfStays { group, week: *week, stays: number, days, days_squared });
        }
    }
    stays.sort_by_key(|week| (week.group, week.week));
    Ok(StayHistory { admissions: admissions.into_iter().filter(|(week, _)| week >= first).collect(), stays })
}

fn add(sums: &mut Sums, days: u64) {
    sums.stays += 1;
    sums.days += days;
    sums.days_squared += days * days;
}

/// Puts `survey` in the place of the one before.
pub(super) fn replace(transaction: &Transaction<'_>, survey: &Survey, event: &AuditEvent) -> Outcome<()> {
    transaction.prepare_cached(&sql::DELETE_FINDINGS)?.execute([])?;
    transaction.prepare_cached(&sql::DELETE_SURVEY)?.execute([])?;
    let weeks = survey.weeks.map(|(first, last)| Ok::<_, super::fault::Fault>((Day::of(first)?, Day::of(last)?))).transpose()?;
    let (first, last) = match &weeks {
        Some((first, last)) => (Some(first.as_str()?), Some(last.as_str()?)),
        None => (None, None),
    };
    let (charted, uncharted) = (signed(survey.charted)?, signed(survey.uncharted)?);
    transaction.prepare_cached(&sql::INSERT_SURVEY)?.execute((instant_text(survey.found), first, last, charted, uncharted))?;
    let mut statement = transaction.prepare_cached(&sql::INSERT_FINDING)?;
    for (ordinal, finding) in (1_i64..).zip(&survey.findings) {
        check_finding(finding)?;
        statement.execute((
            ordinal,
            finding.group.facility.to_string(),
            finding.group.condition.map(|feature| feature.spec().name),
            finding.direction.name(),
            Day::of(finding.first_week)?.as_str()?,
            Day::of(finding.last_week)?.as_str()?,
            signed(finding.stays)?,
            finding.mean_days,
            finding.expected_days,
            finding.average_days,
            finding.limit_days,
        ))?;
    }
    audit::append(transaction, event)
}

/// The survey with at most `limit` findings. Both are read from one state of the record.
pub(super) fn survey(connection: &Connection, limit: u32) -> Outcome<Option<Survey>> {
    let snapshot = connection.unchecked_transaction()?;
    let survey = |row: &Row<'_>| -> Outcome<Survey> {
        Ok(Survey {
            found: instant(text(row, 0)?)?,
            weeks: optional_text(row, 1)?.map(day).transpose()?.zip(optional_text(row, 2)?.map(day).transpose()?),
            charted: count(row, "charted")?,
            uncharted: count(row, "uncharted")?,
            findings: Vec::new(),
        })
    };
    let Some(survey) = snapshot.prepare_cached(&sql::SURVEY)?.query_and_then([], survey)?.next().transpose()? else {
        return Ok(None);
    };
    let findings = snapshot.prepare_cached(&sql::FINDINGS)?.query_and_then([limit], finding)?.collect::<Outcome<_>>()?;
    Ok(Some(Survey { findings, ..survey }))
}

fn finding(row: &Row<'_>) -> Outcome<Finding> {
    let (group, direction) = group_and_direction(text(row, 1)?, optional_text(row, 2)?, text(row, 3)?)?;
    Ok(Finding {
        group,
        direction,
        first_week: day(text(row, 4)?)?,
        last_week: day(text(row, 5)?)?,
        stays: count(row, "stays")?,
        mean_days: row.get("meandays")?,
        expected_days: row.get("expecteddays")?,
        average_days: row.get("averagedays")?,
        limit_days: row.get("limitdays")?,
    })
}
