//! The main job through real processes: the demo, the host with the handler, and a handler killed at any moment.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Host, Records, generate, hdai};

#[test]
fn the_demo_ends_with_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let output = hdai(folder.path().join("state")).args(["demo", "--rows", "3000", "--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let story: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(story["imported"], 3_000);
    assert_eq!(story["stored_after_admissions"], 3_010);
    assert_eq!(story["discharged"], 6);
    assert_eq!(story["admissions"].as_array().unwrap().len(), 10);
    assert!(story["model"]["r2"].as_f64().unwrap() > 0.8, "{}", story["model"]);
    assert!(story["import_rows_per_second"].as_f64().unwrap() > 0.0);
    for admission in story["admissions"].as_array().unwrap() {
        let prediction = &admission["prediction"];
        let days = prediction["days"].as_f64().unwrap();
        let low = prediction["interval90"]["low"].as_f64().unwrap();
        let high = prediction["interval90"]["high"].as_f64().unwrap();
        assert!((1.0..=60.0).contains(&days) && low <= days && days <= high, "{prediction}");
    }
}

#[test]
fn the_demo_refuses_a_folder_that_holds_a_record() {
    let folder = tempfile::tempdir().unwrap();
    assert!(hdai(folder.path()).arg("migrate").status().unwrap().success());
    let output = hdai(folder.path()).args(["demo", "--rows", "10"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("fresh folder"));
}

#[test]
fn the_same_file_twice_changes_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let csv = generate(folder.path(), 500, 7);
    let state = folder.path().join("state");
    let import = || hdai(&state).arg("import").arg(&csv).output().unwrap();
    let first = import();
    assert!(String::from_utf8_lossy(&first.stdout).contains("500 new"), "{}", String::from_utf8_lossy(&first.stdout));
    let before = Records::read(&state);
    let second = import();
    assert!(String::from_utf8_lossy(&second.stdout).contains("already imported, nothing changed"));
    assert_eq!(Records::read(&state), before);
    // The same rows under another name are another file: every row is met and none is touched.
    let renamed = folder.path().join("renamed.csv");
    std::fs::copy(&csv, &renamed).unwrap();
    let third = hdai(&state).arg("import").arg(&renamed).output().unwrap();
    assert!(
        String::from_utf8_lossy(&third.stdout).contains("0 new, 0 updated, 500 unchanged"),
        "{}",
        String::from_utf8_lossy(&third.stdout)
    );
    assert_eq!(Records::read(&state).patients, before.patients);
}

/// Kills `hdai import` after a delay that the seed decides, again and again, until an attempt gets through.
#[test]
fn an_import_killed_anywhere_ends_in_the_same_table_and_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let csv = generate(folder.path(), 30_000, 11);
    // Every hundredth row has too few cells and becomes a reject.
    let text = std::fs::read_to_string(&csv).unwrap();
    let spoilt = text.lines().enumerate().map(|(index, line)| if index % 100 == 50 { "spoilt,row" } else { line });
    std::fs::write(&csv, spoilt.collect::<Vec<_>>().join("\n")).unwrap();
    let clean = folder.path().join("clean");
    let begun = Instant::now();
    assert!(hdai(&clean).arg("import").arg(&csv).stdout(Stdio::null()).status().unwrap().success());
    let full = begun.elapsed();
    let expected = Records::read(&clean);
    assert_eq!((expected.patients.len(), expected.rejects.len()), (29_700, 300));
    let (mut killed, mut span) = (0, full);
    for seed in 0..64_u64 {
        if seed >= 16 && killed >= 8 {
            break;
        }
        let state = folder.path().join(format!("killed-{seed}"));
        // A different fraction of the full time for every seed and attempt; at last as long as it takes.
        for attempt in 0..=10_u64 {
            let fraction = ((seed * 40 + attempt) * 2_654_435_761 % 1_000) as f64 / 1_000.0;
            let limit = if attempt < 10 { span.mul_f64(fraction) } else { Duration::from_secs(600) };
            let mut child = spawn_import(&state, &csv);
            if finishes_within(&mut child, limit) {
                if attempt == 0 {
                    // The machine is quicker than it was when the full time was measured.
                    span = span.mul_f64(0.8);
                }
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        let records = Records::read(&state);
        assert_eq!(records.patients, expected.patients, "seed {seed}");
        assert_eq!(records.imports, expected.imports, "seed {seed}");
        assert_eq!(records.rejects, expected.rejects, "seed {seed}");
    }
    assert!(killed >= 8, "the test killed too few imports to mean anything: {killed}");
}

fn spawn_import(state: &Path, csv: &Path) -> Child {
    hdai(state).arg("import").arg(csv).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn finishes_within(child: &mut Child, limit: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    match child.try_wait().unwrap() {
        Some(status) => {
            assert!(status.success());
            true
        }
        None => false,
    }
}

#[test]
fn a_dropped_file_is_imported_trained_on_and_predicts() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    let csv = generate(folder.path(), 2_000, 3);
    host.drop_file(&csv, "2026/11/a b.csv");
    let import = host.await_import("2026/11/a b.csv");
    assert_eq!(import["state"], "done");
    assert_eq!(import["rows"]["stored"], 2_000);
    host.await_model();
    let receipt =
        host.folder.join("blobs/trainingdata-receipts").join(format!("{}.receipt.json", import["importId"].as_str().unwrap()));
    let receipt: Value = serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap();
    assert_eq!(receipt["rows"], import["rows"]);
    assert_eq!(receipt["sha256"].as_str().unwrap().len(), 64);

    let (status, answer) = host.call("POST", "/api/PatientAdmissionFunc", &blueprint_admission(900_001));
    assert_eq!(status, 201, "{answer}");
    assert!(answer["prediction"]["days"].as_f64().unwrap() >= 1.0);
    assert!(
        answer["prediction"]["missing"].as_array().unwrap().iter().any(|name| name == "readmissions" || name == "rcount"),
        "{answer}"
    );
    // The same call again is the same admission.
    let (again, repeated) = host.call("POST", "/api/PatientAdmissionFunc", &blueprint_admission(900_001));
    assert_eq!((again, &repeated["prediction"]), (200, &answer["prediction"]));
    // Another patient under the same id is not.
    let mut other = blueprint_admission(900_001);
    other["patient"]["gender"] = json!("male");
    let (status, answer) = host.call("POST", "/api/PatientAdmissionFunc", &other);
    assert_eq!((status, answer["result"].as_str()), (409, Some("invalid encounter id")));

    let discharge =
        |id: i64, day: &str| json!({ "encounter": { "resourceType": "Encounter", "id": id, "period": { "end": day } } });
    let (status, answer) = host.call("PUT", "/api/PatientDischargeFunc", &discharge(900_001, "2026-10-08T09:30:00+01:00"));
    assert_eq!((status, &answer["daysStayed"]), (200, &json!(7)), "{answer}");
    assert!(answer["predictionErrorDays"].is_number());
    assert_eq!(host.call("PUT", "/api/PatientDischargeFunc", &discharge(900_001, "2026-10-08")).0, 200);
    assert_eq!(host.call("PUT", "/api/PatientDischargeFunc", &discharge(900_001, "2026-10-09")).0, 409);
    assert_eq!(host.call("PUT", "/api/PatientDischargeFunc", &discharge(900_002, "2026-10-09")).0, 404);
    let (status, answer) = host.call("POST", "/api/PatientAdmissionFunc", &blueprint_admission(900_003));
    assert_eq!(status, 201, "{answer}");
    assert_eq!(host.call("PUT", "/api/PatientDischargeFunc", &discharge(900_003, "2026-09-09")).0, 422);
}

#[test]
fn a_file_with_bad_rows_is_stored_but_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    let csv = generate(folder.path(), 100, 5);
    let mut lines: Vec<String> = std::fs::read_to_string(&csv).unwrap().lines().map(str::to_owned).collect();
    // Fewer cells than the header has.
    lines[10] = "Canary,Row".into();
    std::fs::write(&csv, lines.join("\r\n")).unwrap();
    host.drop_file(&csv, "bad.csv");
    let import = host.await_import("bad.csv");
    assert_eq!((&import["rows"]["stored"], &import["rows"]["rejected"]), (&json!(99), &json!(1)));
    let id = import["importId"].as_str().unwrap();
    let (_, rejects) = host.get(&format!("/api/imports/{id}/rejects"));
    assert_eq!(rejects["rejects"][0]["line"], 11);
    assert!(!rejects["rejects"][0]["remedy"].as_str().unwrap().is_empty());
    assert!(!rejects.to_string().contains("Canary"));
    let file = host.folder.join("blobs/trainingdata-receipts").join(import["rejectsFile"].as_str().unwrap());
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.starts_with("line,column,rule,remedy\n11,") && !text.contains("Canary"), "{text}");
}

