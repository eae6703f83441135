//! The audit trail over the years: what is kept, what goes, what vouches for it, and that whatever is done to any of it is found and named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::{DateTime, TimeZone, Utc};
use health_data_ai::blob::local::Local;
use health_data_ai::config::Config;
use health_data_ai::domain::{Action, AuditEvent, AuditRow, Caller, Outcome};
use health_data_ai::store::sqlite::Sqlite;
use health_data_ai::workflow::{self, Hospital, PseudonymKey, SigningKey};
use hmac::{Hmac, Mac};
use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::audit::{audit, checkpoint, folder, said, tamper};
use crate::sql_tools::on_server;
use crate::support::{Host, hdai};
use crate::tds::{Options, Server};

fn year(year: i32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap()
}

fn hospital(folder: &Path) -> Hospital {
    let config = Config::from_vars(|name| (name == "HDAI_FOLDER").then(|| folder.display().to_string())).unwrap();
    let key = SigningKey::from_base64(&fs::read_to_string(folder.join("receipt.key")).unwrap()).unwrap();
    let store = Arc::new(Sqlite::open(folder.join("hdai.db")).unwrap());
    let blobs = Arc::new(Local::new(config.blob_root()));
    let pseudonyms = PseudonymKey::from_base64(&BASE64_STANDARD.encode([8; 32])).unwrap();
    Hospital::new(config, store, blobs, key, pseudonyms)
}

