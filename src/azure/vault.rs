//! Secrets of a Key Vault. It does not know what they open.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::ClientOptions;
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_secrets::models::SecretClientGetSecretOptions;
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};

use super::place::{Object, Place};
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
        let place = Place::parse(Object::Secret, url)?;
        let options = SecretClientOptions { client_options, ..Default::default() };
        let client = SecretClient::new(&place.vault, credential, Some(options)).map_err(|cause| fault(&place, &cause))?;
        Ok(Self { place, client })
    }

    pub(super) async fn fetch(&self) -> Result<Fetched> {
        let place = &self.place;
        let version = SecretClientGetSecretOptions { secret_version: place.version.clone(), ..Default::default() };
        let answer = self.client.get_secret(&place.name, Some(version)).await.map_err(|cause| fault(place, &cause))?;
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

fn fault(place: &Place, cause: &azure_core::Error) -> Error {
    place.error(
        cause,
        "does not let this identity read it; give the identity the role Key Vault Secrets User, and check the vault's firewall",
        "has no secret of this name and version, or it is disabled or deleted; check the URL",
    )
}

#[cfg(test)]
mod tests {
    use azure_core::credentials::{AccessToken, TokenRequestOptions};
    use azure_core::error::ErrorKind;
    use azure_core::http::headers::Headers;
    use azure_core::http::{AsyncRawResponse, HttpClient, Request, RetryOptions, StatusCode, Transport};
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
            (
                Some((
                    StatusCode::Forbidden,
                    r#"{"error":{"code":"Forbidden","message":"S3cr3t","innererror":{"code":"SecretDisabled"}}}"#,
                )),
                "enable that version",
            ),
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
}
