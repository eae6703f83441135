//! A panic while a call is answered is that call's end and not the process's.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

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

#[cfg(test)]
mod tests {
    use warp::http::StatusCode;

    use super::*;

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