/// Forty events of 1970 and a checkpoint of 1971; then some of today.
fn aged() -> tempfile::TempDir {
    let (folder, maker) = (folder(), tempfile::tempdir().unwrap());
    assert!(audit(maker.path(), &["who", "7"]).status.success(), "makes a key");
    fs::copy(maker.path().join("receipt.key"), folder.path().join("receipt.key")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(workflow::audit_checkpoint(&Caller::command_line("c"), &hospital(folder.path()), year(1971))).unwrap();
    assert!(audit(folder.path(), &["who", "7"]).status.success());
    folder
}

fn purge(folder: &Path, before: &str, archive: &Path) -> std::process::Output {
    audit(folder, &["purge", "--before", before, "--archive", archive.to_str().unwrap()])
}

fn purged() -> (tempfile::TempDir, PathBuf) {
    let folder = aged();
    let archive = folder.path().join("archive.ndjson");
    let done = purge(folder.path(), "1972-01-01", &archive);
    assert!(done.status.success() && said(&done).contains("40 events up to checkpoint 1971/01/"), "{}", said(&done));
    assert!(said(&done).contains("alert.purge"), "somebody is told: {}", said(&done));
    (folder, archive)
}

#[test]
fn events_whose_time_is_over_go_into_an_archive_and_the_rest_stays_whole() {
    let (folder, archive) = purged();
    let found = audit(folder.path(), &["verify"]);
    assert!(found.status.success(), "{}", said(&found));
    assert!(said(&found).contains("chain 0 goes on after 40 events whose time was over (checkpoint 1971/01/"), "{}", said(&found));
    let by_itself = tempfile::tempdir().unwrap();
    fs::copy(folder.path().join("receipt.key"), by_itself.path().join("receipt.key")).unwrap();
    let offline = audit(by_itself.path(), &["verify", "--archive", archive.to_str().unwrap()]);
    assert!(offline.status.success() && said(&offline).contains("whole: 40 events up to 1971-01-01"), "{}", said(&offline));
    assert!(!by_itself.path().join("hdai.db").exists(), "no record is needed");

    assert!(said(&audit(folder.path(), &["who", "7"])).contains("Nobody"), "they are gone");
    let db = Connection::open(folder.path().join("hdai.db")).unwrap();
    let told: i64 = db
        .query_row(
            "SELECT count(*) FROM audit WHERE action = 'checkpoint-audit' AND detail LIKE 'purged chain 0 up to 40, 7 years%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(told, 1);
    let again = purge(folder.path(), "1972-01-01", &folder.path().join("second"));
    assert!(again.status.success() && said(&again).contains("Nothing is left"), "{}", said(&again));
    checkpoint(folder.path());
    assert!(audit(folder.path(), &["verify", "--all-checkpoints"]).status.success());
}

#[test]
fn what_the_record_was_told_of_the_retention_outweighs_a_shorter_setting() {
    let folder = aged();
    let with =
        |years: &str, args: &[&str]| hdai(folder.path()).arg("audit").args(args).env("HDAI_AUDIT_RETENTION_YEARS", years).output();
    assert!(with("30", &["checkpoint"]).unwrap().status.success());
    let archive = folder.path().join("archive.ndjson");
    let young = with("6", &["purge", "--before", "2005-01-01", "--archive", archive.to_str().unwrap()]).unwrap();
    assert!(!young.status.success() && said(&young).contains("kept for 30 years"), "{}", said(&young));
    assert!(purge(folder.path(), "1972-01-01", &archive).status.success());
}

#[test]
fn nothing_younger_than_the_retention_goes_and_no_file_is_written_over() {
    let folder = aged();
    let archive = folder.path().join("archive.ndjson");
    let young = purge(folder.path(), "2024-01-01", &archive);
    assert!(!young.status.success() && said(&young).contains("kept for 7 years"), "{}", said(&young));
    let none = purge(folder.path(), "1970-06-01", &archive);
    assert!(!none.status.success() && said(&none).contains("no signed checkpoint"), "{}", said(&none));
    assert!(!archive.exists());
    fs::write(&archive, "precious").unwrap();
    let taken = purge(folder.path(), "1972-01-01", &archive);
    assert!(!taken.status.success() && said(&taken).contains("not there yet"), "{}", said(&taken));
    assert_eq!(fs::read_to_string(&archive).unwrap(), "precious");
    for years in ["5", "31", "x"] {
        let wrong = hdai(folder.path()).args(["audit", "verify"]).env("HDAI_AUDIT_RETENTION_YEARS", years).output().unwrap();
        assert!(!wrong.status.success() && said(&wrong).contains("HDAI_AUDIT_RETENTION_YEARS"), "{}", said(&wrong));
    }
    let db = Connection::open(folder.path().join("hdai.db")).unwrap();
    let refused: i64 = db
        .query_row("SELECT count(*) FROM audit WHERE outcome = 'refused' AND detail LIKE 'purge%'", [], |row| row.get(0))
        .unwrap();
    assert_eq!((refused, db.query_row("SELECT min(place) FROM audit", [], |row| row.get(0)).unwrap()), (1, 1));
    drop(db);

    tamper(folder.path(), "UPDATE audit SET outcome = 'refused' WHERE seq = 12");
    let broken = purge(folder.path(), "1972-01-01", &folder.path().join("other"));
    assert!(!broken.status.success() && said(&broken).contains("not whole"), "{}", said(&broken));
    assert!(!folder.path().join("other").exists());
}

#[test]
fn whatever_is_done_to_an_anchor_or_after_it_is_found() {
    let move_on = "INSERT INTO auditanchors (chain, place, hash, checkpointname) SELECT 0, 42, a.hash, n.checkpointname \
                   FROM audit a, auditanchors n WHERE a.place = 42; DELETE FROM audit WHERE place <= 42;";
    for (change, words) in [
        ("UPDATE auditanchors SET hash = 'x';", "the anchor at place 40 was altered"),
        ("UPDATE auditanchors SET place = 39;", "the anchor at place 39 was altered"),
        ("UPDATE auditanchors SET checkpointname = 'x';", "missing or not genuine"),
        ("DELETE FROM auditanchors;", "missing from place 1 "),
        (move_on, "the anchor at place 42 was altered or put in"),
        ("DELETE FROM audit WHERE place = 41;", "missing from place 41"),
        ("UPDATE audit SET caller = 'x' WHERE place = 41;", "event 41 was altered"),
        ("UPDATE auditrecord SET id = 'x';", "of another record"),
        ("UPDATE auditrecord SET newesttext = 'x';", "the record remembers another one"),
        ("UPDATE auditrecord SET newest = 1;", "the record was set back"),
    ] {
        let (folder, _) = purged();
        tamper(folder.path(), change);
        let found = audit(folder.path(), &["verify"]);
        assert_eq!(found.status.code(), Some(1), "{change}: {}", said(&found));
        assert!(said(&found).contains(words), "{change}: {}", said(&found));
    }
    let found = audit(purged().0.path(), &["verify", "--record", "the-id-that-was-written-down"]);
    assert!(!found.status.success() && said(&found).contains("this is another record: its id is"), "{}", said(&found));
}

#[test]
fn whatever_is_done_to_an_archive_is_found() {
    let (folder, archive) = purged();
    let text = fs::read_to_string(&archive).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 42);
    let changed = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        change(&mut lines);
        let path = folder.path().join("changed.ndjson");
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        let found = audit(folder.path(), &["verify", "--archive", path.to_str().unwrap()]);
        assert_eq!(found.status.code(), Some(1), "{}", said(&found));
        said(&found)
    };
    assert!(changed(&|lines| lines[5] = lines[5].replace("success", "refused")).contains("event 5 was altered"));
    assert!(changed(&|lines| drop(lines.remove(7))).contains("missing from place 7"));
    assert!(changed(&|lines| drop(lines.remove(40))).contains("missing from place 40"));
    assert!(changed(&|lines| lines.swap(3, 4)).contains("chain 0"));
    assert!(changed(&|lines| lines.insert(3, lines[2].clone())).contains("event 2 was put in"));
    assert!(changed(&|lines| lines[9] = "{}".into()).contains("line 10"));
    assert!(changed(&|lines| drop(lines.pop())).contains("cut off"));
    assert!(changed(&|lines| lines.push("{}".into())).contains("line 43"));
    assert!(
        changed(&|lines| lines[41] = lines[41].replace("\"events\":40", "\"events\":39")).contains("altered after it was signed")
    );
    assert!(changed(&|lines| lines[0] = lines[0].replace("\"record\":\"", "\"record\":\"0")).contains("one record"));
    assert!(changed(&|lines| lines[0] = "{}".into()).contains("no archive"));
}

