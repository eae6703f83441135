//! What the running handler makes of callers that overfill, overlap or hold back what they send.

use super::*;

fn status(port: u16, request: &str) -> String {
    raw(port, request.as_bytes()).split(' ').nth(1).unwrap_or("nothing").to_owned()
}

#[test]
fn headers_and_lengths_that_cannot_be_right_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut handler = Handler::start(folder.path(), &[]);
    let get = |path: &str, headers: &str| {
        status(handler.port, &format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n"))
    };
    let many = |count: usize| (0..count).map(|index| format!("a{index}: b\r\n")).collect::<String>();
    assert_eq!(get("/api/health", &many(90)), "200");
    assert_eq!(get("/api/health", &many(110)), "431");
    assert_eq!(get("/api/health", &format!("a: {}\r\n", "x".repeat(500_000))), "431");
    assert_eq!(get(&format!("/api/health?{}", "x".repeat(70_000)), ""), "414");
    assert_eq!(get("/api/health", "Authorization : Bearer x\r\n"), "400");
    // A long header that is no token is no crash either.
    assert_eq!(get("/api/census", &format!("Authorization: Bearer {}\r\n", "x".repeat(300_000))), "401");

    let post = |headers: &str, body: &str| {
        let path = "/api/PatientAdmissionFunc";
        raw(handler.port, format!("POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n\r\n{body}").as_bytes())
    };
    for headers in ["Content-Length: 4\r\nContent-Length: 5", "Content-Length: -1", "Transfer-Encoding: xchunked"] {
        let answer = post(headers, "abcd");
        assert!(answer.starts_with("HTTP/1.1 400"), "{headers}: {answer}");
    }
    // The chunks are the body; what would be a second call for a reader of the length is not answered.
    let both = post("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\nGET /api/health HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(both.starts_with("HTTP/1.1 401") && both.matches("HTTP/1.1").count() == 1, "{both}");
    handler.lives();
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(folder.path(), &[("HDAI_BODY_SECONDS_MAX", "1")]);
    let begun = Instant::now();
    let request = "POST /api/PatientAdmissionFunc HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf";
    let answer = raw(handler.port, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!((1..10).contains(&begun.elapsed().as_secs()));
}

#[test]
fn callers_that_hold_back_their_headers_do_not_hold_up_others() {
    let folder = tempfile::tempdir().unwrap();
    let handler = Handler::start(folder.path(), &[]);
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", handler.port)).unwrap();
            stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: h\r\n").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(handler.get("api/health", &[]).status, 200);
    assert!(begun.elapsed() < Duration::from_secs(30));
    drop(slow);
}
