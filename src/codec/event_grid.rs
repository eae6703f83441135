//! Event Grid deliveries, in the Event Grid schema and in CloudEvents 1.0, read into one form.
//! It does not know who may send one: a delivery is a claim, to be checked against storage before it is believed.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::blob_url::BlobUrl;

/// The most events read from one delivery: Event Grid's own limit for a batch.
pub const EVENTS_MAX: usize = 5_000;

/// The event type that says a blob was written.
pub const BLOB_CREATED: &str = "Microsoft.Storage.BlobCreated";

/// The storage operations after which a blob is whole (learn.microsoft.com, "Azure Blob Storage as an Event Grid source"). Others, such as
/// `CreateFile`, `SftpCreate` and `AppendFile`, say that one has begun; the one that ends it follows. What nobody knows yet is refused.
pub const WHOLE_BLOB_APIS: [&str; 5] = ["PutBlob", "PutBlockList", "CopyBlob", "FlushWithClose", "SftpCommit"];

/// One event, whichever schema it came in. `Debug` does not print its data.
#[derive(Clone, PartialEq)]
pub struct Event {
    /// The publisher's id; a redelivery keeps it.
    pub id: String,
    /// `eventType`, or CloudEvents' `type`.
    pub kind: String,
    /// `topic`, or CloudEvents' `source`; empty if absent.
    pub source: String,
    /// `subject`; empty if absent.
    pub subject: String,
    /// `eventTime`, or CloudEvents' `time`; `None` if absent or not RFC 3339.
    pub time: Option<DateTime<Utc>>,
    /// `data`; null if absent.
    pub data: Value,
}

/// A blob was written; small enough to be a queue message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobCreated {
    /// Account, container and percent-decoded name.
    #[serde(flatten)]
    pub blob: BlobUrl,
    /// The entity tag without quotes, if the event has one.
    pub etag: Option<String>,
    /// The length in bytes, if the event has one.
    pub content_length: Option<u64>,
    /// The storage operation, such as `PutBlob`, `PutBlockList`, `FlushWithClose`; empty if absent.
    pub api: String,
}

/// A secret, key or certificate of a Key Vault ends, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultExpiry {
    /// The vault's name.
    pub vault: String,
    /// The object's name.
    pub object: String,
    /// `Secret`, `Key` or `Certificate`.
    pub object_type: &'static str,
    /// Has it ended already?
    pub expired: bool,
    /// When it ends; `None` if the event does not say.
    pub at: Option<DateTime<Utc>>,
}

/// An event that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Its place in the delivery, from 0.
    pub index: usize,
    /// Why; never holds a value of the event.
    pub reason: &'static str,
}

/// Why an event brings nothing in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unwanted {
    /// It is no event of a written blob.
    Kind,
    /// Its blob lies in another account or container.
    Place,
    /// The blob is not whole yet, or nobody knows whether it is.
    Api,
    /// The blob is put down empty, as some clients do before they fill it.
    Empty,
    /// The blob's name has none of the endings asked for.
    Suffix,
}

impl Unwanted {
    /// What it is called in a log.
    pub const fn name(self) -> &'static str {
        match self {
            Unwanted::Kind => "of another kind",
            Unwanted::Place => "of another account or container",
            Unwanted::Api => "of an operation that ends no blob",
            Unwanted::Empty => "of an empty blob",
            Unwanted::Suffix => "of a name with another ending",
        }
    }
}

/// Which events bring a blob in.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The account's address, without a trailing slash.
    pub account_url: &'a str,
    /// The container.
    pub container: &'a str,
    /// Endings of names, in lower case; none for every name.
    pub suffixes: &'a [String],
}

impl Wanted<'_> {
    /// The blob that `event` brings in.
    ///
    /// # Errors
    /// Why it brings none in.
    pub fn blob(&self, event: &Event) -> Result<BlobUrl, Unwanted> {
        let created = event.blob_created().ok_or(Unwanted::Kind)?;
        if created.blob.account_url != self.account_url || created.blob.container != self.container {
            return Err(Unwanted::Place);
        }
        if !WHOLE_BLOB_APIS.contains(&created.api.as_str()) {
            return Err(Unwanted::Api);
        }
        // Not every account tells a length at the end of a file.
        if created.content_length == Some(0) && created.api != "FlushWithClose" {
            return Err(Unwanted::Empty);
        }
        let name = created.blob.name.to_lowercase();
        match self.suffixes.is_empty() || self.suffixes.iter().any(|suffix| name.ends_with(suffix)) {
            true => Ok(created.blob),
            false => Err(Unwanted::Suffix),
        }
    }
}

