//! Rotate the keys of the names: a new data key, every name under it, then the older keys retired. The record stays in use meanwhile. A run that was
//! killed is gone on with by the next.

use chrono::{DateTime, Utc};

use super::Hospital;
use super::read::note;
use crate::domain::{Action, AuditEvent, Caller, Outcome};
use crate::error::{Error, Result};
use crate::store::datakeys::{DataKey, KeyState};
use crate::store::sealed::{FRESH, Sealed, Wrapping};

/// Names of one transaction.
const PAGE_ROWS: u32 = 1_000;

/// Looks at the whole record until there must be a reason for older forms that still come.
const LOOKS_MAX: u32 = 50;

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The current key's id.
    pub current: String,
    /// The keys that were retired.
    pub retired: Vec<String>,
    /// Encounters whose names were encrypted anew, in this run.
    pub encounters: u64,
    /// Was an earlier run gone on with, instead of a new key made?
    pub resumed: bool,
}

/// Makes a new data key, unless an earlier rotation is unfinished, and encrypts every name with the current one. `progress` is told how
/// many encounters that took so far.
///
/// # Errors
/// The caller may not; the record or the vault is away, or somebody keeps an older state of the record open: run it again; internal, if names do
/// not open: their keys are not retired, all others are done.
pub async fn rotate_keys(
    caller: &Caller,
    hospital: &Hospital,
    record: &Sealed,
    progress: &(dyn Fn(u64) + Send + Sync),
    now: fn() -> DateTime<Utc>,
) -> Result<Rotated> {
    hospital.allow(caller, Action::RotateKeys, now()).await?;
    let event = |outcome, detail: String| AuditEvent::new(caller, Action::RotateKeys, outcome, now()).detail(detail);
    let keys = record.data_keys().await?;
    let mut resumed = old(&keys).next().is_some();
    if !resumed {
        let before = current(&keys)?;
        let made = |id: &str| event(Outcome::Success, format!("data key {id} is current in the place of {before}"));
        resumed = record.renew_key(&before, made).await?.is_none();
    }
    // Until then another instance may believe the key before to be the current one.
    tokio::time::sleep(FRESH * 2).await;
    let mut encounters = 0;
    for _ in 0..LOOKS_MAX {
        let keys = record.data_keys().await?;
        let (target, ids) = (current(&keys)?, old(&keys).map(|key| key.id.clone()).collect::<Vec<_>>());
        let look = sweep(record, &target, &mut encounters, progress).await?;
        if look.unreadable > 0 {
            let detail = format!("{} names or texts do not open; their keys stay", look.unreadable);
            hospital.store.append_audit(&event(Outcome::Failure, detail)).await?;
            return Err(Error::internal(format!(
                "{} names or texts of break-glass do not open, and the older keys are not retired: restore the rows whose names or texts begin with \
                 `hdai1:` and another key's id than {target} from a backup",
                look.unreadable
            )));
        }
        // A look that found nothing to do: a batch that was under way when the key changed may have come in behind the one before.
        if look.missed == 0 && look.replaced == 0 && current(&record.data_keys().await?)? == target {
            let detail = format!("data keys {} retired, {encounters} encounters encrypted anew with {target}", ids.join(", "));
            record.retire_keys(&ids, &event(Outcome::Success, detail)).await?;
            return Ok(Rotated { current: target, retired: ids, encounters, resumed });
        }
        tokio::time::sleep(FRESH).await;
    }
    Err(Error::unavailable(
        "names under older keys keep coming: is an older version of this program still running? Stop it and run this again; nothing is lost",
    ))
}

/// Every data key, oldest first.
///
/// # Errors
/// The caller may not, or the record is away.
pub async fn list_keys(caller: &Caller, hospital: &Hospital, record: &Sealed, now: DateTime<Utc>) -> Result<Vec<DataKey>> {
    note(hospital, caller, Action::RotateKeys, "data keys listed", now).await?;
    record.data_keys().await
}

#[derive(Default)]
struct Look {
    replaced: u64,
    missed: u64,
    unreadable: u64,
}

/// One look at the whole record, in pages, each a transaction.
async fn sweep(record: &Sealed, target: &str, encounters: &mut u64, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<Look> {
    let (mut after, mut look) = (None, Look::default());
    while let Some(page) = record.reseal(target, after, PAGE_ROWS).await? {
        after = Some(page.last);
        *encounters += page.replaced;
        look.replaced += page.replaced;
        look.missed += page.missed;
        look.unreadable += page.unreadable;
        progress(*encounters);
    }
    let mut after = String::new();
    while let Some(page) = record.reseal_words(target, &after, PAGE_ROWS).await? {
        look.replaced += page.replaced;
        look.missed += page.missed;
        look.unreadable += page.unreadable;
        after = page.last;
    }
    Ok(look)
}

fn current(keys: &[DataKey]) -> Result<String> {
    let current = keys.iter().find(|key| key.state == KeyState::Current);
    current.map(|key| key.id.clone()).ok_or_else(|| Error::internal("the record holds no key for the names; run `hdai migrate`"))
}

fn old(keys: &[DataKey]) -> impl Iterator<Item = &DataKey> {
    keys.iter().filter(|key| key.state == KeyState::Old)
}

/// Wraps every data key anew, with the newest version of `to`; answers them. No name is touched.
///
/// # Errors
/// The caller may not; the record or a vault is away, or refuses: run it again.
pub async fn rewrap_keys(
    caller: &Caller,
    hospital: &Hospital,
    record: &Sealed,
    to: &dyn Wrapping,
    now: fn() -> DateTime<Utc>,
) -> Result<Vec<DataKey>> {
    hospital.allow(caller, Action::RotateKeys, now()).await?;
    let event = |key: &DataKey| {
        AuditEvent::new(caller, Action::RotateKeys, Outcome::Success, now())
            .detail(format!("data key {} is wrapped by {}", key.id, key.wrapped_by))
    };
    record.rewrap_keys(to, event).await
}
