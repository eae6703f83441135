//! Event Grid's webhooks.

use health_data_ai::codec::blob_url::BlobUrl;
use health_data_ai::host::{Delivery, EventSchema, EventSender, blob_created_event};

use super::*;

const EVENTS: &str = "/runtime/webhooks/EventGrid?functionName=PatientDataEvents";
const BLOBS: &str = "/runtime/webhooks/blobs?functionName=Host.Functions.PatientDataBulkImport";

fn created(name: &str) -> Value {
    json!({
        "topic": "/subscriptions/s", "subject": format!("/blobServices/default/containers/trainingdata/blobs/{name}"),
        "eventType": "Microsoft.Storage.BlobCreated", "id": name, "eventTime": "2026-11-22T05:41:00.9584103Z",
        "data": { "api": "PutBlob", "url": format!("http://127.0.0.1:10000/devstoreaccount1/trainingdata/{name}"), "eTag": "0x8D" },
    })
}

async fn send(running: &Running, path: &str, kind: &str, body: &Value) -> (u16, String) {
    let request = client().post(url(running, path)).header("aeg-event-type", kind).body(body.to_string());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_handshakes_are_answered_without_the_handler() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let validation = json!([{
        "id": "1", "topic": "t", "subject": "", "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": { "validationCode": "512d38b6", "validationUrl": "https://example.org" },
        "eventTime": "2026-11-22T05:41:00Z", "metadataVersion": "1", "dataVersion": "2",
    }]);
    for path in [EVENTS, BLOBS] {
        let expected = (200, r#"{"validationResponse":"512d38b6"}"#.to_owned());
        assert_eq!(send(&running, path, "SubscriptionValidation", &validation).await, expected);
        let options = client().request(reqwest::Method::OPTIONS, url(&running, path));
        let answer = options.header("WebHook-Request-Origin", "eventgrid.azure.net").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["webhook-allowed-origin"], "eventgrid.azure.net");
    }
    assert_eq!(send(&running, EVENTS, "SubscriptionValidation", &json!([])).await.0, 400);
    assert!(fixture.records("calls.jsonl").is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_one_call_an_event_and_its_status_is_the_functions() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": { "/PatientDataEvents": ["ok", "ok", { "status": 500 }] } }));
    let running = fixture.start().await;
    assert_eq!(send(&running, EVENTS, "Notification", &json!([created("a"), created("b")])).await.0, 202);
    let calls = fixture.calls("/PatientDataEvents");
    assert_eq!(calls.len(), 2);
    let first = envelope(&calls[0]);
    assert!(first["Data"]["event"].is_object(), "an event arrives as an object");
    assert_eq!(first["Metadata"]["data"], first["Data"]["event"]["data"]);
    let cloud = json!({ "specversion": "1.0", "type": "x", "source": "s", "id": "c", "time": "2026-11-22T05:41:00Z", "data": {} });
    assert_eq!(send(&running, EVENTS, "Notification", &cloud).await.0, 500);
    assert_eq!(envelope(&fixture.calls("/PatientDataEvents")[2])["Data"]["event"], cloud, "as it came");

    assert_eq!(send(&running, EVENTS, "Unsubscribe", &json!([])).await.0, 202);
    assert_eq!(send(&running, EVENTS, "Other", &json!([])).await.0, 400);
    assert_eq!(send(&running, EVENTS, "Notification", &json!([1])).await.0, 400);
    for unknown in ["/runtime/webhooks/EventGrid?functionName=Nobody", "/runtime/webhooks/EventGrid", BLOBS_OF_ANOTHER] {
        assert_eq!(send(&running, unknown, "Notification", &json!([])).await.0, 404, "{unknown}");
    }
    assert_eq!(fixture.calls("/PatientDataEvents").len(), 3);
    running.stop().await;
}

const BLOBS_OF_ANOTHER: &str = "/runtime/webhooks/blobs?functionName=Host.Functions.PatientDataEvents";

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_passes_and_the_call_goes_on() {
    let mut fixture = Fixture::new();
    fixture.options.timing.event_deadline = Duration::from_millis(300);
    let output = json!({ "Outputs": { "importRequests": [{ "file": "late" }] } });
    fixture.control(json!({ "answers": { "/PatientDataEvents": [{ "sleep": 2, "then": output }] } }));
    let running = fixture.start().await;
    running.ready().await.unwrap();
    let began = Instant::now();
    assert_eq!(send(&running, EVENTS, "Notification", &json!([created("a")])).await.0, 504);
    assert!(began.elapsed() < Duration::from_secs(2));
    fixture.calls_reach("/PatientDataImport", 1).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_blob_webhook_queues_and_answers_at_once() {
    let mut fixture = Fixture::new();
    // The folder's own watch shall not come first.
    fixture.options.timing.blob_settle = Duration::from_secs(60);
    fixture.control(json!({ "answers": { "/PatientDataBulkImport": [{ "sleep": 20 }] } }));
    std::fs::write(fixture.blob("a b.csv"), "x").unwrap();
    let running = fixture.start().await;
    running.ready().await.unwrap();
    let began = Instant::now();
    let event = created("a%20b.csv");
    assert_eq!(send(&running, BLOBS, "Notification", &json!([event, event, created("gone.csv")])).await.0, 202);
    assert!(began.elapsed() < Duration::from_secs(10));
    let calls = fixture.calls_reach("/PatientDataBulkImport", 2).await;
    assert_eq!(envelope(&calls[1])["Metadata"]["name"], "\"a b.csv\"", "the event source has no receipts: twice is twice");
    running.stop().await;
}

fn sender(fixture: &Fixture, running: &Running, path: &str) -> EventSender {
    let mut sender = EventSender::new(url(running, path));
    sender.time_scale = 0.001;
    sender.dead_letter_dir = Some(fixture.dir.path().join("dead-letters"));
    sender
}

fn event(schema: EventSchema, name: &str) -> Value {
    let account_url = "http://127.0.0.1:10000/devstoreaccount1".to_owned();
    blob_created_event(schema, &BlobUrl { account_url, container: "trainingdata".into(), name: name.into() }, "0x8D", 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn event_grid_repeats_a_batch_until_it_is_accepted() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": { "/PatientDataEvents": ["ok", { "status": 500 }, { "status": 503 }, "ok"] } }));
    let running = fixture.start().await;
    let sender = sender(&fixture, &running, EVENTS);
    for schema in [EventSchema::EventGrid, EventSchema::CloudEvents] {
        sender.validate(schema).await.unwrap();
    }
    let batch = [event(EventSchema::EventGrid, "a b"), event(EventSchema::CloudEvents, "c")];
    assert_eq!(sender.deliver(&batch).await.unwrap(), Delivery::Delivered { attempts: 3 });
    assert_eq!(fixture.calls("/PatientDataEvents").len(), 6, "the good event of a failed batch comes again, too");
    assert!(!fixture.dir.path().join("dead-letters").exists());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_grid_gives_up_and_keeps_a_dead_letter() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": { "/PatientDataEvents": [{ "status": 500 }] } }));
    let running = fixture.start().await;
    let mut sender = sender(&fixture, &running, EVENTS);
    sender.attempts_max = 3;
    let batch = [event(EventSchema::EventGrid, "a")];
    let Delivery::GivenUp { attempts: 3, reason: "MaxDeliveryAttemptsExceeded", dead_letter: Some(path) } =
        sender.deliver(&batch).await.unwrap()
    else {
        panic!("the batch was not given up at the third attempt");
    };
    let letters: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!((&letters[0]["id"], &letters[0]["lastDeliveryOutcome"]), (&batch[0]["id"], &json!("HttpStatus500")));

    let refused = sender.deliver(&[json!(1)]).await.err();
    assert!(refused.is_some(), "what is no event cannot be a dead letter");
    let unknown = sender.deliver(&[json!({ "no": "event" })]).await.unwrap();
    assert!(matches!(unknown, Delivery::GivenUp { attempts: 1, reason: "UndeliverableDueToClientError", .. }), "a 400 is final");
    sender.time_to_live = Duration::ZERO;
    let late = sender.deliver(&batch).await.unwrap();
    assert!(matches!(late, Delivery::GivenUp { attempts: 1, reason: "TimeToLiveExceeded", .. }), "{late:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_deadline_event_grid_sends_again_while_the_first_call_runs() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": { "/PatientDataEvents": [{ "sleep": 20 }, "ok"] } }));
    let running = fixture.start().await;
    running.ready().await.unwrap();
    let mut sender = sender(&fixture, &running, EVENTS);
    sender.deadline = Duration::from_millis(500);
    let delivered = sender.deliver(&[event(EventSchema::CloudEvents, "a")]).await.unwrap();
    assert_eq!(delivered, Delivery::Delivered { attempts: 2 });
    running.stop().await;
}
