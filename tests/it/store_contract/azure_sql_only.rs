//! What the Azure SQL store alone promises: its migrations, and the work that `azure_sql_faults` disturbs.

use chrono::Days;
use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
use health_data_ai::domain::anomaly::Survey;
use health_data_ai::domain::import::{Counts, Part, State};
use health_data_ai::domain::model::ModelRecord;
use health_data_ai::domain::{Action, Assignment, AuditEvent, Facility, PersonName, Reach, facility};
use health_data_ai::error::Kind;
use health_data_ai::store::access::{Access, Broken};
use health_data_ai::store::azure_sql::{AzureSql, script};
use health_data_ai::store::datakeys::{DataKey, KeyState, KeyTable, Renaming};
use health_data_ai::store::{Admitted, Begun, Discharged, Finish, Leased, PartEnd, PartStep, Step, Store};
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

use super::azure_sql_text::batches;
use super::place::azure_sql::Watched;
use super::place::*;
use crate::tds::{self, Options};

const MIGRATIONS: &[&str] = &[
    "0001-record",
    "0002-facilities",
    "0003-anomalies",
    "0004-deidentified",
    "0005-audit-chain",
    "0006-outbox",
    "0007-import-parts",
    "0008-datakeys",
    "0009-access",
    "0010-reads",
    "0011-audit-retention",
];

/// A session as a DBA's tool has it.
async fn session(server: &tds::Server) -> Client<Compat<TcpStream>> {
    let mut config = Config::new();
    config.host("localhost");
    config.port(server.port());
    config.database("hdai");
    config.authentication(AuthMethod::sql_server("tester", "Not-A-Secret-1"));
    config.encryption(EncryptionLevel::Required);
    config.trust_cert_ca(server.ca_file().to_str().unwrap());
    let tcp = TcpStream::connect(config.get_addr()).await.unwrap();
    Client::connect(config, tcp.compat_write()).await.unwrap()
}

async fn run(server: &tds::Server, batches: &[String]) {
    let mut client = session(server).await;
    for batch in batches {
        let ran = client.simple_query(batch.as_str()).await.unwrap().into_results().await;
        ran.unwrap_or_else(|error| panic!("{error}\n{batch}"));
    }
}

async fn open(server: &tds::Server) -> AzureSql {
    let connection = SqlConnection::Text(Secret::new(server.connection_string()));
    let settings = SqlSettings { ca_file: Some(server.ca_file().to_owned()), ..SqlSettings::new(connection) };
    AzureSql::open(&settings, &Default::default()).await.unwrap()
}

/// Does the trail's trigger refuse this?
async fn refused(server: &tds::Server, batch: &str) -> bool {
    let mut client = session(server).await;
    match client.simple_query(batch).await {
        Ok(answer) => answer.into_results().await.is_err_and(|error| error.code() == Some(50_001)),
        Err(error) => error.code() == Some(50_001),
    }
}

#[test]
fn the_script_leaves_nothing_to_migrate() {
    runtime().block_on(async {
        for schema in ["dbo", "other_one"] {
            let server = tds::Server::start(Options::default());
            let mut script = batches(&script(schema));
            // The server says that it is not Microsoft's, and the script says what to do then.
            let all = script.len();
            script.retain(|batch| !batch.contains("Leave this batch out"));
            assert_eq!(script.len(), all - 5, "the triggers");
            run(&server, &script).await;
            let mut settings = SqlSettings::new(SqlConnection::Text(Secret::new(server.connection_string())));
            settings.ca_file = Some(server.ca_file().to_owned());
            settings.schema = schema.into();
            let store = AzureSql::open(&settings, &Default::default()).await.unwrap();
            assert_eq!(store.migrate().await.unwrap(), Vec::<String>::new());
            assert_eq!(store.facilities().await.unwrap(), facility::seed());
            assert_eq!(admit(&store, &open_encounter(1), None).await, Admitted::Now);
            assert_eq!(server.refusals(), Vec::<String>::new());
        }
    });
}

