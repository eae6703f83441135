//! Events of storage at the handler: what is queued, what is not, and what is said of it.

use super::*;

fn event(cloud: bool, url: &str, api: &str) -> Value {
    let data = json!({ "api": api, "url": url, "eTag": "0x8D", "contentLength": 100 });
    match cloud {
        true => json!({ "specversion": "1.0", "id": "1", "type": "Microsoft.Storage.BlobCreated", "source": "s", "data": data }),
        false => json!({ "id": "1", "eventType": "Microsoft.Storage.BlobCreated", "topic": "t", "data": data }),
    }
}

fn queued_names(reply: &Value) -> Vec<String> {
    let requests = reply["Outputs"]["importRequests"].as_array().cloned().unwrap_or_default();
    requests.iter().map(|request| request["url"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn only_endings_and_operations_that_are_wanted_are_queued_and_the_others_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(folder.path(), &[("HDAI_IMPORT_SUFFIXES", ".csv, .CSV.gz")]);
    for cloud in [false, true] {
        let of = |name: &str, api: &str| event(cloud, &uri(name), api);
        let batch = json!([
            of("a.csv", "PutBlob"),
            of("a.csv", "PutBlob"),
            of("b.txt", "PutBlob"),
            of("c.CSV.GZ", "FlushWithClose"),
            of("c.csv.gz", "CreateFile"),
            of("d.csv", "SomethingNew"),
            event(cloud, &format!("{ACCOUNT}/elsewhere/e.csv"), "PutBlob"),
            7,
        ]);
        for payload in [batch.clone(), Value::String(batch.to_string())] {
            let reply = handler.done("PatientDataEvents", &json!({ "Data": { "event": payload } }));
            // The ledger knows a file that is told of twice.
            assert_eq!(queued_names(&reply), ["a.csv", "a.csv", "c.CSV.GZ"]);
            let said = "3 queued, 4 of no concern (1 of another account or container, 2 of an operation that ends no blob, \
                        1 of a name with another ending), 1 unreadable";
            assert_eq!(reply["Logs"][0], said);
        }
    }
    assert!(handler.log().contains("\"other_suffix\":1") || handler.log().contains("other_suffix"), "{}", handler.log());
    assert!(!handler.log().contains("b.txt"), "a file's name is in the log");

    let every = Handler::start(&folder.path().join("every"), &[]);
    let reply = every.done("PatientDataEvents", &json!({ "Data": { "event": event(true, &uri("b.txt"), "SftpCommit") } }));
    assert_eq!(queued_names(&reply), ["b.txt"]);
}

#[test]
fn thousands_of_events_are_answered_long_before_event_grid_gives_up() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(folder.path(), &[("HDAI_IMPORT_SUFFIXES", ".csv")]);
    // While another process holds the record: an event needs none.
    let database = handler.database();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let batch: Vec<Value> = (0..5_000).map(|number| event(number % 2 == 0, &uri(&format!("{number}.csv")), "PutBlob")).collect();
    let begun = Instant::now();
    let reply = handler.done("PatientDataEvents", &json!({ "Data": { "event": batch } }));
    assert_eq!(queued_names(&reply).len(), 5_000);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
