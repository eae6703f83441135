//! The data keys of one process: unwrapped once, then held in memory. What other instances change is seen within seconds.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use zeroize::Zeroizing;

use super::cipher::{Cipher, KEY_BYTES};
use super::wrapping::{Wrapping, random_key};
use crate::azure::keys::Wrapped;
use crate::domain::AuditEvent;
use crate::error::{Error, Result};
use crate::store::datakeys::{DataKey, KeyState, KeyTable, PLAIN};

/// How long the record is believed to have the same current key.
pub const FRESH: Duration = Duration::from_secs(2);

/// The data keys of one record. It has no `Debug`.
pub(super) struct Keyring {
    table: Arc<dyn KeyTable>,
    wrapping: Arc<dyn Wrapping>,
    now: fn() -> DateTime<Utc>,
    held: RwLock<Held>,
    /// Held while the record or a vault is asked: one at a time.
    asking: tokio::sync::Mutex<()>,
}

/// Keys by id.
pub(super) type Ciphers = HashMap<String, Arc<Cipher>>;

#[derive(Default)]
struct Held {
    ciphers: Ciphers,
    current: Option<Arc<Cipher>>,
    /// Are there values under other keys than the current one?
    mixed: bool,
    asked: Option<Instant>,
}

/// The key that encrypts now.
#[derive(Clone)]
pub(super) struct Current {
    pub(super) cipher: Arc<Cipher>,
    /// Are there values under other keys?
    pub(super) mixed: bool,
}

impl Keyring {
    pub(super) fn new(table: Arc<dyn KeyTable>, wrapping: Arc<dyn Wrapping>, now: fn() -> DateTime<Utc>) -> Self {
        Self { table, wrapping, now, held: RwLock::default(), asking: tokio::sync::Mutex::default() }
    }

    /// The key that encrypts now.
    ///
    /// # Errors
    /// The record is away, or holds no key, or its key cannot be unwrapped.
    pub(super) async fn current(&self) -> Result<Current> {
        if let Some(current) = self.fresh() {
            return Ok(current);
        }
        let _asking = self.asking.lock().await;
        match self.fresh() {
            Some(current) => Ok(current),
            None => self.ask().await,
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
            let cipher = match self.holds(id) {
                Some(cipher) => cipher,
                None => {
                    let _asking = self.asking.lock().await;
                    match self.holds(id) {
                        Some(cipher) => cipher,
                        None => self.fetch(id).await?,
                    }
                }
            };
            found.insert(id.to_owned(), cipher);
        }
        Ok(found)
    }

    /// Makes the record's first key if it has none, and unwraps those in use: whoever starts without the key that wraps them stops here.
    pub(super) async fn ensure(&self) -> Result<()> {
        let _asking = self.asking.lock().await;
        if self.table.data_keys().await?.is_empty() {
            self.wrapping.make()?;
            let key = self.new_key().await?;
            // Another instance may be first: then its key counts.
            self.table.add_data_key(&key, None, None).await?;
        }
        for key in self.table.data_keys().await?.iter().filter(|key| key.state == KeyState::Old && key.id != PLAIN) {
            self.unwrapped(key).await?;
        }
        self.ask().await.map(drop)
    }

    /// Makes a new key and the current one of it; answers its id, or `None` if another process was first.
    pub(super) async fn renew(&self, after: &str, audit: impl FnOnce(&str) -> AuditEvent) -> Result<Option<String>> {
        let _asking = self.asking.lock().await;
        let key = self.new_key().await?;
        let made = self.table.add_data_key(&key, Some(after), Some(&audit(&key.id))).await?;
        self.ask().await?;
        Ok(made.then_some(key.id))
    }

