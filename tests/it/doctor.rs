//! `hdai doctor`: the real binary, looking at what is there and at what is wrong.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use crate::support::{generate, hdai};

const PARTS: &[&str] = &[
    "settings",
    "database",
    "keys",
    "storage",
    "storage account",
    "vault",
    "identity",
    "sign-in",
    "event topic",
    "clock",
    "model",
    "app",
];

/// The binary without an Azure identity of whoever runs the tests.
fn doctor(folder: &Path) -> Command {
    let mut command = hdai(folder);
    for name in ["IDENTITY_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "WEBSITE_AUTH_ENABLED"] {
        command.env_remove(name);
    }
    command.arg("doctor");
    command
}

fn report(command: &mut Command) -> (bool, Value) {
    let output = command.args(["--format", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!(output.status.code(), Some(if report["healthy"] == true { 0 } else { 1 }), "{report:#}");
    (output.status.success(), report)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn part<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["parts"].as_array().unwrap().iter().find(|part| part["part"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
}

fn state<'r>(report: &'r Value, name: &str) -> &'r str {
    part(report, name)["state"].as_str().unwrap()
}

fn found<'r>(report: &'r Value, name: &str) -> &'r str {
    part(report, name)["found"].as_str().unwrap()
}

/// A record with encounters and a model.
fn at_work(folder: &Path) {
    let csv = generate(folder, 1_500, 3);
    assert!(hdai(folder).arg("import").arg(csv).arg("--train").output().unwrap().status.success());
}

#[test]
fn a_healthy_default_has_a_line_a_part_and_exit_code_0() {
    let folder = tempfile::tempdir().unwrap();
    at_work(folder.path());
    let (healthy, report) = report(&mut doctor(folder.path()));
    assert!(healthy, "{report:#}");
    let parts: Vec<_> = report["parts"].as_array().unwrap().iter().map(|part| part["part"].as_str().unwrap()).collect();
    assert_eq!(parts, PARTS);
    for name in ["settings", "database", "keys", "storage", "sign-in", "model"] {
        assert_eq!(state(&report, name), "ok", "{report:#}");
    }
    for name in ["storage account", "vault", "identity", "event topic", "clock", "app"] {
        assert_eq!(state(&report, name), "notConfigured", "{report:#}");
        assert_eq!(part(&report, name)["milliseconds"], Value::Null);
    }
    assert!(found(&report, "database").contains("schema current") && found(&report, "database").contains("free"), "{report:#}");
    assert!(found(&report, "model").contains("trained 0 days ago on 1,500 encounters, loads"), "{report:#}");
    for part in report["parts"].as_array().unwrap() {
        let in_order = part["state"] == "ok" || part["state"] == "notConfigured";
        assert_eq!(part["remedy"].is_null(), in_order, "{part:#}");
        let keys: Vec<_> = part.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["found", "milliseconds", "part", "remedy", "state"]);
    }
    let lines = text(&doctor(folder.path()).output().unwrap());
    assert!(PARTS.iter().all(|name| lines.lines().any(|line| line.starts_with(name))), "{lines}");
}

#[test]
fn who_may_sign_in_is_told_and_the_tenants_keys_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (_, nobody) = report(doctor(folder.path()).env("WEBSITE_SITE_NAME", "app"));
    assert_eq!(state(&nobody, "sign-in"), "warning", "{nobody:#}");
    assert!(found(&nobody, "sign-in").contains("WEBSITE_SITE_NAME"), "{nobody:#}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut tenant = doctor(folder.path());
    tenant.env("HDAI_ENTRA_TENANT_ID", "11111111-2222-3333-4444-555555555555").env("HDAI_ENTRA_AUDIENCES", "api://hdai");
    let (healthy, away) = report(tenant.env("HDAI_ENTRA_KEYS_URL", format!("http://{closed}/keys")));
    assert!(!healthy && state(&away, "sign-in") == "failed", "{away:#}");
    assert!(part(&away, "sign-in")["remedy"].as_str().unwrap().contains("HDAI_ENTRA_TENANT_ID"), "{away:#}");
}

#[test]
fn a_missing_folder_is_told_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("later/state");
    let (healthy, report) = report(&mut doctor(&missing));
    assert!(healthy, "{report:#}");
    assert_eq!((state(&report, "database"), state(&report, "storage")), ("warning", "warning"), "{report:#}");
    assert!(found(&report, "database").contains("not there yet"), "{report:#}");
    assert!(part(&report, "database")["remedy"].as_str().unwrap().contains("hdai migrate"), "{report:#}");
    assert!(!folder.path().join("later").exists(), "the look made a folder");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the look left something behind");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    // Permissions do not bind the administrator, whom only the kernel's own file systems refuse.
    let place = if std::fs::write(closed.join("probe"), "").is_ok() { Path::new("/sys").to_owned() } else { closed };
    let (healthy, report) = report(&mut doctor(&place));
    assert!(!healthy);
    for name in ["database", "storage"] {
        assert_eq!(state(&report, name), "failed", "{report:#}");
        assert!(part(&report, name)["remedy"].as_str().unwrap().contains("HDAI_FOLDER"), "{report:#}");
    }
}

