//! Stays over time: the weekly sums that control charts are drawn from, and the newest survey with its findings.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use tiberius::Row;

use super::audit;
use super::connection::Parameter;
use super::fault::Outcome;
use super::pool::Session;
use super::sql::Statements;
use super::values::{count, day, instant, iso, measure, number, optional_day, optional_text, read_day, signed, text};
use crate::domain::anomaly::{Finding, Group, StayHistory, Survey, WeekOfStays};
use crate::domain::{AuditEvent, FacilityId};
use crate::error::Error;
use crate::schema::Feature;
use crate::store::columns::unreadable;
use crate::store::rules::{check_finding, group_and_direction};

/// Columns of `stay_weeks` before the sums.
const BEFORE_SUMS: usize = 2;

/// The newest `weeks_max` weeks up to `today`, summed by the database.
pub(super) async fn history(session: &mut Session, sql: &Statements, today: NaiveDate, weeks_max: u32) -> Outcome<StayHistory> {
    let today = Parameter::Day(day(today)?);
    let mut admissions: BTreeMap<i64, u64> = BTreeMap::new();
    for row in session.rows(&sql.admission_weeks, &[today]).await? {
        admissions.insert(number(&row, 0)?, count(&row, 1)?);
    }
    // No week before this one can be among the newest, whatever the discharges add.
    let earliest = admissions.keys().rev().take(weeks_max as usize).next_back().copied().unwrap_or_default();
    let discharges = session.rows(&sql.stay_weeks, &[today, Parameter::Long(Some(earliest))]).await?;
    let mut weeks: BTreeSet<i64> = admissions.keys().copied().collect();
    for row in &discharges {
        weeks.insert(number(row, 1)?);
    }
    let Some(first) = weeks.iter().rev().take(weeks_max as usize).next_back().copied() else { return Ok(StayHistory::default()) };
    let mut stays = Vec::new();
    for row in &discharges {
        if number(row, 1)? >= first {
            add_week(&mut stays, row)?;
        }
    }
    stays.sort_by_key(|week: &WeekOfStays| (week.group, week.week));
    let admissions = admissions.range(first..).map(|(week, number)| Ok((monday(*week)?, *number))).collect::<Outcome<_>>()?;
    Ok(StayHistory { admissions, stays })
}

fn add_week(stays: &mut Vec<WeekOfStays>, row: &Row) -> Outcome<()> {
    let facility = FacilityId::parse(text(row, 0)?).ok_or_else(|| unreadable("facility id"))?;
    let week = monday(number(row, 1)?)?;
    let groups = std::iter::once(None).chain(Feature::conditions().map(Some));
    for (condition, place) in groups.zip((BEFORE_SUMS..).step_by(3)) {
        let (number, days, days_squared) = (count(row, place)?, count(row, place + 1)?, count(row, place + 2)?);
        if number > 0 {
            stays.push(WeekOfStays { group: Group { facility, condition }, week, stays: number, days, days_squared });
        }
    }
    Ok(())
}

/// The Monday of a week that was counted from 0001-01-01, a Monday and the first day of the common era.
fn monday(week: i64) -> Outcome<NaiveDate> {
    let days = week.checked_mul(7).and_then(|days| i32::try_from(days + 1).ok());
    Ok(days.and_then(NaiveDate::from_num_days_from_ce_opt).ok_or_else(|| unreadable("week"))?)
}

/// Puts `survey` in the place of the one before.
pub(super) async fn replace(session: &mut Session, sql: &Statements, survey: &Survey, event: &AuditEvent) -> Outcome<()> {
    survey.findings.iter().try_for_each(check_finding)?;
    session.execute(&sql.delete_findings, &[]).await?;
    session.execute(&sql.delete_survey, &[]).await?;
    let (first, last) = (iso(survey.weeks.map(|weeks| weeks.0))?, iso(survey.weeks.map(|weeks| weeks.1))?);
    let values = [
        Parameter::Instant(survey.found),
        Parameter::Text(&first),
        Parameter::Text(&last),
        Parameter::Long(Some(signed(survey.charted)?)),
        Parameter::Long(Some(signed(survey.uncharted)?)),
    ];
    session.execute(&sql.insert_survey, &values).await?;
    for (ordinal, finding) in (1..).zip(&survey.findings) {
        let facility = finding.group.facility.to_string();
        let values = [
            Parameter::Int(Some(ordinal)),
            Parameter::Text(&facility),
            Parameter::Text(finding.group.condition.map_or("", |feature| feature.spec().name)),
            Parameter::Text(finding.direction.name()),
            Parameter::Day(day(finding.first_week)?),
            Parameter::Day(day(finding.last_week)?),
            Parameter::Long(Some(signed(finding.stays)?)),
            Parameter::Real(Some(finding.mean_days)),
            Parameter::Real(Some(finding.expected_days)),
            Parameter::Real(Some(finding.average_days)),
            Parameter::Real(Some(finding.limit_days)),
        ];
        session.execute(&sql.insert_finding, &values).await?;
    }
    audit::append(session, sql, event).await
}

/// Looks at the survey before it is given up that a newer one keeps taking its place.
const LOOKS: usize = 5;

/// The survey with at most `limit` findings. If another survey took its place between the two looks, both are looked at again.
pub(super) async fn survey(session: &mut Session, sql: &Statements, limit: u32) -> Outcome<Option<Survey>> {
    let mut before = head(session, sql).await?;
    for _ in 0..LOOKS {
        let Some(survey) = before else { return Ok(None) };
        let findings = match limit {
            0 => Vec::new(),
            _ => session.rows(&sql.findings, &[Parameter::Long(Some(limit.into()))]).await?,
        };
        let after = head(session, sql).await?;
        if after.as_ref() == Some(&survey) {
            return Ok(Some(Survey { findings: findings.iter().map(finding).collect::<Outcome<_>>()?, ..survey }));
        }
        before = after;
    }
    Err(Error::unavailable("the survey is being replaced; try again").into())
}

async fn head(session: &mut Session, sql: &Statements) -> Outcome<Option<Survey>> {
    let Some(row) = session.row(&sql.survey, &[]).await? else { return Ok(None) };
    Ok(Some(Survey {
        found: instant(&row, "found")?,
        weeks: optional_day(&row, "firstweek")?.zip(optional_day(&row, "lastweek")?),
        charted: count(&row, "charted")?,
        uncharted: count(&row, "uncharted")?,
        findings: Vec::new(),
    }))
}

fn finding(row: &Row) -> Outcome<Finding> {
    let (group, direction) = group_and_direction(text(row, 1)?, optional_text(row, 2)?, text(row, 3)?)?;
    Ok(Finding {
        group,
        direction,
        first_week: read_day(row, "firstweek")?,
        last_week: read_day(row, "lastweek")?,
        stays: count(row, "stays")?,
        mean_days: measure(row, "meandays")?,
        expected_days: measure(row, "expecteddays")?,
        average_days: measure(row, "averagedays")?,
        limit_days: measure(row, "limitdays")?,
    })
}
