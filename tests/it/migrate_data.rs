//! `hdai migrate-data` from a table in an SQLite file: the real binary, real files, a real kill.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use health_data_ai::codec::csv::Writer;
use health_data_ai::domain::{Encounter, PersonName, Phi};
use health_data_ai::schema::{FEATURES, csv_columns};
use health_data_ai::synthetic;
use rusqlite::Connection;

use crate::support::{Records, hdai};

const ROWS: u64 = 5_000;

/// Synthetic encounters, some with names in several scripts, some without, some without measurements.
fn encounters() -> Vec<Encounter> {
    let names = [("Zoë", "", "Müller-Łuk"), ("李", "", "王"), ("", "", ""), ("Ada", "O'Neil \"Q\"", "Canaryname")];
    let options = synthetic::Options { rows: ROWS, seed: 5, first_id: 100 };
    let mut encounters: Vec<Encounter> = synthetic::encounters(&options).unwrap().collect();
    for (place, encounter) in encounters.iter_mut().enumerate() {
        let (first, middle, last) = names[place % names.len()];
        encounter.name = PersonName::new(first, middle, last);
        if place % 7 == 0 {
            encounter.discharged = Phi::new(None);
        }
        for (feature, spec) in FEATURES.iter().enumerate() {
            if (place + feature) % 11 == 0 {
                encounter.clinical.set(spec.feature, None);
            }
        }
    }
    encounters
}

/// The encounters as a CSV file, and its records.
fn csv_of(encounters: &[Encounter]) -> (Vec<u8>, Vec<csv::StringRecord>) {
    let mut writer = Writer::new(Vec::new()).unwrap();
    encounters.iter().for_each(|encounter| writer.write(encounter).unwrap());
    let bytes = writer.finish().unwrap();
    let records = csv::Reader::from_reader(bytes.as_slice()).records().collect::<Result<_, _>>().unwrap();
    (bytes, records)
}

/// Another system's database: the blueprint's 32 columns, of the types that `kind` gives them.
fn other_system(path: &Path, encounters: &[Encounter], kind: fn(&str) -> &'static str) -> Connection {
    let names: Vec<_> = csv_columns().iter().map(|column| column.db_column).chain(["predlengthofstay"]).collect();
    let database = Connection::open(path).unwrap();
    let declared: Vec<_> = names.iter().map(|name| format!("{name} {}", kind(name))).collect();
    database.execute_batch(&format!("CREATE TABLE PatientData ({})", declared.join(", "))).unwrap();
    database.execute_batch("BEGIN").unwrap();
    let places: Vec<_> = (1..=names.len()).map(|place| format!("?{place}")).collect();
    let sql = format!("INSERT INTO PatientData ({}) VALUES ({})", names.join(", "), places.join(", "));
    let mut insert = database.prepare(&sql).unwrap();
    // Not in the order of their ids.
    for record in csv_of(encounters).1.iter().rev() {
        for (place, cell) in (1..).zip(record) {
            insert.raw_bind_parameter(place, Some(cell).filter(|cell| !cell.is_empty())).unwrap();
        }
        insert.raw_bind_parameter(names.len(), 9).unwrap();
        insert.raw_execute().unwrap();
    }
    drop(insert);
    database.execute_batch("COMMIT").unwrap();
    database
}

fn blueprint_types(name: &str) -> &'static str {
    match name {
        "eid" => "INTEGER",
        "rcount" | "gender" | "facid" | "vdate" | "discharged" | "FirstName" | "MiddleName" | "LastName" => "TEXT",
        _ => "NUMERIC",
    }
}

fn all_text(_: &str) -> &'static str {
    "TEXT"
}

