//! The identity that the local host puts on requests, as the platform's authentication (Easy Auth) would.
//! It does not judge what the identity may do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use warp::http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, Result};

const ROLE_CLAIM: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
const OBJECT_ID_CLAIM: &str = "http://schemas.microsoft.com/identity/claims/objectidentifier";
const EMAIL_CLAIM: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress";

/// Who asks, for every request of a local run.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The JSON that `X-MS-CLIENT-PRINCIPAL` carries in base64.
    pub principal: Value,
    /// `X-MS-CLIENT-PRINCIPAL-ID`: the Entra object id.
    pub id: String,
    /// `X-MS-CLIENT-PRINCIPAL-NAME`.
    pub name: String,
    /// `X-MS-CLIENT-PRINCIPAL-IDP`: `aad` for Entra.
    pub idp: String,
}

impl Identity {
    /// An Entra user with app roles, in the shape that Easy Auth gives them.
    pub fn entra(object_id: &str, name: &str, roles: &[&str]) -> Identity {
        let mut claims =
            vec![json!({ "typ": OBJECT_ID_CLAIM, "val": object_id }), json!({ "typ": "preferred_username", "val": name })];
        claims.extend(roles.iter().map(|role| json!({ "typ": "roles", "val": role })));
        let principal = json!({ "auth_typ": "aad", "name_typ": EMAIL_CLAIM, "role_typ": ROLE_CLAIM, "claims": claims });
        Identity { principal, id: object_id.into(), name: name.into(), idp: "aad".into() }
    }

    /// The four headers; [`crate::error::Kind::Invalid`] if a text cannot be one.
    pub(crate) fn headers(&self) -> Result<HeaderMap> {
        let principal = STANDARD.encode(self.principal.to_string());
        let pairs = [("", principal.as_str()), ("-id", &self.id), ("-name", &self.name), ("-idp", &self.idp)];
        let mut headers = HeaderMap::new();
        for (suffix, text) in pairs {
            let fault = || Error::invalid("the local identity holds a text that cannot be an HTTP header");
            let name = HeaderName::try_from(format!("x-ms-client-principal{suffix}")).map_err(|_| fault())?;
            headers.insert(name, HeaderValue::from_str(text).map_err(|_| fault())?);
        }
        Ok(headers)
    }

    /// The `Identities` entry of an HTTP envelope.
    pub(crate) fn envelope_entry(&self) -> Value {
        let claim = |claim: &Value| json!({ "Type": claim["typ"], "Value": claim["val"] });
        let claims: Vec<Value> = self.principal["claims"].as_array().into_iter().flatten().map(claim).collect();
        json!({
            "AuthenticationType": self.idp, "IsAuthenticated": true, "Claims": claims,
            "NameClaimType": self.principal["name_typ"], "RoleClaimType": self.principal["role_typ"],
        })
    }
}

/// Headers that only the platform may set: a caller's are removed.
pub(crate) fn is_platform_header(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-ms-client-principal") || name.as_str().starts_with("x-ms-token-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_becomes_the_platforms_headers() {
        let identity = Identity::entra("5b5450db", "ann@example.org", &["CareLineManager", "Auditor"]);
        let headers = identity.headers().unwrap();
        let principal: Value = serde_json::from_slice(&STANDARD.decode(&headers["x-ms-client-principal"]).unwrap()).unwrap();
        assert_eq!(principal["claims"][3], json!({ "typ": "roles", "val": "Auditor" }));
        assert_eq!(headers["x-ms-client-principal-id"], "5b5450db");
        assert_eq!(headers["x-ms-client-principal-idp"], "aad");
        assert_eq!(identity.envelope_entry()["Claims"][0]["Value"], "5b5450db");
        assert!(headers.keys().all(is_platform_header));
        assert!(Identity { id: "a\nb".into(), ..identity }.headers().is_err());
    }
}
