//! Patients' names in the record: encrypted in every byte that is kept, told apart when altered, readable with their key alone, and put
//! under another key while the system is in use. No name here is of anybody.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::Utc;
use health_data_ai::domain::import::{ImportId, Source};
use health_data_ai::domain::{Action, AuditEvent, Caller, Encounter, EncounterId, Outcome, PersonName, Phi, Reach};
use health_data_ai::store::sqlite::Sqlite;
use health_data_ai::store::{Admitted, Batch, Begun, PatientQuery, Store};
use health_data_ai::synthetic;
use rusqlite::Connection;
use serde_json::json;

use crate::main_job::blueprint_admission;
use crate::support::{Host, Records, generate, hdai, record};
use crate::tds;

const NAMES: [&str; 3] = ["Zebulonqx", "Quixotedv", "Wyvernjkł"];

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn went_well(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

fn keys(folder: &Path, args: &[&str]) -> Output {
    hdai(folder).arg("keys").args(args).output().unwrap()
}

/// A generated file whose every row has the names.
fn named_csv(folder: &Path, rows: u32, seed: u32) -> std::path::PathBuf {
    let csv = generate(folder, rows, seed);
    let text = fs::read_to_string(&csv).unwrap();
    let mut lines = text.lines();
    let mut named = vec![lines.next().unwrap().to_owned()];
    for line in lines {
        let rest = line.splitn(4, ',').nth(3).unwrap();
        named.push(format!("{},{},{},{rest}", NAMES[0], NAMES[1], NAMES[2]));
    }
    fs::write(&csv, named.join("\n")).unwrap();
    csv
}

/// Which of the names lies in the bytes, in either encoding that a database may use.
fn name_in(bytes: &[u8]) -> Option<&'static str> {
    NAMES.into_iter().find(|name| {
        let utf16: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        [name.as_bytes(), &utf16].iter().any(|form| bytes.windows(form.len()).any(|part| part == *form))
    })
}

/// The names of the database's files; the log has been seen if `logged`.
fn assert_no_name_in_the_files(folder: &Path, stem: &str, logged: bool) {
    let mut sizes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        if file.starts_with(stem) {
            let bytes = fs::read(&path).unwrap();
            assert_eq!(name_in(&bytes), None, "in {file}");
            sizes.push((file, bytes.len()));
        }
    }
    assert!(sizes.iter().any(|(_, size)| *size > 10_000), "{sizes:?}");
    assert!(!logged || sizes.iter().any(|(file, size)| file.ends_with("-wal") && *size > 10_000), "{sizes:?}");
}

fn bundle(id: i64) -> serde_json::Value {
    let mut admission = blueprint_admission(id);
    admission["patient"]["name"] = json!([{ "family": NAMES[2], "given": [NAMES[0], NAMES[1]] }]);
    admission
}

