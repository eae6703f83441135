//! A key of a Key Vault or a managed HSM that wraps other keys. It does not know what those open.
//!
//! RSA-OAEP-256 (RSAES-OAEP, RFC 8017, with SHA-256 for hash and mask): every tier of a vault has RSA keys, and every version of one can unwrap
//! as long as it is enabled. A vault offers RSA-OAEP with SHA-1 and `RSA1_5` besides, which are for old data; a managed HSM also symmetric
//! keys (A128KW to A256KW, AES-GCM).

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RequestContent, RetryOptions, StatusCode};
use azure_security_keyvault_keys::models::{
    EncryptionAlgorithm, KeyClientUnwrapKeyOptions, KeyClientWrapKeyOptions, KeyOperationParameters,
};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::place::{Object, Place};
use crate::error::{Error, Result};

/// Longest wait for a vault, all its tries together.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How a vault is called in earnest: throttling and faults are tried again, for some seconds in all.
pub fn patient() -> ClientOptions {
    let retry = ExponentialRetryOptions {
        initial_delay: Duration::from_millis(500).try_into().unwrap_or_default(),
        max_retries: 4,
        max_total_elapsed: Duration::from_secs(20).try_into().unwrap_or_default(),
        ..Default::default()
    };
    ClientOptions { retry: RetryOptions::exponential(retry), ..Default::default() }
}

/// A key that wraps other keys.
pub struct VaultKey {
    client: KeyClient,
    place: Place,
}

/// A key that was wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The URL of the version that wrapped it: that very version unwraps it.
    pub by: String,
    /// What it was wrapped into.
    pub bytes: Vec<u8>,
}

impl VaultKey {
    /// The key at `url`, `https://VAULT.vault.azure.net/keys/NAME[/VERSION]`; without a version the newest wraps. Nothing is asked yet.
    ///
    /// # Errors
    /// Invalid, if `url` is not one.
    pub fn open(credential: Arc<dyn TokenCredential>, url: &str, client_options: ClientOptions) -> Result<Self> {
        let place = Place::parse(Object::Key, url)?;
        let options = KeyClientOptions { client_options, ..Default::default() };
        let client = KeyClient::new(&place.vault, credential, Some(options)).map_err(|cause| fault(&place, &cause, "wrap"))?;
        Ok(Self { client, place })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.place.url()
    }

    /// Is what `by` says a version of this key?
    pub fn is(&self, by: &str) -> bool {
        Place::parse(Object::Key, by).is_ok_and(|other| other.vault == self.place.vault && other.name == self.place.name)
    }

    /// Wraps `key`.
    ///
    /// # Errors
    /// Unavailable, if the vault does not answer or refuses, with what to do.
    pub async fn wrap(&self, key: &[u8]) -> Result<Wrapped> {
        let options = KeyClientWrapKeyOptions { key_version: self.place.version.clone(), ..Default::default() };
        let call = self.client.wrap_key(&self.place.name, self.content(key)?, Some(options));
        let answer = timeout(ANSWER_WITHIN, call).await.map_err(|_| self.late())?;
        let result = answer.map_err(|cause| match cause.http_status() {
            Some(StatusCode::BadRequest) => {
                self.place.unavailable("cannot wrap with it; it must be an RSA key that may wrap and unwrap")
            }
            _ => fault(&self.place, &cause, "wrap"),
        })?;
        let result = result.into_model();
        let result =
            result.map_err(|_| self.place.unavailable("answered with something that is no wrapped key; try again later"))?;
        match (result.kid, result.result) {
            (Some(by), Some(bytes)) if self.is(&by) && version(&by).is_some() => Ok(Wrapped { by, bytes }),
            _ => Err(self.place.unavailable("does not say which version wrapped; try again later")),
        }
    }

    /// Unwraps what a version of this key has wrapped.
    ///
    /// # Errors
    /// Internal, if another key wrapped it (a record must not choose whom we ask), or if what was wrapped is damaged. Else as for
    /// [`VaultKey::wrap`]: also if that version is disabled, deleted or not this identity's, which somebody can put right.
    pub async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        let version = version(&wrapped.by).filter(|_| self.is(&wrapped.by));
        let version = version.ok_or_else(|| Error::internal(format!("no version of {} wrapped it", self.url())))?;
        let options = KeyClientUnwrapKeyOptions::default();
        let call = self.client.unwrap_key(&self.place.name, &version, self.content(&wrapped.bytes)?, Some(options));
        let answer = timeout(ANSWER_WITHIN, call).await.map_err(|_| self.late())?;
        let result = answer.map_err(|cause| match cause.http_status() {
            // The vault has wrapped with this very version.
            Some(StatusCode::BadRequest) => Error::internal(
                self.place.told("cannot unwrap what is said to be its own: that was altered; restore the record from a backup"),
            ),
            _ => fault(&self.place, &cause, "unwrap"),
        })?;
        // The cause is left out: it could quote the key.
        let result = result.into_model();
        let result = result.map_err(|_| self.place.unavailable("answered with something that is no key; try again later"))?;
        let key = result.result.ok_or_else(|| self.place.unavailable("answered without the key; try again later"))?;
        Ok(Zeroizing::new(key))
    }

    fn late(&self) -> Error {
        let limit = ANSWER_WITHIN.as_secs();
        self.place.unavailable(&format!("did not answer within {limit} s; check the network and private endpoint between"))
    }

    fn content(&self, value: &[u8]) -> Result<RequestContent<KeyOperationParameters>> {
        let parameters = KeyOperationParameters {
            algorithm: Some(EncryptionAlgorithm::RsaOaep256),
            value: Some(value.to_vec()),
            ..Default::default()
        };
        parameters.try_into().map_err(|_| Error::internal("a call to the Key Vault cannot be written"))
    }
}

/// The version that the URL of a key names.
fn version(url: &str) -> Option<String> {
    Place::parse(Object::Key, url).ok().and_then(|place| place.version)
}

fn fault(place: &Place, cause: &azure_core::Error, verb: &str) -> Error {
    let forbidden = format!(
        "does not let this identity {verb} with it; give the identity the role Key Vault Crypto Service Encryption User, and check the \
         vault's firewall, and that the key is enabled and allowed to {verb}"
    );
    place.error(cause, &forbidden, "has no key of this name and version, or it is deleted; check the URL, or recover the key")
}
