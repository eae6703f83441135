//! What the SQLite store alone promises: its file, its statements, and clear words when the file or the disk is wrong.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use health_data_ai::domain::audit::Unchained;
use health_data_ai::domain::{Action, AuditEvent, Caller, Outcome};
use health_data_ai::error::{Error, Kind};
use health_data_ai::schema;
use health_data_ai::store::sqlite::{Sqlite, ddl, migration_names, statements};
use health_data_ai::store::{Step, Store};
use rusqlite::Connection;
use tempfile::TempDir;

use super::place::*;

fn database() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record.db");
    (folder, path)
}

fn migrated(path: &Path) -> Sqlite {
    let store = Sqlite::open(path).unwrap();
    runtime().block_on(store.migrate()).unwrap();
    store
}

fn refused(path: &Path) -> Error {
    Sqlite::open(path).map(|_| ()).unwrap_err()
}

#[test]
fn every_statement_is_in_the_golden_file() {
    let mut text = String::new();
    for (name, statement) in statements() {
        text.push_str(&format!("-- {name}\n{}\n\n", statement.trim_end()));
    }
    let path = "tests/golden/sqlite.sql";
    if std::env::var_os("UPDATE").as_deref() == Some(OsStr::new("1")) {
        fs::write(path, &text).unwrap();
    }
    assert!(fs::read_to_string(path).unwrap() == text, "{path} differs from the code; run with UPDATE=1 and review the change");
}

#[test]
fn every_statement_is_accepted_by_the_schema() {
    let (_folder, path) = database();
    migrated(&path);
    let connection = Connection::open(&path).unwrap();
    for (name, statement) in statements() {
        if !name.starts_with("ON_") && name != "SCHEMA" {
            connection.prepare(&statement).map(drop).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn the_schema_has_the_blueprints_columns_and_builds_a_database_by_itself() {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(&ddl()).unwrap();
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info('PatientData')").unwrap();
    let columns: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for column in schema::csv_columns().iter().map(|column| column.db_column).chain(["predlengthofstay", "prediction", "importid"])
    {
        assert!(columns.iter().any(|name| name == column), "{column}");
    }
}

#[test]
fn values_lie_in_the_table_as_the_blueprint_writes_them() {
    let (_folder, path) = database();
    let store = migrated(&path);
    let mut row = encounter(1);
    row.clinical.set(schema::Feature::Readmissions, Some(5.0));
    row.clinical.set(schema::Feature::Sodium, Some(140.0));
    row.name = health_data_ai::domain::PersonName::default();
    runtime().block_on(import(&store, 1, vec![row]));
    runtime().block_on(admit(&store, &open_encounter(2), Some(&prediction(2.6))));
    let connection = Connection::open(&path).unwrap();
    let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    let imported = "SELECT rcount || ' ' || typeof(sodium) || ' ' || typeof(asthma) || ' ' || typeof(pulse) || ' ' || vdate || ' ' || \
                    discharged || ' ' || lengthofstay || ' ' || gender || ' ' || facid || ' ' || typeof(FirstName) || ' ' || importid \
                    FROM PatientData WHERE eid = 1";
    let importid = import_id(1);
    assert_eq!(text(imported), format!("5+ real integer integer 2024-02-21 2024-02-22 1 M B null {importid}"));
    let admitted = "SELECT predlengthofstay || ' ' || predictedstaydays || ' ' || predictedlow80 || ' ' || modelversion || ' ' || \
                    json_extract(prediction, '$.days') || ' ' || typeof(importid) || ' ' || typeof(lengthofstay) \
                    FROM PatientData WHERE eid = 2";
    assert_eq!(text(admitted), "3 2.6 2.08 m-1 2.6 null null");
}

#[test]
fn the_files_are_readable_by_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/record.db");
    let _store = migrated(&path);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&PathBuf::from(format!("{}{suffix}", path.display()))), 0o600, "{suffix}");
    }
}

#[test]
fn many_processes_may_make_the_file_at_once() {
    for _ in 0..5 {
        let (_folder, path) = database();
        let start = std::sync::Barrier::new(8);
        let ran: usize = std::thread::scope(|scope| {
            let open = || {
                start.wait();
                let store = Sqlite::open(&path).unwrap();
                runtime().block_on(store.migrate()).unwrap().len()
            };
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).sum()
        });
        assert_eq!(ran, migration_names().len(), "each migration ran once");
    }
}

#[test]
fn a_path_is_not_a_uri() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file:x?mode=memory");
    migrated(&path);
    assert!(path.is_file());
}

