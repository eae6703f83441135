//! What a caller who fails, is refused or calls too often meets, and that nobody else meets it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use health_data_ai::blob::local::Local;
use health_data_ai::config::Config;
use health_data_ai::domain::access::Proof;
use health_data_ai::domain::{Action, Caller as Known, Outcome};
use health_data_ai::error::Kind;
use health_data_ai::store::Store;
use health_data_ai::workflow::{Hospital, PseudonymKey, SigningKey};

use super::issuer::{Key, OBJECT, Server, claims};
use super::*;

fn bearer(key: &Key, object: &str, role: &str) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {}", key.sign(&claims(&[role], json!({ "oid": object })))))]
}

fn retry_after(headers: &HeaderMap) -> u64 {
    headers["retry-after"].to_str().unwrap().parse().unwrap()
}

#[test]
fn an_origin_that_fails_too_often_is_glanced_at_and_nobody_behind_it_is_locked_out() {
    let folder = tempfile::tempdir().unwrap();
    let (key, other) = (Key::new("k1"), Key::new("k1"));
    let server = Server::start(&[&key]);
    // Keys that come over plain HTTP are for this machine alone, where no front end says whence a call comes.
    let handler = start(folder.path(), &server, &[("HDAI_FAILURES_MAX", "5")]);
    let junk = |from: &str| {
        let headers = [("authorization", "Bearer junk".to_owned()), ("x-forwarded-for", from.to_owned())];
        call(&handler, "GET", "/api/audit", &headers)
    };
    // Whatever a caller says of its address, it is the same one.
    let seen: Vec<u16> = (0..8).map(|number| junk(&format!("203.0.113.{number}")).0).collect();
    assert_eq!(seen, [401, 401, 401, 401, 401, 429, 429, 429]);
    let (_, headers, body) = junk("198.51.100.1");
    assert!((1..=60).contains(&retry_after(&headers)), "{headers:?}");
    assert!(body.contains("sign in again"), "{body}");
    assert!(headers["www-authenticate"].to_str().unwrap().starts_with("Bearer "), "{headers:?}");
    let expired = [("authorization", format!("Bearer {}", key.sign(&claims(&[AUDITOR], json!({ "exp": now() - 120 })))))];
    let early = [("authorization", format!("Bearer {}", key.sign(&claims(&[AUDITOR], json!({ "nbf": now() + 600 })))))];
    // Who need only sign in is told so: a client renews its token at 401 alone.
    for headers in [&[][..], &expired, &early] {
        let (status, headers, _) = call(&handler, "GET", "/api/audit", headers);
        assert!(status == 401 && headers.contains_key("www-authenticate"), "{status} {headers:?}");
    }

    // Whoever is behind the same address signs in as ever, though no key was fetched before.
    assert_eq!(server.fetches(), 0);
    assert_eq!(call(&handler, "GET", "/api/audit", &bearer(&key, OBJECT, AUDITOR)).0, 200);
    assert_eq!(server.fetches(), 1);
    // What cannot be good costs no fetch, and what is forged is remembered.
    let forged = [("authorization", format!("Bearer {}", other.sign(&claims(&[AUDITOR], json!({})))))];
    for headers in [&forged, &forged] {
        assert_eq!(call(&handler, "GET", "/api/audit", headers).0, 429);
    }
    assert_eq!(server.fetches(), 1);
    for object in ["a", "b", "c"] {
        assert_eq!(call(&handler, "GET", "/api/audit", &bearer(&key, object, AUDITOR)).0, 200);
    }
    // A body of one who is only glanced at is not waited for.
    let half =
        b"POST /api/PatientAdmissionFunc HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer junk\r\nContent-Length: 100\r\n\r\nhalf";
    let answer = raw(handler.port, half);
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
}

#[test]
fn the_front_ends_word_on_the_origin_counts_where_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    // No token gets as far as the keys, which nobody could fetch here.
    let vars = [
        ("WEBSITE_SITE_NAME", "app"),
        ("HDAI_ENTRA_TENANT_ID", issuer::TENANT),
        ("HDAI_ENTRA_AUDIENCES", CLIENT),
        ("HDAI_FAILURES_MAX", "3"),
    ];
    let handler = Handler::start(folder.path(), &vars);
    let junk = || ("authorization", "Bearer junk".to_owned());
    let from = |seen: &str| call(&handler, "GET", "/api/audit", &[("x-forwarded-for", seen.to_owned()), junk()]).0;
    for number in 0..3 {
        assert_eq!(from(&format!("10.0.0.{number}, 203.0.113.9:{number}")), 401, "the last one is the front end's");
    }
    assert_eq!(from("192.0.2.1, 203.0.113.9:77"), 429, "however often it changes what it says of itself");
    assert_eq!(from("203.0.113.9, 198.51.100.7:4"), 401, "another origin");
    let log = handler.log();
    assert_eq!(log.matches("\"origin\":\"203.0.113.9\"").count(), 4, "{log}");
}