/// A tool that goes on behind an error, as a query window does.
async fn run_on(server: &tds::Server, batches: &[String]) -> usize {
    let mut client = session(server).await;
    let mut errors = 0;
    for batch in batches {
        let ran = match client.simple_query(batch.as_str()).await {
            Ok(answer) => answer.into_results().await.map(drop),
            Err(error) => Err(error),
        };
        errors += usize::from(ran.is_err());
    }
    errors
}

#[test]
fn the_script_does_all_or_nothing_wherever_it_stops_and_can_be_run_again() {
    runtime().block_on(async {
        let server = tds::Server::start(Options::default());
        let store = open(&server).await;
        let mut script = batches(&script("dbo"));
        script.retain(|batch| !batch.contains("Leave this batch out"));
        // The tool is stopped in the middle; and an error comes at several places, and the tool goes on.
        run(&server, &script[..script.len() / 2]).await;
        assert_eq!(store.pending().await.unwrap(), MIGRATIONS);
        let is_work = |place: &usize| ["CREATE", "ALTER", "INSERT"].iter().any(|verb| script[*place].contains(verb));
        let work: Vec<usize> = (0..script.len()).filter(is_work).collect();
        for place in [work[0], work[work.len() / 2], work[work.len() - 1]] {
            let mut broken = script.clone();
            broken[place] = "INSERT INTO dbo.not_there (x) VALUES (1)".into();
            assert_eq!(run_on(&server, &broken).await, 1, "none of the others is done: {place}");
            assert_eq!(store.pending().await.unwrap(), MIGRATIONS, "an error at batch {place}");
        }
        assert_eq!(run_on(&server, &script).await, 0);
        assert_eq!(store.pending().await.unwrap(), [] as [&str; 0]);
        // Once more by mistake: nothing is made twice, and nothing is lost.
        admit(&store, &open_encounter(1), None).await;
        assert_ne!(run_on(&server, &script).await, 0);
        assert_eq!(store.pending().await.unwrap(), [] as [&str; 0]);
        assert_eq!(store.totals().await.unwrap().encounters, 1);
    });
}

#[test]
fn what_is_pending_is_told_and_not_done() {
    runtime().block_on(async {
        let server = Watched::start(Options::default());
        let store = server.open().await;
        assert_eq!(store.pending().await.unwrap(), MIGRATIONS);
        assert_eq!(store.pending_script().await.unwrap(), script("dbo"));
        assert_eq!(store.migrate().await.unwrap(), MIGRATIONS);
        assert_eq!(store.pending().await.unwrap(), Vec::<String>::new());
        assert!(!store.pending_script().await.unwrap().contains("CREATE"));
    });
}

/// The app's identity has no right to change the schema, and needs none.
#[test]
fn whoever_has_nothing_to_migrate_only_reads() {
    runtime().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { folder: Some(folder.path().to_owned()), ..Options::default() };
        {
            let server = Watched::start(options.clone());
            server.open().await.migrate().await.unwrap();
        }
        let server = Watched::start(options);
        assert!(server.open().await.migrate().await.unwrap().is_empty());
        let statements = server.faults().statements();
        let reads = |text: &String| text.starts_with("SELECT ") || text.starts_with("SET ");
        assert!(statements.len() > 1 && statements.iter().all(reads), "{statements:#?}");
    });
}

#[test]
fn a_database_of_another_program_is_refused() {
    runtime().block_on(async {
        for (change, word) in [
            ("UPDATE dbo.schema_migrations SET checksum = N'other' WHERE number = 2", "use that build"),
            ("INSERT INTO dbo.schema_migrations (number, name, checksum, applied) VALUES (9999, N'9999-later', N'x', SYSDATETIMEOFFSET())", "newer program"),
        ] {
            let server = tds::Server::start(Options::default());
            let store = open(&server).await;
            store.migrate().await.unwrap();
            run(&server, &[change.to_owned()]).await;
            for error in [store.migrate().await.unwrap_err(), store.pending().await.unwrap_err()] {
                assert_eq!(error.kind(), Kind::Conflict);
                assert!(error.message().contains(word), "{error}");
            }
        }
    });
}