#[test]
fn a_database_of_a_newer_program_or_of_another_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    assert!(hdai(folder.path()).arg("migrate").status().unwrap().success());
    let file = folder.path().join("hdai.db");
    let database = Connection::open(&file).unwrap();
    database.execute_batch("INSERT INTO schema_migrations VALUES (999, '0999-tomorrow', 'x', '2030-01-01T00:00:00Z')").unwrap();
    drop(database);
    let (healthy, newer) = report(&mut doctor(folder.path()));
    assert!(!healthy && state(&newer, "database") == "failed", "{newer:#}");
    assert!(found(&newer, "database").contains("0999-tomorrow") && found(&newer, "database").contains("newer"), "{newer:#}");
    assert_eq!(state(&newer, "model"), "failed", "{newer:#}");

    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("hdai.db");
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let before = std::fs::read(&file).unwrap();
    let (healthy, foreign) = report(&mut doctor(other.path()));
    assert!(!healthy && found(&foreign, "database").contains("is not a database of Health Data AI"), "{foreign:#}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn migrations_to_come_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::File::create(folder.path().join("hdai.db")).unwrap();
    let (healthy, report) = report(&mut doctor(folder.path()));
    assert!(healthy && state(&report, "database") == "warning", "{report:#}");
    assert!(found(&report, "database").contains("migrations to come: 0001-"), "{report:#}");
}

#[test]
fn wrong_settings_are_lines_and_the_other_looks_go_on() {
    let folder = tempfile::tempdir().unwrap();
    at_work(folder.path());
    let (healthy, report) = report(
        doctor(folder.path())
            .env("HDAI_CELL_MIN", "s3cret")
            .env("HDAI_SQL_POOL_MAX", "s3cret")
            .env("HDAI_SQL_CONNECTION", "Server=s3cret;Database=x"),
    );
    assert!(!healthy && state(&report, "settings") == "failed", "{report:#}");
    assert!(
        found(&report, "settings").contains("HDAI_CELL_MIN") && found(&report, "settings").contains("HDAI_SQL_POOL_MAX"),
        "{report:#}"
    );
    assert_eq!(state(&report, "storage"), "ok", "{report:#}");

    let (healthy, report) = self::report(doctor(folder.path()).env("HDAI_FOLDR", "x"));
    assert!(healthy && state(&report, "settings") == "warning" && found(&report, "settings").contains("HDAI_FOLDR"), "{report:#}");
}

/// A port that nobody listens on.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_server_that_cannot_be_reached_is_told_within_the_limit_and_no_password_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let connection = format!("Server=127.0.0.1,{};Database=hospital;User Id=app;Password=s3cretWord", closed_port());
    let (healthy, report) = report(doctor(folder.path()).env("HDAI_SQL_CONNECTION", &connection));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(!healthy && state(&report, "database") == "failed", "{report:#}");
    assert!(found(&report, "database").contains("127.0.0.1:") && found(&report, "database").contains("hospital"), "{report:#}");
    assert!(part(&report, "database")["remedy"].as_str().unwrap().contains("port"), "{report:#}");
    assert_eq!(state(&report, "identity"), "notConfigured", "{report:#}");
    assert!(!report.to_string().contains("s3cretWord"), "{report:#}");
    // What needs no server is looked at all the same.
    assert_eq!(state(&report, "storage"), "warning", "{report:#}");
}

#[test]
fn a_server_that_never_answers_does_not_hold_the_report_back() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let begun = Instant::now();
    let connection = format!("Server=127.0.0.1,{port};Database=hospital;User Id=app;Password=s3cretWord");
    let account = format!("http://127.0.0.1:{port}");
    let mut command = doctor(folder.path());
    command.env("HDAI_SQL_CONNECTION", connection).env("HDAI_BLOB_ACCOUNT_URL", account);
    let (healthy, report) = report(&mut command);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!healthy, "{report:#}");
    assert_eq!((state(&report, "database"), state(&report, "storage account")), ("failed", "failed"), "{report:#}");
    assert!(part(&report, "database")["milliseconds"].as_u64().unwrap() <= 11_000, "{report:#}");
}

/// A storage account that answers one call with `head`.
fn account(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut first = [0; 1024];
            let _ = std::io::Read::read(&mut stream, &mut first);
            let _ = stream.write_all(format!("{head}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes());
        }
    });
    format!("http://127.0.0.1:{port}")
}

