//! Containers as folders under one root: the embedded default. A blob is a file, its name a path below its container.
//! It keeps nothing in memory, and no name leads out of the root.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::{Blobs, CHUNK_BYTES_MAX, Entry, Listing, Opened, check_names, check_range, check_size};
use crate::error::{Error, Result};

/// The deepest folder that is listed.
const DEPTH_MAX: usize = 16;
/// Endings that uploads and downloads in progress wear.
const UNFINISHED: [&str; 3] = [".tmp", ".partial", ".crdownload"];

/// Containers as the direct subfolders of one root.
#[derive(Debug, Clone)]
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// Files below `root`, which is made by the first [`Blobs::put`] if it is not there.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
}

/// A file's entity tag: when it was last written, to the nanosecond, and its length.
pub fn etag_of(metadata: &Metadata) -> String {
    let nanos = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    format!("0x{nanos:X}{:08X}", metadata.len())
}

#[async_trait]
impl Blobs for Local {
    async fn open(&self, container: &str, name: &str) -> Result<Option<Opened>> {
        let place = Place::new(&self.root, container, name)?;
        let Some(reading) = blocking(move || place.open()).await? else { return Ok(None) };
        let (etag, length_bytes) = (etag_of(&reading.opened), reading.opened.len());
        Ok(Some(Opened { etag, length_bytes, chunks: reading.chunks() }))
    }

    async fn open_range(
        &self,
        container: &str,
        name: &str,
        etag: &str,
        bytes: Range<u64>,
    ) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let (place, etag) = (Place::new(&self.root, container, name)?, etag.to_owned());
        let found = blocking(move || {
            let Some(reading) = place.open()?.filter(|reading| etag_of(&reading.opened) == etag) else { return Ok(None) };
            reading.of(bytes).map(Some)
        });
        Ok(found.await?.map(Reading::chunks))
    }

    async fn find(&self, container: &str, name: &str) -> Result<Option<Entry>> {
        let place = Place::new(&self.root, container, name)?;
        let name = name.to_owned();
        blocking(move || place.find(name)).await
    }

    async fn list(&self, container: &str, most: usize) -> Result<Listing> {
        // A name only for the check.
        check_names(container, "any")?;
        let (folder, shown) = (self.root.join(container), container.to_owned());
        blocking(move || {
            list(&folder, most).map_err(|error| {
                let why = format!("the folder of {shown} cannot be listed; give this account access to it");
                Error::unavailable(why).caused_by(error)
            })
        })
        .await
    }

    async fn put(&self, container: &str, name: &str, content: Bytes) -> Result<()> {
        check_size(&content)?;
        let place = Place::new(&self.root, container, name)?;
        blocking(move || place.put(&content)).await
    }

    /// A folder keeps no tags: the receipt says the same.
    async fn tag(&self, container: &str, name: &str, _etag: &str, _tags: &[(&str, &str)]) -> Result<()> {
        check_names(container, name)
    }
}

fn entry(name: String, metadata: &Metadata) -> Entry {
    let written = metadata.modified().map_or(DateTime::<Utc>::UNIX_EPOCH, DateTime::from);
    Entry { name, etag: etag_of(metadata), length_bytes: metadata.len(), written }
}

/// The files below `folder`, named relative to it.
fn list(folder: &Path, most: usize) -> io::Result<Listing> {
    let mut listing = Listing { entries: Vec::new(), cut: false };
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) if depth > 0 => {
                listing.cut = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        for found in entries {
            let found = found?;
            // A file may vanish between the listing and this look at it; what has no name in UTF-8 has none here.
            let (Ok(name), Ok(metadata)) = (found.file_name().into_string(), found.metadata()) else { continue };
            if name.starts_with('.') || UNFINISHED.iter().any(|ending| name.ends_with(ending)) {
                continue;
            }
            let path = format!("{prefix}{name}");
            if metadata.is_dir() && depth < DEPTH_MAX {
                folders.push((found.path(), format!("{path}/"), depth + 1));
            } else if metadata.is_file() && listing.entries.len() < most {
                listing.entries.push(entry(path, &metadata));
            } else if metadata.is_dir() || metadata.is_file() {
                listing.cut = true;
            }
        }
    }
    Ok(listing)
}

