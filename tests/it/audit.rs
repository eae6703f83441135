//! The audit trail through the command line: whatever is done to it behind the program's back is found and named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chrono::{DateTime, Duration, Utc};
use health_data_ai::domain::audit::AuditRow;
use health_data_ai::domain::{Action, AuditEvent, Caller, EncounterId, Outcome};
use health_data_ai::store::Store;
use health_data_ai::store::sqlite::Sqlite;
use rusqlite::Connection;
use serde_json::Value;

use crate::support::{Host, hdai};

const EVENTS: i64 = 40;

/// A record whose trail holds [`EVENTS`] events, an hour apart, every fourth about encounter 7.
pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Sqlite::open(folder.path().join("hdai.db")).unwrap();
        store.migrate().await.unwrap();
        for number in 0..EVENTS {
            let caller = Caller { origin: "203.0.113.9".into(), ..Caller::command_line(format!("c-{number}")) };
            let at = DateTime::<Utc>::UNIX_EPOCH + Duration::hours(number);
            let event = AuditEvent::new(&caller, Action::Admit, Outcome::Success, at).detail("a phrase");
            let encounter = EncounterId::new(if number % 4 == 0 { 7 } else { 100 + number }).unwrap();
            store.append_audit(&event.about(encounter)).await.unwrap();
        }
    });
    folder
}

/// What somebody does who can write the file: the triggers are no obstacle.
pub(crate) fn tamper(folder: &Path, sql: &str) {
    let raw = Connection::open(folder.join("hdai.db")).unwrap();
    let mut triggers = raw.prepare("SELECT 'DROP TRIGGER ' || name || ';' FROM sqlite_schema WHERE type = 'trigger'").unwrap();
    let drops: Vec<String> = triggers.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    raw.execute_batch(&drops.concat()).unwrap();
    raw.execute_batch(sql).unwrap();
}

