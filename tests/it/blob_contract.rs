//! What every place of files holds to: one suite, run over folders and over a storage account.

use std::path::PathBuf;

use azure_storage_blob::BlobContainerClient;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use health_data_ai::blob::azure::AzureBlobs;
use health_data_ai::blob::local::Local;
use health_data_ai::blob::{Blobs, CHUNK_BYTES_MAX, PUT_BYTES_MAX};
use health_data_ai::error::{Kind, Result};

use crate::azurite::{Azurite, impatient};

/// The container of the suite.
const DROP: &str = "drop";

/// A place of files, with a way to take one away behind the seam's back.
enum Place {
    Folder { blobs: Local, root: tempfile::TempDir },
    Account { blobs: Box<AzureBlobs>, container: BlobContainerClient, name: String },
}

impl Place {
    fn folder() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(DROP)).unwrap();
        Self::Folder { blobs: Local::new(root.path()), root }
    }

    /// A container of the test's own, so that tests run side by side.
    async fn account(test: &str) -> Self {
        let azurite = Azurite::http();
        let name = format!("{DROP}-{test}");
        Self::Account { blobs: Box::new(azurite.blobs(impatient())), container: azurite.container(&name).await, name }
    }

    fn blobs(&self) -> &dyn Blobs {
        match self {
            Self::Folder { blobs, .. } => blobs,
            Self::Account { blobs, .. } => &**blobs,
        }
    }

    fn container(&self) -> &str {
        match self {
            Self::Folder { .. } => DROP,
            Self::Account { name, .. } => name,
        }
    }

    async fn remove(&self, name: &str) {
        match self {
            Self::Folder { root, .. } => {
                std::fs::remove_file([root.path(), DROP.as_ref(), name.as_ref()].iter().collect::<PathBuf>()).unwrap()
            }
            Self::Account { container, .. } => drop(container.blob_client(name).delete(None).await.unwrap()),
        }
    }

    async fn put(&self, name: &str, content: impl Into<Bytes>) -> Result<()> {
        self.blobs().put(self.container(), name, content.into()).await
    }

    async fn content(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(opened) = self.blobs().open(self.container(), name).await? else { return Ok(None) };
        let chunks: Vec<Bytes> = opened.chunks.try_collect().await?;
        assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_BYTES_MAX));
        let content = chunks.concat();
        assert_eq!(content.len() as u64, opened.length_bytes);
        Ok(Some(content))
    }

    async fn etag(&self, name: &str) -> String {
        self.blobs().open(self.container(), name).await.unwrap().unwrap().etag
    }
}

/// Bytes that differ at every place near each other.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod folder {
            $(#[tokio::test] async fn $name() { super::$name(&super::Place::folder()).await; })+
        }
        mod account {
            $(#[tokio::test] async fn $name() {
                super::$name(&super::Place::account(&stringify!($name).replace('_', "-")[..19].trim_end_matches('-')).await).await;
            })+
        }
    };
}

contract!(
    what_is_put_is_read_back_in_bounded_chunks,
    nothing_is_there_until_it_is_put,
    names_are_kept_apart,
    refused_names_lead_nowhere,
    the_entity_tag_follows_the_content,
    a_range_is_of_the_version_that_is_named,
    overwriting_while_it_is_read_ends_the_stream,
    removing_while_it_is_read_ends_the_stream,
    writers_at_once_leave_one_whole_blob,
    a_listing_knows_what_opening_finds_and_has_a_limit,
);

