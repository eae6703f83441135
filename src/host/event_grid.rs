//! Event Grid's two webhooks: `/runtime/webhooks/EventGrid` for Event Grid triggers, `/runtime/webhooks/blobs` for blob triggers with
//! `source: EventGrid`. It does not know what a function makes of an event.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use warp::http::{HeaderValue, StatusCode};
use warp::reply::Response;

use super::Host;
use super::app::{Function, Trigger};
use super::blob_trigger::{BLOB_QUEUE, blob_message};
use super::front::{Request, fault, status};
use super::http_trigger::json_reply;
use crate::codec::envelope::delivery;
use crate::codec::event_grid::decode;

/// Events of one delivery worked on at once; the real host has no such bound.
const EVENTS_AT_ONCE: usize = 32;
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";

/// Which of the two webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Functions,
    Blobs,
}

/// Answers a delivery: 200 to a handshake, 202 when every event is done (or queued), 500 if one failed, 504 past the deadline, 400
/// and 404 for what is no delivery.
pub(crate) async fn receive(host: &Arc<Host>, mut request: Request, endpoint: Endpoint) -> Response {
    let Some(function) = function(host, &request, endpoint) else { return status(StatusCode::NOT_FOUND) };
    if request.method == "OPTIONS" {
        return cloud_events_handshake(&request);
    }
    if request.method != "POST" {
        return status(StatusCode::NOT_FOUND);
    }
    let kind = request.header("aeg-event-type").unwrap_or_default().to_ascii_lowercase();
    let Some(body) = request.control_body().await else { return status(StatusCode::PAYLOAD_TOO_LARGE) };
    match kind.as_str() {
        "subscriptionvalidation" => subscription_handshake(&body),
        "notification" => notify(host, function, endpoint, &body).await,
        "unsubscribe" => status(StatusCode::ACCEPTED),
        _ => fault("the header aeg-event-type must be SubscriptionValidation, Notification or Unsubscribe"),
    }
}

fn function(host: &Host, request: &Request, endpoint: Endpoint) -> Option<Function> {
    let name = request.query_value("functionName")?;
    let name = match endpoint {
        Endpoint::Functions => name.as_str(),
        Endpoint::Blobs => name.strip_prefix("Host.Functions.")?,
    };
    let function = host.app.function(name)?;
    let fits = match endpoint {
        Endpoint::Functions => matches!(function.trigger, Trigger::EventGrid),
        Endpoint::Blobs => matches!(function.trigger, Trigger::Blob { .. }),
    };
    fits.then(|| function.clone())
}

fn cloud_events_handshake(request: &Request) -> Response {
    let origin = request.headers.get("webhook-request-origin").cloned();
    let mut response = status(StatusCode::OK);
    response.headers_mut().insert("webhook-allowed-origin", origin.unwrap_or(HeaderValue::from_static("eventgrid.azure.net")));
    response
}

fn subscription_handshake(body: &[u8]) -> Response {
    let delivery: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let event = if delivery.is_array() { &delivery[0] } else { &delivery };
    match event["data"]["validationCode"].as_str() {
        Some(code) if event["eventType"] == VALIDATION => json_reply(StatusCode::OK, &json!({ "validationResponse": code })),
        _ => fault("the body holds no validation code"),
    }
}

async fn notify(host: &Arc<Host>, function: Function, endpoint: Endpoint, body: &[u8]) -> Response {
    let Ok(delivery) = serde_json::from_slice::<Value>(body) else { return fault("the delivery is not JSON") };
    // The events go on as they came; they are read here only to refuse what is none.
    let (events, rejects) = decode(&delivery);
    if let Some(reject) = rejects.first() {
        return fault(&format!("event {} of the delivery: {}", reject.index, reject.reason));
    }
    let work = match endpoint {
        Endpoint::Blobs => {
            let created = events.iter().filter_map(|event| event.blob_created());
            let bodies = created
                .map(|event| {
                    blob_message(&function.name, &event.blob.container, &event.blob.name, event.etag.as_deref().unwrap_or(""))
                })
                .collect();
            return match host.queues.put(BLOB_QUEUE, bodies).await {
                Ok(()) => status(StatusCode::ACCEPTED),
                Err(error) => {
                    tracing::error!(function = function.name, "an event cannot be queued: {error}");
                    status(StatusCode::INTERNAL_SERVER_ERROR)
                }
            };
        }
        Endpoint::Functions => {
            let host = Arc::clone(host);
            async move { deliver(&host, &function, delivery).await }
        }
    };
    // A delivery whose sender gives up runs on, and is sent again meanwhile: as with Event Grid.
    let (sender, done) = tokio::sync::oneshot::channel();
    host.spawn(async move {
        let _ = sender.send(work.await);
    });
    match tokio::time::timeout(host.options.timing.event_deadline, done).await {
        Ok(Ok(true)) => status(StatusCode::ACCEPTED),
        Ok(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
        Err(_) => {
            tracing::error!("Event Grid's deadline passed before the function ended: the events would be delivered again");
            status(StatusCode::GATEWAY_TIMEOUT)
        }
    }
}

/// One call for each event; true if all succeeded.
async fn deliver(host: &Host, function: &Function, delivery: Value) -> bool {
    let events = match delivery {
        Value::Array(events) => events,
        one => vec![one],
    };
    let faults = &host.invoker.faults;
    let mut all_done = true;
    for _ in 0..faults.duplicate {
        let mut calls: Vec<Value> = (0..faults.concurrent).flat_map(|_| events.iter().cloned()).collect();
        faults.shuffle(&mut calls);
        let calls = stream::iter(calls).map(|event| async move {
            host.invoker.invoke(function, |sys| delivery::event_grid(sys, &function.binding, event)).await.is_ok()
        });
        all_done &= calls.buffer_unordered(EVENTS_AT_ONCE).fold(true, |all, one| async move { all && one }).await;
    }
    all_done
}