/// The rejects in words.
fn rejects(state: &Path) -> Vec<String> {
    let database = Connection::open(state.join("hdai.db")).unwrap();
    let mut rejects =
        database.prepare("SELECT line || ' ' || columnname || ' ' || rule || ' ' || remedy FROM rejects ORDER BY line").unwrap();
    rejects.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

struct Place {
    folder: tempfile::TempDir,
    source: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("other.db");
        Self { folder, source }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = hdai(self.state());
        command.args(["migrate-data", "--from", &format!("sqlite:{}", self.source.display())]).args(args);
        command
    }

    fn migrate(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn went_well(output: &Output) -> String {
    let text = text(output);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("Canaryname") && !text.contains('李'), "a patient's name is shown: {text}");
    text
}

/// What `hdai import` makes of the same rows.
fn imported(encounters: &[Encounter]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.csv");
    std::fs::write(&file, csv_of(encounters).0).unwrap();
    let output = hdai(folder.path()).arg("import").arg(&file).output().unwrap();
    assert!(text(&output).contains(" 0 rejected"), "{}", text(&output));
    Records::read(folder.path()).patients_without_import()
}

#[test]
fn a_table_arrives_as_an_import_of_its_rows_and_a_second_run_changes_nothing() {
    let place = Place::new();
    let encounters = encounters();
    let source = other_system(&place.source, &encounters, blueprint_types);
    // Row 200 twice, a row without an id, one whose id is a word, and three that break a rule.
    source
        .execute_batch(
            "INSERT INTO PatientData SELECT * FROM PatientData WHERE eid = 200;
             CREATE TEMP TABLE bad AS SELECT * FROM PatientData WHERE eid = 200 LIMIT 1;
             UPDATE bad SET eid = NULL; INSERT INTO PatientData SELECT * FROM bad;
             UPDATE bad SET eid = 'Canaryname'; INSERT INTO PatientData SELECT * FROM bad;
             UPDATE bad SET eid = 900001, gender = 'Canaryname'; INSERT INTO PatientData SELECT * FROM bad;
             UPDATE bad SET eid = 900002, gender = 'F', facid = 'Z'; INSERT INTO PatientData SELECT * FROM bad;
             UPDATE bad SET eid = 900003, facid = 'A', vdate = NULL; INSERT INTO PatientData SELECT * FROM bad;",
        )
        .unwrap();
    let said = went_well(&place.migrate(&[]));
    assert!(said.contains("5,006 rows, 5,000 of them pass and 6 break a rule"), "{said}");
    assert!(said.contains("5,000 new, 0 updated, 0 unchanged, 6 rejected"), "{said}");
    assert!(said.contains("Columns not taken over: predlengthofstay"), "{said}");
    assert!(said.contains("Verified: 5,000 rows are the same on both sides"), "{said}");
    let records = Records::read(&place.state());
    assert_eq!(records.patients_without_import(), imported(&encounters));
    assert_eq!(records.rejects.len(), 6, "{:?}", records.rejects);
    for rule in ["must not be the id of another row", "must be a whole number and not empty", "must be the id of a known facility"]
    {
        assert_eq!(rejects(&place.state()).iter().filter(|reject| reject.contains(rule)).count(), 1, "{rule}");
    }
    assert!(!rejects(&place.state()).concat().contains("Canaryname"));

    let again = went_well(&place.migrate(&["--batch", "313"]));
    assert!(again.contains("Copied before, nothing stored") && again.contains("Verified: 5,000 rows"), "{again}");
    assert_eq!(Records::read(&place.state()), records);

    // The other system goes on: its changes are another import.
    source.execute_batch("UPDATE PatientData SET FirstName = 'Later' WHERE eid = 300").unwrap();
    let later = went_well(&place.migrate(&[]));
    assert!(later.contains("0 new, 1 updated, 4,999 unchanged, 6 rejected") && later.contains("Verified: 5,000 rows"), "{later}");
}

#[test]
fn a_table_of_text_and_a_view_are_read_by_the_number_of_their_ids() {
    let encounters = encounters();
    let expected = imported(&encounters);
    let place = Place::new();
    let source = other_system(&place.source, &encounters, all_text);
    assert!(went_well(&place.migrate(&["--batch", "999"])).contains("Verified: 5,000 rows"));
    assert_eq!(Records::read(&place.state()).patients_without_import(), expected);

    source.execute_batch("CREATE VIEW Old AS SELECT * FROM PatientData").unwrap();
    let said = went_well(&place.migrate(&["--table", "old"]));
    assert!(said.contains("0 new, 0 updated, 5,000 unchanged, 0 rejected"), "{said}");
}

#[test]
fn names_may_be_absent_and_what_the_record_knows_stays() {
    let place = Place::new();
    let mut encounters = encounters();
    encounters.truncate(300);
    let file = place.folder.path().join("rows.csv");
    std::fs::write(&file, csv_of(&encounters).0).unwrap();
    assert!(hdai(place.state()).arg("import").arg(&file).status().unwrap().success());
    let before = Records::read(&place.state());
    let source = other_system(&place.source, &encounters, blueprint_types);
    for column in ["FirstName", "MiddleName", "LastName", "discharged", "lengthofstay", "predlengthofstay"] {
        source.execute_batch(&format!("ALTER TABLE PatientData DROP COLUMN {column}")).unwrap();
    }
    let said = went_well(&place.migrate(&[]));
    assert!(said.contains("0 new, 0 updated, 300 unchanged, 0 rejected"), "{said}");
    assert!(said.contains("rows keep a name or a discharge") && said.contains("Verified: 300 rows"), "{said}");
    assert_eq!(Records::read(&place.state()).patients, before.patients);
}

#[test]
fn a_killed_copy_goes_on_where_it_stopped() {
    let encounters = encounters();
    let place = Place::new();
    let source = other_system(&place.source, &encounters, blueprint_types);
    source.execute_batch("UPDATE PatientData SET gender = 'X' WHERE eid % 100 = 7").unwrap();
    drop(source);
    let mut child = place.command(&["--batch", "20"]).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let reached = loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "the copy never began");
        assert!(child.try_wait().unwrap().is_none(), "the copy was over before it could be killed");
        let checkpoint = Connection::open(place.state().join("hdai.db"))
            .and_then(|database| database.query_row("SELECT checkpoint FROM imports", [], |row| row.get::<_, i64>(0)));
        match checkpoint {
            Ok(checkpoint) if checkpoint >= 500 => break checkpoint,
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    let interrupted = Records::read(&place.state());
    assert!(interrupted.patients.len() < 4_950, "killed too late, behind {reached}");

    let said = went_well(&place.migrate(&["--batch", "777"]));
    assert!(said.contains("4,950 new, 0 updated, 0 unchanged, 50 rejected") && said.contains("Verified: 4,950 rows"), "{said}");
    let whole = Place::new();
    std::fs::copy(&place.source, &whole.source).unwrap();
    went_well(&whole.migrate(&[]));
    let (resumed, whole) = (Records::read(&place.state()), Records::read(&whole.state()));
    assert_eq!(resumed.patients_without_import(), whole.patients_without_import());
    assert_eq!(resumed.rejects.len(), whole.rejects.len());
    assert_eq!(resumed.imports.len(), 1, "{:?}", resumed.imports);
}

#[test]
fn a_dry_run_says_what_would_be_rejected_and_stores_nothing() {
    let place = Place::new();
    let source = other_system(&place.source, &encounters(), blueprint_types);
    source.execute_batch("UPDATE PatientData SET facid = 'Canaryname' WHERE eid % 1000 = 0").unwrap();
    let said = went_well(&place.migrate(&["--dry-run"]));
    assert!(said.contains("5,000 rows, 4,995 of them pass and 5 break a rule"), "{said}");
    assert!(said.contains("facid must be the id of a known facility: 5") && said.contains("Nothing was stored."), "{said}");
    assert!(!place.state().join("hdai.db").exists());
}

#[test]
fn rows_that_differ_afterwards_are_named_by_their_range() {
    let place = Place::new();
    other_system(&place.source, &encounters(), blueprint_types);
    went_well(&place.migrate(&[]));
    let record = Connection::open(place.state().join("hdai.db")).unwrap();
    record.execute_batch("UPDATE PatientData SET pulse = coalesce(pulse, 60) + 1 WHERE eid IN (150, 170); DELETE FROM PatientData WHERE eid = 4200").unwrap();
    let output = place.migrate(&["--batch", "1000"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("NOT VERIFIED: 3 of 5,000 rows differ"), "{said}");
    assert!(said.contains("encounters 150 to 170: 2 rows") && said.contains("encounters 4200 to 4200: 1 rows"), "{said}");
}

#[test]
fn what_is_not_there_is_named() {
    let place = Place::new();
    let refused = |args: &[&str], expected: &[&str]| {
        let output = place.migrate(args);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{said}");
        assert!(!place.state().join("hdai.db").exists(), "the record was made for nothing");
    };
    refused(&[], &["there is no file", "other.db", "--from"]);
    std::fs::write(&place.source, "not a database, but long enough to be read as one".repeat(30)).unwrap();
    refused(&[], &["is no SQLite database"]);
    std::fs::remove_file(&place.source).unwrap();
    let source = other_system(&place.source, &encounters()[..10], blueprint_types);
    refused(&["--table", "Patients"], &["there is no table Patients", "its tables: PatientData"]);
    refused(&["--table", "PatientData; DROP TABLE PatientData"], &["--table"]);
    source.execute_batch("ALTER TABLE PatientData DROP COLUMN pulse; ALTER TABLE PatientData DROP COLUMN facid").unwrap();
    refused(&[], &["lacks these columns", "pulse, facid"]);
}

#[test]
fn the_record_is_not_copied_into_itself() {
    let place = Place::new();
    assert!(hdai(place.state()).arg("migrate").status().unwrap().success());
    let own = format!("sqlite:{}", place.state().join("hdai.db").display());
    let output = hdai(place.state()).args(["migrate-data", "--from", &own]).output().unwrap();
    assert!(!output.status.success() && text(&output).contains("is the record itself"), "{}", text(&output));
}

/// Names that this program has encrypted arrive in plain text (and are encrypted anew), or nothing does.
#[test]
fn a_record_of_ours_on_a_server_is_copied_with_the_key_of_its_names_and_not_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    let server = crate::tds::Server::start(crate::tds::Options::default());
    let csv = folder.path().join("named.csv");
    let encounters = &encounters()[..400];
    std::fs::write(&csv, csv_of(encounters).0).unwrap();
    let imported = hdai(&from)
        .env("HDAI_SQL_CONNECTION", server.connection_string())
        .env("HDAI_SQL_CA_FILE", server.ca_file())
        .arg("import")
        .arg(&csv)
        .output()
        .unwrap();
    assert!(imported.status.success(), "{}", said(&imported));
    let copy = |args: &[&str]| {
        let mut command = hdai(&to);
        command.env("HDAI_SQL_CA_FILE", server.ca_file());
        command.args(["migrate-data", "--from", &server.connection_string()]).args(args).output().unwrap()
    };
    for args in [&[][..], &["--dry-run"]] {
        let refused = copy(args);
        assert!(!refused.status.success() && said(&refused).contains("--names-key"), "{}", said(&refused));
    }
    assert_eq!(Records::read(&to).imports, [] as [String; 0], "nothing was begun");
    let other = folder.path().join("other.key");
    std::fs::write(&other, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let refused = copy(&["--names-key", other.to_str().unwrap()]);
    assert!(!refused.status.success() && said(&refused).contains("is wrapped by file:"), "{}", said(&refused));
    assert_eq!(Records::read(&to).imports, [] as [String; 0], "nothing was begun");

    let key = from.join("data.key");
    let copied = copy(&["--names-key", key.to_str().unwrap()]);
    assert!(copied.status.success() && said(&copied).contains("400 rows are the same on both sides"), "{}", said(&copied));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let there = runtime.block_on(async {
        let record = crate::support::record(&to);
        health_data_ai::store::Store::encounters(&record, None, 1_000).await.unwrap()
    });
    assert!(there == encounters, "the names are the patients'");
    let raw = Connection::open(to.join("hdai.db")).unwrap();
    let plain: i64 =
        raw.query_row("SELECT count(*) FROM PatientData WHERE LastName NOT LIKE 'hdai1:%'", [], |row| row.get(0)).unwrap();
    assert_eq!(plain, 0);
    assert_eq!(server.refusals(), Vec::<String>::new());

    // A copy of the table alone has no keys.
    let alone = folder.path().join("alone.db");
    raw.execute("ATTACH ?1 AS alone", [alone.to_str().unwrap()]).unwrap();
    raw.execute_batch("CREATE TABLE alone.PatientData AS SELECT * FROM main.PatientData").unwrap();
    let third = folder.path().join("third");
    let refused = hdai(&third).args(["migrate-data", "--from", &format!("sqlite:{}", alone.display())]).output().unwrap();
    assert!(!refused.status.success() && said(&refused).contains("--names-key"), "{}", said(&refused));
    assert_eq!(Records::read(&third).imports, [] as [String; 0], "nothing was begun");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
