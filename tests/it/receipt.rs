//! Receipts through the command line and the local host: signed, verified, and found out when they were altered.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Host, generate, hdai};

/// A folder with a generated file imported, the file, and its receipt.
fn imported() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = generate(folder.path(), 50, 1);
    assert!(hdai(folder.path()).arg("import").arg(&data).status().unwrap().success());
    let receipts = fs::read_dir(folder.path().join("blobs/trainingdata-receipts")).unwrap();
    let receipt = receipts.map(|entry| entry.unwrap().path()).find(|path| path.extension().is_some_and(|e| e == "json")).unwrap();
    (folder, data, receipt)
}

fn verify(folder: &Path, args: &[&Path]) -> Output {
    hdai(folder).args(["receipt", "verify"]).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_receipt_is_genuine_until_it_is_altered() {
    let (folder, data, receipt) = imported();
    let genuine = verify(folder.path(), &[&receipt, Path::new("--data"), &data]);
    assert!(
        genuine.status.success() && said(&genuine).contains("50 rows read, 0 rejected, of this very data file"),
        "{}",
        said(&genuine)
    );

    let text = fs::read_to_string(&receipt).unwrap();
    let altered = folder.path().join("altered.json");
    fs::write(&altered, text.replacen("\"read\": 50", "\"read\": 51", 1)).unwrap();
    let found = verify(folder.path(), &[&receipt, &altered]);
    assert_eq!(found.status.code(), Some(1));
    assert!(said(&found).contains("altered.json: NOT genuine") && said(&found).contains("altered after"), "{}", said(&found));
    assert_eq!(said(&found).matches(": genuine").count(), 1, "the other one still is");

    fs::write(&data, fs::read_to_string(&data).unwrap() + "\n").unwrap();
    let other = verify(folder.path(), &[&receipt, Path::new("--data"), &data]);
    assert!(!other.status.success() && said(&other).contains("another content"), "{}", said(&other));
}

#[test]
fn the_key_is_its_owners_alone_and_another_folders_key_verifies_nothing() {
    let (folder, _, receipt) = imported();
    let key = folder.path().join("receipt.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let (other, _, _) = imported();
    let found = verify(other.path(), &[&receipt]);
    assert!(!found.status.success() && said(&found).contains("another key"), "{}", said(&found));
    assert!(!said(&found).contains(fs::read_to_string(key).unwrap().trim()));
    let empty = tempfile::tempdir().unwrap();
    let none = verify(empty.path(), &[&receipt]);
    assert!(!none.status.success() && said(&none).contains("HDAI_RECEIPT_KEY"), "{}", said(&none));
    assert!(!empty.path().join("receipt.key").exists(), "checking makes no key");
}

#[test]
fn a_key_in_the_settings_is_used_and_a_bad_one_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = generate(folder.path(), 20, 1);
    let with = |key: &str, args: &[&str]| hdai(folder.path()).env("HDAI_RECEIPT_KEY", key).args(args).output().unwrap();
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    assert!(with(key, &["import", data.to_str().unwrap()]).status.success());
    assert!(!folder.path().join("receipt.key").exists());
    let bad = with("c2hvcnQ=", &["import", data.to_str().unwrap()]);
    assert!(!bad.status.success() && said(&bad).contains("32 bytes") && !said(&bad).contains("c2hvcnQ"), "{}", said(&bad));
    let reference = with("@Microsoft.KeyVault(SecretUri=https://v/secrets/s)", &["import", data.to_str().unwrap()]);
    assert!(!reference.status.success() && said(&reference).contains("HDAI_RECEIPT_KEY"), "{}", said(&reference));
}

#[test]
fn processes_that_start_together_make_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let start = || hdai(folder.path()).arg("facilities").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    for mut child in (0..8).map(|_| start()).collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    let files: Vec<String> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(files.iter().filter(|name| name.starts_with("receipt.")).collect::<Vec<_>>(), ["receipt.key"], "{files:?}");
}

#[test]
fn the_api_answers_the_receipt_that_lies_beside_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(folder.path(), &[]);
    let data = generate(folder.path(), 30, 2);
    host.drop_file(&data, "drop.csv");
    let import = host.await_import("drop.csv");
    let id = import["importId"].as_str().unwrap();
    let (status, answered) = host.get(&format!("/api/imports/{id}"));
    assert_eq!(status, 200);
    let written = host.folder.join(format!("blobs/trainingdata-receipts/{id}.receipt.json"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !written.exists() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let written: Value = serde_json::from_slice(&fs::read(&written).unwrap()).unwrap();
    assert_eq!(answered, written);
    assert!(answered["durationMilliseconds"].as_u64().is_some() && answered["signature"]["keyId"].as_str().is_some());
    // Thirty rows behind the header.
    assert_eq!((&answered["firstLine"], &answered["lastLine"]), (&json!(2), &json!(31)));
    let (_, described) = host.get("/api/openapi.json");
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&described["components"]["schemas"]["Receipt"]["properties"]), members(&answered));
    let file = folder.path().join("answered.json");
    fs::write(&file, answered.to_string()).unwrap();
    assert!(verify(&host.folder, &[&file]).status.success());
}

#[test]
fn instances_of_a_shared_account_are_told_to_share_their_key() {
    let folder = tempfile::tempdir().unwrap();
    let warned = |key: &str| {
        let mut command = hdai(folder.path());
        command.env("HDAI_BLOB_STORE", "azure").env("HDAI_RECEIPT_KEY", key).arg("facilities");
        said(&command.output().unwrap()).contains("HDAI_RECEIPT_KEY")
    };
    assert!(warned("") && !warned("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="));
    let local = hdai(folder.path()).arg("facilities").output().unwrap();
    assert!(local.status.success() && !said(&local).contains("HDAI_RECEIPT_KEY"), "{}", said(&local));
}
