//! Look for average stays that rise or decline, and keep what was found.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use super::{Hospital, blocking};
use crate::domain::anomaly::{Finding, Survey};
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::Result;
use crate::predict::control_chart;

/// Weeks that are looked at: three years.
const WEEKS_MAX: u32 = 156;

/// Draws a control chart of every facility's stays, overall and by condition, and puts the findings in the place of those before.
///
/// # Errors
/// The caller may not look, or the record is away.
pub async fn find_anomalies(caller: &Caller, hospital: &Hospital, now: DateTime<Utc>) -> Result<Survey> {
    hospital.allow(caller, Action::FindAnomalies, now).await?;
    let looked = async {
        let history = hospital.store.stay_history(now.date_naive(), WEEKS_MAX).await?;
        let survey = blocking(move || Ok(control_chart::survey(&history, now))).await?;
        let detail = format!("{} charts, {} findings", survey.charted, survey.findings.len());
        let audit = AuditEvent::new(caller, Action::FindAnomalies, Outcome::Success, now).detail(detail);
        hospital.store.replace_survey(&survey, &audit).await?;
        Ok(survey)
    };
    match looked.await {
        Ok(survey) => {
            tracing::info!(
                charted = survey.charted,
                uncharted = survey.uncharted,
                findings = survey.findings.len(),
                "stays surveyed"
            );
            Ok(survey)
        }
        Err(error) => {
            let audit = AuditEvent::new(caller, Action::FindAnomalies, Outcome::Failure, now).detail("the survey failed");
            hospital.store.append_audit(&audit).await?;
            Err(error)
        }
    }
}

/// A survey as JSON, for the API and the command line; `None` is the time before the first. Of fewer stays than `cell_min` neither their
/// number nor an average is shown: an average of one stay is that patient's stay.
pub fn survey_report(survey: Option<&Survey>, cell_min: u64) -> Value {
    let Some(survey) = survey else {
        return json!({ "found": null, "firstWeek": null, "lastWeek": null, "charts": 0, "tooShortForAChart": 0,
            "suppressedBelow": cell_min, "findings": [] });
    };
    let finding = |finding: &Finding| {
        let shown = finding.stays >= cell_min;
        let condition = finding.group.condition.map(|feature| feature.spec());
        json!({
            "condition": condition.map_or("all", |spec| spec.name),
            "label": condition.map_or("all patients", |spec| spec.label),
            "facility": finding.group.facility.to_string(),
            "direction": finding.direction.name(),
            "firstWeek": finding.first_week.to_string(),
            "lastWeek": finding.last_week.to_string(),
            "expectedDays": finding.expected_days,
            "meanDays": shown.then_some(finding.mean_days),
            "averageDays": shown.then_some(finding.average_days),
            "limitDays": finding.limit_days,
            "stays": shown.then_some(finding.stays),
        })
    };
    json!({
        "found": survey.found.to_rfc3339_opts(SecondsFormat::Millis, true),
        "firstWeek": survey.weeks.map(|(first, _)| first.to_string()),
        "lastWeek": survey.weeks.map(|(_, last)| last.to_string()),
        "charts": survey.charted,
        "tooShortForAChart": survey.uncharted,
        "suppressedBelow": cell_min,
        "findings": survey.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::FacilityId;
    use crate::domain::anomaly::{Direction, Group};

    #[test]
    fn averages_of_a_few_stays_are_suppressed_with_their_number() {
        let finding = |stays| Finding {
            group: Group { facility: FacilityId::parse("A").unwrap(), condition: None },
            direction: Direction::Rise,
            first_week: Default::default(),
            last_week: Default::default(),
            stays,
            mean_days: 9.0,
            expected_days: 4.0,
            average_days: 5.0,
            limit_days: 4.5,
        };
        let survey = Survey { findings: vec![finding(4), finding(5)], ..Survey::default() };
        for (cell_min, shown) in [(5, [false, true]), (0, [true, true])] {
            let report = survey_report(Some(&survey), cell_min);
            for (finding, shown) in report["findings"].as_array().unwrap().iter().zip(shown) {
                for member in ["stays", "meanDays", "averageDays"] {
                    assert_eq!(!finding[member].is_null(), shown, "{member} {finding}");
                }
                assert_eq!(finding["expectedDays"], 4.0);
            }
        }
    }
}
