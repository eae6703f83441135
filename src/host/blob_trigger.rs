//! Blob triggers: a watched container, receipts for what was delivered, and the internal queue between the two. It does not know what is in a file.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::app::{Function, Trigger};
use super::event_source::{self, EVENT_QUEUE};
use super::process::stopped;
use super::queues::{BlobVersion, Taken};
use super::{BlobPayload, Host};
use crate::blob::Entry;
use crate::codec::blob_url::BlobUrl;
use crate::codec::envelope::delivery::{self, BlobFacts};
use crate::error::{Error, Kind, Result};

/// The queue between noticing a blob and delivering it; the real one ends in the host's id.
pub const BLOB_QUEUE: &str = "azure-webjobs-blobtrigger-local";
/// Where a blob's message goes after its last attempt.
pub const BLOB_POISON_QUEUE: &str = "webjobs-blobtrigger-poison";

/// The most blobs watched in one container.
const FILES_MAX: usize = 100_000;
/// The largest blob that is delivered inline: its base64 text is held in memory several times.
const INLINE_BYTES_MAX: u64 = 256 * 1024 * 1024;

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
    if host.options.account.is_none()
        && let Err(error) = std::fs::create_dir_all(host.options.blob_dir.join(&path.container))
    {
        tracing::error!(container = path.container, "the watched folder cannot be made: {error}");
    }
    tracing::info!(function = function.name, container = path.container, "watching");
    let mut shutdown = host.shutdown.clone();
    let mut seen: HashMap<String, Seen> = HashMap::new();
    let mut trouble = String::new();
    loop {
        let said = scan(&host, &function, &path, &mut seen).await.err().map(|error| error.to_string()).unwrap_or_default();
        // What stays wrong is said once.
        if said != trouble && !said.is_empty() {
            tracing::error!(function = function.name, "the container is watched in part only: {said}");
        }
        trouble = said;
        tokio::select! {
            () = tokio::time::sleep(host.options.timing.blob_poll) => {}
            () = stopped(&mut shutdown) => return,
        }
    }
}

/// A version of a blob, since when it has not changed, and whether its message is in the queue.
struct Seen {
    etag: String,
    since: Instant,
    queued: bool,
}

async fn scan(host: &Host, function: &Function, path: &BlobPath, seen: &mut HashMap<String, Seen>) -> Result<()> {
    let listing = host.files.list(&path.container, FILES_MAX).await?;
    let cut = listing.cut;
    let found: HashMap<String, Entry> = listing.entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
    seen.retain(|name, _| found.contains_key(name));
    for (name, entry) in found {
        if !path.matches(&name) {
            continue;
        }
        let fresh = || Seen { etag: entry.etag.clone(), since: Instant::now(), queued: false };
        let known = seen.entry(name.clone()).or_insert_with(fresh);
        if known.etag != entry.etag {
            *known = fresh();
        }
        if known.queued || known.since.elapsed() < host.options.timing.blob_settle {
            continue;
        }
        let (queue, bodies) = match host.options.event_grid {
            Some(_) => (EVENT_QUEUE, event_source::messages(host, function, &path.container, &entry)),
            None => (BLOB_QUEUE, vec![blob_message(&function.name, &path.container, &name, &entry.etag)]),
        };
        let version =
            BlobVersion { function: function.name.clone(), container: path.container.clone(), name, etag: entry.etag.clone() };
        match host.queues.put_once(queue, version, bodies).await {
            Ok(_) => known.queued = true,
            Err(error) => tracing::error!(function = function.name, "a new blob cannot be queued, and is tried again: {error}"),
        }
    }
    if cut {
        return Err(Error::invalid(format!("it holds more than {FILES_MAX} blobs, or folders that are too deep or closed to us")));
    }
    Ok(())
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
    let gone = || {
        tracing::warn!(function = function.name, "the blob does not exist (any more): its message is dropped");
        Ok(false)
    };
    // A delivery from outside may name anything: a name that cannot be a blob's is one that does not exist.
    let entry = match host.files.find(container, name).await {
        Err(error) if error.kind() == Kind::Invalid => return gone(),
        found => found?,
    };
    let Some(entry) = entry else { return gone() };
    let url = BlobUrl { account_url: host.options.account_url.clone(), container: container.into(), name: name.into() };
    let facts = BlobFacts {
        uri: url.to_string(),
        token: if path.container == container { path.token_value(name) } else { None },
        length_bytes: entry.length_bytes,
        content_type: content_type(name).into(),
        last_modified: entry.written,
    };
    let deferred = match host.options.blob_payload {
        Some(payload) => payload == BlobPayload::Deferred,
        None => *deferred,
    };
    let content = match deferred {
        true => None,
        false => match read(host, container, name).await? {
            None => return gone(),
            content => content,
        },
    };
    host.invoker.invoke(function, |sys| delivery::blob(sys, &function.binding, &facts, content)).await?;
    Ok(true)
}

/// The whole content; `None` if the blob is gone.
async fn read(host: &Host, container: &str, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(opened) = host.files.open(container, name).await? else { return Ok(None) };
    if opened.length_bytes > INLINE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a blob of more than {INLINE_BYTES_MAX} bytes is not delivered inline: use the deferred form"
        )));
    }
    let add = |mut whole: Vec<u8>, chunk: bytes::Bytes| async move {
        whole.extend_from_slice(&chunk);
        Ok(whole)
    };
    opened.chunks.try_fold(Vec::new(), add).await.map(Some)
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
}
