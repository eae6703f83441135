//! The signing keys that an issuer publishes (RFC 7517), fetched when they are needed and no oftener than the rules below allow.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::Refused;
use crate::error::{Error, Result};

/// How long keys count and how often they are fetched. The first two and the fourth are those of Microsoft's own library.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Keys are fetched anew when they are this old; the old ones serve meanwhile.
    pub fresh: Duration,
    /// Keys that could not be fetched anew serve until they are this old.
    pub usable: Duration,
    /// Between two tries when the last one failed.
    pub retry: Duration,
    /// Between two fetches that an unknown key's id caused.
    pub unknown: Duration,
    /// Longest fetch.
    pub wait: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(12 * 3600),
            usable: Duration::from_secs(48 * 3600),
            retry: Duration::from_secs(30),
            unknown: Duration::from_secs(300),
            wait: Duration::from_secs(5),
        }
    }
}

/// Largest document, and most keys of it.
const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;
const KEYS_MAX: usize = 100;

/// An issuer's published keys.
pub struct Published {
    url: String,
    http: reqwest::Client,
    timing: Timing,
    held: RwLock<Option<Held>>,
    /// Held while the keys are fetched: one fetch at a time.
    attempts: Arc<tokio::sync::Mutex<Attempts>>,
}

struct Held {
    keys: HashMap<String, DecodingKey>,
    fetched: Instant,
}

#[derive(Default)]
struct Attempts {
    failed: Option<Instant>,
    for_unknown: Option<Instant>,
}

enum Found {
    Fresh(DecodingKey),
    Old(DecodingKey),
    Unknown,
    NoKeys,
}

impl Published {
    /// The keys at `url`; nothing is fetched yet.
    ///
    /// # Errors
    /// The HTTP client cannot start.
    pub fn at(url: &str, timing: Timing) -> Result<Arc<Self>> {
        let local = url.starts_with("http://");
        let builder =
            reqwest::Client::builder().timeout(timing.wait).redirect(reqwest::redirect::Policy::none()).https_only(!local);
        let builder = if local { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|cause| Error::internal("no HTTP client can be made").caused_by(cause))?;
        Ok(Arc::new(Self { url: url.to_owned(), http, timing, held: RwLock::default(), attempts: Arc::default() }))
    }

    /// The key of this id.
    ///
    /// # Errors
    /// [`Refused::UnknownKey`], or [`Refused::KeysAway`] if there are no keys to look among.
    pub async fn key(self: &Arc<Self>, id: &str) -> Result<DecodingKey, Refused> {
        match self.look(id) {
            Found::Fresh(key) => return Ok(key),
            Found::Old(key) => {
                // Nobody waits for the new keys while the old ones serve.
                if let Ok(attempts) = Arc::clone(&self.attempts).try_lock_owned()
                    && attempts.may_retry(self.timing.retry)
                {
                    let this = Arc::clone(self);
                    tokio::spawn(async move { this.fetch(attempts, false).await });
                }
                return Ok(key);
            }
            Found::Unknown | Found::NoKeys => {}
        }
        let attempts = Arc::clone(&self.attempts).lock_owned().await;
        let mut unknown = false;
        // Another call may have fetched them meanwhile.
        match self.look(id) {
            Found::Fresh(key) | Found::Old(key) => return Ok(key),
            Found::Unknown => {
                let recent = attempts.for_unknown.is_some_and(|at| at.elapsed() < self.timing.unknown);
                if recent || !attempts.may_retry(self.timing.retry) {
                    return Err(Refused::UnknownKey);
                }
                unknown = true;
            }
            Found::NoKeys if !attempts.may_retry(self.timing.retry) => return Err(Refused::KeysAway),
            Found::NoKeys => {}
        }
        // In a task of its own: a caller who hangs up does not keep the new keys from others.
        let this = Arc::clone(self);
        let _ = tokio::spawn(async move { this.fetch(attempts, unknown).await }).await;
        match self.look(id) {
            Found::Fresh(key) | Found::Old(key) => Ok(key),
            Found::Unknown => Err(Refused::UnknownKey),
            Found::NoKeys => Err(Refused::KeysAway),
        }
    }

