//! The API as a caller meets it, through the host and a real handler: identities, roles, refusals, shapes of messages and of answers.

use serde_json::{Value, json};

use crate::main_job::blueprint_admission;
use crate::support::{Host, generate, hdai};

fn host_as(role: &str) -> (tempfile::TempDir, Host) {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(&folder.path().join("state"), &[]);
    host.sign_in(&[role]);
    (folder, host)
}

#[test]
fn a_caller_nobody_vouches_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(&folder.path().join("state"), &[]);
    host.sign_out();
    for path in ["/api/imports", "/api/census", "/api/audit"] {
        assert_eq!(host.get(path).0, 401, "{path}");
    }
    let (status, body) = host.call("POST", "/api/PatientAdmissionFunc", &blueprint_admission(5));
    assert_eq!((status, body["result"].as_str()), (401, Some("Unauthorized Unauthorized")));
    // An identity that the caller writes itself is stripped on the way.
    let forged = base64::Engine::encode(
        &base64::prelude::BASE64_STANDARD,
        json!({ "claims": [{ "typ": "oid", "val": "x" }, { "typ": "roles", "val": "CareLineManager" }] }).to_string(),
    );
    let body = blueprint_admission(5).to_string().into_bytes();
    let (status, ..) = host.send("POST", "/api/PatientAdmissionFunc", &[("x-ms-client-principal", &forged)], body);
    assert_eq!(status, 401);
}

#[test]
fn a_faulty_message_is_answered_with_every_fault_and_no_value() {
    let (_folder, host) = host_as("CareLineManager");
    let mut message = blueprint_admission(7);
    message["encounter"]["id"] = json!("CANARY-ID");
    message["encounter"]["period"]["start"] = json!("CANARY-DATE");
    message["patient"]["gender"] = json!("CANARY-GENDER");
    let (status, body) = host.call("POST", "/api/PatientAdmissionFunc", &message);
    assert_eq!((status, body["result"].as_str()), (400, Some("bad request")), "{body}");
    let paths: Vec<&str> = body["faults"].as_array().unwrap().iter().map(|fault| fault["path"].as_str().unwrap()).collect();
    for path in ["encounter.id", "encounter.period.start", "patient.gender"] {
        assert!(paths.contains(&path), "{path} is not among {paths:?}");
    }
    assert!(!body.to_string().contains("CANARY"));
}

#[test]
fn bodies_media_types_methods_and_paths_are_checked() {
    let (_folder, host) = host_as("CareLineManager");
    let admission = "/api/PatientAdmissionFunc";
    let xml = [("content-type", "application/xml")];
    assert_eq!(host.send("POST", admission, &xml, b"<Patient/>".to_vec()).0, 415);
    assert_eq!(host.send("POST", admission, &[], vec![b' '; 2 << 20]).0, 413);
    assert_eq!(host.send("POST", admission, &[], Vec::new()).0, 400);
    assert_eq!(host.send("POST", admission, &[], b"{".to_vec()).0, 400);
    assert_eq!(host.get("/api/nothing").0, 404);
    assert_eq!(host.send("POST", "/api/census", &[], Vec::new()).0, 405);
    let future = json!({ "encounter": { "resourceType": "Encounter", "id": 5, "period": { "end": "2199-01-01" } } });
    assert_eq!(host.call("PUT", "/api/PatientDischargeFunc", &future).0, 422);
}

#[test]
fn utf_16_with_a_byte_order_mark_and_fhir_are_understood() {
    let (_folder, host) = host_as("CareLineManager");
    let text = blueprint_admission(21).to_string();
    let utf16: Vec<u8> = [0xFEFF].into_iter().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    assert_eq!(
        host.send("POST", "/api/PatientAdmissionFunc", &[("content-type", "application/json; charset=utf-16")], utf16).0,
        201
    );

    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
        { "resource": { "resourceType": "Patient", "id": "p", "name": [{ "family": "Planted", "given": ["Canary", "Q"] }], "gender": "female" } },
        { "resource": { "resourceType": "Encounter", "id": "22", "status": "in-progress", "class": { "code": "IMP" },
            "subject": { "reference": "Patient/p" }, "period": { "start": "2026-10-01T08:00:00Z" },
            "serviceProvider": { "reference": "Organization/B" } } },
    ] });
    let fhir = [("content-type", "application/fhir+json")];
    let (status, _, answer) = host.send("POST", "/api/PatientAdmissionFunc", &fhir, bundle.to_string().into_bytes());
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &answer["encounterId"]), (201, &json!(22)), "{answer}");
    assert_eq!(answer["name"], "Canary Q Planted");

    let mut broken = bundle.clone();
    broken["entry"][1]["resource"]["period"] = json!({});
    let (status, content_type, outcome) = host.send("POST", "/api/PatientAdmissionFunc", &fhir, broken.to_string().into_bytes());
    let outcome: Value = serde_json::from_slice(&outcome).unwrap();
    assert_eq!((status, outcome["resourceType"].as_str()), (400, Some("OperationOutcome")), "{outcome}");
    assert!(content_type.starts_with("application/fhir+json"));
}

