//! `hdai imports replay`: what was given up is done once, when what stood in its way is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use azure_core::http::ClientOptions;
use azure_storage_queue::models::{QueueClientPeekMessagesOptions, QueueMessage};
use azure_storage_queue::{QueueServiceClient, QueueServiceClientOptions};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use health_data_ai::azure::access::Access;
use health_data_ai::azure::queues::{Moved, QueueService};
use health_data_ai::codec::blob_url::BlobUrl;
use health_data_ai::host::{BLOB_POISON_QUEUE, EventSchema, blob_created_event};
use serde_json::json;

use crate::azurite::{Azurite, Certificates, Tokens, queue_signature};
use crate::support::{Host, Records, generate, hdai};

const ACCOUNT: &str = "http://127.0.0.1:10000/devstoreaccount1";

/// What the command said, and whether it ended well.
fn replay(folder: &Path, vars: &[(&str, &str)], args: &[&str]) -> (bool, String) {
    let output = hdai(folder).envs(vars.iter().copied()).args(["imports", "replay"]).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    for secret in ["smith", "sig=", "devstoreaccount1"] {
        assert!(!said.contains(secret), "{secret} is in {said}");
    }
    (output.status.success(), said)
}

fn await_messages(host: &Host, queue: &str, count: u32) {
    let queues = rusqlite::Connection::open(host.folder.join("host/queues.db")).unwrap();
    queues.busy_timeout(Duration::from_secs(10)).unwrap();
    let lies = || -> u32 { queues.query_row("SELECT count(*) FROM message WHERE queue = ?1", [queue], |row| row.get(0)).unwrap() };
    let begun = Instant::now();
    while lies() != count {
        assert!(begun.elapsed() < Duration::from_secs(60), "{queue} holds {}: {}", lies(), host.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ledger(folder: &Path) -> Vec<(String, String)> {
    let database = rusqlite::Connection::open(folder.join("hdai.db")).unwrap();
    let mut statement = database.prepare("SELECT name, state FROM imports ORDER BY name").unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

fn audited(folder: &Path) -> Vec<(String, String, String)> {
    let database = rusqlite::Connection::open(folder.join("hdai.db")).unwrap();
    let sql = "SELECT caller, action, outcome FROM audit WHERE detail LIKE 'poison messages%' ORDER BY seq";
    let mut statement = database.prepare(sql).unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_request_that_failed_five_times_is_imported_once_when_its_file_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    // A link to itself cannot be opened, and nobody watches this ending: only the event leads to it.
    let name = "smith.csv.partial";
    let place = host.folder.join("blobs/trainingdata").join(name);
    std::os::unix::fs::symlink(name, &place).unwrap();
    let blob = BlobUrl { account_url: ACCOUNT.into(), container: "trainingdata".into(), name: name.into() };
    let event = json!([blob_created_event(EventSchema::EventGrid, &blob, "0x1", 100)]).to_string();
    let webhook = "/runtime/webhooks/EventGrid?functionName=PatientDataEvents";
    assert_eq!(host.send("POST", webhook, &[("aeg-event-type", "Notification")], event.into_bytes()).0, 202);
    await_messages(&host, "import-requests-poison", 1);
    assert_eq!(ledger(&host.folder), [], "what cannot be read is in no ledger");

    let (_, listed) = replay(&host.folder, &[], &["--dry-run"]);
    assert!(listed.contains("import-requests-poison") && listed.contains("5 attempts  0 minutes old"), "{listed}");
    let (_, none) = replay(&host.folder, &[], &["--dry-run", "--queue", "training-requests"]);
    assert!(none.contains("no poison message"), "{none}");
    assert_eq!(audited(&host.folder), []);

    std::fs::remove_file(&place).unwrap();
    host.drop_file(&generate(folder.path(), 60, 1), name);
    let (done, said) = replay(&host.folder, &[], &[]);
    assert!(done && said.contains("import-requests-poison: 1 to import-requests") && said.contains("1 put back"), "{said}");
    assert_eq!(host.await_import(name)["state"], "done");
    await_messages(&host, "import-requests", 0);
    assert_eq!(ledger(&host.folder), [(name.to_owned(), "done".to_owned())]);
    assert_eq!(Records::read(&host.folder).patients.len(), 60);
    let (done, said) = replay(&host.folder, &[], &[]);
    assert!(done && said.contains("no poison message"), "{said}");
    let once = ("command-line".to_owned(), "import".to_owned(), "success".to_owned());
    assert_eq!(audited(&host.folder), [once.clone(), once]);
}

#[test]
fn blobs_that_failed_five_times_are_put_back_by_number_and_by_queue() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let host = Host::start(&state, &["--fault", "fail=100%@PatientDataBulkImport"]);
    let csv = generate(folder.path(), 60, 1);
    host.drop_file(&csv, "smith.csv");
    host.drop_file(&csv, "2026/smith.csv");
    await_messages(&host, BLOB_POISON_QUEUE, 2);
    drop(host);
    let host = Host::start(&state, &[]);
    let (_, said) = replay(&state, &[], &["--queue", "import-requests"]);
    assert!(said.contains("no poison message"), "{said}");
    let (_, said) = replay(&state, &[], &["--queue", "webjobs-blobtrigger", "--limit", "1"]);
    assert!(said.contains("1 put back"), "{said}");
    await_messages(&host, BLOB_POISON_QUEUE, 1);
    let (_, said) = replay(&state, &[], &[]);
    assert!(said.contains("1 put back"), "{said}");
    for name in ["smith.csv", "2026/smith.csv"] {
        assert_eq!(host.await_import(name)["state"], "done");
    }
    assert_eq!(ledger(&state).len(), 2);
    assert_eq!(Records::read(&state).patients.len(), 60);
}

/// The SDK's client of an Azurite's queues.
fn service(azurite: &Azurite) -> QueueServiceClient {
    let url = format!("{}?{}", azurite.account_url(), queue_signature("rwdlacup"));
    let client_options = ClientOptions { transport: azurite.transport(), ..Default::default() };
    let options = QueueServiceClientOptions { client_options, ..Default::default() };
    QueueServiceClient::new(url.parse().unwrap(), None, Some(options)).unwrap()
}

async fn put(service: &QueueServiceClient, queue: &str, texts: &[&str]) {
    let queue = service.queue_client(queue).unwrap();
    queue.create(None).await.unwrap();
    for text in texts {
        let message = QueueMessage { message_text: Some((*text).to_owned()) };
        queue.send_message(message.try_into().unwrap(), None).await.unwrap();
    }
}

async fn texts(service: &QueueServiceClient, queue: &str) -> Vec<String> {
    let options = QueueClientPeekMessagesOptions { number_of_messages: Some(32), ..Default::default() };
    let peeked = service.queue_client(queue).unwrap().peek_messages(Some(options)).await.unwrap().into_model().unwrap();
    peeked.items.unwrap_or_default().into_iter().map(|message| message.message_text.unwrap()).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn poison_in_a_storage_account_goes_back_and_a_blob_becomes_a_request_that_the_handler_understands() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    let name = "2026/smith 1.csv.partial";
    host.drop_file(&generate(folder.path(), 60, 1), name);
    let (azurite, runtime) = (Azurite::queues(), runtime());
    let account = service(azurite);
    let poison = json!({
        "Type": "BlobTrigger", "FunctionId": "Host.Functions.PatientDataBulkImport", "BlobType": "BlockBlob",
        "ContainerName": "trainingdata", "BlobName": name, "ETag": "\"0x1\"",
    });
    let poison = BASE64_STANDARD.encode(poison.to_string());
    let training = BASE64_STANDARD.encode(r#"{"importId":"x"}"#);
    runtime.block_on(async {
        put(&account, BLOB_POISON_QUEUE, &[&poison, "strange & <smith>"]).await;
        put(&account, "training-requests-poison", &[&training]).await;
    });
    let url = azurite.account_url();
    let vars = [("HDAI_QUEUE_URL", url.as_str())];
    let (_, listed) = replay(&host.folder, &vars, &["--dry-run"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(listed.contains("would go to import-requests") && listed.contains("would go to training-requests"), "{listed}");
    assert_eq!(runtime.block_on(texts(&account, BLOB_POISON_QUEUE)).len(), 2, "looking takes nothing");

    // Forty more, so that one call does not bring them all.
    let more: Vec<&str> = vec![&training; 40];
    runtime.block_on(put(&account, "training-requests-poison", &more));
    let (done, said) = replay(&host.folder, &vars, &[]);
    assert!(!done && said.contains("42 put back") && said.contains("1 cannot be read and stay"), "{said}");
    let requests = runtime.block_on(texts(&account, "import-requests"));
    let request = String::from_utf8(BASE64_STANDARD.decode(&requests[0]).unwrap()).unwrap();
    assert_eq!((requests.len(), runtime.block_on(texts(&account, "training-requests")).len()), (1, 32), "a peek shows 32");
    assert_eq!(runtime.block_on(texts(&account, "training-requests-poison")), Vec::<String>::new());
    assert_eq!(audited(&host.folder).len(), 1);

    // The Functions host hands the text to the function; this one does, too.
    assert_eq!(host.call("POST", "/admin/functions/PatientDataImport", &json!({ "input": request })).0, 202);
    assert_eq!(host.await_import(name)["state"], "done");
    assert_eq!(host.call("POST", "/admin/functions/PatientDataImport", &json!({ "input": request })).0, 202);
    let begun = Instant::now();
    while !host.log().contains("was over before") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", host.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ledger(&host.folder).len(), 1, "twice is once");
}

#[test]
fn a_signature_that_may_not_is_told_with_a_remedy_and_a_token_lets_in_over_https() {
    let folder = tempfile::tempdir().unwrap();
    let (url, wrong) = (Azurite::queues().account_url(), queue_signature("r"));
    let vars = [("HDAI_QUEUE_URL", url.as_str()), ("HDAI_QUEUE_SAS", &wrong)];
    let (done, said) = replay(folder.path(), &vars, &[]);
    assert!(!done && said.contains("Storage Queue Data Contributor") && said.contains("HDAI_QUEUE_SAS"), "{said}");
    assert_eq!(audited(folder.path())[0].2, "failure");
    let (done, said) = replay(folder.path(), &[("HDAI_QUEUE_URL", "http://acct.queue.core.windows.net")], &[]);
    assert!(!done && said.contains("must be https"), "{said}");

    let azurite = Azurite::serve("queue", Some(&Certificates::new()));
    runtime().block_on(async {
        let account = service(&azurite);
        put(&account, "aaa-poison", &["one", "two"]).await;
        put(&account, "bbb", &[]).await;
        let access = Access::Token(std::sync::Arc::new(Tokens("https://storage.azure.com")));
        let queues = QueueService::with(&azurite.account_url(), &access, azurite.transport()).unwrap();
        assert_eq!(queues.poison_queues().await.unwrap(), ["aaa-poison"]);
        assert_eq!(queues.peek("aaa-poison", 1).await.unwrap().len(), 1);
        assert_eq!(queues.peek("none-poison", 1).await.unwrap(), []);
        let mut tally = Moved::default();
        let same = |text: &str| Some(text.to_owned());
        queues.replay("aaa-poison", &queues, "aaa", 1, same, &mut tally).await.unwrap();
        queues.replay("none-poison", &queues, "aaa", 1, same, &mut tally).await.unwrap();
        assert_eq!(tally, Moved { moved: 1, left: 0 });
        assert_eq!((texts(&account, "aaa").await.len(), texts(&account, "aaa-poison").await.len()), (1, 1));
    });
}

#[test]
fn without_a_host_there_is_nothing_to_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let (done, said) = replay(folder.path(), &[], &[]);
    assert!(done && said.contains("no poison message"), "{said}");
    assert!(!folder.path().join("host").exists(), "looking makes no queues");
}
