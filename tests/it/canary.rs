//! Recognisable names, ids and dates are planted in every input; none may appear in a log, an error, a receipt, a reject or the audit trail.

mod cli;
mod handler;
mod inputs;
mod planted;

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::main_job::blueprint_admission;
use crate::support::{Host, generate};

const NAMES: [&str; 3] = ["Zebulonqx", "Quixotedv", "Wyvernjk"];
const ODD_VALUE: &str = "77.7701377";
const ODD_DATE: &str = "1931-03-07";

#[test]
fn no_planted_value_leaves_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let host = Host::start_with(&state, &[], &[("HDAI_LOG", "trace"), ("RUST_LOG", "trace")]);

    // A file whose rows carry the canaries: good ones, and ones that break rules in the cells that hold them.
    let csv = generate(folder.path(), 300, 9);
    let text = fs::read_to_string(&csv).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (index, line) in lines.iter_mut().enumerate().skip(1) {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        for (cell, name) in cells.iter_mut().zip(NAMES) {
            *cell = name.to_owned();
        }
        let position = 3 + index % (cells.len() - 3);
        if index % 3 == 0 {
            cells[position] = format!("{}{ODD_VALUE}", NAMES[0]);
        } else if index % 3 == 1 {
            cells[4] = ODD_DATE.to_owned();
        }
        *line = cells.join(",");
    }
    fs::write(&csv, lines.join("\n")).unwrap();
    host.drop_file(&csv, "Canaryfile.csv");
    let import = host.await_import("Canaryfile.csv");
    assert!(import["rows"]["rejected"].as_u64().unwrap() > 100, "{import}");
    let (_, rejects) = host.get(&format!("/api/imports/{}/rejects?limit=1000", import["importId"].as_str().unwrap()));

    // A file without a header: its first row would be taken for one.
    let headless = folder.path().join("headless.csv");
    fs::write(&headless, lines[1..].join("\n")).unwrap();
    host.drop_file(&headless, "headless.csv");
    let failed = host.await_import("headless.csv");

    // Messages, good and bad.
    let mut answers = Vec::new();
    let mut good = blueprint_admission(900_041);
    good["patient"]["name"] = json!([{ "family": NAMES[2], "given": [NAMES[0], NAMES[1]] }]);
    assert_eq!(host.call("POST", "/api/PatientAdmissionFunc", &good).0, 201);
    let places = [
        "/encounter/id",
        "/encounter/period/start",
        "/encounter/serviceProvider",
        "/patient/gender",
        "/patient/name",
        "/observations/0/valueQuantity/value",
        "/observations/0/code/coding/0/code",
        "/conditions/0/clinicalStatus",
        "/observations",
        "/encounter",
    ];
    for place in places {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = json!(format!("{}{ODD_VALUE}", NAMES[1]));
        let (status, answer) = host.call("POST", "/api/PatientAdmissionFunc", &bad);
        assert!((400..500).contains(&status) || place.contains("name") || place.contains("coding"), "{place}: {status} {answer}");
        if status >= 400 {
            answers.push(answer.to_string());
        }
    }
    let mut other = good.clone();
    other["patient"]["gender"] = json!("male");
    answers.push(host.call("POST", "/api/PatientAdmissionFunc", &other).1.to_string());
    for end in [ODD_DATE, NAMES[0], "2199-01-01"] {
        let discharge = json!({ "patient": { "id": NAMES[0] }, "encounter": { "resourceType": "Encounter", "id": 900_041, "period": { "end": end } } });
        let (status, answer) = host.call("PUT", "/api/PatientDischargeFunc", &discharge);
        assert!(status >= 400, "{end}: {answer}");
        answers.push(answer.to_string());
    }
    // Broken JSON, and a path and a query that carry a name.
    let (_, _, broken) = host.send("POST", "/api/PatientAdmissionFunc", &[], format!("{{\"{}\":", NAMES[0]).into_bytes());
    answers.push(String::from_utf8_lossy(&broken).into_owned());
    host.get(&format!("/api/imports/{}", NAMES[0]));

    let (_, audit) = host.get("/api/audit?limit=1000");
    assert!(audit["events"].as_array().unwrap().len() > 10);
    let mut outputs = vec![
        ("log", host.log()),
        ("receipts", import.to_string() + &failed.to_string()),
        ("rejects", rejects.to_string()),
        ("audit", audit.to_string()),
        ("answers", answers.join("\n")),
    ];
    assert!(!host.log().contains("Canaryfile"), "hospitals name files after patients: {}", host.log());
    drop(host);
    outputs.push(("receipt files", read_all(&state.join("blobs/trainingdata-receipts"))));
    outputs.push(("log at the end", fs::read_to_string(state.join("host.log")).unwrap()));
    for (what, text) in &outputs {
        assert!(!text.is_empty(), "{what} is empty");
        for canary in NAMES.iter().chain([&ODD_VALUE, &ODD_DATE]) {
            if let Some(at) = text.find(canary) {
                let from = (0..=at.saturating_sub(200)).rev().find(|from| text.is_char_boundary(*from)).unwrap_or(0);
                panic!("{canary} leaked into the {what}: {}", &text[from..at]);
            }
        }
    }
}

fn read_all(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        text.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    text
}
