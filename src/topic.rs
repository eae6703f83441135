//! Seam 3, the announcements: an Event Grid topic that takes CloudEvents. It does not know what they say or whom they concern.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};

use crate::azure::identity::{self, Identity};
use crate::config::{Secret, TopicSettings};
use crate::error::{Error, Result};

/// What a token for a topic is asked for.
pub const SCOPE: &str = "https://eventgrid.azure.net/.default";

/// Largest post that Event Grid takes, in bytes.
pub const POST_BYTES_MAX: usize = 1024 * 1024;

/// Longest wait for an answer, and for a token before it.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The version of Event Grid's interface that is spoken.
const VERSION: &str = "api-version=2018-01-01";

/// What became of a post.
#[derive(Debug)]
pub enum Posted {
    /// The topic has them.
    Accepted,
    /// Nobody has them; a later attempt may succeed, after this time at least if the topic named one.
    Away(Error, Option<Duration>),
    /// The topic refuses them until somebody has done what the error says.
    Refused(Error),
}

/// An Event Grid topic.
pub struct Topic {
    settings: TopicSettings,
    client: Client,
    identity: Identity,
    credential: Option<Arc<dyn TokenCredential>>,
}

impl Topic {
    /// The topic of these settings; nothing is connected yet.
    ///
    /// # Errors
    /// Unavailable, if no key is set and the environment has no Azure identity.
    pub fn open(settings: &TopicSettings, identity: &Identity) -> Result<Self> {
        let credential = settings.key.is_none().then(|| identity::credential(identity)).transpose()?;
        let client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(ANSWER_WITHIN)
            .timeout(ANSWER_WITHIN)
            .build()
            .map_err(|cause| Error::internal("the client for the event topic cannot be built").caused_by(cause))?;
        Ok(Self { settings: settings.clone(), client, identity: identity.clone(), credential })
    }

    /// What its events name as their source.
    pub fn source(&self) -> &str {
        &self.settings.source
    }

    /// Posts one batch.
    pub async fn post(&self, content_type: &'static str, body: Vec<u8>) -> Posted {
        let request =
            self.client.post(format!("{}?{VERSION}", self.settings.endpoint)).header(CONTENT_TYPE, content_type).body(body);
        let request = match (&self.settings.key, &self.credential) {
            (Some(key), _) => request.header("aeg-sas-key", sensitive(key.reveal())),
            (None, Some(credential)) => match self.token(credential.as_ref()).await {
                Ok(token) => request.header(AUTHORIZATION, sensitive(&format!("Bearer {}", token.reveal()))),
                Err(error) => return Posted::Away(error, None),
            },
            (None, None) => return Posted::Away(Error::internal("the event topic has neither key nor identity"), None),
        };
        match request.send().await {
            Ok(answer) => judge(&answer),
            Err(cause) => Posted::Away(unreachable(cause), None),
        }
    }

    async fn token(&self, credential: &dyn TokenCredential) -> Result<Secret> {
        let token = tokio::time::timeout(ANSWER_WITHIN, identity::token(credential, &self.identity, SCOPE)).await;
        let late = || Error::unavailable(format!("no token for the event topic came within {} s", ANSWER_WITHIN.as_secs()));
        Ok(token.map_err(|_| late())??.secret)
    }

    /// Asks the endpoint as a stranger, without an event: answers the HTTP status. Any status shows that somebody is there.
    ///
    /// # Errors
    /// Unavailable, if nobody answers.
    pub async fn knock(&self) -> Result<u16> {
        let answer = self.client.get(&self.settings.endpoint).send().await.map_err(unreachable)?;
        Ok(answer.status().as_u16())
    }

    /// How it is proved who sends: with a token, which this fetches, or with the key.
    ///
    /// # Errors
    /// Unavailable, if no token comes.
    pub async fn prove(&self) -> Result<&'static str> {
        match &self.credential {
            None => Ok("the topic's access key"),
            Some(credential) => self.token(credential.as_ref()).await.map(|_| "a token of the app's identity"),
        }
    }
}

/// A header that is shown nowhere. The settings hold visible ASCII only, and so does a token.
fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

fn unreachable(cause: reqwest::Error) -> Error {
    Error::unavailable("the event topic cannot be reached; check HDAI_TOPIC_ENDPOINT, and the network and private endpoint between")
        .caused_by(cause.without_url())
}

/// Its words are not repeated: they may hold what was posted.
fn judge(answer: &Response) -> Posted {
    let status = answer.status();
    let refused = |remedy: &str| {
        Posted::Refused(Error::unavailable(format!(
            "the event topic refuses our events (HTTP status {}): {remedy}",
            status.as_u16()
        )))
    };
    match status {
        status if status.is_success() => Posted::Accepted,
        StatusCode::BAD_REQUEST => refused("create the topic with the input schema CloudEventSchemaV1_0"),
        StatusCode::UNAUTHORIZED => {
            refused("set HDAI_TOPIC_KEY to a key of this topic, or remove it to send as the app's identity")
        }
        StatusCode::FORBIDDEN => {
            refused("give the app's identity the role EventGrid Data Sender on the topic, and check the topic's network rules")
        }
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE => {
            refused("set HDAI_TOPIC_ENDPOINT to what `az eventgrid topic show --query endpoint` prints")
        }
        StatusCode::PAYLOAD_TOO_LARGE => refused("shorten HDAI_TOPIC_SOURCE, and tell whoever cares for this program"),
        status if status.is_redirection() => refused("HDAI_TOPIC_ENDPOINT is not the endpoint itself, it redirects"),
        _ => {
            let wait =
                answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
            Posted::Away(Error::unavailable(format!("the event topic answers with HTTP status {}", status.as_u16())), wait)
        }
    }
}
