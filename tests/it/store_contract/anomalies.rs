//! Stays over time: what control charts are drawn from, and the survey that is kept.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use health_data_ai::domain::anomaly::{Direction, Finding, Group, Survey, WeekOfStays, week_of};
use health_data_ai::domain::{Action, Encounter, FacilityId, Phi};
use health_data_ai::error::Kind;
use health_data_ai::schema::Feature;

use super::place::*;

/// The sums as a simple loop makes them.
fn expected(encounters: &[Encounter], today: NaiveDate, from: NaiveDate) -> Vec<WeekOfStays> {
    let mut cells: BTreeMap<(Group, NaiveDate), (u64, u64, u64)> = BTreeMap::new();
    for encounter in encounters {
        let Some(discharged) = encounter.discharged.reveal().filter(|day| *day <= today && week_of(*day) >= from) else { continue };
        let days = u64::try_from((discharged - *encounter.admitted.reveal()).num_days()).unwrap();
        let present = Feature::conditions().filter(|condition| encounter.clinical.get(*condition) == Some(1.0));
        for condition in present.map(Some).chain([None]) {
            let group = Group { facility: encounter.facility, condition };
            let cell = cells.entry((group, week_of(discharged))).or_default();
            *cell = (cell.0 + 1, cell.1 + days, cell.2 + days * days);
        }
    }
    let sums = |((group, week), (stays, days, days_squared))| WeekOfStays { group, week, stays, days, days_squared };
    cells.into_iter().map(sums).collect()
}

pub(super) async fn the_stay_history_is_what_the_encounters_say(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let today = day("2025-01-08");
    assert_eq!(store.stay_history(today, 9).await.unwrap(), Default::default());

    let mut encounters: Vec<Encounter> = (1..=300).map(encounter).collect();
    encounters.push(bare_encounter(301));
    // Nothing is known of this one's conditions, and it was discharged on the day of its admission.
    encounters.push(Encounter { discharged: bare_encounter(302).admitted.map(Some), ..bare_encounter(302) });
    // Not admitted, and not discharged, by today.
    encounters.push(Encounter {
        admitted: Phi::new(today + Days::new(1)),
        discharged: Phi::new(Some(today + Days::new(3))),
        ..encounter(303)
    });
    encounters.push(Encounter { admitted: Phi::new(today), discharged: Phi::new(Some(today + Days::new(1))), ..encounter(304) });
    import(&*store, 1, encounters.clone()).await;

    let history = store.stay_history(today, 1000).await.unwrap();
    assert_eq!(history.stays, expected(&encounters, today, NaiveDate::MIN));
    let mut admissions: BTreeMap<NaiveDate, u64> = BTreeMap::new();
    for encounter in encounters.iter().filter(|encounter| *encounter.admitted.reveal() <= today) {
        *admissions.entry(week_of(*encounter.admitted.reveal())).or_default() += 1;
    }
    assert_eq!(history.admissions, admissions.into_iter().collect::<Vec<_>>());
    // Every encounter discharged by today counts once among "every patient" of its facility.
    let everyone = history.stays.iter().filter(|week| week.group.condition.is_none()).map(|week| week.stays).sum::<u64>();
    assert_eq!(
        everyone,
        encounters.iter().filter(|encounter| encounter.discharged.reveal().is_some_and(|day| day <= today)).count() as u64
    );
}

pub(super) async fn the_newest_weeks_are_kept(new_place: NewPlace) {
    let store = new_place().migrated().await;
    let encounters: Vec<Encounter> = (1..=200).map(encounter).collect();
    import(&*store, 1, encounters.clone()).await;
    let today = day("2026-01-01");
    let all = store.stay_history(today, u32::MAX).await.unwrap();
    let last = all.stays.iter().map(|week| week.week).max().unwrap();
    let from = last - Days::new(7 * 4);
    let newest = store.stay_history(today, 5).await.unwrap();
    assert_eq!(newest.stays, expected(&encounters, today, from));
    assert_eq!(newest.admissions, all.admissions.into_iter().filter(|(week, _)| *week >= from).collect::<Vec<_>>());
    assert_eq!(store.stay_history(today, 0).await.unwrap(), Default::default());
}

fn finding(facility: &str, condition: Option<Feature>, direction: Direction) -> Finding {
    Finding {
        group: Group { facility: FacilityId::parse(facility).unwrap(), condition },
        direction,
        first_week: day("2024-06-03"),
        last_week: day("2024-07-01"),
        stays: 4_000_000_000,
        mean_days: 5.0 / 3.0,
        expected_days: 1.1,
        average_days: 0.1 + 0.2,
        limit_days: 1.25,
    }
}

fn survey(seconds: u32) -> Survey {
    let mut findings: Vec<_> = Feature::conditions().map(|condition| finding("A", Some(condition), Direction::Rise)).collect();
    findings.push(finding("E", None, Direction::Decline));
    Survey { found: at(seconds), weeks: Some((day("2024-01-01"), day("2024-07-01"))), charted: 47, uncharted: 13, findings }
}

pub(super) async fn a_survey_takes_the_place_of_the_one_before(new_place: NewPlace) {
    let place = new_place();
    let (store, other) = (place.migrated().await, place.open().await);
    assert_eq!(other.survey(9).await.unwrap(), None);
    let (first, second) = (survey(1), Survey { findings: survey(2).findings.split_off(5), ..survey(2) });
    for written in [&first, &second] {
        store.replace_survey(written, &event(Action::FindAnomalies, 3).detail("a survey")).await.unwrap();
        assert_eq!(other.survey(1000).await.unwrap().as_ref(), Some(written));
    }
    let short = other.survey(2).await.unwrap().unwrap();
    assert_eq!(short, Survey { findings: second.findings[..2].to_vec(), ..second });
    let empty = Survey { found: at(9), ..Survey::default() };
    store.replace_survey(&empty, &event(Action::FindAnomalies, 4)).await.unwrap();
    assert_eq!(other.survey(9).await.unwrap(), Some(empty));
    assert_eq!(other.audit_events(9).await.unwrap().len(), 3);
}

pub(super) async fn a_survey_that_is_not_finite_leaves_the_one_before(new_place: NewPlace) {
    let store = new_place().migrated().await;
    store.replace_survey(&survey(1), &event(Action::FindAnomalies, 1)).await.unwrap();
    for broken in [f64::NAN, f64::INFINITY] {
        let mut worse = survey(2);
        worse.findings[7].limit_days = broken;
        let refused = store.replace_survey(&worse, &event(Action::FindAnomalies, 2)).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Internal);
    }
    assert_eq!(store.survey(1000).await.unwrap(), Some(survey(1)));
    assert_eq!(store.audit_events(9).await.unwrap().len(), 1, "the fact and its event stand or fall together");
}
