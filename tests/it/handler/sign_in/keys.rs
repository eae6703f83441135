//! The issuer's keys: rotation, junk, absence.

use std::time::Duration;

use chrono::{DateTime, Utc};
use health_data_ai::sign_in::{Presented, Refused, SignIn, Timing, Verifier};

use super::issuer::{Answer, now};
use super::*;

#[test]
fn a_rotated_key_costs_one_fetch_and_junk_costs_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new, junk] = ["old", "new", "junk"].map(Key::new);
    let server = Server::start(&[&old]);
    let handler = start(folder.path(), &server, &[]);
    let status = |token: &str| call(&handler, "GET", "/api/audit", &[("authorization", format!("Bearer {token}"))]).0;
    let of = |key: &Key| key.sign(&claims(&[AUDITOR], json!({})));
    assert_eq!(server.fetches(), 0, "nothing is fetched before it is needed");
    assert_eq!((status(&of(&old)), status(&of(&old)), server.fetches()), (200, 200, 1));
    server.publish(&[&new]);
    assert_eq!((status(&of(&old)), server.fetches()), (200, 1), "a key serves while it is fresh");
    assert_eq!((status(&of(&new)), server.fetches()), (200, 2), "a new key is fetched when it is met");
    assert_eq!(status(&of(&old)), 401, "a withdrawn key is gone with that fetch");
    for index in 0..50 {
        let mut header = junk.header();
        header.kid = Some(format!("junk{index}"));
        assert_eq!(status(&junk.sign_with(header, &claims(&[AUDITOR], json!({})))), 401);
    }
    assert_eq!(server.fetches(), 2, "unknown keys caused more than one fetch in an interval");
    server.answer(Answer::Away);
    assert_eq!((status(&of(&new)), server.fetches()), (200, 2), "known keys need no issuer");
}

#[test]
fn an_issuer_that_was_never_there_is_a_503_and_is_not_hammered() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::new("k1");
    let server = Server::start(&[]);
    server.answer(Answer::Away);
    let handler = start(folder.path(), &server, &[]);
    let bearer = [("authorization", format!("Bearer {}", key.sign(&claims(&[AUDITOR], json!({})))))];
    for _ in 0..20 {
        let (status, headers, _) = call(&handler, "GET", "/api/audit", &bearer);
        assert_eq!((status, headers.contains_key("retry-after"), headers.contains_key("www-authenticate")), (503, true, false));
    }
    // The HTTP client repeats a request whose connection broke before an answer once.
    assert!(server.fetches() <= 2, "{}", server.fetches());
    assert!(handler.log().contains("\"auth.keys_away\""));
}

/// As the handler judges tokens, with intervals that a test can wait for.
struct Door {
    sign_in: SignIn,
}

impl Door {
    fn new(server: &Server, timing: Timing) -> Self {
        let settings = server.settings();
        let verifier = Verifier::entra(&settings, timing).unwrap();
        Self { sign_in: SignIn::new(false, Some(verifier), Some(settings.tenant)) }
    }

    async fn at(&self, token: &str) -> Result<(), Refused> {
        let header = format!("Bearer {token}");
        let presented = Presented { authorizations: vec![header.as_bytes()], ..Presented::default() };
        let now: DateTime<Utc> = DateTime::from_timestamp(now(), 0).unwrap();
        self.sign_in.caller(&presented, "c".into(), now).await.map(|_| ())
    }
}

const SOON: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn old_keys_serve_while_the_issuer_is_away_and_not_for_ever() {
    let [old, new] = ["old", "new"].map(Key::new);
    let of = |key: &Key| key.sign(&claims(&[AUDITOR], json!({})));
    let server = Server::start(&[&old]);
    let timing = Timing { fresh: SOON, usable: SOON * 10, retry: SOON / 3, unknown: SOON, wait: SOON };
    let door = Door::new(&server, timing);
    assert_eq!(door.at(&of(&old)).await, Ok(()));
    server.answer(Answer::Silent);
    tokio::time::sleep(SOON).await;
    let begun = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(door.at(&of(&old)).await, Ok(()), "an old key serves");
    }
    assert!(begun.elapsed() < SOON * 10, "a caller waited for an issuer that says nothing");
    tokio::time::sleep(SOON * 10).await;
    assert_eq!(door.at(&of(&old)).await, Err(Refused::KeysAway), "keys nobody confirms end");
    let fetches = server.fetches();
    assert!((2..=6).contains(&fetches), "{fetches} fetches in three seconds");
    server.publish(&[&new]);
    tokio::time::sleep(SOON).await;
    assert_eq!(door.at(&of(&new)).await, Ok(()), "the issuer is back");
    assert_eq!(door.at(&of(&old)).await, Err(Refused::UnknownKey));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_at_once_cause_one_fetch() {
    let key = Key::new("k1");
    let server = Server::start(&[&key]);
    let door = std::sync::Arc::new(Door::new(&server, Timing::default()));
    let token = key.sign(&claims(&[AUDITOR], json!({})));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (door, token) = (std::sync::Arc::clone(&door), token.clone());
        calls.spawn(async move { door.at(&token).await });
    }
    assert!(calls.join_all().await.iter().all(Result::is_ok));
    assert_eq!(server.fetches(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_may_cause_another_fetch_after_the_interval() {
    let [key, junk] = ["k1", "junk"].map(Key::new);
    let server = Server::start(&[&key]);
    let door = Door::new(&server, Timing { unknown: SOON, ..Timing::default() });
    let of = |key: &Key| key.sign(&claims(&[AUDITOR], json!({})));
    for round in 1..=3 {
        for _ in 0..10 {
            assert_eq!(door.at(&of(&junk)).await, Err(Refused::UnknownKey));
        }
        // The first round needed the keys, and looked again for the one that was not among them.
        assert_eq!(server.fetches(), 1 + round, "round {round}");
        tokio::time::sleep(SOON).await;
    }
    assert_eq!(door.at(&of(&key)).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_hangs_up_keeps_no_new_key_from_others() {
    let [old, new] = ["old", "new"].map(Key::new);
    let of = |key: &Key| key.sign(&claims(&[AUDITOR], json!({})));
    let server = Server::start(&[&old]);
    let door = Door::new(&server, Timing { wait: SOON, retry: Duration::ZERO, ..Timing::default() });
    assert_eq!(door.at(&of(&old)).await, Ok(()));
    server.answer(Answer::Silent);
    let left = tokio::time::timeout(Duration::from_millis(10), door.at(&of(&new))).await;
    assert!(left.is_err(), "the issuer says nothing");
    server.publish(&[&old, &new]);
    assert_eq!(door.at(&of(&new)).await, Ok(()));
}
