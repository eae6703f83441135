//! The local host over a storage account: a blob put into Azurite, the listing, the real handler, the ledger and the receipt.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use azure_core::http::RequestContent;
use azure_storage_blob::BlobContainerClient;
use health_data_ai::blob::Blobs;
use serde_json::Value;

use crate::azurite::proxy::{Fate, Proxy};
use crate::azurite::{Azurite, impatient, signature};
use crate::handler::azure::identity_endpoint;
use crate::support::{Host, Records, generate, hdai};

/// A host over a container of the test's own.
struct Deployment {
    host: Host,
    container: BlobContainerClient,
    name: String,
    runtime: tokio::runtime::Runtime,
}

impl Deployment {
    fn start(folder: &Path, azurite: &Azurite, account_url: &str, test: &str, args: &[&str], vars: &[(&str, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let name = format!("host-{test}");
        let container = runtime.block_on(azurite.container(&name));
        let own = [("HDAI_BLOB_STORE", "azure"), ("HDAI_BLOB_ACCOUNT_URL", account_url), ("HDAI_IMPORT_CONTAINER", &name)];
        let host = Host::start_with(&folder.join("state"), args, &[&own, vars].concat());
        Self { host, container, name, runtime }
    }

    fn upload(&self, name: &str, content: Vec<u8>) {
        self.runtime.block_on(self.container.blob_client(name).upload(RequestContent::from(content), None)).unwrap();
    }

    fn receipt(&self, azurite: &Azurite, import: &Value) -> Value {
        let name = format!("{}.receipt.json", import["importId"].as_str().unwrap());
        let read = async || {
            let opened = azurite.blobs(impatient()).open(&format!("{}-receipts", self.name), &name).await;
            // It is written just after the ledger is closed, and its container is made by the first.
            let chunks: Vec<bytes::Bytes> = futures_util::TryStreamExt::try_collect(opened.ok()??.chunks).await.unwrap();
            Some(chunks.concat())
        };
        let bytes = self.runtime.block_on(async {
            for _ in 0..400 {
                if let Some(bytes) = read().await {
                    return bytes;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("there is no receipt: {}", self.host.log())
        });
        serde_json::from_slice(&bytes).unwrap()
    }

    fn ledger(&self) -> Vec<String> {
        let database = rusqlite::Connection::open(self.host.folder.join("hdai.db")).unwrap();
        let mut statement = database.prepare("SELECT state FROM imports ORDER BY seq").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

fn rows(folder: &Path, count: u32, seed: u32) -> Vec<u8> {
    std::fs::read(generate(folder, count, seed)).unwrap()
}

#[test]
fn a_blob_in_an_account_is_imported_once_a_version() {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::http();
    let signature = signature("rwlct", "2099-01-01T00:00:00Z");
    let vars = [("HDAI_BLOB_SAS", signature.as_str())];
    let mut it = Deployment::start(folder.path(), azurite, &azurite.account_url(), "sas", &[], &vars);
    it.upload("2026/smith & son 1.csv", rows(folder.path(), 60, 1));
    let import = it.host.await_import("2026/smith & son 1.csv");
    assert_eq!((&import["state"], import["rows"]["stored"].as_u64()), (&"done".into(), Some(60)));
    let receipt = it.receipt(azurite, &import);
    assert_eq!((&receipt["state"], &receipt["sha256"]), (&import["state"], &import["sha256"]));

    // Killed and started anew: what was delivered is not delivered again, what came meanwhile is.
    it.host.kill();
    it.upload("meanwhile.csv", rows(folder.path(), 70, 2));
    let own = [
        ("HDAI_BLOB_STORE", "azure"),
        ("HDAI_BLOB_ACCOUNT_URL", &azurite.account_url()),
        ("HDAI_IMPORT_CONTAINER", it.name.as_str()),
    ];
    it.host = Host::start_with(&folder.path().join("state"), &["--inline-blobs"], &[&own, &vars[..]].concat());
    assert_eq!(it.host.await_import("meanwhile.csv")["state"], "done");
    assert_eq!(it.ledger(), ["done", "done"]);
    // A new version of the first.
    it.upload("2026/smith & son 1.csv", rows(folder.path(), 80, 3));
    let begun = Instant::now();
    while it.ledger().len() < 3 || it.ledger().iter().any(|state| state == "running") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", it.host.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(Records::read(&it.host.folder).imports.len(), 3);
    let log = it.host.log();
    for secret in ["smith", "sig="] {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
}

#[test]
fn a_token_lets_the_host_and_its_handler_in_over_https_and_events_lead_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::https();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, azurite.authority.as_ref().unwrap()).unwrap();
    let endpoint = identity_endpoint("h0ader");
    let vars = [("SSL_CERT_FILE", authority.to_str().unwrap()), ("IDENTITY_ENDPOINT", &endpoint), ("IDENTITY_HEADER", "h0ader")];
    let args = ["--event-grid", "cloud-events", "--event-time-scale", "0.01"];
    let it = Deployment::start(folder.path(), azurite, &azurite.account_url(), "token", &args, &vars);
    it.upload("a.csv", rows(folder.path(), 60, 1));
    // Where an identity of Azure's is, nobody signs in with a token of the development issuer: the record itself is asked.
    let begun = Instant::now();
    let migrated = || it.host.log().contains("\"ready\"");
    while !migrated() || it.ledger() != ["done"] {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", it.host.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let id: String = rusqlite::Connection::open(it.host.folder.join("hdai.db"))
        .unwrap()
        .query_row("SELECT id FROM imports", [], |row| row.get(0))
        .unwrap();
    assert_eq!(it.receipt(azurite, &serde_json::json!({ "importId": id }))["rows"]["stored"], 60);
    assert!(it.host.log().contains("an event was delivered"));
}

#[test]
fn a_blob_that_cannot_be_read_is_poison_and_is_imported_once_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::http();
    let relented = Arc::new(AtomicBool::new(false));
    let relents = Arc::clone(&relented);
    // The content breaks off; names and listings go through.
    let proxy = Proxy::before(azurite.address(), move |asked| {
        let content = asked.method == "GET" && asked.start.is_some();
        if content && !relents.load(Ordering::SeqCst) { Fate::Cut(10) } else { Fate::Pass }
    });
    let url = proxy.account_url();
    let it = Deployment::start(folder.path(), azurite, &url, "poison", &[], &[]);
    it.upload("a.csv", rows(folder.path(), 60, 1));
    let queues = rusqlite::Connection::open(it.host.folder.join("host/queues.db")).unwrap();
    queues.busy_timeout(Duration::from_secs(10)).unwrap();
    let poison = || -> u32 {
        queues.query_row("SELECT count(*) FROM message WHERE queue = 'webjobs-blobtrigger-poison'", [], |row| row.get(0)).unwrap()
    };
    let begun = Instant::now();
    while poison() == 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "{}", it.host.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(it.host.log().contains("the delivery failed and will be repeated"), "the handler itself refused");
    relented.store(true, Ordering::SeqCst);
    let output = hdai(&it.host.folder).args(["imports", "replay"]).output().unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains("1 put back"), "{output:?}");
    let import = it.host.await_import("a.csv");
    assert_eq!((&import["state"], import["rows"]["stored"].as_u64()), (&"done".into(), Some(60)));
    assert_eq!(it.ledger(), ["done"]);
    assert_eq!(it.receipt(azurite, &import)["state"], "done");
}

#[test]
fn an_account_without_the_container_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::http();
    let vars =
        [("HDAI_BLOB_STORE", "azure"), ("HDAI_BLOB_ACCOUNT_URL", &azurite.account_url()), ("HDAI_IMPORT_CONTAINER", "host-none")];
    let host = Host::start_with(&folder.path().join("state"), &[], &vars);
    let begun = Instant::now();
    while !host.log().contains("no such container") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", host.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(host.log().matches("no such container").count(), 1, "{}", host.log());
    assert_eq!(host.get("/api/imports").0, 200, "the rest of the host works");
}
