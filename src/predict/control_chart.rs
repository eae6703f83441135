//! Control charts: has the average stay of a facility's patients, or of those with one condition, risen or declined?
//!
//! An exponentially weighted moving average of weekly averages (NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.4) against limits from
//! a baseline, the first weeks of the group. It does not know where stays come from or where findings go.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};

use crate::domain::anomaly::{Direction, Finding, StayHistory, Survey, WeekOfStays};

/// Weight of the newest week; the handbook advises 0.2 to 0.3.
const LAMBDA: f64 = 0.2;
/// Half the width of the limits, in standard deviations of the moving average; the handbook's choice.
const WIDTH: f64 = 3.0;
/// A baseline is the first third of a group's weeks, at least and at most so many.
const BASELINE_WEEKS: (usize, usize) = (8, 26);
/// Fewest degrees of freedom of a baseline's spread, its stays less its weeks: 30 stays in 8 weeks have so many. A baseline takes more
/// weeks until it has them; a spread from fewer is a guess.
const BASELINE_FREEDOM_MIN: u64 = 22;
/// First weeks of a record that nobody is judged by: whoever leaves in them after a long stay was admitted before the record began.
const SETTLING_WEEKS: usize = 4;
/// A week with fewer admissions than the median week divided by this is not judged: where a record ends within a week, only long stays
/// are left to end, and a mistyped year is no week at all.
const QUIET_WEEK: u64 = 2;
/// Smallest spread of stays that is believed, days: that of rounding to whole days, a uniform error of one day (1/√12).
const SPREAD_DAYS_MIN: f64 = 0.288_675_134_594_812_9;

/// Draws the chart of every group in `history`, at the time `found`.
pub fn survey(history: &StayHistory, found: DateTime<Utc>) -> Survey {
    let judged = judged_weeks(&history.admissions);
    let mut survey = Survey {
        found,
        weeks: judged.first().copied().zip(judged.last().copied()),
        charted: 0,
        uncharted: 0,
        findings: Vec::new(),
    };
    for group in history.stays.chunk_by(|one, next| one.group == next.group) {
        let weeks: Vec<_> = group.iter().filter(|week| week.stays > 0 && judged.contains(&week.week)).copied().collect();
        match Baseline::of(&weeks) {
            None => survey.uncharted += 1,
            Some(baseline) => {
                survey.charted += 1;
                survey.findings.extend(baseline.watch(&weeks[baseline.weeks..]));
            }
        }
    }
    survey.findings.sort_by_key(|finding| (std::cmp::Reverse(finding.last_week), finding.group, finding.first_week));
    survey
}

fn judged_weeks(admissions: &[(NaiveDate, u64)]) -> BTreeSet<NaiveDate> {
    let mut counts: Vec<u64> = admissions.iter().map(|(_, count)| *count).collect();
    counts.sort_unstable();
    let median = counts.get(counts.len() / 2).copied().unwrap_or_default();
    let busy = admissions.iter().filter(|(_, count)| count.saturating_mul(QUIET_WEEK) >= median);
    busy.skip(SETTLING_WEEKS).map(|(week, _)| *week).collect()
}

/// What a group's stays were like before anyone watched.
struct Baseline {
    /// Weeks it was taken from.
    weeks: usize,
    stays: f64,
    mean_days: f64,
    /// Standard deviation of a stay within its week, days.
    spread_days: f64,
}

impl Baseline {
    /// `None` if the weeks hold too little for a baseline and one more week.
    fn of(weeks: &[WeekOfStays]) -> Option<Self> {
        let (least, most) = BASELINE_WEEKS;
        let mut taken = (weeks.len() / 3).clamp(least, most);
        while weeks.get(..taken)?.iter().map(|week| week.stays).sum::<u64>() < taken as u64 + BASELINE_FREEDOM_MIN {
            taken += 1;
        }
        let baseline = weeks.get(..taken).filter(|baseline| baseline.len() < weeks.len())?;
        let stays = baseline.iter().map(|week| week.stays).sum::<u64>() as f64;
        let mean_days = baseline.iter().map(|week| week.days).sum::<u64>() as f64 / stays;
        let within = |week: &WeekOfStays| week.days_squared as f64 - (week.days as f64).powi(2) / week.stays as f64;
        let variance = baseline.iter().map(within).sum::<f64>().max(0.0) / (stays - taken as f64);
        Some(Self { weeks: taken, stays, mean_days, spread_days: variance.sqrt().max(SPREAD_DAYS_MIN) })
    }

