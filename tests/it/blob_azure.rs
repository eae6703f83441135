//! Blobs in a storage account: who is let in, what a storage account's bad days come to, and how much memory a large blob takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::RequestContent;
use bytes::Bytes;
use futures_util::TryStreamExt;
use health_data_ai::blob::Blobs;
use health_data_ai::blob::azure::{Access, AzureBlobs, Limits};
use health_data_ai::config::Secret;
use health_data_ai::error::{Error, Kind, Result};

use crate::azurite::proxy::{Asked, Fate, Proxy};
use crate::azurite::{Azurite, Tokens, impatient, signature, signed};
use crate::blob_contract::pattern;

async fn content(blobs: &AzureBlobs, container: &str, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(opened) = blobs.open(container, name).await? else { return Ok(None) };
    let chunks: Vec<Bytes> = opened.chunks.try_collect().await?;
    Ok(Some(chunks.concat()))
}

fn with_signature(azurite: &Azurite, signature: &str) -> AzureBlobs {
    let access = Access::Signature(Secret::new(signature));
    AzureBlobs::with(&azurite.account_url(), &access, impatient(), azurite.transport()).unwrap()
}

/// What a refusal must say, and what it must not.
fn assert_refused(error: &Error, remedy: &str) {
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    let text = format!("{error} {error:?}");
    assert!(text.contains("refuses access") && text.contains(remedy), "{text}");
    assert!(!text.contains("sig=") && !text.contains("smith"), "{text}");
}

#[tokio::test]
async fn a_signature_lets_in_over_http_and_https() {
    for (azurite, container) in [(Azurite::http(), "sas-http"), (Azurite::https(), "sas-https")] {
        azurite.container(container).await;
        let blobs = with_signature(azurite, &format!("?{}", signature("rwct", "2099-01-01T00:00:00Z")));
        blobs.put(container, "smith.csv", Bytes::from_static(b"abc")).await.unwrap();
        assert_eq!(content(&blobs, container, "smith.csv").await.unwrap().unwrap(), b"abc");
    }
}

#[tokio::test]
async fn a_signature_that_is_wrong_or_over_or_not_enough_is_refused_with_a_remedy() {
    let azurite = Azurite::http();
    azurite
        .container("sas-refused")
        .await
        .blob_client("smith.csv")
        .upload(RequestContent::from(b"abc".to_vec()), None)
        .await
        .unwrap();
    let other_key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
    for wrong in [
        signed(other_key, "rwct", "2099-01-01T00:00:00Z"),
        signature("rwct", "2020-01-01T00:00:00Z"),
        signature("d", "2099-01-01T00:00:00Z"),
    ] {
        let blobs = with_signature(azurite, &wrong);
        let begun = Instant::now();
        assert_refused(&content(&blobs, "sas-refused", "smith.csv").await.unwrap_err(), "HDAI_BLOB_SAS");
        assert_refused(&blobs.put("sas-refused", "smith.csv", Bytes::new()).await.unwrap_err(), "HDAI_BLOB_SAS");
        assert!(begun.elapsed() < Duration::from_secs(10), "a refusal was repeated");
    }
    // May read, may not write.
    let blobs = with_signature(azurite, &signature("r", "2099-01-01T00:00:00Z"));
    assert_eq!(content(&blobs, "sas-refused", "smith.csv").await.unwrap().unwrap(), b"abc");
    assert_refused(&blobs.put("sas-refused", "smith.csv", Bytes::new()).await.unwrap_err(), "HDAI_BLOB_SAS");
}

#[tokio::test]
async fn a_token_lets_in_over_https_only_and_only_if_it_is_for_storage() {
    let azurite = Azurite::https();
    azurite.container("token").await;
    let with =
        |url: &str, audience| AzureBlobs::with(url, &Access::Token(Arc::new(Tokens(audience))), impatient(), azurite.transport());
    let blobs = with(&azurite.account_url(), "https://storage.azure.com").unwrap();
    blobs.put("token", "smith.csv", pattern(2_000_000).into()).await.unwrap();
    assert!(content(&blobs, "token", "smith.csv").await.unwrap() == Some(pattern(2_000_000)));
    let etag = blobs.open("token", "smith.csv").await.unwrap().unwrap().etag;
    blobs.tag("token", "smith.csv", &etag, &[("status", "done")]).await.unwrap();

    let blobs = with(&azurite.account_url(), "https://vault.azure.net").unwrap();
    assert_refused(&content(&blobs, "token", "smith.csv").await.unwrap_err(), "Storage Blob Data Contributor");

    let error = with(&Azurite::http().account_url(), "https://storage.azure.com").unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.message().contains("https"), "{error}");
}

