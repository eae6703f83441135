//! `hdai doctor`, `hdai migrate-data` and `hdai bench sql` over the wire: the real binary against the tests' TDS server; and
//! `hdai bench security`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use health_data_ai::azure::identity::Identity;
use health_data_ai::codec::csv;
use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
use health_data_ai::domain::facility;
use health_data_ai::domain::import::{ImportId, Source};
use health_data_ai::store::azure_sql::AzureSql;
use health_data_ai::store::{Batch, Store};
use serde_json::Value;

use crate::support::{Records, generate, hdai};
use crate::tds::{Options, Server};

const ROWS: u32 = 2_500;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn went_well(output: &Output) -> String {
    let text = text(output);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("Not-A-Secret-1"), "the password is shown: {text}");
    text
}

/// The binary with its record in the server.
pub(crate) fn on_server(folder: &Path, server: &Server) -> Command {
    let mut command = hdai(folder);
    command.env("HDAI_SQL_CONNECTION", server.connection_string()).env("HDAI_SQL_CA_FILE", server.ca_file());
    for name in ["IDENTITY_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID"] {
        command.env_remove(name);
    }
    command
}

/// Hands the connection string in on standard input.
fn migrate_from(server: &Server, folder: &Path, args: &[&str]) -> Output {
    let mut command = hdai(folder);
    command.env("HDAI_SQL_CA_FILE", server.ca_file()).args(["migrate-data", "--from", "-"]).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", server.connection_string()).unwrap();
    child.wait_with_output().unwrap()
}

/// The rows of `csv` in a table of the server, names as they are: another system's.
fn plain_table(server: &Server, file: &Path) {
    let connection = SqlConnection::Text(Secret::new(server.connection_string()));
    let settings = SqlSettings { ca_file: Some(server.ca_file().to_owned()), ..SqlSettings::new(connection) };
    let facilities: Vec<_> = facility::seed().iter().map(|facility| facility.id).collect();
    let text = std::fs::read(file).unwrap();
    let rows = csv::Reader::new(&text[..], &facilities).unwrap().read_batch(ROWS as usize).unwrap().unwrap();
    let lines = vec![0; rows.encounters.len()];
    let (import, encounters) = (ImportId("0".repeat(32)), rows.encounters);
    let source = Source { account: "a".into(), container: "c".into(), name: "n".into(), etag: "e".into() };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = AzureSql::open(&settings, &Identity::default()).await.unwrap();
        store.migrate().await.unwrap();
        store.begin_import(&import, &source, Default::default()).await.unwrap();
        let (rejects, rejected_rows) = (Vec::new(), 0);
        let batch = Batch { import, part: None, attempt: 1, after: 0, encounters, lines, rejects, rejected_rows };
        store.import_batch(&batch).await.unwrap();
    });
}

#[test]
fn a_table_in_an_sql_server_arrives_row_by_row_and_a_table_in_sqlite_goes_there() {
    let (server, place) = (Server::start(Options::default()), tempfile::tempdir().unwrap());
    let (theirs, ours, direct) = (place.path().join("theirs"), place.path().join("ours"), place.path().join("direct"));
    let csv = generate(place.path(), ROWS, 9);
    plain_table(&server, &csv);
    assert_eq!(server.refusals(), Vec::<String>::new());

    let dry = migrate_from(&server, &ours, &["--dry-run"]);
    assert_eq!(server.refusals(), Vec::<String>::new());
    let dry = went_well(&dry);
    assert!(dry.contains("2,500 rows, 2,500 of them pass and 0 break a rule"), "{dry}");
    assert!(!ours.join("hdai.db").exists());
    let said = went_well(&migrate_from(&server, &ours, &["--batch", "400"]));
    assert!(said.contains("2,500 new") && said.contains("Verified: 2,500 rows are the same on both sides"), "{said}");
    assert!(said.contains("table dbo.PatientData") && said.contains("predlengthofstay"), "{said}");
    went_well(&hdai(&direct).arg("import").arg(&csv).output().unwrap());
    assert_eq!(Records::read(&ours).patients_without_import(), Records::read(&direct).patients_without_import());
    let again = went_well(&migrate_from(&server, &ours, &[]));
    assert!(again.contains("Copied before, nothing stored") && again.contains("Verified: 2,500 rows"), "{again}");

    let other = Server::start(Options::default());
    let from = format!("sqlite:{}", ours.join("hdai.db").display());
    let back = on_server(&theirs, &other).args(["migrate-data", "--from", &from]).output().unwrap();
    let back = went_well(&back);
    assert!(back.contains("2,500 new") && back.contains("Verified: 2,500 rows"), "{back}");

    for (args, words) in
        [(&["--table", "Patients"][..], "there is no table dbo.Patients"), (&["--table", "dbo.a]; DROP"], "--table")]
    {
        let output = migrate_from(&server, &ours, args);
        assert!(output.status.code() == Some(1) && text(&output).contains(words), "{}", text(&output));
    }
    assert_eq!((server.refusals(), other.refusals()), (Vec::new(), Vec::new()));
}