#[test]
fn a_refused_migration_says_who_can_do_it() {
    runtime().block_on(async {
        for (number, kind, word) in [(262, Kind::Unavailable, "--script"), (2714, Kind::Conflict, "HDAI_SQL_SCHEMA")] {
            let server = Watched::start(Options::default());
            server.faults().on("CREATE TABLE dbo.PatientData", 1, tds::Action::error(number));
            let store = server.open().await;
            let error = store.migrate().await.unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.message().contains(word) && !error.to_string().contains("injected"), "{error}");
            // Nothing is half there.
            assert_eq!(store.migrate().await.unwrap(), MIGRATIONS);
        }
    });
}

fn model() -> ModelRecord {
    ModelRecord {
        version: "m-9".into(),
        trained: at(12),
        rows: 40,
        schema_fingerprint: "0123456789abcdef".into(),
        metrics: "{}".into(),
        promoted: true,
        reason: "better".into(),
        bytes: vec![7; 20_000],
    }
}

/// A place with something in it: an admission, an import that began, a batch committed; one import to be planned, one part to be worked
/// on, and one to be ended.
pub(super) async fn prepared(store: &AzureSql) {
    store.migrate().await.unwrap();
    admit(store, &open_encounter(1), None).await;
    import(store, 1, vec![open_encounter(2), encounter(3)]).await;
    begin(store, 2).await;
    planned(store, 3, &[2]).await;
    take(store, 3, 0).await;
    planned(store, 4, &[1]).await;
    let part = take(store, 4, 0).await;
    store.import_batch(&part_batch(4, &part, vec![encounter(60)])).await.unwrap();
    assert!(store.add_data_key(&data_key("k1", "w1"), None, None).await.unwrap());
}

/// How many events the trail of [`prepared`] holds.
const EVENTS: usize = 3;

/// Every method that writes, on a [`prepared`] record: does the work, and says whether it came out right.
pub(super) const WRITES: &[&str] = &[
    "admit",
    "discharge",
    "batch",
    "finish",
    "plan",
    "part batch",
    "part end",
    "facilities",
    "predictions",
    "survey",
    "model",
    "outbox",
    "audit",
    "data key",
    "rewrap",
    "retire",
    "names",
    "audits",
    "assign",
    "break glass",
];

/// The writes whose fact is announced.
const ANNOUNCED: [&str; 6] = ["admit", "discharge", "finish", "part end", "model", "break glass"];

/// An event whose fact is announced under the name of the write.
fn announced(action: Action, which: &str) -> AuditEvent {
    event(action, 3).announced(Some(which.to_owned()))
}

fn data_key(id: &str, by: &str) -> DataKey {
    DataKey { id: id.into(), wrapped: vec![1; 256], wrapped_by: by.into(), state: KeyState::Current, created: at(1) }
}