#[test]
fn no_name_of_an_import_or_an_admission_is_in_the_database_or_its_log_and_the_answer_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    host.drop_file(&named_csv(folder.path(), 500, 4), "named.csv");
    assert_eq!(host.await_import("named.csv")["rows"]["stored"], 500);
    for status in [201, 200] {
        let (found, answer) = host.call("POST", "/api/PatientAdmissionFunc", &bundle(900_041));
        assert_eq!(found, status, "{answer}");
        assert_eq!(answer["name"], format!("{} {} {}", NAMES[0], NAMES[1], NAMES[2]));
    }
    assert_no_name_in_the_files(&host.folder, "hdai.db", true);
    let key = fs::metadata(host.folder.join("data.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    let state = host.folder.clone();
    drop(host);
    assert_no_name_in_the_files(&state, "hdai.db", false);
    let raw = Connection::open(state.join("hdai.db")).unwrap();
    let forms: i64 =
        raw.query_row("SELECT count(DISTINCT LastName) FROM PatientData WHERE LastName LIKE 'hdai1:%'", [], |r| r.get(0)).unwrap();
    assert_eq!(forms, 501, "501 patients of one name have 501 forms");
}

#[test]
fn a_database_server_keeps_ciphertext_and_another_instance_without_the_key_is_refused() {
    let (place, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = tds::Server::start(tds::Options { folder: Some(data.path().to_owned()), ..Default::default() });
    let on_server = |folder: &str, args: &[&str]| {
        let mut command = hdai(place.path().join(folder));
        command.env("HDAI_SQL_CONNECTION", server.connection_string()).env("HDAI_SQL_CA_FILE", server.ca_file());
        command.args(args).output().unwrap()
    };
    let csv = named_csv(place.path(), 300, 4);
    let message = place.path().join("admission.json");
    fs::write(&message, bundle(900_041).to_string()).unwrap();
    let warned = went_well(&on_server("a", &["import", csv.to_str().unwrap()]));
    assert!(warned.contains("300") && warned.contains("HDAI_DATA_KEY_URL"), "{warned}");
    went_well(&on_server("a", &["admit", message.to_str().unwrap()]));
    let again = went_well(&on_server("a", &["import", csv.to_str().unwrap()]));
    assert!(!again.contains(" 300 new"), "{again}");
    let stranger = on_server("b", &["keys", "list"]);
    assert!(!stranger.status.success() && said(&stranger).contains("data.key is not there"), "{}", said(&stranger));
    let listed = went_well(&on_server("a", &["keys", "list"]));
    assert!(listed.contains("current") && listed.contains("file:"), "{listed}");
    let rotated = went_well(&on_server("a", &["keys", "rotate"]));
    assert!(rotated.contains("301 encounters encrypted anew"), "{rotated}");
    assert_no_name_in_the_files(data.path(), "database.sqlite", false);
    let raw = Connection::open(data.path().join("database.sqlite")).unwrap();
    let texts = |sql: &str| -> Vec<(String, String)> {
        let mut statement = raw.prepare(sql).unwrap();
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
    };
    let keys = texts("SELECT id, state FROM [dbo.datakeys]");
    let (current, _) = keys.iter().find(|(_, state)| state == "current").unwrap();
    let names = texts("SELECT FirstName, LastName FROM [dbo.PatientData]");
    let mine = |form: &str| form.starts_with(&format!("hdai1:{current}:"));
    let under = names.iter().filter(|(first, last)| mine(first) && mine(last)).count();
    assert_eq!(under, 301);
    assert_eq!(server.refusals(), Vec::<String>::new());
}

#[test]
fn a_record_of_ours_is_copied_with_its_names_under_the_new_records_key() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    went_well(&hdai(&from).arg("import").arg(named_csv(folder.path(), 700, 4)).output().unwrap());
    let source = format!("sqlite:{}", from.join("hdai.db").display());
    let copy = || hdai(&to).args(["migrate-data", "--from", &source]).output().unwrap();
    let said = went_well(&copy());
    assert!(said.contains("700 new") && said.contains("Verified: 700 rows are the same on both sides"), "{said}");
    assert_eq!(Records::read(&to).patients_without_import(), Records::read(&from).patients_without_import());
    assert_no_name_in_the_files(&to, "hdai.db", false);
    let key = from.join("data.key");
    fs::rename(&key, folder.path().join("elsewhere")).unwrap();
    let without = copy();
    assert!(!without.status.success() && self::said(&without).contains("data.key is not there"), "{}", self::said(&without));
}

/// The embedded record with three admissions of these ids in it, each with names of its own.
async fn three(folder: &Path) {
    let record = record(folder);
    record.migrate().await.unwrap();
    for (place, mut encounter) in synthetic_encounters(3).into_iter().enumerate() {
        encounter.name = PersonName::new(NAMES[place], "", NAMES[(place + 1) % 3]);
        assert_eq!(record.admit(&encounter, None, &event()).await.unwrap(), Admitted::Now);
    }
}

fn synthetic_encounters(rows: u64) -> Vec<Encounter> {
    let options = synthetic::Options { rows, seed: 1, first_id: 1 };
    synthetic::encounters(&options).unwrap().map(|encounter| Encounter { discharged: Phi::new(None), ..encounter }).collect()
}

#[expect(clippy::disallowed_methods, reason = "an event's time")]
fn event() -> AuditEvent {
    AuditEvent::new(&Caller::command_line("c"), Action::Admit, Outcome::Success, Utc::now())
}

fn eid(id: i64) -> EncounterId {
    EncounterId::new(id).unwrap()
}

#[tokio::test]
async fn an_altered_or_exchanged_name_is_told_by_its_part_and_never_by_value() {
    let folder = tempfile::tempdir().unwrap();
    three(folder.path()).await;
    let raw = Connection::open(folder.path().join("hdai.db")).unwrap();
    raw.execute_batch(
        "UPDATE PatientData SET LastName = substr(LastName, 1, 60) || CASE substr(LastName, 61, 1) WHEN 'A' THEN 'B' ELSE 'A' END
           || substr(LastName, 62) WHERE eid = 1;
         UPDATE PatientData SET FirstName = (SELECT other.FirstName FROM PatientData AS other WHERE other.eid = 3) WHERE eid = 2;",
    )
    .unwrap();
    let record = record(folder.path());
    // Nobody else is taken off a list with them.
    let everyone = PatientQuery { within: Reach::All, open: true, from: None, to: None, before: None, limit: 9 };
    let listed = record.patients(&everyone).await.unwrap();
    let names: Vec<_> = listed.iter().map(|stored| stored.encounter.name.display().reveal().clone()).collect();
    assert_eq!(names, [format!("{} {}", NAMES[2], NAMES[0]), String::new(), String::new()]);
    for (id, words) in [(1, "last name of an encounter "), (2, "first name of an encounter ")] {
        let error = record.encounter(eid(id)).await.unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("altered") && error.contains("backup"), "{error}");
        assert_eq!(name_in(error.as_bytes()), None, "{error}");
    }
    assert!(record.encounter(eid(3)).await.unwrap().is_some());
    assert!(record.encounters(None, 10).await.is_err());

    // A rotation does what it can, and keeps the key of what it could not.
    let stopped = keys(folder.path(), &["rotate"]);
    assert!(
        !stopped.status.success() && said(&stopped).contains("2 names or texts of break-glass do not open"),
        "{}",
        said(&stopped)
    );
    assert!(said(&stopped).contains("another key's id") && name_in(said(&stopped).as_bytes()).is_none(), "{}", said(&stopped));
    assert!(went_well(&keys(folder.path(), &["list"])).contains(" old "));
    raw.execute_batch("DELETE FROM PatientData WHERE eid < 3").unwrap();
    let done = went_well(&keys(folder.path(), &["rotate"]));
    assert!(done.contains("gone on with") && done.contains(" 0 encounters"), "{done}");
}