#[test]
fn the_handler_answers_alike_in_every_mode_of_the_host() {
    for mode in ["default", "forward", "proxy"] {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::start(&folder.path().join("state"), &["--http-mode", mode]);
        let body = blueprint_admission(31).to_string().into_bytes();
        let json = [("content-type", "application/json")];
        assert_eq!(host.send("POST", "/api/PatientAdmissionFunc", &json, body.clone()).0, 201, "{mode}");
        assert_eq!(host.send("POST", "/api/PatientAdmissionFunc", &json, body).0, 200, "{mode}");
        let (status, totals) = host.get("/api/totals");
        assert_eq!((status, &totals["encounters"]), (200, &json!(1)), "{mode} {totals}");
        assert_eq!(host.get("/api/imports/00000000000000000000000000000000").0, 404, "{mode}");
    }
}

#[test]
fn small_counts_are_suppressed_for_whoever_reads_aggregates_only() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    {
        let mut host = Host::start(&state, &[]);
        host.sign_in(&["CareLineManager"]);
        assert_eq!(host.call("POST", "/api/PatientAdmissionFunc", &blueprint_admission(5)).0, 201);
        let (_, census) = host.get("/api/census");
        let row = census["facilities"].as_array().unwrap().iter().find(|row| row["facility"] == "B").unwrap();
        assert_eq!(row["occupied"], 1);
    }
    let mut host = Host::start(&state, &[]);
    host.sign_in(&["ChiefMedicalInformationOfficer"]);
    let (_, census) = host.get("/api/census");
    let row = census["facilities"].as_array().unwrap().iter().find(|row| row["facility"] == "B").unwrap();
    assert_eq!(row["occupied"], Value::Null);
}

#[test]
fn anomalies_are_found_by_the_command_line_and_read_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let file = generate(folder.path(), 3000, 5);
    assert!(hdai(&state).arg("import").arg(&file).output().unwrap().status.success());
    {
        let mut host = Host::start(&state, &[]);
        host.sign_in(&["DataScientist"]);
        let (status, none) = host.get("/api/anomalies");
        assert_eq!((status, &none["found"], &none["findings"]), (200, &Value::Null, &json!([])));
    }
    // Every stay of facility A that ended in the last weeks of the record was a week longer.
    let db = rusqlite::Connection::open(state.join("hdai.db")).unwrap();
    let last: String = db.query_row("SELECT date(max(vdate), '-60 days') FROM PatientData", [], |row| row.get(0)).unwrap();
    let planted = "UPDATE PatientData SET discharged = date(discharged, '7 days'), lengthofstay = lengthofstay + 7 \
                   WHERE facid = 'A' AND discharged > ?1";
    assert!(db.execute(planted, [&last]).unwrap() > 20);
    drop(db);

    let output = hdai(&state).args(["anomalies", "--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let is_planted = |finding: &&Value| {
        finding["facility"] == "A"
            && finding["condition"] == "all"
            && finding["direction"] == "rise"
            && finding["lastWeek"].as_str() > Some(last.as_str())
    };
    let finding = found["findings"].as_array().unwrap().iter().find(is_planted).unwrap_or_else(|| panic!("{found:#}"));
    assert!(finding["meanDays"].as_f64().unwrap() > finding["expectedDays"].as_f64().unwrap() + 3.0, "{finding}");
    assert!(
        String::from_utf8(hdai(&state).arg("anomalies").output().unwrap().stdout).unwrap().contains("facility A, all patients")
    );

    let mut host = Host::start(&state, &[]);
    host.sign_in(&["CareLineManager"]);
    let (_, read) = host.get("/api/anomalies?limit=1000");
    assert_eq!((&read["findings"], &read["charts"]), (&found["findings"], &found["charts"]));
    assert_eq!(host.get("/api/anomalies?limit=1").1["findings"].as_array().unwrap().len(), 1);
}

#[test]
fn every_verb_leaves_one_audit_event_without_values() {
    let (_folder, host) = host_as("CareLineManager");
    host.call("POST", "/api/PatientAdmissionFunc", &blueprint_admission(5));
    host.call("POST", "/api/PatientAdmissionFunc", &json!({ "patient": "CANARY" }));
    host.get("/api/audit");
    let db = rusqlite::Connection::open(host.folder.join("hdai.db")).unwrap();
    let mut statement = db.prepare("SELECT * FROM audit ORDER BY rowid").unwrap();
    let columns = statement.column_count();
    let mut rows = statement.query([]).unwrap();
    let mut events = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        events.push((0..columns).map(|i| format!("{:?}", row.get_ref(i).unwrap())).collect::<Vec<_>>().join("|"));
    }
    assert_eq!(events.len(), 3, "{events:#?}");
    let text = events.join("\n");
    for canary in ["CANARY", "Canary", "Planted"] {
        assert!(!text.contains(canary));
    }
}
