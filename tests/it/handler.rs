//! The handler as the Functions host meets it: the real process, spoken to over HTTP by the host's contract (its envelopes are written
//! out here by hand, so that the project's own builder cannot hide a mistake of its reader).

pub(crate) mod azure;
mod events;
mod garbage;
mod parts;
mod publish;
mod sign_in;
mod trust;
mod wire;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Records, generate, hdai};

const ACCOUNT: &str = "http://127.0.0.1:10000/devstoreaccount1";
pub(crate) const BLOB: &str = "PatientDataBulkImport";
pub(crate) const QUEUE: &str = "PatientDataImport";

/// `hdai serve`, as the Functions host starts it.
pub(crate) struct Handler {
    pub(crate) child: Child,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    content_type: String,
    pub(crate) body: Value,
}

impl Handler {
    pub(crate) fn start(folder: &Path, vars: &[(&str, &str)]) -> Self {
        Self::launch(folder, || serve(folder, vars))
    }

    /// Starts what `command` makes, which must come to be `hdai serve` in `folder`.
    pub(crate) fn launch(folder: &Path, command: impl Fn() -> Command) -> Self {
        Self::launch_with_errors(folder, Path::new("/dev/null"), command)
    }

    /// Its standard error goes to `errors`.
    pub(crate) fn launch_with_errors(folder: &Path, errors: &Path, command: impl Fn() -> Command) -> Self {
        // Another process may take the port between our look and the handler's.
        std::fs::create_dir_all(folder).unwrap();
        for _ in 0..5 {
            let log = std::fs::File::create(folder.join("handler.log")).unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let errors = std::fs::OpenOptions::new().create(true).append(true).open(errors).unwrap();
            let mut child =
                command().env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()).stdout(log).stderr(errors).spawn().unwrap();
            let begun = Instant::now();
            while child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    return Self { child, port, folder: folder.to_owned(), runtime, client: reqwest::Client::new() };
                }
                assert!(begun.elapsed() < Duration::from_secs(60), "the handler never listened");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        panic!("the handler does not start");
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            let content_type = response.headers().get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
            let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null);
            Answer { status, content_type, body }
        })
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = headers.iter().fold(self.client.get(self.url(path)), |request, (name, value)| request.header(*name, *value));
        self.send(request)
    }

    /// A call of any kind: the status, the headers and the text of its answer.
    pub(crate) fn ask(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, reqwest::header::HeaderMap, String) {
        let request = self.client.request(method, self.url(path.trim_start_matches('/'))).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.runtime.block_on(async {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.headers().clone(), response.text().await.unwrap())
        })
    }

    /// A call as the host makes it: chunked, without a length.
    pub(crate) fn post(&self, function: &str, body: Vec<u8>) -> Answer {
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(body)]));
        self.send(self.client.post(self.url(function)).header("content-type", "application/json; charset=utf-8").body(body))
    }

    /// A call that the host must count as done: anything else would be delivered again.
    pub(crate) fn done(&self, function: &str, envelope: &Value) -> Value {
        let answer = self.post(function, envelope.to_string().into_bytes());
        assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"), "{function} {}", answer.body);
        assert!(answer.body.as_object().is_some_and(|members| !members.is_empty()), "{function} {}", answer.body);
        answer.body
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("handler.log")).unwrap()
    }

    fn drop_file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.join("blobs/trainingdata").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let partial = path.with_extension("partial");
        std::fs::write(&partial, content).unwrap();
        std::fs::rename(partial, &path).unwrap();
        path
    }

    pub(crate) fn database(&self) -> rusqlite::Connection {
        let database = rusqlite::Connection::open(self.folder.join("hdai.db")).unwrap();
        database.busy_timeout(Duration::from_secs(30)).unwrap();
        database
    }

    /// The answers of a statement whose columns are text or numbers.
    pub(crate) fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let database = self.database();
        let mut statement = database.prepare(sql).unwrap();
        let columns = statement.column_count();
        let cell = |row: &rusqlite::Row<'_>, index| match row.get_unwrap(index) {
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Integer(number) => number.to_string(),
            other => format!("{other:?}"),
        };
        let rows = statement.query_map([], |row| Ok((0..columns).map(|index| cell(row, index)).collect())).unwrap();
        rows.map(Result::unwrap).collect()
    }

    pub(crate) fn count(&self, table: &str) -> usize {
        self.rows(&format!("SELECT count(*) FROM {table}"))[0][0].parse().unwrap()
    }

    pub(crate) fn lives(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the handler has ended");
        assert_eq!(self.get("", &[]).status, 200);
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn serve(folder: &Path, vars: &[(&str, &str)]) -> Command {
    let mut command = hdai(folder);
    command.arg("serve").env_remove("WEBSITE_AUTH_ENABLED").env_remove("WEBSITE_INSTANCE_ID").envs(vars.iter().copied());
    command
}

fn delivery(binding: &str, value: Value, uri: &str) -> Value {
    json!({
        "Data": { binding: value },
        "Metadata": {
            "Uri": json!(uri).to_string(), "name": "\"a.csv\"", "Properties": { "ETag": {}, "ContentLength": 1 }, "Metadata": {},
            "sys": { "MethodName": BLOB, "UtcNow": "2026-11-22T05:55:02.1264382Z", "RandGuid": "ca44fda7-c95b-4128-9b3f-fa21ba23644a" },
        }
    })
}

pub(crate) fn deferred(uri: &str) -> Value {
    let content = json!({ "IsEmpty": false, "Length": 88, "MediaType": null });
    let reference =
        json!({ "Version": "1.0", "Source": "AzureStorageBlobs", "Content": content, "ContentType": "application/json" });
    delivery("blob", reference, uri)
}

pub(crate) fn inline(uri: &str, content: &[u8]) -> Value {
    delivery("blob", json!(BASE64_STANDARD.encode(content)), uri)
}

/// A queue message: its text as a JSON string, and that as a string of the envelope.
pub(crate) fn queued(message: &Value) -> Value {
    json!({ "Data": { "item": Value::String(message.to_string()).to_string() }, "Metadata": { "DequeueCount": "1" } })
}

fn uri(name: &str) -> String {
    format!("{ACCOUNT}/trainingdata/{name}")
}

fn csv(folder: &Path, rows: u32, seed: u32) -> Vec<u8> {
    std::fs::read(generate(folder, rows, seed)).unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends these bytes and reads until the handler closes.
fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The handler may answer and close before it has read all.
    let _ = stream.write_all(request);
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    // Closing while something is unread is a reset, after the answer.
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// A call in a thread's own connection; the empty text if the handler went away.
pub(crate) fn post_raw(port: u16, function: &str, body: &str) -> String {
    let head =
        format!("POST /{function} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    raw(port, format!("{head}{body}").as_bytes())
}

#[test]
fn the_edge_of_a_call() {
    const LIMIT: usize = 64 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let mut handler = Handler::start(folder.path(), &[("HDAI_TRIGGER_BYTES_MAX", &LIMIT.to_string())]);
    let begun = Instant::now();
    assert_eq!(handler.get("", &[]).status, 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "the readiness probe took {:?}", begun.elapsed());

    for unknown in ["Nothing", "patientdatabulkimport", "api", "PatientDataBulkImport/x", "%2e%2e", "PatientDataBulkImport%00"] {
        let answer = handler.post(unknown, b"{\"Data\":{}}".to_vec());
        // Below `api` a caller is asked for first.
        assert!([404, 401].contains(&answer.status) && answer.body.is_object(), "{unknown} {}", answer.status);
    }
    assert_eq!(handler.get(BLOB, &[]).status, 404, "a trigger is called by POST");

    let head = |framing: &str| {
        format!("POST /{BLOB} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json; charset=utf-8\r\n{framing}\r\n\r\n")
    };
    // One chunk a byte: a boundary may fall anywhere.
    let body = deferred(&uri("gone.csv")).to_string();
    let chunks: String = body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    let whole = format!("{}{chunks}0\r\n\r\n", head("Transfer-Encoding: chunked\r\nConnection: close"));
    let answer = raw(handler.port, whole.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(answer.contains("\"Logs\""), "{answer}");

    // One byte too many; and far too many without an end, of which the handler reads only so much on.
    let over = "x".repeat(LIMIT + 1);
    let close = "Connection: close\r\n";
    let chunked = format!("{}{:x}\r\n{over}\r\n0\r\n\r\n", head(&format!("{close}Transfer-Encoding: chunked")), over.len());
    let counted = format!("{}{over}", head(&format!("{close}Content-Length: {}", over.len())));
    let endless = format!("{}{}", head("Content-Length: 1000000000000"), "x".repeat(LIMIT + 64 * 1024 * 1024 + 1));
    for request in [chunked, counted, endless] {
        let answer = raw(handler.port, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(!answer.contains("xxx"), "the answer repeats the body");
        handler.lives();
    }
    assert_eq!(handler.count("imports"), 0);
}

#[test]
fn both_blob_shapes_and_a_second_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(&folder.path().join("state"), &[]);
    let first = csv(folder.path(), 50, 1);
    handler.drop_file("2026/11/a b.csv", &first);
    let reply = handler.done(BLOB, &deferred(&uri("2026/11/a%20b.csv")));
    let ledger = "SELECT name, state, attempt, stored, sha256 FROM imports ORDER BY seq";
    let entry = |name: &str, stored: &str, content: &[u8]| {
        vec![name.to_owned(), "done".to_owned(), "1".to_owned(), stored.to_owned(), sha256(content)]
    };
    assert_eq!(handler.rows(ledger), [entry("2026/11/a b.csv", "50", &first)]);
    assert!(reply["Outputs"]["trainingRequest"]["importId"].is_string(), "{reply}");

    // Delivered again, also by the other way in: the same ledger entry, the same attempt, the same record.
    let before = Records::read(&handler.folder);
    handler.done(BLOB, &deferred(&uri("2026/11/a%20b.csv")));
    handler.done(BLOB, &inline(&uri("2026/11/a%20b.csv"), &first));
    let reply = handler.done(QUEUE, &queued(&json!({ "url": uri("2026/11/a%20b.csv") })));
    assert!(reply["Logs"][0].as_str().unwrap().contains("was over before"), "{reply}");
    assert_eq!(handler.rows(ledger), [entry("2026/11/a b.csv", "50", &first)]);
    assert_eq!(Records::read(&handler.folder), before);

    // The content in the call, with the file there and with the file gone.
    let second = csv(folder.path(), 60, 2);
    handler.drop_file("b.csv", &second);
    handler.done(BLOB, &inline(&uri("b.csv"), &second));
    let third = csv(folder.path(), 70, 3);
    handler.done(BLOB, &inline(&uri("c.csv"), &third));
    handler.done(BLOB, &inline(&uri("c.csv"), &third));
    let expected = [entry("2026/11/a b.csv", "50", &first), entry("b.csv", "10", &second), entry("c.csv", "10", &third)];
    assert_eq!(handler.rows(ledger), expected);
    // A reference to nothing is recorded and not repeated.
    handler.done(BLOB, &deferred(&uri("gone.csv")));
    assert_eq!(handler.count("imports"), 3);
    assert_eq!(handler.count("PatientData"), 70);

    // The queue's message alone.
    handler.drop_file("d.csv", &csv(folder.path(), 80, 4));
    handler.done(QUEUE, &queued(&json!({ "url": uri("d.csv") })));
    assert_eq!(handler.count("PatientData"), 80);
}

#[test]
fn an_inline_payload_never_stands_in_for_a_newer_blob_of_the_same_length() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(&folder.path().join("state"), &[]);
    let old = csv(folder.path(), 20, 1);
    let mut new = old.clone();
    // Another day of the month in the last row that has one.
    let digit = new.iter().rposition(u8::is_ascii_digit).unwrap();
    new[digit] = if new[digit] == b'1' { b'2' } else { b'1' };
    handler.drop_file("a.csv", &new);
    handler.done(BLOB, &inline(&uri("a.csv"), &old));
    handler.done(BLOB, &inline(&uri("a.csv"), &new));
    let hashes = handler.rows("SELECT sha256 FROM imports ORDER BY seq");
    assert_eq!(hashes.last().unwrap()[0], sha256(&new), "the newer content passed for imported");
}

#[test]
fn a_record_that_is_away_is_worth_another_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(&folder.path().join("state"), &[("HDAI_CALL_SECONDS_MAX", "3")]);
    handler.drop_file("a.csv", &csv(folder.path(), 50, 1));
    let database = handler.database();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let answer = handler.post(BLOB, deferred(&uri("a.csv")).to_string().into_bytes());
    assert_eq!(answer.status, 503);
    assert!(answer.body.is_object());
    // What needs no record goes on.
    let event =
        json!({ "id": "1", "eventType": "Microsoft.Storage.BlobCreated", "data": { "api": "PutBlob", "url": uri("a.csv") } });
    let reply = handler.done("PatientDataEvents", &json!({ "Data": { "event": event } }));
    assert_eq!(reply["Outputs"]["importRequests"], json!([{ "url": uri("a.csv") }]));
    database.execute_batch("ROLLBACK").unwrap();
    redeliver(&handler, &deferred(&uri("a.csv")));
    assert_eq!(handler.rows("SELECT state, stored FROM imports"), [["done", "50"]]);

    // A receipt that cannot be written holds no row back, and another delivery makes up for it.
    let receipts = handler.folder.join("blobs/trainingdata-receipts");
    std::fs::remove_dir_all(&receipts).unwrap();
    std::fs::write(&receipts, "in the way").unwrap();
    handler.drop_file("b.csv", &csv(folder.path(), 60, 2));
    assert_eq!(handler.post(BLOB, deferred(&uri("b.csv")).to_string().into_bytes()).status, 503);
    assert_eq!(handler.count("PatientData"), 60);
    std::fs::remove_file(&receipts).unwrap();
    handler.done(BLOB, &deferred(&uri("b.csv")));
    assert_eq!(handler.rows("SELECT count(*) FROM imports WHERE state = 'done'"), [["2"]]);
    assert_eq!(std::fs::read_dir(&receipts).unwrap().count(), 1);
}

/// Delivers until it succeeds, as the host does.
fn redeliver(handler: &Handler, envelope: &Value) {
    for _ in 0..20 {
        match handler.post(BLOB, envelope.to_string().into_bytes()).status {
            200 => return,
            status => assert_eq!(status, 503),
        }
    }
    panic!("the delivery never succeeded");
}

#[cfg(target_os = "linux")]
#[test]
fn a_blob_overwritten_while_it_is_imported_ends_as_its_new_content() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(&folder.path().join("state"), &[]);
    let path = handler.drop_file("a.csv", &csv(folder.path(), 300, 1));
    let new = csv(folder.path(), 300, 2);
    // The lock holds the import back between opening the file and reading it.
    let database = handler.database();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (port, body) = (handler.port, deferred(&uri("a.csv")).to_string());
    let call = std::thread::spawn(move || post_raw(port, BLOB, &body));
    let is_open = || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", handler.child.id())).unwrap();
        open.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == path.canonicalize().unwrap()))
    };
    let begun = Instant::now();
    while !is_open() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the blob is never opened");
        std::thread::sleep(Duration::from_millis(5));
    }
    handler.drop_file("a.csv", &new);
    database.execute_batch("ROLLBACK").unwrap();
    let answer = call.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    redeliver(&handler, &deferred(&uri("a.csv")));
    assert_eq!(
        handler.rows("SELECT sha256, stored + updated + unchanged FROM imports WHERE state = 'done'"),
        [[sha256(&new), "300".into()]]
    );

    let clean = Handler::start(&folder.path().join("clean"), &[]);
    clean.drop_file("a.csv", &new);
    clean.done(BLOB, &deferred(&uri("a.csv")));
    assert_eq!(Records::read(&handler.folder).patients_without_import(), Records::read(&clean.folder).patients_without_import());
}

