//! What wraps data keys: a key of a Key Vault, or a key file of this machine.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::cipher::{KEY_BYTES, aead, derive, key_id};
use crate::azure::keys::{VaultKey, Wrapped};
use crate::config::{make_key_file, read_key_file};
use crate::error::{Error, Result};

/// A key that wraps data keys.
#[async_trait]
pub trait Wrapping: Send + Sync {
    /// Where it lies, in words that open nothing.
    fn place(&self) -> String;

    /// Did a version of it wrap what says this of itself? Asks nobody outside of this machine.
    fn is(&self, by: &str) -> Result<bool>;

    /// Makes it, if it can be made and is not there. Called only where no data key exists yet.
    fn make(&self) -> Result<()>;

    /// Wraps `key`.
    async fn wrap(&self, key: &[u8]) -> Result<Wrapped>;

    /// Unwraps what it wrapped.
    ///
    /// # Errors
    /// Unavailable, if the key that wraps is away, or must be put right by somebody; internal, if what was wrapped is damaged.
    async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>>;
}

#[async_trait]
impl Wrapping for VaultKey {
    fn place(&self) -> String {
        self.url()
    }

    fn is(&self, by: &str) -> Result<bool> {
        Ok(VaultKey::is(self, by))
    }

    fn make(&self) -> Result<()> {
        Ok(())
    }

    async fn wrap(&self, key: &[u8]) -> Result<Wrapped> {
        VaultKey::wrap(self, key).await
    }

    async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        VaultKey::unwrap(self, wrapped).await
    }
}

/// A key in a file that its owner alone may read. It is read for every use: there are few.
pub struct KeyFile {
    path: PathBuf,
}

/// What the file's key calls itself begins with this.
const FILE: &str = "file:";

impl KeyFile {
    /// The key file at `path`; it need not be there.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(text) = read_key_file(&self.path)? else { return Ok(None) };
        let text = Zeroizing::new(text);
        let key = STANDARD.decode(text.trim()).ok().filter(|key| key.len() == KEY_BYTES);
        let key = key.ok_or_else(|| {
            Error::invalid(format!("the key {} is not {KEY_BYTES} bytes in base64; restore it from a backup", self.path.display()))
        })?;
        Ok(Some(Zeroizing::new(key)))
    }

    fn key(&self) -> Result<Zeroizing<Vec<u8>>> {
        self.read()?.ok_or_else(|| {
            Error::unavailable(format!(
                "the key file {} is not there, and the names in the record cannot be read without it: restore it from a backup, or name its \
                 folder (HDAI_FOLDER)",
                self.path.display()
            ))
        })
    }
}

fn id_of(key: &[u8]) -> String {
    format!("{FILE}{}", key_id("hdai-key-file", key))
}

#[async_trait]
impl Wrapping for KeyFile {
    fn place(&self) -> String {
        format!("the key file {}", self.path.display())
    }

    fn is(&self, by: &str) -> Result<bool> {
        if !by.starts_with(FILE) {
            return Ok(false);
        }
        Ok(id_of(&self.key()?) == by)
    }

    fn make(&self) -> Result<()> {
        if self.read()?.is_some() {
            return Ok(());
        }
        make_key_file(&self.path, &Zeroizing::new(STANDARD.encode(random_key()?)))
    }

    async fn wrap(&self, key: &[u8]) -> Result<Wrapped> {
        let failed = || Error::internal("the data key cannot be wrapped");
        let own = self.key()?;
        let by = id_of(&own);
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let mut inner = Zeroizing::new(key.to_vec());
        let wrapper = aead(&*derive(&own, b"wrap")?)?;
        let tag = wrapper.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(by.as_bytes()), &mut inner);
        let tag = tag.map_err(|_| failed())?;
        Ok(Wrapped { bytes: [nonce.as_slice(), &inner, tag.as_ref()].concat(), by })
    }

    async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        let own = self.key()?;
        let refused = || {
            Error::internal(format!(
                "the wrapped data key does not open with the key file {}: it was altered; restore the record from a backup",
                self.path.display()
            ))
        };
        let mut bytes = Zeroizing::new(wrapped.bytes.clone());
        let (nonce, inner) = bytes.split_at_mut_checked(NONCE_LEN).ok_or_else(refused)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refused())?;
        let wrapper = aead(&*derive(&own, b"wrap")?)?;
        let opened = wrapper.open_in_place(nonce, Aad::from(wrapped.by.as_bytes()), inner).map_err(|_| refused())?;
        Ok(Zeroizing::new(opened.to_vec()))
    }
}

fn random(into: &mut [u8]) -> Result<()> {
    getrandom::fill(into).map_err(|cause| Error::unavailable("the system gives no random bytes").caused_by(cause.to_string()))
}

/// A new key.
pub(super) fn random_key() -> Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    random(&mut *key)?;
    Ok(key)
}
