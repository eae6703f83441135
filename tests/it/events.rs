//! Event Grid through the local host and the real handler: what an event leads to, and what leads to nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use health_data_ai::codec::blob_url::BlobUrl;
use health_data_ai::host::{EventSchema, blob_created_event};
use serde_json::{Value, json};

use crate::support::{Host, Records, generate};

const ACCOUNT: &str = "http://127.0.0.1:10000/devstoreaccount1";
const WEBHOOK: &str = "/runtime/webhooks/EventGrid?functionName=PatientDataEvents";

fn created(schema: EventSchema, account: &str, container: &str, name: &str) -> Value {
    let blob = BlobUrl { account_url: account.into(), container: container.into(), name: name.into() };
    blob_created_event(schema, &blob, "0x8DC", 100)
}

fn notify(host: &Host, events: &Value) {
    let (status, _, body) = host.send("POST", WEBHOOK, &[("aeg-event-type", "Notification")], events.to_string().into_bytes());
    assert_eq!(status, 202, "{}", String::from_utf8_lossy(&body));
}

/// The names in the ledger, and the function that brought each file in.
fn ledger(host: &Host) -> Vec<(String, String)> {
    let database = rusqlite::Connection::open(host.folder.join("hdai.db")).unwrap();
    let sql =
        "SELECT name, (SELECT max(caller) FROM audit WHERE detail = imports.id AND outcome = 'success') FROM imports ORDER BY name";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, Option<String>>(1)?.unwrap_or_default()))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// Waits until the blob trigger has delivered the file too and no message is left.
fn await_quiet(host: &Host, name: &str) {
    let queues = rusqlite::Connection::open(host.folder.join("host/queues.db")).unwrap();
    queues.busy_timeout(Duration::from_secs(10)).unwrap();
    let count = |sql: &str| queues.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
    let begun = Instant::now();
    while count(&format!("SELECT count(*) FROM receipt WHERE name = '{name}'")) == 0 || count("SELECT count(*) FROM message") > 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "the queues never emptied");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_event_and_the_blob_trigger_import_a_file_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    host.drop_file(&generate(folder.path(), 60, 1), "a b.csv");
    notify(&host, &json!([created(EventSchema::EventGrid, ACCOUNT, "trainingdata", "a b.csv")]));
    let import = host.await_import("a b.csv");
    assert_eq!((&import["state"], &import["rows"]["stored"]), (&json!("done"), &json!(60)));
    await_quiet(&host, "a b.csv");
    // And once more, as Event Grid does now and then.
    notify(&host, &json!([created(EventSchema::CloudEvents, ACCOUNT, "trainingdata", "a b.csv")]));
    await_quiet(&host, "a b.csv");
    let names: Vec<String> = ledger(&host).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a b.csv"]);
    assert_eq!(Records::read(&host.folder).patients.len(), 60);
}

/// The folder's watch passes over files with this ending, so that only an event can bring them in.
const UNWATCHED: &str = ".partial";

#[test]
fn only_an_event_that_concerns_the_container_leads_to_an_import() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    let csv = generate(folder.path(), 60, 1);
    let [foreign, deleted, later, cloud] = ["foreign", "deleted", "later", "cloud"].map(|name| format!("{name}{UNWATCHED}"));
    for name in [&foreign, &deleted, &later, &cloud] {
        host.drop_file(&csv, name);
    }
    let elsewhere = host.folder.join("blobs/elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::copy(&csv, elsewhere.join(&foreign)).unwrap();

    let mut begun = created(EventSchema::EventGrid, ACCOUNT, "trainingdata", &later);
    begun["data"]["api"] = json!("CreateFile");
    begun["data"]["contentLength"] = json!(0);
    let mut removed = created(EventSchema::EventGrid, ACCOUNT, "trainingdata", &deleted);
    removed["eventType"] = json!("Microsoft.Storage.BlobDeleted");
    let mut of_no_concern = Vec::new();
    for schema in [EventSchema::EventGrid, EventSchema::CloudEvents] {
        of_no_concern.push(created(schema, "http://127.0.0.1:10000/another", "trainingdata", &foreign));
        of_no_concern.push(created(schema, "http://127.0.0.1:10001/devstoreaccount1", "trainingdata", &foreign));
        of_no_concern.push(created(schema, ACCOUNT, "elsewhere", &foreign));
    }
    of_no_concern.extend([begun.clone(), removed]);
    notify(&host, &Value::Array(of_no_concern));
    assert_eq!(messages(&host.folder), 0, "an event of no concern was queued");

    // A batch of both: the file is complete now.
    let mut closed = begun.clone();
    closed["data"]["api"] = json!("FlushWithClose");
    notify(&host, &json!([begun, closed]));
    notify(&host, &created(EventSchema::CloudEvents, ACCOUNT, "trainingdata", &cloud));
    for name in [&later, &cloud] {
        assert_eq!(host.await_import(name)["state"], "done", "{name}");
    }
    let by_queue = |name: &str| (name.to_owned(), "PatientDataImport".to_owned());
    assert_eq!(ledger(&host), [by_queue(&cloud), by_queue(&later)]);
}

