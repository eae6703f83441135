//! Encounters that name nobody, page by page (ADR 0012). The order of the pages follows neither ids nor days: small ranges of ids are visited in
//! an order that a key decides, in groups that nobody's question changes, and a page is sorted by pseudonym.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Datelike, Duration, NaiveDate, Utc};

use super::Hospital;
use super::pseudonym::{PseudonymKey, bad_cursor};
use crate::domain::alert::rows_note;
use crate::domain::rows::{Class, Row, Told, is_told, stay_told, told, told_before};
use crate::domain::{Action, AuditEvent, Caller, Encounter, EncounterId, Outcome};
use crate::error::{Error, Kind, Result};
use crate::schema::Feature;
use crate::store::{BUCKET_IDS, RowSurvey};

/// Rows that a group has at least, unless there are no more: fewer would show which ids lie side by side.
pub const ROWS_MIN: u32 = 500;
/// Rows that a page may be asked to have. A page is of whole groups, which may have more than [`ROWS_MIN`] each.
pub const ROWS_MAX: u32 = 5_000;

/// Ranges of ids that a page looks into; more only if its first group has more.
const BUCKETS_MAX: usize = 500;

/// How long what is known of all encounters serves an export that is under way, and how long one that begins.
const FRESH: (Duration, Duration) = (Duration::hours(1), Duration::minutes(1));

