//! Bodies: each within its size and its time, and all of those under way within a budget of memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::http::HeaderMap;
use warp::http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRefused {
    /// Larger than the limit, in bytes.
    TooLarge(usize),
    /// Not all of it came in time.
    TooSlow,
    /// The connection broke, or what came is no body.
    Broken,
    /// Too many bytes of bodies are under way.
    Crowded,
    /// The caller's own bodies under way are too many bytes.
    Share,
}

/// What one permit stands for, in bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// Bytes that all bodies under way share.
pub(super) struct Budget {
    all: Arc<Semaphore>,
    /// A caller's part of it.
    share: Option<Arc<Semaphore>>,
}

/// A body, and its part of the budget until the call is answered.
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _part: Part,
}

#[derive(Default)]
struct Part {
    pieces: usize,
    permits: Vec<OwnedSemaphorePermit>,
}

/// So many bytes, as pieces.
pub(super) fn pieces(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes.div_ceil(PIECE_BYTES).min(Semaphore::MAX_PERMITS)))
}

impl Budget {
    pub(super) fn of(bytes: usize) -> Self {
        Self { all: pieces(bytes), share: None }
    }

    /// This budget, of which no more than `share` is used.
    pub(super) fn shared(&self, share: Arc<Semaphore>) -> Self {
        Self { all: Arc::clone(&self.all), share: Some(share) }
    }

    /// Reads a body, counting: the Functions host sends chunked bodies without a `Content-Length`. What has not come takes no memory and
    /// none of the budget, whatever was announced.
    pub(super) async fn read<B: Buf>(
        &self,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<B, warp::Error>>,
        bytes_max: usize,
        time_max: Duration,
    ) -> Result<Held, BodyRefused> {
        if announced(headers).is_some_and(|bytes| bytes > bytes_max as u64) {
            return Err(BodyRefused::TooLarge(bytes_max));
        }
        tokio::time::timeout(time_max, self.collect(body, bytes_max)).await.unwrap_or(Err(BodyRefused::TooSlow))
    }

    async fn collect<B: Buf>(
        &self,
        body: impl Stream<Item = Result<B, warp::Error>>,
        bytes_max: usize,
    ) -> Result<Held, BodyRefused> {
        let mut body = std::pin::pin!(body);
        let (mut bytes, mut part) = (BytesMut::new(), Part::default());
        while let Some(mut chunk) = body.try_next().await.map_err(|_| BodyRefused::Broken)? {
            let length = bytes.len() + chunk.remaining();
            if length > bytes_max {
                return Err(BodyRefused::TooLarge(bytes_max));
            }
            let lacking = length.div_ceil(PIECE_BYTES) - part.pieces;
            if lacking > 0 {
                self.take(&mut part, lacking)?;
            }
            while chunk.has_remaining() {
                let piece = chunk.chunk();
                bytes.extend_from_slice(piece);
                let length = piece.len();
                chunk.advance(length);
            }
        }
        Ok(Held { bytes: bytes.freeze(), _part: part })
    }
}

impl Budget {
    fn take(&self, part: &mut Part, lacking: usize) -> Result<(), BodyRefused> {
        let count = u32::try_from(lacking).unwrap_or(u32::MAX);
        let of = |pieces: &Arc<Semaphore>| Arc::clone(pieces).try_acquire_many_owned(count);
        let share = self.share.as_ref().map(of).transpose().map_err(|_| BodyRefused::Share)?;
        let all = of(&self.all).map_err(|_| BodyRefused::Crowded)?;
        part.permits.extend(share);
        part.permits.push(all);
        part.pieces += lacking;
        Ok(())
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Does a body come with these headers?
pub(super) fn is_coming(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || announced(headers).is_some_and(|bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;

    fn body(pieces: usize) -> impl Stream<Item = Result<Bytes, warp::Error>> {
        stream::iter((0..pieces).map(|_| Ok(Bytes::from(vec![0; PIECE_BYTES]))))
    }

    #[tokio::test]
    async fn bodies_share_a_budget_until_their_calls_are_answered() {
        let budget = Budget::of(4 * PIECE_BYTES);
        let read = async |pieces| {
            let time = Duration::from_secs(60);
            budget.read(&HeaderMap::new(), body(pieces), 4 * PIECE_BYTES, time).await
        };
        let first = read(3).await.map_err(|_| ()).unwrap();
        assert_eq!(first.bytes.len(), 3 * PIECE_BYTES);
        assert_eq!(read(2).await.err(), Some(BodyRefused::Crowded));
        assert!(read(1).await.is_ok(), "what a refused body took is given back");
        drop(first);
        assert!(read(4).await.is_ok());
        assert_eq!(read(5).await.err(), Some(BodyRefused::TooLarge(4 * PIECE_BYTES)));
    }

    #[tokio::test]
    async fn one_caller_has_a_share_of_the_budget() {
        let budget = Budget::of(4 * PIECE_BYTES);
        let mine = budget.shared(pieces(2 * PIECE_BYTES));
        let read = async |budget: &Budget, pieces| {
            let time = Duration::from_secs(60);
            budget.read(&HeaderMap::new(), body(pieces), 4 * PIECE_BYTES, time).await
        };
        let first = read(&mine, 2).await.map_err(|_| ()).unwrap();
        assert_eq!(read(&mine, 1).await.err(), Some(BodyRefused::Share));
        assert_eq!(read(&budget, 3).await.err(), Some(BodyRefused::Crowded));
        assert!(read(&budget, 2).await.is_ok(), "others have theirs");
        drop(first);
        assert!(read(&mine, 2).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_announced_takes_nothing_and_what_is_too_large_is_not_waited_for() {
        let budget = Budget::of(PIECE_BYTES);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, "100".parse().unwrap());
        let never = || stream::pending::<Result<Bytes, warp::Error>>();
        let waits = budget.read(&headers, never(), 100, Duration::from_millis(1));
        assert_eq!(waits.await.err(), Some(BodyRefused::TooSlow));
        headers.insert(CONTENT_LENGTH, "101".parse().unwrap());
        let refused = budget.read(&headers, never(), 100, Duration::from_secs(3600));
        assert_eq!(refused.await.err(), Some(BodyRefused::TooLarge(100)));
        assert!(is_coming(&headers) && !is_coming(&HeaderMap::new()));
    }
}
