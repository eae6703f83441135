//! `GET /api/predictions`: sums by facility, and the newest predictions without names. Small counts are not shown.

use chrono::{Days, NaiveDate};
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::reads::{Parameter, parameter, refuse};
use super::{ApiReply, ApiRequest, App};
use crate::domain::rows::withheld;
use crate::domain::{Caller, FacilityId};
use crate::error::Result;
use crate::store::{Accuracy, Due, Expected};
use crate::workflow::{self, DAYS_AHEAD_MAX, JUDGED_DAYS, NEWEST_MAX, Predictions};

/// Days ahead that are shown when the caller asks for no number.
const DAYS_AHEAD: u32 = 7;
/// Days that predictions are judged over when the caller asks for no number.
const DAYS_BACK: u32 = 90;
/// Predictions listed when the caller asks for no number.
const NEWEST: u32 = 20;

/// The query parameters.
pub(super) const PARAMETERS: [Parameter; 3] = [
    ("days", "integer", "Days ahead that predicted discharges are shown for, at most 30."),
    ("back", "integer", "Days that predictions are judged over: 30, 90 or 365."),
    ("newest", "integer", "Newest predictions that are listed, at most 100."),
];

/// Days that predictions are judged over, days ahead, newest predictions.
pub(super) fn asked(request: &ApiRequest) -> Result<(u32, u32, u32)> {
    let number = |name: &str| parameter::<u32>(request, name, "a whole number");
    let back = number("back")?.unwrap_or(DAYS_BACK);
    if !JUDGED_DAYS.contains(&back) {
        return Err(refuse("back", "30, 90 or 365"));
    }
    let ahead = number("days")?.unwrap_or(DAYS_AHEAD).min(DAYS_AHEAD_MAX);
    Ok((back, ahead, number("newest")?.unwrap_or(NEWEST).min(NEWEST_MAX)))
}

/// The report.
pub(super) async fn report(app: &App, caller: &Caller, request: &ApiRequest) -> Result<ApiReply> {
    let (back, ahead, newest) = asked(request)?;
    let found = workflow::predictions(caller, &app.hospital, back, newest, (app.now)()).await?;
    Ok(ApiReply::json(StatusCode::OK, &body(&found, ahead, back, app.hospital.cell_min())))
}

fn body(found: &Predictions, ahead: u32, back: u32, least: u64) -> Value {
    let facilities = found.facilities.iter().map(|facility| {
        let mut shown = expected(&found.expected, facility.id, found.today, ahead, least);
        shown["facility"] = json!(facility.id.to_string());
        shown["name"] = json!(facility.name);
        let longer: Vec<_> = found.longer.iter().filter(|sums| sums.facility == facility.id).collect();
        let sums = found.accuracy.iter().find(|sums| sums.facility == facility.id);
        shown["judged"] = json!(sums.map(|sums| judged(sums, &longer, least)));
        shown
    });
    let newest = found.newest.iter().map(|foretold| {
        json!({
            "pseudonym": foretold.pseudonym, "predictedDays": foretold.prediction.days,
            "interval80": foretold.prediction.interval80, "missingInputs": foretold.prediction.missing.len(),
        })
    });
    json!({
        "today": found.today.to_string(), "daysAhead": ahead, "daysBack": back, "suppressedBelow": least,
        "facilities": facilities.collect::<Vec<_>>(), "newest": newest.collect::<Vec<_>>(),
    })
}

/// The counts of a facility's open encounters. What is withheld is decided over all days, whatever number of them is asked for: two answers
/// that differ by a day tell nothing of it.
fn expected(all: &[Expected], facility: FacilityId, today: NaiveDate, ahead: u32, least: u64) -> Value {
    let days = (0..=DAYS_AHEAD_MAX).map(Due::In);
    let dues: Vec<Due> = [Due::Unpredicted, Due::Overdue, Due::Later].into_iter().chain(days).collect();
    let count = |due: &Due| all.iter().filter(|row| row.facility == facility && row.due == *due).map(|row| row.encounters).sum();
    let counts: Vec<u64> = dues.iter().map(count).collect();
    let open: u64 = counts.iter().sum();
    let hidden = withheld(&counts, least);
    let cells: Vec<Option<u64>> = counts.iter().zip(hidden).map(|(count, hidden)| (!hidden).then_some(*count)).collect();
    let discharges = dues.iter().zip(&cells).filter_map(|(due, cell)| match due {
        Due::In(day) if *day <= ahead => {
            let day = today.checked_add_days(Days::new((*day).into()))?;
            Some(json!({ "day": day.to_string(), "discharges": cell }))
        }
        _ => None,
    });
    json!({
        "open": (open == 0 || open >= least).then_some(open), "unpredicted": cells.first(), "overdue": cells.get(1),
        "later": cells.get(2), "expected": discharges.collect::<Vec<_>>(),
    })
}

/// Means over the stays; all null if they are too few, or a few less than those of a `longer` span, which is another answer. A share is
/// null, too, if it would tell of a few stays in it or beside it, of this span or of what a longer one has more.
fn judged(sums: &Accuracy, longer: &[&Accuracy], least: u64) -> Value {
    let few = |count: u64| (1..least).contains(&count);
    let tells = |count: &dyn Fn(&Accuracy) -> u64| {
        let own = count(sums);
        few(own) || longer.iter().any(|more| few(count(more).saturating_sub(own)))
    };
    let enough = sums.stays >= least && !tells(&|sums| sums.stays);
    let mean = |sum: f64| enough.then(|| sum / sums.stays as f64);
    let share = |count: fn(&Accuracy) -> u64| {
        let telling = tells(&count) || tells(&|sums| sums.stays.saturating_sub(count(sums)));
        mean(count(sums) as f64).filter(|_| !telling)
    };
    // The wider interval holds the narrower one: their difference is a count, too.
    let inside80 = share(|sums| sums.inside80).filter(|_| !tells(&|sums| sums.inside90.saturating_sub(sums.inside80)));
    json!({
        "stays": enough.then_some(sums.stays),
        "meanAbsoluteErrorDays": mean(sums.off_days), "biasDays": mean(sums.longer_days),
        "withinOneDay": share(|sums| sums.within_day), "inside80": inside80, "inside90": share(|sums| sums.inside90),
    })
}

