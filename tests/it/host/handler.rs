//! The handler's process and the default-mode call.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_the_real_hosts_wire_format() {
    let mut fixture = Fixture::new();
    fixture.options.handler_env = vec![("TEST_SETTING".into(), "from options".into())];
    let settings = json!({ "IsEncrypted": false, "Values": { "TEST_LOCAL": "from settings", "PATH": "ignored" } });
    std::fs::write(fixture.options.app_dir.join("local.settings.json"), settings.to_string()).unwrap();
    let running = fixture.start().await;
    assert_eq!(fire(&running, "TrainLengthOfStay", json!("{\"rows\":4}")).await, 202);
    let call = fixture.calls_reach("/TrainLengthOfStay", 1).await.remove(0);
    assert_eq!(call["method"], "POST");
    assert_eq!(header(&call, "transfer-encoding"), Some("chunked"));
    assert_eq!(header(&call, "content-length"), None);
    assert_eq!(header(&call, "content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(header(&call, "x-azure-functions-hostversion"), Some(host::HOST_VERSION));
    assert_eq!(header(&call, "user-agent").unwrap(), format!("Azure-Functions-Host/{}", host::HOST_VERSION));
    assert_eq!(header(&call, "x-azure-functions-invocationid").unwrap().len(), 36);
    let envelope = envelope(&call);
    assert_eq!(envelope["Data"]["item"], "\"{\\\"rows\\\":4}\"");
    assert_eq!(envelope["Metadata"]["rows"], "4");
    assert_eq!(envelope["Metadata"]["DequeueCount"], "1");
    assert_eq!(envelope["Metadata"]["sys"]["MethodName"], "TrainLengthOfStay");

    let start = fixture.records("starts.jsonl").remove(0);
    let env = &start["env"];
    assert_eq!(env["FUNCTIONS_HTTPWORKER_PORT"], env["FUNCTIONS_CUSTOMHANDLER_PORT"]);
    assert_eq!(env["FUNCTIONS_HTTPWORKER_ID"], env["FUNCTIONS_CUSTOMHANDLER_WORKER_ID"]);
    assert_eq!(env["TEST_SETTING"], "from options");
    assert_eq!(env["TEST_LOCAL"], "from settings");
    assert_eq!(start["cwd"], env["FUNCTIONS_APP_ROOT_PATH"]);
    assert_eq!(start["pid"].as_u64(), running.handler_pid().map(u64::from));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_held_until_the_handler_listens() {
    let fixture = Fixture::new();
    fixture.control(json!({ "starts": [{ "sleep": 0.6 }] }));
    let running = fixture.start().await;
    assert_eq!(running.handler_pid(), None);
    fire(&running, "TrainLengthOfStaySchedule", Value::Null).await;
    let call = fixture.calls_reach("/TrainLengthOfStaySchedule", 1).await.remove(0);
    let started = fixture.records("starts.jsonl").remove(0)["at"].as_f64().unwrap();
    assert!(call["at"].as_f64().unwrap() - started >= 0.6);
    assert_eq!(envelope(&call)["Data"]["timer"]["IsPastDue"], false);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_the_host_ends_the_handler() {
    for drop_only in [false, true] {
        let fixture = Fixture::new();
        let running = fixture.start().await;
        running.ready().await.unwrap();
        let process = PathBuf::from(format!("/proc/{}", running.handler_pid().unwrap()));
        assert!(process.exists());
        if drop_only {
            drop(running)
        } else {
            running.stop().await
        }
        eventually(|| !process.join("exe").exists()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_faults_stop_the_host() {
    let fixture = Fixture::new();
    fixture.control(json!({ "starts": [{ "exit": 1 }] }));
    let mut running = fixture.start().await;
    let error = running.wait().await.unwrap_err();
    assert!(error.to_string().contains("exited with 1"), "{error}");
    let starts = fixture.records("starts.jsonl");
    assert_eq!(starts.len(), 3);
    assert!(
        starts.iter().all(|start| start["env"]["FUNCTIONS_CUSTOMHANDLER_PORT"] == starts[0]["env"]["FUNCTIONS_CUSTOMHANDLER_PORT"])
    );
    assert_ne!(starts[0]["env"]["FUNCTIONS_HTTPWORKER_ID"], starts[1]["env"]["FUNCTIONS_HTTPWORKER_ID"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_200_is_a_free_restart() {
    let fixture = Fixture::new();
    fixture.control(json!({ "starts": [{ "exit": 200 }, { "exit": 200 }, { "exit": 200 }, { "exit": 200 }, {}] }));
    let running = fixture.start().await;
    running.ready().await.unwrap();
    assert_eq!(fixture.records("starts.jsonl").len(), 5);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_0_leaves_the_handler_dead() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": { "/api/leave": [{ "exit": 0 }] } }));
    let running = fixture.start().await;
    running.ready().await.unwrap();
    assert_eq!(client().get(url(&running, "/api/leave")).send().await.unwrap().status(), 500);
    eventually(|| running.handler_pid().is_none()).await;
    assert_eq!(client().get(url(&running, "/api/other")).send().await.unwrap().status(), 500);
    assert_eq!(fixture.records("starts.jsonl").len(), 1, "nothing restarts it");
    let status: Value = json_of(client().get(url(&running, "/admin/host/status"))).await;
    assert_eq!(status["state"], "Error");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_listens_is_a_fault() {
    let mut fixture = Fixture::new();
    fixture.options.timing.initialization_timeout = Some(Duration::from_secs(2));
    fixture.control(json!({ "starts": [{ "exit": 0 }, { "sleep": 30 }, {}] }));
    let running = fixture.start().await;
    eventually(|| running.handler_pid().is_some()).await;
    assert_eq!(fixture.records("starts.jsonl").len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_200_hangs_until_the_timeout_kills_the_handler_and_every_call_in_it() {
    let mut fixture = Fixture::new();
    fixture.options.timing.function_timeout = Some(Duration::from_secs(2));
    fixture.control(json!({ "answers": { "/TrainLengthOfStaySchedule": ["empty"], "/api/slow": [{ "sleep": 20 }] } }));
    let running = fixture.start().await;
    running.ready().await.unwrap();
    let first = running.handler_pid();
    let began = Instant::now();
    fire(&running, "TrainLengthOfStaySchedule", Value::Null).await;
    fixture.calls_reach("/TrainLengthOfStaySchedule", 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let other = Instant::now();
    assert_eq!(client().get(url(&running, "/api/slow")).send().await.unwrap().status(), 500);
    assert!(began.elapsed() >= Duration::from_secs(2), "the empty answer was not taken for one");
    assert!(other.elapsed() < Duration::from_secs(2), "a call with time left ends with the handler");
    running.ready().await.unwrap();
    assert_ne!(running.handler_pid(), first);
    assert_eq!(fixture.records("starts.jsonl").len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_fails_the_call_and_restarts_the_handler() {
    let fixture = Fixture::new();
    fixture.control(json!({ "answers": { "/api/crash": [{ "exit": 3 }, { "status": 204 }] } }));
    let running = fixture.start().await;
    running.ready().await.unwrap();
    assert_eq!(client().put(url(&running, "/api/crash")).send().await.unwrap().status(), 500);
    assert_eq!(client().put(url(&running, "/api/crash")).send().await.unwrap().status(), 204);
    assert_eq!(fixture.records("starts.jsonl").len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_executable_and_a_wrong_layout_are_named() {
    let fixture = Fixture::new();
    let app = &fixture.options.app_dir;
    std::fs::create_dir_all(app.join("functions/Nested")).unwrap();
    std::fs::write(app.join("functions/Nested/function.json"), "{}").unwrap();
    let refused = host::start(fixture.options.clone()).await.err().unwrap();
    assert!(refused.to_string().contains("stage the app"), "{refused}");
    std::fs::remove_dir_all(app.join("functions")).unwrap();
    std::fs::remove_file(app.join("hdai")).unwrap();
    let mut running = fixture.start().await;
    let error = running.wait().await.unwrap_err();
    assert!(error.to_string().contains("hdai"), "{error}");
}

/// Why a host does not start with one file of the app changed.
async fn refusal(path: &str, change: impl Fn(&mut Value)) -> String {
    let known = host::embedded().files().iter().find(|(known, _)| known == path).map(|(_, text)| text.clone());
    let mut json = known.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    change(&mut json);
    let fixture = Fixture::with(host::embedded().with(path, json.to_string()));
    host::start(fixture.options.clone()).await.err().map(|error| error.to_string()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_the_real_host_would_not_run_is_refused() {
    let import = "functions/PatientDataImport/function.json";
    let trigger = json!({ "name": "more", "type": "timerTrigger", "direction": "in", "schedule": "0 0 0 * * *" });
    let two = refusal(import, |json| json["bindings"][1] = trigger.clone()).await;
    assert!(two.contains("PatientDataImport/function.json") && two.contains("exactly one trigger"), "{two}");
    assert!(refusal(import, |json| json["bindings"] = json!([])).await.contains("exactly one trigger"));
    assert!(refusal(import, |json| json["bindings"][0]["name"] = json!("a-b")).await.contains("letters and digits"));
    assert!(refusal(import, |json| json["bindings"][0]["queueName"] = json!("No_Queue")).await.contains("queueName"));
    assert!(refusal(import, |json| json["bindings"][1]["type"] = json!("table")).await.contains("output bindings"));
    assert!(refusal("functions/host/function.json", |json| *json = json!({ "bindings": [] })).await.contains("function name"));
    assert!(refusal("host.json", |json| json["version"] = json!("1.0")).await.contains("version"));
    assert!(refusal("host.json", |json| json["functionTimeout"] = json!("20")).await.contains("hh:mm:ss"));
    let open = refusal("host.json", |json| json["extensions"]["http"]["routePrefix"] = json!("")).await;
    assert!(open.contains("routePrefix"), "an empty prefix would open the trigger routes: {open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ends_with_its_shutdown_and_a_port_is_taken_once() {
    let mut fixture = Fixture::new();
    let running = fixture.start().await;
    fixture.options.port = running.http().port();
    assert!(host::start(fixture.options.clone()).await.err().unwrap().is_transient());
    running.ready().await.unwrap();
    running.stop().await;
    let began = Instant::now();
    host::run(fixture.options.clone(), tokio::time::sleep(Duration::from_millis(300))).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    fixture.control(json!({ "starts": [{ "exit": 1 }] }));
    assert!(host::run(fixture.options.clone(), std::future::pending()).await.is_err());
}

pub(super) async fn json_of(request: reqwest::RequestBuilder) -> Value {
    serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
}