impl Event {
    /// The blob that this event says was written; `None` for other events and for an address that is no blob's.
    pub fn blob_created(&self) -> Option<BlobCreated> {
        if self.kind != BLOB_CREATED {
            return None;
        }
        let text = |name: &str| self.data.get(name).and_then(Value::as_str);
        Some(BlobCreated {
            blob: BlobUrl::parse(text("url")?)?,
            etag: text("eTag").map(|etag| etag.trim_matches('"').to_owned()).filter(|etag| !etag.is_empty()),
            content_length: self.data.get("contentLength").and_then(Value::as_u64),
            api: text("api").unwrap_or_default().to_owned(),
        })
    }

    /// What of a Key Vault ends soon or has ended (`Microsoft.KeyVault.SecretNearExpiry` and the like); `None` for other events. A name
    /// that no vault can hold is left empty: an event is a claim.
    pub fn vault_expiry(&self) -> Option<VaultExpiry> {
        let what = self.kind.strip_prefix("Microsoft.KeyVault.")?;
        let object_type = ["Secret", "Key", "Certificate"].into_iter().find(|object| what.starts_with(object))?;
        let expired = match what.strip_prefix(object_type)? {
            "NearExpiry" => false,
            "Expired" => true,
            _ => return None,
        };
        let name = |member: &str| {
            let text = self.data.get(member).and_then(Value::as_str).unwrap_or_default();
            let plain = text.len() <= 127 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if plain { text.to_owned() } else { String::new() }
        };
        let at = self.data.get("EXP").and_then(Value::as_f64).and_then(|seconds| DateTime::from_timestamp(seconds as i64, 0));
        Some(VaultExpiry { vault: name("VaultName"), object: name("ObjectName"), object_type, expired, at })
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("id", &self.id).field("kind", &self.kind).field("time", &self.time).finish_non_exhaustive()
    }
}

/// Reads a delivery: an event, an array of events, or a string that holds either. What cannot be read is a [`Reject`]; events beyond
/// [`EVENTS_MAX`] are one reject that says so.
pub fn decode(delivery: &Value) -> (Vec<Event>, Vec<Reject>) {
    match delivery {
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(Value::String(_)) | Err(_) => {
                (Vec::new(), vec![Reject { index: 0, reason: "the text holds no JSON object or array" }])
            }
            Ok(inner) => decode(&inner),
        },
        Value::Array(items) => decode_batch(items),
        one => decode_batch(std::slice::from_ref(one)),
    }
}

/// [`decode`] for bytes.
pub fn decode_slice(delivery: &[u8]) -> (Vec<Event>, Vec<Reject>) {
    match serde_json::from_slice::<Value>(delivery) {
        Ok(value) => decode(&value),
        Err(_) => (Vec::new(), vec![Reject { index: 0, reason: "the delivery is not JSON" }]),
    }
}

fn decode_batch(items: &[Value]) -> (Vec<Event>, Vec<Reject>) {
    let (mut events, mut rejects) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().take(EVENTS_MAX).enumerate() {
        match read(item) {
            Ok(event) => events.push(event),
            Err(reason) => rejects.push(Reject { index, reason }),
        }
    }
    if items.len() > EVENTS_MAX {
        rejects.push(Reject {
            index: EVENTS_MAX,
            reason: "the delivery holds more events than Event Grid sends; the rest was not read",
        });
    }
    (events, rejects)
}

fn read(item: &Value) -> Result<Event, &'static str> {
    let Value::Object(members) = item else { return Err("an event is not a JSON object") };
    let (kind, source, time) = match members.get("specversion").and_then(Value::as_str) {
        Some("1.0") => ("type", "source", "time"),
        Some(_) => return Err("the CloudEvents version is not 1.0"),
        None => ("eventType", "topic", "eventTime"),
    };
    let id = text(members, "id");
    let kind = text(members, kind);
    if id.is_empty() {
        return Err("the event has no id");
    }
    if kind.is_empty() {
        return Err("the event has no type");
    }
    let time = DateTime::parse_from_rfc3339(&text(members, time)).ok().map(|time| time.with_timezone(&Utc));
    let data = members.get("data").cloned().unwrap_or(Value::Null);
    Ok(Event { id, kind, source: text(members, source), subject: text(members, "subject"), time, data })
}

