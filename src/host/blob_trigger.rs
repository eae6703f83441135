//! Blob triggers: a watched folder whose sub-folders are containers, receipts for what was delivered, and the internal queue between
//! the two. It does not know what is in a file.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::app::{Function, Trigger};
use super::process::stopped;
use super::queues::{BlobVersion, Taken};
use super::{BlobPayload, Host};
use crate::codec::blob_url::BlobUrl;
use crate::codec::envelope::delivery::{self, BlobFacts};
use crate::error::{Error, Result};

/// The queue between noticing a blob and delivering it; the real one ends in the host's id.
pub const BLOB_QUEUE: &str = "azure-webjobs-blobtrigger-local";
/// Where a blob's message goes after its last attempt.
pub const BLOB_POISON_QUEUE: &str = "webjobs-blobtrigger-poison";

/// The most files watched in one container, and the deepest folder.
const FILES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 16;
/// The largest blob that is delivered inline: its base64 text is held in memory several times.
const INLINE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Endings that uploads and downloads in progress wear.
const UNFINISHED: [&str; 3] = [".tmp", ".partial", ".crdownload"];

/// A blob trigger's `path`: `container`, or `container/prefix{token}suffix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobPath {
    pub(crate) container: String,
    prefix: String,
    token: Option<String>,
    suffix: String,
}

impl BlobPath {
    pub(crate) fn parse(path: &str) -> Result<BlobPath> {
        let fault = || Error::invalid("`path` must read container, container/{name} or container/prefix{name}suffix");
        let (container, pattern) = path.split_once('/').unwrap_or((path, ""));
        if !is_container(container) {
            return Err(fault());
        }
        let (prefix, token, suffix) = match pattern.split_once('{') {
            None if pattern.is_empty() => ("", None, ""),
            None => return Err(fault()),
            Some((prefix, rest)) => {
                let (token, suffix) = rest.split_once('}').ok_or_else(fault)?;
                let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                if !plain || suffix.contains(['{', '}']) {
                    return Err(fault());
                }
                (prefix, Some(token.to_owned()), suffix)
            }
        };
        Ok(BlobPath { container: container.into(), prefix: prefix.into(), token, suffix: suffix.into() })
    }

    fn matches(&self, name: &str) -> bool {
        self.token.is_none() || self.token_value(name).is_some()
    }

    fn token_value(&self, name: &str) -> Option<(String, String)> {
        let value = name.strip_prefix(self.prefix.as_str())?.strip_suffix(self.suffix.as_str())?;
        if value.is_empty() { None } else { Some((self.token.clone()?, value.to_owned())) }
    }
}

/// A file's entity tag: it changes with the time of writing and the length.
pub fn file_etag(metadata: &Metadata) -> String {
    let since = metadata.modified().ok().and_then(|modified| modified.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("0x{:X}{:08X}", since.as_nanos(), metadata.len())
}

/// A message of [`BLOB_QUEUE`] and of the poison queue, as the real host writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BlobMessage {
    r#type: String,
    function_id: String,
    blob_type: String,
    container_name: String,
    blob_name: String,
    /// With quotes.
    #[serde(rename = "ETag")]
    etag: String,
}

/// The message for `function` and a blob's version; `etag` without quotes.
pub(crate) fn blob_message(function: &str, container: &str, name: &str, etag: &str) -> Vec<u8> {
    let message = BlobMessage {
        r#type: "BlobTrigger".into(),
        function_id: format!("Host.Functions.{function}"),
        blob_type: "BlockBlob".into(),
        container_name: container.into(),
        blob_name: name.into(),
        etag: format!("\"{etag}\""),
    };
    serde_json::to_vec(&message).unwrap_or_default()
}

/// Watches the container of `path` until the host stops, and queues each settled version of a blob once.
pub(crate) async fn watch(host: Arc<Host>, function: Function, path: BlobPath) {
    let folder = host.options.blob_dir.join(&path.container);
    if let Err(error) = fs::create_dir_all(&folder) {
        tracing::error!("the watched folder {} cannot be made: {error}", folder.display());
    }
    tracing::info!(function = function.name, "watching {}", folder.display());
    let mut shutdown = host.shutdown.clone();
    let mut seen: HashMap<String, Seen> = HashMap::new();
    loop {
        scan(&host, &function, &path, &folder, &mut seen).await;
        tokio::select! {
            () = tokio::time::sleep(host.options.timing.blob_poll) => {}
            () = stopped(&mut shutdown) => return,
        }
    }
}