    /// How many keys the issuer publishes, asked now; nothing is kept.
    ///
    /// # Errors
    /// They do not come, or none of them can be used.
    pub async fn count(&self) -> Result<usize> {
        Ok(keys(&self.document().await?)?.len())
    }

    fn look(&self, id: &str) -> Found {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = held.as_ref().filter(|held| held.fetched.elapsed() < self.timing.usable) else { return Found::NoKeys };
        match held.keys.get(id) {
            Some(key) if held.fetched.elapsed() < self.timing.fresh => Found::Fresh(key.clone()),
            Some(key) => Found::Old(key.clone()),
            None => Found::Unknown,
        }
    }

    /// Fetches the keys, for an `unknown` one's sake or because it is time. A fetch that failed does not count as one for an unknown key.
    async fn fetch(&self, mut attempts: OwnedMutexGuard<Attempts>, unknown: bool) {
        match self.document().await.and_then(|document| keys(&document)) {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "the issuer's signing keys were fetched");
                attempts.failed = None;
                if unknown {
                    attempts.for_unknown = Some(Instant::now());
                }
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Held { keys, fetched: Instant::now() });
            }
            Err(error) => {
                attempts.failed = Some(Instant::now());
                tracing::warn!(event = "auth.keys_away", %error, "the issuer's signing keys cannot be fetched; older ones serve while they may");
            }
        }
    }

    async fn document(&self) -> Result<Vec<u8>> {
        let away = |cause: reqwest::Error| Error::unavailable("the issuer's keys do not come").caused_by(cause.without_url());
        let mut answer = self.http.get(&self.url).send().await.and_then(reqwest::Response::error_for_status).map_err(away)?;
        let mut document = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(away)? {
            document.extend_from_slice(&chunk);
            if document.len() > DOCUMENT_BYTES_MAX {
                return Err(Error::invalid("the issuer's keys are longer than any such document"));
            }
        }
        Ok(document)
    }
}

impl Attempts {
    fn may_retry(&self, retry: Duration) -> bool {
        self.failed.is_none_or(|at| at.elapsed() >= retry)
    }
}

/// The RSA keys of a document that are for signatures by RS256. What is of another kind is passed over; none at all is a fault.
fn keys(document: &[u8]) -> Result<HashMap<String, DecodingKey>> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Value>,
    }
    let document: Document =
        serde_json::from_slice(document).map_err(|cause| Error::invalid("the issuer's keys are no key set").caused_by(cause))?;
    let keys = document.keys.into_iter().take(KEYS_MAX).filter_map(|key| {
        let key: Jwk = serde_json::from_value(key).ok()?;
        let rsa = matches!(key.algorithm, AlgorithmParameters::RSA(_));
        let signs = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let rs256 = matches!(key.common.key_algorithm, None | Some(KeyAlgorithm::RS256));
        let id = key.common.key_id.clone().filter(|_| rsa && signs && rs256)?;
        Some((id, DecodingKey::from_jwk(&key).ok()?))
    });
    let keys: HashMap<String, DecodingKey> = keys.collect();
    if keys.is_empty() { Err(Error::invalid("the issuer publishes no key that can be used")) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_rsa_keys_for_rs256_signatures_are_kept() {
        let rsa = |kid: &str| json!({ "kty": "RSA", "use": "sig", "kid": kid, "n": "sXch", "e": "AQAB", "x5c": ["MIIC"], "issuer": "https://x" });
        let with = |kid: &str, name: &str, value: Value| {
            let mut key = rsa(kid);
            key[name] = value;
            key
        };
        let document = json!({ "keys": [
            rsa("kept"),
            with("alg", "alg", json!("RS256")),
            with("encryption", "use", json!("enc")),
            with("hs", "alg", json!("HS256")),
            { "kty": "oct", "kid": "secret", "k": "c2VjcmV0" },
            { "kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA" },
            { "kty": "NEW", "kid": "new" },
            { "kty": "RSA", "n": "sXch", "e": "AQAB" },
            "junk",
        ] });
        let keys = keys(document.to_string().as_bytes()).unwrap();
        let mut ids: Vec<&str> = keys.keys().map(String::as_str).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["alg", "kept"]);
        for none in ["", "{}", "{\"keys\":[]}", "[]"] {
            assert!(super::keys(none.as_bytes()).is_err());
        }
    }
}
