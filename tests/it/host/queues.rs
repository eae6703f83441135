//! Queue triggers, queue outputs, attempts, poison and leases.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn outputs_reach_the_next_functions_queue_one_message_an_element() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": {
        "/PatientDataEvents": [{ "Outputs": { "importRequests": [{ "file": "a" }, { "file": "b" }, { "file": "c" }] } }],
        "/PatientDataImport": [{ "Outputs": { "trainingRequest": "import-done" } }],
    } }));
    let running = fixture.start().await;
    assert_eq!(fire(&running, "PatientDataEvents", json!({ "id": "1", "data": {} })).await, 202);
    let imports = fixture.calls_reach("/PatientDataImport", 3).await;
    let mut files: Vec<Value> = imports.iter().map(|call| envelope(call)["Metadata"]["file"].clone()).collect();
    files.sort_by_key(Value::to_string);
    assert_eq!(files, ["\"a\"", "\"b\"", "\"c\""]);
    let trained = fixture.calls_reach("/TrainLengthOfStay", 3).await;
    assert_eq!(envelope(&trained[0])["Data"]["item"], "\"import-done\"");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(running.queues().depth("import-requests").await.unwrap(), 0, "a delivered message is deleted");
    assert_eq!(fixture.calls("/PatientDataImport").len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_attempts_and_a_message_is_poison() {
    let fixture = Fixture::new();
    fixture
        .control(json!({ "answers": { "/TrainLengthOfStay": [{ "status": 500 }, "text", { "status": 404 }, { "status": 503 }] } }));
    let running = fixture.start().await;
    running.queues().put("training-requests", vec![b"retrain".to_vec()]).await.unwrap();
    let calls = fixture.calls_reach("/TrainLengthOfStay", 5).await;
    let counts: Vec<Value> = calls.iter().map(|call| envelope(call)["Metadata"]["DequeueCount"].clone()).collect();
    assert_eq!(counts, ["1", "2", "3", "4", "5"]);
    let poison = poison(&running, "training-requests-poison").await;
    assert_eq!(poison, b"retrain");
    assert_eq!(fixture.calls("/TrainLengthOfStay").len(), 5);

    fixture.control(json!({}));
    assert_eq!(running.queues().redrive("training-requests-poison", "training-requests", 9).await.unwrap(), 1);
    let calls = fixture.calls_reach("/TrainLengthOfStay", 6).await;
    assert_eq!(envelope(&calls[5])["Metadata"]["DequeueCount"], "1");
    running.stop().await;
}

pub(super) async fn poison(running: &Running, queue: &str) -> Vec<u8> {
    for _ in 0..200 {
        if let Some(message) = running.queues().peek(queue, 1).await.unwrap().pop() {
            return message.body;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("nothing came to {queue}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_flight_outlives_its_host() {
    let mut fixture = Fixture::new();
    fixture.options.timing.lease = Duration::from_millis(1500);
    fixture.control(json!({ "answers": { "/TrainLengthOfStay": [{ "sleep": 20 }, { "sleep": 20 }, "ok"] } }));
    // Dropped without a chance to give the message back: it returns when its lease ends.
    let running = fixture.start().await;
    running.queues().put("training-requests", vec![b"one".to_vec()]).await.unwrap();
    fixture.calls_reach("/TrainLengthOfStay", 1).await;
    drop(running);
    // Stopped: it is given back at once.
    let running = fixture.start().await;
    let calls = fixture.calls_reach("/TrainLengthOfStay", 2).await;
    let apart = calls[1]["at"].as_f64().unwrap() - calls[0]["at"].as_f64().unwrap();
    assert!(apart > 0.9, "delivered again after {apart} seconds, within the lease");
    running.stop().await;
    let running = fixture.start().await;
    let calls = fixture.calls_reach("/TrainLengthOfStay", 3).await;
    assert_eq!(envelope(&calls[2])["Metadata"]["DequeueCount"], "3");
    running.stop().await;
}

/// A host in a process of its own, for the next test to kill.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by a_killed_host_takes_its_handler_along_and_loses_no_message"]
async fn a_host_to_be_killed() {
    let dir = std::env::var_os("TEST_HOST_DIR").unwrap();
    let mut options = Fixture::options_in(Path::new(&dir));
    options.timing.lease = Duration::from_secs(1);
    host::run(options, std::future::pending()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_takes_its_handler_along_and_loses_no_message() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": { "/TrainLengthOfStay": [{ "sleep": 20 }, "ok"] } }));
    let queues = host::Queues::open(&fixture.options.state_dir).unwrap();
    queues.put("training-requests", vec![b"one".to_vec()]).await.unwrap();
    let mut process = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "host::queues::a_host_to_be_killed"])
        .env("TEST_HOST_DIR", fixture.dir.path())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let call = fixture.calls_reach("/TrainLengthOfStay", 1).await.remove(0);
    process.kill().await.unwrap();
    let handler = PathBuf::from(format!("/proc/{}/exe", call["pid"]));
    eventually(|| !handler.exists()).await;
    let running = fixture.start().await;
    let calls = fixture.calls_reach("/TrainLengthOfStay", 2).await;
    assert_eq!(envelope(&calls[1])["Metadata"]["DequeueCount"], "2");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_keeps_its_lease() {
    let mut fixture = Fixture::new();
    fixture.options.timing.lease = Duration::from_millis(400);
    fixture.control(json!({ "answers": { "/TrainLengthOfStay": [{ "sleep": 1.5 }] } }));
    let running = fixture.start().await;
    running.queues().put("training-requests", vec![b"one".to_vec()]).await.unwrap();
    fixture.calls_reach("/TrainLengthOfStay", 1).await;
    tokio::time::sleep(Duration::from_millis(1700)).await;
    assert_eq!(fixture.calls("/TrainLengthOfStay").len(), 1);
    assert_eq!(running.queues().depth("training-requests").await.unwrap(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_a_limit() {
    let dir = TempDir::new().unwrap();
    let queues = host::Queues::open(dir.path()).unwrap();
    queues.put("abc", vec![vec![b'x'; host::MESSAGE_BYTES_MAX]]).await.unwrap();
    let two = vec![b"short".to_vec(), vec![b'x'; host::MESSAGE_BYTES_MAX + 1]];
    assert!(queues.put("abc", two).await.is_err());
    assert_eq!(queues.depth("abc").await.unwrap(), 1, "all of a batch or none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_runs_by_its_schedule_and_makes_up_for_a_missed_run() {
    let every_second = json!({ "bindings": [
        { "name": "timer", "type": "timerTrigger", "direction": "in", "schedule": "* * * * * *", "runOnStartup": false }
    ] });
    let fixture =
        Fixture::with(host::embedded().with("functions/TrainLengthOfStaySchedule/function.json", every_second.to_string()));
    let running = fixture.start().await;
    let first = fixture.calls_reach("/TrainLengthOfStaySchedule", 1).await.remove(0);
    assert_eq!(envelope(&first)["Data"]["timer"]["IsPastDue"], false);
    running.stop().await;
    let before = fixture.calls("/TrainLengthOfStaySchedule").len();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let running = fixture.start().await;
    let calls = fixture.calls_reach("/TrainLengthOfStaySchedule", before + 1).await;
    assert_eq!(envelope(&calls[before])["Data"]["timer"]["IsPastDue"], true);
    running.stop().await;
}