#[test]
fn a_storage_accounts_refusal_shows_that_it_is_there_and_its_clock_is_compared() {
    let folder = tempfile::tempdir().unwrap();
    let url = account("HTTP/1.1 400 Bad\r\nx-ms-request-id: 1\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    let (healthy, report) = report(doctor(folder.path()).env("HDAI_BLOB_ACCOUNT_URL", url));
    assert_eq!(state(&report, "storage account"), "ok", "{report:#}");
    assert!(
        !healthy && state(&report, "clock") == "failed" && found(&report, "clock").contains("behind this machine"),
        "{report:#}"
    );
    let (_, stranger) = self::report(doctor(folder.path()).env("HDAI_BLOB_ACCOUNT_URL", account("HTTP/1.1 200 OK\r\n")));
    assert_eq!(state(&stranger, "storage account"), "warning", "{stranger:#}");
}

#[test]
fn a_staged_app_must_agree_with_its_program() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app");
    assert!(hdai(folder.path()).args(["stage", "--out"]).arg(&app).output().unwrap().status.success());
    let staged = |folder: &Path| {
        let mut command = doctor(folder);
        let mut other = Command::new(app.join("hdai"));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => other.env(name, value),
                None => other.env_remove(name),
            };
        }
        other.arg("doctor");
        command = other;
        command
    };
    let (_, right) = report(&mut staged(folder.path()));
    assert_eq!(state(&right, "app"), "ok", "{right:#}");
    // The host would end a call before the call ends itself.
    let (healthy, late) = report(staged(folder.path()).env("HDAI_CALL_SECONDS_MAX", "1200"));
    assert!(!healthy && found(&late, "app").contains("functionTimeout of host.json is not above"), "{late:#}");
    std::fs::remove_dir_all(app.join("PatientAdmissionFunc")).unwrap();
    let (healthy, wrong) = report(&mut staged(folder.path()));
    assert!(!healthy && state(&wrong, "app") == "failed", "{wrong:#}");
    assert!(found(&wrong, "app").contains("missing: [PatientAdmissionFunc]"), "{wrong:#}");
    std::fs::write(app.join("host.json"), "{").unwrap();
    let (_, broken) = report(&mut staged(folder.path()));
    assert!(state(&broken, "app") == "failed" && found(&broken, "app").contains("host.json"), "{broken:#}");
}

#[tokio::test]
async fn a_storage_account_is_asked_as_an_import_would_ask_it() {
    let azurite = crate::azurite::Azurite::http();
    azurite.container("doctor").await;
    let folder = tempfile::tempdir().unwrap();
    let asked = |container: &str, signature: &str| {
        let mut command = doctor(folder.path());
        command.env("HDAI_BLOB_STORE", "azure").env("HDAI_BLOB_ACCOUNT_URL", azurite.account_url());
        command.env("HDAI_IMPORT_CONTAINER", container).env("HDAI_BLOB_SAS", signature);
        report(&mut command).1
    };
    let healthy = asked("doctor", "");
    assert_eq!(part(&healthy, "storage")["state"], "ok", "{healthy:#}");
    assert!(part(&healthy, "storage")["found"].as_str().unwrap().contains("the emulator's own account"), "{healthy:#}");
    let signed = asked("doctor", &crate::azurite::signature("r", "2099-01-01"));
    assert!(part(&signed, "storage")["found"].as_str().unwrap().contains("a shared access signature"), "{signed:#}");
    for (container, signature) in [("no-such-container", String::new()), ("doctor", "sv=2026-04-06&sig=Canary".to_owned())] {
        let ill = asked(container, &signature);
        let storage = part(&ill, "storage");
        assert_eq!(storage["state"], "failed", "{ill:#}");
        assert!(!storage["remedy"].as_str().unwrap().is_empty() && !ill.to_string().contains("Canary"), "{ill:#}");
    }
}

#[test]
fn an_event_topic_is_asked_without_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let topic = crate::topic::Topic::start(crate::topic::Mood::Accepts);
    let mut command = doctor(folder.path());
    command.env("HDAI_TOPIC_ENDPOINT", topic.endpoint()).env("HDAI_TOPIC_KEY", "Canary");
    let (healthy, found) = report(&mut command);
    let words = part(&found, "event topic")["found"].as_str().unwrap().to_owned();
    assert!(healthy && state(&found, "event topic") == "ok", "{found:#}");
    assert!(words.contains("HTTP status 405") && words.contains("the topic's access key") && words.contains("no event was sent"));
    assert!(topic.posts().is_empty() && !found.to_string().contains("Canary"), "{found:#}");

    let endpoint = format!("http://127.0.0.1:{}/api/events", closed_port());
    let (healthy, away) = report(doctor(folder.path()).env("HDAI_TOPIC_ENDPOINT", endpoint).env("HDAI_TOPIC_KEY", "Canary"));
    assert!(!healthy && state(&away, "event topic") == "failed", "{away:#}");
    assert!(part(&away, "event topic")["remedy"].as_str().unwrap().contains("HDAI_TOPIC_ENDPOINT"), "{away:#}");

    // No key, and nobody is signed in here.
    let mut command = doctor(folder.path());
    command.env("HDAI_TOPIC_ENDPOINT", topic.endpoint()).env("PATH", "").env_remove("IDENTITY_ENDPOINT");
    let (healthy, nobody) = report(&mut command);
    assert!(!healthy && state(&nobody, "event topic") == "failed", "{nobody:#}");
}
