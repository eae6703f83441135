//! The handler's side of a delivery: what the host sent, with its double encoding undone.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// One call of a function. `Debug` prints the names of its bindings and never a value.
#[derive(Clone, PartialEq)]
pub struct Invocation {
    data: Map<String, Value>,
    metadata: Map<String, Value>,
}

/// What a blob trigger delivered.
#[derive(Clone, PartialEq, Eq)]
pub enum BlobContent {
    /// A reference only: read the blob from storage, where [`Invocation::blob_uri`] says.
    Deferred,
    /// The whole blob.
    Inline(Vec<u8>),
}

impl Invocation {
    /// Reads the host's envelope. [`crate::error::Kind::Invalid`] if `body` is no JSON object with an object `Data`; `Metadata` may be absent.
    pub fn decode(body: &[u8]) -> Result<Self> {
        let envelope: Value = serde_json::from_slice(body).map_err(|_| refused("is not JSON"))?;
        let Value::Object(mut envelope) = envelope else { return Err(refused("is not a JSON object")) };
        let Some(Value::Object(data)) = envelope.remove("Data") else { return Err(refused("has no object `Data`")) };
        let metadata = match envelope.remove("Metadata") {
            Some(Value::Object(metadata)) => metadata,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(refused("has a `Metadata` that is not an object")),
        };
        Ok(Self { data, metadata })
    }

    /// The value of the input binding `name`, unwrapped once: a string that itself holds JSON becomes that JSON. Not for blobs
    /// (see [`Invocation::take_blob`]): base64 text such as `1234` would be taken for a number.
    pub fn data(&self, name: &str) -> Option<Cow<'_, Value>> {
        self.data.get(name).map(unwrap)
    }

    /// The JSON in the queue message of the binding `name`. The host writes a message's text as a JSON string and that into its own JSON,
    /// so a message that is itself JSON comes wrapped twice. `None` if there is none, or it is not JSON.
    pub fn message(&self, name: &str) -> Option<Value> {
        match self.data(name)?.into_owned() {
            Value::String(text) => serde_json::from_str(&text).ok(),
            plain => Some(plain),
        }
    }

    /// The trigger's binding datum `name`, unwrapped once like [`Invocation::data`].
    pub fn metadata(&self, name: &str) -> Option<Cow<'_, Value>> {
        self.metadata.get(name).map(unwrap)
    }

    /// A datum that is text whatever it looks like: a blob called `42` must not become a number.
    pub fn metadata_text(&self, name: &str) -> Option<Cow<'_, str>> {
        let text = self.metadata.get(name)?.as_str()?;
        match serde_json::from_str::<String>(text) {
            Ok(unwrapped) => Some(Cow::Owned(unwrapped)),
            Err(_) => Some(Cow::Borrowed(text)),
        }
    }

    /// The blob's address, percent-encoded, as the host gives it. It is not checked: compare it with the configured account and
    /// container ([`crate::codec::blob_url::BlobUrl::parse`]) before opening it.
    pub fn blob_uri(&self) -> Option<Cow<'_, str>> {
        self.metadata_text("Uri")
    }

    /// The blob's name: the `{name}` of the trigger's path, decoded.
    pub fn blob_name(&self) -> Option<Cow<'_, str>> {
        self.metadata_text("name")
    }

    /// How often the message was delivered, this time included; only queue triggers say. A message that is itself a JSON object with
    /// a `DequeueCount` overwrites it, as in the real host.
    pub fn dequeue_count(&self) -> Option<u64> {
        self.metadata("DequeueCount")?.as_u64()
    }

    /// Takes the blob out of the binding `name`, so that its base64 text is not kept beside its bytes.
    /// [`crate::error::Kind::Invalid`] if there is no such binding, or it is neither a reference nor base64.
    pub fn take_blob(&mut self, name: &str) -> Result<BlobContent> {
        match self.data.remove(name) {
            Some(Value::Object(_)) => Ok(BlobContent::Deferred),
            Some(Value::String(text)) => match BASE64.decode(text) {
                Ok(bytes) => Ok(BlobContent::Inline(bytes)),
                Err(_) => Err(Error::invalid(format!("the blob in binding `{name}` is not base64"))),
            },
            _ => Err(Error::invalid(format!(
                "the invocation holds no blob in binding `{name}`: compare the name with function.json"
            ))),
        }
    }
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data: Vec<&String> = self.data.keys().collect();
        let metadata: Vec<&String> = self.metadata.keys().collect();
        f.debug_struct("Invocation").field("data", &data).field("metadata", &metadata).finish()
    }
}

impl fmt::Debug for BlobContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlobContent::Deferred => f.write_str("Deferred"),
            BlobContent::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
        }
    }
}

