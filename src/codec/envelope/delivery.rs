//! The host's side of a delivery: .NET values to JSON by the host's own rules, and one builder for each trigger.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

/// A value as the real host holds it in a binding, before it is written.
#[derive(Clone, PartialEq)]
pub enum Bound {
    /// `byte[]`.
    Bytes(Vec<u8>),
    /// `DateTimeOffset`.
    Time(DateTime<Utc>),
    /// Everything that has a JSON form: string, number, bool, array, object, null.
    Json(Value),
}

impl Bound {
    fn text(text: impl Into<String>) -> Self {
        Bound::Json(Value::String(text.into()))
    }
}

/// What identifies one call to the handler and in its `Metadata.sys`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sys<'a> {
    /// The function's name.
    pub function: &'a str,
    /// When the host made the envelope.
    pub now: DateTime<Utc>,
    /// A random UUID.
    pub rand_guid: String,
}

/// Writes one value by the host's table: bytes as base64, a time as ISO text without sub-seconds, an object as it is, null not at
/// all, and everything else as a string that holds JSON.
pub fn encode_value(value: Bound) -> Option<Value> {
    match value {
        Bound::Json(Value::Null) => None,
        Bound::Bytes(bytes) => Some(Value::String(STANDARD.encode(bytes))),
        Bound::Time(time) => Some(Value::String(iso_seconds(time))),
        Bound::Json(object @ Value::Object(_)) => Some(object),
        Bound::Json(other) => Some(Value::String(other.to_string())),
    }
}

/// Builds an envelope: `trigger` is the value of the binding `name`, `binding_data` what the trigger knows about it. A datum whose name
/// ends in "trigger" is dropped; a trigger value that is a string holding a JSON object spreads its members, arrays excepted, over
/// the binding data.
pub fn envelope(sys: &Sys<'_>, name: &str, trigger: Bound, binding_data: Vec<(String, Bound)>) -> Value {
    let mut known: Vec<(String, Bound)> = binding_data;
    if let Bound::Json(Value::String(text)) = &trigger
        && let Ok(Value::Object(members)) = serde_json::from_str::<Value>(text)
    {
        known.extend(members.into_iter().filter(|(_, value)| !value.is_array()).map(|(key, value)| (key, Bound::Json(value))));
    }
    let mut metadata = Map::new();
    for (key, value) in known {
        if key.to_ascii_lowercase().ends_with("trigger") {
            continue;
        }
        if let Some(value) = encode_value(value) {
            metadata.insert(key, value);
        }
    }
    metadata.insert(
        "sys".into(),
        json!({ "MethodName": sys.function, "UtcNow": sys.now.to_rfc3339_opts(SecondsFormat::Micros, true), "RandGuid": sys.rand_guid }),
    );
    let mut data = Map::new();
    if let Some(value) = encode_value(trigger) {
        data.insert(name.to_owned(), value);
    }
    json!({ "Data": data, "Metadata": metadata })
}

/// A blob as the storage account describes it.
#[derive(Clone, PartialEq)]
pub struct BlobFacts {
    /// Its address, percent-encoded.
    pub uri: String,
    /// The trigger's path token and its decoded value, such as `name` and `2026/a b.csv`; `None` for a path without a token.
    pub token: Option<(String, String)>,
    /// Its length in bytes.
    pub length_bytes: u64,
    /// Its media type.
    pub content_type: String,
    /// When it was last written.
    pub last_modified: DateTime<Utc>,
}

/// A blob trigger's envelope: `content` `None` is the deferred form, a reference instead of the bytes.
pub fn blob(sys: &Sys<'_>, name: &str, facts: &BlobFacts, content: Option<Vec<u8>>) -> Value {
    let trigger = match content {
        Some(bytes) => Bound::Bytes(bytes),
        // The useful fields of the reference are lost in the real host's serialisation; the keys are those that remain.
        None => Bound::Json(json!({
            "Version": "1.0",
            "Source": "AzureStorageBlobs",
            "Content": { "IsEmpty": false, "Length": 88, "MediaType": null },
            "ContentType": "application/json",
        })),
    };
    let mut known = vec![
        ("BlobTrigger".to_owned(), Bound::text(facts.uri.clone())),
        ("Uri".to_owned(), Bound::text(facts.uri.clone())),
        ("Properties".to_owned(), Bound::Json(blob_properties(facts))),
        ("Metadata".to_owned(), Bound::Json(json!({}))),
    ];
    if let Some((token, value)) = &facts.token {
        known.push((token.clone(), Bound::text(value.clone())));
    }
    envelope(sys, name, trigger, known)
}

