//! The front: routes, modes, keys, identity, limits.

use futures_util::stream;

use super::handler::json_of;
use super::*;

fn body_of_unknown_length(text: &'static str) -> reqwest::Body {
    reqwest::Body::wrap_stream(stream::iter([Ok::<_, std::io::Error>(text)]))
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_methods_and_prefix() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let code = async |method: &str, path: &str| {
        client().request(method.parse().unwrap(), url(&running, path)).send().await.unwrap().status().as_u16()
    };
    assert_eq!(code("POST", "/api/PatientAdmissionFunc").await, 200);
    assert_eq!(code("PUT", "/api/patientdischargefunc").await, 200);
    assert_eq!(code("GET", "/api/pages/a").await, 200);
    assert_eq!(code("PATCH", "/api/PatientAdmissionFunc").await, 404);
    assert_eq!(code("POST", "/PatientDataBulkImport").await, 404, "a trigger route is not for callers");
    assert_eq!(code("POST", "/apix").await, 404);
    assert_eq!(code("GET", "/").await, 200);
    let paths: Vec<Value> = fixture.records("calls.jsonl").into_iter().map(|call| call["path"].clone()).collect();
    assert_eq!(paths, ["/api/PatientAdmissionFunc", "/api/patientdischargefunc", "/api/pages/a"]);

    let status: Value = json_of(client().get(url(&running, "/admin/host/status"))).await;
    assert_eq!(status["state"], "Running");
    let functions = json_of(client().get(url(&running, "/admin/functions"))).await;
    assert_eq!(functions.as_array().unwrap().len(), std::fs::read_dir("functions").unwrap().count());
    assert_eq!(fire(&running, "PatientAdmissionFunc", Value::Null).await, 400);
    assert_eq!(fire(&running, "Nobody", Value::Null).await, 404);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_cannot_climb_to_the_trigger_routes() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fixture = Fixture::new();
    let running = fixture.start().await;
    running.ready().await.unwrap();
    for path in [
        "/api/../TrainLengthOfStay",
        "/api/%2e%2e/TrainLengthOfStay",
        "/api/..\\TrainLengthOfStay",
        "/api//../../TrainLengthOfStay",
    ] {
        let mut socket = tokio::net::TcpStream::connect(running.http()).await.unwrap();
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
    }
    assert!(fixture.records("calls.jsonl").is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_readers_could_read_in_two_ways_does_not_get_through() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fixture = Fixture::new();
    let running = fixture.start().await;
    running.ready().await.unwrap();
    let hidden = "GET /api/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let long = format!("Host: localhost\r\na: {}", "x".repeat(200_000));
    for (headers, expected) in [
        ("Host: localhost\r\nContent-Length: 4\r\nContent-Length: 5", "400"),
        ("Host: localhost\r\nTransfer-Encoding: xchunked", "400"),
        ("Host: localhost\r\nTransfer-Encoding : chunked", "400"),
        ("Host: localhost\r\nHost: evil.example\r\nConnection: close", "403"),
        (long.as_str(), "431"),
    ] {
        let mut socket = tokio::net::TcpStream::connect(running.http()).await.unwrap();
        let request = format!("POST /api/PatientAdmissionFunc HTTP/1.1\r\n{headers}\r\n\r\n{hidden}");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answers = Vec::new();
        while socket.read_buf(&mut answers).await.is_ok_and(|length| length > 0) {}
        let answers = String::from_utf8_lossy(&answers);
        let shown: String = headers.chars().take(80).collect();
        assert!(answers.starts_with(&format!("HTTP/1.1 {expected}")), "{shown}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{shown}: {answers}");
    }
    assert!(fixture.records("calls.jsonl").is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxied_request_is_the_callers_but_for_the_platforms_headers() {
    let fixture = Fixture::new();
    let found = json!({ "status": 302, "headers": { "Location": "/api/elsewhere" } });
    fixture.control(json!({ "answers": { "/api/moved": [found], "/api/teapot": [{ "status": 418 }] } }));
    let running = fixture.start().await;
    let sent = client()
        .post(url(&running, "/api/PatientAdmissionFunc?a=1&a=2"))
        .header("X-MS-CLIENT-PRINCIPAL", "forged")
        .header("X-MS-CLIENT-PRINCIPAL-ROLES", "forged")
        .header("X-MS-TOKEN-AAD-ID-TOKEN", "forged")
        .header("Authorization", "Bearer a.b.c")
        .header("X-Azure-Functions-InvocationId", "forged")
        .header("X-Azure-Functions-HostVersion", "forged")
        .header("Content-Encoding", "identity")
        .body(body_of_unknown_length("hello"))
        .send();
    assert_eq!(sent.await.unwrap().status(), 200);
    let call = fixture.calls("/api/PatientAdmissionFunc").remove(0);
    assert_eq!(call["body"], "hello", "a chunked body is kept");
    assert_eq!(call["target"], "/api/PatientAdmissionFunc?a=1&a=2");
    assert_eq!(header(&call, "content-encoding"), Some("identity"));
    assert_eq!(header(&call, "x-azure-functions-hostversion"), Some(host::HOST_VERSION));
    assert_eq!(header(&call, "x-azure-functions-invocationid"), header(&call, "x-ms-invocation-id"));
    assert_eq!(header(&call, "authorization"), Some("Bearer a.b.c"), "the handler judges it");
    assert!(!call["headers"].to_string().contains("forged"));

    let sent = client().put(url(&running, "/api/PatientDischargeFunc")).body("with a length").send().await.unwrap();
    assert_eq!(sent.status(), 200);
    assert_eq!(header(&fixture.calls("/api/PatientDischargeFunc")[0], "content-length"), Some("13"));
    let moved = client().get(url(&running, "/api/moved")).send().await.unwrap();
    assert_eq!((moved.status().as_u16(), moved.headers()["location"].to_str().unwrap()), (302, "/api/elsewhere"));
    assert_eq!(client().get(url(&running, "/api/teapot")).send().await.unwrap().status(), 418);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forward_mode_loses_what_the_real_host_loses() {
    let fixture = Fixture::with(in_mode(HttpMode::Forward));
    fixture.control(json!({ "answers": { "/api/teapot": [{ "status": 418 }] } }));
    let running = fixture.start().await;
    let send = async |body: reqwest::Body| {
        let request = client().post(url(&running, "/api/PatientAdmissionFunc?a=1&b=3&a=2")).header("Content-Type", "text/csv");
        assert_eq!(request.header("Content-Language", "en").body(body).send().await.unwrap().status(), 200);
    };
    send("hello".into()).await;
    send(body_of_unknown_length("hello")).await;
    let calls = fixture.calls("/api/PatientAdmissionFunc");
    assert_eq!((&calls[0]["body"], &calls[1]["body"]), (&json!("hello"), &json!("")));
    assert_eq!(calls[0]["target"], "/api/PatientAdmissionFunc?a=1%2C2&b=3");
    assert_eq!(header(&calls[0], "content-type"), Some("text/csv"));
    assert_eq!(header(&calls[0], "content-language"), None);
    assert!(header(&calls[0], "user-agent").unwrap().ends_with(&format!("Azure-Functions-Host/{}", host::HOST_VERSION)));
    assert_eq!(client().get(url(&running, "/api/teapot")).send().await.unwrap().status(), 418);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn default_mode_wraps_request_and_response() {
    let fixture = Fixture::with(in_mode(HttpMode::Default));
    let created =
        json!({ "Outputs": { "res": { "statusCode": "201", "headers": { "location": "/api/x/1" }, "body": { "id": 1 } } } });
    fixture.control(json!({ "answers": { "/PatientAdmissionFunc": [created, { "status": 404 }, { "Outputs": {} }] } }));
    let running = fixture.start().await;
    let post = || client().post(url(&running, "/api/PatientAdmissionFunc?x=1")).header("Authorization", "Bearer a.b.c");
    let answer = post().body("{\"ward\":\"7\"}").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (201, "/api/x/1"));
    assert_eq!(serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap(), json!({ "id": 1 }));
    let request = envelope(&fixture.calls("/PatientAdmissionFunc")[0])["Data"]["req"].clone();
    assert_eq!(request["Method"], "POST");
    assert_eq!(request["Body"], "{\"ward\":\"7\"}");
    assert_eq!(request["Query"], json!({ "x": "1" }));
    assert_eq!(request["Identities"], json!([]));
    assert_eq!(request["Headers"]["authorization"], json!(["Bearer a.b.c"]), "the handler judges it");
    assert_eq!(post().send().await.unwrap().status(), 500, "a handler's 404 is a failed invocation");
    assert_eq!(post().body(body_of_unknown_length("lost")).send().await.unwrap().status(), 200);
    assert_eq!(envelope(&fixture.calls("/PatientAdmissionFunc")[2])["Data"]["req"].get("Body"), None);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_demanded_when_enforced() {
    let locked = json!({ "bindings": [
        { "name": "req", "type": "httpTrigger", "direction": "in", "authLevel": "function", "methods": ["get"], "route": "locked" },
        { "name": "res", "type": "http", "direction": "out" }
    ] });
    let mut fixture = Fixture::with(host::embedded().with("functions/Locked/function.json", locked.to_string()));
    fixture.options.enforce_keys = true;
    let running = fixture.start().await;
    let keys = running.keys().clone();
    let get = async |path: &str, key: &str| {
        client().get(url(&running, path)).header("x-functions-key", key).send().await.unwrap().status().as_u16()
    };
    for (key, expected) in
        [("", 401), (&keys.function_keys["Api"], 401), (&keys.function_keys["Locked"], 200), (&keys.host_key, 200)]
    {
        assert_eq!(get("/api/locked", key).await, expected);
    }
    assert_eq!(get(&format!("/api/locked?code={}", keys.master_key), "").await, 401, "the header comes first");
    let by_query = client().get(url(&running, &format!("/api/locked?code={}", keys.master_key))).send().await.unwrap();
    assert_eq!(by_query.status(), 200);
    assert_eq!(get("/api/anonymous", "").await, 200);
    assert_eq!(get("/admin/host/status", &keys.host_key).await, 401);
    assert_eq!(get("/admin/host/status", &keys.master_key).await, 200);
    let unsubscribe = async |code: &str| {
        let path = format!("/runtime/webhooks/EventGrid?functionName=PatientDataEvents&code={code}");
        client().post(url(&running, &path)).header("aeg-event-type", "Unsubscribe").send().await.unwrap().status().as_u16()
    };
    assert_eq!(unsubscribe(&keys.blobs_extension).await, 401);
    assert_eq!(unsubscribe(&keys.eventgrid_extension).await, 202);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_of_another_site_is_refused() {
    let fixture = Fixture::new();
    let running = fixture.start().await;
    let post = || client().post(url(&running, "/api/PatientAdmissionFunc"));
    assert_eq!(post().header("Origin", "https://evil.example").send().await.unwrap().status(), 403);
    assert_eq!(post().header("Host", "evil.example").send().await.unwrap().status(), 403);
    assert_eq!(post().header("Origin", format!("http://{}", running.http())).send().await.unwrap().status(), 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_cut_off_while_it_streams() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.options.request_bytes_max, 100 << 20);
    fixture.options.request_bytes_max = 1 << 20;
    let running = fixture.start().await;
    running.ready().await.unwrap();
    let post = || client().post(url(&running, "/api/PatientAdmissionFunc"));
    let chunks = |count: usize| {
        let chunk = bytes::Bytes::from(vec![b'x'; 64 * 1024]);
        reqwest::Body::wrap_stream(stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(chunk.clone()))))
    };
    assert_eq!(post().body(chunks(17)).send().await.unwrap().status(), 413);
    assert!(fixture.records("calls.jsonl").is_empty(), "the handler never got a whole request");
    assert_eq!(post().body(chunks(16)).send().await.unwrap().status(), 200);
    assert_eq!(fixture.calls("/api/PatientAdmissionFunc")[0]["length"], 1 << 20);
    let announced = post().header("Content-Length", ((1 << 20) + 1).to_string());
    let announced = announced.body(reqwest::Body::wrap_stream(stream::pending::<Result<bytes::Bytes, std::io::Error>>()));
    assert_eq!(announced.send().await.unwrap().status(), 413);
    running.stop().await;
}
