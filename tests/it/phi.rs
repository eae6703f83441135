//! No type shows a personal value by accident, and whoever reveals one is on a list: by the compiler where it can, else by a walk over the
//! syntax of `src`.

mod walk;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use health_data_ai::domain::{Clinical, Encounter, EncounterId, Gender, PersonName, Phi};
use health_data_ai::store::Stored;

use walk::{Finding, walk};

/// Fails to compile if one of the types has the trait: then two impls of `Absent` fit.
macro_rules! never {
    ($absent:ident, $bound:path: $($kind:ty),+) => {
        const _: () = {
            trait $absent<A> {
                fn holds() {}
            }
            impl<T: ?Sized> $absent<()> for T {}
            struct Present;
            impl<T: ?Sized + $bound> $absent<Present> for T {}
            $(let _ = <$kind as $absent<_>>::holds;)+
        };
    };
}

never!(NoDisplay, std::fmt::Display: Phi<String>, Phi<chrono::NaiveDate>, EncounterId, Gender, Clinical, PersonName, Encounter, Stored);
never!(NoSerialize, serde::Serialize: Phi<String>, Phi<chrono::NaiveDate>, EncounterId, Gender, Clinical, PersonName, Encounter, Stored);
never!(NoDeref, std::ops::Deref: Phi<String>, EncounterId, Gender, Clinical, PersonName);

/// The files that may reveal a personal value, or a secret (`config::Secret` uses the same word), and why. In an answer, in the record, in a
/// file that is asked for; never in words of a log or an error.
const REVEALERS: &[(&str, &str)] = &[
    ("azure/access.rs", "a secret: the signature of an address, to the storage account"),
    ("cli/break_glass.rs", "the text that was typed, for whoever reviews on the machine that holds the record"),
    ("cli/demo/steps.rs", "the demo's own synthetic patients"),
    ("cli/doctor/azure.rs", "a secret: who a token is of, which the report says"),
    ("cli/receipt.rs", "a secret: the key that signs"),
    ("cli/rows.rs", "a secret: the key of the pseudonyms"),
    ("codec/csv/writer.rs", "the CSV of synthetic encounters"),
    ("codec/fhir/encode.rs", "messages of synthetic encounters"),
    ("codec/fhir/patients.rs", "the answer to whoever may see the patient"),
    ("codec/fhir/reply.rs", "the answer to whoever admitted or discharged the patient"),
    ("config/sign_in.rs", "a secret: does the connection lead off this machine"),
    ("domain/encounter.rs", "the length of a stay"),
    ("domain/patient.rs", "a whole name from its parts, wrapped again"),
    ("domain/rows.rs", "the year of admission, and whether days lie before the quarter: all that is told of them"),
    ("http/access.rs", "the caller's own name to the caller, and the typed text to the auditor"),
    ("http/patients.rs", "the answer to whoever may see the patient"),
    ("predict/features.rs", "the day of admission orders the rows of a training"),
    ("store/azure_sql/access.rs", "parameters of statements: sealed texts"),
    ("store/azure_sql/connect.rs", "a secret: the login"),
    ("store/azure_sql/datakeys.rs", "parameters of statements: sealed names"),
    ("store/azure_sql/encounters.rs", "parameters of statements"),
    ("store/azure_sql/options/mod.rs", "a secret: the connection string is taken apart"),
    ("store/columns.rs", "parameters of statements"),
    ("store/rules.rs", "comparisons"),
    ("store/sealed/access.rs", "texts are encrypted and opened"),
    ("store/sealed/mod.rs", "names are encrypted and opened"),
    ("store/sealed/rotation.rs", "texts are opened and encrypted anew"),
    ("store/sqlite/access.rs", "parameters of statements: sealed texts"),
    ("store/sqlite/datakeys.rs", "parameters of statements: sealed names"),
    ("store/sqlite/imports.rs", "parameters of statements"),
    ("topic.rs", "a secret: what signs a call to the topic"),
    ("workflow/admit.rs", "a comparison with today"),
    ("workflow/break_glass.rs", "the length of a text, and its blanks"),
    ("workflow/migrate_data/compare.rs", "comparisons of two records"),
];

/// What is found and right all the same: where, what, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("topic.rs", "format! says a revealed value", "the header of a call, marked sensitive"),
    ("cli/doctor/azure.rs", "format! says a revealed value", "the claims of a token that say who the program is, not the token"),
    ("cli/generate.rs", "Args derives Debug", "the day that synthetic patients are admitted on"),
    ("codec/envelope/reply.rs", "Reply derives Serialize", "it is the answer to the host"),
    ("codec/blob_url.rs", "BlobUrl derives Serialize", "an address, for queues and events"),
    ("codec/blob_url.rs", "BlobUrl has its own Display", "an address, for queues and events"),
    ("host/event_source.rs", "Pending derives Serialize", "a message of the local host's own queue"),
    ("cli/break_glass.rs", "say! says a revealed value", "the answer to whoever reviews: the text that was typed"),
    ("store/reads.rs", "PatientQuery derives Debug", "what a caller asks for; the id in it redacts itself"),
    ("store/azure_sql/options/mod.rs", "Login has its own Debug", "its `Identity` is the program's own, of the room azure"),
    ("store/azure_sql/options/mod.rs", "Options has its own Debug", "as its login"),
    ("workflow/audit/checkpoint.rs", "Checkpoint derives Debug", "hashes, numbers and names of ours"),
    ("workflow/audit.rs", "Scope derives Debug", "checkpoints, which hold hashes alone"),
];