/// What the cursors are bound to.
const ROUTE: &str = "rows";

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub struct RowPage {
    /// The rows, by pseudonym.
    pub rows: Vec<Row>,
    /// Conditions that so few patients have that nobody's is told.
    pub withheld: Vec<Feature>,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// A page of encounters that name nobody, of those admitted before this quarter ([`told_before`]), of about `limit` rows, after the page
/// that answered `cursor`. It leaves a note with their number.
///
/// # Errors
/// The caller may not read them; invalid, if the cursor is not one of ours; conflict, if encounters of that time came since the export began;
/// the record is away.
pub async fn rows(caller: &Caller, hospital: &Hospital, cursor: Option<&str>, limit: u32, now: DateTime<Utc>) -> Result<RowPage> {
    hospital.allow(caller, Action::ReadRows, now).await?;
    let event = |outcome| AuditEvent::new(caller, Action::ReadRows, outcome, now);
    let start = match cursor.map(|cursor| Position::open(&hospital.pseudonyms, cursor)) {
        None => None,
        Some(Some(position)) => Some(position),
        Some(None) => {
            hospital.store.append_audit(&event(Outcome::Failure).detail("not a cursor of this route")).await?;
            return Err(bad_cursor());
        }
    };
    let whole = hospital.whole(start.as_ref(), now).await?;
    if start.as_ref().is_some_and(|start| start.mark != whole.mark) {
        hospital.store.append_audit(&event(Outcome::Failure).detail("the record changed under an export")).await?;
        let remedy = "encounters of the time that is told came since this export began: begin it again, without a cursor";
        return Err(Error::new(Kind::Conflict, remedy));
    }
    let (ranges, next) = whole.page(start.map_or(0, |start| start.group), limit);
    let mut rows = Vec::new();
    for (first, last) in ranges.iter().filter_map(|bucket| ids(*bucket)) {
        let found = hospital.store.encounters_between(first, last, BUCKET_IDS.unsigned_abs()).await?;
        rows.extend(found.iter().filter_map(|encounter| whole.row(&hospital.pseudonyms, encounter)));
    }
    rows.sort_by(|one: &Row, other| one.pseudonym.cmp(&other.pseudonym));
    hospital.store.append_audit(&event(Outcome::Success).detail(rows_note(rows.len()))).await?;
    let next = next.map(|group| Position { group, mark: whole.mark, at: whole.at }.seal(&hospital.pseudonyms)).transpose()?;
    Ok(RowPage { rows, withheld: whole.withheld.iter().copied().collect(), next })
}

/// The first and the last id of a range.
fn ids(bucket: i32) -> Option<(EncounterId, EncounterId)> {
    let first = i64::from(bucket) * i64::from(BUCKET_IDS);
    let id = |number: i64| EncounterId::new(number.clamp(1, i32::MAX.into()));
    Some((id(first)?, id(first + i64::from(BUCKET_IDS) - 1)?))
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    group: u32,
    /// [`Whole::mark`] of the survey that decided the groups.
    mark: [u8; 8],
    /// When that survey was made, in milliseconds of the epoch.
    at: i64,
}

impl Position {
    fn seal(self, key: &PseudonymKey) -> Result<String> {
        key.seal(ROUTE, &[&self.group.to_be_bytes()[..], &self.mark, &self.at.to_be_bytes()].concat())
    }

    fn open(key: &PseudonymKey, cursor: &str) -> Option<Self> {
        let bytes = key.open(ROUTE, cursor)?;
        let (group, rest) = bytes.split_first_chunk()?;
        let (mark, at) = rest.split_first_chunk()?;
        Some(Self { group: u32::from_be_bytes(*group), mark: *mark, at: i64::from_be_bytes(at.try_into().ok()?) })
    }
}

/// What is known of all encounters together that are told.
struct Whole {
    /// When it was asked for, in milliseconds of the epoch.
    at: i64,
    /// Encounters admitted before this day are told.
    before: NaiveDate,
    told: HashMap<Class, Told>,
    withheld: BTreeSet<Feature>,
    /// Ranges of ids in the order that the key decides.
    walk: Vec<i32>,
    /// Where in `walk` each group lies. They follow from the record and the key alone, so that no two questions differ by less than a group.
    groups: Vec<Range<usize>>,
    /// By what the walk is known again.
    mark: [u8; 8],
}

impl Whole {
    fn new(survey: &RowSurvey, key: &PseudonymKey, least: u64, before: NaiveDate, now: DateTime<Utc>) -> Self {
        let counts: Vec<_> = survey.cells.iter().map(|cell| (cell.class, cell.encounters)).collect();
        let with = |at: usize| survey.cells.iter().filter_map(|cell| cell.conditions.get(at)).sum::<u64>();
        // One that nobody has yet would be shown for its first patient.
        let rare = Feature::conditions().enumerate().filter(|(at, _)| with(*at) < least);
        let mut marked = before.num_days_from_ce().to_be_bytes().to_vec();
        for (bucket, encounters) in &survey.buckets {
            marked.extend(bucket.to_be_bytes());
            marked.extend(encounters.to_be_bytes());
        }
        let mut walk = survey.buckets.clone();
        walk.sort_unstable_by_key(|(bucket, _)| (key.place(*bucket), *bucket));
        Self {
            at: now.timestamp_millis(),
            before,
            told: told(&counts, least),
            withheld: rare.map(|(_, feature)| feature).collect(),
            groups: groups(walk.iter().map(|(_, encounters)| *encounters)),
            walk: walk.into_iter().map(|(bucket, _)| bucket).collect(),
            mark: key.mark(&marked),
        }
    }

    /// The ranges of the page that begins with group `first`, and the group that the next one begins with.
    fn page(&self, first: u32, limit: u32) -> (&[i32], Option<u32>) {
        let most = limit.clamp(ROWS_MIN, ROWS_MAX) / ROWS_MIN;
        let groups = self.groups.get(first as usize..).unwrap_or_default();
        let Some(start) = groups.first().map(|group| group.start) else { return (&[], None) };
        let fitting = groups.iter().take(most as usize).take_while(|group| group.end - start <= BUCKETS_MAX).count().max(1);
        let end = groups.get(fitting - 1).map_or(start, |group| group.end);
        let next = u32::try_from(fitting).ok().map(|fitting| first + fitting).filter(|_| fitting < groups.len());
        (self.walk.get(start..end).unwrap_or_default(), next)
    }

    /// `None` for an encounter that is not told yet. One of a class that came up since the survey is told without it.
    fn row(&self, key: &PseudonymKey, encounter: &Encounter) -> Option<Row> {
        if !is_told(encounter, self.before) {
            return None;
        }
        let mut clinical = encounter.clinical.clone();
        self.withheld.iter().for_each(|feature| clinical.set(*feature, None));
        Some(Row {
            pseudonym: key.pseudonym(encounter.id),
            told: self.told.get(&Class::of(encounter)).copied().unwrap_or_default(),
            stay_days: stay_told(encounter, self.before),
            clinical,
        })
    }

    /// May it serve a page that begins at `start`?
    fn serves(&self, start: Option<&Position>, now: DateTime<Utc>) -> bool {
        let age = Duration::milliseconds(now.timestamp_millis().saturating_sub(self.at));
        match start {
            // Another instance may have begun the export with a newer survey than ours.
            Some(start) => (Duration::zero()..FRESH.0).contains(&age) && (self.mark == start.mark || self.at >= start.at),
            None => (Duration::zero()..FRESH.1).contains(&age) && self.before == told_before(now.date_naive()),
        }
    }
}

/// Groups of at least [`ROWS_MIN`] rows, given how many each range has; what is left at the end belongs to the last one.
fn groups(encounters: impl Iterator<Item = u64>) -> Vec<Range<usize>> {
    let (mut groups, mut rows, mut end): (Vec<Range<usize>>, u64, usize) = (Vec::new(), 0, 0);
    let mut start = 0;
    for count in encounters {
        (rows, end) = (rows + count, end + 1);
        if rows >= ROWS_MIN.into() {
            groups.push(start..end);
            (rows, start) = (0, end);
        }
    }
    match groups.last_mut() {
        Some(last) => last.end = end,
        None if end > 0 => groups.push(0..end),
        None => {}
    }
    groups
}

/// What was last known of all encounters.
#[derive(Default)]
pub(super) struct WholeSlot {
    held: Mutex<Option<Arc<Whole>>>,
    /// Held while the record is asked: whoever needs the same waits for the answer, for it takes a pass over the table.
    asking: tokio::sync::Mutex<()>,
}

impl WholeSlot {
    fn serving(&self, start: Option<&Position>, now: DateTime<Utc>) -> Option<Arc<Whole>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone().filter(|whole| whole.serves(start, now))
    }
}

