//! Where an object of a Key Vault lies, and what it means when the vault does not give it. It does not know what the object opens.

use azure_core::error::ErrorKind;
use azure_core::http::{StatusCode, Url};
use serde_json::Value;

use crate::error::{Error, Result};

/// What lies in a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    Key,
    Secret,
}

impl Object {
    /// Its folder in a vault's URLs.
    const fn folder(self) -> &'static str {
        match self {
            Object::Key => "keys",
            Object::Secret => "secrets",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Object::Key => "key",
            Object::Secret => "secret",
        }
    }
}

/// Where an object lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    object: Object,
    /// The vault's URL, without a path.
    pub(super) vault: String,
    /// The vault's host.
    pub(super) host: String,
    pub(super) name: String,
    pub(super) version: Option<String>,
}

impl Place {
    /// Reads `https://VAULT.vault.azure.net/keys/NAME[/VERSION]`, or that of a secret.
    pub(super) fn parse(object: Object, text: &str) -> Result<Self> {
        let (word, folder) = (object.word(), object.folder());
        let wrong = || {
            Error::invalid(format!("the URL of a Key Vault {word} must be https://VAULT.vault.azure.net/{folder}/NAME[/VERSION]"))
        };
        let url = Url::parse(text.trim()).map_err(|_| wrong())?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let (Some(host), true, "https") = (url.host_str(), bare, url.scheme()) else { return Err(wrong()) };
        let parts: Vec<_> = url.path().trim_end_matches('/').split('/').collect();
        let (name, version) = match parts.as_slice() {
            ["", kind, name] if *kind == folder && plain(name) => (*name, None),
            ["", kind, name, version] if *kind == folder && plain(name) && plain(version) => (*name, Some((*version).to_owned())),
            _ => return Err(wrong()),
        };
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self { object, vault: format!("https://{host}{port}/"), host: host.to_owned(), name: name.to_owned(), version })
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        let Self { object, vault, name, version, .. } = self;
        let version = version.as_ref().map_or(String::new(), |version| format!("/{version}"));
        format!("{vault}{}/{name}{version}", object.folder())
    }

    /// `forbidden` and `missing` are what to do about an object that the identity may not use, and about one that is not there. The cause is
    /// left out but for its kind: its text holds whatever the other side wrote.
    pub(super) fn error(&self, cause: &azure_core::Error, forbidden: &str, missing: &str) -> Error {
        match (cause.http_status(), cause.kind()) {
            (Some(StatusCode::Unauthorized), _) => {
                self.unavailable("did not accept the token; is it a vault of the identity's own tenant?")
            }
            (Some(StatusCode::Forbidden), kind) if is_disabled(kind) => {
                self.unavailable("holds it disabled; enable that version again")
            }
            (Some(StatusCode::Forbidden), _) => self.unavailable(forbidden),
            (Some(StatusCode::NotFound), _) => self.unavailable(missing),
            (Some(StatusCode::TooManyRequests), _) => self.unavailable("is asked by too many; try again later"),
            (Some(status), _) => self.unavailable(&format!("answered with HTTP status {}; try again later", u16::from(status))),
            (None, ErrorKind::Credential) => {
                self.unavailable("could not be asked, because no token came for the identity; see that identity first")
            }
            (None, _) => self.unavailable("cannot be reached; check its name, and the network and private endpoint between"),
        }
    }

    /// `what` the vault does or does not; the object is named behind it.
    pub(super) fn unavailable(&self, what: &str) -> Error {
        Error::unavailable(self.told(what))
    }

    /// As for [`Place::unavailable`], in words alone.
    pub(super) fn told(&self, what: &str) -> String {
        format!("the Key Vault {} {what} ({} {})", self.host, self.object.word(), self.name)
    }
}

/// A vault refuses for a missing role, its firewall or a disabled object with one status; its inner code tells the last one apart.
fn is_disabled(kind: &ErrorKind) -> bool {
    let ErrorKind::HttpResponse { raw_response: Some(response), .. } = kind else { return false };
    let Ok(body) = serde_json::from_slice::<Value>(response.body().as_ref()) else { return false };
    let inner = ["innererror", "innerError"].into_iter().find_map(|name| body["error"].get(name));
    inner.is_some_and(|inner| matches!(inner["code"].as_str(), Some("KeyDisabled" | "SecretDisabled")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn only_the_url_of_an_object_is_one() {
        for object in [Object::Key, Object::Secret] {
            let (kind, other) = (object.folder(), if object == Object::Key { "secrets" } else { "keys" });
            let at = |rest: &str| format!("https://ward.vault.azure.net/{kind}/{rest}");
            let place = Place::parse(object, &at("names/0a1b")).unwrap();
            assert_eq!((place.vault.as_str(), place.name.as_str()), ("https://ward.vault.azure.net/", "names"));
            assert_eq!((place.version.as_deref(), place.url()), (Some("0a1b"), at("names/0a1b")));
            assert_eq!(Place::parse(object, &at("names/")).unwrap().version, None);
            for wrong in [
                format!("http://ward.vault.azure.net/{kind}/names"),
                format!("https://ward.vault.azure.net/{other}/names"),
                format!("https://user:pw@ward.vault.azure.net/{kind}/names"),
                at(""),
                at("a/b/c"),
                at("a%2Fb"),
                at("names?x=1"),
                "Server=tcp:db".to_owned(),
                "file:names".to_owned(),
            ] {
                let error = Place::parse(object, &wrong).unwrap_err();
                assert!(error.kind() == Kind::Invalid && !error.to_string().contains("pw@"), "{wrong}");
            }
        }
    }
}