/// A fact that is committed is never answered as a failure: the caller would believe that the patient is still in.
#[test]
fn a_discharge_of_an_altered_name_is_answered_without_the_name_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    assert_eq!(host.call("POST", "/api/PatientAdmissionFunc", &bundle(900_041)).0, 201);
    let raw = Connection::open(host.folder.join("hdai.db")).unwrap();
    raw.busy_timeout(Duration::from_secs(20)).unwrap();
    let altered = "UPDATE PatientData SET MiddleName = (SELECT FirstName FROM PatientData)";
    assert_eq!(raw.execute(altered, []).unwrap(), 1);
    let discharge = json!({ "encounter": { "resourceType": "Encounter", "id": 900_041, "period": { "end": "2026-10-08" } } });
    for _ in 0..2 {
        let (status, answer) = host.call("PUT", "/api/PatientDischargeFunc", &discharge);
        assert_eq!((status, &answer["name"], &answer["result"]), (200, &json!(""), &json!("success")), "{answer}");
    }
    let days: i64 = raw.query_row("SELECT count(discharged) FROM PatientData", [], |row| row.get(0)).unwrap();
    assert_eq!(days, 1);
    let outcomes = "SELECT group_concat(outcome) FROM audit WHERE action = 'discharge'";
    assert_eq!(raw.query_row(outcomes, [], |row| row.get::<_, String>(0)).unwrap(), "success,success");
    // Whether the same admission is there nobody can tell, and none was committed.
    let (found, answer) = host.call("POST", "/api/PatientAdmissionFunc", &bundle(900_041));
    assert_eq!(found, 500, "{answer}");
    let outcomes = "SELECT group_concat(outcome) FROM audit WHERE action = 'admit'";
    assert_eq!(raw.query_row(outcomes, [], |row| row.get::<_, String>(0)).unwrap(), "success,failure");
    let log = host.log();
    assert!(log.lines().filter(|line| line.contains("middle name of an encounter ")).count() >= 2, "{log}");
    assert_eq!(name_in(log.as_bytes()), None);
}

