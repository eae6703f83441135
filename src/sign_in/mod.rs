//! Who calls: a token of Microsoft Entra ID or of the development issuer, validated here, and the identity that App Service authentication
//! puts beside it. One [`Caller`] comes of them, or a reason. It does not know what a caller may do, nor HTTP.

mod claims;
pub mod development;
mod failures;
mod keys;
mod principal;
mod refused;
mod verifier;

pub use failures::{Failures, Told};
pub use keys::{Published, Timing};
pub use refused::Refused;
pub use verifier::Verifier;

use chrono::{DateTime, Utc};

use crate::config::{Config, Development};
use crate::domain::Caller;
use crate::domain::access::Proof;
use crate::error::Result;

use self::claims::Identity;

/// What a call carries of who makes it: the values of its `Authorization` and `X-MS-CLIENT-PRINCIPAL*` headers.
#[derive(Default, Clone)]
pub struct Presented<'a> {
    /// Every `Authorization`.
    pub authorizations: Vec<&'a [u8]>,
    /// Every `X-MS-CLIENT-PRINCIPAL`.
    pub principals: Vec<&'a [u8]>,
    /// Every `X-MS-CLIENT-PRINCIPAL-ID`: the principal's object once more.
    pub principal_ids: Vec<&'a [u8]>,
    /// Every `X-MS-CLIENT-PRINCIPAL-IDP`: who vouches for the principal.
    pub principal_providers: Vec<&'a [u8]>,
}

/// Longest token that is read, in bytes: Entra's stay below 16 KiB.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Tells who calls.
pub struct SignIn {
    platform: bool,
    verifier: Option<Verifier>,
    /// The only tenant whose principals count.
    tenant: Option<String>,
    failures: Failures,
}

impl SignIn {
    /// What the settings ask for. The development issuer's key is made in the folder of local state, which must be there.
    ///
    /// # Errors
    /// The key cannot be read or made, or the HTTP client cannot start.
    pub fn open(config: &Config) -> Result<Self> {
        let settings = &config.sign_in;
        let verifier = match (&settings.entra, settings.development) {
            (Some(entra), _) => Some(Verifier::entra(entra, Timing::default())?),
            (None, Development::Allowed) => Some(development::Key::open(&config.folder)?.verifier()),
            (None, Development::Refused(_)) => None,
        };
        tracing::info!(
            platform = settings.platform,
            entra = settings.entra.is_some(),
            development = settings.development == Development::Allowed,
            "who may sign in"
        );
        let tenant = settings.entra.as_ref().map(|entra| entra.tenant.clone());
        let failures = Failures::looking_into(config.edge.failures_max);
        Ok(Self { failures, ..Self::new(settings.platform, verifier, tenant) })
    }

    /// Believes the platform's header if `platform`, as far as it is of `tenant`, and tokens if there is a `verifier`.
    pub fn new(platform: bool, verifier: Option<Verifier>, tenant: Option<String>) -> Self {
        Self { platform, verifier, tenant, failures: Failures::default() }
    }

    /// Counts the failures, for those who log them.
    pub fn failures(&self) -> &Failures {
        &self.failures
    }

    /// Whether the call may have a caller, at the price of reading it: no signature is checked, and no key is fetched. What passes may
    /// still be nobody's.
    ///
    /// # Errors
    /// Why it has none.
    pub fn glance(&self, presented: &Presented<'_>, now: DateTime<Utc>) -> Result<(), Refused> {
        let Some(verifier) = &self.verifier else { return Ok(()) };
        match bearer(&presented.authorizations)? {
            None => Ok(()),
            Some(token) if self.failures.is_forged(token) => Err(Refused::Signature),
            Some(token) => verifier.glance(token, now),
        }
    }

    /// The caller. A platform's principal and a token that are both there must be of the same object in the same tenant.
    ///
    /// # Errors
    /// Why the call has none.
    pub async fn caller(&self, presented: &Presented<'_>, correlation: String, now: DateTime<Utc>) -> Result<Caller, Refused> {
        let token = match &self.verifier {
            // Without a verifier the platform has judged the token, and its principal speaks.
            None => None,
            Some(verifier) => match bearer(&presented.authorizations)? {
                None => None,
                Some(token) => {
                    let identity = verifier.verify(token, now).await;
                    let forged = |refused: &Refused| *refused == Refused::Signature;
                    Some((
                        identity.inspect_err(|why| {
                            if forged(why) {
                                self.failures.remember_forged(token)
                            }
                        })?,
                        verifier.proof(),
                    ))
                }
            },
        };
        let principal = match (self.platform, presented.principals.as_slice()) {
            (false, _) | (true, []) => None,
            (true, [principal]) => Some(vouched_for(principal::decode(principal)?, presented)?),
            (true, _) => return Err(Refused::Several),
        };
        let (identity, proof) = match (token, principal) {
            (Some((token, proof)), Some(principal)) => match token.id == principal.id && token.tenant == principal.tenant {
                true => (token, proof),
                false => return Err(Refused::Disagree),
            },
            (Some(token), None) => token,
            (None, Some(principal)) => match self.tenant.is_some() && self.tenant == principal.tenant {
                true => (principal, Proof::Entra),
                false => return Err(Refused::Tenant),
            },
            (None, None) if self.platform || self.verifier.is_some() => return Err(Refused::Nothing),
            (None, None) => return Err(Refused::NotConfigured),
        };
        let Identity { id, name, tenant, roles, within, program, unread_groups } = identity;
        if roles.is_empty() && unread_groups {
            tracing::info!(correlation, "a caller without app roles has groups: groups are not read, assign app roles to them");
        }
        Ok(Caller { name, tenant, within, program, ..Caller::of(id, roles, proof, correlation) })
    }
}

/// The platform's principal, if its companions say the same.
fn vouched_for(identity: Identity, presented: &Presented<'_>) -> Result<Identity, Refused> {
    if presented.principal_providers.iter().any(|provider| *provider != principal::PROVIDER.as_bytes()) {
        return Err(Refused::Provider);
    }
    match presented.principal_ids.iter().all(|id| id.eq_ignore_ascii_case(identity.id.as_bytes())) {
        true => Ok(identity),
        false => Err(Refused::Disagree),
    }
}

/// The token of the one `Authorization` header (RFC 6750, section 2.1).
fn bearer<'a>(authorizations: &[&'a [u8]]) -> Result<Option<&'a [u8]>, Refused> {
    let header = match authorizations {
        [] => return Ok(None),
        [header] => *header,
        _ => return Err(Refused::Several),
    };
    let (scheme, token) = header.split_at(header.iter().position(|byte| *byte == b' ').unwrap_or(header.len()));
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.is_empty() {
        return Err(Refused::Scheme);
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    Ok(Some(token))
}
