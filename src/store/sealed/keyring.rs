//! The data keys of one process: unwrapped once, then held in memory. What other instances change is seen within seconds. Whoever needs no key
//! that is not held waits for no vault; whoever does shares one attempt with all the others, and is told soon if it fails.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use zeroize::Zeroizing;

use super::attempts::Attempts;
use super::cipher::{Cipher, KEY_BYTES};
use super::wrapping::{Wrapping, random_key};
use crate::azure::keys::Wrapped;
use crate::domain::AuditEvent;
use crate::error::{Error, Kind, Result};
use crate::store::datakeys::{DataKey, KeyState, KeyTable, PLAIN};

/// How long the record is believed to have the same current key.
pub const FRESH: Duration = Duration::from_secs(2);

/// Longest time in which a call is told whether a data key can be unwrapped, its row read. A start and a rotation wait longer.
pub const UNWRAP_WITHIN: Duration = Duration::from_secs(5);
/// How long a key that could not be unwrapped is left alone: as long as a caller that was answered 503 is told to wait.
pub const LEFT_ALONE: Duration = Duration::from_secs(5);
/// Longest time for the record to say which key is current; its own limits are shorter.
const ASK_WITHIN: Duration = Duration::from_secs(120);

/// The data keys of one record. It has no `Debug`.
pub(super) struct Keyring(Arc<Ring>);

struct Ring {
    table: Arc<dyn KeyTable>,
    wrapping: Arc<dyn Wrapping>,
    now: fn() -> DateTime<Utc>,
    held: RwLock<Held>,
    /// At the record, for which key is current.
    asking: Attempts<Arc<Cipher>>,
    /// At what wraps, for keys by id.
    unwrapping: Attempts<Arc<Cipher>>,
}

/// Keys by id.
pub(super) type Ciphers = HashMap<String, Arc<Cipher>>;

#[derive(Default)]
struct Held {
    ciphers: Ciphers,
    /// The key that encrypts: the newest current one that could be unwrapped.
    current: Option<Arc<Cipher>>,
    /// The id of the record's current key.
    wanted: String,
    asked: Option<Instant>,
}

impl Keyring {
    pub(super) fn new(table: Arc<dyn KeyTable>, wrapping: Arc<dyn Wrapping>, now: fn() -> DateTime<Utc>) -> Self {
        let asking = Attempts::new(ASK_WITHIN, Duration::ZERO);
        let unwrapping = Attempts::new(UNWRAP_WITHIN, LEFT_ALONE);
        Self(Arc::new(Ring { table, wrapping, now, held: RwLock::default(), asking, unwrapping }))
    }

    /// The key that encrypts now. While a newer one cannot be unwrapped, it is the one before.
    ///
    /// # Errors
    /// The record is away, or holds no key, or none was ever unwrapped here and this one cannot be.
    pub(super) async fn current(&self) -> Result<Arc<Cipher>> {
        match self.0.fresh() {
            Some(current) => Ok(current),
            None => self.0.asking.join("current", || Arc::clone(&self.0).ask()).await,
        }
    }

    /// The keys of these ids, all of them.
    ///
    /// # Errors
    /// As for [`Keyring::current`]; internal, if the record holds no such key.
    pub(super) async fn of<'i>(&self, ids: impl Iterator<Item = &'i str>) -> Result<Ciphers> {
        let mut found = Ciphers::new();
        for id in ids {
            if found.contains_key(id) {
                continue;
            }
            let cipher = match self.0.holds(id) {
                Some(cipher) => cipher,
                None => self.0.unwrapping.join(id, || Arc::clone(&self.0).fetch(id.to_owned())).await?,
            };
            found.insert(id.to_owned(), cipher);
        }
        Ok(found)
    }

    /// Makes the record's first key if it has none, and unwraps those in use: whoever starts without the key that wraps them stops here.
    pub(super) async fn ensure(&self) -> Result<()> {
        let ring = &self.0;
        if ring.table.data_keys().await?.is_empty() {
            ring.wrapping.make()?;
            let (key, _) = ring.new_key().await?;
            // Another instance may be first: then its key counts.
            ring.table.add_data_key(&key, None, None).await?;
        }
        let keys = ring.table.data_keys().await?;
        for key in keys.iter().filter(|key| key.state != KeyState::Retired && key.id != PLAIN) {
            ring.unwrapped(key).await?;
        }
        Arc::clone(ring).ask().await.map(drop)
    }

    /// Makes a new key and the current one of it; answers its id, or `None` if another process was first.
    pub(super) async fn renew(&self, after: &str, audit: impl FnOnce(&str) -> AuditEvent) -> Result<Option<String>> {
        let (key, cipher) = self.0.new_key().await?;
        let made = self.0.table.add_data_key(&key, Some(after), Some(&audit(&key.id))).await?;
        if made {
            self.0.hold(Arc::new(cipher));
        }
        self.ensure().await?;
        Ok(made.then_some(key.id))
    }

    /// The same key, wrapped by `to`, which may have wrapped it before.
    pub(super) async fn rewrapped(&self, key: &DataKey, to: &dyn Wrapping) -> Result<DataKey> {
        let plain = if to.is(&key.wrapped_by).unwrap_or(false) { unwrap(key, to).await? } else { self.0.unwrap(key).await? };
        let Wrapped { by, bytes } = wrap_surely(to, &plain).await?;
        Ok(DataKey { wrapped: bytes, wrapped_by: by, ..key.clone() })
    }
}

