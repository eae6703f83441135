//! One token, validated (RFC 8725): algorithm, key, signature, issuer, audience, time, tenant, in this order.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};

use super::claims::{Claims, Identity};
use super::{Published, Refused, Timing};
use crate::config::EntraSettings;
use crate::domain::access::Proof;
use crate::error::Result;

/// How far the issuer's clock and ours may be apart, in seconds.
const SKEW_SECONDS: i64 = 60;

/// Validates the tokens of one issuer for this app.
pub struct Verifier {
    validation: Validation,
    tenant: String,
    proof: Proof,
    keys: Keys,
}

pub(super) enum Keys {
    /// One key and its id.
    Own(String, DecodingKey),
    /// The issuer's.
    Published(Arc<Published>),
}

impl Verifier {
    /// For tokens of a Microsoft Entra ID tenant.
    ///
    /// # Errors
    /// The HTTP client cannot start.
    pub fn entra(settings: &EntraSettings, timing: Timing) -> Result<Self> {
        let keys = Keys::Published(Published::at(&settings.keys_url, timing)?);
        Ok(Self::new(Algorithm::RS256, &settings.issuers, &settings.audiences, &settings.tenant, Proof::Token, keys))
    }

    pub(super) fn new(
        algorithm: Algorithm,
        issuers: &[String],
        audiences: &[String],
        tenant: &str,
        proof: Proof,
        keys: Keys,
    ) -> Self {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(issuers);
        validation.set_audience(audiences);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud"]);
        // The time is judged by the clock of the edge, in `Claims::check_time`.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self { validation, tenant: tenant.to_owned(), proof, keys }
    }

    pub(super) fn proof(&self) -> Proof {
        self.proof
    }

    /// Whether the token could be good: everything that [`Verifier::verify`] asks but for the key, the signature, the issuer and the audience.
    pub(super) fn glance(&self, token: &[u8], now: DateTime<Utc>) -> Result<(), Refused> {
        self.key_id(token)?;
        let claims = token.split(|byte| *byte == b'.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Claims = claims.and_then(|json| serde_json::from_slice(&json).ok()).ok_or(Refused::Malformed)?;
        claims.check_time(now.timestamp(), SKEW_SECONDS)?;
        claims.identity(&self.tenant).map(drop)
    }

    /// The id of the key that the token's header names.
    fn key_id(&self, token: &[u8]) -> Result<String, Refused> {
        let header = decode_header(token).map_err(|error| match error.kind() {
            // `none` and names that nobody knows are no algorithm to the library.
            ErrorKind::Json(cause) if cause.to_string().contains("variant") => Refused::Algorithm,
            _ => Refused::Malformed,
        })?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(Refused::Algorithm);
        }
        // RFC 7515, section 4.1.11: what must be understood and is not makes the token invalid.
        if header.crit.is_some() {
            return Err(Refused::Critical);
        }
        header.kid.ok_or(Refused::NoKeyId)
    }

    /// Who the token is of.
    pub(super) async fn verify(&self, token: &[u8], now: DateTime<Utc>) -> Result<Identity, Refused> {
        let id = self.key_id(token)?;
        let key = match &self.keys {
            Keys::Own(own, key) if *own == id => key.clone(),
            Keys::Own(..) => return Err(Refused::UnknownKey),
            Keys::Published(published) => published.key(&id).await?,
        };
        let claims = decode::<Claims>(token, &key, &self.validation).map_err(|error| refused(error.kind()))?.claims;
        claims.check_time(now.timestamp(), SKEW_SECONDS)?;
        claims.identity(&self.tenant)
    }
}

fn refused(kind: &ErrorKind) -> Refused {
    match kind {
        ErrorKind::InvalidSignature => Refused::Signature,
        ErrorKind::InvalidAlgorithm => Refused::Algorithm,
        ErrorKind::InvalidIssuer => Refused::Issuer,
        ErrorKind::InvalidAudience => Refused::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Refused::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Refused::Audience,
        _ => Refused::Malformed,
    }
}
