//! Taking messages from a durable queue: bounded parallelism, a lease renewed while work runs, attempts counted, then the poison queue.
//! It does not know what work a message means.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Host;
use super::app::Function;
use super::fault::Faults;
use super::process::stopped;
use super::queues::{Queues, Taken};
use crate::codec::envelope::delivery::{self, QueueMessage};
use crate::error::Result;

/// How long calls in flight may take to fail once the handler is ended.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A queue and the rules for its messages.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) queues: Queues,
    pub(crate) queue: String,
    pub(crate) poison_queue: String,
    /// Messages worked on at once.
    pub(crate) parallel: usize,
    /// Attempts before a message is poison.
    pub(crate) attempts_max: u32,
    pub(crate) lease: Duration,
    pub(crate) poll: Duration,
    /// How long a failed message stays invisible.
    pub(crate) retry_after: Duration,
    pub(crate) shutdown: watch::Receiver<bool>,
    pub(crate) faults: Arc<Faults>,
}

/// Delivers the messages of `function`'s queue until the host stops.
pub(crate) async fn listen(host: Arc<Host>, function: Function, queue: String) {
    let parallel = host.app.queues_parallel;
    let attempts_max = host.app.queues_poison_threshold;
    let intake = host.intake(queue.clone(), format!("{queue}-poison"), parallel, attempts_max);
    let deliver = move |taken: Arc<Taken>| {
        let (host, function) = (Arc::clone(&host), function.clone());
        async move { deliver(&host, &function, &taken).await }
    };
    intake.run(deliver).await;
}

async fn deliver(host: &Host, function: &Function, taken: &Taken) -> Result<()> {
    let message = QueueMessage {
        id: taken.id.clone(),
        text: String::from_utf8_lossy(&taken.body).into_owned(),
        dequeue_count: taken.dequeue_count,
        pop_receipt: taken.pop_receipt.clone(),
        inserted: taken.inserted,
        expires: taken.expires,
        next_visible: taken.next_visible,
    };
    host.invoker.invoke(function, |sys| delivery::queue(sys, &function.binding, &message)).await.map(|_| ())
}

impl Intake {
    /// Hands each message to `work` until the host stops: `Ok` deletes it, an error gives it back or, after the last attempt, moves it
    /// to the poison queue.
    pub(crate) async fn run<W, F>(mut self, work: W)
    where
        W: Fn(Arc<Taken>) -> F,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(self.parallel));
        let mut changes = self.queues.changes();
        let mut shutdown = self.shutdown.clone();
        let mut running = JoinSet::new();
        loop {
            while running.try_join_next().is_some() {}
            let slot = tokio::select! {
                slot = Arc::clone(&slots).acquire_owned() => slot,
                () = stopped(&mut shutdown) => break,
            };
            let Ok(slot) = slot else { break };
            changes.borrow_and_update();
            let faults = Arc::clone(&self.faults);
            match self.queues.take(&self.queue, self.lease, self.faults.window, move || faults.draw()).await {
                Ok(Some(taken)) => {
                    let taken = Arc::new(taken);
                    let works: Vec<F> = (0..self.faults.concurrent).map(|_| work(Arc::clone(&taken))).collect();
                    let all = async move { join_all(works).await.into_iter().collect::<Result<()>>() };
                    let attempt = self.clone().attempt(taken, all);
                    running.spawn(async move {
                        attempt.await;
                        drop(slot);
                    });
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(queue = self.queue, "no message can be taken: {error}"),
            }
            drop(slot);
            tokio::select! {
                _ = tokio::time::timeout(self.poll, changes.changed()) => {}
                () = stopped(&mut self.shutdown) => break,
            }
        }
        let _ = tokio::time::timeout(STOP_GRACE, async { while running.join_next().await.is_some() {} }).await;
    }

    async fn attempt(self, taken: Arc<Taken>, work: impl Future<Output = Result<()>>) {
        if taken.dequeue_count > self.attempts_max {
            // Earlier attempts ended with the host itself, so that nobody could count them out.
            return self.to_poison(&taken).await;
        }
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = self.keep_lease(&taken) => return,
        };
        let kept = match outcome {
            // A fault switch: as if the news of success were lost.
            Ok(()) if taken.dequeue_count < self.faults.duplicate => self.queues.release(&taken, self.retry_after).await,
            Ok(()) => self.queues.delete(&taken).await,
            Err(_) if *self.shutdown.borrow() => self.queues.release(&taken, Duration::ZERO).await,
            Err(_) if taken.dequeue_count >= self.attempts_max => return self.to_poison(&taken).await,
            Err(_) => self.queues.release(&taken, self.retry_after).await,
        };
        match kept {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(queue = self.queue, message = taken.id, "the lease had ended: the message is delivered twice")
            }
            Err(error) => {
                tracing::error!(queue = self.queue, message = taken.id, "the message comes back when its lease ends: {error}")
            }
        }
    }

    /// Renews the lease for as long as it is polled; never returns.
    async fn keep_lease(&self, taken: &Taken) {
        loop {
            tokio::time::sleep(self.lease / 3).await;
            if let Err(error) = self.queues.release(taken, self.lease).await {
                tracing::warn!(queue = self.queue, message = taken.id, "the lease cannot be renewed: {error}");
            }
        }
    }

    async fn to_poison(&self, taken: &Taken) {
        let attempts = self.attempts_max;
        match self.queues.poison(taken, &self.poison_queue).await {
            Ok(_) => tracing::error!(
                queue = self.queue,
                poison_queue = self.poison_queue,
                message = taken.id,
                "failed {attempts} times: it is kept in the poison queue"
            ),
            Err(error) => tracing::error!(queue = self.queue, message = taken.id, "cannot be moved to the poison queue: {error}"),
        }
    }
}