impl Ring {
    fn fresh(&self) -> Option<Arc<Cipher>> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.asked.filter(|asked| asked.elapsed() < FRESH).and_then(|_| held.current.clone())
    }

    fn holds(&self, id: &str) -> Option<Arc<Cipher>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).ciphers.get(id).cloned()
    }

    fn hold(&self, cipher: Arc<Cipher>) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if cipher.id() == held.wanted {
            held.current = Some(Arc::clone(&cipher));
        }
        held.ciphers.insert(cipher.id().to_owned(), cipher);
    }

    /// Asks the record for the current key.
    async fn ask(self: Arc<Self>) -> Result<Arc<Cipher>> {
        let keys = self.table.data_keys().await?;
        let current = keys.into_iter().find(|key| key.state == KeyState::Current).ok_or_else(|| {
            Error::internal(
                "the record holds no key for the names; run `hdai migrate`, or restore its table of data keys from a backup",
            )
        })?;
        let before = {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            held.asked = Some(Instant::now());
            held.wanted.clone_from(&current.id);
            if let Some(cipher) = held.ciphers.get(&current.id).cloned() {
                held.current = Some(Arc::clone(&cipher));
                return Ok(cipher);
            }
            held.current.clone()
        };
        let fetch = || Arc::clone(&self).fetch(current.id.clone());
        match before {
            // No admission waits for a vault, nor stops without one: what is encrypted with the key before stays readable.
            Some(before) => Ok(self.unwrapping.glance(&current.id, fetch).and_then(Result::ok).unwrap_or(before)),
            None => self.unwrapping.join(&current.id, fetch).await,
        }
    }

    async fn fetch(self: Arc<Self>, id: String) -> Result<Arc<Cipher>> {
        let keys = self.table.data_keys().await?;
        let key = keys.iter().find(|key| key.id == id).ok_or_else(|| {
            Error::internal(format!(
                "names are encrypted with the data key {id}, which the record does not hold: restore its table of data keys from a backup"
            ))
        })?;
        let unwrapped = self.unwrapped(key).await;
        if let Err(error) = &unwrapped {
            tracing::error!(event = "key.away", key = id, %error, "a data key cannot be unwrapped; what needs it is refused until it can be");
        }
        unwrapped
    }

    async fn unwrapped(&self, key: &DataKey) -> Result<Arc<Cipher>> {
        if let Some(cipher) = self.holds(&key.id) {
            return Ok(cipher);
        }
        let cipher = Arc::new(Cipher::new(&*self.unwrap(key).await?)?);
        self.hold(Arc::clone(&cipher));
        Ok(cipher)
    }

    async fn unwrap(&self, key: &DataKey) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
        if !self.wrapping.is(&key.wrapped_by).map_err(|error| about(key, &error))? {
            return Err(Error::internal(format!(
                "the data key {} is wrapped by {}, and not by {}: set HDAI_DATA_KEY_URL, or the folder of the key file (HDAI_FOLDER), to the \
                 key that wraps it",
                key.id,
                key.wrapped_by,
                self.wrapping.place()
            )));
        }
        unwrap(key, &*self.wrapping).await
    }

    async fn new_key(&self) -> Result<(DataKey, Cipher)> {
        let plain = random_key()?;
        let Wrapped { by, bytes } = wrap_surely(&*self.wrapping, &plain).await?;
        let cipher = Cipher::new(&plain)?;
        let id = cipher.id().to_owned();
        Ok((DataKey { id, wrapped: bytes, wrapped_by: by, state: KeyState::Current, created: (self.now)() }, cipher))
    }
}

/// What an error of the key that wraps means for `key`. It is never the caller's: an import, say, must not fail for good by it.
fn about(key: &DataKey, error: &Error) -> Error {
    let kind = if error.is_transient() { Kind::Unavailable } else { Kind::Internal };
    Error::new(kind, format!("the data key {}: {error}", key.id))
}

/// Unwraps `key`, which `wrapping` has wrapped.
async fn unwrap(key: &DataKey, wrapping: &dyn Wrapping) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    let wrapped = Wrapped { by: key.wrapped_by.clone(), bytes: key.wrapped.clone() };
    let plain = wrapping.unwrap(&wrapped).await.map_err(|error| about(key, &error))?;
    let plain = exact(&plain).filter(|plain| Cipher::new(plain).is_ok_and(|cipher| cipher.id() == key.id));
    plain.ok_or_else(|| {
        Error::internal(format!(
            "what is wrapped as the data key {} is another key: its row was altered; restore the record's table of data keys from a backup",
            key.id
        ))
    })
}

/// Wraps a key and unwraps it again: nothing is encrypted with a key that might not come back.
async fn wrap_surely(wrapping: &dyn Wrapping, key: &[u8; KEY_BYTES]) -> Result<Wrapped> {
    let wrapped = wrapping.wrap(key).await?;
    match exact(&wrapping.unwrap(&wrapped).await?) {
        Some(back) if *back == *key => Ok(wrapped),
        _ => Err(Error::unavailable(format!("{} wraps a key and unwraps another; use another key", wrapping.place()))),
    }
}

fn exact(bytes: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    bytes.try_into().ok().map(Zeroizing::new)
}