/// File calls block, so they run where blocking is allowed; they run to their end even if the caller stops waiting.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| Error::internal("work on a local file broke off").caused_by(error))?
}

/// A blob's file, by name; nothing is known yet of what lies there.
struct Place {
    root: PathBuf,
    file: PathBuf,
    /// What messages call it. Never its name: hospitals name files after patients.
    shown: String,
}

impl Place {
    /// # Errors
    /// Invalid, if a name could mean another place than one below its container.
    fn new(root: &Path, container: &str, name: &str) -> Result<Self> {
        check_names(container, name)?;
        Ok(Self { root: root.to_owned(), file: root.join(container).join(name), shown: format!("a file in {container}") })
    }

    fn find(self, name: String) -> Result<Option<Entry>> {
        let Some(file) = self.followed()? else { return Ok(None) };
        match fs::metadata(&file) {
            Ok(metadata) => Ok(metadata.is_file().then(|| entry(name, &metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("read", error)),
        }
    }

    fn open(self) -> Result<Option<Reading>> {
        let Some(file) = self.followed()? else { return Ok(None) };
        // A folder is no blob; nor is a pipe, which would never open.
        if !fs::metadata(&file).map_err(|error| self.failed("read", error))?.is_file() {
            return Ok(None);
        }
        let handle = match fs::File::open(&file) {
            Ok(handle) => handle,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read", error)),
        };
        let opened = handle.metadata().map_err(|error| self.failed("read", error))?;
        let until = opened.len();
        Ok(Some(Reading { place: self, handle, opened, position: 0, until }))
    }

    /// The file itself, after every symbolic link; `None` if there is none.
    ///
    /// # Errors
    /// Invalid, if it lies outside the root.
    fn followed(&self) -> Result<Option<PathBuf>> {
        let found = |path: &Path| match path.canonicalize() {
            Ok(path) => Ok(Some(path)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(self.failed("read", error)),
        };
        let (Some(root), Some(file)) = (found(&self.root)?, found(&self.file)?) else { return Ok(None) };
        if file.starts_with(&root) { Ok(Some(file)) } else { Err(self.outside()) }
    }

    /// The content is complete under its name or not there at all: a reader never meets half a file.
    fn put(&self, content: &[u8]) -> Result<()> {
        let failed = |error| self.failed("written", error);
        let folder = self.folder_made()?;
        // A name of its own, as several deliveries may write the same receipt. The dot keeps watchers away.
        let temporary = folder.join(format!(".{}.tmp", Uuid::new_v4().simple()));
        let target = folder.join(self.file.file_name().unwrap_or_default());
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&temporary, &target)?;
            // The new name is on the disk only with its folder.
            fs::File::open(&folder)?.sync_all()
        };
        write().map_err(|error| {
            // What cannot be removed either is a dot file that nobody reads.
            let _ = fs::remove_file(&temporary);
            failed(error)
        })
    }

    /// Makes the folders above the file, and answers the innermost, after every symbolic link.
    fn folder_made(&self) -> Result<PathBuf> {
        let failed = |error| self.failed("written", error);
        let make = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(&self.root).map_err(failed)?;
        let root = self.root.canonicalize().map_err(failed)?;
        let below = self.file.parent().and_then(|folder| folder.strip_prefix(&self.root).ok()).unwrap_or(Path::new(""));
        let mut folder = root.clone();
        // One part after the other, so that no folder is made beyond a link that leaves the root.
        for part in below {
            let next = folder.join(part);
            make(&next).map_err(failed)?;
            folder = next.canonicalize().map_err(failed)?;
            if !folder.starts_with(&root) {
                return Err(self.outside());
            }
        }
        Ok(folder)
    }

    fn outside(&self) -> Error {
        Error::invalid(format!("{} lies outside the folder of the containers, by a symbolic link; remove the link", self.shown))
    }

    fn failed(&self, done: &str, error: io::Error) -> Error {
        let remedy = match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "give this account access to its folder",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                "free some space on the disk and try again"
            }
            _ => "check the disk and the name and try again",
        };
        Error::unavailable(format!("{} cannot be {done}; {remedy}", self.shown)).caused_by(error)
    }

    fn overwritten(&self) -> Error {
        Error::unavailable(format!("{} was overwritten while it was read; it will be read afresh", self.shown))
    }
}

