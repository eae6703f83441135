//! The handler over a storage account: a file dropped into Azurite, the host's call, the import, the receipt and the tags.

use std::collections::HashMap;

use azure_core::http::RequestContent;
use azure_storage_blob::BlobContainerClient;

use super::*;
use crate::azurite::Azurite;
use crate::azurite::proxy::{Fate, Proxy};

/// A handler over a container of the test's own.
struct Deployment {
    handler: Handler,
    container: BlobContainerClient,
    account_url: String,
    name: String,
    runtime: tokio::runtime::Runtime,
}

impl Deployment {
    fn start(folder: &Path, azurite: &Azurite, account_url: &str, test: &str, vars: &[(&str, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let name = format!("e2e-{test}");
        let container = runtime.block_on(azurite.container(&name));
        let own = [("HDAI_BLOB_STORE", "azure"), ("HDAI_BLOB_ACCOUNT_URL", account_url), ("HDAI_IMPORT_CONTAINER", &name)];
        let handler = Handler::start(&folder.join("state"), &[&own, vars].concat());
        Self { handler, container, account_url: account_url.to_owned(), name, runtime }
    }

    fn drop_blob(&self, name: &str, content: &[u8]) {
        let upload = RequestContent::from(content.to_vec());
        self.runtime.block_on(self.container.blob_client(name).upload(upload, None)).unwrap();
    }

    fn tags(&self, name: &str) -> HashMap<String, String> {
        self.runtime.block_on(async { self.container.blob_client(name).get_tags(None).await.unwrap().into_model().unwrap().into() })
    }

    /// What lies in the container of receipts under this name.
    fn left(&self, azurite: &Azurite, name: &str) -> Vec<u8> {
        let read = async {
            let blobs = azurite.blobs(crate::azurite::impatient());
            let opened = health_data_ai::blob::Blobs::open(&blobs, &format!("{}-receipts", self.name), name).await.unwrap();
            let chunks: Vec<bytes::Bytes> = futures_util::TryStreamExt::try_collect(opened.expect(name).chunks).await.unwrap();
            chunks.concat()
        };
        self.runtime.block_on(read)
    }

    fn uri(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.account_url, self.name)
    }
}

#[test]
fn a_blob_becomes_rows_a_receipt_and_tags() {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::http();
    let it = Deployment::start(folder.path(), azurite, &azurite.account_url(), "receipt", &[("HDAI_LOG", "trace")]);
    let mut content = csv(folder.path(), 200, 1);
    // A row that has too few columns.
    content.extend_from_slice(b"broken,row\n");
    it.drop_blob("2026/11/smith & s\u{f6}n 100%.csv", &content);
    let uri = it.uri("2026/11/smith%20%26%20s%C3%B6n%20100%25.csv");
    let reply = it.handler.done(BLOB, &deferred(&uri));
    assert!(reply["Outputs"]["trainingRequest"]["importId"].is_string(), "{reply}");
    let rows = it.handler.rows("SELECT id, name, state, stored, rejected, sha256 FROM imports");
    let [id, name, state, stored, rejected, hash] = &rows[0][..] else { panic!("{rows:?}") };
    assert_eq!(rows.len(), 1);
    assert_eq!([name.as_str(), state, stored, rejected], ["2026/11/smith & s\u{f6}n 100%.csv", "done", "200", "1"]);
    assert_eq!(*hash, sha256(&content));

    let receipt: Value = serde_json::from_slice(&it.left(azurite, &format!("{id}.receipt.json"))).unwrap();
    assert_eq!((&receipt["state"], &receipt["sha256"]), (&json!("done"), &json!(hash)));
    assert_eq!(receipt["rows"]["stored"], 200);
    let rejects = String::from_utf8(it.left(azurite, &format!("{id}.rejects.csv"))).unwrap();
    assert!(rejects.starts_with("line,column,rule,remedy\n202,"), "{rejects}");
    let expected = [("dataProfile", "ePHI"), ("import", id), ("status", "done")];
    let expected: HashMap<String, String> = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(it.tags("2026/11/smith & s\u{f6}n 100%.csv"), expected);

    // Its tags did not make it another file.
    it.handler.done(BLOB, &deferred(&uri));
    assert_eq!(it.handler.rows("SELECT attempt FROM imports"), [["1"]]);
    // New content of the same name is another; what is no CSV of ours fails for good, and is tagged so.
    it.drop_blob("2026/11/smith & s\u{f6}n 100%.csv", b"not,ours\n1,2\n");
    it.handler.done(BLOB, &deferred(&uri));
    assert_eq!(it.handler.rows("SELECT state FROM imports ORDER BY seq"), [["done"], ["failed"]]);
    assert_eq!(it.tags("2026/11/smith & s\u{f6}n 100%.csv")["status"], "failed");
    // Gone is recorded; another account is refused.
    it.handler.done(BLOB, &deferred(&it.uri("gone.csv")));
    it.handler.done(BLOB, &deferred(&format!("https://other.blob.core.windows.net/{}/a.csv", it.name)));
    assert_eq!(it.handler.count("imports"), 2);
    assert_eq!(it.handler.rows("SELECT outcome FROM audit ORDER BY seq DESC LIMIT 1"), [["refused"]]);

    let log = it.handler.log();
    assert!(log.contains(id) && log.contains("import over"), "{log}");
    for secret in ["smith", "sig=", "devstoreaccount1", "broken,row"] {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
}

/// The platform's endpoint of a managed identity, as App Service and Functions have it, until the test process ends.
pub(crate) fn identity_endpoint(header: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/msi/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = vec![0; 16 * 1024];
            let length = client.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
            let ours = request.contains(&format!("x-identity-header: {header}"))
                && request.contains("resource=https%3a%2f%2fstorage.azure.com")
                || request.contains("resource=https://storage.azure.com");
            let body = if ours {
                let expires = chrono::DateTime::<chrono::Utc>::MAX_UTC.timestamp().min(4_000_000_000).to_string();
                let token = crate::azurite::token("https://storage.azure.com");
                json!({ "access_token": token, "expires_on": expires, "resource": "https://storage.azure.com", "token_type": "Bearer" })
            } else {
                json!({ "error": request })
            };
            let (status, body) = (if ours { "200 OK" } else { "400 Bad Request" }, body.to_string());
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = client.write_all((head + &body).as_bytes());
        }
    });
    url
}