async fn what_is_put_is_read_back_in_bounded_chunks(place: &Place) {
    for length in [0, 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 512 * 1024, 512 * 1024 + 1, 5 * 1024 * 1024 + 3]
    {
        let written = pattern(length);
        place.put("deep/er/a.csv", written.clone()).await.unwrap();
        assert!(place.content("deep/er/a.csv").await.unwrap() == Some(written), "{length} bytes");
    }
    let error = place.put("large", vec![0; PUT_BYTES_MAX + 1]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(place.content("large").await.unwrap(), None);
}

async fn nothing_is_there_until_it_is_put(place: &Place) {
    assert_eq!(place.content("a.csv").await.unwrap(), None);
    assert_eq!(place.content("folder/a.csv").await.unwrap(), None);
    place.put("a.csv", "x").await.unwrap();
    place.remove("a.csv").await;
    assert_eq!(place.content("a.csv").await.unwrap(), None);
    // A container that is not there is made by the first writer.
    let other = format!("{}-receipts", place.container());
    place.blobs().put(&other, "r.json", Bytes::from_static(b"{}")).await.unwrap();
    place.blobs().put(&other, "r.json", Bytes::from_static(b"{ }")).await.unwrap();
    assert_eq!(place.blobs().open(&other, "r.json").await.unwrap().unwrap().length_bytes, 3);
    // Tagging what is gone is nothing to report.
    place.blobs().tag(place.container(), "a.csv", "0x1", &[("status", "done")]).await.unwrap();
}

async fn names_are_kept_apart(place: &Place) {
    let names = [
        "a b.csv",
        "a%20b.csv",
        "a+b.csv",
        "100%.csv",
        "%2e%2e%2fa.csv",
        "a&b=c?d.csv",
        "a#b.csv",
        "a;b:c.csv",
        "2026/11/\u{e9}t\u{e9} \u{65e5}\u{672c}.csv",
        "\u{1f3e5}.csv",
        "a/b/c",
        "A/b/c",
        ".hidden",
        "trailing.dot.x",
    ];
    for name in names {
        place.put(name, format!("content of {name}")).await.unwrap();
    }
    for name in names {
        let content = place.content(name).await.unwrap().unwrap_or_else(|| panic!("{name} is not there"));
        assert_eq!(String::from_utf8(content).unwrap(), format!("content of {name}"));
    }
}

async fn refused_names_lead_nowhere(place: &Place) {
    place.put("a/c", "x").await.unwrap();
    let long = "x".repeat(1025);
    for name in ["", ".", "..", "../x", "a/../c", "a//c", "/a/c", "a/c/", "a\\c", "..\\c", "a\0c", long.as_str()] {
        let Err(opened) = place.blobs().open(place.container(), name).await else { panic!("{name:?} was opened") };
        let put = place.put(name, "evil").await.unwrap_err();
        let tagged = place.blobs().tag(place.container(), name, "0x1", &[]).await.unwrap_err();
        assert_eq!([opened.kind(), put.kind(), tagged.kind()], [Kind::Invalid; 3], "{name:?}");
        assert!(name.is_empty() || name.len() < 3 || !opened.to_string().contains(name), "{opened}");
    }
    for container in ["", ".", "..", "a/b", "a\\b"] {
        let Err(opened) = place.blobs().open(container, "c").await else { panic!("{container:?} was opened") };
        assert_eq!(opened.kind(), Kind::Invalid, "{container:?}");
    }
}

async fn the_entity_tag_follows_the_content(place: &Place) {
    place.put("a.csv", "one").await.unwrap();
    let one = place.etag("a.csv").await;
    assert!(!one.is_empty() && !one.contains('"'), "{one}");
    assert_eq!(place.etag("a.csv").await, one);
    // Or a file would be imported again for having been imported.
    place.blobs().tag(place.container(), "a.csv", &one, &[("status", "done")]).await.unwrap();
    assert_eq!(place.etag("a.csv").await, one);
    place.put("a.csv", "two").await.unwrap();
    assert_ne!(place.etag("a.csv").await, one);
}

async fn a_range_is_of_the_version_that_is_named(place: &Place) {
    let written = pattern(LONG);
    place.put("a.csv", written.clone()).await.unwrap();
    let etag = place.etag("a.csv").await;
    let range = async |etag: &str, bytes: std::ops::Range<u64>| {
        let Some(chunks) = place.blobs().open_range(place.container(), "a.csv", etag, bytes).await? else { return Ok(None) };
        let chunks: Vec<Bytes> = chunks.try_collect().await?;
        assert!(chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_BYTES_MAX));
        Ok::<_, health_data_ai::error::Error>(Some(chunks.concat()))
    };
    let length = LONG as u64;
    for bytes in [0..1, 0..length, 7..8, 5..700_000, 524_288..1_048_576, length - 1..length, 700_001..length, 9..9] {
        let expected = &written[bytes.start as usize..bytes.end as usize];
        assert!(range(&etag, bytes.clone()).await.unwrap().as_deref() == Some(expected), "{bytes:?}");
    }
    assert_eq!(range(&etag, 0..length + 1).await.unwrap_err().kind(), Kind::Internal);
    assert_eq!(range("0x1", 0..1).await.unwrap(), None);

    let mut chunks = place.blobs().open_range(place.container(), "a.csv", &etag, 1..length - 1).await.unwrap().unwrap();
    chunks.next().await.unwrap().unwrap();
    place.put("a.csv", vec![7; LONG]).await.unwrap();
    let rest: Result<Vec<Bytes>> = chunks.try_collect().await;
    assert_eq!(rest.unwrap_err().kind(), Kind::Unavailable, "no row is made of two versions");
    assert_eq!(range(&etag, 0..1).await.unwrap(), None);
    let etag = place.etag("a.csv").await;
    place.remove("a.csv").await;
    assert_eq!(range(&etag, 0..1).await.unwrap(), None);
}