/// A credential that has no token to give.
#[derive(Debug)]
struct NoTokens;

#[async_trait::async_trait]
impl TokenCredential for NoTokens {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        Err(azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, "the endpoint is away"))
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_delivery_waits() {
    let access = Access::Token(Arc::new(NoTokens));
    // Nobody listens there: had it been tried, the error would say so.
    let blobs = AzureBlobs::with("https://127.0.0.1:1/devstoreaccount1", &access, impatient(), None).unwrap();
    let begun = Instant::now();
    let error = content(&blobs, "drop", "smith.csv").await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(error.kind() == Kind::Unavailable && text.contains("no token") && text.contains("the endpoint is away"), "{text}");
    assert!(!text.contains("smith") && !text.contains("127.0.0.1"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn another_account_or_container_is_no_empty_place() {
    let azurite = Azurite::http();
    let url = azurite.account_url().replace("devstoreaccount1", "otheraccount");
    let access = Access::Signature(Secret::new(signature("rwct", "2099-01-01T00:00:00Z")));
    let blobs = AzureBlobs::with(&url, &access, impatient(), None).unwrap();
    let error = content(&blobs, "drop", "smith.csv").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");

    let error = content(&azurite.blobs(impatient()), "not-there", "smith.csv").await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("not-there") && error.message().contains("no such container"), "{error}");
    let error = content(&azurite.blobs(impatient()), "No_Container", "smith.csv").await.unwrap_err();
    assert!([Kind::Invalid, Kind::Unavailable].contains(&error.kind()) && !error.to_string().contains("smith"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_away_or_not_trusted_is_named_without_an_address() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = format!("http://127.0.0.1:{port}/devstoreaccount1");
    for url in [away, Azurite::https().account_url()] {
        let access = Access::Signature(Secret::new(signature("rwct", "2099-01-01T00:00:00Z")));
        let limits = Limits { retries: 1, ..impatient() };
        let blobs = AzureBlobs::with(&url, &access, limits, None).unwrap();
        let error = content(&blobs, "drop", "smith.csv").await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(error.kind() == Kind::Unavailable && text.contains("cannot be reached"), "{text}");
        assert!(text.contains("Connection refused") || text.contains("certificate"), "{text}");
        assert!(!text.contains("sig") && !text.contains("smith") && !text.contains("://"), "{text}");
    }
}

#[tokio::test]
async fn tags_join_those_that_are_there_and_stay_with_their_version() {
    let azurite = Azurite::http();
    let blob = azurite.container("tags").await.blob_client("a.csv");
    let blobs = azurite.blobs(impatient());
    let tags = async || -> HashMap<String, String> { blob.get_tags(None).await.unwrap().into_model().unwrap().into() };
    let map = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let upload =
        azure_storage_blob::models::BlobClientUploadOptions::default().with_tags(map(&[("owner", "radiology"), ("status", "new")]));
    blob.upload(RequestContent::from(b"one".to_vec()), Some(upload)).await.unwrap();
    let one = blobs.open("tags", "a.csv").await.unwrap().unwrap().etag;
    let ours = [("dataProfile", "ePHI"), ("import", "0123456789abcdef"), ("status", "done")];
    blobs.tag("tags", "a.csv", &one, &ours).await.unwrap();
    let expected = map(&[("owner", "radiology"), ("dataProfile", "ePHI"), ("import", "0123456789abcdef"), ("status", "done")]);
    assert_eq!(tags().await, expected);
    blobs.tag("tags", "a.csv", &one, &ours).await.unwrap();
    assert_eq!(tags().await, expected);

    blob.upload(RequestContent::from(b"two".to_vec()), None).await.unwrap();
    blobs.tag("tags", "a.csv", &one, &ours).await.unwrap();
    assert_eq!(tags().await, HashMap::new(), "the tags of one version went to another");
}

#[tokio::test]
async fn what_is_written_says_what_it_is() {
    use azure_storage_blob::models::BlobClientGetPropertiesResultHeaders;
    let azurite = Azurite::http();
    let container = azurite.container("types").await;
    let blobs = azurite.blobs(impatient());
    let expected =
        [("a.receipt.json", "application/json"), ("a.rejects.csv", "text/csv; charset=utf-8"), ("a", "application/octet-stream")];
    for (name, content_type) in expected {
        blobs.put("types", name, Bytes::from_static(b"x")).await.unwrap();
        let properties = container.blob_client(name).get_properties(None).await.unwrap();
        assert_eq!(properties.content_type().unwrap().as_deref(), Some(content_type));
    }
}

const RANGE: usize = 512 * 1024;
/// Four ranges and a part of one.
const LENGTH: usize = 4 * RANGE + 150_011;

/// Reads a blob of [`LENGTH`] through a proxy.
async fn read_through(
    container: &str,
    limits: Limits,
    fate: impl Fn(&Asked) -> Fate + Send + Sync + 'static,
) -> (Result<Option<Vec<u8>>>, Proxy) {
    let azurite = Azurite::http();
    azurite.container(container).await.blob_client("smith.csv").upload(RequestContent::from(pattern(LENGTH)), None).await.unwrap();
    let proxy = Proxy::before(azurite.address(), fate);
    let blobs = AzureBlobs::with(&proxy.account_url(), &Access::Emulator, limits, None).unwrap();
    (content(&blobs, container, "smith.csv").await, proxy)
}

fn assert_whole(read: Result<Option<Vec<u8>>>, what: &str) {
    assert!(read.unwrap_or_else(|error| panic!("{what}: {error}")) == Some(pattern(LENGTH)), "{what}: other bytes");
}

fn assert_unavailable(read: Result<Option<Vec<u8>>>, what: &str) {
    let error = read.map(|content| content.map(|bytes| bytes.len())).expect_err(what);
    let text = format!("{error} {error:?}");
    assert_eq!(error.kind(), Kind::Unavailable, "{what}: {text}");
    assert!(!text.contains("sig=") && !text.contains("smith") && !text.contains("127.0.0.1"), "{what}: {text}");
}

#[tokio::test]
async fn what_passes_by_itself_does_no_harm() {
    let slow = Duration::from_millis(20);
    let faults = [
        ("throttled", Fate::Status(429), 2),
        ("broken", Fate::Status(500), 2),
        ("busy", Fate::Status(503), 2),
        ("cut off", Fate::Cut(100_000), 2),
        ("cut off before the body", Fate::Cut(0), 1),
        ("shortened", Fate::Shorten(1), 1),
        ("another range", Fate::Whole, 1),
        ("slow", Fate::Slow(slow), usize::MAX),
    ];
    for (index, (what, fault, times)) in faults.into_iter().enumerate() {
        let fate = move |asked: &Asked| {
            let spoiled = asked.before < times && (asked.method == "GET" || matches!(fault, Fate::Status(_)));
            if spoiled { fault } else { Fate::Pass }
        };
        let (read, proxy) = read_through(&format!("passes-{index}"), impatient(), fate).await;
        assert_whole(read, what);
        let ranges = proxy.seen().iter().filter(|asked| asked.method == "GET").count();
        let expected = if times == usize::MAX { 5 } else { 5 * (times + 1) };
        assert_eq!(ranges, expected, "{what}");
    }
}

#[tokio::test]
async fn what_does_not_pass_ends_unavailable_and_never_short() {
    let third = Some(2 * RANGE as u64);
    let faults = [
        ("throttled", Fate::Status(429)),
        ("broken", Fate::Status(500)),
        ("busy", Fate::Status(503)),
        ("cut off", Fate::Cut(100_000)),
        ("shortened", Fate::Shorten(1)),
        ("emptied", Fate::Shorten(usize::MAX)),
        ("another range", Fate::Whole),
        ("silent", Fate::Silence),
        ("too slow", Fate::Slow(Duration::from_secs(1))),
        ("another version", Fate::OtherEtag),
        ("forbidden", Fate::Status(403)),
        ("gone", Fate::Status(404)),
        ("gone for good", Fate::Status(410)),
        ("moved", Fate::Status(307)),
    ];
    for (index, (what, fault)) in faults.into_iter().enumerate() {
        // From the third range on: what came before was good.
        let fate = move |asked: &Asked| if asked.method == "GET" && asked.start >= third { fault } else { Fate::Pass };
        let limits = Limits { request: Duration::from_secs(2), retries: 2, ..impatient() };
        let begun = Instant::now();
        let (read, proxy) = read_through(&format!("stays-{index}"), limits, fate).await;
        assert_unavailable(read, what);
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} took {:?}", begun.elapsed());
        let asked = proxy.seen().iter().filter(|asked| asked.start == third).count();
        assert!((1..=9).contains(&asked), "{what}: asked {asked} times");
    }
}

#[tokio::test]
async fn a_reader_that_waits_holds_two_ranges_at_most() {
    let azurite = Azurite::http();
    azurite.container("waits").await.blob_client("a.csv").upload(RequestContent::from(pattern(LENGTH)), None).await.unwrap();
    let proxy = Proxy::before(azurite.address(), |_| Fate::Pass);
    let blobs = AzureBlobs::with(&proxy.account_url(), &Access::Emulator, impatient(), None).unwrap();
    let asked = || proxy.seen().iter().filter(|asked| asked.method == "GET").count();
    let mut opened = blobs.open("waits", "a.csv").await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(asked(), 0, "a file that is not read costs no range");
    opened.chunks.try_next().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(asked(), 2, "one being consumed, one ahead");
    drop(opened);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(asked(), 2, "nothing is fetched for nobody");
}

#[cfg(target_os = "linux")]
mod large {
    use super::*;
    use azure_core::http::Body;
    use azure_storage_blob::models::BlobClientUploadOptions;
    use futures_util::StreamExt;
    use std::num::NonZero;

    const BYTES: usize = 200 * 1024 * 1024;
    const URL: &str = "HDAI_TEST_LARGE_BLOB_ACCOUNT";

    /// Most memory this process ever held, in bytes.
    fn peak_bytes() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    /// In a process of its own, so that no other test's memory is counted.
    #[tokio::test]
    async fn a_large_blob_is_read_in_bounded_memory() {
        let azurite = Azurite::http();
        let container = azurite.container("large").await;
        let upload =
            BlobClientUploadOptions { parallel: NonZero::new(2), partition_size: NonZero::new(8 << 20), ..Default::default() };
        let body = Body::Bytes(pattern(BYTES).into());
        container.blob_client("large.csv").upload(body.into(), Some(upload)).await.unwrap();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "blob_azure::large::read_it_and_tell_the_memory", "--nocapture"])
            .env(URL, azurite.account_url())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        let grown: usize = said.lines().find_map(|line| line.split_once("grown by ")?.1.trim().parse().ok()).expect(&said);
        assert!(grown < 32 << 20, "reading 200 MiB took {grown} bytes of memory");
    }

    #[tokio::test]
    #[ignore = "the other half of a_large_blob_is_read_in_bounded_memory, which starts it"]
    #[expect(clippy::disallowed_methods, reason = "the other half hands the address over")]
    async fn read_it_and_tell_the_memory() {
        let Ok(url) = std::env::var(URL) else { return };
        let blobs = AzureBlobs::with(&url, &Access::Emulator, Limits::default(), None).unwrap();
        let before = peak_bytes();
        let mut opened = blobs.open("large", "large.csv").await.unwrap().unwrap();
        let cycle = pattern(251 * 2000);
        let mut read = 0;
        while let Some(chunk) = opened.chunks.next().await {
            let chunk = chunk.unwrap();
            assert!(cycle[read % 251..][..chunk.len()] == chunk, "other bytes at {read}");
            read += chunk.len();
        }
        assert_eq!(read, BYTES);
        println!("grown by {}", peak_bytes() - before);
    }
}

#[test]
fn the_emulator_ends_with_whoever_started_it() {
    let azurite = Azurite::start(None);
    std::net::TcpStream::connect(azurite.address()).unwrap();
    // Time to fail by itself, if it is going to.
    std::thread::sleep(Duration::from_secs(2));
    let mut orphan = azurite.orphan();
    let begun = Instant::now();
    while orphan.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the emulator lives on");
        std::thread::sleep(Duration::from_millis(20));
    }
}