/// `Properties` of a block blob. `ETag` is `{}` in the real host too: its type has no public property.
fn blob_properties(facts: &BlobFacts) -> Value {
    let modified = iso_seconds(facts.last_modified);
    let never = "0001-01-01T00:00:00+00:00";
    // Three parts, because one literal of this length exceeds the macro's recursion limit.
    let written = json!({
        "LastModified": modified, "CreatedOn": modified, "Metadata": {}, "BlobType": 0,
        "ContentLength": facts.length_bytes, "ContentType": facts.content_type, "ETag": {}, "ContentHash": null,
        "ContentEncoding": null, "ContentDisposition": null, "ContentLanguage": null, "CacheControl": null,
        "AcceptRanges": "bytes", "AccessTier": "Hot", "AccessTierInferred": true, "AccessTierChangedOn": never,
        "BlobSequenceNumber": 0, "BlobCommittedBlockCount": 0,
    });
    let copied = json!({
        "ObjectReplicationDestinationPolicyId": null, "ObjectReplicationSourceProperties": null,
        "CopyCompletedOn": never, "CopyStatusDescription": null, "CopyId": null, "CopyProgress": null, "CopySource": null,
        "CopyStatus": 0, "BlobCopyStatus": null, "IsIncrementalCopy": false, "DestinationSnapshot": null,
        "LeaseDuration": 0, "LeaseState": 0, "LeaseStatus": 1,
    });
    let kept = json!({
        "IsServerEncrypted": true, "EncryptionKeySha256": null, "EncryptionScope": null, "ArchiveStatus": null,
        "VersionId": null, "IsLatestVersion": false, "TagCount": 0, "ExpiresOn": never, "IsSealed": false,
        "RehydratePriority": null, "LastAccessed": never,
        "ImmutabilityPolicy": { "ExpiresOn": null, "PolicyMode": null }, "HasLegalHold": false,
    });
    let parts = [written, copied, kept].into_iter().filter_map(|part| match part {
        Value::Object(members) => Some(members),
        _ => None,
    });
    Value::Object(parts.flatten().collect())
}

/// A queue message as the storage account describes it.
#[derive(Clone, PartialEq)]
pub struct QueueMessage {
    /// The message's id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Deliveries so far, this one included.
    pub dequeue_count: u32,
    /// The receipt of this delivery.
    pub pop_receipt: String,
    /// When it was put in.
    pub inserted: DateTime<Utc>,
    /// When it would vanish.
    pub expires: DateTime<Utc>,
    /// When it would be delivered again.
    pub next_visible: DateTime<Utc>,
}

/// A queue trigger's envelope.
pub fn queue(sys: &Sys<'_>, name: &str, message: &QueueMessage) -> Value {
    let known = vec![
        ("QueueTrigger".to_owned(), Bound::text(message.text.clone())),
        ("DequeueCount".to_owned(), Bound::Json(json!(message.dequeue_count))),
        ("Id".to_owned(), Bound::text(message.id.clone())),
        ("PopReceipt".to_owned(), Bound::text(message.pop_receipt.clone())),
        ("InsertionTime".to_owned(), Bound::Time(message.inserted)),
        ("ExpirationTime".to_owned(), Bound::Time(message.expires)),
        ("NextVisibleTime".to_owned(), Bound::Time(message.next_visible)),
    ];
    envelope(sys, name, Bound::text(message.text.clone()), known)
}

/// When a timer ran last, when it runs next and when that was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimerStatus {
    /// The last run.
    pub last: DateTime<Utc>,
    /// The next run.
    pub next: DateTime<Utc>,
    /// When the two were written.
    pub updated: DateTime<Utc>,
}

