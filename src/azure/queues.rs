//! The poison queues of a storage account: found, peeked at, and emptied into the queues where their messages came from. It does not
//! know what a message means, and tells no one an address, a signature or a token.

use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, StatusCode, Transport};
use azure_storage_queue::models::{
    QueueClientPeekMessagesOptions, QueueClientReceiveMessagesOptions, QueueMessage, ReceivedMessage,
};
use azure_storage_queue::{QueueClient, QueueServiceClient, QueueServiceClientOptions};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;

use super::access::Access;
use super::identity::{self, Identity};
use crate::config::{BlobSettings, QueueSettings};
use crate::error::{Error, Result};

/// What the Functions host calls the queue of messages that it gave up.
pub const POISON: &str = "-poison";

/// Messages that one call brings, Azure's most.
const MESSAGES_AT_ONCE: u32 = 32;
/// How long a message that is being moved is hidden from others, in seconds.
const HIDDEN_SECONDS: i32 = 300;
/// The most queues that are looked at.
const QUEUES_MAX: usize = 1000;
/// Longest time for one request with its repetitions.
const REQUEST: Duration = Duration::from_secs(60);
const RETRIES: u32 = 3;

/// The queues of a storage account.
pub struct QueueService {
    client: QueueServiceClient,
}

/// A message as a peek shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoisonMessage {
    /// Its id.
    pub id: String,
    /// Deliveries since it was put in: none in a queue that nobody takes from.
    pub attempts: u32,
    /// When it was put in.
    pub inserted: Option<DateTime<Utc>>,
}

/// What became of a queue's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// They are in their new queue.
    pub moved: usize,
    /// They could not be read, and stay; the queue shows them again after five minutes.
    pub left: usize,
}

impl QueueService {
    /// The service of `settings`, entered with its signature if there is one, with the emulator's well-known account if it is that, and
    /// with a token of `identity` otherwise. Nothing is connected yet.
    ///
    /// # Errors
    /// Invalid, if the settings name no queue service; unavailable, if there is no identity here.
    pub fn open(settings: &QueueSettings, identity: &Identity) -> Result<Self> {
        let account = BlobSettings { account_url: settings.service_url.clone(), signature: settings.signature.clone() };
        let access = match Access::of(&account).map_err(|_| unusable())? {
            Some(access) => access,
            None => Access::Token(identity::credential(identity)?),
        };
        Self::with(&settings.service_url, &access, None)
    }

    /// The service at `url`, over `transport` if the default HTTP client will not do.
    ///
    /// # Errors
    /// Invalid, if `url` is not one that this access works with.
    pub fn with(url: &str, access: &Access, transport: Option<Transport>) -> Result<Self> {
        let (url, credential) = access.applied(url).map_err(|_| unusable())?;
        let retry = RetryOptions::exponential(ExponentialRetryOptions {
            max_retries: RETRIES,
            max_total_elapsed: (REQUEST / 2).try_into().unwrap_or_default(),
            ..Default::default()
        });
        let client_options = ClientOptions { retry, transport, ..Default::default() };
        let options = QueueServiceClientOptions { client_options, ..Default::default() };
        let client = QueueServiceClient::new(url, credential, Some(options)).map_err(|_| unusable())?;
        Ok(Self { client })
    }

    /// The names of the poison queues, whether they hold anything or not.
    ///
    /// # Errors
    /// Unavailable, with what to do.
    pub async fn poison_queues(&self) -> Result<Vec<String>> {
        let mut pages = self.client.list_queues(None).map_err(|error| told(&error))?;
        let mut names = Vec::new();
        let mut seen = 0;
        while let Some(queue) = in_time(pages.try_next()).await.map_err(|error| told(&error))? {
            seen += 1;
            names.extend(queue.name.filter(|name| name.ends_with(POISON)));
            if seen >= QUEUES_MAX {
                tracing::warn!("the account has more than {QUEUES_MAX} queues: name the others with --queue");
                break;
            }
        }
        Ok(names)
    }

    /// The first messages of `queue`, at most 32 and at most `limit`, left where they are; none if there is no such queue.
    ///
    /// # Errors
    /// Unavailable, with what to do.
    pub async fn peek(&self, queue: &str, limit: u32) -> Result<Vec<PoisonMessage>> {
        let options = QueueClientPeekMessagesOptions { number_of_messages: Some(batch(limit)), ..Default::default() };
        let client = self.queue(queue)?;
        let answer = in_time(async { client.peek_messages(Some(options)).await?.into_model() }).await;
        let found = match answer {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            answer => answer.map_err(|error| told(&error))?,
        };
        let message = |message: azure_storage_queue::models::PeekedMessage| PoisonMessage {
            id: message.message_id.unwrap_or_default(),
            attempts: message.dequeue_count.and_then(|count| count.try_into().ok()).unwrap_or(0),
            inserted: message.insertion_time.and_then(|at| DateTime::from_timestamp(at.unix_timestamp(), 0)),
        };
        Ok(found.items.unwrap_or_default().into_iter().map(message).collect())
    }

