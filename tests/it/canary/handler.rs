//! Every planted input at the real handler, with everything logged that can be.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use health_data_ai::http::ROUTES;
use reqwest::Method;
use serde_json::{Value, json};

use super::inputs::{admission, discharge, envelopes, files, wrong_messages};
use super::planted::{DAY, END, FILE, FIRST, ID, Kind, LAST, MRN, TEXT, TOKEN, everything, holds_none};
use crate::handler::{Handler, deferred, inline, serve};
use crate::support::{ROLES, token};

/// Routes whose answers show patients' values to those who may see them, or names of files to operators. Their refusals show nothing.
const SHOWS: &[(&str, &[Kind], &str)] = &[
    ("/api/PatientAdmissionFunc", &[Kind::Name, Kind::Id, Kind::Day], "the encounter, to whoever admitted it"),
    ("/api/PatientDischargeFunc", &[Kind::Name, Kind::Id, Kind::Day], "the encounter, to whoever discharged it"),
    ("/api/imports", &[Kind::File], "which file an import was, to operators"),
    ("/api/imports/{id}", &[Kind::File], "which file an import was, to operators"),
    ("/api/audit", &[Kind::Id], "about which encounter, to auditors"),
    ("/api/patients", &[Kind::Name, Kind::Id, Kind::Day], "the patients of a facility, to whoever cares for them"),
    ("/api/patients/{id}", &[Kind::Name, Kind::Id, Kind::Day], "one of them, to whoever cares for the patient"),
];
/// What the handler leaves in its folder, and what it may hold: everything else holds nothing, and no name of a file does.
const KEEPS: &[(&str, &[Kind], &str)] = &[
    ("blobs/trainingdata/", ALL, "what was dropped there, under the sender's name"),
    ("blobs/trainingdata-receipts/", &[Kind::File], "the receipt says which file it is for"),
    ("hdai.db", NOT_NAMES, "the record: ids and days are its keys, names are encrypted"),
];
const ALL: &[Kind] = &[Kind::Name, Kind::Id, Kind::Day, Kind::Text, Kind::Token, Kind::File];
/// The queue of announcements names encounters, the ledger names files.
const NOT_NAMES: &[Kind] = &[Kind::Id, Kind::Day, Kind::File];
const VERBS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];

#[test]
fn nothing_planted_leaves_the_handler() {
    let folder = tempfile::tempdir().unwrap();
    let errors = folder.path().join("stderr.log");
    let state = folder.path().join("state");
    let handler = Handler::launch_with_errors(&state, &errors, || loud(serve(&state, &[("HDAI_BODY_BYTES_MAX", "200000")])));
    let bearer = format!("Bearer {}", token(&state, &ROLES, &[]));

    deliver(&handler, folder.path());
    let mut answers = Vec::new();
    let ask = |method: &str, path: &str, query: &str, headers: &[(&str, &str)], body: Vec<u8>| {
        let method: Method = method.parse().unwrap();
        let (status, headers, text) = handler.ask(method, &format!("{path}{query}"), headers, body);
        (status, format!("{headers:?}\n{text}"))
    };
    let signed_in = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    assert_eq!(ask("POST", "/api/PatientAdmissionFunc", "", &signed_in, admission().to_string().into_bytes()).0, 201);
    assert_eq!(ask("PUT", "/api/PatientDischargeFunc", "", &signed_in, discharge().to_string().into_bytes()).0, 200);
    for body in wrong_messages() {
        for (method, path) in [("POST", "/api/PatientAdmissionFunc"), ("PUT", "/api/PatientDischargeFunc")] {
            let (status, text) = ask(method, path, "", &signed_in, body.clone());
            if status >= 400 {
                answers.push((format!("{method} {path} {}", String::from_utf8_lossy(&body)), text));
            }
        }
    }
    assert!(answers.len() > 300, "{}", answers.len());

    // Every route that there is or will be.
    let query =
        format!("?id={ID}&encounter={MRN}&caller={FIRST}&name={LAST}&from={DAY}&to={END}&limit={TEXT}&before={ID}&{TEXT}={FILE}");
    let forged = format!("Bearer {TOKEN}.{TOKEN}.{TOKEN}");
    let long = format!("{{\"{TEXT}\": \"{}", everything().repeat(2000)).into_bytes();
    for route in ROUTES {
        let ids = [ID.to_string(), FIRST.to_owned(), format!("{FILE}.csv"), DAY.to_owned(), MRN.to_owned()];
        for id in ids.into_iter().take(if route.path.contains('{') { 5 } else { 1 }) {
            let path = route.path.replace("{id}", &id);
            for verb in VERBS {
                for (query, authorization) in [("", &bearer), (query.as_str(), &bearer), (query.as_str(), &forged)] {
                    let headers = [
                        ("authorization", authorization.as_str()),
                        ("x-forwarded-for", FIRST),
                        ("x-ms-client-principal", if authorization == &forged { TOKEN } else { "" }),
                        ("cookie", TOKEN),
                        ("user-agent", TEXT),
                        ("referer", MRN),
                        ("x-azure-functions-invocationid", MRN),
                    ];
                    let headers: Vec<_> = headers.into_iter().filter(|(_, value)| !value.is_empty()).collect();
                    let (status, text) = ask(verb, &path, query, &headers, TEXT.as_bytes().to_vec());
                    let shown =
                        SHOWS.iter().find(|(path, ..)| *path == route.path && status < 400).map_or(&[][..], |(_, kinds, _)| kinds);
                    holds_none(&format!("{verb} {path}{query}: {status}"), text, shown);
                }
            }
            // The body of a read is not read.
            let (status, text) = ask(route.method, &path, "", &signed_in, long.clone());
            let shown = SHOWS.iter().find(|(path, ..)| *path == route.path && status < 400).map_or(&[][..], |(_, kinds, _)| kinds);
            holds_none(&format!("{path}, too long"), text, shown);
        }
    }
    answers.push(("elsewhere".into(), ask("GET", &format!("/api/{FIRST}/{MRN}"), "", &signed_in, Vec::new()).1));
    answers.push(("no function".into(), ask("POST", &format!("/{FIRST}"), "", &[], everything().into_bytes()).1));
    for (what, text) in &answers {
        holds_none(what, text, &[]);
    }

    let mut garbled = TcpStream::connect(("127.0.0.1", handler.port)).unwrap();
    garbled.write_all(format!("{FIRST}\r\n\r\n").as_bytes()).unwrap();
    let _ = garbled.read_to_end(&mut Vec::new());
    let wrapped = json!({ "Url": "http://h/api/me", "Method": "GET",
        "Headers": { "authorization": [bearer], "x-azure-functions-invocationid": [FIRST] } });
    let wrapped = json!({ "Data": { "req": wrapped } }).to_string().into_bytes();
    assert_eq!(ask("POST", "/Api", "", &[("x-azure-functions-invocationid", LAST)], wrapped).0, 200);

    holds_none("the trail's details", format!("{:?}", handler.rows("SELECT detail, correlation FROM audit")), &[]);
    holds_none("rejects", format!("{:?}", handler.rows("SELECT * FROM rejects")), &[]);
    holds_none("failures", format!("{:?}", handler.rows("SELECT failure FROM imports")), &[]);
    assert!(handler.count("rejects") > 20 && handler.count("imports") > 5, "the files were not read");
    let log = handler.log();
    assert!(log.contains("call refused") && log.contains("auth.failed"), "nothing was told of the calls: {log}");
    holds_none("standard output", &log, &[]);
    drop(handler);
    holds_none("standard error", fs::read(&errors).unwrap(), &[]);
    left_behind(&state, &state);
}