#[test]
fn a_caller_who_is_refused_again_and_again_fills_no_trail_and_does_what_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::new("k1");
    let server = Server::start(&[&key]);
    let handler = start(folder.path(), &server, &[("HDAI_REFUSALS_MAX", "3")]);
    let (eve, ann) = (bearer(&key, "eve", AUDITOR), bearer(&key, "ann", AUDITOR));
    let seen: Vec<u16> = (0..10).map(|_| call(&handler, "POST", "/api/PatientAdmissionFunc", &eve).0).collect();
    assert_eq!(seen, [403, 403, 403, 429, 429, 429, 429, 429, 429, 429]);
    let (status, headers, _) = call(&handler, "GET", "/api/census", &eve);
    assert!(status == 429 && retry_after(&headers) > 0);
    assert_eq!(call(&handler, "GET", "/api/audit", &eve).0, 200, "what it may do");
    assert_eq!(call(&handler, "GET", "/api/census", &ann).0, 403, "another caller");
    let told = handler.rows("SELECT caller, detail FROM audit WHERE outcome = 'refused' ORDER BY seq");
    let role = "role does not allow it";
    let more = "refused too often: further refusals within ten minutes are counted";
    assert_eq!(told, [["eve", role], ["eve", role], ["eve", role], ["eve", more], ["ann", role]]);
}

#[test]
fn a_caller_who_is_too_fast_waits_and_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::new("k1");
    let server = Server::start(&[&key]);
    let handler = start(folder.path(), &server, &[("HDAI_CALLER_RATE", "1"), ("HDAI_CALLER_BURST", "5")]);
    let (eve, ann) = (bearer(&key, "eve", AUDITOR), bearer(&key, "ann", AUDITOR));
    // However slow the machine, it makes more than one call a second.
    let seen: Vec<(u16, HeaderMap)> = (0..60)
        .map(|_| {
            let (status, headers, _) = call(&handler, "GET", "/api/audit", &eve);
            (status, headers)
        })
        .collect();
    assert!(seen[..5].iter().all(|(status, _)| *status == 200));
    let (_, headers) = seen.iter().find(|(status, _)| *status == 429).unwrap();
    assert!(retry_after(headers) >= 1 && headers["content-type"] == "application/problem+json");
    assert!(seen.iter().all(|(status, _)| [200, 429].contains(status)));
    assert_eq!(call(&handler, "GET", "/api/audit", &ann).0, 200);
    assert_eq!(call(&handler, "GET", "/api/health", &[]).0, 200);
    assert_eq!(handler.log().matches("\"caller.too_fast\"").count(), 1);
}

#[test]
fn what_one_caller_holds_keeps_nobody_else_out() {
    let ward = tempfile::tempdir().unwrap();
    let key = Key::new("k1");
    let server = Server::start(&[&key]);
    let limits = [("HDAI_CONNECTIONS_MAX", "16"), ("HDAI_CALLER_CALLS", "4")];
    let mut handler = start(ward.path(), &server, &limits);
    let token = |object: &str| key.sign(&claims(&[MANAGER], json!({ "oid": object })));
    let eve = token("eve");
    let head = format!(
        "POST /api/PatientAdmissionFunc HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {eve}\r\nContent-Length: 100\r\n\r\nhalf"
    );
    // Bodies that never come whole, over more connections than there are.
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(("127.0.0.1", handler.port)).unwrap();
        let _ = stream.write_all(head.as_bytes());
        held.push(stream);
    }
    let (ann, trigger) = ([("authorization", format!("Bearer {}", token("ann")))], json!({ "Data": { "timer": {} } }));
    for _ in 0..20 {
        assert_eq!(call(&handler, "POST", "/api/PatientAdmissionFunc", &ann).0, 400, "another caller: an empty message");
        handler.done("PublishEvents", &trigger);
        handler.lives();
    }
    let (status, headers, body) = call(&handler, "GET", "/api/me", &[("authorization", format!("Bearer {eve}"))]);
    assert!(status == 429 && retry_after(&headers) > 0 && body.contains("under way"), "{status} {body}");
    drop(held);
    let begun = Instant::now();
    while call(&handler, "GET", "/api/me", &[("authorization", format!("Bearer {eve}"))]).0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60), "what was held is given back");
    }
}

#[tokio::test]
async fn the_sum_of_refusals_reaches_the_trail_when_their_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::from_vars(|name| (name == "HDAI_REFUSALS_MAX").then(|| "2".to_owned())).unwrap();
    let store = Arc::new(crate::support::record(folder.path()));
    store.migrate().await.unwrap();
    let key = SigningKey::from_base64(&BASE64_STANDARD.encode([7; 32])).unwrap();
    let pseudonyms = PseudonymKey::from_base64(&BASE64_STANDARD.encode([8; 32])).unwrap();
    let hospital = Hospital::new(config, store.clone(), Arc::new(Local::new(folder.path())), key, pseudonyms);
    let eve = Known::of("eve", vec![], Proof::Token, "c");
    let at = |seconds: i64| DateTime::<Utc>::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
    let refused = async |seconds: i64| hospital.allow(&eve, Action::ReadAudit, at(seconds)).await.unwrap_err().kind();
    let mut kinds = Vec::new();
    for second in 0..6 {
        kinds.push(refused(second).await);
    }
    assert_eq!(kinds[..2], [Kind::Forbidden; 2]);
    assert_eq!(kinds[2..], [Kind::TooMany; 4]);
    hospital.tell_refusals(at(599)).await.unwrap();
    assert_eq!(store.audit_events(9).await.unwrap().len(), 3, "two refusals, and that more are counted");
    hospital.tell_refusals(at(600)).await.unwrap();
    hospital.tell_refusals(at(601)).await.unwrap();
    let told = store.audit_events(9).await.unwrap();
    assert_eq!((told.len(), told[0].detail.as_str()), (4, "refused 4 more times within ten minutes"));
    assert_eq!((told[0].caller.id.as_str(), told[0].action, told[0].outcome), ("eve", Action::ReadAudit, Outcome::Refused));
    assert_eq!(refused(602).await, Kind::Forbidden, "a new window");
}