#[test]
fn without_a_schema_a_call_says_to_migrate() {
    let (_folder, path) = database();
    let store = Sqlite::open(&path).unwrap();
    let error = runtime().block_on(store.totals()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("migrate"), "{error}");
}

#[test]
fn a_changed_checksum_is_refused() {
    let (_folder, path) = database();
    let store = migrated(&path);
    let raw = Connection::open(&path).unwrap();
    raw.execute("UPDATE schema_migrations SET checksum = 'other' WHERE number = 1", []).unwrap();
    let open = runtime().block_on(store.migrate()).unwrap_err();
    for error in [open, refused(&path)] {
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.message().contains("0001-record") && error.message().contains("use that build"), "{error}");
    }
}

/// A database of the first release, made by the first two migrations, with a row in it.
#[test]
fn an_older_database_is_brought_up_to_date_and_keeps_its_rows() {
    let (_folder, path) = database();
    let newer = path.with_file_name("newer.db");
    let store = migrated(&newer);
    runtime().block_on(import(&store, 1, vec![encounter(1)]));
    drop(store);
    let raw = Connection::open(&path).unwrap();
    let ours: i64 = Connection::open(&newer).unwrap().query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
    raw.pragma_update(None, "application_id", ours).unwrap();
    raw.execute_batch(ddl().split("\n-- Migration 0003").next().unwrap()).unwrap();
    raw.execute("ATTACH ?1 AS newer", [newer.to_str().unwrap()]).unwrap();
    raw.execute_batch(
        "INSERT INTO schema_migrations SELECT * FROM newer.schema_migrations WHERE number < 3;
         INSERT INTO PatientData SELECT * FROM newer.PatientData;
         INSERT INTO audit SELECT 1, '2026-02-03T04:00:00.000000000Z', 'x', '', 'platform', 'c', 'import', 'success', NULL, 'before the chain';",
    )
    .unwrap();
    drop(raw);
    let (store, runtime) = (Sqlite::open(&path).unwrap(), runtime());
    let pending = migration_names().split_off(2);
    assert_eq!(runtime.block_on(store.pending()).unwrap(), pending);
    assert_eq!(runtime.block_on(store.migrate()).unwrap(), pending);
    let event = AuditEvent::new(&Caller::platform("x", "c"), Action::Import, Outcome::Success, at(1));
    runtime.block_on(store.append_audit(&event)).unwrap();
    assert_eq!(runtime.block_on(super::trail::follow(&store, 9)), Ok(1));
    assert_eq!(runtime.block_on(store.audit_unchained()).unwrap(), Unchained { before: 1, since: 0, first_since: None });
    assert!(runtime.block_on(store.pending()).unwrap().is_empty());
    assert_eq!(runtime.block_on(store.encounter(eid(1))).unwrap().unwrap().encounter, encounter(1));
    assert_eq!(runtime.block_on(store.survey(1)).unwrap(), None);
}

#[test]
fn a_newer_database_is_refused() {
    let (_folder, path) = database();
    let store = migrated(&path);
    let raw = Connection::open(&path).unwrap();
    raw.execute("INSERT INTO schema_migrations SELECT 9999, '9999-later', 'x', 'y'", []).unwrap();
    let open = runtime().block_on(store.migrate()).unwrap_err();
    for error in [open, refused(&path)] {
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(error.message().contains("9999-later") && error.message().contains("newer program"), "{error}");
    }
}

#[test]
fn a_file_of_someone_else_is_refused_and_left_untouched() {
    let (folder, path) = database();
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch("CREATE TABLE someone (s TEXT); INSERT INTO someone VALUES ('x')").unwrap();
    drop(raw);
    let text = folder.path().join("notes.txt");
    fs::write(&text, "These are notes, and no database at all. ".repeat(40)).unwrap();
    for path in [path, text] {
        let before = fs::read(&path).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(
            error.message().contains("not a database of Health Data AI") && error.message().contains("another file"),
            "{error}"
        );
        assert!(fs::read(&path).unwrap() == before);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no log beside them");
}

#[test]
fn a_damaged_file_says_so() {
    let (_folder, path) = database();
    let store = migrated(&path);
    runtime().block_on(import(&store, 1, (1..2000).map(encounter).collect()));
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    // The rows make up most of the file; the schema is at its beginning.
    let from = bytes.len() / 2 / 4096 * 4096;
    bytes[from..from + 60 * 4096].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let store = Sqlite::open(&path).unwrap();
    let error = runtime().block_on(store.discharged_encounters(None, 5000)).unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
    assert!(error.message().contains("is damaged") && error.message().contains("backup"), "{error}");
}

#[test]
fn a_place_that_cannot_hold_a_file_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.join("below.db"), PathBuf::from("/proc/self/record.db"), folder.path().to_owned()] {
        let error = refused(&path);
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert!(error.message().contains(&path.display().to_string()) && error.message().contains("folder"), "{error}");
    }
}