/// A blob on its way out.
struct Reading {
    place: Place,
    handle: fs::File,
    /// The file as it was when it was opened.
    opened: Metadata,
    /// Where the next byte lies, and where the first one that is not wanted would.
    position: u64,
    until: u64,
}

impl Reading {
    /// The same, of these bytes alone.
    fn of(mut self, bytes: Range<u64>) -> Result<Self> {
        check_range(&bytes, self.opened.len())?;
        self.handle.seek(SeekFrom::Start(bytes.start)).map_err(|error| self.place.failed("read", error))?;
        (self.position, self.until) = (bytes.start, bytes.end);
        Ok(self)
    }

    fn chunks(self) -> BoxStream<'static, Result<Bytes>> {
        stream::try_unfold(self, |reading| blocking(move || reading.next())).boxed()
    }

    /// The next chunk; `None` at the end of a file that stayed the same.
    fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        let left = self.until.saturating_sub(self.position);
        if left == 0 && self.until < self.opened.len() {
            return self.check_unchanged().map(|()| None);
        }
        // At the file's end, one byte more is asked for: if it comes, the file has grown.
        let wanted = left.clamp(1, CHUNK_BYTES_MAX as u64);
        let mut chunk = Vec::with_capacity(wanted as usize);
        (&self.handle).take(wanted).read_to_end(&mut chunk).map_err(|error| self.place.failed("read", error))?;
        self.position += chunk.len() as u64;
        if chunk.is_empty() {
            return self.check_unchanged().map(|()| None);
        }
        // After each chunk, so that no row is made of two versions.
        let now = self.handle.metadata().map_err(|error| self.place.failed("read", error))?;
        if self.position > self.opened.len() || etag_of(&now) != etag_of(&self.opened) {
            return Err(self.place.overwritten());
        }
        Ok(Some((Bytes::from(chunk), self)))
    }

    /// The open file and the file of that name are still what was opened.
    fn check_unchanged(&self) -> Result<()> {
        let same = |now: &Metadata| {
            etag_of(now) == etag_of(&self.opened) && (now.dev(), now.ino()) == (self.opened.dev(), self.opened.ino())
        };
        let handle = self.handle.metadata().map_err(|error| self.place.failed("read", error))?;
        let named = match fs::metadata(&self.place.file) {
            Ok(named) => Some(named),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(self.place.failed("read", error)),
        };
        let unchanged = self.position == self.until && same(&handle) && named.as_ref().is_some_and(same);
        if unchanged { Ok(()) } else { Err(self.place.overwritten()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_unfinished_files_are_passed_over_and_a_listing_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("2026/.hidden")).unwrap();
        for name in ["a.csv", "2026/b.csv", ".a", "2026/.hidden/c.csv", "d.csv.tmp", "e.partial", "f.crdownload"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(dir.path().join("a.csv"), dir.path().join("link.csv")).unwrap();
        let whole = list(dir.path(), 10).unwrap();
        let mut names: Vec<String> = whole.entries.into_iter().map(|entry| entry.name).collect();
        names.sort();
        assert_eq!((names, whole.cut), (vec!["2026/b.csv".to_owned(), "a.csv".to_owned()], false));
        let part = list(dir.path(), 1).unwrap();
        assert_eq!((part.entries.len(), part.cut), (1, true));
        assert!(list(&dir.path().join("none"), 1).unwrap().entries.is_empty());
    }
}
