//! The way into the database: see the README.

mod certificates;
mod front;
mod mock;
mod token;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use health_data_ai::azure::identity::Identity;
use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
use health_data_ai::error::{Error, Kind};
use health_data_ai::store::azure_sql::{Probe, probe};

use front::Counts;
use mock::{Script, Speech, refusal, start, well};

/// A folder with a certificate authority, and a server's identity for `localhost`.
struct Room {
    folder: tempfile::TempDir,
    identity: certificates::Identity,
}

impl Room {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let identity = certificates::signed(&folder.path().join("ca.pem"), "localhost");
        Self { folder, identity }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn settings(&self, connection: &str) -> SqlSettings {
        let mut settings = SqlSettings::new(SqlConnection::Text(Secret::new(connection)));
        settings.ca_file = Some(self.ca());
        settings
    }
}

fn login(port: u16, rest: &str) -> String {
    format!("Server=localhost,{port};Database=record;User ID=hdai;Password=S3CRET;{rest}")
}

async fn ask(settings: &SqlSettings) -> Result<Probe, Error> {
    probe(settings, &Identity::default()).await
}

/// Probes a TDS 8.0 mock whose answers are scripted, with `command` as the time for a statement.
async fn scripted(script: &Script, command: Duration) -> (Result<Probe, Error>, Arc<Counts>) {
    let room = Room::new();
    let (mock, _) = start(Speech::Strict(&room.identity), script).await;
    let (listener, port) = front::listener().await;
    let counts = front::pass(listener, mock, false);
    let mut settings = room.settings(&login(port, "Encrypt=Strict"));
    settings.command = command;
    (ask(&settings).await, counts)
}

const COMMAND: Duration = Duration::from_secs(30);

#[tokio::test]
async fn tls_after_the_first_message() {
    let (script, _guard) = Script::new([well()]);
    let room = Room::new();
    let (mock, store) = start(Speech::Tls(&room.identity), &script).await;
    let (listener, port) = front::listener().await;
    front::pass(listener, mock, true);
    let found = ask(&room.settings(&login(port, ""))).await.unwrap();
    assert_eq!((found.host.as_str(), found.database.as_str(), found.login.as_str()), ("localhost", "record", "hdai-app"));
    assert!(found.azure && !found.strict && found.babelfish.is_none());
    assert_eq!(script.statements().len(), 3, "{:?}", script.statements());
    let store = store.lock().await;
    let connection = store.all().values().next().unwrap();
    assert_eq!(connection.received_database.as_deref(), Some("record"));
}