pub(super) async fn write(store: &AzureSql, which: &str) {
    match which {
        "admit" => {
            let event = announced(Action::Admit, which);
            assert_eq!(store.admit(&open_encounter(10), Some(&prediction(3.0)), &event).await.unwrap(), Admitted::Now);
        }
        "discharge" => {
            let on = *open_encounter(1).admitted.reveal() + Days::new(2);
            let discharged = store.discharge(eid(1), on, &Reach::All, &announced(Action::Discharge, which)).await.unwrap();
            assert!(matches!(discharged, Discharged::Now(_)));
        }
        "outbox" => {
            for id in ["a", "b"] {
                let event = announced(Action::Admit, id);
                let id = if id == "a" { 10 } else { 11 };
                store.admit(&open_encounter(id), None, &event).await.unwrap();
            }
            assert!(matches!(store.lease_announcements("one", at(1), at(2), 9).await.unwrap(), Leased::Taken { failures: 0, .. }));
            assert_eq!(store.postpone_announcements("one", at(3), 1, at(0)).await.unwrap(), 0);
            assert!(matches!(store.lease_announcements("two", at(3), at(4), 1).await.unwrap(), Leased::Taken { failures: 1, .. }));
            store.publish_announcements("two", at(4)).await.unwrap();
        }
        "batch" => {
            let mut entry = store.import(&import_id(1)).await.unwrap().unwrap();
            entry.checkpoint = 2;
            let mut rows = batch(&entry, vec![encounter(2), encounter(3), encounter(4), encounter(4)]);
            rows.rejects = vec![reject(9, "a"), reject(9, "b")];
            rows.rejected_rows = 1;
            let expected = Counts { read: 5, stored: 1, updated: 1, unchanged: 2, rejected: 1 };
            assert_eq!(store.import_batch(&rows).await.unwrap(), Step::Committed(expected));
        }
        "finish" => {
            let done = Finish::Done { sha256: "ab".repeat(32), extra_columns: Vec::new(), lines: None };
            let expected = Counts { read: 2, stored: 2, ..Counts::default() };
            let step = store.finish_import(&import_id(1), 1, &done, &announced(Action::Import, which)).await.unwrap();
            assert_eq!(step, Step::Committed(expected));
        }
        "plan" => {
            let step = store.plan_import(&import_id(2), 1, &plan_of(&[1, 2]), &event(Action::Import, 3)).await.unwrap();
            assert_eq!(step, Step::Committed(Counts::default()));
        }
        "part batch" => {
            let part = Part { number: 0, header: 3..50, range: plan_of(&[2]).parts[0].clone(), attempt: 1, checkpoint: 0 };
            let step = store.import_batch(&part_batch(3, &part, vec![encounter(3), encounter(70)])).await.unwrap();
            assert_eq!(step, Step::Committed(Counts { read: 2, stored: 1, unchanged: 1, ..Counts::default() }));
        }
        "part end" => {
            let part = Part { number: 0, header: 3..50, range: plan_of(&[1]).parts[0].clone(), attempt: 1, checkpoint: 1 };
            let events = [event(Action::Import, 3), announced(Action::Import, which)];
            let step = store.finish_part(&import_id(4), &part, &PartEnd::Done, &events[0], &events[1]).await.unwrap();
            assert_eq!(step, PartStep::Closed);
        }
        "facilities" => {
            let mut changed: Vec<Facility> = facility::seed();
            changed[2].capacity += 1;
            assert_eq!(store.save_facilities(&changed, &event(Action::Migrate, 3)).await.unwrap(), 1);
        }
        "predictions" => {
            let given = [(eid(1), prediction(3.0)), (eid(2), prediction(4.0))];
            assert_eq!(store.save_predictions(&given, &event(Action::Train, 3)).await.unwrap(), 2);
        }
        "survey" => {
            let survey = Survey { found: at(5), ..Survey::default() };
            store.replace_survey(&survey, &event(Action::FindAnomalies, 3)).await.unwrap();
        }
        "model" => store.save_model(&model(), &announced(Action::Train, which)).await.unwrap(),
        "data key" => {
            let audit = event(Action::RotateKeys, 3);
            assert!(store.add_data_key(&data_key("k2", "w1"), Some("k1"), Some(&audit)).await.unwrap());
        }
        "rewrap" => {
            assert!(store.rewrap_data_key(&data_key("k1", "w2"), "w1", &event(Action::RotateKeys, 3)).await.unwrap());
        }
        "retire" => {
            let ids = ["plain".to_owned(), "k1".to_owned()];
            assert_eq!(store.retire_data_keys(&ids, &event(Action::RotateKeys, 3)).await.unwrap(), 1);
        }
        "names" => {
            let to = PersonName::new("hdai1:0:A", "", "hdai1:0:B");
            let right = Renaming { id: eid(1), from: open_encounter(1).name, to: to.clone() };
            // A name that has changed meanwhile stays as it is.
            let late = Renaming { id: eid(2), from: PersonName::default(), to };
            assert!(store.replace_names(&[right, late]).await.unwrap() <= 1);
        }
        "audits" => {
            let seen = |id| event(Action::ReadPatients, 3).about(eid(id));
            store.append_audits(&[seen(1), seen(2)]).await.unwrap();
        }
        "assign" => {
            let all = Assignment { caller: "ann".into(), reach: Reach::All, by: "sue".into(), at: at(3) };
            store.assign(&all, &event(Action::AssignFacilities, 3)).await.unwrap();
        }
        "break glass" => {
            let elevation = super::access::elevation(1, "ann", 3);
            let broken = store.break_glass(&elevation, at(0), 9, &announced(Action::BreakGlass, which)).await.unwrap();
            assert_eq!(broken, Broken::Now);
        }
        _ => store.append_audit(&event(Action::ReadAudit, 3)).await.unwrap(),
    }
}

