//! Event Grid played by the host itself: each new blob is an event, delivered to the blob triggers' webhook and to every Event Grid
//! trigger, from a durable queue and by Event Grid's schedule. It does not know what a function makes of an event.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Host;
use super::app::{Function, Trigger};
use super::event_sender::{Delivery, EventSchema, EventSender, blob_created_event};
use super::queues::Taken;
use crate::blob::Entry;
use crate::codec::blob_url::BlobUrl;
use crate::error::{Error, Result};

/// The queue between noticing a blob and delivering its events.
pub(crate) const EVENT_QUEUE: &str = "event-grid-local";

/// Events on their way at once.
const EVENTS_AT_ONCE: usize = 8;

/// The host plays Event Grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventGrid {
    /// How its events are written.
    pub schema: EventSchema,
    /// What its retry schedule is multiplied by: 1 in earnest.
    pub time_scale: f64,
}

/// A message of [`EVENT_QUEUE`].
#[derive(Serialize, Deserialize)]
struct Pending {
    /// The webhook, without host and key.
    path: String,
    event: Value,
}

/// The events of a new blob that `function` watches for: one for each subscription.
pub(crate) fn messages(host: &Host, function: &Function, container: &str, entry: &Entry) -> Vec<Vec<u8>> {
    let schema = host.options.event_grid.map_or(EventSchema::EventGrid, |grid| grid.schema);
    let blob = BlobUrl { account_url: host.options.account_url.clone(), container: container.into(), name: entry.name.clone() };
    let event = blob_created_event(schema, &blob, &entry.etag, entry.length_bytes);
    let own = format!("/runtime/webhooks/blobs?functionName=Host.Functions.{}", function.name);
    let others = host.app.functions.iter().filter(|function| matches!(function.trigger, Trigger::EventGrid));
    let others = others.map(|function| format!("/runtime/webhooks/EventGrid?functionName={}", function.name));
    let pending = std::iter::once(own).chain(others).map(|path| Pending { path, event: event.clone() });
    pending.filter_map(|pending| serde_json::to_vec(&pending).ok()).collect()
}

/// Delivers events until the host stops. What is on its way then is sent anew at the next start, by a schedule that begins anew.
pub(crate) async fn listen(host: Arc<Host>, grid: EventGrid) {
    let never = format!("{EVENT_QUEUE}-poison");
    let intake = host.intake(EVENT_QUEUE.into(), never, EVENTS_AT_ONCE, u32::MAX);
    let work = move |taken: Arc<Taken>| {
        let host = Arc::clone(&host);
        async move { deliver(&host, grid, &taken).await }
    };
    intake.run(work).await;
}

async fn deliver(host: &Host, grid: EventGrid, taken: &Taken) -> Result<()> {
    let pending: Pending = serde_json::from_slice(&taken.body).map_err(|_| Error::invalid("an event in the queue is malformed"))?;
    let key = if pending.path.contains("/blobs?") { &host.keys.blobs_extension } else { &host.keys.eventgrid_extension };
    let mut sender = EventSender::new(format!("http://{}{}&code={key}", host.address, pending.path));
    sender.time_scale = grid.time_scale;
    // The webhook answers at its own deadline; Event Grid would not wait for that answer either.
    sender.deadline = host.options.timing.event_deadline + Duration::from_secs(1);
    sender.dead_letter_dir = Some(host.options.state_dir.join("dead-letters"));
    match sender.deliver(&[pending.event]).await? {
        Delivery::Delivered { attempts } => tracing::info!(attempts, "an event was delivered"),
        Delivery::GivenUp { attempts, reason, .. } => {
            tracing::error!(attempts, reason, "an event was given up: it lies in the folder dead-letters of the host's state");
        }
    }
    Ok(())
}
