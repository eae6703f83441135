//! What a cloud does to an import, one fault a test: real handler processes over a real Azurite, with a proxy between them that has bad
//! days. Whatever happened, [`Site::holds`] asks for the same three things afterwards: the table of an undisturbed import of the same
//! files, one ledger entry a file, and a receipt that is genuine and true.

mod disk;
mod events;
mod foreign;
mod kill;
mod limits;
mod memory;
mod poison;
mod storage;
mod token;
mod twice;
mod version;

use std::path::PathBuf;

use azure_core::http::RequestContent;
use azure_storage_blob::BlobContainerClient;
use azure_storage_blob::models::BlobClientUploadOptions;
use health_data_ai::blob::Blobs;
use health_data_ai::codec::csv::Writer;
use health_data_ai::domain::import::{Counts, Import, ImportId, State};
use health_data_ai::domain::{Action, Outcome};
use health_data_ai::store::Store;
use health_data_ai::store::sealed::Sealed;
use health_data_ai::synthetic;
use serde_json::{Value, json};

use crate::azurite::{Azurite, impatient};
use crate::handler::{BLOB, Handler, deferred, sha256};
use crate::support::{hdai, record};

/// A container of the test's own, and a folder for the record and the key.
struct Site {
    folder: tempfile::TempDir,
    azurite: &'static Azurite,
    container: BlobContainerClient,
    name: String,
    account_url: String,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn new(test: &str) -> Self {
        let azurite = Azurite::http();
        Self::at(azurite, &azurite.account_url(), test)
    }

    /// Whose handlers know the account by another address.
    fn at(azurite: &'static Azurite, account_url: &str, test: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let name = format!("faults-{test}");
        let container = runtime.block_on(azurite.container(&name));
        Self { folder: tempfile::tempdir().unwrap(), azurite, container, name, account_url: account_url.to_owned(), runtime }
    }