/// Everything that a setting can have logged.
fn loud(mut command: Command) -> Command {
    command
        .env("HDAI_LOG", "trace,hyper=trace,tower=trace,warp=trace,h2=trace")
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "full");
    command
}

/// Every file by reference and in the call, and every envelope to every function.
fn deliver(handler: &Handler, folder: &Path) {
    let account = "http://127.0.0.1:10000/devstoreaccount1";
    let zone = handler.folder.join("blobs/trainingdata");
    fs::create_dir_all(&zone).unwrap();
    for (name, bytes) in files(folder) {
        fs::write(zone.join(&name), &bytes).unwrap();
        let uri = format!("{account}/trainingdata/{name}");
        for envelope in [deferred(&uri), inline(&uri, &bytes)] {
            let answer = handler.post("PatientDataBulkImport", envelope.to_string().into_bytes());
            // What is queued names the import by its id.
            holds_none(&format!("the answer for {name}"), answer.body.to_string(), &[]);
        }
    }
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("functions")).unwrap();
    let functions: Vec<String> = folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    assert!(functions.len() >= 11, "{functions:?}");
    for (index, envelope) in envelopes(account).into_iter().enumerate() {
        // Each of these calls trains or writes anew, whatever it is told.
        let seldom = |function: &&String| index % 40 == 0 || !(function.starts_with("Train") || *function == "AuditCheckpoint");
        for function in functions.iter().filter(seldom) {
            let answer = handler.post(function, envelope.to_string().into_bytes());
            let mut body = answer.body;
            // A file that is to be read is queued under its address.
            if let Some(outputs) = body.get_mut("Outputs").and_then(Value::as_object_mut) {
                outputs.remove("importRequests");
            }
            holds_none(&format!("{function} {envelope}"), body.to_string(), &[]);
        }
    }
}

/// Looks through all that lies in the handler's folder.
fn left_behind(root: &Path, folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let shown = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            left_behind(root, &path);
            continue;
        }
        let kept = KEEPS.iter().find(|(place, ..)| shown.starts_with(place)).map_or(&[][..], |(_, kinds, _)| kinds);
        if !shown.starts_with("blobs/trainingdata/") {
            holds_none("a file's name", &shown, &[]);
        }
        holds_none(&shown, fs::read(&path).unwrap(), kept);
    }
}