#[tokio::test]
async fn tls_before_the_first_byte() {
    let (script, _guard) = Script::new([well()]);
    let (found, counts) = scripted(&script, COMMAND).await;
    assert!(found.unwrap().strict);
    assert_eq!((counts.accepted(), counts.most_open()), (1, 1));
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_before_anything_is_said() {
    let (script, _guard) = Script::new([well()]);
    let (room, other) = (Room::new(), Room::new());
    for strict in [false, true] {
        let speech = if strict { Speech::Strict(&room.identity) } else { Speech::Tls(&room.identity) };
        let (mock, store) = start(speech, &script).await;
        let (listener, port) = front::listener().await;
        let counts = front::pass(listener, mock, !strict);
        let rest = if strict { "Encrypt=Strict" } else { "Encrypt=True" };
        let error = ask(&other.settings(&login(port, rest))).await.unwrap_err();
        assert!(error.to_string().contains("HDAI_SQL_CA_FILE"), "{error}");
        let named = format!("{rest};HostNameInCertificate=db.example.org");
        let error = ask(&room.settings(&login(port, &named))).await.unwrap_err();
        assert!(error.to_string().contains("HostNameInCertificate") && !error.to_string().contains("S3CRET"), "{error}");
        // Neither is tried again, and no login reached the server.
        assert_eq!(counts.accepted(), 2);
        assert_eq!(store.lock().await.all().values().filter(|connection| connection.authenticated).count(), 0);
    }
    assert_eq!(script.statements(), Vec::<String>::new());
}

#[tokio::test]
async fn the_name_in_the_certificate_may_be_another_if_it_is_given() {
    let (script, _guard) = Script::new([well()]);
    let mut room = Room::new();
    room.identity = certificates::signed(&room.ca(), "db.example.org");
    let (port, _) = start(Speech::Strict(&room.identity), &script).await;
    assert!(ask(&room.settings(&login(port, "Encrypt=Strict"))).await.is_err());
    assert!(ask(&room.settings(&login(port, "Encrypt=Strict;HostNameInCertificate=db.example.org"))).await.is_ok());
}

#[tokio::test]
async fn a_server_without_encryption_gets_no_password() {
    let (script, _guard) = Script::new([well()]);
    let room = Room::new();
    let (port, store) = start(Speech::Plain, &script).await;
    let error = ask(&room.settings(&login(port, "Encrypt=False"))).await.unwrap_err();
    assert!(error.to_string().contains("offers no encryption"), "{error}");
    assert_eq!(store.lock().await.all().values().filter(|connection| connection.authenticated).count(), 0);
}

#[tokio::test]
async fn a_gateways_redirect_is_followed() {
    let (script, _guard) = Script::new([well()]);
    let room = Room::new();
    let (target, target_store) = start(Speech::Plain, &script).await;
    let (listener, target_port) = front::listener().await;
    let target_counts = front::end_tls(listener, target, &room.identity);
    let (gateway, _) = start(Speech::Redirect(target_port), &script).await;
    let (listener, gateway_port) = front::listener().await;
    let gateway_counts = front::end_tls(listener, gateway, &room.identity);
    let found = ask(&room.settings(&login(gateway_port, "Encrypt=Strict"))).await.unwrap();
    assert_eq!(found.login, "hdai-app");
    assert_eq!((gateway_counts.accepted(), target_counts.accepted()), (1, 1));
    assert_eq!(target_store.lock().await.count(), 1);
}

#[tokio::test]
async fn a_circle_of_redirects_is_left() {
    let (script, _guard) = Script::new([]);
    let room = Room::new();
    let (listener, port) = front::listener().await;
    let (gateway, _) = start(Speech::Redirect(port), &script).await;
    let counts = front::end_tls(listener, gateway, &room.identity);
    let error = ask(&room.settings(&login(port, "Encrypt=Strict"))).await.unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
    assert_eq!(counts.accepted(), 4);
}

#[tokio::test]
async fn throttling_is_outlived_on_new_connections() {
    let (script, _guard) = Script::new([refusal(40501, 20), refusal(40501, 20), well()]);
    let (found, counts) = scripted(&script, COMMAND).await;
    found.unwrap();
    assert_eq!((counts.accepted(), counts.most_open()), (3, 1));
    let log = script.log();
    assert!(log.contains("40501") && log.contains("attempt=2") && !log.contains("S3CRET"), "{log}");
}

#[tokio::test]
async fn a_deadlock_is_outlived_on_a_new_connection() {
    let (script, _guard) = Script::new([refusal(1205, 13), well()]);
    let (found, counts) = scripted(&script, COMMAND).await;
    found.unwrap();
    assert_eq!((counts.accepted(), counts.most_open()), (2, 1));
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_left_and_its_connection_closed() {
    let (script, _guard) = Script::new([well().with_delay(Duration::from_secs(20)), well()]);
    let begun = Instant::now();
    let (found, counts) = scripted(&script, Duration::from_secs(1)).await;
    found.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    // The first was closed before the second was opened: its late answer can reach nobody.
    assert_eq!((counts.accepted(), counts.most_open()), (2, 1));
    for _ in 0..100 {
        if counts.open() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a connection is still open");
}

#[tokio::test]
async fn what_another_try_does_not_cure_is_said_once_and_without_the_servers_words() {
    for (number, class, kind, words, attempts) in [
        (229, 14, Kind::Internal, "grants", 1),
        (208, 16, Kind::Internal, "hdai migrate", 1),
        (2627, 14, Kind::Unavailable, "same key", 3),
        (4711, 16, Kind::Internal, "SQL error 4711", 1),
    ] {
        let (script, guard) = Script::new([refusal(number, class)]);
        let (found, counts) = scripted(&script, COMMAND).await;
        let error = found.unwrap_err();
        assert_eq!((error.kind(), counts.accepted()), (kind, attempts), "{error}");
        assert!(error.to_string().contains(words) && !format!("{error} {error:?}").contains("S3CRET"), "{error:?}");
        assert!(!script.log().contains("S3CRET"), "{}", script.log());
        drop(guard);
    }
}

#[tokio::test]
async fn a_statement_that_nobody_scripted_is_seen() {
    let (script, _guard) = Script::new([]);
    let (found, _) = scripted(&script, COMMAND).await;
    // The mock answers it with nothing at all.
    assert!(found.unwrap_err().to_string().contains("with nothing"));
    assert_eq!(script.unscripted(), 1);
}
