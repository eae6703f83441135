//! What the Functions host delivers: envelopes, events, addresses of blobs.

use chrono::DateTime;
use health_data_ai::codec::blob_url::BlobUrl;
use health_data_ai::codec::envelope::delivery::{self, BlobFacts, QueueMessage, Sys, TimerStatus};
use health_data_ai::codec::envelope::{BlobContent, Invocation};
use health_data_ai::codec::event_grid::{self, BLOB_CREATED, EVENTS_MAX, Wanted};
use health_data_ai::error::Kind;
use serde_json::{Value, json};

use super::{CANARY, CANARY_NUMBER, Target, Verdict, must, quiet};

const ACCOUNT: &str = "https://acct.blob.core.windows.net";

fn sys() -> Sys<'static> {
    let now = DateTime::from_timestamp(1_795_327_112, 0).unwrap();
    Sys { function: "PatientDataImport", now, rand_guid: "ca44fda7-c95b-4128-9b3f-fa21ba23644a".to_owned() }
}

fn facts(uri: &str) -> BlobFacts {
    BlobFacts {
        uri: uri.to_owned(),
        token: Some(("name".to_owned(), "2026/a b.csv".to_owned())),
        length_bytes: 3,
        content_type: "text/csv".to_owned(),
        last_modified: sys().now,
    }
}

fn queue(text: &str) -> Value {
    let time = sys().now;
    let message = QueueMessage {
        id: "800ae4b3".to_owned(),
        text: text.to_owned(),
        dequeue_count: 2,
        pop_receipt: "AgAAAA".to_owned(),
        inserted: time,
        expires: time,
        next_visible: time,
    };
    delivery::queue(&sys(), "item", &message)
}

fn event() -> Value {
    json!({
        "topic": "/subscriptions/s/storageAccounts/acct", "subject": format!("/blobServices/default/{CANARY}"), "eventType": BLOB_CREATED,
        "id": "831e1650", "eventTime": "2026-11-22T05:41:00.9584103Z", "dataVersion": "", "metadataVersion": "1",
        "data": { "api": "PutBlockList", "eTag": "\"0x8D\"", "contentLength": 524_288, "url": format!("{ACCOUNT}/incoming/a%20b.csv") },
    })
}

fn events() -> Vec<Value> {
    let vault = json!({ "VaultName": "v", "ObjectName": "sql", "ObjectType": "Secret", "EXP": 1_795_000_000 });
    vec![
        event(),
        json!({ "specversion": "1.0", "type": BLOB_CREATED, "source": "s", "id": "1", "time": "2026-11-22T06:41:00+01:00", "data": event()["data"] }),
        json!([event(), { "id": "2", "eventType": "Microsoft.KeyVault.SecretNearExpiry", "data": vault }, 1, null]),
        json!(event().to_string()),
    ]
}

