//! Encounters that name nobody, page by page (ADR 0012). The order of the pages follows neither ids nor days: small ranges of ids are visited in
//! an order that a key decides, and a page is sorted by pseudonym.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Duration, Utc};

use super::Hospital;
use super::pseudonym::{PseudonymKey, bad_cursor};
use crate::domain::alert::rows_note;
use crate::domain::rows::{Class, Row, Told, stay_told, told};
use crate::domain::{Action, AuditEvent, Caller, Encounter, EncounterId, Outcome};
use crate::error::Result;
use crate::schema::Feature;
use crate::store::{BUCKET_IDS, RowSurvey};

/// Rows that a page has at least, unless it is the last or the ids lie far apart: fewer would show which ids lie side by side.
pub const ROWS_MIN: u32 = 500;
/// Rows that a page may be asked to have; the last range of ids is shown whole, so it may have [`BUCKET_IDS`] more.
pub const ROWS_MAX: u32 = 5_000;

/// Ranges of ids that a page looks into, at most.
const BUCKETS_MAX: usize = 200;

/// How long what is known of all encounters serves an export that is under way, and how long one that begins.
const FRESH: (Duration, Duration) = (Duration::minutes(10), Duration::minutes(1));

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

/// A page of encounters that name nobody, of about `limit` rows, after the page that answered `cursor`. It leaves a note with their number.
///
/// # Errors
/// The caller may not read them; invalid, if the cursor is not one of ours; the record is away.
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
    let whole = hospital.whole(if start.is_some() { FRESH.0 } else { FRESH.1 }, now).await?;
    let from = start.map_or(0, |start| whole.walk.partition_point(|position| *position <= start));
    let limit = limit.clamp(ROWS_MIN, ROWS_MAX) as usize;
    let (mut rows, mut end) = (Vec::new(), from);
    for position in whole.walk.iter().skip(from).take(BUCKETS_MAX) {
        end += 1;
        let Some((first, last)) = position.ids() else { continue };
        let found = hospital.store.encounters_between(first, last, BUCKET_IDS.unsigned_abs()).await?;
        rows.extend(found.iter().map(|encounter| whole.row(&hospital.pseudonyms, encounter)));
        if rows.len() >= limit {
            break;
        }
    }
    rows.sort_by(|one: &Row, other| one.pseudonym.cmp(&other.pseudonym));
    hospital.store.append_audit(&event(Outcome::Success).detail(rows_note(rows.len()))).await?;
    let reached = end.checked_sub(1).and_then(|at| whole.walk.get(at)).filter(|_| end < whole.walk.len());
    let next = reached.map(|position| position.seal(&hospital.pseudonyms)).transpose()?;
    Ok(RowPage { rows, withheld: whole.withheld.iter().copied().collect(), next })
}

/// A range of ids, at its place in the order that the key decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    place: u64,
    bucket: i32,
}

impl Position {
    fn of(key: &PseudonymKey, bucket: i32) -> Self {
        Self { place: key.place(bucket), bucket }
    }

    fn seal(self, key: &PseudonymKey) -> Result<String> {
        key.seal(ROUTE, &self.bucket.to_be_bytes())
    }

    fn open(key: &PseudonymKey, cursor: &str) -> Option<Self> {
        let bytes: [u8; 4] = key.open(ROUTE, cursor)?.try_into().ok()?;
        Some(Self::of(key, i32::from_be_bytes(bytes)))
    }

    /// The first and the last of its ids.
    fn ids(self) -> Option<(EncounterId, EncounterId)> {
        let first = i64::from(self.bucket) * i64::from(BUCKET_IDS);
        let id = |number: i64| EncounterId::new(number.clamp(1, i32::MAX.into()));
        Some((id(first)?, id(first + i64::from(BUCKET_IDS) - 1)?))
    }
}

/// What is known of all encounters together.
struct Whole {
    told: HashMap<Class, Told>,
    withheld: BTreeSet<Feature>,
    walk: Vec<Position>,
}

impl Whole {
    fn new(survey: &RowSurvey, key: &PseudonymKey, least: u64) -> Self {
        let counts: Vec<_> = survey.cells.iter().map(|cell| (cell.class, cell.encounters)).collect();
        let with = |at: usize| survey.cells.iter().filter_map(|cell| cell.conditions.get(at)).sum::<u64>();
        let rare = Feature::conditions().enumerate().filter(|(at, _)| (1..least).contains(&with(*at)));
        let mut walk: Vec<_> = survey.buckets.iter().map(|bucket| Position::of(key, *bucket)).collect();
        walk.sort_unstable();
        Self { told: told(&counts, least), withheld: rare.map(|(_, feature)| feature).collect(), walk }
    }

    /// An encounter of a class that came up since is told without it.
    fn row(&self, key: &PseudonymKey, encounter: &Encounter) -> Row {
        let mut clinical = encounter.clinical.clone();
        self.withheld.iter().for_each(|feature| clinical.set(*feature, None));
        Row {
            pseudonym: key.pseudonym(encounter.id),
            told: self.told.get(&Class::of(encounter)).copied().unwrap_or_default(),
            stay_days: stay_told(encounter),
            clinical,
        }
    }
}

/// What was last known of all encounters, and when.
#[derive(Default)]
pub(super) struct WholeSlot(Mutex<Option<(DateTime<Utc>, Arc<Whole>)>>);

impl Hospital {
    async fn whole(&self, fresh: Duration, now: DateTime<Utc>) -> Result<Arc<Whole>> {
        let held = self.whole.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, whole)) = held.filter(|(at, _)| (Duration::zero()..fresh).contains(&(now - *at))) {
            return Ok(whole);
        }
        let survey = self.store.row_survey().await?;
        let whole = Arc::new(Whole::new(&survey, &self.pseudonyms, self.cell_min()));
        *self.whole.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&whole)));
        Ok(whole)
    }
}