fn unwrap(value: &Value) -> Cow<'_, Value> {
    match value.as_str().map(serde_json::from_str::<Value>) {
        Some(Ok(unwrapped)) => Cow::Owned(unwrapped),
        _ => Cow::Borrowed(value),
    }
}

fn refused(why: &str) -> Error {
    Error::invalid(format!("the Functions host's envelope {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn invocation(envelope: Value) -> Invocation {
        Invocation::decode(envelope.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_captured_blob_delivery_is_read() {
        let mut call = invocation(json!({
            "Data": { "blob": "aWQsbmFtZQ0KMSxBbm4NCg==" },
            "Metadata": {
                "Uri": "\"https://acct.blob.core.windows.net/incoming/2026/11/a%20b.csv\"",
                "Properties": { "ContentLength": 17, "ETag": {} },
                "Metadata": { "uploadedby": "ward-7" },
                "name": "\"2026/11/a b.csv\"",
            }
        }));
        assert_eq!(call.blob_uri().unwrap(), "https://acct.blob.core.windows.net/incoming/2026/11/a%20b.csv");
        assert_eq!(call.blob_name().unwrap(), "2026/11/a b.csv");
        assert_eq!(call.metadata("Properties").unwrap()["ContentLength"], 17);
        assert_eq!(call.take_blob("blob").unwrap(), BlobContent::Inline(b"id,name\r\n1,Ann\r\n".to_vec()));
        assert!(call.take_blob("blob").is_err(), "taken once");
    }

    #[test]
    fn a_deferred_blob_is_a_reference() {
        let mut call = invocation(json!({ "Data": { "blob": { "Version": "1.0", "Source": "AzureStorageBlobs" } } }));
        assert_eq!(call.take_blob("blob").unwrap(), BlobContent::Deferred);
        assert_eq!(call.blob_uri(), None);
    }

    #[test]
    fn base64_that_looks_like_json_stays_base64() {
        let mut call = invocation(json!({ "Data": { "blob": "1234" } }));
        assert_eq!(call.take_blob("blob").unwrap(), BlobContent::Inline(vec![0xd7, 0x6d, 0xf8]));
        let mut call = invocation(json!({ "Data": { "blob": "not base64!" } }));
        assert!(call.take_blob("blob").is_err());
    }

    #[test]
    fn double_encoding_is_undone_once() {
        let call = invocation(json!({
            "Data": { "item": "\"{\\\"file\\\":\\\"a.csv\\\"}\"", "plain": "a.csv", "object": { "a": 1 } },
            "Metadata": { "DequeueCount": "3", "name": "\"42\"", "bare": "42" }
        }));
        assert_eq!(*call.data("item").unwrap(), json!("{\"file\":\"a.csv\"}"));
        assert_eq!(*call.data("plain").unwrap(), json!("a.csv"));
        assert_eq!(*call.data("object").unwrap(), json!({ "a": 1 }));
        assert_eq!(call.data("absent"), None);
        assert_eq!(call.dequeue_count(), Some(3));
        assert_eq!(call.blob_name().unwrap(), "42");
        assert_eq!(call.metadata_text("bare").unwrap(), "42");
    }

    #[test]
    fn a_queue_message_is_read_however_often_it_is_wrapped() {
        let message = json!({ "url": "a.csv" });
        for item in [message.clone(), json!(message.to_string()), json!(json!(message.to_string()).to_string())] {
            assert_eq!(invocation(json!({ "Data": { "item": item } })).message("item"), Some(message.clone()));
        }
        assert_eq!(invocation(json!({ "Data": { "item": "\"plain words\"" } })).message("item"), None);
        assert_eq!(invocation(json!({ "Data": {} })).message("item"), None);
    }

    #[test]
    fn an_envelope_that_is_none_is_refused_without_its_text() {
        for body in ["", "[]", "{}", "{\"Data\":\"secret\"}", "{\"Data\":{},\"Metadata\":\"secret\"}", "secret"] {
            let error = Invocation::decode(body.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Invalid);
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn debug_prints_no_value() {
        let call = invocation(json!({ "Data": { "req": { "Body": "Ann" } }, "Metadata": { "name": "Ann" } }));
        assert!(!format!("{call:?}").contains("Ann"));
        assert!(!format!("{:?}", BlobContent::Inline(b"Ann".to_vec())).contains("Ann"));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Invocation::decode(&body);
        }

        #[test]
        fn any_values_are_read_without_panic(data in "\\PC{0,40}", blob in "\\PC{0,40}") {
            let mut call = invocation(json!({ "Data": { "item": data.clone(), "blob": blob }, "Metadata": { "name": data } }));
            let _ = (call.data("item"), call.blob_name(), call.dequeue_count());
            let _ = call.take_blob("blob");
        }
    }
}