    /// The findings of the weeks after the baseline; consecutive weeks out on one side are one finding.
    fn watch(&self, weeks: &[WeekOfStays]) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        let (mut average, mut noise, mut memory) = (self.mean_days, 0.0, 1.0);
        let (mut before, mut farthest) = (None, 0.0);
        for week in weeks {
            let stays = week.stays as f64;
            average = LAMBDA * (week.days as f64 / stays) + (1.0 - LAMBDA) * average;
            // Variance of the moving average in units of a stay's: the recursion gives λ/(2−λ)·[1−(1−λ)^2t]/n where every week has n
            // stays, and holds where they differ. The baseline's average is itself an estimate, with the weight that it has lost since.
            noise = (1.0 - LAMBDA).powi(2) * noise + LAMBDA * LAMBDA / stays;
            memory *= 1.0 - LAMBDA;
            let deviation = self.spread_days * (noise + (1.0_f64 - memory).powi(2) / self.stays).sqrt();
            let out = (average - self.mean_days) / deviation;
            let side = if out > 0.0 { Direction::Rise } else { Direction::Decline };
            let direction = (out.abs() > WIDTH).then_some(side);
            if let Some(direction) = direction {
                if before != Some(direction) {
                    farthest = 0.0;
                    findings.push(self.begin(week, direction));
                }
                if let Some(finding) = findings.last_mut() {
                    extend(finding, week);
                    if out.abs() > farthest {
                        farthest = out.abs();
                        finding.average_days = average;
                        finding.limit_days = self.mean_days + WIDTH.copysign(out) * deviation;
                    }
                }
            }
            before = direction;
        }
        findings
    }

    fn begin(&self, week: &WeekOfStays, direction: Direction) -> Finding {
        Finding {
            group: week.group,
            direction,
            first_week: week.week,
            last_week: week.week,
            stays: 0,
            mean_days: 0.0,
            expected_days: self.mean_days,
            average_days: self.mean_days,
            limit_days: self.mean_days,
        }
    }
}

fn extend(finding: &mut Finding, week: &WeekOfStays) {
    let days = finding.mean_days * finding.stays as f64 + week.days as f64;
    finding.stays += week.stays;
    finding.mean_days = days / finding.stays as f64;
    finding.last_week = week.week;
}

#[cfg(test)]
mod tests {
    use chrono::Days;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::domain::FacilityId;
    use crate::domain::anomaly::Group;
    use crate::schema::Feature;

