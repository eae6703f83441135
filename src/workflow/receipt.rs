//! Receipts: what became of a file, signed, so that whoever dropped it can prove it later. Rows are counted, never shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Hospital;
use super::import::hex;
use crate::domain::import::{Import, ImportId, Reject};
use crate::error::{Error, Result};
use crate::schema;

/// Fewest bytes of a signing key: as many as its hash has.
pub const KEY_BYTES_MIN: usize = 32;

const ALGORITHM: &str = "HMAC-SHA256";

/// What receipts are signed with: HMAC with SHA-256 (RFC 2104, FIPS 198-1). It has no `Debug`.
pub struct SigningKey {
    key: Vec<u8>,
    id: String,
}

impl SigningKey {
    /// Reads a key of at least [`KEY_BYTES_MIN`] bytes, in base64.
    ///
    /// # Errors
    /// Invalid, if it is no base64 or too short; the key is not shown.
    pub fn from_base64(text: &str) -> Result<Self> {
        let key = STANDARD.decode(text.trim()).ok().filter(|key| key.len() >= KEY_BYTES_MIN);
        let key = key
            .ok_or_else(|| Error::invalid(format!("the receipts' signing key must be at least {KEY_BYTES_MIN} bytes in base64")))?;
        let id = hex(&Sha256::digest([b"hdai-receipt-key:".as_slice(), &key].concat())[..8]);
        Ok(Self { key, id })
    }

    /// Names the key without telling it.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn mac(&self, receipt: &Value) -> Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).map_err(|_| Error::internal("the signing key cannot be used"))?;
        mac.update(&canonical(receipt)?);
        Ok(mac)
    }

    /// `receipt`, an object, with its signature.
    pub(super) fn sign(&self, mut receipt: Value) -> Result<Value> {
        let mac = hex(&self.mac(&receipt)?.finalize().into_bytes());
        receipt["signature"] = json!({ "algorithm": ALGORITHM, "keyId": self.id, "value": mac });
        Ok(receipt)
    }

    /// Is this text a receipt that was signed with this key, and unchanged since? Layout and the order of members do not matter.
    ///
    /// # Errors
    /// Invalid, saying what is wrong: no receipt, no signature, another key, or altered.
    pub fn verify(&self, text: &[u8]) -> Result<VerifiedReceipt> {
        let no_receipt = || Error::invalid("this is no receipt: a JSON object with an importId and a signature");
        let receipt = self.open(text)?;
        let import = receipt["importId"].as_str().map(|id| ImportId(id.to_owned())).ok_or_else(no_receipt)?;
        Ok(VerifiedReceipt { import, receipt })
    }

    /// Was this text signed, and with another key than this?
    pub(super) fn is_of_another_key(&self, text: &[u8]) -> bool {
        let value = serde_json::from_slice::<Value>(text).unwrap_or_default();
        value["signature"]["keyId"].as_str().is_some_and(|id| id != self.id)
    }

    /// The object that was signed with this key, without its signature.
    pub(super) fn open(&self, text: &[u8]) -> Result<Value> {
        let unsigned = || Error::invalid("this is no receipt and no checkpoint: a JSON object with a signature");
        let mut receipt: Value = serde_json::from_slice(text).map_err(|_| unsigned())?;
        let signature = receipt.as_object_mut().and_then(|members| members.remove("signature")).ok_or_else(unsigned)?;
        if signature["algorithm"] != ALGORITHM {
            return Err(Error::invalid(format!("the receipt is signed by another algorithm than {ALGORITHM}")));
        }
        if signature["keyId"] != self.id.as_str() {
            return Err(Error::invalid(format!(
                "the receipt was signed with another key than {}: give the key of its day (HDAI_RECEIPT_KEY)",
                self.id
            )));
        }
        let value = signature["value"].as_str().and_then(unhex).ok_or_else(unsigned)?;
        // In constant time.
        let verified = self.mac(&receipt)?.verify_slice(&value);
        verified.map_err(|_| Error::invalid("the receipt was altered after it was signed: trust the ledger, not this file"))?;
        Ok(receipt)
    }
}

/// A receipt whose signature is right, without it.
pub struct VerifiedReceipt {
    /// The import.
    pub import: ImportId,
    /// The receipt.
    pub receipt: Value,
}

