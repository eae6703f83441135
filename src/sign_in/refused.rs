//! Why a call has no caller.

use crate::error::{Error, Kind};

/// A reason. Its name is for operators' rules, its words for the caller; neither holds anything of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The call carries no identity.
    Nothing,
    /// Nothing is configured that could tell who calls.
    NotConfigured,
    /// More than one of a header that may be there once.
    Several,
    /// `Authorization` is not `Bearer` with a token.
    Scheme,
    /// Longer than any token of Entra's.
    TooLong,
    /// No JSON Web Token, or one whose claims cannot be read.
    Malformed,
    /// Signed by another algorithm than the one that is accepted, or by none.
    Algorithm,
    /// Names extensions that must be understood and are not.
    Critical,
    /// Names no key.
    NoKeyId,
    /// Names a key that the issuer does not publish.
    UnknownKey,
    /// The signature is not the key's.
    Signature,
    /// Past its end.
    Expired,
    /// Before its beginning.
    NotYet,
    /// Another issuer's.
    Issuer,
    /// For another app.
    Audience,
    /// Another tenant's.
    Tenant,
    /// Says who signed in and gives no access (an ID token).
    NoAccess,
    /// Names no object.
    NoObjectId,
    /// The platform's principal cannot be read.
    PrincipalUnreadable,
    /// The platform's principal is of another provider than Entra.
    Provider,
    /// The token, the platform's principal and its id are not all of one caller.
    Disagree,
    /// The issuer's keys cannot be fetched: the caller may be right.
    KeysAway,
}

impl Refused {
    /// For an alert rule.
    pub const fn name(self) -> &'static str {
        match self {
            Refused::Nothing => "no-credentials",
            Refused::NotConfigured => "not-configured",
            Refused::Several => "several-credentials",
            Refused::Scheme => "scheme",
            Refused::TooLong => "too-long",
            Refused::Malformed => "malformed",
            Refused::Algorithm => "algorithm",
            Refused::Critical => "critical-extension",
            Refused::NoKeyId => "no-key-id",
            Refused::UnknownKey => "unknown-key",
            Refused::Signature => "signature",
            Refused::Expired => "expired",
            Refused::NotYet => "not-yet-valid",
            Refused::Issuer => "issuer",
            Refused::Audience => "audience",
            Refused::Tenant => "tenant",
            Refused::NoAccess => "no-access-token",
            Refused::NoObjectId => "no-object-id",
            Refused::PrincipalUnreadable => "principal-unreadable",
            Refused::Provider => "another-provider",
            Refused::Disagree => "token-and-principal-disagree",
            Refused::KeysAway => "keys-away",
        }
    }

    /// For the caller.
    pub const fn words(self) -> &'static str {
        match self {
            Refused::Nothing => "sign in: the call carries no identity",
            Refused::NotConfigured => "nobody can sign in to this app: sign-in is not configured",
            Refused::Several => "the call carries more than one identity: send one Authorization header",
            Refused::Scheme => "sign in with a bearer token: the Authorization header holds none",
            Refused::TooLong | Refused::Malformed | Refused::Critical | Refused::NoKeyId => {
                "sign in again: the token cannot be read"
            }
            Refused::Algorithm | Refused::UnknownKey | Refused::Signature => "sign in again: the token is not the issuer's",
            Refused::Expired => "sign in again: the token has expired",
            Refused::NotYet => "the token is not valid yet: look at the clock that issued it",
            Refused::Issuer | Refused::Tenant => "sign in to the tenant of this app: the token is another one's",
            Refused::Audience => "ask for a token for this app: the token is for another one",
            Refused::NoAccess => "ask for an access token: the token only says who signed in",
            Refused::NoObjectId => "sign in again: the identity carries no object id",
            Refused::PrincipalUnreadable => "sign in again: the identity cannot be read",
            Refused::Provider => "sign in with Microsoft Entra ID: the identity is another provider's",
            Refused::Disagree => "sign in again: the token and the platform name different callers",
            Refused::KeysAway => "the issuer's keys cannot be fetched: try again in a minute",
        }
    }

    /// The answer's `WWW-Authenticate` (RFC 6750, section 3): no error where there was no token.
    pub fn challenge(self) -> String {
        match self {
            Refused::Nothing | Refused::NotConfigured => "Bearer realm=\"hdai\"".to_owned(),
            Refused::Several | Refused::Scheme => {
                format!("Bearer realm=\"hdai\", error=\"invalid_request\", error_description=\"{}\"", self.words())
            }
            _ => format!("Bearer realm=\"hdai\", error=\"invalid_token\", error_description=\"{}\"", self.words()),
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let kind = if refused == Refused::KeysAway { Kind::Unavailable } else { Kind::Unauthenticated };
        Error::new(kind, refused.words())
    }
}