#[tokio::test]
async fn without_the_right_key_file_nothing_starts_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    three(folder.path()).await;
    let key = folder.path().join("data.key");
    let text = fs::read_to_string(&key).unwrap();
    let before = fs::read(folder.path().join("hdai.db")).unwrap();
    let other = tempfile::tempdir().unwrap();
    three(other.path()).await;
    let refused = |words: &str| {
        for args in [&["facilities"][..], &["keys", "list"], &["keys", "rotate"], &["serve"]] {
            let output = hdai(folder.path()).args(args).output().unwrap();
            assert!(!output.status.success() && said(&output).contains(words), "{args:?}: {}", said(&output));
            assert!(!said(&output).contains(text.trim()) && name_in(said(&output).as_bytes()).is_none());
        }
        let report = hdai(folder.path()).arg("doctor").output().unwrap();
        let line = said(&report).lines().find(|line| line.starts_with("keys ")).unwrap().to_owned();
        assert!(!report.status.success() && line.contains("failed") && line.contains(words), "{line}");
    };
    fs::remove_file(&key).unwrap();
    refused("data.key is not there");
    assert!(!key.exists(), "a new key was made over an encrypted record");
    fs::copy(other.path().join("data.key"), &key).unwrap();
    refused("and not by the key file");
    fs::write(&key, "c2hvcnQ=").unwrap();
    refused("not 32 bytes in base64");
    fs::write(&key, &text).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    refused("chmod 600");
    assert_eq!(fs::read(folder.path().join("hdai.db")).unwrap(), before);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    went_well(&hdai(folder.path()).arg("facilities").output().unwrap());

    let raw = Connection::open(folder.path().join("hdai.db")).unwrap();
    raw.execute_batch("UPDATE datakeys SET wrapped = CAST(substr(wrapped, 1, 20) || x'00' || substr(wrapped, 22) AS BLOB)")
        .unwrap();
    refused("the wrapped data key does not open");
    raw.execute_batch("DELETE FROM datakeys; INSERT INTO datakeys VALUES ('00', x'00', '', 'retired', '2026-01-01T00:00:00Z')")
        .unwrap();
    refused("holds no key for the names");
}

/// What an earlier version of this program leaves: names in plain text.
async fn earlier(folder: &Path, encounters: Vec<Encounter>) {
    let store = Sqlite::open(folder.join("hdai.db")).unwrap();
    store.migrate().await.unwrap();
    let source = Source { account: "a".into(), container: "c".into(), name: "n".into(), etag: "e".into() };
    let id = ImportId("0".repeat(32));
    let Begun::Work(entry) = store.begin_import(&id, &source, event().at).await.unwrap() else { panic!("it is over") };
    let lines = (1..).take(encounters.len()).collect();
    let batch = Batch {
        import: id,
        part: None,
        attempt: entry.attempt,
        after: 0,
        encounters,
        lines,
        rejects: Vec::new(),
        rejected_rows: 0,
    };
    store.import_batch(&batch).await.unwrap();
}

