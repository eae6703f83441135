//! The event topic: that somebody answers at its endpoint, and that what proves who sends is there. No event is sent, so the right to send
//! is not seen.

use super::{Finding, Patient};
use crate::topic::Topic;

const PART: &str = "event topic";

pub(super) const REMEDY: &str = "check HDAI_TOPIC_ENDPOINT, and the network and private endpoint between";

pub(super) async fn topic(patient: &Patient) -> Finding {
    let Some(settings) = &patient.config.topic else {
        return Finding::not_configured(PART, "HDAI_TOPIC_ENDPOINT is not set; nobody is told of facts");
    };
    let topic = match Topic::open(settings, &patient.identity) {
        Ok(topic) => topic,
        Err(error) => return Finding::failed(PART, error.to_string(), super::azure::IDENTITY_REMEDY),
    };
    let (knocked, proof) = tokio::join!(topic.knock(), topic.prove());
    let endpoint = &settings.endpoint;
    match (knocked, proof) {
        (Err(error), _) => Finding::failed(PART, format!("{endpoint}: {error}"), REMEDY),
        (_, Err(error)) => Finding::failed(PART, error.to_string(), super::azure::IDENTITY_REMEDY),
        (Ok(status @ 500..), _) => {
            Finding::warning(PART, format!("{endpoint} answers a stranger with HTTP status {status}"), "look again later")
        }
        (Ok(status), Ok(proof)) => Finding::ok(
            PART,
            format!(
                "{endpoint} answers (a stranger, with HTTP status {status}); {proof} is there; no event was sent, so the right to send is not seen"
            ),
        ),
    }
}