/// A record with four checkpoints, in their order.
fn vouched() -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = folder();
    let paths = (0..4).map(|_| checkpoint(folder.path())).collect();
    (folder, paths)
}

#[test]
fn whatever_is_done_to_a_checkpoint_is_found() {
    let found = |change: &dyn Fn(&Path, &[PathBuf])| {
        let (folder, paths) = vouched();
        assert!(audit(folder.path(), &["verify"]).status.success());
        change(folder.path(), &paths);
        let found = audit(folder.path(), &["verify"]);
        assert_eq!(found.status.code(), Some(1), "{}", said(&found));
        said(&found)
    };
    assert!(found(&|_, paths| fs::remove_file(&paths[1]).unwrap()).contains("checkpoint 2 of this record is missing"));
    assert!(found(&|_, paths| fs::remove_file(&paths[3]).unwrap()).contains("checkpoint 4 of this record is missing"));
    assert!(found(&|_, paths| paths[..2].iter().for_each(|path| fs::remove_file(path).unwrap())).contains("checkpoints 1 to 2"));
    let flip = |_: &Path, paths: &[PathBuf]| {
        let text = fs::read_to_string(&paths[1]).unwrap();
        fs::write(&paths[1], text.replace("\"events\": 41", "\"events\": 40")).unwrap();
    };
    assert!(found(&flip).contains("altered after it was signed"));
    let swap = |_: &Path, paths: &[PathBuf]| {
        let (one, other) = (fs::read(&paths[1]).unwrap(), fs::read(&paths[2]).unwrap());
        fs::write(&paths[1], other).unwrap();
        fs::write(&paths[2], one).unwrap();
    };
    assert!(found(&swap).contains("under another's name"));
    assert!(found(&|_, paths| fs::write(&paths[2], "not a checkpoint").unwrap()).contains("no checkpoint"));
    // Genuine ones of a copy of the record, which went another way.
    let put_in = |folder: &Path, paths: &[PathBuf]| {
        let copy = tempfile::tempdir().unwrap();
        for name in ["hdai.db", "receipt.key"] {
            fs::copy(folder.join(name), copy.path().join(name)).unwrap();
        }
        let theirs = checkpoint(copy.path());
        checkpoint(folder);
        fs::copy(&theirs, paths[3].with_file_name(theirs.file_name().unwrap())).unwrap();
    };
    assert!(found(&put_in).contains("it has the number 5 of"));
}