fn words(more: &[&str]) -> Vec<String> {
    let names = [
        "Data",
        "Metadata",
        "item",
        "blob",
        "event",
        "req",
        "Uri",
        "name",
        "DequeueCount",
        "Url",
        "Method",
        "Headers",
        "Body",
        "specversion",
        "eventType",
        "data",
        "url",
        "contentLength",
        "\\\"",
        "\\\\\\\"",
        "aWQ=",
        "Microsoft.KeyVault.KeyExpired",
        "EXP",
        "VaultName",
        BLOB_CREATED,
    ];
    names.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

const URLS: [&str; 16] = [
    "https://",
    "http://127.0.0.1:10000/",
    "http://localhost/",
    "http://[::1]:80/",
    ".dfs.core.",
    ".blob.core.",
    ".dfs.core.dfs.core.",
    "%2F",
    "%00",
    "%ff",
    "%25",
    "?sv=",
    "#",
    "//",
    "@",
    "..",
];

#[test]
fn an_envelope_gives_what_the_host_put_in_or_is_refused_without_its_values() {
    let call = delivery::HttpCall {
        url: format!("http://h/api/audit?{CANARY}"),
        method: "GET".to_owned(),
        query: serde_json::Map::new(),
        headers: serde_json::Map::new(),
        params: serde_json::Map::new(),
        identities: Vec::new(),
        body: Some(CANARY.to_owned()),
    };
    let status = TimerStatus { last: sys().now, next: sys().now, updated: sys().now };
    let mut seeds = vec![
        queue("{\"url\":\"https://acct.blob.core.windows.net/incoming/a.csv\"}"),
        queue(&json!({ "importId": CANARY, "part": 3 }).to_string()),
        delivery::blob(&sys(), "blob", &facts("https://acct.blob.core.windows.net/incoming/a.csv"), Some(CANARY.into())),
        delivery::blob(&sys(), "blob", &facts("http://127.0.0.1:10000/devstoreaccount1/incoming/42"), None),
        delivery::timer(&sys(), "timer", Some(status), false),
        delivery::http(&sys(), "req", call),
    ];
    seeds.extend(events().into_iter().map(|event| delivery::event_grid(&sys(), "event", event)));
    let seeds = seeds.iter().map(|seed| seed.to_string().into_bytes()).collect();
    let target = Target { name: "envelope", inputs: 8_000, seeds, words: words(&URLS) };
    target.hold(|input| {
        wrapped(input)?;
        let mut call = match Invocation::decode(input) {
            Ok(call) => call,
            Err(error) => {
                must(error.kind() == Kind::Invalid, "a bad envelope is not called invalid")?;
                return quiet(&format!("{error} {error:?}"));
            }
        };
        let envelope: Value = serde_json::from_slice(input).map_err(|_| "an envelope that is no JSON")?;
        // `Debug` prints the names of bindings, and only those.
        let named = |part: &str| envelope[part].as_object().is_some_and(|all| all.keys().any(|key| quiet(key).is_err()));
        if !named("Data") && !named("Metadata") {
            quiet(&format!("{call:?}"))?;
        }
        for name in ["item", "blob", "event", "req", "timer"] {
            must(call.data(name).is_some() == envelope["Data"].get(name).is_some(), "a binding is lost")?;
            if let Some(message) = call.message(name) {
                must(
                    !message.is_string() || call.data(name).is_some_and(|data| data.is_string()),
                    "a message is unwrapped too often",
                )?;
            }
        }
        if let Some(address) = call.blob_uri().and_then(|uri| BlobUrl::parse(&uri)) {
            steady(&address)?;
        }
        let _ = (call.blob_name(), call.dequeue_count(), call.metadata("Properties"));
        if let Some(delivery) = call.data("event") {
            delivered(&delivery)?;
        }
        match call.take_blob("blob") {
            Ok(content) => quiet(&format!("{content:?}"))?,
            Err(error) => quiet(&format!("{error} {error:?}"))?,
        }
        must(call.data("blob").is_none(), "a blob can be taken twice")
    });
}

/// `input`, as the content of a blob and as the text of a message: what the host wraps is unwrapped to itself.
fn wrapped(input: &[u8]) -> Verdict {
    let decode = |envelope: Value| Invocation::decode(envelope.to_string().as_bytes()).map_err(|error| error.to_string());
    let mut call = decode(delivery::blob(&sys(), "blob", &facts("https://a/b/c"), Some(input.to_vec())))?;
    let content = call.take_blob("blob").map_err(|error| error.to_string())?;
    must(content == BlobContent::Inline(input.to_vec()), "a blob is altered on its way")?;
    let Ok(text) = std::str::from_utf8(input) else { return Ok(()) };
    let call = decode(queue(text))?;
    must(call.data("item").is_some_and(|data| data.as_str() == Some(text)), "a message is altered on its way")?;
    must(call.message("item") == serde_json::from_str(text).ok(), "a message's JSON is altered on its way")
}

/// What the trigger reads of a delivery of events.
fn delivered(delivery: &Value) -> Verdict {
    let (events, rejects) = event_grid::decode(delivery);
    if let Value::Array(items) = delivery {
        let over = usize::from(items.len() > EVENTS_MAX);
        must(events.len() + rejects.len() == items.len().min(EVENTS_MAX) + over, "an event is lost")?;
    }
    quiet(&format!("{rejects:?}"))?;
    let suffixes = [".csv".to_owned()];
    let wanted = Wanted { account_url: ACCOUNT, container: "incoming", suffixes: &suffixes };
    for event in &events {
        must(!event.id.is_empty() && !event.kind.is_empty(), "an event without id or type")?;
        if let Some(created) = event.blob_created() {
            steady(&created.blob)?;
        }
        if let Ok(blob) = wanted.blob(event) {
            must(blob.to_string().starts_with(&format!("{ACCOUNT}/incoming/")), "a blob from elsewhere is wanted")?;
        }
        if let Some(expiry) = event.vault_expiry() {
            let plain = |name: &str| name.len() <= 127 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            must(plain(&expiry.vault) && plain(&expiry.object), "a name that no vault can hold")?;
        }
    }
    Ok(())
}

/// An address, written and read, is the same address, on one line.
fn steady(address: &BlobUrl) -> Verdict {
    let text = address.to_string();
    must(!text.chars().any(char::is_control), "a control character in an address")?;
    must(BlobUrl::parse(&text).as_ref() == Some(address), "an address reads differently when it is read again")
}

#[test]
fn a_delivery_of_events_loses_none_and_its_blobs_have_steady_addresses() {
    let mut seeds: Vec<Vec<u8>> = events().iter().map(|event| event.to_string().into_bytes()).collect();
    seeds.push(format!("[{CANARY_NUMBER},\"{CANARY}\"]").into_bytes());
    let target = Target { name: "events", inputs: 20_000, seeds, words: words(&URLS) };
    target.hold(|input| {
        let (events, rejects) = event_grid::decode_slice(input);
        must(
            !events.is_empty()
                || !rejects.is_empty()
                || serde_json::from_slice(input).is_ok_and(|value: Value| holds_nothing(&value)),
            "nothing is told of a delivery",
        )?;
        quiet(&format!("{rejects:?}"))?;
        serde_json::from_slice::<Value>(input).map_or(Ok(()), |delivery| delivered(&delivery))
    });
}

/// An empty batch, also as text.
fn holds_nothing(delivery: &Value) -> bool {
    match delivery {
        Value::Array(items) => items.is_empty(),
        Value::String(text) => serde_json::from_str::<Value>(text).is_ok_and(|inner| inner.is_array() && holds_nothing(&inner)),
        _ => false,
    }
}

#[test]
fn a_blobs_address_is_steady() {
    let seeds = [
        "https://acct.blob.core.windows.net/incoming/2026/11/a%20b.csv?sv=1",
        "https://acct.dfs.core.windows.net/incoming/a.csv",
        "http://127.0.0.1:10000/devstoreaccount1/trainingdata/a.csv",
        "http://[::1]:10000/devstoreaccount1/$web/字.csv",
    ];
    let seeds = seeds.map(|url| url.as_bytes().to_vec()).to_vec();
    let target = Target { name: "blob-url", inputs: 40_000, seeds, words: URLS.map(str::to_owned).to_vec() };
    target.hold(|input| BlobUrl::parse(&String::from_utf8_lossy(input)).map_or(Ok(()), |address| steady(&address)));
}