#[test]
fn a_file_that_is_no_csv_fails_once_and_is_not_retried() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    for (name, content) in [("binary.csv", &b"PK\x03\x04\0\0\0\0"[..]), ("empty.csv", b""), ("headless.csv", b"1,2,3\n4,5,6\n")] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        host.drop_file(&path, name);
        let import = host.await_import(name);
        assert_eq!(import["state"], "failed", "{name}");
        assert_eq!(import["attempts"], 1, "{name}");
        assert!(!import["failure"].as_str().unwrap().is_empty(), "{name}");
    }
}

/// A blueprint message without readmission count, as its demo client sends it, with one given name.
pub(crate) fn blueprint_admission(id: i64) -> Value {
    let observations: Vec<Value> = health_data_ai::schema::Feature::measurements()
        .filter_map(|feature| {
            let spec = feature.spec();
            let health_data_ai::schema::Shape::Measurement(measurement) = spec.shape else { return None };
            let middle = ((measurement.plausible.0 + measurement.plausible.1) / 2.0).round();
            Some(json!({
                "resourceType": "Observation", "status": "final",
                "code": { "coding": [{ "system": "http://loinc.org", "code": spec.code?.code }] },
                "valueQuantity": { "value": middle, "unit": measurement.unit },
            }))
        })
        .collect();
    json!({
        "patient": { "resourceType": "Patient", "id": "1", "name": [{ "use": "official", "family": "Planted", "given": ["Canary"] }],
            "gender": "female" },
        "encounter": { "resourceType": "Encounter", "id": id, "status": "finished", "period": { "start": "2026-10-01T23:30:00+05:30" },
            "serviceProvider": { "reference": "Organization/B", "display": "B" } },
        "observations": observations,
        "conditions": [{ "resourceType": "Condition", "clinicalStatus": "active",
            "code": { "coding": [{ "system": "http://snomed.info/sct", "code": "195967001" }] } }],
    })
}