#[tokio::test]
async fn names_in_plain_text_are_read_as_they_are_and_encrypted_by_a_rotation_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let mut encounters = synthetic_encounters(2_500);
    for encounter in &mut encounters {
        encounter.name = PersonName::new(NAMES[0], if encounter.id.get() % 2 == 0 { NAMES[1] } else { "" }, NAMES[2]);
    }
    earlier(folder.path(), encounters.clone()).await;
    assert_eq!(name_in(&fs::read(folder.path().join("hdai.db")).unwrap()), Some(NAMES[0]), "the test has stopped seeing anything");

    let record = record(folder.path());
    record.migrate().await.unwrap();
    assert_eq!(record.encounters(None, 5_000).await.unwrap(), encounters);
    // The same admission is the same one, whatever form its name has.
    let before = record.admit(&encounters[6], None, &event()).await.unwrap();
    assert!(matches!(before, Admitted::Before(stored) if stored.encounter == encounters[6]));
    let another = Encounter { name: PersonName::new("Other", "", NAMES[2]), ..encounters[6].clone() };
    assert_eq!(record.admit(&another, None, &event()).await.unwrap(), Admitted::Conflict);

    let listed = went_well(&keys(folder.path(), &["list"]));
    assert!(listed.lines().any(|line| line.starts_with("plain ") && line.contains(" old ")), "{listed}");
    let rotated = went_well(&keys(folder.path(), &["rotate"]));
    assert!(rotated.contains("2,500 encounters encrypted anew; retired: plain"), "{rotated}");
    assert_eq!(record.encounters(None, 5_000).await.unwrap(), encounters);
    drop(record);
    assert_no_name_in_the_files(folder.path(), "hdai.db", false);
    let events = self::record(folder.path()).audit_events(1).await.unwrap();
    assert_eq!(events[0].action, Action::RotateKeys);
    assert!(events[0].detail.contains("data keys plain retired, 2500 encounters"), "{}", events[0].detail);
}

#[tokio::test]
async fn an_admission_under_a_key_that_another_instance_made_meanwhile_is_the_same_admission() {
    let folder = tempfile::tempdir().unwrap();
    three(folder.path()).await;
    let (slow, fast) = (record(folder.path()), record(folder.path()));
    let mut encounter = synthetic_encounters(4).pop().unwrap();
    encounter.name = PersonName::new(NAMES[0], NAMES[1], NAMES[2]);
    slow.encounter(eid(1)).await.unwrap();
    slow.check_keys().await.unwrap();
    let before = fast.data_keys().await.unwrap()[0].id.clone();
    assert!(fast.renew_key(&before, |_| event()).await.unwrap().is_some());
    assert_eq!(fast.renew_key(&before, |_| event()).await.unwrap(), None, "the key before is current no more");
    assert_eq!(fast.admit(&encounter, None, &event()).await.unwrap(), Admitted::Now);
    let repeated = slow.admit(&encounter, None, &event()).await.unwrap();
    assert!(matches!(repeated, Admitted::Before(stored) if stored.encounter == encounter));
}

#[test]
fn processes_that_start_together_make_one_data_key() {
    let folder = tempfile::tempdir().unwrap();
    let start = || hdai(folder.path()).arg("facilities").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for mut child in (0..8).map(|_| start()).collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    let listed = went_well(&keys(folder.path(), &["list"]));
    assert!(listed.lines().count() == 1 && listed.contains(" current "), "{listed}");
}