/// A version of a file, since when it has not changed, and whether its message is in the queue.
struct Seen {
    etag: String,
    since: Instant,
    queued: bool,
}

async fn scan(host: &Host, function: &Function, path: &BlobPath, folder: &Path, seen: &mut HashMap<String, Seen>) {
    let from = folder.to_owned();
    let listed = tokio::task::spawn_blocking(move || list(&from)).await;
    let files = match listed {
        Ok(Ok(files)) => files,
        Ok(Err(error)) => return tracing::error!("the watched folder {} cannot be listed: {error}", folder.display()),
        Err(error) => return tracing::error!("the watched folder {} cannot be listed: {error}", folder.display()),
    };
    seen.retain(|name, _| files.contains_key(name));
    for (name, etag) in files {
        if !path.matches(&name) {
            continue;
        }
        let fresh = || Seen { etag: etag.clone(), since: Instant::now(), queued: false };
        let known = seen.entry(name.clone()).or_insert_with(fresh);
        if known.etag != etag {
            *known = fresh();
        }
        if known.queued || known.since.elapsed() < host.options.timing.blob_settle {
            continue;
        }
        let body = blob_message(&function.name, &path.container, &name, &etag);
        let version = BlobVersion { function: function.name.clone(), container: path.container.clone(), name, etag };
        match host.queues.put_once(BLOB_QUEUE, version, body).await {
            Ok(_) => known.queued = true,
            Err(error) => tracing::error!(function = function.name, "a new blob cannot be queued, and is tried again: {error}"),
        }
    }
}

/// The files below `folder` with their names relative to it and their tags. Links, hidden files and unfinished ones are passed over.
fn list(folder: &Path) -> std::io::Result<HashMap<String, String>> {
    let mut files = HashMap::new();
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if depth > 0 => {
                tracing::warn!("the folder {} cannot be listed, and is passed over: {error}", folder.display());
                continue;
            }
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                tracing::warn!("a file in {} has a name that is not UTF-8, and is passed over", folder.display());
                continue;
            };
            // A file may vanish between the listing and this look at it.
            let Ok(metadata) = entry.metadata() else { continue };
            let path = format!("{prefix}{name}");
            if name.starts_with('.') || UNFINISHED.iter().any(|ending| name.ends_with(ending)) {
                continue;
            }
            if metadata.is_dir() && depth < DEPTH_MAX {
                folders.push((entry.path(), format!("{path}/"), depth + 1));
            } else if metadata.is_file() && files.len() < FILES_MAX {
                files.insert(path, file_etag(&metadata));
            } else if metadata.is_dir() || metadata.is_file() {
                tracing::error!(
                    "the watched folder holds more than {FILES_MAX} files or {DEPTH_MAX} levels: the rest is not watched"
                );
                return Ok(files);
            }
        }
    }
    Ok(files)
}

/// Delivers the messages of [`BLOB_QUEUE`] until the host stops.
pub(crate) async fn listen(host: Arc<Host>) {
    let (parallel, attempts_max) = (host.app.blobs_parallel, host.app.blobs_poison_threshold);
    let intake = host.intake(BLOB_QUEUE.into(), BLOB_POISON_QUEUE.into(), parallel, attempts_max);
    let work = move |taken: Arc<Taken>| {
        let host = Arc::clone(&host);
        async move { deliver(&host, &taken).await }
    };
    intake.run(work).await;
}

async fn deliver(host: &Host, taken: &Taken) -> Result<()> {
    let message: BlobMessage =
        serde_json::from_slice(&taken.body).map_err(|_| Error::invalid("a message of the internal blob queue is malformed"))?;
    let name = message.function_id.strip_prefix("Host.Functions.").unwrap_or(&message.function_id);
    let Some(function) = host.app.function(name) else {
        tracing::warn!("a blob's function no longer exists: its message is dropped");
        return Ok(());
    };
    invoke(host, function, &message.container_name, &message.blob_name).await.map(|_| ())
}

