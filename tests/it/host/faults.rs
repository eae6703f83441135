//! Fault switches: each does what its help says, and nothing happens without one.

use health_data_ai::host::EventSender;

use super::*;

const TRAIN: &str = "/TrainLengthOfStay";

fn faulty(faults: &[&str]) -> Fixture {
    // One message at a time, so that their order shows.
    let (_, text) = host::embedded().files().iter().find(|(path, _)| path == "host.json").unwrap().clone();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    json["extensions"]["queues"] = json!({ "batchSize": 1 });
    let mut fixture = Fixture::with(host::embedded().with("host.json", json.to_string()));
    fixture.options.faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    fixture
}

async fn put(running: &Running, texts: &[&str]) {
    let bodies = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    running.queues().put("training-requests", bodies).await.unwrap();
}

async fn emptied(running: &Running) {
    for _ in 0..400 {
        if running.queues().depth("training-requests").await.unwrap() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the queue was not emptied");
}

fn items(calls: &[Value]) -> Vec<String> {
    calls.iter().map(|call| envelope(call)["Data"]["item"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_out_of_order_by_the_seed() {
    let texts: Vec<String> = (0..12).map(|number| format!("m{number}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut orders = Vec::new();
    for (faults, seed) in [(&["reorder=6"][..], 1), (&["reorder=6"], 1), (&["reorder=6"], 2), (&[], 1)] {
        let mut fixture = faulty(faults);
        fixture.options.fault_seed = seed;
        let queues = host::Queues::open(&fixture.options.state_dir).unwrap();
        queues.put("training-requests", texts.iter().map(|text| text.as_bytes().to_vec()).collect()).await.unwrap();
        let running = fixture.start().await;
        orders.push(items(&fixture.calls_reach(TRAIN, 12).await));
        running.stop().await;
    }
    let straight: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    assert_eq!(orders[3], straight, "without the switch the oldest comes first");
    assert_eq!(orders[0], orders[1]);
    assert_ne!(orders[0], orders[2]);
    for order in &mut orders[..3] {
        assert_ne!(*order, straight);
        let mut sorted = order.clone();
        sorted.sort();
        let mut all = straight.clone();
        all.sort();
        assert_eq!(sorted, all);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_succeeded_comes_again() {
    let fixture = faulty(&["duplicate=3"]);
    let running = fixture.start().await;
    put(&running, &["one"]).await;
    emptied(&running).await;
    let counts: Vec<Value> = fixture.calls(TRAIN).iter().map(|call| envelope(call)["Metadata"]["DequeueCount"].clone()).collect();
    assert_eq!(counts, ["1", "2", "3"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_at_once_and_one_failure_brings_it_back() {
    let fixture = faulty(&["concurrent=2"]);
    let slow = |then: Value| json!({ "sleep": 0.5, "then": then });
    fixture.control(json!({ "answers": { TRAIN: [slow(json!("ok")), slow(json!({ "status": 503 })), "ok"] } }));
    let running = fixture.start().await;
    put(&running, &["one"]).await;
    emptied(&running).await;
    let calls = fixture.calls(TRAIN);
    assert_eq!(calls.len(), 4, "two, and two more because one had failed");
    assert!(calls[1]["at"].as_f64().unwrap() - calls[0]["at"].as_f64().unwrap() < 0.4, "not at once");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_lost_and_its_output_is_not_written() {
    let fixture = faulty(&["drop=1", "fail=2"]);
    let output = json!({ "Outputs": { "importRequests": [{ "file": "a" }] } });
    fixture.control(json!({ "answers": { "/PatientDataEvents": [output] } }));
    let running = fixture.start().await;
    running.ready().await.unwrap();
    let mut sender = EventSender::new(url(&running, "/runtime/webhooks/EventGrid?functionName=PatientDataEvents"));
    sender.time_scale = 0.001;
    let event =
        json!({ "id": "1", "eventType": "x", "subject": "s", "eventTime": "2026-11-22T05:41:00Z", "data": {}, "dataVersion": "" });
    let delivered = sender.deliver(&[event]).await.unwrap();
    assert_eq!(delivered, host::Delivery::Delivered { attempts: 3 });
    fixture.calls_reach("/PatientDataImport", 1).await;
    assert_eq!(fixture.calls("/PatientDataEvents").len(), 2, "lost once, not asked once, done once");
    assert_eq!(fixture.calls("/PatientDataImport").len(), 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_replaced_during_a_call_and_killed_three_times_for_good() {
    let fixture = faulty(&["restart=1,300", "kill=2,300", "kill=3,300", "kill=4,300"]);
    fixture.control(json!({ "answers": { TRAIN: [{ "sleep": 20 }] } }));
    let mut running = fixture.start().await;
    put(&running, &["one"]).await;
    let error = running.wait().await.unwrap_err();
    assert!(error.to_string().contains("failed 3 times"), "{error}");
    assert_eq!(fixture.calls(TRAIN).len(), 4);
    assert_eq!(fixture.records("starts.jsonl").len(), 4, "the first end was none of the three");
    running.stop().await;
    let queues = host::Queues::open(&fixture.options.state_dir).unwrap();
    assert_eq!(queues.depth("training-requests").await.unwrap(), 1, "the message is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_late_and_http_calls_meet_a_fault_by_name_only() {
    let fixture = faulty(&["ready-delay=700", "drop=1@Api", "fail=2@Api"]);
    let began = Instant::now();
    let running = fixture.start().await;
    let statuses = async || client().get(url(&running, "/api/x")).send().await.unwrap().status().as_u16();
    assert_eq!(statuses().await, 500);
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert_eq!((statuses().await, statuses().await), (500, 200));
    assert_eq!(fixture.calls("/api/x").len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_shuffled_anew_at_each_attempt() {
    let fixture = faulty(&["fail=1%"]);
    let running = fixture.start().await;
    let (sent, mut received) = tokio::sync::mpsc::unbounded_channel();
    // An endpoint that refuses twice and keeps what it was sent.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap());
    let route = warp::Filter::map(warp::body::bytes(), move |body: bytes::Bytes| {
        sent.send(serde_json::from_slice::<Value>(&body).unwrap()).unwrap();
        warp::reply::with_status("", warp::http::StatusCode::SERVICE_UNAVAILABLE)
    });
    tokio::spawn(warp::serve(route).incoming(listener).run());
    let mut sender = EventSender::new(endpoint);
    (sender.time_scale, sender.attempts_max, sender.shuffle) = (0.0001, 3, Some(7));
    let batch: Vec<Value> = (0..20).map(|id| json!({ "id": id })).collect();
    let given_up = sender.deliver(&batch).await.unwrap();
    assert!(matches!(given_up, host::Delivery::GivenUp { attempts: 3, .. }), "{given_up:?}");
    let mut orders = Vec::new();
    while let Ok(order) = received.try_recv() {
        let mut ids: Vec<i64> = order.as_array().unwrap().iter().map(|event| event["id"].as_i64().unwrap()).collect();
        orders.push(ids.clone());
        ids.sort_unstable();
        assert_eq!(ids, (0..20).collect::<Vec<_>>());
    }
    assert_eq!(orders.len(), 3);
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
    running.stop().await;
}
