//! Event Grid delivers at least once and in no order; so do queues.

use super::*;
use crate::handler::QUEUE;

/// The event of a blob that was written, in the Event Grid schema or in CloudEvents.
fn event(site: &Site, name: &str, number: u64, cloud: bool) -> Value {
    let data = json!({ "api": "PutBlob", "contentLength": 5_000, "blobType": "BlockBlob", "url": site.uri(name),
        "sequencer": format!("{number:032}") });
    let (id, subject) = (format!("id-{number}"), format!("/blobServices/default/containers/{}/blobs/{name}", site.name));
    let kind = "Microsoft.Storage.BlobCreated";
    if cloud {
        json!({ "specversion": "1.0", "id": id, "type": kind, "source": "/account", "subject": subject,
            "time": "2026-11-22T05:41:00Z", "data": data })
    } else {
        json!({ "id": id, "eventType": kind, "topic": "/account", "subject": subject, "eventTime": "2026-11-22T05:41:00Z",
            "dataVersion": "", "metadataVersion": "1", "data": data })
    }
}

fn shuffled<T>(mut items: Vec<T>, seed: u64) -> Vec<T> {
    for last in (1..items.len()).rev() {
        items.swap(last, draw(seed, last as u64, last as u64 + 1) as usize);
    }
    items
}

/// Hands the events to `PatientDataEvents`, in batches of two, and answers what it queued.
fn requests(handler: &Handler, events: &[Value]) -> Vec<Value> {
    let queued = events.chunks(2).flat_map(|batch| {
        let reply = handler.done("PatientDataEvents", &json!({ "Data": { "event": batch } }));
        reply["Outputs"]["importRequests"].as_array().cloned().unwrap_or_default()
    });
    queued.collect()
}

#[test]
fn events_twice_and_in_any_order_and_requests_twice_and_in_any_order_import_each_blob_once() {
    for seed in 0..4 {
        let site = Site::new(&format!("events-{seed}"));
        let handler = site.handler(&[]);
        let names = ["a.csv", "2026/11/b.csv", "c.csv"];
        let contents = [1, 2, 3].map(|part: u64| spoilt(&file(4_500, part, part as i32 * 10_000), 300));
        // The first was written twice before any event arrived.
        site.drop_blob(names[0], &file(4_000, 9, 10_000));
        for (name, content) in names.iter().zip(&contents) {
            site.drop_blob(name, content);
        }
        let both = |(number, name): (usize, &&str)| [false, true].map(|cloud| event(&site, name, number as u64, cloud));
        let events: Vec<Value> = names.iter().chain([&names[0]]).enumerate().flat_map(both).collect();
        let events = shuffled([events.clone(), events].concat(), seed);
        let queued = requests(&handler, &events);
        assert_eq!(queued.len(), 16);
        for request in shuffled([queued.clone(), queued].concat(), seed + 100) {
            handler.done(QUEUE, &crate::handler::queued(&request));
        }
        // And by the other way in.
        handler.done(BLOB, &site.call(names[1]));
        let mut files: Vec<(&str, &[u8])> =
            names.iter().zip(&contents).map(|(name, content)| (*name, content.as_slice())).collect();
        files.sort();
        site.holds(&files);
        assert!(site.ledger(&site.record()).iter().all(|entry| entry.attempt == 1));
    }
}

#[test]
fn the_event_of_an_older_version_that_comes_late_changes_nothing() {
    let site = Site::new("events-late");
    let handler = site.handler(&[]);
    let (old, new) = (file(3_000, 1, 1), spoilt(&file(3_500, 2, 1), 7_100));
    let request = |number, cloud| {
        let queued = requests(&handler, &[event(&site, "a.csv", number, cloud)]);
        handler.done(QUEUE, &crate::handler::queued(&queued[0]));
    };
    site.drop_blob("a.csv", &old);
    request(1, false);
    site.drop_blob("a.csv", &new);
    request(2, true);
    request(1, true);
    request(1, false);
    site.holds(&[("a.csv", &old), ("a.csv", &new)]);
}

#[test]
fn requests_that_come_together_are_imported_once() {
    let site = Site::new("events-together");
    let handler = site.handler(&[]);
    let content = spoilt(&file(20_000, 5, 1), 700);
    site.drop_blob("a.csv", &content);
    let queued = requests(&handler, &[event(&site, "a.csv", 1, false)]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| handler.done(QUEUE, &crate::handler::queued(&queued[0])));
        }
    });
    site.holds(&[("a.csv", &content)]);
}