/// Long enough that both places have most of it still to read after the first chunk.
const LONG: usize = 4 * 1024 * 1024;

async fn ends_unavailable(place: &Place, change: impl AsyncFnOnce()) {
    place.put("a.csv", pattern(LONG)).await.unwrap();
    let mut opened = place.blobs().open(place.container(), "a.csv").await.unwrap().unwrap();
    let first = opened.chunks.next().await.unwrap().unwrap();
    assert!(pattern(LONG).starts_with(&first));
    change().await;
    let rest: Result<Vec<Bytes>> = opened.chunks.try_collect().await;
    let error = rest.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("was overwritten while it was read"), "{error}");
}

async fn overwriting_while_it_is_read_ends_the_stream(place: &Place) {
    // Of the same length, so that only the entity tag tells.
    ends_unavailable(place, async || place.put("a.csv", vec![7; LONG]).await.unwrap()).await;
}

async fn removing_while_it_is_read_ends_the_stream(place: &Place) {
    ends_unavailable(place, async || place.remove("a.csv").await).await;
}

async fn writers_at_once_leave_one_whole_blob(place: &Place) {
    let puts = (0..8_u8).map(|number| place.put("receipt.json", vec![number; 100_000]));
    for put in futures_util::future::join_all(puts).await {
        put.unwrap();
    }
    let content = place.content("receipt.json").await.unwrap().unwrap();
    assert!(content.len() == 100_000 && content.iter().all(|byte| *byte == content[0]));
}

async fn a_listing_knows_what_opening_finds_and_has_a_limit(place: &Place) {
    let list = async |most| place.blobs().list(place.container(), most).await.unwrap();
    assert!(list(10).await.entries.is_empty());
    let names = ["2026/11/a b.csv", "a & <b> \"c\" s\u{f6}n 100%.csv", "a.csv"];
    for (index, name) in names.iter().enumerate() {
        place.put(name, vec![7; index + 1]).await.unwrap();
    }
    let whole = list(3).await;
    assert!(!whole.cut);
    let mut entries = whole.entries;
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(entries.iter().map(|entry| entry.name.as_str()).eq(names));
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!((entry.length_bytes, entry.etag.as_str()), (index as u64 + 1, place.etag(&entry.name).await.as_str()));
        let found = place.blobs().find(place.container(), &entry.name).await.unwrap();
        assert!(found.is_some_and(|found| found == *entry), "found otherwise than listed");
        assert!(entry.written.timestamp() > 1_750_000_000, "it was written today, not {}", entry.written);
    }
    let part = list(2).await;
    assert_eq!((part.entries.len(), part.cut), (2, true));
    place.remove("a.csv").await;
    assert!(place.blobs().find(place.container(), "a.csv").await.unwrap().is_none());
    assert_eq!(list(3).await.entries.len(), 2);
    assert_eq!(place.blobs().find(place.container(), "../a.csv").await.err().unwrap().kind(), Kind::Invalid);
}
