//! Inputs with planted values in every place: files, messages, envelopes, queries and headers.

use std::io::Write as _;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use zip::write::{SimpleFileOptions, ZipWriter};

use super::planted::{DAY, END, FILE, FIRST, ID, LAST, MIDDLE, MRN, ODD, TEXT, everything};
use crate::main_job::blueprint_admission;
use crate::support::generate;

/// Files for the drop zone: a name, and the bytes.
pub(super) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let good = std::fs::read_to_string(generate(folder, 60, 9)).unwrap();
    let header: Vec<&str> = good.lines().next().unwrap().split(',').collect();
    let at = |column: &str| header.iter().position(|name| *name == column).unwrap();
    let rows = |change: &dyn Fn(usize, &mut Vec<String>)| {
        let mut lines = vec![header.join(",")];
        for (index, line) in good.lines().skip(1).enumerate() {
            let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
            for (cell, name) in cells.iter_mut().zip([FIRST, MIDDLE, LAST]) {
                *cell = name.to_owned();
            }
            change(index, &mut cells);
            lines.push(cells.join(","));
        }
        lines.join("\n").into_bytes()
    };
    let sound = rows(&|index, cells| {
        if index == 0 {
            (cells[at("eid")], cells[at("vdate")]) = ((ID + 1).to_string(), "3/7/1931".to_owned());
            (cells[at("discharged")], cells[at("lengthofstay")]) = ("3/19/1931".to_owned(), "12".to_owned());
        }
    });
    // Each column in turn holds what it cannot.
    let broken = rows(&|index, cells| {
        let wrong = [TEXT, ODD, DAY, "19310307", "918,273,645", MRN, "03/07/1931"][index % 7];
        let column = index % (cells.len() - 3) + 3;
        cells[column] = format!("{wrong}{}", if column == at("vdate") { "" } else { TEXT });
    });
    let mut torn = sound.clone();
    torn.truncate(sound.len() - 40);
    torn.extend_from_slice(format!("\n\"{FIRST},{LAST},{TEXT}").as_bytes());
    let mut packed = GzBuilder::new().filename(format!("{FILE}-inside.csv")).comment(TEXT).write(Vec::new(), Compression::fast());
    packed.write_all(&broken).unwrap();
    let packed = packed.finish().unwrap();
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in [format!("{FILE}-{FIRST}.csv"), format!("{FILE}-{LAST}.csv")] {
        archive.start_file(name, SimpleFileOptions::default()).unwrap();
        archive.write_all(&sound).unwrap();
    }
    let archive = archive.finish().unwrap().into_inner();
    let no_header = sound.split(|byte| *byte == b'\n').skip(1).collect::<Vec<_>>().join(&b'\n');
    let half = packed[..packed.len() / 2].to_vec();
    [
        ("sound", "csv", sound),
        ("broken", "csv", broken),
        ("torn", "csv", torn),
        ("no-header", "csv", no_header),
        ("packed", "csv.gz", packed),
        ("half", "csv.gz", half),
        ("two", "zip", archive),
        ("free-text", "csv", everything().into_bytes()),
        ("bytes", "csv", [everything().as_bytes(), &[0xff, 0xfe, 0]].concat()),
    ]
    .map(|(what, ending, bytes)| (format!("{FILE}-{what}.{ending}"), bytes))
    .into()
}

/// An admission that is in order, in the blueprint's shape.
pub(super) fn admission() -> Value {
    let mut message = blueprint_admission(ID);
    message["patient"]["name"] = json!([{ "family": LAST, "given": [FIRST, MIDDLE], "text": TEXT }]);
    message["patient"]["identifier"] = json!([{ "value": MRN }]);
    message["patient"]["birthDate"] = json!(DAY);
    message["encounter"]["period"]["start"] = json!(DAY);
    message
}

/// The discharge of it.
pub(super) fn discharge() -> Value {
    json!({ "patient": { "id": MRN, "name": [{ "family": LAST }] },
        "encounter": { "resourceType": "Encounter", "id": ID, "period": { "start": DAY, "end": END }, "text": TEXT } })
}

/// The admission as a FHIR Bundle.
fn bundle() -> Value {
    let message = admission();
    let resources = [message["patient"].clone(), message["encounter"].clone()];
    let rest = ["observations", "conditions"].map(|part| message[part].as_array().cloned().unwrap_or_default()).concat();
    let entries: Vec<Value> = resources.into_iter().chain(rest).map(|resource| json!({ "resource": resource })).collect();
    json!({ "resourceType": "Bundle", "type": "transaction", "id": MRN, "entry": entries })
}