/// Calls `function` for a blob; false if the blob does not exist, in which case the real host drops the message, too.
pub(crate) async fn invoke(host: &Host, function: &Function, container: &str, name: &str) -> Result<bool> {
    let Trigger::Blob { path, deferred } = &function.trigger else {
        return Err(Error::invalid("the function has no blob trigger"));
    };
    let Some((file, metadata)) = resolve(&host.options.blob_dir, container, name) else {
        tracing::warn!(function = function.name, "the blob does not exist (any more): its message is dropped");
        return Ok(false);
    };
    let url = BlobUrl { account_url: host.options.account_url.clone(), container: container.into(), name: name.into() };
    let facts = BlobFacts {
        uri: url.to_string(),
        token: if path.container == container { path.token_value(name) } else { None },
        length_bytes: metadata.len(),
        content_type: content_type(name).into(),
        last_modified: metadata.modified().map_or(DateTime::<Utc>::UNIX_EPOCH, DateTime::from),
    };
    let deferred = match host.options.blob_payload {
        Some(payload) => payload == BlobPayload::Deferred,
        None => *deferred,
    };
    let content = if deferred { None } else { Some(read(&file, metadata.len()).await?) };
    host.invoker.invoke(function, |sys| delivery::blob(sys, &function.binding, &facts, content)).await?;
    Ok(true)
}

async fn read(file: &Path, length: u64) -> Result<Vec<u8>> {
    if length > INLINE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a blob of more than {INLINE_BYTES_MAX} bytes is not delivered inline: use the deferred form"
        )));
    }
    tokio::fs::read(file).await.map_err(|error| Error::unavailable("a blob cannot be read").caused_by(error))
}

/// The file of a blob, if it lies below the container's folder: a delivery from outside may name anything.
pub(crate) fn resolve(blob_dir: &Path, container: &str, name: &str) -> Option<(PathBuf, Metadata)> {
    let plain = |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && !segment.contains(['\\', '\0']);
    if !is_container(container) || !name.split('/').all(plain) {
        return None;
    }
    let root = blob_dir.join(container).canonicalize().ok()?;
    let file = root.join(name).canonicalize().ok()?;
    let metadata = fs::metadata(&file).ok()?;
    (file.starts_with(&root) && metadata.is_file()).then_some((file, metadata))
}

/// Azure's alphabet for a container's name.
fn is_container(name: &str) -> bool {
    let shape = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'$');
    (3..=63).contains(&name.len()) && shape
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("csv") => "text/csv",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_and_their_token_bound() {
        let path = BlobPath::parse("trainingdata/{name}").unwrap();
        assert_eq!(path.token_value("2026/a b.csv"), Some(("name".into(), "2026/a b.csv".into())));
        let path = BlobPath::parse("trainingdata/in/{file}.csv").unwrap();
        assert_eq!(path.token_value("in/a.csv"), Some(("file".into(), "a".into())));
        assert!(!path.matches("out/a.csv") && !path.matches("in/.csv"));
        assert!(BlobPath::parse("trainingdata").unwrap().matches("anything"));
        for wrong in ["", "ab/{name}", "Training/{name}", "abc/{a}/{b}", "abc/{}", "abc/x", "../{name}"] {
            assert!(BlobPath::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_message_is_the_real_hosts() {
        let message = String::from_utf8(blob_message("ImportCsv", "incoming", "2026/11/a.csv", "0x8DC")).unwrap();
        assert_eq!(
            message,
            r#"{"Type":"BlobTrigger","FunctionId":"Host.Functions.ImportCsv","BlobType":"BlockBlob","ContainerName":"incoming","BlobName":"2026/11/a.csv","ETag":"\"0x8DC\""}"#
        );
    }

    #[test]
    fn a_blob_outside_its_container_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("trainingdata/in")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        fs::write(dir.path().join("trainingdata/in/a.csv"), "x").unwrap();
        assert!(resolve(dir.path(), "trainingdata", "in/a.csv").is_some());
        for name in ["../secret", "in/../../secret", "/etc/passwd", "in", "", "in/b.csv", ".."] {
            assert!(resolve(dir.path(), "trainingdata", name).is_none(), "{name}");
        }
        assert!(resolve(dir.path(), "..", "secret").is_none());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path().join("secret"), dir.path().join("trainingdata/link")).unwrap();
            assert!(resolve(dir.path(), "trainingdata", "link").is_none());
        }
    }

    #[test]
    fn hidden_and_unfinished_files_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("2026/.hidden")).unwrap();
        for name in ["a.csv", "2026/b.csv", ".a", "2026/.hidden/c.csv", "d.csv.tmp", "e.partial", "f.crdownload"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let mut names: Vec<String> = list(dir.path()).unwrap().into_keys().collect();
        names.sort();
        assert_eq!(names, ["2026/b.csv", "a.csv"]);
    }
}