#[test]
fn events_that_come_twice_and_in_the_wrong_order_bring_a_file_in_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    let csv = generate(folder.path(), 60, 1);
    let names = ["one", "two"].map(|name| format!("{name}{UNWATCHED}"));
    for name in &names {
        host.drop_file(&csv, name);
    }
    let of = |schema, name: &str, api: &str| {
        let mut event = created(schema, ACCOUNT, "trainingdata", name);
        event["data"]["api"] = json!(api);
        event
    };
    // The end of a file before its beginning, in both schemas, each several times.
    let mut batch = Vec::new();
    for _ in 0..3 {
        for schema in [EventSchema::EventGrid, EventSchema::CloudEvents] {
            for name in names.iter().rev() {
                batch.push(of(schema, name, "FlushWithClose"));
                batch.push(of(schema, name, "CreateFile"));
            }
        }
    }
    // One schema a delivery, as a subscription has it.
    for part in batch.chunks(4) {
        notify(&host, &Value::Array(part.to_vec()));
    }
    for name in &names {
        assert_eq!(host.await_import(name)["state"], "done", "{name}");
    }
    let begun = Instant::now();
    while messages(&host.folder) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the queue never emptied");
        std::thread::sleep(Duration::from_millis(50));
    }
    let by_queue = |name: &str| (name.to_owned(), "PatientDataImport".to_owned());
    assert_eq!(ledger(&host), [by_queue(&names[0]), by_queue(&names[1])]);
    assert_eq!(Records::read(&host.folder).patients.len(), 60);
}

fn messages(folder: &Path) -> u32 {
    let queues = rusqlite::Connection::open(folder.join("host/queues.db")).unwrap();
    queues.query_row("SELECT count(*) FROM message WHERE queue LIKE 'import-requests%'", [], |row| row.get(0)).unwrap()
}

#[test]
fn the_webhook_proves_itself() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    let validation = json!([{
        "id": "1", "topic": "t", "subject": "", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": { "validationCode": "512d38b6" }, "eventTime": "2026-11-22T05:41:00Z", "metadataVersion": "1", "dataVersion": "2",
    }]);
    let headers = [("aeg-event-type", "SubscriptionValidation")];
    let (status, _, body) = host.send("POST", WEBHOOK, &headers, validation.to_string().into_bytes());
    assert_eq!((status, body), (200, br#"{"validationResponse":"512d38b6"}"#.to_vec()));
    assert_eq!(host.send("OPTIONS", WEBHOOK, &[("webhook-request-origin", "eventgrid.azure.net")], Vec::new()).0, 200);
    assert_eq!(host.send("POST", WEBHOOK, &[("aeg-event-type", "Notification")], b"[1]".to_vec()).0, 400);
}

#[test]
fn a_blob_in_the_call_gives_the_same_record_as_a_reference() {
    let folder = tempfile::tempdir().unwrap();
    let csv = generate(folder.path(), 300, 9);
    let hosts = [&[][..], &["--inline-blobs"]].map(|args| Host::start(&folder.path().join(format!("state{}", args.len())), args));
    for host in &hosts {
        host.drop_file(&csv, "a.csv");
    }
    let [reference, content] = hosts.map(|host| {
        let import = host.await_import("a.csv");
        assert_eq!(import["attempts"], 1);
        (import["rows"].clone(), import["sha256"].clone(), Records::read(&host.folder).patients_without_import())
    });
    assert_eq!(reference.2.len(), 300);
    assert_eq!(reference, content);
}

#[test]
fn an_ending_secret_of_the_vault_is_a_warning_to_operators() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    let event = json!([{
        "id": "9", "eventType": "Microsoft.KeyVault.SecretNearExpiry", "topic": "t", "subject": "sql-connection",
        "eventTime": "2026-11-22T05:41:00Z", "dataVersion": "1",
        "data": { "VaultName": "hospital", "ObjectType": "Secret", "ObjectName": "sql-connection", "EXP": 1_795_000_000 }
    }]);
    notify(&host, &event);
    let begun = Instant::now();
    while !host.log().contains("vault.near_expiry") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", host.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let line = host.log().lines().find(|line| line.contains("vault.near_expiry")).unwrap().to_owned();
    assert!(line.contains("hospital") && line.contains("sql-connection") && line.contains("WARN"), "{line}");
}
