//! Large files in parts: several handler processes over one record and one storage account, each given what the queue holds.

use std::sync::Mutex;

use azure_core::http::RequestContent;
use azure_storage_blob::BlobContainerClient;

use super::*;
use crate::azurite::Azurite;
use crate::support::Host;
use crate::tds;

const PART: &str = "ImportPart";

/// Handlers, as instances of one app, over a container of the test's own.
struct Fleet {
    handlers: Vec<Handler>,
    container: BlobContainerClient,
    uri: String,
    runtime: tokio::runtime::Runtime,
}

impl Fleet {
    fn start(folder: &Path, test: &str, size: usize, part_bytes: &str) -> Self {
        Self::start_with(folder, test, part_bytes, &vec![&[][..]; size])
    }

    /// A handler for each of `own`, the settings of its own.
    fn start_with(folder: &Path, test: &str, part_bytes: &str, own: &[&[(&'static str, String)]]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (azurite, name) = (Azurite::http(), format!("parts-{test}"));
        let container = runtime.block_on(azurite.container(&name));
        let account = azurite.account_url();
        let vars = [
            ("HDAI_BLOB_STORE", "azure"),
            ("HDAI_BLOB_ACCOUNT_URL", &account),
            ("HDAI_IMPORT_CONTAINER", &name),
            ("HDAI_IMPORT_PART_BYTES", part_bytes),
        ];
        let all = |own: &&[(&'static str, String)]| {
            let own = own.iter().map(|(name, value)| (*name, value.as_str()));
            Handler::start(folder, &vars.iter().copied().chain(own).collect::<Vec<_>>())
        };
        let handlers = own.iter().map(all).collect();
        Self { handlers, container, uri: format!("{account}/{name}/a.csv"), runtime }
    }

    fn put(&self, content: &[u8]) {
        let upload = RequestContent::from(content.to_vec());
        self.runtime.block_on(self.container.blob_client("a.csv").upload(upload, None)).unwrap();
    }

    /// Delivers the file to a handler; answers the messages it wants queued.
    fn plan(&self, handler: usize) -> Vec<Value> {
        let reply = self.handlers[handler].done(BLOB, &deferred(&self.uri));
        reply["Outputs"]["importParts"].as_array().cloned().unwrap_or_default()
    }

    /// Delivers every message to the next handler, three at once on each.
    fn deliver_all(&self, messages: Vec<Value>) -> Vec<Value> {
        let (messages, replies) = (Mutex::new(messages), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for handler in self.handlers.iter().cycle().take(3 * self.handlers.len()) {
                scope.spawn(|| {
                    loop {
                        let Some(message) = messages.lock().unwrap().pop() else { return };
                        let reply = handler.done(PART, &queued(&message));
                        replies.lock().unwrap().push(reply);
                    }
                });
            }
        });
        replies.into_inner().unwrap()
    }

    fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        self.handlers[0].rows(sql)
    }
}

/// Encounters with a column that the schema does not know, values over several lines, rows that break rules, blank lines, and no line
/// end behind the last row.
fn difficult(folder: &Path, rows: u32) -> Vec<u8> {
    let plain = String::from_utf8(csv(folder, rows, 7)).unwrap();
    let mut text = String::from("\u{feff}");
    for (place, line) in plain.lines().enumerate() {
        text += line;
        text += match place {
            0 => ",note\r\n",
            _ if place % 31 == 0 => ",too,many\n\n",
            _ if place % 7 == 0 => ",\"one \"\"line\"\"\r\nanother, and\n\n more\"\r\n",
            _ => ",\n",
        };
    }
    text.trim_end().as_bytes().to_vec()
}

/// What an import came to, but for what names its file and its times.
fn outcome(rows: impl Fn(&str) -> Vec<Vec<String>>) -> [Vec<Vec<String>>; 2] {
    [
        rows(
            "SELECT state, rowsread, stored, updated, unchanged, rejected, rejectskept, extracolumns, sha256, firstline, lastline FROM imports",
        ),
        rows("SELECT line, ordinal, columnname, rule, remedy FROM rejects ORDER BY line, ordinal"),
    ]
}

/// The outcome and the patients of the file imported whole, by the command line.
fn imported_whole(folder: &Path, content: &[u8]) -> ([Vec<Vec<String>>; 2], Vec<String>) {
    let file = folder.join("drop").join("whole.csv");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, content).unwrap();
    let state = folder.join("whole");
    assert!(hdai(&state).arg("import").arg(&file).env("HDAI_IMPORT_PART_BYTES", "65536").status().unwrap().success());
    let handler = Handler::start(&state, &[]);
    (outcome(|sql| handler.rows(sql)), Records::read(&state).patients_without_import())
}

#[test]
fn a_file_in_parts_on_three_handlers_ends_as_the_file_imported_whole() {
    let folder = tempfile::tempdir().unwrap();
    let content = difficult(folder.path(), 6_000);
    let whole = imported_whole(folder.path(), &content);
    let state = folder.path().join("state");
    let fleet = Fleet::start(&state, "whole", 3, "131072");
    fleet.put(&content);
    let parts = fleet.plan(0);
    assert!(parts.len() >= 5 && parts.len() == content.len().div_ceil(131_072), "{}", parts.len());
    assert_eq!(fleet.rows("SELECT state, rowsread, firstline FROM imports"), [["running", "0", "2"]]);
    // Its answer may have been lost: another delivery queues the same.
    assert_eq!(fleet.plan(1), parts);
    // Everything twice, from the last to the first, at once, here and there.
    let first = fleet.deliver_all([parts.clone(), parts.clone()].concat());
    // What was taken over by a delivery that is over now is done by it; what is left, a later delivery does.
    assert_eq!(fleet.plan(2), [] as [Value; 0]);
    let late = fleet.deliver_all(parts.clone());
    assert!(first.iter().chain(&late).any(|reply| reply["Outputs"]["trainingRequest"]["importId"] == parts[0]["importId"]));

    assert_eq!(outcome(|sql| fleet.rows(sql)), whole.0);
    let records = Records::read(&state);
    assert_eq!(records.patients_without_import(), whole.1);
    let id = parts[0]["importId"].as_str().unwrap();
    let rejected = fleet.rows(
        "SELECT count(*) FROM importparts p WHERE EXISTS (SELECT 1 FROM rejects r WHERE r.line \
        BETWEEN p.firstline AND p.firstline + p.datarows)",
    );
    assert_eq!(rejected, [[parts.len().to_string()]], "every part has rejects");
    let closings = fleet.rows(&format!("SELECT count(*) FROM audit WHERE detail = '{id}' AND outcome = 'success'"));
    assert_eq!(closings, [["1"]], "it ends once");
    let receipt = fleet.handlers[1].get(&format!("api/imports/{id}"), &[]);
    assert_ne!(receipt.status, 200, "nobody asks without an identity");
    // Whoever ended it may have died before the receipt: a message that comes back writes it.
    let blobs = Azurite::http().blobs(crate::azurite::impatient());
    let name = format!("{id}.receipt.json");
    let none = health_data_ai::blob::Blobs::put(&blobs, "parts-whole-receipts", &name, bytes::Bytes::new());
    fleet.runtime.block_on(none).unwrap();
    fleet.deliver_all(vec![parts[1].clone()]);
    let left = fleet.runtime.block_on(async {
        let opened = health_data_ai::blob::Blobs::open(&blobs, "parts-whole-receipts", &name).await.unwrap();
        let chunks: Vec<bytes::Bytes> = futures_util::TryStreamExt::try_collect(opened.unwrap().chunks).await.unwrap();
        chunks.concat()
    });
    let receipt: Value = serde_json::from_slice(&left).unwrap();
    let lines = String::from_utf8(content.clone()).unwrap().lines().count();
    assert_eq!(
        (&receipt["firstLine"], &receipt["lastLine"], &receipt["sha256"]),
        (&json!(2), &json!(lines), &json!(sha256(&content)))
    );
    let tags = fleet.runtime.block_on(async {
        std::collections::HashMap::from(fleet.container.blob_client("a.csv").get_tags(None).await.unwrap().into_model().unwrap())
    });
    assert_eq!(tags["status"], "done");
}

#[test]
fn a_handler_killed_in_the_middle_of_a_part_loses_and_repeats_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let content = csv(folder.path(), 20_000, 3);
    let fleet = Fleet::start(folder.path(), "killed", 2, &(content.len() / 2 + 1000).to_string());
    fleet.put(&content);
    let parts = fleet.plan(0);
    assert_eq!(parts.len(), 2);
    let checkpoint = || fleet.rows("SELECT checkpoint, done FROM importparts WHERE part = 0").remove(0);
    std::thread::scope(|scope| {
        let victim = &fleet.handlers[1];
        let message = queued(&parts[0]).to_string();
        scope.spawn(move || {
            let call = victim.client.post(victim.url(PART)).header("content-type", "application/json").body(message).send();
            // Cut off.
            assert!(victim.runtime.block_on(call).is_err());
        });
        let begun = Instant::now();
        while checkpoint()[0] == "0" {
            assert!(begun.elapsed() < Duration::from_secs(60), "no batch was committed");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(Command::new("kill").args(["-9", &victim.child.id().to_string()]).status().unwrap().success());
    });
    let [committed, done] = &checkpoint()[..] else { panic!("a row") };
    assert!(committed.parse::<u64>().unwrap() < 9_000 && done == "0", "it was killed in the middle");
    for message in parts.iter().rev() {
        fleet.handlers[0].done(PART, &queued(message));
    }
    let ledger = fleet.rows("SELECT state, stored, updated, unchanged, rejected, sha256 FROM imports");
    assert_eq!(ledger, [["done", "20000", "0", "0", "0", sha256(&content).as_str()]]);
    assert_eq!(fleet.rows("SELECT part, attempt FROM importparts"), [["0", "2"], ["1", "1"]]);
    assert_eq!(fleet.handlers[0].count("PatientData"), 20_000);
}

/// In Azure SQL batches take turns. Who waits in vain has not failed: told as a failure five times, its message would be put aside.
#[test]
fn a_part_whose_turn_does_not_come_is_queued_again_and_done_later() {
    let folder = tempfile::tempdir().unwrap();
    let content = csv(folder.path(), 2_000, 3);
    let server = tds::Server::start(tds::Options::default());
    let database = server.connection_string();
    let own = |patience: &'static str| {
        [
            ("HDAI_SQL_CONNECTION", database.clone()),
            ("HDAI_SQL_CA_FILE", server.ca_file().to_str().unwrap().to_owned()),
            ("HDAI_SQL_IMPORT_SECONDS", patience.to_owned()),
        ]
    };
    let part_bytes = (content.len() / 2 + 1000).to_string();
    let fleet = Fleet::start_with(folder.path(), "turns", &part_bytes, &[&own("60"), &own("2")]);
    fleet.put(&content);
    let parts = fleet.plan(0);
    assert_eq!(parts.len(), 2);
    // Another session has its turn all the time.
    let holder = fleet.runtime.block_on(async {
        let mut config = tiberius::Config::from_ado_string(&database).unwrap();
        config.trust_cert_ca(server.ca_file().to_str().unwrap());
        let tcp = tokio::net::TcpStream::connect(config.get_addr()).await.unwrap();
        let mut holder =
            tiberius::Client::connect(config, tokio_util::compat::TokioAsyncWriteCompatExt::compat_write(tcp)).await.unwrap();
        let lock = "DECLARE @result int; EXEC @result = sp_getapplock @Resource = N'hdai-import-dbo', @LockMode = N'Exclusive', \
            @LockOwner = N'Session', @LockTimeout = 1000; SELECT CAST(@result AS int) AS result";
        let rows = holder.simple_query(lock).await.unwrap().into_first_result().await.unwrap();
        assert_eq!(rows[0].get::<i32, _>(0), Some(0));
        holder
    });
    for _ in 0..2 {
        let reply = fleet.handlers[1].done(PART, &queued(&parts[1]));
        assert_eq!(reply["Outputs"], json!({ "importParts": [parts[1]] }), "{reply}");
    }
    drop(holder);
    fleet.handlers[0].done(PART, &queued(&parts[0]));
    let reply = fleet.handlers[1].done(PART, &queued(&parts[1]));
    assert_eq!(reply["Outputs"]["trainingRequest"]["importId"], parts[0]["importId"], "the import is over: {reply}");
    assert!(!fleet.handlers[1].log().contains("the delivery failed"));
    assert_eq!(server.refusals(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_replaced_or_removed_between_its_parts_fails_once_and_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let content = csv(folder.path(), 2_500, 5);
    let fleet = Fleet::start(folder.path(), "replaced", 1, "131072");
    let handler = &fleet.handlers[0];
    fleet.put(&content);
    let old = fleet.plan(0);
    assert!(old.len() >= 3);
    handler.done(PART, &queued(&old[0]));
    // Another file of the same name, and no event of it yet.
    fleet.put(&[&content[..], b"\n"].concat());
    for message in &old[1..] {
        let reply = handler.done(PART, &queued(message));
        assert_eq!(reply["Outputs"], json!({}), "{reply}");
    }
    let failure = "the file was replaced or removed before all its parts were read: drop it again";
    assert_eq!(fleet.rows("SELECT state, failure FROM imports"), [["failed", failure]]);
    let id = old[0]["importId"].as_str().unwrap();
    let failures = format!("SELECT count(*) FROM audit WHERE detail = '{id}' AND outcome = 'failure'");
    assert_eq!(fleet.rows(&failures), [["1"]], "one part says so");

    // The newer version begins, and is replaced in turn while its parts wait.
    let newer = fleet.plan(0);
    handler.done(PART, &queued(&newer[0]));
    fleet.put(&content[..content.len() - 1]);
    let newest = fleet.plan(0);
    for message in newer[1..].iter().chain(&old) {
        handler.done(PART, &queued(message));
    }
    let states = fleet.rows("SELECT state, failure FROM imports ORDER BY seq");
    assert_eq!(states[1..], [["failed", "the file was replaced by a newer version"], ["running", ""]]);
    for message in &newest {
        handler.done(PART, &queued(message));
    }
    assert_eq!(fleet.rows("SELECT state, rowsread FROM imports ORDER BY seq")[2], ["done", "2500"]);
    assert_eq!(handler.count("PatientData"), 2_500);
    // Removed.
    fleet.put(&[&content[..], b"\n\n"].concat());
    let removed = fleet.plan(0);
    fleet.runtime.block_on(fleet.container.blob_client("a.csv").delete(None)).unwrap();
    handler.done(PART, &queued(&removed[1]));
    assert_eq!(fleet.rows("SELECT state, failure FROM imports ORDER BY seq")[3], ["failed", failure]);
    let log = handler.log();
    assert!(!log.contains("a.csv") && !log.contains("the delivery failed"), "{log}");
}

#[test]
fn messages_that_name_no_part_are_answered_and_small_or_packed_files_are_not_planned() {
    let folder = tempfile::tempdir().unwrap();
    let content = csv(folder.path(), 3_000, 2);
    let fleet = Fleet::start(folder.path(), "other", 1, "131072");
    let handler = &fleet.handlers[0];
    let unknown = "0123456789abcdef0123456789abcdef";
    for message in [
        json!({ "importId": unknown, "part": 0 }),
        json!({ "importId": "smith\n", "part": 0 }),
        json!({ "importId": unknown, "part": -1 }),
        json!({ "importId": unknown, "part": 4_294_967_296_u64 }),
        json!({ "part": 0 }),
        json!("smith"),
    ] {
        let reply = handler.done(PART, &queued(&message));
        assert!(
            !reply.to_string().contains("smith") && reply["Logs"][0].as_str().is_some_and(|log| log.contains("part")),
            "{reply}"
        );
    }
    assert!(handler.log().contains("the delivery was refused for good"));
    // What is packed is read from its beginning alone.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    packed.write_all(&content).unwrap();
    fleet.put(&packed.finish().unwrap());
    assert_eq!(fleet.plan(0), [] as [Value; 0]);
    fleet.put(&content[..131_072]);
    assert_eq!(fleet.plan(0), [] as [Value; 0]);
    assert_eq!(fleet.rows("SELECT state FROM imports"), [["done"], ["done"]]);
    // A header that will not do fails at once, and a file without rows is done at once.
    fleet.put(&[b"not,ours\n".as_slice(), &content].concat());
    assert_eq!(fleet.plan(0), [] as [Value; 0]);
    let header = content.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fleet.put(&[&content[..header], &vec![b'\n'; 200_000]].concat());
    assert_eq!(fleet.plan(0), [] as [Value; 0]);
    let states = fleet.rows("SELECT state, rowsread, firstline FROM imports ORDER BY seq");
    assert_eq!(states[2..], [["failed", "0", "0"], ["done", "0", "0"]]);
    assert_eq!(handler.count("importparts"), 0);
}

#[test]
fn the_local_host_plays_a_large_file_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let content = difficult(folder.path(), 3_000);
    let whole = imported_whole(folder.path(), &content);
    let file = folder.path().join("large.csv");
    std::fs::write(&file, &content).unwrap();
    let state = folder.path().join("state");
    let host = Host::start_with(&state, &[], &[("HDAI_IMPORT_PART_BYTES", "65536")]);
    host.drop_file(&file, "large.csv");
    let import = host.await_import("large.csv");
    assert_eq!((&import["state"], &import["firstLine"]), (&json!("done"), &json!(2)));
    let database = Handler::start(&state, &[]);
    assert_eq!(outcome(|sql| database.rows(sql)), whole.0);
    assert!(database.count("importparts") >= 5);
    assert_eq!(Records::read(&state).patients_without_import(), whole.1);
    host.await_model();
}
