//! Secrets of a Key Vault. It does not know what they open.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, StatusCode, Url};
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_secrets::models::SecretClientGetSecretOptions;
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};

use crate::config::Secret;
use crate::error::{Error, Result};

/// The value of the secret at `url`, `https://VAULT.vault.azure.net/secrets/NAME[/VERSION]`, read once.
///
/// # Errors
/// Invalid, if `url` is not one, or the secret has ended; unavailable, if the vault does not answer or refuses, with what to do.
pub async fn secret(credential: Arc<dyn TokenCredential>, url: &str) -> Result<Secret> {
    let vault = Vault::new(credential, url, ClientOptions::default())?;
    let fetched = vault.fetch().await?;
    match fetched.expires.is_some_and(|at| at <= OffsetDateTime::now_utc()) {
        true => Err(vault.ended()),
        false => Ok(fetched.value),
    }
}

/// A secret as the vault gave it. The vault gives one that has ended, too.
pub(super) struct Fetched {
    pub(super) value: Secret,
    pub(super) expires: Option<OffsetDateTime>,
}

/// One secret of one vault.
pub(super) struct Vault {
    place: Place,
    client: SecretClient,
}

impl Vault {
    pub(super) fn new(credential: Arc<dyn TokenCredential>, url: &str, client_options: ClientOptions) -> Result<Self> {
        let place = Place::parse(url)?;
        let options = SecretClientOptions { client_options, ..Default::default() };
        let client = SecretClient::new(&place.vault, credential, Some(options)).map_err(|cause| place.error(&cause))?;
        Ok(Self { place, client })
    }

    pub(super) async fn fetch(&self) -> Result<Fetched> {
        let place = &self.place;
        let version = SecretClientGetSecretOptions { secret_version: place.version.clone(), ..Default::default() };
        let answer = self.client.get_secret(&place.name, Some(version)).await.map_err(|cause| place.error(&cause))?;
        // The cause is left out: it could quote the value.
        let secret =
            answer.into_model().map_err(|_| place.unavailable("answered with something that is no secret; try again later"))?;
        let expires = secret.attributes.and_then(|attributes| attributes.expires);
        match secret.value {
            Some(value) if !value.trim().is_empty() => Ok(Fetched { value: Secret::new(value), expires }),
            _ => Err(place.unavailable("holds no value under that name; set the secret's value")),
        }
    }

    /// The secret has an end, and it has come.
    pub(super) fn ended(&self) -> Error {
        let Place { host, name, .. } = &self.place;
        Error::invalid(format!("the Key Vault {host} holds a secret that has ended; make a new version of it (secret {name})"))
    }

    pub(super) fn late(&self, limit: Duration) -> Error {
        self.place
            .unavailable(&format!("did not answer within {} s; check the network and private endpoint between", limit.as_secs()))
    }

    /// An event of its own name, for an alert rule: what is held serves for now.
    pub(super) fn warn_kept(&self, error: &Error) {
        let Place { host, name, .. } = &self.place;
        tracing::warn!(event = "vault.unread", vault = host, object = name, %error, "a secret could not be read anew; the one that is held serves until it ends");
    }
}

/// Where a secret lies.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// The vault's URL, without a path.
    vault: String,
    /// The vault's host.
    host: String,
    name: String,
    version: Option<String>,
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("the URL of a Key Vault secret must be https://VAULT.vault.azure.net/secrets/NAME[/VERSION]");
        let url = Url::parse(text.trim()).map_err(|_| wrong())?;
        let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let (Some(host), true, "https") = (url.host_str(), bare, url.scheme()) else { return Err(wrong()) };
        let parts: Vec<_> = url.path().trim_end_matches('/').split('/').collect();
        let (name, version) = match parts.as_slice() {
            ["", "secrets", name] if plain(name) => (*name, None),
            ["", "secrets", name, version] if plain(name) && plain(version) => (*name, Some((*version).to_owned())),
            _ => return Err(wrong()),
        };
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self { vault: format!("https://{host}{port}/"), host: host.to_owned(), name: name.to_owned(), version })
    }

    /// The cause is left out but for its kind: its text holds whatever the other side wrote.
    fn error(&self, cause: &azure_core::Error) -> Error {
        match (cause.http_status(), cause.kind()) {
            (Some(StatusCode::Unauthorized), _) => {
                self.unavailable("did not accept the token; is it a vault of the identity's own tenant?")
            }
            (Some(StatusCode::Forbidden), _) => self.unavailable(
                "does not let this identity read it; give the identity the role Key Vault Secrets User, and check the vault's firewall",
            ),
            (Some(StatusCode::NotFound), _) => {
                self.unavailable("has no secret of this name and version, or it is disabled or deleted; check the URL")
            }
            (Some(status), _) => self.unavailable(&format!("answered with HTTP status {}; try again later", u16::from(status))),
            (None, ErrorKind::Credential) => {
                self.unavailable("could not be asked, because no token came for the identity; see that identity first")
            }
            (None, _) => self.unavailable("cannot be reached; check its name, and the network and private endpoint between"),
        }
    }

    fn unavailable(&self, what: &str) -> Error {
        Error::unavailable(format!("the Key Vault {} {what} (secret {})", self.host, self.name))
    }
}

