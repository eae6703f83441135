//! The local Functions host against real handler processes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which Clippy does not take for tests")]

mod blobs;
mod events;
mod faults;
mod front;
mod handler;
mod queues;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use health_data_ai::host::{self, HttpMode, Options, Running, Sources};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The host's fixture handler: Python's standard library only.
const HANDLER: &str = "host/handler.py";

/// A staged app with the fixture as its handler.
struct Fixture {
    dir: TempDir,
    options: Options,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(host::embedded())
    }

    fn with(sources: Sources) -> Fixture {
        let dir = TempDir::new().unwrap();
        // A call every minute would come between those that a test counts.
        let timer = json!({ "name": "timer", "type": "timerTrigger", "direction": "in", "schedule": "0 0 0 29 2 *" });
        let sources = sources.with("functions/PublishEvents/function.json", json!({ "bindings": [timer] }).to_string());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(HANDLER);
        host::stage(&sources, &script, &dir.path().join("app")).unwrap();
        let options = Fixture::options_in(dir.path());
        Fixture { dir, options }
    }

    fn options_in(dir: &Path) -> Options {
        let mut options = Options::new(dir.join("app"), dir.join("state"), dir.join("blobs"));
        options.port = 0;
        options.timing.queue_poll = Duration::from_millis(50);
        options.timing.blob_poll = Duration::from_millis(50);
        options.timing.blob_settle = Duration::from_millis(150);
        options.timing.retry_after = Duration::from_millis(20);
        options
    }

    /// What the handler shall do.
    fn control(&self, control: Value) {
        let path = self.options.app_dir.join("control.json");
        std::fs::write(path.with_extension("new"), control.to_string()).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    }

    async fn start(&self) -> Running {
        host::start(self.options.clone()).await.unwrap()
    }

    fn records(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.options.app_dir.join(file)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The calls at `path` so far.
    fn calls(&self, path: &str) -> Vec<Value> {
        self.records("calls.jsonl").into_iter().filter(|call| call["path"] == path).collect()
    }

    async fn calls_reach(&self, path: &str, count: usize) -> Vec<Value> {
        eventually(|| self.calls(path).len() >= count).await;
        self.calls(path)
    }

    fn blob(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join("blobs/trainingdata").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
}

/// Polls until `done`, for at most ten seconds.
async fn eventually(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(10), "did not happen within ten seconds");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn url(running: &Running, path: &str) -> String {
    format!("http://{}{path}", running.http())
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// The envelope that a call carried.
fn envelope(call: &Value) -> Value {
    serde_json::from_str(call["body"].as_str().unwrap()).unwrap()
}

fn header<'a>(call: &'a Value, name: &str) -> Option<&'a str> {
    call["headers"].as_array().unwrap().iter().find(|pair| pair[0] == name).and_then(|pair| pair[1].as_str())
}

/// Starts `function` by hand.
async fn fire(running: &Running, function: &str, input: Value) -> u16 {
    let body = json!({ "input": input }).to_string();
    let sent = client().post(url(running, &format!("/admin/functions/{function}"))).body(body).send().await.unwrap();
    sent.status().as_u16()
}

/// With the HTTP mode changed in `host.json` itself.
fn in_mode(mode: HttpMode) -> Sources {
    let (_, text) = host::embedded().files().iter().find(|(path, _)| path == "host.json").unwrap().clone();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["customHandler"]["enableProxyingHttpRequest"] = json!(mode == HttpMode::Proxy);
    json["customHandler"]["enableForwardingHttpRequest"] = json!(mode == HttpMode::Forward);
    host::embedded().with("host.json", json.to_string())
}
