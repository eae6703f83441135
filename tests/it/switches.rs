//! Each fault switch of `hdai host` against the real handler: whatever goes wrong on the way, the record, the ledger and the receipt are
//! those of a quiet day.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use health_data_ai::codec::blob_url::BlobUrl;
use health_data_ai::host::{Delivery, EventSchema, EventSender, blob_created_event};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::main_job::blueprint_admission;
use crate::support::{Host, Records, generate, hdai};

const ROWS: u32 = 20_000;

/// No message but a training's is left in any queue.
fn await_quiet(host: &Host) {
    let queues = rusqlite::Connection::open(host.folder.join("host/queues.db")).unwrap();
    queues.busy_timeout(Duration::from_secs(10)).unwrap();
    let waiting = || -> u32 {
        queues.query_row("SELECT count(*) FROM message WHERE queue NOT LIKE 'training-%'", [], |row| row.get(0)).unwrap()
    };
    let begun = Instant::now();
    while waiting() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the queues never emptied: {}", host.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The patients, after the ledger's one entry and its receipt were found to be true.
fn assert_one_true_import(host: &Host, file: &Path, what: &str) -> Vec<String> {
    let database = rusqlite::Connection::open(host.folder.join("hdai.db")).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, u32>(2)?));
    let mut statement = database.prepare("SELECT id, state, stored FROM imports").unwrap();
    let ledger: Vec<_> = statement.query_map([], row).unwrap().map(Result::unwrap).collect();
    let [(id, state, stored)] = &ledger[..] else { panic!("{what}: the ledger has {} entries", ledger.len()) };
    assert_eq!((state.as_str(), *stored), ("done", ROWS), "{what}");
    let done = "SELECT count(*) FROM audit WHERE detail = ?1 AND outcome = 'success' AND action = 'import'";
    let audited: u32 = database.query_row(done, [id], |row| row.get(0)).unwrap();
    assert!(audited >= 1, "{what}: the import left no audit event");

    let receipt = host.folder.join(format!("blobs/trainingdata-receipts/{id}.receipt.json"));
    let verified = hdai(&host.folder).args(["receipt", "verify"]).arg(&receipt).arg("--data").arg(file).output().unwrap();
    assert!(verified.status.success(), "{what}: {}", String::from_utf8_lossy(&verified.stdout));
    let receipt: Value = serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap();
    let sha256: String = Sha256::digest(std::fs::read(file).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((receipt["state"].as_str(), receipt["sha256"].as_str()), (Some("done"), Some(sha256.as_str())), "{what}");
    assert_eq!(
        (receipt["rows"]["read"].as_u64(), receipt["rows"]["stored"].as_u64()),
        (Some(ROWS.into()), Some(ROWS.into())),
        "{what}"
    );
    Records::read(&host.folder).patients_without_import()
}

/// The switches, and what the log must show to have happened, at least so often.
const SWITCHES: [(&[&str], &str, usize); 10] = [
    (&["--fault", "kill=1,5", "--fault", "kill=2,15"], "was killed on purpose", 1),
    (&["--fault", "restart=1,5", "--fault", "restart=2,15"], "the handler is replaced", 1),
    (&["--fault", "ready-delay=800"], "ReadyDelay", 1),
    (&["--fault", "duplicate=3"], "succeeded", 3),
    (&["--fault", "concurrent=3"], "succeeded", 3),
    (&["--fault", "concurrent=2", "--fault", "restart=2,10"], "the handler is replaced", 1),
    (&["--fault", "drop=1", "--fault", "drop=2"], "the handler's answer was lost", 2),
    (&["--fault", "fail=1", "--fault", "drop=40%", "--fault-seed", "3", "--fault", "duplicate=2"], "the call was not made", 1),
    (
        &["--event-grid", "event-grid", "--event-time-scale", "0.01", "--fault", "drop=1@PatientDataEvents"],
        "delivered attempts=2",
        1,
    ),
    (
        &["--event-grid", "cloud-events", "--event-time-scale", "0.01", "--fault", "reorder=8", "--fault", "duplicate=2"],
        "an event was delivered",
        2,
    ),
];