#[test]
fn a_managed_identity_lets_the_handler_in_over_https() {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::https();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, azurite.authority.as_ref().unwrap()).unwrap();
    let endpoint = identity_endpoint("h3ader");
    let vars = [
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
        ("IDENTITY_ENDPOINT", &endpoint),
        ("IDENTITY_HEADER", "h3ader"),
        ("HDAI_LOG", "trace"),
        // Chosen by the account's https alone.
        ("HDAI_BLOB_STORE", ""),
    ];
    let it = Deployment::start(folder.path(), azurite, &azurite.account_url(), "identity", &vars);
    let content = csv(folder.path(), 100, 1);
    it.drop_blob("smith.csv", &content);
    it.handler.done(BLOB, &deferred(&it.uri("smith.csv")));
    assert_eq!(
        it.handler.rows("SELECT state, stored, sha256 FROM imports"),
        [["done".to_owned(), "100".to_owned(), sha256(&content)]]
    );
    assert_eq!(it.tags("smith.csv")["status"], "done");
    let log = it.handler.log();
    let token = crate::azurite::token("https://storage.azure.com");
    assert!(log.contains("import over") && !log.contains("smith") && !log.contains(&token[..30]), "{log}");
}

#[test]
fn a_storage_account_that_is_away_is_worth_another_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let azurite = Azurite::http();
    // The third range breaks off three times and more, until the test relents.
    let relented = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let relents = std::sync::Arc::clone(&relented);
    let proxy = Proxy::before(azurite.address(), move |asked| {
        let spoiled = asked.method == "GET" && asked.start >= Some(8 << 20) && !relents.load(std::sync::atomic::Ordering::SeqCst);
        if spoiled { Fate::Cut(1000) } else { Fate::Pass }
    });
    let it = Deployment::start(folder.path(), azurite, &proxy.account_url(), "away", &[]);
    let mut content = csv(folder.path(), 20_000, 1);
    let header = content.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    // Longer than two ranges: the same encounters over and over.
    let rows = content[header..].to_vec();
    while content.len() < 9 << 20 {
        content.extend_from_slice(&rows);
    }
    it.drop_blob("a.csv", &content);
    let answer = it.handler.post(BLOB, deferred(&it.uri("a.csv")).to_string().into_bytes());
    assert_eq!(answer.status, 503);
    assert_eq!(it.handler.rows("SELECT state FROM imports"), [["running"]]);
    relented.store(true, std::sync::atomic::Ordering::SeqCst);
    it.handler.done(BLOB, &deferred(&it.uri("a.csv")));
    let ledger = it.handler.rows("SELECT state, sha256, stored + updated + unchanged + rejected FROM imports");
    let lines = content.iter().filter(|byte| **byte == b'\n').count() - 1;
    assert_eq!(ledger, [["done".to_owned(), sha256(&content), lines.to_string()]]);
    assert_eq!(it.handler.count("PatientData"), 20_000);
}

#[test]
fn a_start_that_names_no_usable_account_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (vars, named) in [
        (
            &[("HDAI_BLOB_STORE", "azure"), ("HDAI_BLOB_ACCOUNT_URL", "http://acct.blob.core.windows.net")][..],
            "HDAI_BLOB_ACCOUNT_URL",
        ),
        (&[("HDAI_BLOB_STORE", "azure"), ("HDAI_BLOB_ACCOUNT_URL", "http://127.0.0.1:1/other")], "HDAI_BLOB_ACCOUNT_URL"),
        (&[("HDAI_BLOB_STORE", "local"), ("HDAI_BLOB_SAS", "sig=s3cret")], "HDAI_BLOB_SAS"),
    ] {
        let output = serve(folder.path(), vars).env("FUNCTIONS_CUSTOMHANDLER_PORT", "0").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(named) && !said.contains("s3cret"), "{said}");
    }
}