/// How many names are under the current key, and how many are not.
fn progress(folder: &Path) -> (i64, i64) {
    let raw = Connection::open(folder.join("hdai.db")).unwrap();
    raw.busy_timeout(Duration::from_secs(20)).unwrap();
    let sql = "SELECT coalesce(sum(form = now), 0), coalesce(sum(form <> now), 0) FROM \
        (SELECT substr(LastName, 7, 16) AS form, (SELECT id FROM datakeys WHERE state = 'current') AS now FROM PatientData)";
    raw.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

/// Two processes at work, an import in a third, and a rotation that is killed in the middle and run again.
#[test]
fn keys_are_rotated_under_load_and_a_killed_rotation_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    // As fast as it can: one caller is an interface engine here.
    let host = Host::start_with(&state, &[], &[("HDAI_CALLER_RATE", "0")]);
    let csv = named_csv(folder.path(), 12_000, 4);
    went_well(&hdai(&state).arg("import").arg(&csv).output().unwrap());
    assert_eq!(progress(&state), (12_000, 0));

    let rotate = || -> Command {
        let mut command = hdai(&state);
        command.args(["keys", "rotate"]).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    // The same rows again, with other names: an import that changes every one of them.
    let others = folder.path().join("others.csv");
    fs::write(&others, fs::read_to_string(&csv).unwrap().replace(NAMES[1], "Othername")).unwrap();
    let working = AtomicBool::new(true);
    let admitted = std::thread::scope(|scope| {
        let importing = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(3));
            hdai(&state).arg("import").arg(&others).output().unwrap()
        });
        let rotating = scope.spawn(|| {
            let mut killed = rotate().spawn().unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let (done, left) = progress(&state);
                if done > 0 && left > 0 {
                    break;
                }
                assert!(Instant::now() < deadline && killed.try_wait().unwrap().is_none(), "the rotation was not caught at work");
                std::thread::sleep(Duration::from_millis(5));
            }
            killed.kill().unwrap();
            killed.wait().unwrap();
            let (done, left) = progress(&state);
            assert!(done > 0 && left > 0, "{done} done, {left} left");
            let ended = hdai(&state).args(["keys", "rotate"]).output().unwrap();
            working.store(false, Ordering::SeqCst);
            ended
        });
        let mut id = 950_000;
        while working.load(Ordering::SeqCst) {
            id += 1;
            let (status, answer) = host.call("POST", "/api/PatientAdmissionFunc", &bundle(id));
            assert_eq!(
                (status, answer["name"].as_str()),
                (201, Some(&*format!("{} {} {}", NAMES[0], NAMES[1], NAMES[2]))),
                "{answer}"
            );
            let (status, answer) = host.call("POST", "/api/PatientAdmissionFunc", &bundle(id - (id - 950_001) / 2));
            assert_eq!(status, 200, "a repeated admission: {answer}");
        }
        let ended = went_well(&rotating.join().unwrap());
        assert!(ended.contains("gone on with") && ended.contains("retired: "), "{ended}");
        let imported = went_well(&importing.join().unwrap());
        assert!(imported.contains("12,000"), "{imported}");
        id - 950_000
    });
    assert!(admitted > 5);
    let listed = went_well(&keys(&state, &["list"]));
    let states: Vec<&str> = listed.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(states, ["retired", "current"], "{listed}");
    // What was on its way under the old key when the last look was over stays readable, and the next rotation meets it.
    went_well(&keys(&state, &["rotate"]));
    assert_eq!(progress(&state), (12_000 + admitted, 0));
    assert_no_name_in_the_files(&state, "hdai.db", false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let encounters = runtime.block_on(record(&state).encounters(None, 20_000)).unwrap();
    assert_eq!(encounters.len() as i64, 12_000 + admitted);
    for encounter in &encounters {
        let middle = if encounter.id.get() > 950_000 { NAMES[1] } else { "Othername" };
        assert!(encounter.name == PersonName::new(NAMES[0], middle, NAMES[2]), "the name of encounter {}", encounter.id.get());
    }
    assert_eq!(host.call("POST", "/api/PatientAdmissionFunc", &bundle(999_999)).0, 201);
}
