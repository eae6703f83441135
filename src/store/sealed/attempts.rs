//! Attempts at what may take long or fail: all who wait for the same thing share one, and its failure is remembered for a while. It does
//! not know what is attempted.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::time::timeout;

use crate::error::{Error, Kind, Result};

/// Attempts by what they are at.
pub(super) struct Attempts<T: Clone> {
    /// Longest time of one.
    limit: Duration,
    /// How long a failure stands for the next attempt.
    pause: Duration,
    known: Mutex<HashMap<String, Attempt<T>>>,
}

struct Attempt<T: Clone> {
    answer: Shared<BoxFuture<'static, Answer<T>>>,
    /// How the attempt before failed: while this one runs nobody but who began it waits.
    before: Option<Failure>,
}

type Answer<T> = std::result::Result<T, Failure>;

/// An error that many are told.
#[derive(Debug, Clone)]
struct Failure {
    at: Instant,
    kind: Kind,
    message: String,
}

impl Failure {
    fn of(error: &Error) -> Self {
        Self { at: Instant::now(), kind: error.kind(), message: error.to_string() }
    }

    fn error(&self) -> Error {
        Error::new(self.kind, self.message.clone())
    }
}

impl<T: Clone + Send + Sync + 'static> Attempts<T> {
    /// Attempts of `limit` at most; after a failure none begins for `pause`.
    pub(super) fn new(limit: Duration, pause: Duration) -> Self {
        Self { limit, pause, known: Mutex::default() }
    }

    /// What the attempt at `what` comes to: the one that runs, or a new one, which is `work`. It goes on if who waits goes away.
    ///
    /// # Errors
    /// Those of `work`, told for a while without trying again; unavailable, if it takes too long.
    pub(super) async fn join<W>(&self, what: &str, work: impl FnOnce() -> W) -> Result<T>
    where
        W: Future<Output = Result<T>> + Send + 'static,
    {
        match self.begin(what, work) {
            Ok(answer) => answer.await.map_err(|failure| failure.error()),
            Err(failure) => Err(failure.error()),
        }
    }

    /// [`Attempts::join`], not waited for: `None` if it is not over yet, or is not to begin yet.
    pub(super) fn glance<W>(&self, what: &str, work: impl FnOnce() -> W) -> Option<Result<T>>
    where
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let answer = self.begin(what, work).ok()?.now_or_never()?;
        Some(answer.map_err(|failure| failure.error()))
    }

    fn begin<W>(&self, what: &str, work: impl FnOnce() -> W) -> Answer<Shared<BoxFuture<'static, Answer<T>>>>
    where
        W: Future<Output = Result<T>> + Send + 'static,
    {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = None;
        if let Some(attempt) = known.get(what) {
            // Asked of the task itself: whoever waited for it may be gone.
            match (attempt.answer.clone().now_or_never(), &attempt.before) {
                (None, Some(failure)) => return Err(failure.clone()),
                (None, None) => return Ok(attempt.answer.clone()),
                (Some(Err(failure)), _) if failure.at.elapsed() < self.pause => return Err(failure),
                (Some(Err(failure)), _) => before = Some(failure).filter(|_| !self.pause.is_zero()),
                (Some(Ok(_)), _) => {}
            }
        }
        let (limit, work) = (self.limit, work());
        // A failure's time is when it failed, and not when somebody looks.
        let task = tokio::spawn(async move {
            let late = |_| Error::unavailable(format!("no answer came within {} s; it is tried again later", limit.as_secs()));
            timeout(limit, work).await.map_err(late).flatten().map_err(|error| Failure::of(&error))
        });
        let answer = async move {
            task.await.unwrap_or_else(|_| Err(Failure::of(&Error::internal("an attempt broke off by a fault of ours"))))
        };
        let answer = answer.boxed().shared();
        known.insert(what.to_owned(), Attempt { answer: answer.clone(), before });
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn all_who_wait_share_one_attempt_and_it_outlives_them() {
        let (attempts, runs, go) = (Attempts::new(LONG, LONG), Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (runs, go) = (Arc::clone(&runs), Arc::clone(&go));
            async move {
                go.notified().await;
                Ok(runs.fetch_add(1, Ordering::SeqCst))
            }
        };
        let first = attempts.join("a", work);
        assert!(first.now_or_never().is_none(), "whoever began it goes away");
        assert!(attempts.glance("a", work).is_none());
        let waiting = join_all((0..50).map(|_| attempts.join("a", work)));
        go.notify_one();
        assert!(waiting.await.into_iter().all(|answer| answer.is_ok_and(|run| run == 0)));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        go.notify_one();
        assert_eq!(attempts.join("a", work).await.unwrap(), 1, "what is over is begun anew");
    }

    #[tokio::test]
    async fn a_failure_is_told_without_another_attempt_until_the_pause_is_over() {
        let attempts: Attempts<u32> = Attempts::new(LONG, LONG);
        let failed = attempts.join("a", || async { Err(Error::unavailable("away")) }).await.unwrap_err();
        assert_eq!((failed.kind(), failed.message()), (Kind::Unavailable, "away"));
        let again = attempts.join("a", || async { panic!("it was tried again") }).await.unwrap_err();
        assert_eq!(again.message(), "away");
        assert!(attempts.glance("a", || async { panic!("it was tried again") }).is_none());
        assert_eq!(attempts.join("b", || async { Ok(7) }).await.unwrap(), 7, "another thing is none of that");
    }

    #[tokio::test]
    async fn after_the_pause_one_tries_and_the_others_are_told_the_failure_before() {
        let attempts: Attempts<u32> = Attempts::new(LONG, Duration::from_nanos(1));
        attempts.join("a", || async { Err(Error::unavailable("away")) }).await.unwrap_err();
        let go = Arc::new(Notify::new());
        let gone = Arc::clone(&go);
        let trying = attempts.join("a", || async move {
            gone.notified().await;
            Ok(7)
        });
        let mut trying = Box::pin(trying);
        assert!((&mut trying).now_or_never().is_none());
        let other = attempts.join("a", || async { panic!("two try") }).now_or_never().unwrap();
        assert_eq!(other.unwrap_err().message(), "away");
        go.notify_one();
        assert_eq!(trying.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_takes_too_long_or_breaks_off_is_an_error() {
        let attempts: Attempts<u32> = Attempts::new(Duration::from_millis(5), LONG);
        let late = attempts.join("a", std::future::pending).await.unwrap_err();
        assert!(late.is_transient() && late.message().contains("no answer came"), "{late}");
        let broken = attempts.join("b", || async { panic!("a fault") }).await.unwrap_err();
        assert_eq!(broken.kind(), Kind::Internal);
    }
}