/// The work was done once: its effect is there, with one event.
pub(super) async fn was_done_once(store: &AzureSql, which: &str) {
    let events = store.audit_events(99).await.unwrap();
    let added = match which {
        "batch" | "part batch" | "names" => 0,
        // The part's, and the import's.
        "part end" | "outbox" | "audits" => 2,
        _ => 1,
    };
    assert_eq!(events.len(), EVENTS + added, "{which}");
    let waiting = match store.lease_announcements("look", at(60), at(61), 9).await.unwrap() {
        Leased::Taken { announcements, .. } => announcements.into_iter().map(|announcement| announcement.id).collect(),
        _ => Vec::new(),
    };
    match which {
        "outbox" => assert_eq!(waiting, ["b"]),
        _ => assert_eq!(waiting, if ANNOUNCED.contains(&which) { vec![which.to_owned()] } else { Vec::new() }, "{which}"),
    }
    match which {
        "admit" => assert_eq!(store.encounter(eid(10)).await.unwrap().unwrap().prediction, Some(prediction(3.0))),
        "discharge" => assert!(store.encounter(eid(1)).await.unwrap().unwrap().encounter.discharged.reveal().is_some()),
        "batch" => {
            let entry = store.import(&import_id(1)).await.unwrap().unwrap();
            assert_eq!((entry.checkpoint, entry.counts.stored, entry.counts.rejected), (7, 3, 1));
            assert_eq!(store.rejects(&import_id(1), 0, 9).await.unwrap().len(), 2);
            assert_eq!(store.totals().await.unwrap().encounters, 5);
        }
        "plan" => {
            let begun = store.begin_import(&import_id(2), &source(2), at(9)).await.unwrap();
            assert!(matches!(begun, Begun::InParts(_, left) if left == [0, 1]));
        }
        "part batch" => {
            assert_eq!(take(store, 3, 0).await.checkpoint, 2);
            assert_eq!(store.import(&import_id(3)).await.unwrap().unwrap().counts.read, 2);
        }
        "part end" => assert_eq!(store.import(&import_id(4)).await.unwrap().unwrap().state, State::Done),
        "finish" => assert!(store.import(&import_id(1)).await.unwrap().unwrap().finished.is_some()),
        "facilities" => assert_eq!(store.facilities().await.unwrap()[2].capacity, facility::SEED[2].2 + 1),
        "predictions" => assert_eq!(store.encounter(eid(2)).await.unwrap().unwrap().prediction, Some(prediction(4.0))),
        "survey" => assert_eq!(store.survey(9).await.unwrap().unwrap().found, at(5)),
        "model" => assert_eq!(store.champion().await.unwrap(), Some(model())),
        "audits" => assert_eq!([&events[1], &events[0]].map(|event| event.encounter), [Some(eid(1)), Some(eid(2))]),
        "outbox" => {}
        "assign" => assert_eq!(store.standing("ann").await.unwrap().assigned, Some(Reach::All)),
        "break glass" => assert_eq!(store.elevations(9).await.unwrap().len(), 1),
        "data key" | "rewrap" | "retire" => {
            let keys: Vec<_> =
                store.data_keys().await.unwrap().into_iter().map(|key| (key.id, key.wrapped_by, key.state)).collect();
            let key = |id: &str, by: &str, state| (id.to_owned(), by.to_owned(), state);
            let (plain, first) = (key("plain", "", KeyState::Old), key("k1", "w1", KeyState::Current));
            let expected = match which {
                "data key" => vec![key("k1", "w1", KeyState::Old), key("k2", "w1", KeyState::Current), plain],
                "rewrap" => vec![key("k1", "w2", KeyState::Current), plain],
                _ => vec![first, key("plain", "", KeyState::Retired)],
            };
            assert_eq!(keys, expected);
        }
        "names" => {
            let name = |id| async move { store.encounter(eid(id)).await.unwrap().unwrap().encounter.name };
            assert!(name(1).await == PersonName::new("hdai1:0:A", "", "hdai1:0:B"));
            assert!(name(2).await == open_encounter(2).name);
            let others = store.names_not_under("hdai1:0000000000000000:", None, 9).await.unwrap();
            assert_eq!(others.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [eid(1), eid(2), eid(3), eid(60)]);
        }
        _ => assert_eq!(events[0], event(Action::ReadAudit, 3)),
    }
}

