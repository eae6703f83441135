//! An issuer of Entra's kind on this machine: an RSA key that it publishes on loopback, and a token of Entra's claims.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use tokio::task::JoinHandle;
use warp::Filter;

use crate::config::EntraSettings;
use crate::domain::Role;
use crate::error::{Error, Result};
use crate::sign_in::{SignIn, Timing, Verifier};

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT: &str = "99999999-8888-7777-6666-555555555555";
const OBJECT: &str = "00000000-0000-0000-0000-0000000be4c4";
const KEY: &str = "bench";
/// PKCS#8's words before the PKCS#1 of a key of 2048 bits, which is what the library signs with.
const PKCS8_HEAD_BYTES: usize = 26;

/// Publishes until it is dropped.
pub(super) struct Issuer {
    signing: EncodingKey,
    settings: EntraSettings,
    serving: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Issuer {
    pub(super) async fn start() -> Result<Self> {
        let none = || Error::internal("no RSA key can be made");
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| none())?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| none())?;
        let signing = EncodingKey::from_rsa_der(der.as_ref().get(PKCS8_HEAD_BYTES..).ok_or_else(none)?);
        let mut public = Jwk::from_encoding_key(&signing, Algorithm::RS256).map_err(|cause| none().caused_by(cause))?;
        public.common.key_id = Some(KEY.to_owned());
        let keys = json!({ "keys": [public] });
        let away = |cause: std::io::Error| Error::unavailable("there is no port on loopback").caused_by(cause);
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(away)?;
        let keys_url = format!("http://{}/keys", listener.local_addr().map_err(away)?);
        let published = warp::any().map(move || warp::reply::json(&keys));
        let serving = tokio::spawn(warp::serve(published).incoming(listener).run());
        let issuers = vec![format!("https://login.microsoftonline.com/{TENANT}/v2.0")];
        let settings = EntraSettings { tenant: TENANT.to_owned(), audiences: vec![CLIENT.to_owned()], issuers, keys_url };
        Ok(Self { signing, settings, serving })
    }

    /// Believes this issuer.
    pub(super) fn sign_in(&self) -> Result<SignIn> {
        let verifier = Verifier::entra(&self.settings, Timing::default())?;
        Ok(SignIn::new(false, Some(verifier), Some(self.settings.tenant.clone())))
    }

    /// What Entra says of a person of every role.
    pub(super) fn token(&self, now: DateTime<Utc>) -> Result<String> {
        let now = now.timestamp();
        let claims = json!({
            "ver": "2.0", "iss": self.settings.issuers.first(), "aud": CLIENT, "tid": TENANT, "oid": OBJECT, "sub": "pairwise",
            "azp": "aaaaaaaa-0000-0000-0000-000000000000", "scp": "user_impersonation", "roles": Role::ALL.map(Role::name),
            "iat": now, "nbf": now, "exp": now + 3_600,
        });
        let header = Header { kid: Some(KEY.to_owned()), ..Header::new(Algorithm::RS256) };
        encode(&header, &claims, &self.signing).map_err(|cause| Error::internal("the token cannot be signed").caused_by(cause))
    }
}