/// Types that hold personal values and write their own `Debug`, and what it leaves out.
const REDACTED: &[(&str, &str, &str)] = &[
    ("domain/patient.rs", "Phi", "the value"),
    ("domain/patient.rs", "Gender", "which"),
    ("domain/encounter.rs", "EncounterId", "the number"),
    ("domain/encounter.rs", "Clinical", "the values; how many are known is said"),
    ("domain/encounter.rs", "Encounter", "all but the facility"),
    ("codec/envelope/invocation.rs", "Invocation", "the bindings' values"),
    ("codec/envelope/reply.rs", "Reply", "the outputs' values"),
    ("codec/event_grid.rs", "Event", "subject and data"),
    ("codec/fhir/discharge.rs", "Discharge", "the encounter and its day"),
    ("codec/blob_url.rs", "BlobUrl", "the file's name"),
    ("domain/import.rs", "Source", "the file's name"),
    ("domain/audit.rs", "AuditRow", "the encounter's id"),
];

fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn no_type_shows_a_personal_value_and_whoever_reveals_one_is_listed() {
    let sources = sources();
    assert!(sources.len() > 200, "the test has stopped seeing anything");
    let found = walk(&sources);
    let revealing = REVEALERS.iter().map(|(file, _)| Finding { file: (*file).into(), what: "reveals".into() });
    let redacted =
        REDACTED.iter().map(|(file, name, _)| Finding { file: (*file).into(), what: format!("{name} has its own Debug") });
    let exceptions = EXCEPTIONS.iter().map(|(file, what, _)| Finding { file: (*file).into(), what: (*what).into() });
    let listed: BTreeSet<Finding> = revealing.chain(redacted).chain(exceptions).collect();
    let unlisted: Vec<_> = found.difference(&listed).collect();
    assert!(unlisted.is_empty(), "wrap the value, or list the file here with a reason: {unlisted:#?}");
    let stale: Vec<_> = listed.difference(&found).collect();
    assert!(stale.is_empty(), "listed, and no longer so: {stale:#?}");
}

#[test]
fn a_planted_leak_is_found() {
    let planted = [
        ("codec/a.rs", "#[derive(Debug)] pub struct Message<'a> { tree: &'a serde_json::Value }", "Message derives Debug"),
        (
            "store/a.rs",
            "#[derive(Serialize)] struct Row { inner: Option<Inner> } struct Inner(Phi<String>);",
            "Row derives Serialize",
        ),
        ("domain/a.rs", "#[derive(Debug)] struct Stay { admitted: NaiveDate }", "Stay derives Debug"),
        ("store/a.rs", "#[derive(Debug)] struct Left { id: EncounterId, on: NaiveDate }", "Left derives Debug"),
        ("store/a.rs", "struct Held { id: EncounterId } impl std::fmt::Display for Held {}", "Held has its own Display"),
        ("store/a.rs", "struct Held { id: EncounterId } impl fmt::Debug for Held {}", "Held has its own Debug"),
        ("blob/a.rs", "#[derive(Debug)] struct Place { container: String, name: String }", "Place derives Debug"),
        ("domain/a.rs", "impl<T> std::ops::Deref for Phi<T> {}", "Phi has its own Deref"),
        ("http/a.rs", "fn f() { tracing::info!(name = name.reveal(), \"x\"); }", "info! says a revealed value"),
        (
            "http/a.rs",
            "fn f() { let day = stay.admitted.reveal(); let day2 = day; let t = format!(\"{day2}\"); }",
            "format! says a revealed value",
        ),
        (
            "http/a.rs",
            "impl A { fn f(&self) { let (a, b) = (self.x.reveal(), 1); Error::invalid(a.clone()) } }",
            "Error::invalid says a revealed value",
        ),
        ("http/a.rs", "fn f() { let n = n.reveal(); event.detail(n) }", ".detail() says a revealed value"),
        ("store/a.rs", "fn f() { tracing::error!(encounter = id.get(), %error, \"x\"); }", "error! says an id"),
        ("store/a.rs", "fn f() { Error::internal(format!(\"of {}\", id.get())) }", "Error::internal says an id"),
        ("http/a.rs", "fn f() { Some(n).map(Phi::reveal) }", "reveals"),
        ("http/a.rs", "fn f() { json!({ \"name\": n.reveal() }) }", "reveals"),
    ];
    for (file, text, what) in planted {
        let found = walk(&[(file.to_owned(), text.to_owned())]);
        assert!(found.contains(&Finding { file: file.into(), what: what.into() }), "{text}: {found:?}");
    }
    let clean = "#[derive(Debug)] struct Stay { id: EncounterId, admitted: Phi<NaiveDate> }
        fn f() { let days = 3; tracing::info!(days, \"said\"); } #[cfg(test)] mod tests { fn f() { format!(\"{}\", n.reveal()); } }";
    assert_eq!(walk(&[("store/a.rs".to_owned(), clean.to_owned())]), BTreeSet::new());
}

#[test]
fn what_is_printed_of_a_patient_holds_no_value() {
    let id = EncounterId::new(918_273_645).unwrap();
    let day = chrono::NaiveDate::from_ymd_opt(1931, 3, 7).unwrap();
    let mut encounter = health_data_ai::synthetic::admission(1, id, day);
    encounter.name = PersonName::new("Zebulonqx", "Quixotedv", "Wyvernjk");
    encounter.discharged = Phi::new(Some(day));
    let stored = Stored { encounter, prediction: None };
    let text = format!(
        "{stored:?} {stored:#?} {id:?} {:?} {:?} {:?}",
        stored.encounter.gender, stored.encounter.clinical, stored.encounter.admitted
    );
    for value in ["Zebulonqx", "Quixotedv", "Wyvernjk", "918273645", "1931", "Female", "Male"] {
        assert!(!text.contains(value), "{value}: {text}");
    }
}