const SERVE: &str = "HDAI_TEST_SERVE";

/// Serves for as many seconds as `HDAI_TEST_SERVE` says, so that the suite of `HDAI_TEST_SQL`, or `hdai` itself, has a server to talk to.
#[test]
#[ignore = "a server to talk to by hand, not a test"]
fn a_server_to_talk_to() {
    let Some(seconds) = std::env::var_os(SERVE).and_then(|value| value.to_str()?.parse().ok()) else { return };
    let server = tds::Server::start(Options::default());
    println!("HDAI_TEST_SQL='{}'\nHDAI_TEST_SQL_CA='{}'", server.connection_string(), server.ca_file().display());
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    for refusal in server.refusals() {
        println!("{refusal}");
    }
}

/// On a server of Microsoft's the trigger is made too, and whoever changes the trail is refused.
#[test]
fn the_trail_is_append_only_where_triggers_are() {
    runtime().block_on(async {
        let options = Options { refuse_like_babelfish: false, ..Options::default() };
        let server = tds::Server::start(options);
        let store = open(&server).await;
        prepared(&store).await;
        assert!(server.faults().statements().iter().any(|text| text.starts_with("CREATE TRIGGER dbo.audit_is_append_only")));
        for change in ["UPDATE dbo.audit SET detail = N'x'", "DELETE FROM dbo.audit"] {
            assert!(refused(&server, change).await, "{change}");
        }
        assert_eq!(store.audit_events(9).await.unwrap().len(), EVENTS);
        // Below an anchor an old event goes, and a young one stays.
        let long_ago = AuditEvent { at: at(0) - chrono::Duration::days(9_000), ..event(Action::Admit, 0) };
        store.append_audit(&long_ago).await.unwrap();
        assert!(refused(&server, "DELETE FROM dbo.audit WHERE [action] = N'admit'").await, "no anchor");
        let anchors =
            "INSERT INTO dbo.auditanchors (chain, place, hash, checkpointname) SELECT chain, 999, N'', N'' FROM dbo.audithead";
        run(&server, &[anchors.to_owned()]).await;
        assert!(refused(&server, "DELETE FROM dbo.audit").await, "too young");
        for change in ["UPDATE dbo.auditanchors SET place = 1", "DELETE FROM dbo.auditanchors"] {
            assert!(refused(&server, change).await, "{change}");
        }
        run(&server, &["DELETE FROM dbo.audit WHERE YEAR([at]) < 2020".to_owned()]).await;
        assert_eq!(store.audit_events(9).await.unwrap().len(), EVENTS);
    });
}