#[test]
fn a_database_held_by_another_process_is_unavailable_and_then_works() {
    let (_folder, path) = database();
    migrated(&path);
    let store = Sqlite::open_waiting(&path, Duration::from_millis(50)).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let runtime = runtime();
    let error = runtime.block_on(store.append_audit(&event(health_data_ai::domain::Action::Admit, 1))).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.message().contains("busy"), "{error}");
    assert_eq!(runtime.block_on(store.totals()).unwrap().encounters, 0, "readers do not wait for a writer");
    other.execute_batch("COMMIT").unwrap();
    runtime.block_on(store.append_audit(&event(health_data_ai::domain::Action::Admit, 2))).unwrap();
    assert_eq!(runtime.block_on(store.audit_events(9)).unwrap().len(), 1);
}

#[test]
fn a_call_given_up_by_its_caller_still_commits_whole() {
    let (_folder, path) = database();
    let store = migrated(&path);
    let runtime = runtime();
    runtime.block_on(async {
        let entry = begin(&store, 1).await;
        let rows = batch(&entry, (1..3000).map(encounter).collect());
        tokio::select! {
            biased;
            _ = store.import_batch(&rows) => panic!("the batch was faster than nothing"),
            () = std::future::ready(()) => {}
        }
        // The one writer is free again only when the batch has ended; one way or the other, it is whole.
        store.append_audit(&event(health_data_ai::domain::Action::Import, 1)).await.unwrap();
        let entry = store.import(&import_id(1)).await.unwrap().unwrap();
        let stored = store.totals().await.unwrap().encounters;
        assert_eq!((entry.checkpoint, stored), (2999, 2999));
    });
}

#[test]
fn the_audit_trail_is_append_only() {
    let (_folder, path) = database();
    let store = migrated(&path);
    runtime().block_on(store.append_audit(&event(health_data_ai::domain::Action::Admit, 1))).unwrap();
    let raw = Connection::open(&path).unwrap();
    let anchor = "INSERT INTO auditanchors (chain, place, hash, checkpointname) SELECT 0, 1, hash, 'x' FROM audit";
    for (sql, words) in [
        ("UPDATE audit SET detail = 'x'", "append-only"),
        ("DELETE FROM audit", "until its time is over"),
        (anchor, "until its time is over"),
        ("UPDATE auditrecord SET retentionyears = 5", "CHECK"),
        ("DELETE FROM auditrecord", "append-only"),
    ] {
        assert!(raw.execute(sql, []).unwrap_err().to_string().contains(words), "{sql}");
    }
    // An anchor that somebody got in all the same opens nothing that is young, and stays.
    raw.execute_batch("DROP TRIGGER anchor_stands_on_an_event_whose_time_is_over").unwrap();
    raw.execute(anchor, []).unwrap();
    for (sql, words) in [
        ("DELETE FROM audit", "until its time is over"),
        ("UPDATE auditanchors SET place = 2", "append-only"),
        ("DELETE FROM auditanchors", "append-only"),
    ] {
        assert!(raw.execute(sql, []).unwrap_err().to_string().contains(words), "{sql}");
    }
}

