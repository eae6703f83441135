//! Seam 2, the files: what lies in a container. It does not know what is in them.

pub mod azure;
pub mod local;

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;

use crate::error::{Error, Result};

/// Largest chunk of a blob's content, in bytes.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// Largest blob that [`Blobs::put`] takes, in bytes.
pub const PUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest blob name, in bytes: Azure's limit of 1,024 characters, as a file system counts.
const NAME_BYTES_MAX: usize = 1024;

/// A blob opened for reading.
pub struct Opened {
    /// Its entity tag, without quotes. It changes when the content does.
    pub etag: String,
    /// Its length in bytes.
    pub length_bytes: u64,
    /// Its content in bounded chunks, all of one version. If the blob is overwritten or removed while it is read, the stream ends in an
    /// error of [`crate::error::Kind::Unavailable`], so that a new delivery reads it afresh. It never ends early without an error.
    pub chunks: BoxStream<'static, Result<Bytes>>,
}

/// What is known of a blob without reading it. It has no `Debug`: hospitals name files after patients.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its entity tag, without quotes.
    pub etag: String,
    /// Its length in bytes.
    pub length_bytes: u64,
    /// When it was last written.
    pub written: DateTime<Utc>,
}

/// What lies in a container.
pub struct Listing {
    /// The blobs, in no order.
    pub entries: Vec<Entry>,
    /// Whether there are more, or some that cannot be seen.
    pub cut: bool,
}

/// The files.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Opens a blob; `None` if there is none of this name.
    async fn open(&self, container: &str, name: &str) -> Result<Option<Opened>>;

    /// Opens these bytes of a blob, if it still is the version `etag`; `None` if it is not, or is gone. They are streamed as by
    /// [`Blobs::open`].
    async fn open_range(
        &self,
        container: &str,
        name: &str,
        etag: &str,
        bytes: Range<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes>>>>;

    /// What is known of a blob; `None` if there is none of this name.
    async fn find(&self, container: &str, name: &str) -> Result<Option<Entry>>;

    /// At most `most` blobs of a container; none if there is no such container in a folder, not found if there is none in an account. What a folder hides or is still being written
    /// (names with a leading dot, or an ending of uploads in progress) and links are left out.
    async fn list(&self, container: &str, most: usize) -> Result<Listing>;

    /// Writes a small blob whole, replacing what was there. The container is made if there is none.
    async fn put(&self, container: &str, name: &str, content: Bytes) -> Result<()>;

    /// Adds `tags` to those of the blob of this name if it still is the version `etag`; nothing is done if it is not, or is gone.
    /// Tags are for whoever governs the files (lifecycle rules, inventories), so a place that has none leaves them out.
    async fn tag(&self, container: &str, name: &str, etag: &str, tags: &[(&str, &str)]) -> Result<()>;
}

/// Both places take the same names: those that cannot mean another place than one below their container.
///
/// # Errors
/// Invalid.
fn check_names(container: &str, name: &str) -> Result<()> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\\', '\0']);
    if !plain(container) {
        return Err(Error::invalid("a container's name must be one folder name; correct the configured container"));
    }
    if name.len() > NAME_BYTES_MAX || !name.split('/').all(plain) {
        return Err(Error::invalid(format!(
            "a blob's name in {container} must be relative, of at most {NAME_BYTES_MAX} bytes, with no empty part, no . or .. and no \
             backslash; rename the file"
        )));
    }
    Ok(())
}

/// # Errors
/// Internal, if the range does not lie in a blob of this length.
fn check_range(bytes: &Range<u64>, length_bytes: u64) -> Result<()> {
    match bytes.start <= bytes.end && bytes.end <= length_bytes {
        true => Ok(()),
        false => Err(Error::internal("a range that was asked for does not lie in its file")),
    }
}

/// # Errors
/// Invalid, if the content is too large to be written whole.
fn check_size(content: &Bytes) -> Result<()> {
    if content.len() > PUT_BYTES_MAX {
        return Err(Error::invalid(format!("a blob written whole may hold at most {PUT_BYTES_MAX} bytes; write less")));
    }
    Ok(())
}
