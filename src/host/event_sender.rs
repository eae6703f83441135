//! Event Grid itself, for tests and local runs: it validates an endpoint, delivers batches with Event Grid's deadline and retry
//! schedule, and writes to a dead-letter folder what cannot be delivered. It does not know what the endpoint is.

use std::path::PathBuf;
use std::time::Duration;

use chrono::SecondsFormat;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{clock, fault};
use crate::codec::blob_url::BlobUrl;
use crate::codec::event_grid::BLOB_CREATED;
use crate::error::{Error, Result};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
/// Seconds before each attempt after the first; the last is repeated (Event Grid's "delivery and retry").
const SCHEDULE: [u64; 10] = [10, 30, MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR];
/// Answers that a webhook's delivery is not repeated after.
const FINAL: [u16; 4] = [400, 401, 403, 413];

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventSchema {
    /// Event Grid's own.
    EventGrid,
    /// CloudEvents 1.0.
    CloudEvents,
}

/// A subscription with a webhook endpoint.
#[derive(Debug, Clone)]
pub struct EventSender {
    /// The webhook's address, key included.
    pub endpoint: String,
    /// How long an answer is waited for: 30 seconds.
    pub deadline: Duration,
    /// Attempts before an event is given up: 30.
    pub attempts_max: u32,
    /// How old an event may become: 24 hours, before [`EventSender::time_scale`].
    pub time_to_live: Duration,
    /// What the retry schedule and the time to live are multiplied by: 1 in earnest, a thousandth in a test.
    pub time_scale: f64,
    /// Seed of the order of a batch's events, another one at each attempt; `None` keeps the order given. Event Grid promises none.
    pub shuffle: Option<u64>,
    /// Where undeliverable batches are written, one file each; `None` drops them, as Event Grid does without a dead-letter container.
    pub dead_letter_dir: Option<PathBuf>,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Accepted at this attempt.
    Delivered {
        /// Attempts, the last included.
        attempts: u32,
    },
    /// Given up.
    GivenUp {
        /// Attempts made.
        attempts: u32,
        /// Event Grid's word for why: `MaxDeliveryAttemptsExceeded`, `TimeToLiveExceeded` or `UndeliverableDueToClientError`.
        reason: &'static str,
        /// The dead-letter file.
        dead_letter: Option<PathBuf>,
    },
}