#[test]
fn checkpoints_of_another_record_and_of_before_a_restore_are_told_apart() {
    let (folder, paths) = vouched();
    let (other, theirs) = vouched();
    let key = folder.path().join("receipt.key");
    fs::copy(&key, other.path().join("receipt.key")).unwrap();
    // The other's were signed with another key, until it has this one.
    let with_another_key = paths[0].with_file_name(theirs[0].file_name().unwrap());
    fs::copy(&theirs[0], &with_another_key).unwrap();
    let newer = checkpoint(other.path());
    fs::copy(&newer, paths[0].with_file_name(newer.file_name().unwrap())).unwrap();
    let found = audit(folder.path(), &["verify"]);
    assert!(found.status.success(), "{}", said(&found));
    assert!(said(&found).contains("1 checkpoints were signed with another key"), "{}", said(&found));
    assert!(said(&found).contains("1 checkpoints are of another record"), "{}", said(&found));

    let kept = folder.path().join("backup.db");
    Connection::open(folder.path().join("hdai.db")).unwrap().execute("VACUUM INTO ?1", [kept.to_str().unwrap()]).unwrap();
    checkpoint(folder.path());
    checkpoint(folder.path());
    for name in ["hdai.db", "hdai.db-wal", "hdai.db-shm"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    fs::rename(&kept, folder.path().join("hdai.db")).unwrap();
    let restored = audit(folder.path(), &["verify"]);
    assert_eq!(restored.status.code(), Some(1), "{}", said(&restored));
    assert!(said(&restored).contains("it knows 4 checkpoints of its own, and there are 6"), "{}", said(&restored));
    let renewed = audit(folder.path(), &["restored"]);
    assert!(renewed.status.success(), "{}", said(&renewed));
    let found = audit(folder.path(), &["verify"]);
    assert!(found.status.success(), "{}", said(&found));
    assert!(said(&found).contains("6 checkpoints are of") && said(&found).contains("before a restore"), "{}", said(&found));
}

/// As the first program that made checkpoints signed them.
fn sign(key: &Path, mut checkpoint: Value) -> String {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.decode(fs::read_to_string(key).unwrap().trim()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(&serde_json::to_vec(&checkpoint).unwrap());
    let value: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let id = SigningKey::from_base64(&base64::engine::general_purpose::STANDARD.encode(&key)).unwrap().id().to_owned();
    checkpoint["signature"] = json!({ "algorithm": "HMAC-SHA256", "keyId": id, "value": value });
    checkpoint.to_string()
}

#[test]
fn a_checkpoint_of_an_earlier_program_still_vouches() {
    let (folder, paths) = vouched();
    let db = Connection::open(folder.path().join("hdai.db")).unwrap();
    let hash: String = db.query_row("SELECT hash FROM audit WHERE place = 30", [], |row| row.get(0)).unwrap();
    for (hash, right) in [(hash.as_str(), true), ("another", false)] {
        let heads = json!([{ "chain": 0, "events": 30, "hash": hash }]);
        let text = json!({ "auditCheckpoint": 1, "at": "2026-01-01T00:00:00.000000Z", "heads": heads });
        let path = paths[0].with_file_name("20260101T000000000000Z-0123456789abcdef0123456789abcdef.json");
        fs::write(&path, sign(&folder.path().join("receipt.key"), text)).unwrap();
        let found = audit(folder.path(), &["verify"]);
        assert_eq!(found.status.success(), right, "{}", said(&found));
        let words = if right { "5 checkpoints agree" } else { "place 30 contradicts what was vouched for (checkpoint" };
        assert!(said(&found).contains(words), "{}", said(&found));
    }
}

#[test]
fn a_mangled_event_is_shown_as_far_as_it_can_be_and_named() {
    let folder = folder();
    tamper(
        folder.path(),
        "UPDATE audit SET at = 'yesterday', action = 'teleport', roles = 'King', proof = 'none', outcome = 'maybe', \
         detail = CAST(x'ff41' AS TEXT) WHERE seq = 13; UPDATE audit SET encounter = -7 WHERE seq = 14; UPDATE audit SET seq = -3 WHERE seq = 15;",
    );
    let found = audit(folder.path(), &["verify"]);
    assert_eq!(found.status.code(), Some(1), "{}", said(&found));
    for words in [
        "event 13 was altered",
        "event 13 has words that this program does not know (at, roles, proof, action, outcome)",
        "event 14 was altered",
    ] {
        assert!(said(&found).contains(words), "{words}: {}", said(&found));
    }
    let who = said(&audit(folder.path(), &["who", "7"]));
    assert!(who.lines().count() == 10 && who.contains("(no time)") && who.contains("maybe    teleport"), "{who}");
    assert!(who.contains("not known to this program: at,roles,proof,action,outcome"), "{who}");
    let exported = audit(folder.path(), &["export"]);
    assert!(exported.status.success() && said(&exported).lines().count() >= 40, "{}", said(&exported));
    let mut host = Host::start(folder.path(), &[]);
    host.sign_in(&["Auditor"]);
    let (status, body) = host.get("/api/audit?encounter=7&limit=100");
    assert_eq!(status, 200, "{body}");
    let mangled = body["events"].as_array().unwrap().iter().find(|event| event["number"] == 13).unwrap();
    assert_eq!((&mangled["at"], &mangled["action"], &mangled["strange"][0]), (&Value::Null, &json!("teleport"), &json!("at")));
}

#[test]
fn an_event_of_a_newer_program_is_whole_and_named() {
    let folder = folder();
    let db = Connection::open(folder.path().join("hdai.db")).unwrap();
    let previous: String = db.query_row("SELECT hash FROM audithead", [], |row| row.get(0)).unwrap();
    let event = AuditEvent::new(&Caller::command_line("c"), Action::Admit, Outcome::Success, year(2026));
    let row = AuditRow { action: "teleport".into(), ..AuditRow::of(&event) };
    let hash = row.hash(0, 41, &previous);
    db.execute(
        "INSERT INTO audit (at, caller, roles, proof, correlation, origin, action, outcome, detail, chain, place, hash) \
         VALUES ('2026-01-01T00:00:00.000000000Z', ?1, ?2, ?3, 'c', '', 'teleport', 'success', '', 0, 41, ?4)",
        (&row.caller, &row.roles, &row.proof, &hash),
    )
    .unwrap();
    db.execute("UPDATE audithead SET place = 41, hash = ?1", [&hash]).unwrap();
    drop(db);
    let found = audit(folder.path(), &["verify"]);
    assert!(
        found.status.success() && said(&found).contains("event 41 has words that this program does not know (action)"),
        "{}",
        said(&found)
    );
}

/// The events of the trail with this action, and their details.
fn details(folder: &Path, action: &str) -> Vec<String> {
    let db = Connection::open(folder.join("hdai.db")).unwrap();
    let mut statement = db.prepare("SELECT detail FROM audit WHERE action = ?1 ORDER BY seq").unwrap();
    statement.query_map([action], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_is_done_on_the_command_line_is_told_as_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let ran = |args: &[&str]| {
        let output = hdai(folder.path()).args(args).env("HDAI_LOG", "info").output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let text = said(&output);
        text.lines().filter(|line| line.contains("audited")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(ran(&["migrate"]).iter().any(|line| line.contains("migrate")));
    assert!(ran(&["keys", "list"]).iter().any(|line| line.contains("rotate-keys") && line.contains("data keys listed")));
    assert!(ran(&["keys", "rotate"]).iter().filter(|line| line.contains("rotate-keys")).count() >= 2, "made, and retired");
    assert!(ran(&["imports", "replay"]).iter().any(|line| line.contains("poison messages replayed")));
    assert!(details(folder.path(), "rotate-keys").contains(&"data keys listed".to_owned()));
}

#[test]
fn page_after_page_of_the_trail_is_an_alert() {
    let folder = folder();
    let mut host = Host::start_with(folder.path(), &[], &[("HDAI_ALERT_TRAIL_PAGES", "4")]);
    host.sign_in(&["Auditor"]);
    for page in 0..5 {
        assert_eq!(host.get(&format!("/api/audit?limit=5&before={}", 40 - page * 5)).0, 200);
    }
    assert_eq!(host.log().matches("\"event\":\"alert.trail_read\"").count(), 1, "{}", host.log());
}

#[test]
fn the_auditors_role_suffices_to_verify_and_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    let database = tempfile::tempdir().unwrap();
    let options = Options { folder: Some(database.path().to_owned()), ..Options::default() };
    {
        let server = Server::start(options.clone());
        let early = on_server(folder.path(), &server).args(["audit", "verify"]).output().unwrap();
        assert!(!early.status.success() && said(&early).contains("let its owner run `hdai migrate`"), "{}", said(&early));
        assert!(on_server(folder.path(), &server).arg("migrate").output().unwrap().status.success());
    }
    let server = Server::start(options);
    for args in [&["audit", "verify"][..], &["audit", "who", "7"], &["audit", "export"]] {
        let output = on_server(folder.path(), &server).args(args).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let mut read = BTreeSet::new();
    for text in server.faults().statements() {
        let tables = text.split("dbo.").skip(1);
        let tables: Vec<String> =
            tables.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect();
        if text.starts_with("INSERT") || text.starts_with("UPDATE") {
            assert!(["audit", "audithead"].contains(&tables[0].as_str()), "{text}");
        }
        for never in ["CREATE", "ALTER", "DELETE", "DROP"] {
            assert!(!text.starts_with(never), "{text}");
        }
        read.extend(tables);
    }
    let granted = ["audit", "auditanchors", "audithead", "auditrecord", "schema_migrations"];
    assert_eq!(read, granted.map(str::to_owned).into(), "what `roles` grants the auditor, and no more");
}

/// Real processes with real verbs, eight at a time, on one record.
#[test]
fn eight_processes_at_once_leave_unbroken_chains_in_a_database_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(Options::default());
    let ran = |args: &[&str]| on_server(folder.path(), &server).args(args).output().unwrap();
    assert!(ran(&["migrate"]).status.success());
    // The keys are made once, before the crowd comes.
    assert!(ran(&["keys", "list"]).status.success() && ran(&["audit", "checkpoint"]).status.success());
    let verbs: [&[&str]; 4] = [&["audit", "who", "7"], &["audit", "checkpoint"], &["facilities"], &["audit", "export"]];
    let processes: Vec<_> = (0..8)
        .map(|number| {
            let mut command = on_server(folder.path(), &server);
            command.args(verbs[number % verbs.len()]).stdout(std::process::Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let found = ran(&["audit", "verify"]);
    assert!(found.status.success(), "{}", said(&found));
    assert!(said(&found).contains("in 8 chains, 3 checkpoints agree"), "{}", said(&found));
    assert_eq!(server.refusals(), Vec::<String>::new());
}
