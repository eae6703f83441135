//! Who calls: the identity that the platform's authentication (or, locally, the local host) put into the headers.
//!
//! Source: "Work with user identities in Azure App Service authentication". The headers count only where something that strips the
//! caller's own copies stands in front; otherwise every caller is unknown.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use warp::http::HeaderMap;

use crate::config::IdentityTrust;
use crate::domain::access::Proof;
use crate::domain::{Caller, Role};
use crate::error::{Error, Kind, Result};

const PRINCIPAL: &str = "x-ms-client-principal";
const FORWARDED_FOR: &str = "x-forwarded-for";
const INVOCATION: &str = "x-azure-functions-invocationid";
const ROLE_CLAIM_WS2008: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
const OBJECT_ID_CLAIM: &str = "http://schemas.microsoft.com/identity/claims/objectidentifier";
/// Longest principal, object id and correlation that are read.
const PRINCIPAL_CHARS_MAX: usize = 64 * 1024;
const ID_CHARS_MAX: usize = 128;

#[derive(Deserialize)]
struct Principal {
    role_typ: Option<String>,
    claims: Vec<Claim>,
}

#[derive(Deserialize)]
struct Claim {
    typ: String,
    val: String,
}

/// The id that the host gave this call, or a new one.
pub(super) fn correlation(headers: &HeaderMap) -> String {
    let given = headers.get(INVOCATION).and_then(|value| value.to_str().ok());
    match given.filter(|id| id.len() <= ID_CHARS_MAX && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')) {
        Some(id) => id.to_owned(),
        None => uuid::Uuid::new_v4().to_string(),
    }
}

/// The address that the front end saw: it adds its own word at the end of what the caller may have sent.
fn origin(headers: &HeaderMap) -> String {
    let seen = headers.get_all(FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok()?.rsplit(',').next());
    let address = seen.map(str::trim).and_then(|text| {
        let plain = text.parse::<IpAddr>().ok();
        plain.or_else(|| text.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
    });
    address.map(|address| address.to_string()).unwrap_or_default()
}

/// The caller of an API call.
///
/// # Errors
/// [`Kind::Unauthenticated`] if nobody trustworthy says who calls.
pub(super) fn caller(headers: &HeaderMap, trust: IdentityTrust) -> Result<Caller> {
    let unknown = |why: &str| Err(Error::new(Kind::Unauthenticated, why));
    let proof = match trust {
        IdentityTrust::Nobody => return unknown("no authentication stands in front of this app: sign-in is not configured"),
        IdentityTrust::Platform => Proof::Entra,
        IdentityTrust::LocalHost => Proof::Local,
    };
    let mut principals = headers.get_all(PRINCIPAL).iter();
    let (Some(principal), None) = (principals.next(), principals.next()) else {
        return unknown("sign in: the call carries no identity");
    };
    let Some(principal) = decode(principal.as_bytes()) else {
        return unknown("sign in again: the identity cannot be read");
    };
    let is_role = |typ: &str| typ == "roles" || typ == ROLE_CLAIM_WS2008 || principal.role_typ.as_deref() == Some(typ);
    let roles = principal.claims.iter().filter(|claim| is_role(&claim.typ)).filter_map(|claim| Role::parse(&claim.val)).collect();
    let id = principal.claims.iter().find(|claim| claim.typ == "oid" || claim.typ == OBJECT_ID_CLAIM);
    match id.map(|claim| claim.val.as_str()).filter(|id| !id.is_empty() && id.len() <= ID_CHARS_MAX) {
        Some(id) => Ok(Caller { id: id.to_owned(), roles, proof, correlation: correlation(headers), origin: origin(headers) }),
        None => unknown("sign in again: the identity carries no object id"),
    }
}

fn decode(header: &[u8]) -> Option<Principal> {
    if header.len() > PRINCIPAL_CHARS_MAX {
        return None;
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, config)
        .decode(header)
        .or_else(|_| GeneralPurpose::new(&alphabet::URL_SAFE, config).decode(header))
        .ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::json;

    fn headers(claims: serde_json::Value) -> HeaderMap {
        let principal = json!({ "auth_typ": "aad", "role_typ": "custom/role", "claims": claims }).to_string();
        let mut headers = HeaderMap::new();
        headers.insert(PRINCIPAL, BASE64_STANDARD.encode(principal).parse().unwrap());
        headers
    }

    #[test]
    fn any_role_claim_counts_and_unknown_roles_grant_nothing() {
        let headers = headers(json!([
            { "typ": "oid", "val": "5b54" },
            { "typ": "roles", "val": "Nobody" },
            { "typ": "custom/role", "val": "Auditor" },
            { "typ": ROLE_CLAIM_WS2008, "val": "CareLineManager" },
            { "typ": "name", "val": "DataScientist" },
        ]));
        let caller = caller(&headers, IdentityTrust::Platform).unwrap();
        assert_eq!(caller.roles, [Role::Auditor, Role::CareLineManager]);
        assert_eq!(caller.id, "5b54");
    }

    #[test]
    fn the_origin_is_what_the_front_end_saw_and_not_what_the_caller_says() {
        let mut headers = headers(json!([{ "typ": "oid", "val": "a" }]));
        let with = |headers: &HeaderMap| caller(headers, IdentityTrust::Platform).unwrap().origin;
        assert_eq!(with(&headers), "");
        for (seen, origin) in [
            ("6.6.6.6, 203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::1", "::1"),
            ("1.2.3.4, smith", ""),
        ] {
            headers.insert(FORWARDED_FOR, seen.parse().unwrap());
            assert_eq!(with(&headers), origin, "{seen}");
        }
        headers.append(FORWARDED_FOR, "198.51.100.7".parse().unwrap());
        assert_eq!(with(&headers), "198.51.100.7");
    }

    #[test]
    fn headers_count_only_where_something_stands_in_front() {
        let headers = headers(json!([{ "typ": "oid", "val": "5b54" }, { "typ": "roles", "val": "CareLineManager" }]));
        assert_eq!(caller(&headers, IdentityTrust::Nobody).unwrap_err().kind(), Kind::Unauthenticated);
        assert!(caller(&headers, IdentityTrust::LocalHost).is_ok());
    }

    #[test]
    fn a_missing_doubled_or_broken_identity_is_nobody() {
        let mut doubled = headers(json!([{ "typ": "oid", "val": "a" }]));
        doubled.append(PRINCIPAL, "e30=".parse().unwrap());
        let mut broken = HeaderMap::new();
        broken.insert(PRINCIPAL, "%%%".parse().unwrap());
        for headers in [HeaderMap::new(), doubled, broken, headers(json!([{ "typ": "roles", "val": "Auditor" }]))] {
            assert_eq!(caller(&headers, IdentityTrust::Platform).unwrap_err().kind(), Kind::Unauthenticated);
        }
    }
}