/// Messages of which each is wrong in one place, and bodies that are none.
pub(super) fn wrong_messages() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for message in [admission(), bundle(), discharge()] {
        for place in places(&message, String::new()) {
            for value in [json!(everything()), json!(ID), json!({ TEXT: FIRST }), json!([LAST]), json!(DAY)] {
                let mut wrong = message.clone();
                *wrong.pointer_mut(&place).unwrap() = value;
                bodies.push(wrong.to_string().into_bytes());
            }
        }
        let whole = message.to_string();
        bodies.push(whole.as_bytes()[..whole.len() / 2].to_vec());
    }
    bodies.push(everything().into_bytes());
    bodies.push(format!("{{\"{FIRST}\": {{\"{MRN}\": ").into_bytes());
    bodies.push(format!("{{\"patient\": {FIRST}}}").into_bytes());
    bodies.push([everything().as_bytes(), &[0xff, 0]].concat());
    bodies.push(json!({ "resourceType": TEXT, "patient": FIRST, "encounter": DAY }).to_string().into_bytes());
    bodies
}

/// The pointers to every value of `message` above a depth at which only repetitions come.
fn places(message: &Value, at: String) -> Vec<String> {
    let below: Vec<(String, &Value)> = match message {
        Value::Object(members) => members.iter().map(|(name, value)| (format!("{at}/{name}"), value)).collect(),
        // The first two: the others are like them.
        Value::Array(items) => items.iter().take(2).enumerate().map(|(index, value)| (format!("{at}/{index}"), value)).collect(),
        _ => Vec::new(),
    };
    below.into_iter().flat_map(|(place, value)| [vec![place.clone()], places(value, place)].concat()).collect()
}

/// Deliveries of every kind, right and wrong; the trigger they are for does not matter: each goes to all.
pub(super) fn envelopes(account: &str) -> Vec<Value> {
    let url = |container: &str, name: &str| format!("{account}/{container}/{name}");
    let event = |url: &str, kind: &str| {
        json!({ "id": MRN, "eventType": kind, "topic": TEXT, "subject": format!("/blobServices/default/containers/trainingdata/blobs/{FILE}.csv"),
            "data": { "api": "PutBlob", "url": url, "eTag": TOKEN_TAG, "contentLength": 10, "note": TEXT } })
    };
    let created = "Microsoft.Storage.BlobCreated";
    let mut values = vec![
        json!(everything()),
        json!({ TEXT: everything() }),
        json!([everything()]),
        event(&url("trainingdata", &format!("{FILE}.csv")), created),
        event(&url("elsewhere", &format!("{FILE}-{FIRST}.csv")), created),
        event(&url("trainingdata", &format!("{FILE}.csv?sig={TEXT}")), TEXT),
        event(&everything(), created),
        json!([event(TEXT, created), everything(), { "specversion": "1.0", "type": created, "source": FILE, "data": { "url": FIRST } }]),
        json!({ "url": url("trainingdata", &format!("{FILE}-gone.csv")) }),
        json!({ "url": url("elsewhere", &format!("{FILE}.csv")) }),
        json!({ "url": everything() }),
        json!({ "importId": TEXT, "part": ID }),
        json!({ "importId": "0123456789abcdef0123456789abcdef", "part": 3, "note": everything() }),
        json!({ "dataChanged": DAY, "note": TEXT }),
    ];
    values.extend([("GET", "imports"), ("POST", "PatientAdmissionFunc"), ("DELETE", TEXT)].map(|(method, path)| {
        json!({ "Url": format!("http://h/api/{path}/{FIRST}?{TEXT}={DAY}"), "Method": method, "Query": { TEXT: MRN },
                "Headers": { "authorization": [format!("Bearer {}", super::planted::TOKEN)], "x-note": [everything()],
                    "x-azure-functions-invocationid": [super::planted::MRN] },
                "Body": format!("{{\"{TEXT}\": ") })
    }));
    let mut envelopes = vec![json!({ "Data": everything() }), json!({ TEXT: everything() }), json!(everything())];
    for value in values {
        for binding in ["blob", "item", "event", "req", "timer", TEXT] {
            let metadata = json!({ "Uri": json!(url("trainingdata", &format!("{FILE}-gone.csv"))).to_string(), "name": json!(FILE).to_string(),
                "DequeueCount": "1", "note": everything() });
            envelopes.push(json!({ "Data": { binding: value }, "Metadata": metadata }));
            envelopes.push(json!({ "Data": { binding: Value::String(value.to_string()).to_string() }, "Metadata": metadata }));
        }
    }
    envelopes
}

const TOKEN_TAG: &str = super::planted::TOKEN;
