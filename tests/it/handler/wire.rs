//! What the running handler makes of callers that overfill, overlap or hold back what they send, and of calls that two readers could
//! read in two ways. Whatever they do, the next caller is served.

use super::*;
use crate::support::token;

const ADMISSION: &str = "/api/PatientAdmissionFunc";

fn status(port: u16, request: &str) -> String {
    statuses(&raw(port, request.as_bytes())).first().cloned().unwrap_or_else(|| "nothing".to_owned())
}

/// The status of each answer that came over a connection.
fn statuses(answers: &str) -> Vec<String> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer.chars().take(3).collect()).collect()
}

fn manager(handler: &Handler) -> String {
    format!("Authorization: Bearer {}\r\n", token(&handler.folder, &["CareLineManager"], &[]))
}

/// A connection that has sent this.
fn sent(port: u16, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// The first bytes that come over a connection; nothing if it ends.
fn first_of(stream: &mut TcpStream) -> String {
    let mut piece = [0; 4096];
    let length = stream.read(&mut piece).unwrap_or(0);
    String::from_utf8_lossy(&piece[..length]).into_owned()
}

#[test]
fn headers_and_lengths_that_cannot_be_right_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut handler = Handler::start(folder.path(), &[]);
    let get = |path: &str, headers: &str| {
        status(handler.port, &format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n"))
    };
    let many = |count: usize| (0..count).map(|index| format!("a{index}: b\r\n")).collect::<String>();
    let long = |bytes: usize| format!("a: {}\r\n", "x".repeat(bytes));
    for (path, headers, expected) in [
        ("/api/health", many(90), "200"),
        ("/api/health", many(110), "431"),
        ("/api/health", long(120_000), "200"),
        ("/api/health", long(140_000), "431"),
        ("/api/health", long(5_000_000), "431"),
        (&format!("/api/health?{}", "x".repeat(60_000)), String::new(), "200"),
        (&format!("/api/health?{}", "x".repeat(70_000)), String::new(), "414"),
        (&format!("/api/census?{}", "days=1&".repeat(8_000)), String::new(), "401"),
        ("/api/health", "Authorization : Bearer x\r\n".into(), "400"),
        ("/api/health", "a: b\r\n folded: c\r\n".into(), "400"),
        ("/api/health", "a: b\0c\r\n".into(), "400"),
        ("/api/health", "a: b\rc: d\r\n".into(), "400"),
        ("/api/health", "a b: c\r\n".into(), "400"),
        ("/api/health", ": c\r\n".into(), "400"),
        ("/api/health", "no colon\r\n".into(), "400"),
        ("/api/health", "Host: other\r\n".into(), "400"),
        ("/api/health", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n".into(), "200"),
        ("http://evil.example/api/health", String::new(), "400"),
        ("/api/health\0", String::new(), "400"),
        ("/api/he alth", String::new(), "400"),
        ("*", String::new(), "400"),
        // A long header that is no token is no crash either.
        ("/api/census", format!("Authorization: Bearer {}\r\n", "x".repeat(100_000)), "401"),
    ] {
        let status = get(path, &headers);
        let [path, headers] = [path, &headers].map(|text| text.chars().take(80).collect::<String>());
        // `*` is a path for OPTIONS alone; a reader may also find nothing there.
        assert!(status == expected || (path == "*" && status == "404"), "{path} {headers}: {status}");
    }
    for request in [
        "GET /api/health HTTP/1.1\r\n\r\n",
        "GET /api/health HTTP/2.0\r\nHost: h\r\n\r\n",
        "GET\r\n\r\n",
        "\u{16}\u{3}\u{1}\r\n\r\n",
    ] {
        assert_eq!(status(handler.port, request), "400", "{request:?}");
    }
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    assert_eq!(status(handler.port, preface), "400", "HTTP/2 by prior knowledge");
    assert!(raw(handler.port, b"GET /api/health HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200"));
    handler.lives();
}

#[test]
fn no_call_hides_in_the_body_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut handler = Handler::start(folder.path(), &[("HDAI_BODY_SECONDS_MAX", "5")]);
    let signed_in = manager(&handler);
    let hidden = "GET /api/health HTTP/1.1\r\nHost: h\r\n\r\n";
    let post = |headers: &str, body: &str| {
        let head = format!("POST {ADMISSION} HTTP/1.1\r\nHost: h\r\n{signed_in}{headers}\r\n\r\n");
        raw(handler.port, format!("{head}{body}").as_bytes())
    };
    // What has two lengths, or one that no reader understands, is refused, and the connection with it.
    for headers in [
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 5",
        "Content-Length: -1",
        "Content-Length: +4",
        "Content-Length: 0x4",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\u{b}chunked",
    ] {
        let answers = post(headers, &format!("abcd{hidden}"));
        assert_eq!(statuses(&answers), ["400"], "{headers}: {answers}");
    }
    // Chunks that are none: the call is answered as broken, or as too large, and nothing after it is a call.
    for chunks in [
        "FFFFFFFFFFFFFFFFF\r\n",
        "-1\r\nabcd\r\n",
        "4\nabcd\n0\n\n",
        "4 x\r\nabcd\r\n0\r\n\r\n",
        "4\r\nabcdX\r\n0\r\n\r\n",
        "g\r\nabcd\r\n0\r\n\r\n",
        &format!("4;{}\r\nabcd\r\n0\r\n\r\n", "x".repeat(100_000)),
    ] {
        let answers = post("Transfer-Encoding: chunked", &format!("{chunks}{hidden}"));
        assert_eq!(statuses(&answers), ["400"], "{}: {answers}", &chunks[..chunks.len().min(40)]);
    }
    let close = "GET /api/none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    // Chunks win over a length, as RFC 9112 has it, and then the connection ends: two readers of it may not agree where the next call begins.
    let both = post("Content-Length: 9\r\nTransfer-Encoding: chunked", &format!("0\r\n\r\n{hidden}{close}"));
    assert_eq!(statuses(&both), ["400"], "{both}");
    assert!(
        both.contains("it ends too early") && both.contains("connection: close\r\n"),
        "an empty body, and nothing after it: {both}"
    );
    // A stranger's body is not read: what hides in it is not found.
    let request = format!("POST {ADMISSION} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len());
    assert_eq!(statuses(&raw(handler.port, request.as_bytes())), ["401"]);
    // Two calls one after the other are two calls.
    assert_eq!(statuses(&raw(handler.port, format!("{hidden}{close}").as_bytes())), ["200", "404"]);
    handler.lives();
}

#[test]
fn a_path_leads_to_one_route_or_to_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut handler = Handler::start(folder.path(), &[]);
    let signed_in = manager(&handler);
    let call = |method: &str, path: &str| {
        status(handler.port, &format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{signed_in}\r\n"))
    };
    // The care line manager may not read the trail, whatever its path is called.
    for path in ["/api/audit", "/api/AUDIT", "/api/audit/", "/api/audit//", "/api/audit?x=/api/health", "/api/audit?;.css"] {
        assert_eq!(call("GET", path), "403", "{path}");
    }
    for path in [
        "//api/audit",
        "/api//audit",
        "/api/audit/..",
        "/api/health/../audit",
        "/api/./audit",
        "/api/%61udit",
        "/api/audit%2f",
        "/api%2faudit",
        "/api/%2e%2e/audit",
        "/api/audit%00",
        "/api/audit;x=y",
        "/api/audit.json",
        "/api/health;/../audit",
        "/API/audit",
        "/api\\audit",
        "/PublishEvents/",
        "/api/../PublishEvents",
        "/%50ublishEvents",
        "/publishevents",
    ] {
        assert_eq!(call("GET", path), "404", "{path}");
    }
    for (method, path, expected) in [
        ("HEAD", "/api/health", "405"),
        ("OPTIONS", "/api/audit", "405"),
        ("TRACE", "/api/audit", "405"),
        ("PATCH", ADMISSION, "405"),
        ("get", "/api/audit", "405"),
        ("BREW", "/api/audit", "405"),
        ("CONNECT", "h:80", "400"),
        ("OPTIONS", "/PublishEvents", "404"),
        ("POST", "/api/PublishEvents", "404"),
    ] {
        assert_eq!(call(method, path), expected, "{method} {path}");
    }
    assert_eq!(handler.rows("SELECT DISTINCT outcome FROM audit"), [["refused"]]);
    handler.lives();
}

#[test]
fn a_strangers_body_is_not_waited_for_and_a_known_callers_only_so_long() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(folder.path(), &[("HDAI_BODY_SECONDS_MAX", "1")]);
    let half = |path: &str, headers: &str| {
        raw(handler.port, format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 100\r\n\r\nhalf").as_bytes())
    };
    // The whole megabytes come afterwards, or never.
    for (path, headers, expected) in [
        (ADMISSION, String::new(), "401"),
        ("/api/none", String::new(), "404"),
        ("/api/audit", manager(&handler), "405"),
        ("/Nothing", String::new(), "404"),
        ("/PublishEvents", "Origin: https://evil.example\r\n".into(), "403"),
        (ADMISSION, format!("{}Content-Type: text/csv\r\n", manager(&handler)), "415"),
        (ADMISSION, manager(&handler), "408"),
        ("/PublishEvents", String::new(), "408"),
    ] {
        let answer = half(path, &headers);
        assert_eq!(statuses(&answer), [expected], "{path} {headers}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    // Whoever asks first is told before anything is sent.
    let expect = |headers: &str| {
        let head = format!("POST {ADMISSION} HTTP/1.1\r\nHost: h\r\n{headers}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
        first_of(&mut sent(handler.port, &head))
    };
    assert!(expect("").starts_with("HTTP/1.1 401"));
    assert!(expect(&manager(&handler)).starts_with("HTTP/1.1 100"));
    // A stranger who sends all of a large body sees why it was for nothing.
    let large = format!("POST {ADMISSION} HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n{}", "x".repeat(900_000));
    assert_eq!(status(handler.port, &large), "401");
    // One refusal, one event: that of the media type has none, as before.
    let auditor = format!("Authorization: Bearer {}\r\n", token(folder.path(), &["Auditor"], &[]));
    assert_eq!(statuses(&half(ADMISSION, &auditor)), ["403"]);
    assert_eq!(handler.rows("SELECT action, outcome FROM audit"), [["admit", "refused"]]);
}

#[test]
fn bodies_under_way_share_a_budget() {
    let folder = tempfile::tempdir().unwrap();
    let limits = ["HDAI_BODIES_BYTES_MAX", "HDAI_BODY_BYTES_MAX", "HDAI_TRIGGER_BYTES_MAX"].map(|name| (name, "65536"));
    let limits = [limits[0], limits[1], limits[2], ("HDAI_CALLER_RATE", "0")];
    let mut handler = Handler::start(folder.path(), &limits);
    let signed_in = manager(&handler);
    let head = format!("POST {ADMISSION} HTTP/1.1\r\nHost: h\r\n{signed_in}Content-Length: 65536\r\n\r\n");
    let second =
        format!("POST {ADMISSION} HTTP/1.1\r\nHost: h\r\n{signed_in}Connection: close\r\nContent-Length: 9\r\n\r\n123456789");
    // Until the second call comes when the first one's body is there and not yet whole.
    let begun = Instant::now();
    loop {
        let mut first = sent(handler.port, &format!("{head}{}", " ".repeat(65_000)));
        let answer = raw(handler.port, second.as_bytes());
        let crowded = answer.starts_with("HTTP/1.1 429") && answer.contains("carry too many bytes");
        if crowded {
            assert!(answer.contains("retry-after: "), "{answer}");
            // The triggers have a budget of their own.
            handler.done("PublishEvents", &json!({ "Data": { "timer": {} } }));
        }
        // It may have been the first one that found no room.
        let _ = first.write_all(&[b' '; 536]);
        let whole = first_of(&mut first);
        if crowded {
            assert!(whole.starts_with("HTTP/1.1 400"), "{whole}");
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the first body never counted: {answer}");
    }
    assert!(raw(handler.port, second.as_bytes()).starts_with("HTTP/1.1 400"), "the budget is given back");
    handler.lives();
}

#[test]
fn a_head_that_does_not_come_and_an_answer_that_nobody_takes_end_their_connections() {
    let folder = tempfile::tempdir().unwrap();
    let limits = [("HDAI_HEAD_SECONDS_MAX", "1"), ("HDAI_ANSWER_SECONDS_MAX", "1")];
    let mut handler = Handler::start(folder.path(), &limits);
    for begun in ["", "GET /api/hea", "GET /api/health HTTP/1.1\r\nHost: h\r\na: b\r\n"] {
        assert_eq!(first_of(&mut sent(handler.port, begun)), "", "{begun}");
    }
    // Between two calls, too.
    let mut idle = sent(handler.port, "GET /api/health HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(first_of(&mut idle).starts_with("HTTP/1.1 200"));
    while !first_of(&mut idle).is_empty() {}

    let call = "GET /api/openapi.json HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut deaf = TcpStream::connect(("127.0.0.1", handler.port)).unwrap();
    deaf.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    // Asks until nothing goes through any more: the handler has hung up.
    let mut asked = 0;
    while deaf.write_all(call.repeat(100).as_bytes()).is_ok() {
        asked += 100;
        assert!(asked < 1_000_000, "the handler never gave up");
    }
    handler.lives();
}

#[test]
fn connections_that_wait_make_room_for_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut handler = Handler::start(folder.path(), &[("HDAI_CONNECTIONS_MAX", "20")]);
    let part = "GET /api/health HTTP/1.1\r\nHost: h\r\n";
    let mut waiting: Vec<TcpStream> = (0..100).map(|_| sent(handler.port, part)).collect();
    let get = || status(handler.port, "GET /api/health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    for _ in 0..30 {
        assert_eq!(get(), "200");
    }
    assert_eq!(first_of(&mut waiting[0]), "", "the first one had waited longest");
    drop(waiting);

    // Those that are being served keep their places.
    let signed_in = manager(&handler);
    let head = format!("POST {ADMISSION} HTTP/1.1\r\nHost: h\r\n{signed_in}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let trigger = "POST /PublishEvents HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let served = |call: &str, count: usize| -> Vec<TcpStream> {
        let one = |_| {
            let mut stream = sent(handler.port, call);
            assert!(first_of(&mut stream).starts_with("HTTP/1.1 100"));
            stream
        };
        (0..count).map(one).collect()
    };
    let mut calls = served(&head, 17);
    // The last places are not for calls of the API.
    assert_eq!(get(), "503");
    assert_eq!(status(handler.port, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), "200");
    let triggers = served(trigger, 3);
    let refused = raw(handler.port, b"GET /api/health HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 5\r\n"), "{refused}");
    drop(triggers);
    for stream in &mut calls {
        stream.write_all(b"{}").unwrap();
        assert!(first_of(stream).starts_with("HTTP/1.1 400"));
    }
    handler.lives();
}
