//! What a validated token says, as an identity.
//!
//! Source: "Access token claims reference" of the Microsoft identity platform.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Refused;
use crate::domain::scopes::{self, Holder};
use crate::domain::{Action, Phi, Role};

/// Longest object id that is kept.
const ID_CHARS_MAX: usize = 128;

/// Who somebody proved to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) name: Option<Phi<String>>,
    pub(super) tenant: Option<String>,
    pub(super) roles: Vec<Role>,
    pub(super) within: Option<Vec<Action>>,
    /// It is a program's, signed in as itself.
    pub(super) program: bool,
    /// Group memberships came along, or were too many to (`hasgroups`, `_claim_names`). They grant nothing.
    pub(super) unread_groups: bool,
}

/// The claims that are read. Issuer and audience are looked at where the signature is.
#[derive(Deserialize)]
pub(super) struct Claims {
    exp: i64,
    nbf: i64,
    tid: Option<String>,
    oid: Option<String>,
    /// What the person is called: whatever is there must not keep a token from being read.
    name: Option<Value>,
    preferred_username: Option<Value>,
    /// The app that asked: `azp` in the second version's access tokens, `appid` in the first's. ID tokens have neither.
    azp: Option<String>,
    appid: Option<String>,
    idtyp: Option<String>,
    #[serde(default, deserialize_with = "one_or_many")]
    roles: Vec<String>,
    scp: Option<String>,
    groups: Option<IgnoredAny>,
    hasgroups: Option<IgnoredAny>,
    #[serde(rename = "_claim_names")]
    claim_names: Option<IgnoredAny>,
}

impl Claims {
    /// Whether the token counts at `now`, in seconds since 1970, give or take `skew`.
    pub(super) fn check_time(&self, now: i64, skew: i64) -> Result<(), Refused> {
        match () {
            () if self.exp <= now.saturating_sub(skew) => Err(Refused::Expired),
            () if self.nbf > now.saturating_add(skew) => Err(Refused::NotYet),
            () => Ok(()),
        }
    }

    /// The identity, which must be `tenant`'s.
    pub(super) fn identity(self, tenant: &str) -> Result<Identity, Refused> {
        if !self.tid.is_some_and(|tid| tid.eq_ignore_ascii_case(tenant)) {
            return Err(Refused::Tenant);
        }
        if self.azp.is_none() && self.appid.is_none() {
            return Err(Refused::NoAccess);
        }
        let id = self.oid.filter(|id| is_object_id(id)).ok_or(Refused::NoObjectId)?;
        let scopes = self.scp.as_deref().unwrap_or_default().split(' ');
        // A program's token has no `scp`; what it may ask for are app roles, SMART's system scopes among them.
        let holder = match self.idtyp.as_deref() {
            Some("app") => Holder::Program,
            Some(_) => Holder::Person,
            None if self.scp.is_none() => Holder::Program,
            None => Holder::Person,
        };
        let asked = scopes.chain(self.roles.iter().map(String::as_str).filter(|_| holder == Holder::Program));
        let within = scopes::within(asked, holder);
        let roles = known_roles(self.roles.iter().map(String::as_str));
        let names = [self.name, self.preferred_username];
        Ok(Identity {
            id,
            name: names.iter().flatten().filter_map(Value::as_str).find_map(person_name),
            tenant: Some(tenant.to_owned()),
            roles: roles.into_iter().filter(|role| holder == Holder::Person || role.for_programs()).collect(),
            within,
            program: holder == Holder::Program,
            unread_groups: self.groups.is_some() || self.hasgroups.is_some() || self.claim_names.is_some(),
        })
    }
}