#[test]
fn the_census_of_open_encounters_is_read_from_its_index() {
    let (_folder, path) = database();
    migrated(&path);
    let raw = Connection::open(&path).unwrap();
    let (_, census) = statements().into_iter().find(|(name, _)| *name == "CENSUS").unwrap();
    let mut statement = raw.prepare(&format!("EXPLAIN QUERY PLAN {census}")).unwrap();
    let plan: Vec<String> =
        statement.query_map(("2024-01-01", "2024-01-02"), |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    let covered = plan.iter().filter(|step| step.contains("COVERING INDEX PatientData_open")).count();
    assert_eq!(covered, 2, "{plan:#?}");
}

/// No read sorts or walks more than its page needs: the open encounters and the predictions have indexes, and ids are the table itself.
#[test]
fn pages_and_predictions_are_read_from_their_indexes() {
    let (_folder, path) = database();
    migrated(&path);
    let raw = Connection::open(&path).unwrap();
    for (name, found, sorts) in [
        ("PATIENTS_OPEN", "COVERING INDEX PatientData_open", true),
        ("PATIENTS_DISCHARGED", "SEARCH PatientData USING INTEGER PRIMARY KEY", false),
        ("EXPECTED_DISCHARGES", "COVERING INDEX PatientData_open", true),
        ("ACCURACY", "COVERING INDEX PatientData_judged (discharged", true),
        ("NEWEST_PREDICTIONS", "USING INDEX PatientData_predicted", false),
        ("ENCOUNTERS_BETWEEN", "SEARCH PatientData USING INTEGER PRIMARY KEY", false),
        ("ROW_SURVEY", "SCAN PatientData", false),
    ] {
        let (_, text) = statements().into_iter().find(|(known, _)| *known == name).unwrap();
        let mut statement = raw.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let values = vec![1; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(values), |row| row.get(3)).unwrap();
        let plan: Vec<String> = steps.map(Result::unwrap).collect();
        let text = plan.join("\n");
        assert!(text.contains(found), "{name}: {text}");
        assert!(sorts || !text.contains("TEMP B-TREE"), "{name}: {text}");
    }
}

const CHILD_DATABASE: &str = "HDAI_TEST_FULL_DISK";

/// A limit on the size of files stands in for a full disk. The child meets it in the middle of an import.
#[test]
fn a_full_disk_is_unavailable_and_the_import_resumes_when_there_is_space() {
    let (_folder, path) = database();
    migrated(&path);
    // The signal must be ignored, so that the write fails as it would on a full disk; half a MiB holds the schema and little more.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store_contract::sqlite_only::import_until_the_disk_is_full", "--ignored", "--nocapture"])
        .env(CHILD_DATABASE, &path)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"), "{said}");

    let (store, runtime) = (Sqlite::open(&path).unwrap(), runtime());
    let mut entry = runtime.block_on(begin(&store, 1));
    assert!(entry.attempt == 2 && entry.checkpoint < 6000, "the child began and did not end");
    assert_eq!(runtime.block_on(store.totals()).unwrap().encounters, entry.checkpoint, "no half batch");
    while entry.checkpoint < 6000 {
        let rows = rows_after(entry.checkpoint);
        let Step::Committed(counts) = runtime.block_on(store.import_batch(&batch(&entry, rows))).unwrap() else {
            panic!("superseded")
        };
        entry.checkpoint += counts.read;
    }
    assert_eq!(runtime.block_on(store.totals()).unwrap().encounters, 6000);
}

fn rows_after(checkpoint: u64) -> Vec<health_data_ai::domain::Encounter> {
    (checkpoint as i64 + 1..=checkpoint as i64 + 500).map(encounter).collect()
}

#[test]
#[ignore = "the child of a_full_disk_is_unavailable_and_the_import_resumes_when_there_is_space"]
fn import_until_the_disk_is_full() {
    // Whoever runs all ignored tests has no such disk; the test above sees to it that its child began.
    let Some(path) = std::env::var_os(CHILD_DATABASE) else { return };
    let (store, runtime) = (Sqlite::open(path).unwrap(), runtime());
    let mut entry = runtime.block_on(begin(&store, 1));
    let error = loop {
        assert!(entry.checkpoint < 6000, "the disk never filled");
        match runtime.block_on(store.import_batch(&batch(&entry, rows_after(entry.checkpoint)))) {
            Ok(Step::Committed(counts)) => entry.checkpoint += counts.read,
            Ok(step) => panic!("{step:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(error.message().contains("the disk of the database"), "{error}");
}

/// Among a million events, those of one encounter, caller or action are found by an index, in their order, and those of a span of time by one.
#[test]
fn who_what_and_when_are_found_by_an_index() {
    let (_folder, path) = database();
    drop(migrated(&path));
    let raw = Connection::open(&path).unwrap();
    for (name, index, steps) in [
        ("AUDIT_ABOUT", "audit_encounter (encounter=? AND rowid<?)", 1),
        ("AUDIT_BY_CALLER", "audit_caller (caller=? AND rowid<?)", 1),
        ("AUDIT_BY_ACTION", "audit_action (action=? AND rowid<?)", 1),
        ("AUDIT_WHEN", "audit_at (at>? AND at<?)", 2),
    ] {
        let (_, text) = statements().into_iter().find(|(known, _)| *known == name).unwrap();
        let mut statement = raw.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let values = [9, 0, 0, 0, 0, 0, 9, 7];
        let values = rusqlite::params_from_iter(values.into_iter().take(statement.parameter_count()));
        let plan = statement.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
        let plan: Vec<_> = plan.map(Result::unwrap).collect();
        assert!(plan.len() == steps && plan[0].contains(&format!("USING INDEX {index}")), "{name}: {plan:?}");
    }
}
