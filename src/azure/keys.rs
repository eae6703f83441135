//! A key of a Key Vault or a managed HSM that wraps other keys. It does not know what those open.
//!
//! RSA-OAEP-256 (RSAES-OAEP, RFC 8017, with SHA-256 for hash and mask): every tier of a vault has RSA keys, and every version of one can unwrap
//! as long as it is enabled. A vault offers RSA-OAEP with SHA-1 and `RSA1_5` besides, which are for old data; a managed HSM also symmetric
//! keys (A128KW to A256KW, AES-GCM).

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RequestContent, RetryOptions, StatusCode, Url};
use azure_security_keyvault_keys::models::{
    EncryptionAlgorithm, KeyClientUnwrapKeyOptions, KeyClientWrapKeyOptions, KeyOperationParameters,
};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

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
        let place = Place::parse(url)?;
        let options = KeyClientOptions { client_options, ..Default::default() };
        let client = KeyClient::new(&place.vault, credential, Some(options)).map_err(|cause| place.error(&cause, "wrap"))?;
        Ok(Self { client, place })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let Place { vault, name, version, .. } = &self.place;
        let version = version.as_ref().map_or(String::new(), |version| format!("/{version}"));
        format!("{vault}keys/{name}{version}")
    }

    /// Is what `by` says a version of this key?
    pub fn is(&self, by: &str) -> bool {
        Place::parse(by).is_ok_and(|other| other.vault == self.place.vault && other.name == self.place.name)
    }

    /// Wraps `key`.
    ///
    /// # Errors
    /// Unavailable, if the vault does not answer or refuses, with what to do.
    pub async fn wrap(&self, key: &[u8]) -> Result<Wrapped> {
        let options = KeyClientWrapKeyOptions { key_version: self.place.version.clone(), ..Default::default() };
        let answer = self.client.wrap_key(&self.place.name, self.content(key)?, Some(options)).await;
        let result = answer.map_err(|cause| self.place.error(&cause, "wrap"))?.into_model();
        let result =
            result.map_err(|_| self.place.unavailable("answered with something that is no wrapped key; try again later"))?;
        match (result.kid, result.result) {
            (Some(by), Some(bytes)) if self.is(&by) && Place::parse(&by).is_ok_and(|place| place.version.is_some()) => {
                Ok(Wrapped { by, bytes })
            }
            _ => Err(self.place.unavailable("does not say which version wrapped; try again later")),
        }
    }

    /// Unwraps what a version of this key has wrapped.
    ///
    /// # Errors
    /// Invalid, if another key wrapped it: a record must not choose whom we ask. Else as for [`VaultKey::wrap`].
    pub async fn unwrap(&self, wrapped: &Wrapped) -> Result<Zeroizing<Vec<u8>>> {
        let version = Place::parse(&wrapped.by).ok().filter(|_| self.is(&wrapped.by)).and_then(|place| place.version);
        let version = version.ok_or_else(|| Error::invalid(format!("no version of {} wrapped it", self.url())))?;
        let options = KeyClientUnwrapKeyOptions::default();
        let answer = self.client.unwrap_key(&self.place.name, &version, self.content(&wrapped.bytes)?, Some(options)).await;
        // The cause is left out: it could quote the key.
        let result = answer.map_err(|cause| self.place.error(&cause, "unwrap"))?.into_model();
        let result = result.map_err(|_| self.place.unavailable("answered with something that is no key; try again later"))?;
        let key = result.result.ok_or_else(|| self.place.unavailable("answered without the key; try again later"))?;
        Ok(Zeroizing::new(key))
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

/// Where a key lies.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The vault's URL, without a path.
    vault: String,
    /// The vault's host.
    host: String,
    name: String,
    version: Option<String>,
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("the URL of a Key Vault key must be https://VAULT.vault.azure.net/keys/NAME[/VERSION]");
        let url = Url::parse(text.trim()).map_err(|_| wrong())?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let (Some(host), true, "https") = (url.host_str(), bare, url.scheme()) else { return Err(wrong()) };
        let parts: Vec<_> = url.path().trim_end_matches('/').split('/').collect();
        let (name, version) = match parts.as_slice() {
            ["", "keys", name] if plain(name) => (*name, None),
            ["", "keys", name, version] if plain(name) && plain(version) => (*name, Some((*version).to_owned())),
            _ => return Err(wrong()),
        };
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self { vault: format!("https://{host}{port}/"), host: host.to_owned(), name: name.to_owned(), version })
    }

    /// The cause is left out but for its kind: its text holds whatever the other side wrote.
    fn error(&self, cause: &azure_core::Error, verb: &str) -> Error {
        match (cause.http_status(), cause.kind()) {
            (Some(StatusCode::Unauthorized), _) => {
                self.unavailable("did not accept the token; is it a vault of the identity's own tenant?")
            }
            (Some(StatusCode::Forbidden), _) => self.unavailable(&format!(
                "does not let this identity {verb} with it; give the identity the role Key Vault Crypto Service Encryption User, and check the \
                 vault's firewall, and that the key is enabled and allowed to {verb}"
            )),
            (Some(StatusCode::NotFound), _) => {
                self.unavailable("has no key of this name and version, or it is deleted; check the URL, or recover the key")
            }
            (Some(StatusCode::BadRequest), _) => {
                self.unavailable(&format!("cannot {verb} with it; it must be an RSA key, and what it unwraps its own"))
            }
            (Some(StatusCode::TooManyRequests), _) => self.unavailable("is asked by too many; try again later"),
            (Some(status), _) => self.unavailable(&format!("answered with HTTP status {}; try again later", u16::from(status))),
            (None, ErrorKind::Credential) => {
                self.unavailable("could not be asked, because no token came for the identity; see that identity first")
            }
            (None, _) => self.unavailable("cannot be reached; check its name, and the network and private endpoint between"),
        }
    }

    fn unavailable(&self, what: &str) -> Error {
        Error::unavailable(format!("the Key Vault {} {what} (key {})", self.host, self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_url_of_a_key_is_one() {
        let place = Place::parse("https://ward.vault.azure.net/keys/names/0a1b").unwrap();
        assert_eq!((place.vault.as_str(), place.name.as_str()), ("https://ward.vault.azure.net/", "names"));
        assert_eq!(place.version.as_deref(), Some("0a1b"));
        for wrong in [
            "http://ward.vault.azure.net/keys/names",
            "https://ward.vault.azure.net/secrets/names",
            "https://ward.vault.azure.net/keys/",
            "https://ward.vault.azure.net/keys/a/b/c",
            "https://ward.vault.azure.net/keys/a%2Fb",
            "https://user:pw@ward.vault.azure.net/keys/names",
            "https://ward.vault.azure.net/keys/names?x=1",
            "file:names",
        ] {
            let error = Place::parse(wrong).unwrap_err();
            assert!(error.kind() == crate::error::Kind::Invalid && !error.to_string().contains("pw@"), "{wrong}");
        }
    }
}