impl EventSender {
    /// A subscription with Event Grid's defaults.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            deadline: Duration::from_secs(30),
            attempts_max: 30,
            time_to_live: Duration::from_secs(24 * HOUR),
            time_scale: 1.0,
            shuffle: None,
            dead_letter_dir: None,
        }
    }

    /// Proves the endpoint as Event Grid does before it delivers anything: the validation code, or the CloudEvents `OPTIONS` call.
    pub async fn validate(&self, schema: EventSchema) -> Result<()> {
        let refused = || Error::conflict("the endpoint did not answer Event Grid's validation");
        let unreachable =
            |error: reqwest::Error| Error::unavailable("the endpoint cannot be reached").caused_by(error.without_url());
        let client = client()?;
        if schema == EventSchema::CloudEvents {
            let call = client.request(reqwest::Method::OPTIONS, &self.endpoint);
            let answer = call.header("WebHook-Request-Origin", "eventgrid.azure.net").send().await.map_err(unreachable)?;
            let allowed = answer.headers().get("webhook-allowed-origin").is_some_and(|origin| origin == "eventgrid.azure.net");
            return if answer.status() == 200 && allowed { Ok(()) } else { Err(refused()) };
        }
        let code = uuid::Uuid::new_v4().to_string();
        let body = json!([{
            "id": uuid::Uuid::new_v4().to_string(), "topic": "local", "subject": "",
            "data": { "validationCode": code }, "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": now_text(), "metadataVersion": "1", "dataVersion": "2",
        }]);
        let answer = self.post(&client, "SubscriptionValidation", &body).send().await.map_err(unreachable)?;
        let accepted = answer.status() == 200;
        let text = answer.bytes().await.map_err(unreachable)?;
        let echoed = serde_json::from_slice::<Value>(&text).is_ok_and(|reply| reply["validationResponse"] == code.as_str());
        if accepted && echoed { Ok(()) } else { Err(refused()) }
    }

    /// Delivers `events` as one batch, again and again until it is accepted or given up: if one of its events fails, all come again,
    /// and after a missed deadline they come while the first delivery may still run.
    pub async fn deliver(&self, events: &[Value]) -> Result<Delivery> {
        if !events.iter().all(Value::is_object) {
            return Err(Error::invalid("an event must be a JSON object"));
        }
        let mut order = self.shuffle.map(ChaCha8Rng::seed_from_u64);
        let mut batch = events.to_vec();
        let began = tokio::time::Instant::now();
        let time_to_live = self.time_to_live.mul_f64(self.time_scale);
        let client = client()?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            if let Some(order) = &mut order {
                fault::shuffle(&mut batch, || order.next_u64());
            }
            let body = Value::Array(batch.clone());
            let sent = tokio::time::timeout(self.deadline, self.post(&client, "Notification", &body).send()).await;
            let (status, outcome) = match sent {
                Ok(Ok(answer)) if answer.status().is_success() => return Ok(Delivery::Delivered { attempts }),
                Ok(Ok(answer)) => (answer.status().as_u16(), format!("HttpStatus{}", answer.status().as_u16())),
                Ok(Err(_)) => (0, "ConnectionFailed".to_owned()),
                Err(_) => (0, "TimedOut".to_owned()),
            };
            let step = (attempts as usize - 1).min(SCHEDULE.len() - 1);
            let wait = Duration::from_secs(SCHEDULE[step]).mul_f64(self.time_scale);
            let reason = if FINAL.contains(&status) {
                "UndeliverableDueToClientError"
            } else if attempts >= self.attempts_max {
                "MaxDeliveryAttemptsExceeded"
            } else if began.elapsed() + wait > time_to_live {
                "TimeToLiveExceeded"
            } else {
                tokio::time::sleep(wait).await;
                continue;
            };
            let dead_letter = self.dead_letter(events, reason, attempts, &outcome).await?;
            return Ok(Delivery::GivenUp { attempts, reason, dead_letter });
        }
    }

    fn post(&self, client: &reqwest::Client, kind: &str, body: &Value) -> reqwest::RequestBuilder {
        client.post(&self.endpoint).header("aeg-event-type", kind).header("Content-Type", "application/json").body(body.to_string())
    }

    async fn dead_letter(&self, events: &[Value], reason: &str, attempts: u32, outcome: &str) -> Result<Option<PathBuf>> {
        let Some(folder) = &self.dead_letter_dir else { return Ok(None) };
        let letters: Vec<Value> = events
            .iter()
            .map(|event| {
                let mut letter = event.clone();
                letter["deadLetterReason"] = json!(reason);
                letter["deliveryAttempts"] = json!(attempts);
                letter["lastDeliveryOutcome"] = json!(outcome);
                letter["lastDeliveryAttemptTime"] = json!(now_text());
                letter
            })
            .collect();
        let failed = |error| Error::unavailable("a dead letter cannot be written").caused_by(error);
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
        let path = folder.join(format!("{}.json", uuid::Uuid::new_v4()));
        tokio::fs::write(&path, Value::Array(letters).to_string()).await.map_err(failed)?;
        Ok(Some(path))
    }
}

/// The event that storage publishes when `blob` has been written; `etag` without quotes.
pub fn blob_created_event(schema: EventSchema, blob: &BlobUrl, etag: &str, length_bytes: u64) -> Value {
    let id = uuid::Uuid::new_v4().to_string();
    let subject = format!("/blobServices/default/containers/{}/blobs/{}", blob.container, blob.name);
    let source = "/subscriptions/local/resourceGroups/local/providers/Microsoft.Storage/storageAccounts/local";
    let data = json!({
        "api": "PutBlockList", "clientRequestId": id, "requestId": id, "eTag": etag, "contentType": "text/csv",
        "contentLength": length_bytes, "blobType": "BlockBlob", "url": blob.to_string(), "sequencer": "0",
    });
    match schema {
        EventSchema::EventGrid => json!({
            "topic": source, "subject": subject, "eventType": BLOB_CREATED, "id": id, "data": data,
            "dataVersion": "", "metadataVersion": "1", "eventTime": now_text(),
        }),
        EventSchema::CloudEvents => json!({
            "specversion": "1.0", "type": BLOB_CREATED, "source": source, "id": id, "time": now_text(), "subject": subject, "data": data,
        }),
    }
}

fn client() -> Result<reqwest::Client> {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.build().map_err(|error| Error::internal("no HTTP client can be made").caused_by(error))
}

fn now_text() -> String {
    clock::now().to_rfc3339_opts(SecondsFormat::Micros, true)
}
