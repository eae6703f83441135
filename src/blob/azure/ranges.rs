//! A blob as a stream of ranges, each conditional on the entity tag that was seen first: the next one is fetched while one is consumed.
//!
//! The SDK's own managed download is not used for more than a range at a time: it repeats no body that broke off, and fills what is
//! missing at a range's end with zeros.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;

use azure_core::http::Etag;
use azure_core::http::headers::HeaderName;
use azure_storage_blob::models::BlobClientDownloadOptions;
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use super::fault::{self, Fault};
use super::{Place, Seen};
use crate::blob::{CHUNK_BYTES_MAX, Opened};
use crate::error::{Error, Result};

/// The blob of which `seen` is known.
pub(super) fn opened(place: Place, seen: Seen) -> Opened {
    let etag = super::bare(&seen.etag);
    let length_bytes = seen.length_bytes;
    Opened { etag, length_bytes, chunks: stretch(place, seen, 0..length_bytes) }
}

/// These bytes of the blob of which `seen` is known.
pub(super) fn stretch(place: Place, seen: Seen, bytes: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let source = Arc::new(Source { place, seen });
    let reading =
        Reading { source, current: Bytes::new(), next: JoinSet::new(), asked_bytes: bytes.start, wanted_bytes: bytes.end };
    stream::try_unfold(reading, Reading::step).boxed()
}

/// A version of a blob.
struct Source {
    place: Place,
    seen: Seen,
}

/// A blob on its way out.
struct Reading {
    source: Arc<Source>,
    /// What is left of the range being consumed.
    current: Bytes,
    /// The range being fetched: none or one. It is given up with the stream.
    next: JoinSet<Result<Bytes>>,
    /// Up to where ranges were asked for.
    asked_bytes: u64,
    /// Up to where bytes are wanted.
    wanted_bytes: u64,
}

impl Reading {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>> {
        if self.current.is_empty() {
            if self.next.is_empty() {
                self.fetch_next();
            }
            self.current = match self.next.join_next().await {
                Some(Ok(range)) => range?,
                Some(Err(error)) => return Err(Error::internal("the reader of a range broke off").caused_by(error)),
                None => return Ok(None),
            };
            self.fetch_next();
        }
        let chunk = self.current.split_to(self.current.len().min(CHUNK_BYTES_MAX));
        Ok(Some((chunk, self)))
    }

    fn fetch_next(&mut self) {
        let start = self.asked_bytes;
        let end = start.saturating_add(self.source.place.limits.range_bytes).min(self.wanted_bytes);
        if start < end {
            self.asked_bytes = end;
            let source = Arc::clone(&self.source);
            self.next.spawn(async move { source.range(start..end).await });
        }
    }
}

impl Source {
    /// These bytes of the blob, all of them.
    async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        let Place { limits, container, .. } = &self.place;
        let read = fault::persistently(limits.attempts, limits.pause, || self.attempt(range.clone())).await;
        read.map_err(|fault| match fault {
            // It was there when it was opened.
            Fault::NoBlob => Fault::Changed.into_error("read", container),
            fault => fault.into_error("read", container),
        })
    }

    async fn attempt(&self, range: Range<u64>) -> Result<Bytes, Fault> {
        let limit = self.place.limits.request;
        let late = || {
            Fault::Broken(Error::unavailable(format!("a blob in {} is read too slowly: check the network", self.place.container)))
        };
        tokio::time::timeout(limit, self.fetch(range)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, Fault> {
        let wanted = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let options = BlobClientDownloadOptions {
            range: Some(range.clone().into()),
            partition_size: NonZero::new(wanted),
            parallel: NonZero::new(1),
            if_match: Some(self.seen.etag.clone()),
            ..Default::default()
        };
        let answer = self.place.call(self.place.client.download(Some(options))).await?;
        self.check(
            &range,
            answer.properties.etag.as_ref(),
            answer.headers.get_optional_str(&HeaderName::from_static("content-range")),
        )?;
        let mut body = answer.body;
        let mut bytes = BytesMut::with_capacity(wanted);
        while let Some(piece) = body.try_next().await.map_err(|error| fault::broken(&error, &self.place.container))? {
            if bytes.len() + piece.len() > wanted {
                return Err(Fault::strange("it sent more than was asked for"));
            }
            bytes.extend_from_slice(&piece);
        }
        if bytes.len() < wanted { Err(Fault::strange("it sent less than was asked for")) } else { Ok(bytes.freeze()) }
    }

    /// The answer is of the version that was opened, and of the range that was asked for.
    fn check(&self, range: &Range<u64>, etag: Option<&Etag>, content_range: Option<&str>) -> Result<(), Fault> {
        if etag != Some(&self.seen.etag) {
            return Err(Fault::Changed);
        }
        let whole = *range == (0..self.seen.length_bytes);
        let asked = format!("bytes {}-{}/{}", range.start, range.end - 1, self.seen.length_bytes);
        match content_range {
            Some(sent) if sent.trim() == asked => Ok(()),
            None if whole => Ok(()),
            _ => Err(Fault::strange("it sent another range than was asked for")),
        }
    }
}