pub(crate) fn audit(folder: &Path, args: &[&str]) -> Output {
    hdai(folder).arg("audit").args(args).output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The checkpoint that is made now.
pub(crate) fn checkpoint(folder: &Path) -> PathBuf {
    let made = audit(folder, &["checkpoint"]);
    assert!(made.status.success(), "{}", said(&made));
    let path = folder.join("blobs").join(said(&made).trim());
    assert!(path.is_file(), "{}", path.display());
    path
}

#[test]
fn a_trail_is_whole_and_says_so() {
    let folder = folder();
    assert!(said(&audit(folder.path(), &["verify"])).contains("40 events recomputed in 1 chains, 0 checkpoints agree"));
    let checkpoint = checkpoint(folder.path());
    let found = audit(folder.path(), &["verify", "--checkpoint", checkpoint.to_str().unwrap()]);
    assert!(found.status.success(), "{}", said(&found));
    assert!(said(&found).contains("42 events recomputed in 1 chains, 2 checkpoints agree"), "{}", said(&found));
    let part = audit(folder.path(), &["verify", "--from", "1970-01-02", "--to", "1970-01-02T06:00:00Z"]);
    assert!(part.status.success() && said(&part).contains("whole: 6 events"), "{}", said(&part));
    let wrong = audit(folder.path(), &["verify", "--from", "yesterday"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
}

#[test]
fn whatever_is_done_to_the_trail_is_found_and_named() {
    let swap = "UPDATE audit SET place = -1 WHERE seq = 12; UPDATE audit SET place = 12 WHERE seq = 13; \
                UPDATE audit SET place = 13 WHERE seq = 12;";
    let copy = "INSERT INTO audit (at, caller, roles, proof, correlation, action, outcome, encounter, detail, origin, chain, place, hash) \
                SELECT at, caller, roles, proof, correlation, action, outcome, encounter, detail, origin,";
    let forged = format!("{copy} NULL, NULL, NULL FROM audit WHERE seq = 12;");
    let doubled = format!("DROP INDEX audit_chain; {copy} chain, place, hash FROM audit WHERE seq = 12;");
    let before = format!("{copy} 0, -1, hash FROM audit WHERE seq = 12;");
    let elsewhere = format!("{copy} 99, place, hash FROM audit WHERE seq = 12;");
    for (change, words) in [
        ("UPDATE audit SET outcome = 'refused' WHERE seq = 12;", "event 12 was altered"),
        ("UPDATE audit SET caller = 'smith' WHERE seq = 12;", "event 12 was altered"),
        ("UPDATE audit SET encounter = NULL WHERE seq = 12;", "event 12 was altered"),
        ("UPDATE audit SET at = '1970-01-01T11:00:00.000001000Z' WHERE seq = 12;", "event 12 was altered"),
        ("UPDATE audit SET origin = '' WHERE seq = 1;", "event 1 was altered"),
        ("UPDATE audit SET action = 'no-such-action' WHERE seq = 12;", "event 12 was altered"),
        ("DELETE FROM audit WHERE seq = 12;", "missing from place 12"),
        ("DELETE FROM audit WHERE seq = 1;", "missing from place 1 "),
        ("DELETE FROM audit WHERE seq > 38;", "missing from place 39"),
        ("DELETE FROM audit;", "missing from place 1 "),
        (swap, "event 13 was altered, or moved"),
        (&forged, "event 41 was put in"),
        (&doubled, "event 41 was put in"),
        (&elsewhere, "event 41 was put in"),
        (&before, "event 41 was put in"),
        ("UPDATE audithead SET hash = 'x';", "contradicts"),
        ("DELETE FROM audithead;", "event"),
    ] {
        let folder = folder();
        tamper(folder.path(), change);
        let found = audit(folder.path(), &["verify"]);
        assert_eq!(found.status.code(), Some(1), "{change}: {}", said(&found));
        assert!(said(&found).contains(words), "{change}: {}", said(&found));
    }
}

/// Makes the chain anew from its beginning, as somebody would who knows how: each hash is right, the head, too.
fn forge(folder: &Path, changed: i64) {
    let raw = Connection::open(folder.join("hdai.db")).unwrap();
    let mut previous = String::new();
    let mut hashes = Vec::new();
    let mut statement = raw
        .prepare("SELECT place, at, caller, roles, proof, correlation, origin, action, outcome, encounter, detail FROM audit ORDER BY place")
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let text = |name: &str| row.get::<_, String>(name).unwrap();
        let place: i64 = row.get("place").unwrap();
        let event = AuditRow {
            at: Some(DateTime::parse_from_rfc3339(&text("at")).unwrap().to_utc()),
            caller: if place == changed { "another".into() } else { text("caller") },
            roles: text("roles"),
            proof: text("proof"),
            correlation: text("correlation"),
            origin: text("origin"),
            action: text("action"),
            outcome: text("outcome"),
            encounter: row.get("encounter").unwrap(),
            detail: text("detail"),
        };
        previous = event.hash(0, place as u64, &previous);
        hashes.push(format!("UPDATE audit SET hash = '{previous}', caller = '{}' WHERE place = {place};", event.caller));
    }
    drop(rows);
    drop(statement);
    tamper(folder, &format!("{} UPDATE audithead SET hash = '{previous}';", hashes.concat()));
}

#[test]
fn a_trail_that_was_forged_whole_contradicts_its_checkpoints() {
    let folder = folder();
    let path = checkpoint(folder.path());
    forge(folder.path(), 12);
    let with = audit(folder.path(), &["verify"]);
    let kept = folder.path().join("kept.json");
    fs::copy(&path, &kept).unwrap();
    fs::remove_file(&path).unwrap();
    let checkpoint = kept.to_str().unwrap();
    let without = audit(folder.path(), &["verify"]);
    let by_hand = audit(folder.path(), &["verify", "--checkpoint", checkpoint]);
    assert!(!said(&without).contains("place"), "the forgery is a good one: {}", said(&without));
    assert!(said(&without).contains("checkpoint 1 of this record is missing"), "{}", said(&without));
    assert_eq!(with.status.code(), Some(1), "{}", said(&with));
    assert_eq!(by_hand.status.code(), Some(1), "{}", said(&by_hand));
    for found in [with, by_hand] {
        assert!(said(&found).contains("place 40 contradicts what was vouched for"), "{}", said(&found));
    }

    tamper_checkpoint(&kept);
    let altered = audit(folder.path(), &["verify", "--checkpoint", checkpoint]);
    assert!(!altered.status.success() && said(&altered).contains("altered after it was signed"), "{}", said(&altered));
}

fn tamper_checkpoint(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replacen("\"events\": 40", "\"events\": 39", 1)).unwrap();
}

#[test]
fn a_trail_that_was_cut_off_with_its_head_contradicts_its_checkpoints() {
    let folder = folder();
    checkpoint(folder.path());
    let cut = "DELETE FROM audit WHERE seq > 30; UPDATE audithead SET place = 30, hash = (SELECT hash FROM audit WHERE seq = 30);";
    tamper(folder.path(), cut);
    let found = audit(folder.path(), &["verify"]);
    assert!(!found.status.success() && said(&found).contains("missing from place 31"), "{}", said(&found));
}

#[test]
fn who_and_export_tell_what_the_trail_holds() {
    let folder = folder();
    let who = said(&audit(folder.path(), &["who", "7"]));
    assert_eq!(who.lines().count(), 10, "{who}");
    assert!(who.starts_with("1970-01-02 12:00:00.000Z  success  admit") && who.contains("203.0.113.9"), "{who}");
    assert!(said(&audit(folder.path(), &["who", "8"])).contains("Nobody"));
    assert_eq!(audit(folder.path(), &["who", "smith"]).status.code(), Some(2));

    let exported = audit(folder.path(), &["export", "--to", "1971-01-01"]);
    let events: Vec<Value> =
        String::from_utf8_lossy(&exported.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), EVENTS as usize);
    assert!(events.iter().all(|event| event["resourceType"] == "AuditEvent"));
    assert_eq!((&events[0]["id"], &events[39]["id"]), (&"40".into(), &"1".into()), "newest first");
}

