//! What goes on while data keys are rotated: admissions that come again, rotations that are killed. No name here is of anybody.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
use health_data_ai::domain::import::{ImportId, Source};
use health_data_ai::domain::{Action, AuditEvent, Caller, Encounter, Outcome, PersonName, Phi};
use health_data_ai::error::Kind;
use health_data_ai::store::azure_sql::AzureSql;
use health_data_ai::store::datakeys::KeyTable;
use health_data_ai::store::sealed::Sealed;
use health_data_ai::store::sqlite::Sqlite;
use health_data_ai::store::{Admitted, Batch, Begun, Store};
use health_data_ai::synthetic;

use crate::support::{hdai, sealed};
use crate::tds;

#[expect(clippy::disallowed_methods, reason = "an event's time")]
fn event(detail: &str) -> AuditEvent {
    AuditEvent::new(&Caller::command_line("c"), Action::Admit, Outcome::Success, Utc::now()).detail(detail)
}

fn encounters(rows: u64) -> Vec<Encounter> {
    let options = synthetic::Options { rows, seed: 1, first_id: 1 };
    let named = |encounter: Encounter| {
        let name = PersonName::new("Ada", "", format!("Nameof{}", encounter.id.get()));
        Encounter { discharged: Phi::new(None), name, ..encounter }
    };
    synthetic::encounters(&options).unwrap().map(named).collect()
}

async fn current(record: &Sealed) -> String {
    record.data_keys().await.unwrap().last().unwrap().id.clone()
}

/// Puts every name under a new key.
async fn rotate(record: &Sealed) {
    let made = record.renew_key(&current(record).await, |_| event("rotated")).await.unwrap().unwrap();
    record.reseal(&made, None, 1_000).await.unwrap();
}

async fn repeated(record: &Sealed, encounter: &Encounter) {
    // Who finds the name in another form each time it looks is told to try again, and does.
    let mut answer = record.admit(encounter, None, &event("repeated")).await;
    for _ in 0..100 {
        match &answer {
            Err(error) if error.kind() == Kind::Unavailable => answer = record.admit(encounter, None, &event("repeated")).await,
            _ => break,
        }
    }
    let answer = answer.unwrap();
    assert!(matches!(&answer, Admitted::Before(stored) if stored.encounter == *encounter), "encounter {}", encounter.id.get());
}

async fn failures(record: &Sealed) -> Vec<String> {
    let events = record.audit_events(1_000).await.unwrap();
    events.into_iter().filter(|event| event.outcome == Outcome::Failure).map(|event| event.detail).collect()
}

/// Two instances of one record; the trail must tell every repeated admission as what it is.
async fn repeats_are_told_as_such(slow: Sealed, fast: Sealed) {
    slow.migrate().await.unwrap();
    fast.migrate().await.unwrap();
    let all = encounters(4);
    assert_eq!(slow.admit(&all[0], None, &event("")).await.unwrap(), Admitted::Now);
    assert_eq!(slow.admit(&all[1], None, &event("")).await.unwrap(), Admitted::Now);
    let before = current(&slow).await;
    let made = fast.renew_key(&before, |_| event("rotated")).await.unwrap().unwrap();
    // Stored under the key before, and come again to who has the new one; then the other way round.
    repeated(&fast, &all[0]).await;
    assert_eq!(fast.admit(&all[2], None, &event("")).await.unwrap(), Admitted::Now);
    repeated(&slow, &all[2]).await;
    // Put under the new key meanwhile.
    assert_eq!(fast.reseal(&made, None, 1_000).await.unwrap().unwrap().replaced, 2);
    repeated(&slow, &all[1]).await;
    repeated(&fast, &all[1]).await;
    assert_eq!(failures(&slow).await, [] as [String; 0]);

    let another = Encounter { name: PersonName::new("Eve", "", "Nameof1"), ..all[0].clone() };
    for record in [&slow, &fast] {
        assert_eq!(record.admit(&another, None, &event("another")).await.unwrap(), Admitted::Conflict);
    }
    assert_eq!(failures(&slow).await, ["another", "another"]);

    // At once: the form changes between one look and the next.
    let rotating = async {
        for _ in 0..6 {
            rotate(&fast).await;
        }
    };
    let repeating = async {
        for _ in 0..40 {
            repeated(&slow, &all[0]).await;
            repeated(&slow, &all[2]).await;
        }
    };
    tokio::join!(rotating, repeating);
    assert_eq!(failures(&slow).await, ["another", "another"]);
}