fn text(members: &Map<String, Value>, name: &str) -> String {
    members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn event_grid_schema() -> Value {
        json!({
            "topic": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct",
            "subject": "/blobServices/default/containers/incoming/blobs/2026/a b.csv",
            "eventType": BLOB_CREATED, "id": "831e1650-001e-001b-66ab-eeb76e069631",
            "data": { "api": "PutBlockList", "eTag": "\"0x8D4BCC2E4835CD0\"", "contentLength": 524288,
                      "url": "https://acct.blob.core.windows.net/incoming/2026/a%20b.csv", "unknown": { "x": [1] } },
            "dataVersion": "", "metadataVersion": "1", "eventTime": "2026-11-22T05:41:00.9584103Z", "extra": true
        })
    }

    fn cloud_event() -> Value {
        let same = event_grid_schema();
        json!({
            "specversion": "1.0", "type": BLOB_CREATED, "source": same["topic"], "id": same["id"],
            "time": "2026-11-22T06:41:00.9584103+01:00", "subject": same["subject"], "data": same["data"]
        })
    }

    #[test]
    fn both_schemas_read_the_same() {
        let (old, none) = decode(&event_grid_schema());
        assert!(none.is_empty());
        assert_eq!(old, decode(&cloud_event()).0);
        let created = old[0].blob_created().unwrap();
        assert_eq!(created.blob.account_url, "https://acct.blob.core.windows.net");
        assert_eq!((created.blob.container.as_str(), created.blob.name.as_str()), ("incoming", "2026/a b.csv"));
        assert_eq!(created.etag.as_deref(), Some("0x8D4BCC2E4835CD0"));
        assert_eq!((created.content_length, created.api.as_str()), (Some(524_288), "PutBlockList"));
        assert_eq!(old[0].time.unwrap().to_rfc3339(), "2026-11-22T05:41:00.958410300+00:00");
    }

    #[test]
    fn object_array_and_text_read_the_same() {
        let one = event_grid_schema();
        let expected = decode(&one).0;
        assert_eq!(decode(&json!([one])).0, expected);
        assert_eq!(decode(&Value::String(one.to_string())).0, expected);
        assert_eq!(decode(&Value::String(json!([one]).to_string())).0, expected);
        assert_eq!(decode_slice(one.to_string().as_bytes()).0, expected);
    }

    #[test]
    fn the_good_of_a_batch_are_kept_and_the_bad_are_named() {
        let (events, rejects) =
            decode(&json!([1, event_grid_schema(), { "id": "x" }, { "eventType": "x" }, { "specversion": "0.3" }]));
        assert_eq!(events.len(), 1);
        assert_eq!(rejects.iter().map(|reject| reject.index).collect::<Vec<_>>(), [0, 2, 3, 4]);
        assert_eq!(decode(&json!("\"\\\"deep\\\"\"")).1.len(), 1);
        assert_eq!(decode(&Value::Null).1.len(), 1);
        assert_eq!(decode_slice(b"{").1.len(), 1);
    }

    #[test]
    fn a_batch_is_bounded_and_says_so() {
        let (events, rejects) = decode(&Value::Array(vec![event_grid_schema(); EVENTS_MAX + 2]));
        assert_eq!((events.len(), rejects.len()), (EVENTS_MAX, 1));
    }

    #[test]
    fn only_a_written_blob_is_one() {
        let mut event = decode(&event_grid_schema()).0.remove(0);
        event.data["url"] = json!("https://acct.blob.core.windows.net/incoming");
        assert_eq!(event.blob_created(), None);
        let mut event = decode(&event_grid_schema()).0.remove(0);
        event.kind = "Microsoft.Storage.BlobDeleted".into();
        assert_eq!(event.blob_created(), None);
    }

    #[test]
    fn what_brings_a_blob_in_is_said_by_place_operation_length_and_ending() {
        let suffixes = [".csv".to_owned(), ".csv.gz".to_owned()];
        let wanted = Wanted { account_url: "https://acct.blob.core.windows.net", container: "incoming", suffixes: &suffixes };
        let judged = |change: &dyn Fn(&mut Value)| {
            let both = [event_grid_schema(), cloud_event()].map(|mut event| {
                change(&mut event);
                wanted.blob(&decode(&event).0[0]).map(|blob| blob.name)
            });
            assert_eq!(both[0], both[1]);
            both[0].clone()
        };
        assert_eq!(judged(&|_| {}), Ok("2026/a b.csv".into()));
        for api in WHOLE_BLOB_APIS {
            assert!(judged(&|event| event["data"]["api"] = json!(api)).is_ok(), "{api}");
        }
        for api in ["CreateFile", "SftpCreate", "AppendFile", "putblob", "PutBlobFromTomorrow", ""] {
            assert_eq!(judged(&|event| event["data"]["api"] = json!(api)), Err(Unwanted::Api), "{api}");
        }
        assert_eq!(judged(&|event| drop(event["data"].as_object_mut().unwrap().remove("api"))), Err(Unwanted::Api));
        let at = |url: &'static str| judged(&|event| event["data"]["url"] = json!(url));
        assert_eq!(at("https://acct.blob.core.windows.net/other/a.csv"), Err(Unwanted::Place));
        assert_eq!(at("https://acct2.blob.core.windows.net/incoming/a.csv"), Err(Unwanted::Place));
        assert_eq!(at("http://acct.blob.core.windows.net/incoming/a.csv"), Err(Unwanted::Place));
        assert_eq!(at("https://acct.blob.core.windows.net/incoming/A.CSV.GZ"), Ok("A.CSV.GZ".into()));
        for name in ["a.csv.tmp", "csv", "a.csv%20"] {
            let url = format!("https://acct.blob.core.windows.net/incoming/{name}");
            assert_eq!(judged(&|event| event["data"]["url"] = json!(url)), Err(Unwanted::Suffix), "{name}");
        }
        assert_eq!(judged(&|event| event["data"]["contentLength"] = json!(0)), Err(Unwanted::Empty));
        let closed = judged(&|event| {
            event["data"]["contentLength"] = json!(0);
            event["data"]["api"] = json!("FlushWithClose");
        });
        assert!(closed.is_ok());
        let every = Wanted { suffixes: &[], ..wanted };
        let mut event = event_grid_schema();
        event["data"]["url"] = json!("https://acct.blob.core.windows.net/incoming/notes.txt");
        assert!(every.blob(&decode(&event).0[0]).is_ok());
        event["eventType"] = json!("Microsoft.Storage.BlobDeleted");
        assert_eq!(every.blob(&decode(&event).0[0]), Err(Unwanted::Kind));
    }

    #[test]
    fn an_ending_secret_of_a_vault_is_told_in_both_schemas() {
        let data = json!({ "Id": "https://v.vault.azure.net/secrets/sql/1", "VaultName": "v", "ObjectType": "Secret",
            "ObjectName": "sql", "Version": "1", "NBF": null, "EXP": 1_795_000_000 });
        let event = |kind: &str, data: &Value| json!({ "id": "1", "eventType": kind, "topic": "t", "data": data });
        let cloud =
            json!({ "specversion": "1.0", "id": "1", "type": "Microsoft.KeyVault.SecretNearExpiry", "source": "s", "data": data });
        let expected = VaultExpiry {
            vault: "v".into(),
            object: "sql".into(),
            object_type: "Secret",
            expired: false,
            at: DateTime::from_timestamp(1_795_000_000, 0),
        };
        for delivery in [event("Microsoft.KeyVault.SecretNearExpiry", &data), cloud] {
            assert_eq!(decode(&delivery).0[0].vault_expiry(), Some(expected.clone()));
        }
        let expired = decode(&event("Microsoft.KeyVault.KeyExpired", &json!({ "VaultName": "a b\nc", "EXP": 1e300 }))).0;
        let expired = expired[0].vault_expiry().unwrap();
        assert_eq!((expired.object_type, expired.expired, expired.vault.as_str()), ("Key", true, ""));
        for other in ["Microsoft.KeyVault.SecretNewVersionCreated", "Microsoft.KeyVault.NearExpiry", BLOB_CREATED, "KeyNearExpiry"]
        {
            assert_eq!(decode(&event(other, &data)).0[0].vault_expiry(), None, "{other}");
        }
    }

    #[test]
    fn debug_prints_no_data() {
        assert!(!format!("{:?}", decode(&event_grid_schema()).0).contains("csv"));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(|number| json!(number)),
            "\\PC{0,12}".prop_map(Value::String),
            Just(json!("1.0")),
            Just(json!(BLOB_CREATED)),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let key = prop_oneof!["id|eventType|type|specversion|data|url|eTag|eventTime", "\\PC{0,6}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::hash_map(key, inner, 0..5).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn bytes_never_panic(delivery in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_slice(&delivery);
        }

        #[test]
        fn nothing_is_lost(delivery in any_json()) {
            let (events, rejects) = decode(&delivery);
            for event in &events {
                let _ = (event.blob_created(), event.vault_expiry());
            }
            let expected = match &delivery {
                Value::Array(items) => items.len(),
                Value::String(_) => return Ok(()),
                _ => 1,
            };
            prop_assert_eq!(events.len() + rejects.len(), expected);
        }
    }
}