#[test]
fn eight_processes_at_once_leave_one_unbroken_chain() {
    let folder = folder();
    let processes: Vec<_> = (0..24)
        .map(|_| {
            let mut command: Command = hdai(folder.path());
            command.args(["audit", "who", "7"]).stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let found = audit(folder.path(), &["verify"]);
    assert!(found.status.success() && said(&found).contains("whole: 64 events"), "{}", said(&found));
}

/// Lines of the handler's log, for an alert rule to match.
#[test]
fn each_event_is_a_line_of_telemetry_and_alerts_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(&folder.path().join("state"), &[]);
    host.sign_in(&["DatabaseAnalyst"]);
    for _ in 0..5 {
        assert_eq!(host.get("/api/audit").0, 403);
    }
    assert_eq!(host.get("/api/imports").0, 200);
    let log = host.log();
    let lines = |words: &[&str]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(
        lines(&["\"event\":\"audit\"", "\"action\":\"read-audit\"", "\"outcome\":\"refused\"", "DatabaseAnalyst"]),
        5,
        "{log}"
    );
    assert_eq!(lines(&["\"event\":\"audit\"", "\"action\":\"read-imports\"", "\"outcome\":\"success\""]), 1, "{log}");
    assert_eq!(lines(&["\"event\":\"alert.refusals\""]), 1, "told of once: {log}");
}

#[test]
fn the_auditor_asks_for_pages_and_a_wrong_question_is_named() {
    let folder = folder();
    let mut host = Host::start(folder.path(), &[]);
    host.sign_in(&["Auditor"]);
    let page = |query: &str| host.get(&format!("/api/audit?{query}"));
    let numbers =
        |body: &Value| body["events"].as_array().unwrap().iter().map(|e| e["number"].as_u64().unwrap()).collect::<Vec<_>>();
    let (_, first) = page("encounter=7&limit=4");
    assert_eq!((numbers(&first), &first["next"]), (vec![37, 33, 29, 25], &25.into()));
    let (_, second) = page("encounter=7&limit=100&before=25");
    assert_eq!((numbers(&second), &second["next"]), (vec![21, 17, 13, 9, 5, 1], &Value::Null));
    assert_eq!(numbers(&page("from=1970-01-01T03:00:00Z&to=1970-01-01T05:00:00%2B00:00").1), [5, 4]);
    assert_eq!(numbers(&page("caller=command-line&action=admit&outcome=success&limit=2").1), [40, 39]);
    for (query, named) in [
        ("encounter=smith", "encounter"),
        ("action=nothing", "action"),
        ("from=yesterday", "from"),
        ("before=-1", "before"),
        ("outcome=x", "outcome"),
    ] {
        let (status, body) = page(query);
        assert!(status == 400 && body["detail"].as_str().unwrap().contains(named), "{query}: {status} {body}");
        assert!(!body.to_string().contains("smith"), "{body}");
    }
}