fn part<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["parts"].as_array().unwrap().iter().find(|part| part["part"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"))
}

#[test]
fn doctor_looks_at_a_database_server() {
    let (server, place) = (Server::start(Options::default()), tempfile::tempdir().unwrap());
    let look = || -> Value {
        let output = on_server(place.path(), &server).args(["doctor", "--format", "json"]).output().unwrap();
        assert!(!text(&output).contains("Not-A-Secret-1"), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let new = look();
    let database = part(&new, "database");
    assert_eq!(database["state"], "warning", "{new:#}");
    assert!(database["found"].as_str().unwrap().contains("migrations to come in schema dbo: 0001-record"), "{new:#}");

    let migrated = on_server(place.path(), &server).arg("migrate").output().unwrap();
    assert_eq!(server.refusals(), Vec::<String>::new());
    went_well(&migrated);
    let migrated = look();
    let found = part(&migrated, "database")["found"].as_str().unwrap();
    assert_eq!(part(&migrated, "database")["state"], "ok", "{migrated:#}");
    for words in ["as tester", "encrypted with TLS", "round trip", "schema dbo current"] {
        assert!(found.contains(words), "{words}: {migrated:#}");
    }
    assert_eq!(part(&migrated, "clock")["state"], "ok", "{migrated:#}");
    assert!(part(&migrated, "clock")["found"].as_str().unwrap().contains("the database"), "{migrated:#}");
    assert_eq!(part(&migrated, "identity")["state"], "notConfigured", "{migrated:#}");
    assert_eq!(part(&migrated, "model")["state"], "warning", "{migrated:#}");
    assert_eq!(server.refusals(), Vec::<String>::new());
}

#[test]
fn the_benchmark_measures_in_a_schema_of_its_own_and_removes_it() {
    let place = tempfile::tempdir().unwrap();
    let unset = hdai(place.path()).args(["bench", "sql"]).output().unwrap();
    assert!(unset.status.code() == Some(1) && text(&unset).contains("HDAI_TEST_SQL is not set"), "{}", text(&unset));

    let server = Server::start(Options::default());
    let mut command = hdai(place.path());
    command.env("HDAI_TEST_SQL", server.connection_string()).env("HDAI_TEST_SQL_CA", server.ca_file());
    command.args(["bench", "sql", "--rows", "600", "--admissions", "70", "--python", "no-such-python"]);
    let said = went_well(&command.output().unwrap());
    let report: Value = serde_json::from_str(said.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    let loads: Vec<_> = report["loads"].as_array().unwrap().iter().map(|load| load["what"].as_str().unwrap()).collect();
    assert_eq!(loads, ["full import", "bulk load alone, same driver"], "{said}");
    assert!(report["loads"].as_array().unwrap().iter().all(|load| load["rows_per_second"].as_f64().unwrap() > 0.0), "{said}");
    let callers: Vec<_> = report["admissions"].as_array().unwrap().iter().map(|line| (&line["callers"], &line["failed"])).collect();
    assert_eq!(format!("{callers:?}"), "[(Number(1), Number(0)), (Number(8), Number(0)), (Number(64), Number(0))]", "{said}");
    assert!(said.contains("freebcp left out") && said.contains("python-tds left out"), "{said}");
    assert!(!said.contains("could not be removed"), "{said}");
    assert_eq!(server.refusals(), Vec::<String>::new());
}

#[test]
fn the_benchmark_of_security_measures_each_part_beside_the_whole_admission() {
    let place = tempfile::tempdir().unwrap();
    let said = went_well(&hdai(place.path()).args(["bench", "security", "--admissions", "40"]).output().unwrap());
    let report: Value = serde_json::from_str(said.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert_eq!(report["admissions"], 40, "{said}");
    let whole = report["whole_us"].as_f64().unwrap();
    let parts = report["parts"].as_array().unwrap();
    let words =
        ["authentication: a token of Entra's kind", "authentication: a development token", "authorisation", "encryption", "audit"];
    assert_eq!(parts.len(), words.len(), "{said}");
    for (part, words) in parts.iter().zip(words) {
        assert!(part["what"].as_str().unwrap().starts_with(words) && said.contains(words), "{said}");
        let (cost, share) = (part["cost_us"].as_f64().unwrap(), part["share"].as_f64().unwrap());
        assert!((share - cost / whole).abs() < 1e-9, "{said}");
        if let (Some(with), Some(without)) = (part["with_us"].as_f64(), part["without_us"].as_f64()) {
            assert!(with > 0.0 && without > 0.0 && (with - without - cost).abs() < 1e-6, "{said}");
        } else {
            assert!(cost > 0.0, "{said}");
        }
    }
    assert!(report["event_alone_us"].as_f64().unwrap() > 0.0, "{said}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "a benchmark leaves the folder of local state alone");
}