    /// Where the handlers keep what they keep.
    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The settings of a handler here, and `more`.
    fn settings<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = [
            ("HDAI_BLOB_STORE", "azure"),
            ("HDAI_BLOB_ACCOUNT_URL", self.account_url.as_str()),
            ("HDAI_IMPORT_CONTAINER", self.name.as_str()),
        ];
        [&own, more].concat()
    }

    fn handler(&self, more: &[(&str, &str)]) -> Handler {
        Handler::start(&self.state(), &self.settings(more))
    }

    fn drop_blob(&self, name: &str, content: &[u8]) {
        let options = BlobClientUploadOptions { partition_size: std::num::NonZero::new(16 << 20), ..Default::default() };
        let upload = RequestContent::from(content.to_vec());
        self.runtime.block_on(self.container.blob_client(name).upload(upload, Some(options))).unwrap();
    }

    fn delete_blob(&self, name: &str) {
        self.runtime.block_on(self.container.blob_client(name).delete(None)).unwrap();
    }

    fn uri(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.account_url, self.name)
    }

    /// The host's call for a blob.
    fn call(&self, name: &str) -> Value {
        deferred(&self.uri(name))
    }

    fn record(&self) -> Sealed {
        record(&self.state())
    }

    /// The ledger's entries, newest first.
    fn ledger(&self, record: &dyn Store) -> Vec<Import> {
        self.runtime.block_on(record.imports(1_000)).unwrap()
    }

    /// What lies in the container of receipts under this name.
    fn left(&self, name: &str) -> Option<Vec<u8>> {
        let read = async {
            let blobs = self.azurite.blobs(impatient());
            let opened = blobs.open(&format!("{}-receipts", self.name), name).await.unwrap()?;
            let chunks: Vec<bytes::Bytes> = futures_util::TryStreamExt::try_collect(opened.chunks).await.unwrap();
            Some(chunks.concat())
        };
        self.runtime.block_on(read)
    }

    /// The record in `folder/state` holds what an undisturbed import of these files, in this order, leaves.
    fn holds(&self, files: &[(&str, &[u8])]) {
        self.holds_in(&self.record(), files, 0);
    }

    /// The same of another record; `given_up` entries more must have failed.
    fn holds_in(&self, record: &dyn Store, files: &[(&str, &[u8])], given_up: usize) {
        let (clean, ids) = self.undisturbed(files.iter().map(|(_, content)| *content));
        self.runtime.block_on(same_encounters(record, &clean));
        let ledger = self.ledger(record);
        assert!(ledger.iter().all(|entry| entry.state != State::Running), "an entry is still open: {ledger:?}");
        let done: Vec<&Import> = ledger.iter().filter(|entry| entry.state == State::Done).collect();
        assert_eq!((done.len(), ledger.len()), (files.len(), files.len() + given_up), "{ledger:?}");
        for ((name, content), id) in files.iter().zip(ids) {
            let hash = sha256(content);
            let expected = self.runtime.block_on(clean.import(&id)).unwrap().unwrap();
            let of = |entry: &&&Import| entry.source.name == *name && entry.sha256 == hash;
            let entry = done.iter().find(of).unwrap_or_else(|| panic!("{name} has no entry of its content: {ledger:?}"));
            if given_up == 0 {
                assert_eq!(entry.counts, expected.counts, "{name}");
            }
            // An import that was given up has left rows that this one met.
            let sums = |counts: &Counts| (counts.read, counts.rejected, counts.stored + counts.updated + counts.unchanged);
            assert_eq!(sums(&entry.counts), sums(&expected.counts), "{name}");
            assert_eq!(entry.checkpoint, expected.counts.read, "{name}");
            let rejects = |store: &dyn Store, id| self.runtime.block_on(store.rejects(id, 0, 100_000)).unwrap();
            assert_eq!(rejects(record, &entry.id), rejects(&clean, &expected.id), "{name}: other rejects");
            self.closed_once(record, entry);
            self.receipt_is_true(entry, content);
        }
    }

    /// A record that these contents were imported into, one after the other, by nothing disturbed; and the imports' ids.
    fn undisturbed<'a>(&self, contents: impl Iterator<Item = &'a [u8]>) -> (Sealed, Vec<ImportId>) {
        let clean = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        for (number, content) in contents.enumerate() {
            let file = clean.join(format!("{number}.csv"));
            std::fs::write(&file, content).unwrap();
            assert!(hdai(&clean).arg("import").arg(&file).output().unwrap().status.success());
        }
        let store = record(&clean);
        let mut ids: Vec<_> = self.ledger(&store).into_iter().map(|entry| entry.id).collect();
        ids.reverse();
        (store, ids)
    }

    /// However many deliveries there were, one of them ended the import.
    fn closed_once(&self, record: &dyn Store, entry: &Import) {
        let events = self.runtime.block_on(record.audit_events(1_000)).unwrap();
        let closing = |outcome| {
            let of = events.iter().filter(|event| event.action == Action::Import && event.detail == entry.id.0);
            of.filter(|event| event.outcome == outcome).count()
        };
        assert_eq!((closing(Outcome::Success), closing(Outcome::Refused)), (1, 0), "{events:?}");
    }

    /// The receipt is genuine by the program's own judgement, speaks of this very content, and says what the ledger says.
    fn receipt_is_true(&self, entry: &Import, content: &[u8]) {
        let receipt = self.left(&format!("{}.receipt.json", entry.id)).expect("there is no receipt");
        let (file, data) = (self.folder.path().join("receipt.json"), self.folder.path().join("data.csv"));
        std::fs::write(&file, &receipt).unwrap();
        std::fs::write(&data, content).unwrap();
        let mut verify = hdai(self.state());
        verify.args(["receipt", "verify"]).arg(&file);
        if entry.state == State::Done {
            verify.arg("--data").arg(&data);
        }
        let said = verify.output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
        let receipt: Value = serde_json::from_slice(&receipt).unwrap();
        let counts = &entry.counts;
        let rows = json!({
            "read": counts.read, "stored": counts.stored, "updated": counts.updated, "unchanged": counts.unchanged,
            "rejected": counts.rejected,
        });
        assert_eq!(receipt["rows"], rows);
        let told = ["importId", "name", "etag", "state", "failure", "sha256"].map(|member| receipt[member].as_str().unwrap());
        let known = [&entry.id.0, &entry.source.name, &entry.source.etag, entry.state.name(), &entry.failure, &entry.sha256];
        assert_eq!(told, known.map(|text: &str| text));
        assert_eq!(receipt["attempts"], entry.attempt);
        let rejects = self.left(&format!("{}.rejects.csv", entry.id));
        assert_eq!(rejects.is_some(), counts.rejected > 0, "the reject file");
    }
}

/// Every encounter of one is in the other, with every value.
async fn same_encounters(found: &dyn Store, expected: &dyn Store) {
    const PAGE: u32 = 10_000;
    let mut after = None;
    loop {
        let pages = (found.encounters(after, PAGE).await.unwrap(), expected.encounters(after, PAGE).await.unwrap());
        if pages.0 != pages.1 {
            let (lengths, other) = ((pages.0.len(), pages.1.len()), pages.0.iter().zip(&pages.1).find(|(one, other)| one != other));
            panic!("{lengths:?} encounters after {after:?}, the first that differs: {:?}", other.map(|(one, _)| one.id));
        }
        match pages.0.last() {
            Some(last) => after = Some(last.id),
            None => return,
        }
    }
}

/// A file of generated encounters.
fn file(rows: u64, seed: u64, first_id: i32) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    let options = synthetic::Options { rows, seed, first_id };
    synthetic::encounters(&options).unwrap().for_each(|encounter| writer.write(&encounter).unwrap());
    writer.finish().unwrap()
}

/// The file with every so many rows spoilt, which then become rejects.
fn spoilt(content: &[u8], every: usize) -> Vec<u8> {
    let text = std::str::from_utf8(content).unwrap();
    let line = |(index, line): (usize, &'_ str)| if index % every == every / 2 { "spoilt,row".to_owned() } else { line.to_owned() };
    text.lines().enumerate().map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

/// Rows of three ranges of a download: some are committed while others are still to come.
const ROWS: u64 = 62_000;

/// A number below `below` that only these decide (`SplitMix64`).
fn draw(seed: u64, turn: u64, below: u64) -> u64 {
    let mut mixed = (seed << 32 | turn).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31) % below
}

/// The most memory that a process ever held, in bytes.
#[cfg(target_os = "linux")]
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
