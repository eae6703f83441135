//! The development issuer: it signs tokens for runs on one machine, with a key that lies in the folder of local state, and they are
//! validated like Entra's. Whoever may read the folder may sign; where anything speaks of Azure there is no such issuer.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Duration, Utc};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, encode};
use serde_json::json;

use super::Verifier;
use super::verifier::Keys;
use crate::config::{make_key_file, read_key_file};
use crate::domain::Role;
use crate::domain::access::Proof;
use crate::error::{Error, Result};

const ISSUER: &str = "urn:hdai:development";
const AUDIENCE: &str = "api://hdai-development";
const TENANT: &str = "development";
/// The object id of whoever signs in on this machine.
pub const OBJECT_ID: &str = "00000000-0000-0000-0000-00000000d3f0";
const KEY_FILE: &str = "sign-in.key";
/// Longest life of a token.
pub const MINUTES_MAX: u32 = 24 * 60;

/// The issuer's key.
pub struct Key {
    id: String,
    signing: EncodingKey,
    checking: DecodingKey,
}

impl Key {
    /// The key of the folder of local state, which must be there; it is made, for its owner alone, when it is first needed.
    ///
    /// # Errors
    /// The file cannot be read, made or understood.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(KEY_FILE);
        if let Some(key) = read(&path)? {
            return Ok(key);
        }
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| Error::unavailable("no signing key can be made"))?;
        make_key_file(&path, &STANDARD.encode(document.as_ref()))?;
        read(&path)?.ok_or_else(|| Error::unavailable(format!("the key {} was taken away as it was made", path.display())))
    }

    fn of(pkcs8: &[u8]) -> Option<Self> {
        let signing = EncodingKey::from_ec_der(pkcs8);
        let public = Jwk::from_encoding_key(&signing, Algorithm::ES256).ok()?;
        let id = public.thumbprint(ThumbprintHash::SHA256).ok()?;
        Some(Self { id, checking: DecodingKey::from_jwk(&public).ok()?, signing })
    }

    /// A token of a person with these roles, good for `minutes` from `now`. `scopes` may narrow them.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn issue(&self, roles: &[Role], scopes: &[String], now: DateTime<Utc>, minutes: u32) -> Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.clone());
        let roles: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        let expires = now + Duration::minutes(i64::from(minutes.min(MINUTES_MAX)));
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "tid": TENANT, "oid": OBJECT_ID, "sub": OBJECT_ID, "azp": "hdai", "idtyp": "user",
            "iat": now.timestamp(), "nbf": now.timestamp(), "exp": expires.timestamp(), "roles": roles, "scp": scopes.join(" "),
        });
        encode(&header, &claims, &self.signing).map_err(|cause| Error::internal("the token cannot be signed").caused_by(cause))
    }

    /// Validates this issuer's tokens.
    pub fn verifier(&self) -> Verifier {
        let keys = Keys::Own(self.id.clone(), self.checking.clone());
        Verifier::new(Algorithm::ES256, &[ISSUER.to_owned()], &[AUDIENCE.to_owned()], TENANT, Proof::Local, keys)
    }
}

fn read(path: &Path) -> Result<Option<Key>> {
    let Some(text) = read_key_file(path)? else { return Ok(None) };
    let key = STANDARD.decode(text.trim()).ok().and_then(|pkcs8| Key::of(&pkcs8));
    key.map(Some).ok_or_else(|| Error::invalid(format!("the key {} is damaged: remove it, and a new one is made", path.display())))
}

#[cfg(test)]
mod tests {
    use super::super::Refused;
    use super::*;

    #[tokio::test]
    async fn a_key_is_made_once_kept_private_and_signs_what_it_validates() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::open(folder.path()).unwrap();
        let again = Key::open(folder.path()).unwrap();
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let token = key.issue(&[Role::Auditor], &[], now, 5).unwrap();
        let identity = again.verifier().verify(token.as_bytes(), now).await.unwrap();
        assert_eq!((identity.roles, identity.id.as_str(), identity.within), (vec![Role::Auditor], OBJECT_ID, None));
        let later = now + Duration::minutes(7);
        assert_eq!(again.verifier().verify(token.as_bytes(), later).await, Err(Refused::Expired));
        let other = tempfile::tempdir().unwrap();
        let other = Key::open(other.path()).unwrap();
        assert_eq!(other.verifier().verify(token.as_bytes(), now).await, Err(Refused::UnknownKey));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        std::fs::write(folder.path().join(KEY_FILE), "junk").unwrap();
        assert!(Key::open(folder.path()).is_err());
    }

    #[tokio::test]
    async fn a_token_cannot_outlive_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::open(folder.path()).unwrap();
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let token = key.issue(&[], &["user/*.rs".to_owned()], now, u32::MAX).unwrap();
        assert!(key.verifier().verify(token.as_bytes(), now).await.unwrap().within.is_some());
        assert!(key.verifier().verify(token.as_bytes(), now + Duration::hours(25)).await.is_err());
    }
}