/// One way to write an object: members sorted, no blanks, numbers as serde writes them (all are whole).
fn canonical(receipt: &Value) -> Result<Vec<u8>> {
    // `serde_json::Map` sorts its members.
    serde_json::to_vec(receipt).map_err(|cause| Error::internal("the receipt cannot be written").caused_by(cause))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

/// The container that receipts and reject files are written to.
pub fn receipts_container(import_container: &str) -> String {
    format!("{import_container}-receipts")
}

/// The receipt's blob name.
pub fn receipt_name(id: &ImportId) -> String {
    format!("{id}.receipt.json")
}

/// The reject file's blob name.
pub fn rejects_name(id: &ImportId) -> String {
    format!("{id}.rejects.csv")
}

/// A receipt that cannot be written holds back nothing that is committed, but the delivery is not done: the next one writes it.
///
/// # Errors
/// Unavailable.
pub(super) async fn leave_receipt(hospital: &Hospital, import: &Import) -> Result<()> {
    write_receipt(hospital, import).await.map_err(|cause| {
        Error::unavailable(format!(
            "import {} is over, but its receipt could not be written: the next delivery writes it",
            import.id
        ))
        .caused_by(cause)
    })
}

/// Writes what became of the file beside it, for whoever dropped it. Writing it twice gives the same bytes.
async fn write_receipt(hospital: &Hospital, import: &Import) -> Result<()> {
    let container = receipts_container(&hospital.config.import_container);
    if import.counts.rejected > 0 {
        let rejects = hospital.store.rejects(&import.id, 0, REJECTS_WRITTEN_MAX).await?;
        hospital.blobs.put(&container, &rejects_name(&import.id), rejects_csv(&rejects)?).await?;
    }
    let receipt = format!("{:#}\n", receipt(hospital, import)?);
    hospital.blobs.put(&container, &receipt_name(&import.id), Bytes::from(receipt)).await
}

/// Most rejects in a reject file; the count in the receipt counts all.
const REJECTS_WRITTEN_MAX: u32 = 10_000;

/// A ledger entry as signed JSON, for the receipt and the API.
///
/// # Errors
/// Internal, if it cannot be signed.
pub fn receipt(hospital: &Hospital, import: &Import) -> Result<Value> {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let counts = &import.counts;
    let receipt = json!({
        "importId": import.id.0,
        "container": import.source.container,
        "name": import.source.name,
        "etag": import.source.etag,
        "sha256": import.sha256,
        "state": import.state.name(),
        "failure": import.failure,
        "attempts": import.attempt,
        "rows": {
            "read": counts.read, "stored": counts.stored, "updated": counts.updated,
            "unchanged": counts.unchanged, "rejected": counts.rejected,
        },
        "firstLine": import.lines.map(|lines| lines.first),
        "lastLine": import.lines.map(|lines| lines.last),
        "extraColumns": import.extra_columns.split(',').filter(|column| !column.is_empty()).collect::<Vec<_>>(),
        "rejectsFile": (counts.rejected > 0).then(|| rejects_name(&import.id)),
        "schemaFingerprint": schema::fingerprint(),
        "started": time(import.started),
        "finished": import.finished.map(time),
        "durationMilliseconds": import.finished.map(|finished| (finished - import.started).num_milliseconds().max(0)),
    });
    hospital.receipt_key.sign(receipt)
}

fn rejects_csv(rejects: &[Reject]) -> Result<Bytes> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |cause: csv::Error| Error::internal("the reject file cannot be written").caused_by(cause);
    writer.write_record(["line", "column", "rule", "remedy"]).map_err(failed)?;
    for reject in rejects {
        writer.write_record([&reject.line.to_string(), &reject.column, &reject.rule, &reject.remedy]).map_err(failed)?;
    }
    let bytes =
        writer.into_inner().map_err(|cause| Error::internal("the reject file cannot be written").caused_by(cause.to_string()))?;
    Ok(Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_base64(&STANDARD.encode([byte; 32])).unwrap()
    }

    /// RFC 4231, test case 2 has a shorter key than we take; case 3 has twenty bytes. So: case 6, a key of 131 bytes.
    #[test]
    fn the_mac_is_the_one_of_rfc_4231() {
        let key = SigningKey::from_base64(&STANDARD.encode([0xaa; 131])).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.key).unwrap();
        mac.update(b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&mac.finalize().into_bytes()), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn a_receipt_verifies_in_any_layout_and_with_no_other_key() {
        let signed = key(1).sign(json!({ "importId": "i", "rows": { "read": 10 }, "name": "é" })).unwrap();
        for text in [signed.to_string(), format!("{signed:#}")] {
            assert_eq!(key(1).verify(text.as_bytes()).unwrap().import.0, "i");
            assert!(key(2).verify(text.as_bytes()).err().unwrap().message().contains("another key"));
        }
    }

    #[test]
    fn what_was_changed_added_or_taken_away_is_found() {
        let signed = key(1).sign(json!({ "importId": "i", "rows": { "read": 10, "rejected": 0 } })).unwrap();
        let altered = |change: &dyn Fn(&mut Value)| {
            let mut copy = signed.clone();
            change(&mut copy);
            key(1).verify(copy.to_string().as_bytes()).err().map(|error| error.message().to_owned()).unwrap_or_default()
        };
        for change in [
            &(|v: &mut Value| v["rows"]["read"] = 11.into()) as &dyn Fn(&mut Value),
            &|v| v["more"] = true.into(),
            &|v| drop(v["rows"].as_object_mut().unwrap().remove("rejected")),
            &|v| v["importId"] = "j".into(),
        ] {
            assert!(altered(change).contains("altered"), "{}", altered(change));
        }
        assert!(altered(&|v| v["signature"]["algorithm"] = "none".into()).contains("algorithm"));
        assert!(altered(&|v| v["signature"]["value"] = "".into()).contains("altered"));
        assert!(altered(&|v| drop(v.as_object_mut().unwrap().remove("signature"))).contains("no receipt"));
    }

    #[test]
    fn a_short_or_broken_key_is_refused_without_showing_it() {
        for text in ["", "c2hvcnQ=", "not base64 at all, not base64 at all, not base64"] {
            let error = SigningKey::from_base64(text).err().unwrap();
            assert!(error.message().contains("32 bytes") && (text.is_empty() || !error.to_string().contains(text)), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(key(1).verify(&text).is_err());
        }
    }
}