    /// Moves up to `limit` messages of `queue` to the queue `to` of `target`, each as `redirect` writes it (`None`: it cannot be read, and
    /// stays). Each is put before it is deleted: an end between the two leaves it twice, never not at all.
    ///
    /// # Errors
    /// Unavailable, with what to do; what was moved before stays moved and is counted in `tally`.
    pub async fn replay(
        &self,
        queue: &str,
        target: &QueueService,
        to: &str,
        limit: u32,
        redirect: impl Fn(&str) -> Option<String>,
        tally: &mut Moved,
    ) -> Result<()> {
        let (from, onto) = (self.queue(queue)?, target.queue(to)?);
        let mut open = limit;
        while open > 0 {
            let options = QueueClientReceiveMessagesOptions {
                number_of_messages: Some(batch(open)),
                visibility_timeout: Some(HIDDEN_SECONDS),
                ..Default::default()
            };
            let answer = in_time(async { from.receive_messages(Some(options)).await?.into_model() }).await;
            let taken = match answer {
                Err(error) if is_missing(&error) => return Ok(()),
                answer => answer.map_err(|error| told(&error))?.items.unwrap_or_default(),
            };
            if taken.is_empty() {
                return Ok(());
            }
            for message in taken {
                open = open.saturating_sub(1);
                match message.message_text.as_deref().and_then(&redirect) {
                    Some(text) => {
                        put(&onto, text).await?;
                        delete(&from, &message).await?;
                        tally.moved += 1;
                    }
                    None => tally.left += 1,
                }
            }
        }
        Ok(())
    }

    fn queue(&self, name: &str) -> Result<QueueClient> {
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !(3..=63).contains(&name.len()) || !plain {
            return Err(Error::invalid("a queue's name has 3 to 63 small letters, digits and hyphens"));
        }
        self.client.queue_client(name).map_err(|_| unusable())
    }
}

/// Puts a message; the queue is made if there is none.
async fn put(queue: &QueueClient, text: String) -> Result<()> {
    let send = || async {
        let message = QueueMessage { message_text: Some(text.clone()) };
        in_time(async { queue.send_message(message.try_into()?, None).await }).await
    };
    match send().await {
        Err(error) if is_missing(&error) => {
            in_time(queue.create(None)).await.map_err(|error| told(&error))?;
            send().await.map(drop).map_err(|error| told(&error))
        }
        sent => sent.map(drop).map_err(|error| told(&error)),
    }
}

/// Deletes what was moved. That another has taken it meanwhile is no fault: it comes twice.
async fn delete(queue: &QueueClient, message: &ReceivedMessage) -> Result<()> {
    let (id, receipt) = (message.message_id.as_deref().unwrap_or_default(), message.pop_receipt.as_deref().unwrap_or_default());
    match in_time(queue.delete_message(id, receipt, None)).await {
        Err(error) if is_missing(&error) => Ok(()),
        deleted => deleted.map(drop).map_err(|error| told(&error)),
    }
}

fn batch(limit: u32) -> i32 {
    limit.clamp(1, MESSAGES_AT_ONCE).try_into().unwrap_or(1)
}

async fn in_time<T>(request: impl Future<Output = azure_core::Result<T>>) -> azure_core::Result<T> {
    let late = || azure_core::Error::new(ErrorKind::Io, std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(REQUEST, request).await.unwrap_or_else(|_| Err(late()))
}

fn is_missing(error: &azure_core::Error) -> bool {
    matches!(error.kind(), ErrorKind::HttpResponse { status: StatusCode::NotFound, .. })
}

fn unusable() -> Error {
    Error::invalid(
        "the setting HDAI_QUEUE_URL is not the URL of a queue service that can be entered: use https, or the emulator's address, or set \
         HDAI_QUEUE_SAS",
    )
}

/// What `error` means. The SDK's own messages carry addresses, and those carry signatures: only the status and the service's code are kept.
fn told(error: &azure_core::Error) -> Error {
    let remedy = "check HDAI_QUEUE_URL and the network";
    match error.kind() {
        ErrorKind::HttpResponse { status, error_code, .. } => {
            let code =
                error_code.as_deref().filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric())).unwrap_or_default();
            let answer = format!("{} {code}", u16::from(*status));
            let remedy = match status {
                StatusCode::Unauthorized | StatusCode::Forbidden => {
                    "give this identity the role Storage Queue Data Contributor, or renew the signature in HDAI_QUEUE_SAS (it takes read, \
                     add, process, create and list, on services, containers and objects)"
                }
                _ => remedy,
            };
            Error::unavailable(format!("the queue service does not do what was asked ({}): {remedy}", answer.trim_end()))
        }
        ErrorKind::Credential => Error::unavailable("no token for the queue service came: check this machine's identity"),
        _ => Error::unavailable(format!("the queue service cannot be reached: {remedy}")),
    }
}
