//! A panic while a call is answered is that call's end and not the process's; and a call is not broken off by whoever stops waiting for it.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{ApiReply, problem};
use crate::error::Error;

/// What `work` answers; 500, if it panics. The panic's message is dropped: it may quote what it met.
pub(super) async fn guarded(work: impl Future<Output = ApiReply>) -> ApiReply {
    // What a broken-off piece of work shares with others is the record, whose transactions it leaves uncommitted.
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(reply) => reply,
        Err(_) => problem::of(&Error::internal("a call was broken off by a fault of ours")),
    }
}

/// Carries `work` out in a task of its own and waits `until` then for what it gives. Whoever hangs up or waits no longer leaves it to its
/// end: what follows a commit (an alert, a count, a relay that is woken) follows always.
///
/// # Errors
/// The answer, if it panics or takes too long.
pub(super) async fn seen_through<T: Send + 'static>(
    path: &'static str,
    until: Instant,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, ApiReply> {
    match tokio::time::timeout_at(until, tokio::spawn(work)).await {
        Ok(Ok(done)) => Ok(done),
        // The panic's message is dropped: it may quote what it met.
        Ok(Err(_)) => Err(problem::of(&Error::internal("a call was broken off by a fault of ours"))),
        Err(_) => {
            tracing::error!(path, "a call took longer than any caller waits");
            Err(problem::of(&Error::unavailable("the call took too long")))
        }
    }
}

#[cfg(test)]
mod tests {
    use warp::http::StatusCode;

    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_is_seen_through_though_nobody_waits_for_it() {
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let late = Instant::now();
        let waited = seen_through("/", late, async move {
            let _ = begun.await;
            let _ = end.send(());
        });
        assert_eq!(waited.await.err().map(|reply| reply.status), Some(StatusCode::SERVICE_UNAVAILABLE));
        begin.send(()).unwrap();
        ended.await.unwrap();
        let broken = async {
            Vec::<()>::new().pop().expect("Zebulonqx");
        };
        let reply = seen_through("/", Instant::now() + Duration::from_secs(600), broken).await.err().unwrap();
        assert!(!String::from_utf8_lossy(&reply.body).contains("Zebulonqx"));
    }

    #[tokio::test]
    async fn a_panic_is_answered_500_without_its_message() {
        let reply = guarded(async {
            tokio::task::yield_now().await;
            Vec::<ApiReply>::new().pop().expect("Zebulonqx")
        })
        .await;
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        let text = String::from_utf8_lossy(&reply.body);
        assert!(text.contains("could not be carried out") && !text.contains("Zebulonqx"), "{text}");
        let reply = guarded(async { ApiReply::text(StatusCode::OK, "text/plain", "whole".to_owned()) }).await;
        assert_eq!(reply.status, StatusCode::OK);
    }
}