#[test]
fn a_new_facility_makes_its_encounters_welcome() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let csv = folder.path().join("north.csv");
    let text = std::fs::read_to_string(generate(folder.path(), 50, 5)).unwrap();
    let last = text.lines().next().unwrap().split(',').position(|header| header == "facid").unwrap();
    let moved = text.lines().enumerate().map(|(index, line)| {
        let mut cells: Vec<&str> = line.split(',').collect();
        if index > 0 {
            cells[last] = "N";
        }
        cells.join(",")
    });
    std::fs::write(&csv, moved.collect::<Vec<_>>().join("\n")).unwrap();
    let import = || String::from_utf8(hdai(&state).arg("import").arg(&csv).output().unwrap().stdout).unwrap();
    assert!(import().contains("50 rejected"));
    let facilities = folder.path().join("facilities.csv");
    std::fs::write(&facilities, "Id,Name,Capacity\nN,North,12\nA,General Medicine 3 West,76\n").unwrap();
    let saved = hdai(&state).arg("facilities").arg(&facilities).output().unwrap();
    let listed = String::from_utf8(saved.stdout).unwrap();
    assert!(listed.contains("2 added or changed") && listed.contains("North"), "{listed}");
    // Dropped again: the same bytes at another time are another version.
    std::fs::write(&csv, std::fs::read(&csv).unwrap()).unwrap();
    assert!(import().contains("50 new"));
}

#[test]
fn encounters_without_a_prediction_are_back_filled() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let admit = hdai(&state).arg("admit").arg(message_file(folder.path())).output().unwrap();
    let answer: Value = serde_json::from_slice(&admit.stdout).unwrap();
    assert_eq!((admit.status.code(), &answer["prediction"]), (Some(0), &Value::Null));
    let backfill = || hdai(&state).args(["predict", "--backfill"]).output().unwrap();
    assert_eq!(backfill().status.code(), Some(1), "there is no model yet");
    let csv = generate(folder.path(), 1_000, 5);
    assert!(hdai(&state).args(["import", "--train"]).arg(&csv).status().unwrap().success());
    let said = backfill();
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("1 encounters"), "{}", String::from_utf8_lossy(&said.stdout));
    assert!(String::from_utf8_lossy(&backfill().stdout).starts_with("0 encounters"));
    let again = hdai(&state).arg("admit").arg(message_file(folder.path())).output().unwrap();
    let answer: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(answer["prediction"]["days"].as_f64().unwrap() >= 1.0, "{answer}");

    // The same model scores a file without storing anything, and tells of itself.
    let scored = hdai(&state).args(["predict", "--data"]).arg(&csv).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&scored.stdout).lines().count(), 1_001);
    let card = hdai(&state).args(["model", "card"]).output().unwrap();
    let card = String::from_utf8(card.stdout).unwrap();
    for part in ["# Model card", "## Quality", "Calibration", "near R² 0.5"] {
        assert!(card.contains(part), "{part} is missing in {card}");
    }
    let evaluated =
        hdai(&state).args(["evaluate", "--format", "json", "--blank-cells", "0.1", "--data"]).arg(&csv).output().unwrap();
    let metrics: Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    for metric in ["r2", "mae", "rmse", "rae", "rse", "within_one_day"] {
        assert!(metrics[metric].is_number(), "{metric}");
    }
    assert!(metrics["intervals"]["90"]["coverage"].is_number() && metrics["intervals"]["90"]["mean_width_days"].is_number());
    let unknown = hdai(&state).args(["evaluate", "--blank", "no-such-feature", "--data"]).arg(&csv).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
}

fn message_file(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("admission.json");
    std::fs::write(&path, blueprint_admission(900_009).to_string()).unwrap();
    path
}

#[test]
fn serve_is_ready_fast_and_answers_root() {
    let folder = tempfile::tempdir().unwrap();
    assert!(hdai(folder.path()).arg("migrate").status().unwrap().success());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut command: Command = hdai(folder.path());
    // `hdai` alone means `serve` when the Functions host starts it.
    let mut child = command.env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let up = loop {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            break true;
        }
        if begun.elapsed() > Duration::from_secs(10) {
            break false;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(up, "the handler never listened");
}