#[test]
fn training_is_asked_for_again_only_when_that_can_help() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(&folder.path().join("state"), &[]);
    let request = |changed: &str| queued(&json!({ "importId": "x", "dataChanged": changed }));
    // Too few rows: no repetition can cure that.
    for (function, envelope) in [
        ("TrainLengthOfStay", request("2026-11-22T05:55:02.126438Z")),
        ("TrainLengthOfStaySchedule", json!({ "Data": { "timer": {} } })),
    ] {
        let reply = handler.done(function, &envelope);
        assert!(reply["Logs"][0].as_str().unwrap().contains("at least"), "{reply}");
    }
    assert_eq!(handler.rows("SELECT outcome FROM audit"), [["failure"], ["failure"]]);

    handler.drop_file("a.csv", &csv(folder.path(), 300, 1));
    let imported = handler.done(BLOB, &deferred(&uri("a.csv")));
    let asked = queued(&imported["Outputs"]["trainingRequest"]);
    handler.done("TrainLengthOfStay", &asked);
    assert_eq!(handler.count("models"), 1);
    // The same request again, and an older one, find a model that knows their rows.
    for envelope in [asked, request("2001-01-01T00:00:00Z")] {
        let reply = handler.done("TrainLengthOfStay", &envelope);
        assert!(reply["Logs"][0].as_str().unwrap().contains("newer model"), "{reply}");
    }
    assert_eq!(handler.count("models"), 1);
}
