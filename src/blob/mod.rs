//! Seam 2, the files: what lies in a container. It does not know what is in them.

pub mod local;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use crate::error::Result;

/// A blob opened for reading.
pub struct Opened {
    /// Its entity tag, without quotes. It changes when the content does.
    pub etag: String,
    /// Its length in bytes.
    pub length_bytes: u64,
    /// Its content in bounded chunks. If the blob is overwritten while it is read, the stream ends in an error of
    /// [`crate::error::Kind::Unavailable`], so that a new delivery reads it afresh.
    pub chunks: BoxStream<'static, Result<Bytes>>,
}

/// The files.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Opens a blob; `None` if there is none of this name.
    async fn open(&self, container: &str, name: &str) -> Result<Option<Opened>>;

    /// Writes a small blob whole, replacing what was there.
    async fn put(&self, container: &str, name: &str, content: Bytes) -> Result<()>;
}
