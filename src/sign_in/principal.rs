//! The identity that App Service authentication puts into `X-MS-CLIENT-PRINCIPAL`.
//!
//! Source: "Work with user identities in Azure App Service authentication". The header counts only where the platform, which strips the
//! caller's own copies, stands in front.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Refused;
use super::claims::{Identity, is_object_id, known_roles, person_name};
use crate::domain::Role;
use crate::domain::scopes::{self, Holder};

const ROLE_CLAIM_WS2008: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
const OBJECT_ID_CLAIM: &str = "http://schemas.microsoft.com/identity/claims/objectidentifier";
const TENANT_CLAIM: &str = "http://schemas.microsoft.com/identity/claims/tenantid";
const SCOPE_CLAIM: &str = "http://schemas.microsoft.com/identity/claims/scope";
const NAME_CLAIM: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name";
const SUBJECT_CLAIM: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";
/// What the platform calls Entra, the only provider whose objects and roles mean anything here.
pub(super) const PROVIDER: &str = "aad";
/// Longest principal that is read.
const PRINCIPAL_CHARS_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct Principal {
    auth_typ: Option<String>,
    role_typ: Option<String>,
    claims: Vec<Claim>,
}

#[derive(Deserialize)]
struct Claim {
    typ: String,
    val: String,
}

/// The identity of a header's value.
///
/// # Errors
/// It cannot be read, names no object or several, or is not Entra's.
pub(super) fn decode(header: &[u8]) -> Result<Identity, Refused> {
    let principal = read(header).ok_or(Refused::PrincipalUnreadable)?;
    match principal.auth_typ.as_deref() {
        Some(PROVIDER) => identity(&principal).ok_or(Refused::PrincipalUnreadable),
        _ => Err(Refused::Provider),
    }
}

fn read(header: &[u8]) -> Option<Principal> {
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

fn identity(principal: &Principal) -> Option<Identity> {
    let of =
        |names: &[&str]| principal.claims.iter().find(|claim| names.contains(&claim.typ.as_str())).map(|claim| claim.val.as_str());
    // Two objects or two tenants are nobody.
    let one = |names: &[&str]| {
        let mut values =
            principal.claims.iter().filter(|claim| names.contains(&claim.typ.as_str())).map(|claim| claim.val.as_str());
        let first = values.next();
        values.all(|value| Some(value) == first).then_some(first)
    };
    let is_role = |typ: &str| typ == "roles" || typ == ROLE_CLAIM_WS2008 || principal.role_typ.as_deref() == Some(typ);
    let role_values: Vec<&str> =
        principal.claims.iter().filter(|claim| is_role(&claim.typ)).map(|claim| claim.val.as_str()).collect();
    let object = of(&["oid", OBJECT_ID_CLAIM]);
    // A browser's session has no scopes, so that there are none tells nothing. A program's subject is its own object, a person's never is.
    let holder = match of(&["idtyp"]) {
        Some("app") => Holder::Program,
        None if object.is_some() && object == of(&["sub", SUBJECT_CLAIM]) => Holder::Program,
        _ => Holder::Person,
    };
    let scopes = of(&["scp", SCOPE_CLAIM]).unwrap_or_default().split(' ');
    let within = scopes::within(scopes.chain(role_values.iter().copied().filter(|_| holder == Holder::Program)), holder);
    let may_hold = |role: &Role| holder == Holder::Person || role.for_programs();
    Some(Identity {
        id: one(&["oid", OBJECT_ID_CLAIM])?.filter(|id| is_object_id(id))?.to_owned(),
        name: ["name", NAME_CLAIM, "preferred_username"].iter().find_map(|claim| person_name(of(&[claim])?)),
        tenant: one(&["tid", TENANT_CLAIM])?.map(str::to_ascii_lowercase),
        roles: known_roles(role_values.iter().copied()).into_iter().filter(may_hold).collect(),
        within,
        program: holder == Holder::Program,
        unread_groups: of(&["groups", "hasgroups", "_claim_names"]).is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use serde_json::json;

    fn of(claims: serde_json::Value) -> Option<Identity> {
        let principal = json!({ "auth_typ": "aad", "role_typ": "custom/role", "claims": claims }).to_string();
        assert_eq!(
            decode(BASE64_STANDARD.encode(&principal).as_bytes()),
            decode(BASE64_URL_SAFE_NO_PAD.encode(&principal).as_bytes())
        );
        decode(BASE64_STANDARD.encode(principal).as_bytes()).ok()
    }

    #[test]
    fn any_role_claim_counts_and_unknown_roles_grant_nothing() {
        let identity = of(json!([
            { "typ": "oid", "val": "5b54" },
            { "typ": TENANT_CLAIM, "val": "AB" },
            { "typ": "roles", "val": "Nobody" },
            { "typ": "custom/role", "val": "Auditor" },
            { "typ": ROLE_CLAIM_WS2008, "val": "CareLineManager" },
            { "typ": "name", "val": "DataScientist" },
        ]))
        .unwrap();
        assert_eq!(identity.roles, [Role::Auditor, Role::CareLineManager]);
        assert_eq!(identity.name.unwrap().reveal(), "DataScientist");
        assert_eq!((identity.id.as_str(), identity.tenant.as_deref(), identity.within), ("5b54", Some("ab"), None));
    }

    #[test]
    fn a_programs_principal_and_its_scopes_are_narrowed_like_its_token() {
        let roles = Role::ALL.map(|role| json!({ "typ": "roles", "val": role.name() }));
        let mut claims = vec![json!({ "typ": "oid", "val": "5b54" }), json!({ "typ": "idtyp", "val": "app" })];
        claims.extend(roles);
        assert_eq!(of(json!(claims)).unwrap().roles.len(), 3);
        claims[1] = json!({ "typ": SUBJECT_CLAIM, "val": "5b54" });
        let program = of(json!(claims)).unwrap();
        assert_eq!((program.program, program.roles.len()), (true, 3));
        claims[1] = json!({ "typ": SUBJECT_CLAIM, "val": "another" });
        assert!(!of(json!(claims)).unwrap().program);
        let scoped = json!([{ "typ": "oid", "val": "a" }, { "typ": SCOPE_CLAIM, "val": "patient/*.rs" }]);
        assert_eq!(of(scoped).unwrap().within, Some(vec![]));
    }

    #[test]
    fn what_cannot_be_read_is_nobody() {
        for bytes in [&b"%%%"[..], b"", b"e30=", b"bnVsbA=="] {
            assert_eq!(decode(bytes), Err(Refused::PrincipalUnreadable));
        }
        assert_eq!(of(json!([{ "typ": "roles", "val": "Auditor" }])), None);
        assert_eq!(decode(&vec![b'A'; PRINCIPAL_CHARS_MAX + 1]), Err(Refused::PrincipalUnreadable));
        let twice =
            |name: &str| of(json!([{ "typ": "oid", "val": "a" }, { "typ": "tid", "val": "t" }, { "typ": name, "val": "b" }]));
        for name in ["oid", OBJECT_ID_CLAIM, "tid", TENANT_CLAIM] {
            assert_eq!(twice(name), None, "{name}");
        }
    }

    #[test]
    fn only_entras_principals_count() {
        for provider in [json!("google"), json!("AAD"), json!(""), json!(null)] {
            let principal = json!({ "auth_typ": provider, "claims": [{ "typ": "oid", "val": "5b54" }] }).to_string();
            assert_eq!(decode(BASE64_STANDARD.encode(principal).as_bytes()), Err(Refused::Provider), "{provider}");
        }
    }
}
