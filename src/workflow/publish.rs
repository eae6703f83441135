//! Publish what was announced: a relay from the record to the topic. It is no verb of a caller's: whoever made the fact, and when, is in the
//! audit event that the announcement was committed with. It delays and fails nothing else.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Hospital;
use crate::codec::cloud_event;
use crate::domain::{Announcement, AuditEvent};
use crate::error::{Error, Result};
use crate::store::Leased;
use crate::topic::{POST_BYTES_MAX, Posted, Topic};

/// Announcements in one post. Each event is under 1 KB, so that a post stays below Event Grid's limit.
const BATCH_MAX: u32 = 500;

/// How long a lease runs: longer than a token and an answer may take together, and a clock may be wrong. If its holder dies, the next
/// one waits for so long.
const LEASE: TimeDelta = TimeDelta::seconds(30);
/// How much of it a token and a post may take.
const POSTED_WITHIN: TimeDelta = TimeDelta::seconds(22);

/// The first pause after a failure; the next are twice as long each.
const PAUSE_MIN: Duration = Duration::from_secs(2);
/// The longest pause, and the only one after a refusal that somebody must cure.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Longest pause that a topic may ask for.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(3600);

/// Age after which an announcement that was never accepted is given up.
pub const KEPT_DAYS: i64 = 7;

/// How a round of publishing ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// Announcements that the topic accepted.
    pub accepted: u64,
    /// When to try again, if anything is left.
    pub again: Option<DateTime<Utc>>,
}

impl Hospital {
    /// The same, telling `topic` of facts from now on.
    #[must_use]
    pub fn announcing_to(mut self, topic: Option<Topic>) -> Self {
        self.topic = topic.map(std::sync::Arc::new);
        self
    }

    /// `event` with the announcement of its fact, if there is somebody to tell.
    pub(super) fn announced(&self, event: AuditEvent) -> AuditEvent {
        let id = self.topic.is_some().then(|| Uuid::new_v4().to_string());
        event.announced(id)
    }

    /// Wakes the relay of this process: something was committed that it may have to publish.
    pub(super) fn wake_relay(&self) {
        if self.topic.is_some() {
            self.committed.notify_one();
        }
    }
}

/// Publishes what waits, until nothing does, another instance is at it, or the topic does not take it.
///
/// # Errors
/// The record is away.
pub async fn publish(hospital: &Hospital, now: fn() -> DateTime<Utc>) -> Result<Published> {
    let Some(topic) = &hospital.topic else { return Ok(Published::default()) };
    let mut published = Published::default();
    loop {
        let (lease, begun) = (Uuid::new_v4().simple().to_string(), now());
        let (announcements, failures) = match hospital.store.lease_announcements(&lease, begun, begun + LEASE, BATCH_MAX).await? {
            Leased::Nothing => return Ok(published),
            Leased::Held(until) => return Ok(Published { again: Some(until), ..published }),
            Leased::Taken { announcements, failures } => (announcements, failures),
        };
        if now() + POSTED_WITHIN > begun + LEASE {
            // The record was slow: the lease may end before the topic has answered, and another instance would send the same.
            return Ok(Published { again: Some(begun + LEASE), ..published });
        }
        let (error, pause) = match post(topic, &announcements).await {
            Posted::Accepted => {
                hospital.store.publish_announcements(&lease, now()).await?;
                published.accepted += announcements.len() as u64;
                if failures > 0 {
                    tracing::info!(announcements = announcements.len(), failures, "the event topic accepts our events again");
                }
                continue;
            }
            Posted::Away(error, asked) => (error, pause(failures, asked)),
            Posted::Refused(error) => (error, jittered(PAUSE_MAX)),
        };
        let until = now() + pause;
        let aged = now() - TimeDelta::days(KEPT_DAYS);
        tell(&error, announcements.len(), failures, pause);
        let dropped = hospital.store.postpone_announcements(&lease, until, failures.saturating_add(1), aged).await?;
        if dropped > 0 {
            tracing::error!(
                event = "topic.dropped",
                dropped,
                "{dropped} announcements were given up: the event topic has not accepted them in {KEPT_DAYS} days; whoever subscribes must \
                 read the record itself (GET /api/imports, /api/models)"
            );
        }
        return Ok(Published { again: Some(until), ..published });
    }
}

async fn post(topic: &Topic, announcements: &[Announcement]) -> Posted {
    let body = cloud_event::batch(topic.source(), announcements);
    match body.len() <= POST_BYTES_MAX {
        true => topic.post(cloud_event::BATCH_TYPE, body).await,
        false => Posted::Refused(Error::internal("a batch of events is larger than Event Grid takes: shorten HDAI_TOPIC_SOURCE")),
    }
}

/// An event of its own name, for an alert rule.
fn tell(error: &Error, waiting: usize, failures: u32, pause: Duration) {
    let pause_seconds = pause.as_secs();
    match failures {
        0 => {
            tracing::warn!(event = "topic.failed", waiting, pause_seconds, %error, "events are not published and will be tried again")
        }
        _ => tracing::error!(
            event = "topic.failed", waiting, failures = failures + 1, pause_seconds, %error, "events are still not published and will be tried again"
        ),
    }
}

/// The pause after as many failures in a row before this one.
fn pause(failures: u32, asked: Option<Duration>) -> Duration {
    let growing = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(PAUSE_MAX);
    jittered(growing).max(asked.unwrap_or_default().min(ASKED_PAUSE_MAX))
}

/// Up to a quarter longer, by chance.
fn jittered(pause: Duration) -> Duration {
    let chance = f64::from(Uuid::new_v4().as_u64_pair().1 as u16) / f64::from(u16::MAX);
    pause.mul_f64(1.0 + 0.25 * chance)
}

/// Longest time between two looks: another instance may have died at it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The same while something waits for the end of a pause or of another instance's lease, which may end sooner than it says.
const LOOK_AGAIN_SOON: Duration = Duration::from_secs(5);

/// Publishes for as long as the process lives: after every commit of its own, when a pause ends, and now and then.
pub async fn relay(hospital: Hospital, now: fn() -> DateTime<Utc>) {
    loop {
        match publish(&hospital, now).await {
            // A commit does not shorten a pause.
            Ok(Published { again: Some(again), .. }) => {
                let wait = (again - now()).to_std().unwrap_or_default();
                tokio::time::sleep(wait.clamp(PAUSE_MIN / 4, LOOK_AGAIN_SOON)).await;
            }
            Ok(_) => {
                let _ = tokio::time::timeout(LOOK_AGAIN, hospital.committed.notified()).await;
            }
            Err(error) => {
                tracing::warn!(%error, "the record could not be asked for what is to be published");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_what_the_topic_asks_for_counts() {
        let of = |failures| pause(failures, None).as_secs_f64();
        for (failures, least) in [(0, 2.0), (1, 4.0), (5, 64.0), (8, 300.0), (u32::MAX, 300.0)] {
            assert!((least..=least * 1.26).contains(&of(failures)), "{failures}: {}", of(failures));
        }
        assert_eq!(pause(0, Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(pause(0, Some(Duration::from_secs(1_000_000))), ASKED_PAUSE_MAX);
        assert!(pause(8, Some(Duration::from_secs(1))) >= PAUSE_MAX);
    }
}
