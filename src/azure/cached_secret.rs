//! A secret of a Key Vault that is kept, and read anew before it ends or grows old: a new version is taken up without a restart. It is
//! shown nowhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::credentials::TokenCredential;
use azure_core::http::ClientOptions;
use azure_core::time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::vault::{Fetched, Vault};
use crate::config::Secret;
use crate::error::{Error, Result};

/// Age at which it is read anew: a new version is taken up this soon.
const AGE_MAX: Duration = Duration::from_secs(300);
/// It is read anew this long before it ends; half-way to its end, if that is nearer.
const BEFORE_THE_END: Duration = Duration::from_secs(300);
/// How long the vault is left alone after it did not give one.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// Age below which it is not read again only because somebody was refused with it.
const YOUNG: Duration = Duration::from_secs(1);
/// Longest wait for the vault.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A secret of a Key Vault, kept as long as it is good.
pub struct CachedSecret {
    vault: Vault,
    /// Locked while it is read, so that those who ask at once share one answer.
    held: Mutex<Option<Held>>,
}

struct Held {
    value: Secret,
    read: Instant,
    /// When it is read anew.
    due: Instant,
    /// `None`: it does not end.
    ends: Option<Instant>,
}

impl CachedSecret {
    /// The secret at `url`, `https://VAULT.vault.azure.net/secrets/NAME[/VERSION]`; nothing is asked yet. One with a version is always that
    /// version.
    ///
    /// # Errors
    /// Invalid, if `url` is not one.
    pub fn new(credential: Arc<dyn TokenCredential>, url: &str, options: ClientOptions) -> Result<Self> {
        Ok(Self { vault: Vault::new(credential, url, options)?, held: Mutex::default() })
    }

    /// The secret as it is now. While the vault does not give it, the one that is held serves until it ends.
    ///
    /// # Errors
    /// Unavailable, if the vault does not give it and none is held that is still good; invalid, if it has ended.
    pub async fn get(&self) -> Result<Secret> {
        let mut held = self.held.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.due) {
            return Ok(held.value.clone());
        }
        match self.read().await {
            Ok(fresh) => Ok(held.insert(fresh).value.clone()),
            Err(error) => match held.as_mut().filter(|held| held.ends.is_none_or(|ends| Instant::now() < ends)) {
                Some(old) => {
                    self.vault.warn_kept(&error);
                    old.due = (Instant::now() + LEFT_ALONE).min(old.ends.unwrap_or(old.due + LEFT_ALONE));
                    Ok(old.value.clone())
                }
                None => Err(error),
            },
        }
    }

    /// Another secret than `refused`, with which somebody was not let in; `None` if the vault has no other one.
    pub async fn other_than(&self, refused: &Secret) -> Option<Secret> {
        let mut held = self.held.lock().await;
        match held.as_ref() {
            Some(held) if held.value != *refused => return Some(held.value.clone()),
            Some(held) if held.read.elapsed() < YOUNG => return None,
            _ => {}
        }
        match self.read().await {
            Ok(fresh) => Some(held.insert(fresh).value.clone()).filter(|fresh| fresh != refused),
            Err(error) => {
                self.vault.warn_kept(&error);
                None
            }
        }
    }

    async fn read(&self) -> Result<Held> {
        let late = || self.vault.late(ANSWER_WITHIN);
        let Fetched { value, expires } = timeout(ANSWER_WITHIN, self.vault.fetch()).await.map_err(|_| late())??;
        // A secret ends at a time of day, and whether it is still good is asked of a clock that nobody sets.
        let (now, today) = (Instant::now(), OffsetDateTime::now_utc());
        let left = expires.map(|at| Duration::try_from(at - today).unwrap_or_default());
        let fresh_for = match left {
            Some(Duration::ZERO) => return Err(self.ended()),
            Some(left) => left.saturating_sub(BEFORE_THE_END).max(left / 2).min(AGE_MAX),
            None => AGE_MAX,
        };
        Ok(Held { value, read: now, due: now + fresh_for, ends: left.and_then(|left| now.checked_add(left)) })
    }

    fn ended(&self) -> Error {
        self.vault.ended()
    }
}