/// The report, for the documents.
pub(super) fn schema() -> Value {
    let count = json!({ "type": ["integer", "null"], "minimum": 0, "description": "Null where it is withheld." });
    let share = json!({ "type": ["number", "null"], "minimum": 0, "maximum": 1 });
    let days = |what: &str| json!({ "type": ["number", "null"], "description": what });
    let interval = json!({ "type": "object", "properties": { "low": { "type": "number" }, "high": { "type": "number" } } });
    json!({ "type": "object", "properties": {
        "today": { "type": "string", "format": "date" }, "daysAhead": { "type": "integer" }, "daysBack": { "type": "integer" },
        "suppressedBelow": { "type": "integer", "minimum": 11,
            "description": "Counts from 1 up to before it are null, and so are others from which one could be found." },
        "facilities": { "type": "array", "items": { "type": "object", "properties": {
            "facility": { "type": "string" }, "name": { "type": "string" },
            "open": count, "unpredicted": count, "overdue": count, "later": count,
            "expected": { "type": "array", "items": { "type": "object", "properties": {
                "day": { "type": "string", "format": "date" }, "discharges": count } } },
            "judged": { "type": ["object", "null"], "properties": {
                "stays": count, "meanAbsoluteErrorDays": days("Mean of the days off."),
                "biasDays": days("Mean of the days that stays took longer than predicted."),
                "withinOneDay": share, "inside80": share, "inside90": share } } } } },
        "newest": { "type": "array", "items": { "type": "object", "properties": {
            "pseudonym": { "type": "string", "description": "Not the one of /api/encounters; the list is in its order." },
            "predictedDays": { "type": "number" },
            "interval80": interval, "missingInputs": { "type": "integer", "minimum": 0 } } } } } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facility() -> FacilityId {
        FacilityId::parse("A").unwrap()
    }

    fn of(cells: &[(Due, u64)], ahead: u32) -> Value {
        let all: Vec<_> =
            cells.iter().map(|(due, encounters)| Expected { facility: facility(), due: *due, encounters: *encounters }).collect();
        expected(&all, facility(), NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(), ahead, 11)
    }

    #[test]
    fn a_count_of_ten_is_withheld_with_another_from_which_it_could_be_found() {
        let cells = [(Due::Overdue, 10), (Due::In(0), 30), (Due::In(2), 12), (Due::Later, 40)];
        let shown = of(&cells, 2);
        assert_eq!((&shown["open"], &shown["overdue"], &shown["later"]), (&json!(92), &Value::Null, &json!(40)));
        let days: Vec<_> = shown["expected"].as_array().unwrap().iter().map(|day| day["discharges"].clone()).collect();
        assert_eq!(days, [json!(30), json!(0), Value::Null], "the next smallest is withheld, too");
        let fewer = of(&cells, 0);
        assert_eq!((&fewer["later"], &fewer["open"]), (&shown["later"], &shown["open"]), "a narrower question tells no more");
        assert_eq!(of(&[(Due::In(0), 4), (Due::Later, 3)], 0)["open"], Value::Null);
        assert_eq!(of(&[], 0)["open"], json!(0));
    }

    #[test]
    fn means_and_shares_of_few_stays_are_withheld() {
        let sums = |stays, within_day| Accuracy {
            facility: facility(),
            stays,
            off_days: stays as f64 * 2.0,
            longer_days: -(stays as f64),
            within_day,
            inside80: stays / 2,
            inside90: stays,
        };
        let few = judged(&sums(10, 10), &[], 11);
        assert!(few.as_object().unwrap().values().all(Value::is_null), "{few}");
        let many = judged(&sums(100, 80), &[], 11);
        assert_eq!((&many["meanAbsoluteErrorDays"], &many["biasDays"]), (&json!(2.0), &json!(-1.0)));
        assert_eq!((&many["withinOneDay"], &many["inside80"], &many["inside90"]), (&json!(0.8), &json!(0.5), &json!(1.0)));
        for telling in [5, 95] {
            assert_eq!(judged(&sums(100, telling), &[], 11)["withinOneDay"], Value::Null, "{telling}");
        }
        for inside80 in [90, 99] {
            let shown = judged(&Accuracy { inside80, inside90: 100, ..sums(100, 80) }, &[], 11);
            assert_eq!((&shown["inside80"], &shown["inside90"]), (&Value::Null, &json!(1.0)), "{inside80}");
        }
    }

    #[test]
    fn of_two_spans_that_differ_by_a_few_stays_the_shorter_is_withheld() {
        let sums = |stays, within_day| Accuracy {
            facility: facility(),
            stays,
            off_days: 1.0,
            longer_days: 1.0,
            within_day,
            inside80: 0,
            inside90: 0,
        };
        let more = sums(110, 80);
        assert!(judged(&sums(100, 80), &[&more], 11).as_object().unwrap().values().all(Value::is_null));
        assert_eq!(judged(&sums(99, 80), &[&more], 11)["withinOneDay"], json!(80.0 / 99.0));
        assert_eq!(judged(&sums(99, 75), &[&more], 11)["withinOneDay"], Value::Null, "five of eleven");
        assert_eq!(judged(&sums(110, 80), &[&more], 11)["stays"], json!(110), "the same stays");
    }
}