impl Hospital {
    async fn whole(&self, start: Option<&Position>, now: DateTime<Utc>) -> Result<Arc<Whole>> {
        if let Some(whole) = self.whole.serving(start, now) {
            return Ok(whole);
        }
        let _asking = self.whole.asking.lock().await;
        if let Some(whole) = self.whole.serving(start, now) {
            return Ok(whole);
        }
        let before = told_before(now.date_naive());
        let survey = self.store.row_survey(before).await?;
        let whole = Arc::new(Whole::new(&survey, &self.pseudonyms, self.cell_min(), before, now));
        *self.whole.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&whole));
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    fn key() -> PseudonymKey {
        PseudonymKey::from_base64(&STANDARD.encode([1; 32])).unwrap()
    }

    fn whole(buckets: &[(i32, u64)]) -> Whole {
        let survey = RowSurvey { cells: vec![], buckets: buckets.to_vec() };
        Whole::new(&survey, &key(), 11, NaiveDate::from_ymd_opt(2026, 10, 1).unwrap(), DateTime::UNIX_EPOCH)
    }

    #[test]
    fn whatever_limits_are_asked_for_no_two_pages_differ_by_less_than_a_group() {
        let whole = whole(&(0..100).map(|bucket| (bucket, 1 + (bucket as u64 * 37) % 128)).collect::<Vec<_>>());
        let rows = |bucket: &i32| 1 + (*bucket as u64 * 37) % 128;
        let mut ends = BTreeSet::new();
        for limit in 0..6_000 {
            let (mut group, mut seen) = (Some(0), Vec::new());
            while let Some(first) = group {
                let (ranges, next) = whole.page(first, limit);
                seen.extend_from_slice(ranges);
                ends.insert(seen.len());
                group = next;
            }
            assert_eq!(seen, whole.walk, "each once, in one order");
        }
        let ends: Vec<_> = std::iter::once(0).chain(ends).collect();
        for pair in ends.windows(2) {
            let between: u64 = whole.walk[pair[0]..pair[1]].iter().map(rows).sum();
            assert!(between >= ROWS_MIN.into(), "{between} rows");
        }
        assert!(ends.len() > 5);
    }

    #[test]
    fn few_rows_are_one_page_and_none_are_none() {
        assert_eq!(whole(&[(0, 3), (9, 4)]).page(0, 500).0.len(), 2);
        assert_eq!(whole(&[]).page(0, 500), (&[][..], None));
        assert_eq!(whole(&[(0, 128)]).page(7, 500), (&[][..], None));
    }

    #[test]
    fn ids_that_lie_far_apart_make_pages_of_one_group() {
        let far = whole(&(0..3_000).map(|bucket| (bucket, 1)).collect::<Vec<_>>());
        assert_eq!(far.page(0, 5_000).0.len(), 500);
    }

    #[test]
    fn a_condition_that_nobody_has_yet_is_withheld() {
        assert_eq!(whole(&[]).withheld.len(), Feature::conditions().count());
    }

    #[test]
    fn a_later_page_knows_its_survey_again_and_another_instances_newer_one() {
        let (old, new) = (whole(&[(0, 3)]), whole(&[(0, 4)]));
        assert_ne!(old.mark, new.mark, "an encounter more");
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let start = |whole: &Whole, at| Position { group: 0, mark: whole.mark, at };
        let opened = Position::open(&key(), &start(&new, 77).seal(&key()).unwrap());
        assert_eq!(opened, Some(start(&new, 77)));
        assert!(old.serves(Some(&start(&old, 9_000)), at(60)), "the same walk");
        assert!(!old.serves(Some(&start(&new, 9_000)), at(60)), "a newer one: the record is asked");
        assert!(old.serves(Some(&start(&new, -1)), at(60)), "an older one: the export begins again");
        assert!(!old.serves(Some(&start(&old, 0)), at(3_600)) && !old.serves(None, at(1)), "too old; another quarter");
    }
}