/// Each known role once, in the order of the claims; an unknown one grants nothing.
pub(super) fn known_roles<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Role> {
    let mut roles = Vec::new();
    for role in names.filter_map(Role::parse) {
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    roles
}

/// Longest name of a person that is kept, in characters.
const NAME_CHARS_MAX: usize = 200;

/// What a claim calls a person, cut to a sensible length; `None` if it says nothing that can be shown.
pub(super) fn person_name(claim: &str) -> Option<Phi<String>> {
    let shown: String = claim.trim().chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    (!shown.is_empty()).then(|| Phi::new(shown))
}

pub(super) fn is_object_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_CHARS_MAX && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Entra always sends a list; a custom policy can make it a word.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Roles {
        Many(Vec<String>),
        One(String),
    }
    Ok(match Option::<Roles>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Roles::Many(roles)) => roles,
        Some(Roles::One(role)) => vec![role],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(more: Value) -> Claims {
        let mut all =
            json!({ "exp": 2_000, "nbf": 1_000, "tid": "t", "oid": "5b54", "azp": "client", "scp": "user_impersonation" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn identity(more: Value) -> Identity {
        claims(more).identity("t").unwrap()
    }

    #[test]
    fn any_role_claim_counts_and_unknown_roles_grant_nothing() {
        let identity = identity(json!({ "roles": ["Nobody", "Auditor", "CareLineManager", "Auditor", "auditor"] }));
        assert_eq!(identity.roles, [Role::Auditor, Role::CareLineManager]);
        assert_eq!((identity.id.as_str(), identity.within), ("5b54", None));
        assert_eq!(super::tests::identity(json!({ "roles": "Auditor" })).roles, [Role::Auditor]);
        assert!(super::tests::identity(json!({ "roles": null })).roles.is_empty());
    }

    #[test]
    fn the_time_is_given_a_little_slack_and_no_more() {
        let claims = claims(json!({}));
        assert_eq!(claims.check_time(940, 60), Ok(()));
        assert_eq!(claims.check_time(939, 60), Err(Refused::NotYet));
        assert_eq!(claims.check_time(2_059, 60), Ok(()));
        assert_eq!(claims.check_time(2_060, 60), Err(Refused::Expired));
    }

    #[test]
    fn a_program_holds_only_roles_that_are_for_programs() {
        let all = Role::ALL.map(Role::name);
        for program in [json!({ "idtyp": "app", "roles": all }), json!({ "scp": null, "roles": all })] {
            assert_eq!(identity(program).roles, [Role::DataScientist, Role::CareLineManager, Role::Auditor]);
        }
        assert_eq!(identity(json!({ "roles": all })).roles, Role::ALL);
        assert_eq!(identity(json!({ "idtyp": "user", "scp": null, "roles": all })).roles, Role::ALL);
    }

    #[test]
    fn system_scopes_narrow_a_program_and_grant_nothing_by_themselves() {
        let alone = identity(json!({ "scp": null, "roles": ["system/*.cruds"] }));
        assert!(alone.roles.is_empty());
        let both = identity(json!({ "scp": null, "roles": ["Auditor", "CareLineManager", "system.AuditEvent.rs"] }));
        assert_eq!(both.within, Some(vec![Action::ReadAudit]));
        let person = identity(json!({ "scp": "system/*.rs", "roles": ["Auditor"] }));
        assert_eq!(person.within, Some(vec![]));
    }

    #[test]
    fn groups_grant_nothing_and_do_not_disturb() {
        for groups in [
            json!({ "groups": ["CareLineManager"] }),
            json!({ "hasgroups": true }),
            json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": { "src1": { "endpoint": "https://graph.example" } } }),
        ] {
            let mut groups = groups;
            assert_eq!((identity(groups.clone()).roles, identity(groups.clone()).unread_groups), (vec![], true));
            groups["roles"] = json!(["Auditor"]);
            assert_eq!(identity(groups).roles, [Role::Auditor]);
        }
    }

    #[test]
    fn a_name_is_kept_within_bounds_and_decides_nothing() {
        let name = |more: Value| identity(more).name.map(|name| name.reveal().clone());
        assert_eq!(name(json!({ "name": " Ann O'Nym ", "preferred_username": "ann@example.org" })).as_deref(), Some("Ann O'Nym"));
        assert_eq!(name(json!({ "name": " ", "preferred_username": "ann@example.org" })).as_deref(), Some("ann@example.org"));
        assert_eq!(name(json!({ "name": "a\nb".repeat(300) })).unwrap().len(), NAME_CHARS_MAX);
        for odd in [json!({}), json!({ "name": 7 }), json!({ "name": null, "preferred_username": ["x"] })] {
            assert_eq!(name(odd), None);
        }
        let named = format!("{:?}", identity(json!({ "name": "Canaryname" })));
        assert!(!named.contains("Canary"), "{named}");
    }

    #[test]
    fn a_token_without_tenant_app_or_object_is_refused() {
        for (claim, value, refused) in [
            ("tid", json!(null), Refused::Tenant),
            ("tid", json!("u"), Refused::Tenant),
            ("azp", json!(null), Refused::NoAccess),
            ("oid", json!(null), Refused::NoObjectId),
            ("oid", json!(""), Refused::NoObjectId),
            ("oid", json!("a\nb"), Refused::NoObjectId),
            ("oid", json!("x".repeat(129)), Refused::NoObjectId),
        ] {
            assert_eq!(claims(json!({ claim: value })).identity("t"), Err(refused), "{claim}");
        }
        assert!(claims(json!({ "azp": null, "appid": "client" })).identity("T").is_ok());
    }
}