    /// The same key, wrapped by `to`, which may have wrapped it before.
    pub(super) async fn rewrapped(&self, key: &DataKey, to: &dyn Wrapping) -> Result<DataKey> {
        let plain = if to.is(&key.wrapped_by).unwrap_or(false) { unwrap(key, to).await? } else { self.unwrap(key).await? };
        let Wrapped { by, bytes } = wrap_surely(to, &plain).await?;
        Ok(DataKey { wrapped: bytes, wrapped_by: by, ..key.clone() })
    }

    fn fresh(&self) -> Option<Current> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.asked.filter(|asked| asked.elapsed() < FRESH).and_then(|_| held.current())
    }

    fn holds(&self, id: &str) -> Option<Arc<Cipher>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).ciphers.get(id).cloned()
    }

    /// Asks the record for the current key.
    async fn ask(&self) -> Result<Current> {
        let keys = self.table.data_keys().await?;
        let current = keys.iter().find(|key| key.state == KeyState::Current).ok_or_else(|| {
            Error::internal(
                "the record holds no key for the names; run `hdai migrate`, or restore its table of data keys from a backup",
            )
        })?;
        let mixed = keys.iter().any(|key| key.state == KeyState::Old);
        let unwrapped = self.unwrapped(current).await;
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.asked = Some(Instant::now());
        held.mixed = mixed;
        match (unwrapped, held.current()) {
            (Ok(cipher), _) => held.current = Some(cipher),
            // A vault that is away stops no admission: what is encrypted with the key before stays readable.
            (Err(error), Some(before)) => {
                tracing::error!(%error, "a newer data key cannot be unwrapped; the one before is used");
                return Ok(before);
            }
            (Err(error), None) => return Err(error),
        }
        held.current().ok_or_else(|| Error::internal("there is no data key"))
    }

    async fn fetch(&self, id: &str) -> Result<Arc<Cipher>> {
        let keys = self.table.data_keys().await?;
        let key = keys.iter().find(|key| key.id == id).ok_or_else(|| {
            Error::internal(format!(
                "names are encrypted with the data key {id}, which the record does not hold: restore its table of data keys from a backup"
            ))
        })?;
        self.unwrapped(key).await
    }

    async fn unwrapped(&self, key: &DataKey) -> Result<Arc<Cipher>> {
        if let Some(cipher) = self.holds(&key.id) {
            return Ok(cipher);
        }
        let cipher = Arc::new(Cipher::new(&*self.unwrap(key).await?)?);
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.ciphers.insert(key.id.clone(), Arc::clone(&cipher));
        Ok(cipher)
    }

    async fn unwrap(&self, key: &DataKey) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
        if !self.wrapping.is(&key.wrapped_by)? {
            return Err(Error::invalid(format!(
                "the data key {} is wrapped by {}, and not by {}: set HDAI_DATA_KEY_URL, or the folder of the key file (HDAI_FOLDER), to the \
                 key that wraps it",
                key.id,
                key.wrapped_by,
                self.wrapping.place()
            )));
        }
        unwrap(key, &*self.wrapping).await
    }

    async fn new_key(&self) -> Result<DataKey> {
        let plain = random_key()?;
        let Wrapped { by, bytes } = wrap_surely(&*self.wrapping, &plain).await?;
        let id = Cipher::new(&plain)?.id().to_owned();
        Ok(DataKey { id, wrapped: bytes, wrapped_by: by, state: KeyState::Current, created: (self.now)() })
    }
}

impl Held {
    fn current(&self) -> Option<Current> {
        self.current.clone().map(|cipher| Current { cipher, mixed: self.mixed })
    }
}

/// Unwraps `key`, which `wrapping` has wrapped.
async fn unwrap(key: &DataKey, wrapping: &dyn Wrapping) -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    let plain = wrapping.unwrap(&Wrapped { by: key.wrapped_by.clone(), bytes: key.wrapped.clone() }).await?;
    let plain = exact(&plain).filter(|plain| Cipher::new(plain).is_ok_and(|cipher| cipher.id() == key.id));
    plain.ok_or_else(|| {
        Error::invalid(format!(
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