#[tokio::test]
async fn a_repeated_admission_under_another_key_leaves_no_failure_in_the_embedded_record() {
    let folder = tempfile::tempdir().unwrap();
    let open = || sealed(folder.path(), Arc::new(Sqlite::open(folder.path().join("hdai.db")).unwrap()));
    repeats_are_told_as_such(open(), open()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_admission_under_another_key_leaves_no_failure_in_the_sql_record() {
    let folder = tempfile::tempdir().unwrap();
    let server = tds::Server::start(tds::Options::default());
    let (slow, fast) = (sql(&server, folder.path()).await, sql(&server, folder.path()).await);
    repeats_are_told_as_such(slow, fast).await;
    assert_eq!(server.refusals(), Vec::<String>::new());
}

async fn sql(server: &tds::Server, folder: &Path) -> Sealed {
    let connection = SqlConnection::Text(Secret::new(server.connection_string()));
    let settings = SqlSettings { ca_file: Some(server.ca_file().to_owned()), ..SqlSettings::new(connection) };
    let inner: Arc<dyn KeyTable> = Arc::new(AzureSql::open(&settings, &Default::default()).await.unwrap());
    sealed(folder, inner)
}

fn hdai_keys(folder: &Path, command: &str) -> (bool, String) {
    let output = hdai(folder).args(["keys", command]).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Does a name in plain text, or a form under the key, lie in the database's files?
fn lies_in_the_files(folder: &Path, text: &str) -> bool {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
    ["hdai.db", "hdai.db-wal"].iter().any(|file| fs::read(folder.join(file)).is_ok_and(|bytes| holds(&bytes)))
}

/// A record as a program before the encryption has left it.
async fn in_plain_text(folder: &Path, rows: u64) {
    let store = Sqlite::open(folder.join("hdai.db")).unwrap();
    store.migrate().await.unwrap();
    let source = Source { account: "a".into(), container: "c".into(), name: "n".into(), etag: "e".into() };
    let id = ImportId("0".repeat(32));
    let Begun::Work(entry) = store.begin_import(&id, &source, event("").at).await.unwrap() else { panic!("it is over") };
    let encounters = encounters(rows);
    let lines = (1..).take(encounters.len()).collect();
    let (rejects, attempt) = (Vec::new(), entry.attempt);
    let batch = Batch { import: id, part: None, attempt, after: 0, encounters, lines, rejects, rejected_rows: 0 };
    store.import_batch(&batch).await.unwrap();
}

#[tokio::test]
async fn no_key_is_retired_while_somebody_keeps_the_log_that_holds_older_forms() {
    let folder = tempfile::tempdir().unwrap();
    in_plain_text(folder.path(), 300).await;
    assert!(lies_in_the_files(folder.path(), "Nameof7"));
    let reader = rusqlite::Connection::open(folder.path().join("hdai.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM PatientData").unwrap();
    let (done, said) = hdai_keys(folder.path(), "rotate");
    assert!(!done && said.contains("write-ahead log") && said.contains("not retired"), "{said}");
    assert!(hdai_keys(folder.path(), "list").1.lines().any(|line| line.starts_with("plain ") && line.contains(" old ")));
    // What the reader keeps is still there: the words are true.
    assert!(lies_in_the_files(folder.path(), "Nameof7"));
    drop(reader);
    let (done, said) = hdai_keys(folder.path(), "rotate");
    assert!(done && said.contains("gone on with") && said.contains("retired: plain"), "{said}");
    assert!(!lies_in_the_files(folder.path(), "Nameof7"));

    // Forms under a key that is retired go without a trace, too, and the file is not written anew for it.
    let listed = hdai_keys(folder.path(), "list").1;
    let current = listed.lines().find(|line| line.contains(" current ")).unwrap();
    let key = current.split(' ').next().unwrap().to_owned();
    assert!(lies_in_the_files(folder.path(), &format!("hdai1:{key}:")));
    let (done, said) = hdai_keys(folder.path(), "rotate");
    assert!(done && said.contains("300 encounters encrypted anew"), "{said}");
    assert!(!lies_in_the_files(folder.path(), &format!("hdai1:{key}:")));
}

#[tokio::test]
async fn a_rotation_killed_while_the_file_is_written_anew_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    in_plain_text(folder.path(), 40_000).await;
    let raw = || rusqlite::Connection::open(folder.path().join("hdai.db")).unwrap();
    let mut killed = hdai(folder.path()).args(["keys", "rotate"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let plain = "SELECT count(*) FROM PatientData WHERE LastName NOT LIKE 'hdai1:%'";
    let deadline = Instant::now() + Duration::from_secs(240);
    let written = || fs::metadata(folder.path().join("hdai.db-wal")).and_then(|log| log.modified()).ok();
    let waits = |met: &dyn Fn() -> bool| {
        while !met() {
            assert!(Instant::now() < deadline, "the rotation was not caught at work");
            std::thread::sleep(Duration::from_millis(3));
        }
    };
    waits(&|| raw().query_row(plain, [], |row| row.get::<_, i64>(0)).is_ok_and(|left| left == 0));
    let before = written();
    // Nobody else writes: the file goes through the log as it is written anew.
    waits(&|| written() != before);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let whole: String = raw().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    let (done, said) = hdai_keys(folder.path(), "rotate");
    assert!(done, "{said}");
    assert!(!lies_in_the_files(folder.path(), "Nameof7"));
    let names = crate::support::record(folder.path()).encounters(None, 50_000).await.unwrap();
    assert!(names == encounters(40_000));
    let states = hdai_keys(folder.path(), "list").1;
    assert!(states.contains("plain ") && !states.contains(" old "), "{states}");
}