#[cfg(test)]
mod tests {
    use azure_core::credentials::{AccessToken, TokenRequestOptions};
    use azure_core::http::headers::Headers;
    use azure_core::http::{AsyncRawResponse, HttpClient, Request, RetryOptions, Transport};
    use azure_core::time::{Duration, OffsetDateTime};

    use super::*;
    use crate::error::Kind;

    /// Answers as a vault does: a challenge to a call without a token, then what it was told to.
    #[derive(Debug)]
    struct Canned(Option<(StatusCode, &'static str)>);

    #[async_trait::async_trait]
    impl HttpClient for Canned {
        async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
            let Some((status, body)) = self.0 else {
                return Err(azure_core::Error::with_message(ErrorKind::Connection, "no route to S3cr3t"));
            };
            let mut headers = Headers::new();
            if request.headers().get_optional_str(&"authorization".into()).is_none() {
                let challenge = r#"Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net""#;
                headers.insert("www-authenticate", challenge);
                return Ok(AsyncRawResponse::from_bytes(StatusCode::Unauthorized, headers, ""));
            }
            assert!(request.url().path().starts_with("/secrets/sql"));
            Ok(AsyncRawResponse::from_bytes(status, headers, body))
        }
    }

    #[derive(Debug)]
    struct Anyone;

    #[async_trait::async_trait]
    impl TokenCredential for Anyone {
        async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
            Ok(AccessToken::new("t", OffsetDateTime::now_utc() + Duration::hours(1)))
        }
    }

    async fn ask(answer: Option<(StatusCode, &'static str)>) -> Result<Secret> {
        let transport = Some(Transport::new(Arc::new(Canned(answer))));
        let options = ClientOptions { transport, retry: RetryOptions::none(), ..Default::default() };
        let vault = Vault::new(Arc::new(Anyone), "https://ward.vault.azure.net/secrets/sql-connection/0a1b", options)?;
        vault.fetch().await.map(|fetched| fetched.value)
    }

    #[tokio::test]
    async fn a_secret_is_fetched() {
        let secret =
            ask(Some((StatusCode::Ok, r#"{"value":"Server=db","id":"https://ward.vault.azure.net/secrets/sql-connection/0a1b"}"#)));
        assert_eq!(secret.await.unwrap().reveal(), "Server=db");
    }

    #[tokio::test]
    async fn what_a_vault_refuses_is_told_apart_and_its_words_are_not_repeated() {
        const BODY: &str = r#"{"error":{"code":"X","message":"S3cr3t"}}"#;
        for (answer, words) in [
            (Some((StatusCode::Forbidden, BODY)), "Key Vault Secrets User"),
            (Some((StatusCode::NotFound, BODY)), "no secret of this name"),
            (Some((StatusCode::ServiceUnavailable, BODY)), "HTTP status 503"),
            (Some((StatusCode::Ok, r#"{"value":"","S3cr3t":1}"#)), "no value"),
            (Some((StatusCode::Ok, r#"["S3cr3t"]"#)), "no secret"),
            (None, "cannot be reached"),
        ] {
            let error = ask(answer).await.unwrap_err();
            let text = error.to_string();
            assert_eq!(error.kind(), Kind::Unavailable);
            assert!(text.contains(words) && text.contains("ward.vault.azure.net") && text.contains("sql-connection"), "{text}");
            assert!(!text.contains("S3cr3t"), "{text}");
        }
    }

    #[test]
    fn only_the_url_of_a_secret_is_one() {
        let place = Place::parse("https://ward.vault.azure.net/secrets/sql-connection/").unwrap();
        assert_eq!((place.vault.as_str(), place.name.as_str()), ("https://ward.vault.azure.net/", "sql-connection"));
        assert_eq!(place.version, None);
        for wrong in [
            "http://ward.vault.azure.net/secrets/sql",
            "https://ward.vault.azure.net/keys/sql",
            "https://ward.vault.azure.net/secrets/",
            "https://ward.vault.azure.net/secrets/a/b/c",
            "https://ward.vault.azure.net/secrets/a%2Fb",
            "https://user:pw@ward.vault.azure.net/secrets/sql",
            "https://ward.vault.azure.net/secrets/sql?x=1",
            "Server=tcp:db",
        ] {
            let error = Place::parse(wrong).unwrap_err();
            assert!(error.kind() == Kind::Invalid && !error.to_string().contains("pw@"), "{wrong}");
        }
    }
}