/// A timer trigger's envelope.
pub fn timer(sys: &Sys<'_>, name: &str, status: Option<TimerStatus>, past_due: bool) -> Value {
    let status = status.map(|status| {
        json!({ "Last": iso_seconds(status.last), "Next": iso_seconds(status.next), "LastUpdated": iso_seconds(status.updated) })
    });
    let value = json!({ "Schedule": { "AdjustForDST": true }, "ScheduleStatus": status, "IsPastDue": past_due });
    envelope(sys, name, Bound::Json(value), Vec::new())
}

/// An Event Grid trigger's envelope: the event as an object, its `data` repeated in the metadata.
pub fn event_grid(sys: &Sys<'_>, name: &str, event: Value) -> Value {
    let data = event.get("data").cloned().unwrap_or(Value::Null);
    envelope(sys, name, Bound::Json(event), vec![("data".to_owned(), Bound::Json(data))])
}

/// An HTTP request that is delivered in default mode.
#[derive(Clone, PartialEq)]
pub struct HttpCall {
    /// The caller's URL, query included.
    pub url: String,
    /// The method.
    pub method: String,
    /// The query; repeated names are joined with commas.
    pub query: Map<String, Value>,
    /// The headers, each a list of values.
    pub headers: Map<String, Value>,
    /// The route's parameters.
    pub params: Map<String, Value>,
    /// Who asks, as the platform's authentication saw it.
    pub identities: Vec<Value>,
    /// The body as text, or base64 of an octet stream; `None` without a `Content-Length`.
    pub body: Option<String>,
}

/// An HTTP trigger's envelope in default mode.
pub fn http(sys: &Sys<'_>, name: &str, call: HttpCall) -> Value {
    let mut known: Vec<(String, Bound)> =
        call.params.iter().map(|(key, value)| (key.clone(), Bound::Json(value.clone()))).collect();
    known.push(("Query".to_owned(), Bound::Json(Value::Object(call.query.clone()))));
    known.push(("Headers".to_owned(), Bound::Json(Value::Object(call.headers.clone()))));
    let mut request = json!({
        "Url": call.url, "Method": call.method, "Query": call.query, "Headers": call.headers,
        "Params": call.params, "Identities": call.identities,
    });
    if let Some(body) = call.body {
        request["Body"] = Value::String(body);
    }
    envelope(sys, name, Bound::Json(request), known)
}