#[test]
fn every_fault_ends_in_the_record_of_a_quiet_day() {
    let folder = tempfile::tempdir().unwrap();
    let file = generate(folder.path(), ROWS, 5);
    let quiet = folder.path().join("quiet");
    assert!(hdai(&quiet).arg("import").arg(&file).status().unwrap().success());
    let expected = Records::read(&quiet).patients_without_import();
    assert_eq!(expected.len(), ROWS as usize);
    // A few at a time: most of a run is waiting, and the machine may be small.
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((args, happened, times)) = SWITCHES.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let what = args.join(" ");
                    let state = folder.path().join(what.replace([' ', '%', '@', ','], "_"));
                    let host = Host::start(&state, args);
                    host.drop_file(&file, "a.csv");
                    assert_eq!(host.await_import("a.csv")["state"], "done", "{what}");
                    await_quiet(&host);
                    let log = host.log();
                    assert!(log.matches(happened).count() >= *times, "{what}: it did not happen: {log}");
                    assert!(assert_one_true_import(&host, &file, &what) == expected, "{what}: another record");
                }
            });
        }
    });
}

#[test]
fn a_batch_of_events_comes_whole_and_shuffled_and_each_file_is_imported_once() {
    let folder = tempfile::tempdir().unwrap();
    let faults = ["--fault", "drop=2@PatientDataEvents", "--fault", "fail=4@PatientDataEvents", "--fault", "duplicate=2"];
    let host = Host::start(&folder.path().join("state"), &faults);
    let file = generate(folder.path(), 60, 1);
    // Nobody watches this ending: only the events lead to them.
    let names = ["a.csv.partial", "b.csv.partial", "c.csv.partial"];
    let events = names.map(|name| {
        host.drop_file(&file, name);
        let account_url = "http://127.0.0.1:10000/devstoreaccount1".to_owned();
        let schema = if name.starts_with('b') { EventSchema::CloudEvents } else { EventSchema::EventGrid };
        blob_created_event(schema, &BlobUrl { account_url, container: "trainingdata".into(), name: name.into() }, "0x1", 100)
    });
    let mut sender = EventSender::new(format!("{}/runtime/webhooks/EventGrid?functionName=PatientDataEvents", host.address));
    (sender.time_scale, sender.shuffle) = (0.001, Some(3));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Delivery::Delivered { attempts } = runtime.block_on(sender.deliver(&events)).unwrap() else { panic!("given up") };
    assert_eq!(attempts, 2, "both faults met the first delivery of the batch, each event of which came twice");
    for name in names {
        assert_eq!(host.await_import(name)["state"], "done", "{name}");
    }
    await_quiet(&host);
    let records = Records::read(&host.folder);
    assert_eq!((records.imports.len(), records.patients.len()), (3, 60));
}

#[test]
fn an_admission_whose_answer_was_lost_is_the_same_when_it_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &["--fault", "drop=1@PatientAdmissionFunc"]);
    let message = blueprint_admission(77);
    assert_eq!(host.call("POST", "/api/PatientAdmissionFunc", &message).0, 500);
    let (status, again) = host.call("POST", "/api/PatientAdmissionFunc", &message);
    assert_eq!(status, 200, "{again}");
    assert_eq!(Records::read(&host.folder).patients.len(), 1);
}

#[test]
fn a_fault_that_is_none_is_refused_with_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let mut command: Command = hdai(folder.path());
    let output = command.args(["host", "--port", "0", "--fault", "burn=1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("kill=CALL") && said.contains("reorder=N"), "{said}");
    let help = hdai(folder.path()).args(["host", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for (form, _) in health_data_ai::host::FAULTS {
        assert!(help.contains(form), "{form} is missing in {help}");
    }
}