    fn monday(week: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2012, 1, 2).unwrap() + Days::new(7 * week)
    }

    fn group(facility: &str, condition: Option<Feature>) -> Group {
        Group { facility: FacilityId::parse(facility).unwrap(), condition }
    }

    fn week(number: u64, stays: &[u64]) -> WeekOfStays {
        WeekOfStays {
            group: group("A", None),
            week: monday(number),
            stays: stays.len() as u64,
            days: stays.iter().sum(),
            days_squared: stays.iter().map(|days| days * days).sum(),
        }
    }

    /// A history of one group whose first stays end after the settling weeks.
    fn history(weeks: &[Vec<u64>]) -> StayHistory {
        let settled = |number: usize| number as u64 + SETTLING_WEEKS as u64;
        StayHistory {
            admissions: (0..settled(weeks.len())).map(|number| (monday(number), 20)).collect(),
            stays: weeks.iter().enumerate().map(|(number, stays)| week(settled(number), stays)).collect(),
        }
    }

    fn look(history: &StayHistory) -> Survey {
        let survey = survey(history, DateTime::UNIX_EPOCH);
        for finding in &survey.findings {
            for number in [finding.mean_days, finding.expected_days, finding.average_days, finding.limit_days] {
                assert!(number.is_finite(), "{finding:?}");
            }
            assert!(finding.first_week <= finding.last_week && finding.stays > 0);
        }
        survey
    }

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn values_are_those_computed_by_hand() {
        // Eight weeks of 2, 4, 4 and 6 days: mean 4, squares within weeks 8·8 = 64 with 32−8 degrees of freedom, variance 8/3.
        let mut weeks = vec![vec![2, 4, 4, 6]; 8];
        // Four stays of 9 days: average 0.2·9 + 0.8·4 = 5; variance 8/3·(0.04/4 + 0.2²/32) = 0.03; limit 4 + 3·√0.03 = 4.52.
        weeks.push(vec![9; 4]);
        // One stay of 4 days: average 4.8; variance 8/3·(0.64·0.01 + 0.04 + 0.36²/32) = 0.134533; limit 5.10: it is in again.
        weeks.push(vec![4]);
        let survey = look(&history(&weeks));
        assert_eq!((survey.charted, survey.uncharted), (1, 0));
        assert_eq!(survey.weeks, Some((monday(4), monday(13))));
        let [finding] = survey.findings[..] else { panic!("{:?}", survey.findings) };
        assert_eq!((finding.direction, finding.stays), (Direction::Rise, 4));
        assert_eq!((finding.first_week, finding.last_week), (monday(12), monday(12)));
        near(finding.mean_days, 9.0);
        near(finding.expected_days, 4.0);
        near(finding.average_days, 5.0);
        near(finding.limit_days, 4.0 + 3.0 * 0.03_f64.sqrt());

        // One stay of 7 days instead: average 5.4, out, so the finding goes on. The first week is the farther out: 1/0.173 against 1.4/0.367.
        weeks[9] = vec![7];
        let finding = look(&history(&weeks)).findings[0];
        assert_eq!((finding.first_week, finding.last_week, finding.stays), (monday(12), monday(13), 5));
        near(finding.mean_days, 43.0 / 5.0);
        near(finding.average_days, 5.0);
    }

    #[test]
    fn a_decline_mirrors_a_rise_and_a_change_of_side_is_another_finding() {
        let mut weeks = vec![vec![4, 6, 6, 8]; 8];
        weeks.push(vec![1; 4]);
        weeks.push(vec![30; 4]);
        let findings = look(&history(&weeks)).findings;
        // Latest first.
        let directions: Vec<_> = findings.iter().map(|finding| finding.direction).collect();
        assert_eq!(directions, [Direction::Rise, Direction::Decline]);
        near(findings[1].average_days, 5.0);
        near(findings[1].limit_days, 6.0 - 3.0 * 0.03_f64.sqrt());
    }

    /// Stays as wards have them: skewed, from 1 day on, 4.5 days on average with a standard deviation of 3.5.
    fn stay(random: &mut ChaCha8Rng) -> u64 {
        let uniform = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        1 + (-4.0 * (1.0 - uniform).ln()) as u64
    }

    fn stable(seed: u64, weeks: usize) -> Vec<Vec<u64>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..weeks).map(|_| (0..3 + random.next_u64() % 20).map(|_| stay(&mut random)).collect()).collect()
    }

    /// Findings among 200 stable charts that are watched for a year each.
    #[test]
    fn stable_charts_seldom_alarm() {
        let alarmed = (0..200).filter(|seed| !look(&history(&stable(*seed, 78))).findings.is_empty()).count();
        println!("{alarmed} of 200 stable charts alarm within a year");
        assert!(
            (1..=30).contains(&alarmed),
            "{alarmed} of 200: docs/anomalies.md says about one in ten, and none at all would be deaf"
        );
    }

    #[test]
    fn a_planted_change_is_found_where_and_when_it_is() {
        for (sign, direction) in [(1, Direction::Rise), (-1, Direction::Decline)] {
            let mut found = 0;
            for seed in 0..50 {
                let mut weeks = stable(1000 + seed, 78);
                for days in weeks.iter_mut().flatten() {
                    *days += 4;
                }
                for days in weeks[40..].iter_mut().flatten() {
                    *days = days.saturating_add_signed(3 * sign);
                }
                let findings = look(&history(&weeks)).findings;
                let begins = monday(40 + SETTLING_WEEKS as u64);
                let hit = |finding: &Finding| {
                    finding.direction == direction && finding.last_week >= begins && finding.first_week <= begins + Days::new(7 * 8)
                };
                found += usize::from(findings.iter().any(hit));
            }
            assert!(found >= 48, "{direction:?}: {found} of 50 changes by three days were found within eight weeks");
        }
    }

    #[test]
    fn stays_that_never_vary_are_safe() {
        let constant = vec![vec![3; 5]; 40];
        let survey = look(&history(&constant));
        assert_eq!((survey.charted, survey.findings.len()), (1, 0));
        let mut zero = vec![vec![0; 5]; 40];
        assert!(look(&history(&zero)).findings.is_empty());
        zero[30..].fill(vec![2; 5]);
        assert_eq!(look(&history(&zero)).findings.len(), 1);
        let thirds = vec![vec![1, 1, 2]; 60];
        assert!(look(&history(&thirds)).findings.is_empty());
    }

    #[test]
    fn a_history_that_is_too_short_has_no_chart_and_says_so() {
        let uncharted = |weeks: &[Vec<u64>]| {
            let survey = look(&history(weeks));
            (survey.charted, survey.uncharted)
        };
        assert_eq!(uncharted(&vec![vec![2, 4, 4, 6]; 8]), (0, 1), "nothing left to watch");
        assert_eq!(uncharted(&vec![vec![2, 4, 4, 6]; 9]), (1, 0));
        assert_eq!(uncharted(&vec![vec![2, 4]; 22]), (0, 1), "44 stays in 22 weeks are the baseline alone");
        assert_eq!(uncharted(&vec![vec![2, 4]; 23]), (1, 0), "a baseline takes more weeks until it is enough");
        assert_eq!(uncharted(&vec![vec![4]; 60]), (0, 1), "one stay a week says nothing of the spread");
        assert_eq!(look(&StayHistory::default()), Survey { found: DateTime::UNIX_EPOCH, ..Survey::default() });
    }

    #[test]
    fn the_ends_of_a_record_and_mistyped_years_are_not_judged() {
        let mut history = history(&stable(7, 40));
        let calm = look(&history);
        assert!(calm.findings.is_empty());
        // Admissions end; whoever is left stays long. Ten years later stands one row with a typing error.
        for number in 44..48 {
            history.stays.push(week(number, &[20; 15]));
        }
        history.admissions.push((monday(560), 1));
        history.stays.push(week(560, &[90]));
        assert_eq!(look(&history), calm);
        // The first stays to end are short ones.
        history.stays.splice(0..0, (0..4).map(|number| week(number, &[0; 15])));
        assert_eq!(look(&history), calm);
    }

    #[test]
    fn groups_are_charted_apart() {
        let mut rising = vec![vec![2, 4, 4, 6]; 20];
        rising[15..].fill(vec![9; 4]);
        let mut all = history(&rising);
        let condition = Feature::conditions().next();
        for (facility, weeks) in [("B", vec![vec![2, 4, 4, 6]; 20]), ("C", rising)] {
            all.stays
                .extend(history(&weeks).stays.into_iter().map(|week| WeekOfStays { group: group(facility, condition), ..week }));
        }
        let survey = look(&all);
        assert_eq!(survey.charted, 3);
        let groups: Vec<_> = survey.findings.iter().map(|finding| finding.group).collect();
        assert_eq!(groups, [group("A", None), group("C", condition)]);
    }
}