fn iso_seconds(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, false)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn sys() -> Sys<'static> {
        let now = Utc.timestamp_opt(1_795_327_112, 226_000_000).unwrap();
        Sys { function: "ImportCsv", now, rand_guid: "ca44fda7-c95b-4128-9b3f-fa21ba23644a".into() }
    }

    fn json_value(value: Value) -> Option<Value> {
        encode_value(Bound::Json(value))
    }

    #[test]
    fn the_value_table() {
        assert_eq!(json_value(json!("abc")), Some(json!("\"abc\"")), "string");
        assert_eq!(json_value(json!(4)), Some(json!("4")), "number");
        assert_eq!(json_value(json!(true)), Some(json!("true")), "bool");
        assert_eq!(json_value(json!([1, "a"])), Some(json!("[1,\"a\"]")), "array");
        assert_eq!(json_value(json!({ "a": [1] })), Some(json!({ "a": [1] })), "object");
        assert_eq!(json_value(Value::Null), None, "null");
        assert_eq!(encode_value(Bound::Bytes(b"id,name\r\n1,Ann\r\n".to_vec())), Some(json!("aWQsbmFtZQ0KMSxBbm4NCg==")), "bytes");
        assert_eq!(encode_value(Bound::Time(sys().now)), Some(json!("2026-11-22T05:58:32+00:00")), "time");
    }

    #[test]
    fn trigger_keys_are_dropped_and_sys_is_written() {
        let data = vec![
            ("BlobTrigger".into(), Bound::text("x")),
            ("myTRIGGER".into(), Bound::text("x")),
            ("kept".into(), Bound::text("x")),
        ];
        let envelope = envelope(&sys(), "item", Bound::Json(json!(4)), data);
        assert_eq!(
            envelope,
            json!({
                "Data": { "item": "4" },
                "Metadata": {
                    "kept": "\"x\"",
                    "sys": { "MethodName": "ImportCsv", "UtcNow": "2026-11-22T05:58:32.226000Z",
                             "RandGuid": "ca44fda7-c95b-4128-9b3f-fa21ba23644a" }
                }
            })
        );
    }

    #[test]
    fn a_queue_message_is_double_encoded_and_its_members_spread() {
        let time = sys().now;
        let message = QueueMessage {
            id: "800ae4b3".into(),
            text: r#"{"file":"a.csv","rows":[1],"at":{"x":1},"none":null,"aTrigger":1}"#.into(),
            dequeue_count: 1,
            pop_receipt: "AgAAAA".into(),
            inserted: time,
            expires: time,
            next_visible: time,
        };
        let envelope = queue(&sys(), "item", &message);
        assert_eq!(envelope["Data"]["item"], json!(Value::String(message.text.clone()).to_string()));
        let metadata = envelope["Metadata"].as_object().unwrap();
        assert_eq!(metadata["DequeueCount"], "1");
        assert_eq!(metadata["Id"], "\"800ae4b3\"");
        assert_eq!(metadata["InsertionTime"], "2026-11-22T05:58:32+00:00");
        assert_eq!(metadata["file"], "\"a.csv\"");
        assert_eq!(metadata["at"], json!({ "x": 1 }));
        for absent in ["rows", "none", "aTrigger", "QueueTrigger"] {
            assert!(!metadata.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn both_blob_forms() {
        let facts = BlobFacts {
            uri: "https://acct.blob.core.windows.net/incoming/a%20b.csv".into(),
            token: Some(("name".into(), "a b.csv".into())),
            length_bytes: 17,
            content_type: "text/csv".into(),
            last_modified: sys().now,
        };
        let inline = blob(&sys(), "blob", &facts, Some(b"abc".to_vec()));
        assert_eq!(inline["Data"]["blob"], "YWJj");
        assert_eq!(inline["Metadata"]["Uri"], "\"https://acct.blob.core.windows.net/incoming/a%20b.csv\"");
        assert_eq!(inline["Metadata"]["name"], "\"a b.csv\"");
        assert_eq!(inline["Metadata"]["Properties"]["ETag"], json!({}));
        assert_eq!(inline["Metadata"]["Properties"]["ContentLength"], 17);
        assert!(inline["Metadata"].get("BlobTrigger").is_none());
        let deferred = blob(&sys(), "blob", &facts, None);
        assert_eq!(deferred["Data"]["blob"]["Source"], "AzureStorageBlobs");
        assert_eq!(deferred["Metadata"], inline["Metadata"]);
    }

    #[test]
    fn timer_event_and_http() {
        let first = timer(&sys(), "timer", None, false);
        assert_eq!(first["Data"]["timer"]["ScheduleStatus"], Value::Null);
        assert_eq!(first["Data"]["timer"]["IsPastDue"], false);
        let event = event_grid(&sys(), "event", json!({ "id": "1", "data": { "api": "PutBlob" } }));
        assert_eq!(event["Data"]["event"]["id"], "1");
        assert_eq!(event["Metadata"]["data"], json!({ "api": "PutBlob" }));
        let params = Map::from_iter([("id".to_owned(), json!("42"))]);
        let call = HttpCall {
            url: "http://127.0.0.1/api/x".into(),
            method: "PUT".into(),
            query: Map::new(),
            headers: Map::new(),
            params,
            identities: vec![],
            body: Some("{\"ward\":\"7\"}".into()),
        };
        let http = http(&sys(), "req", call);
        assert_eq!(http["Data"]["req"]["Body"], "{\"ward\":\"7\"}");
        assert_eq!(http["Metadata"]["id"], "\"42\"");
        assert_eq!(http["Metadata"]["Query"], json!({}));
    }
}
