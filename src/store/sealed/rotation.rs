//! Names, and the words of elevations, that go from older keys to the current one, while the record is in use.

use super::cipher::Place;
use super::{Sealed, Wrapping, key_ids, open_name, seal_name};
use crate::domain::{AuditEvent, EncounterId, Phi};
use crate::error::{Error, Result};
use crate::store::datakeys::{DataKey, PLAIN, Renaming, Rewording};

/// What became of some names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resealed<Id = EncounterId> {
    /// The last encounter, or elevation, that was looked at.
    pub last: Id,
    /// Names that are under the current key now.
    pub replaced: u64,
    /// Names that changed meanwhile: the next look meets them, if they are not under it yet.
    pub missed: u64,
    /// Names that do not open; each was logged by its encounter and part.
    pub unreadable: u64,
}

impl Sealed {
    /// Every data key, oldest first.
    ///
    /// # Errors
    /// The record is away; so for every method here.
    pub async fn data_keys(&self) -> Result<Vec<DataKey>> {
        self.inner.data_keys().await
    }

    /// Makes a new key and the current one of it, in the place of `after`, with the audit event that `audit` makes of its id; answers the
    /// id, or `None` if another key is current already.
    pub async fn renew_key(&self, after: &str, audit: impl FnOnce(&str) -> AuditEvent + Send) -> Result<Option<String>> {
        self.keyring.renew(after, audit).await
    }

    /// Puts at most `limit` names that are not under the current key, which must be `current`, under it; the first after `after`. `None`:
    /// there are no more.
    ///
    /// # Errors
    /// Also conflict, if another key is current.
    pub async fn reseal(&self, current: &str, after: Option<EncounterId>, limit: u32) -> Result<Option<Resealed>> {
        let cipher = self.keyring.current().await?;
        if cipher.id() != current {
            return Err(another_key());
        }
        let names = self.inner.names_not_under(cipher.prefix(), after, limit).await?;
        let Some((last, _)) = names.last() else { return Ok(None) };
        let (last, met) = (*last, names.len());
        let mut renamings = Vec::with_capacity(met);
        for (id, from) in names {
            let opened = match self.keyring.of(key_ids(&from)).await {
                Ok(ciphers) => open_name(&ciphers, id, &from).and_then(|name| seal_name(&cipher, id, &name)),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => Err(error),
            };
            match opened {
                Ok(to) => renamings.push(Renaming { id, from, to }),
                Err(error) => tracing::error!(%error, "a name stays under its key"),
            }
        }
        let unreadable = (met - renamings.len()) as u64;
        let replaced = if renamings.is_empty() { 0 } else { self.inner.replace_names(&renamings).await? };
        Ok(Some(Resealed { last, replaced, missed: (renamings.len() as u64).saturating_sub(replaced), unreadable }))
    }

    /// [`Sealed::reseal`] for the words of elevations.
    ///
    /// # Errors
    /// As there.
    pub async fn reseal_words(&self, current: &str, after: &str, limit: u32) -> Result<Option<Resealed<String>>> {
        let cipher = self.keyring.current().await?;
        if cipher.id() != current {
            return Err(another_key());
        }
        let words = self.inner.words_not_under(cipher.prefix(), after, limit).await?;
        let Some((last, _)) = words.last() else { return Ok(None) };
        let (last, met) = (last.clone(), words.len());
        let mut rewordings = Vec::with_capacity(met);
        for (id, from) in words {
            let opened = self.opened_words(&id, &from).await;
            match opened.and_then(|words| cipher.seal(Place::Elevation(&id), words.reveal())) {
                Ok(to) => rewordings.push(Rewording { id, from, to: Phi::new(to) }),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => tracing::error!(elevation = id, %error, "a text stays under its key"),
            }
        }
        let unreadable = (met - rewordings.len()) as u64;
        let replaced = if rewordings.is_empty() { 0 } else { self.inner.replace_words(&rewordings).await? };
        Ok(Some(Resealed { last, replaced, missed: (rewordings.len() as u64).saturating_sub(replaced), unreadable }))
    }

    /// Retires those of `ids` that are old, with the audit event; answers how many.
    pub async fn retire_keys(&self, ids: &[String], audit: &AuditEvent) -> Result<u64> {
        self.inner.retire_data_keys(ids, audit).await
    }

    /// Wraps every data key anew, with the newest version of `to`. Each with the audit event that
    /// `audit` makes of its id. Answers the ids, and which key wraps them now.
    ///
    /// # Errors
    /// Also what keeps a key from being unwrapped, or `to` from wrapping; the keys before it are wrapped anew.
    pub async fn rewrap_keys(
        &self,
        to: &dyn Wrapping,
        audit: impl Fn(&DataKey) -> AuditEvent + Send + Sync,
    ) -> Result<Vec<DataKey>> {
        let mut rewrapped = Vec::new();
        for key in self.inner.data_keys().await?.into_iter().filter(|key| key.id != PLAIN) {
            let new = self.keyring.rewrapped(&key, to).await?;
            // If another process has wrapped it anew meanwhile, that counts.
            let done = self.inner.rewrap_data_key(&new, &key.wrapped_by, &audit(&new)).await?;
            let new = if done { new } else { key };
            rewrapped.push(new);
        }
        Ok(rewrapped)
    }
}

fn another_key() -> Error {
    Error::conflict("another data key has become the current one; begin again")
}
