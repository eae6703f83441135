//! Files in the drop zone that are packed, or that hold something else than rows.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use flate2::{Compression, write::GzEncoder};
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::support::{Host, Records, generate, hdai};

fn gzip(file: &Path, into: PathBuf) -> PathBuf {
    let mut encoder = GzEncoder::new(File::create(&into).unwrap(), Compression::default());
    encoder.write_all(&fs::read(file).unwrap()).unwrap();
    encoder.finish().unwrap();
    into
}

fn zip(files: &[&Path], into: PathBuf) -> PathBuf {
    let mut writer = ZipWriter::new(File::create(&into).unwrap());
    for file in files {
        writer.start_file(file.file_name().unwrap().to_string_lossy(), SimpleFileOptions::default()).unwrap();
        writer.write_all(&fs::read(file).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    into
}

fn import(folder: &Path, file: &Path) -> Output {
    hdai(folder).arg("import").arg(file).output().unwrap()
}

#[test]
fn a_packed_file_leaves_the_record_that_the_plain_one_leaves() {
    let files = tempfile::tempdir().unwrap();
    let plain = generate(files.path(), 9_000, 5);
    let packed = [
        gzip(&plain, files.path().join("a.csv.gz")),
        zip(&[&plain], files.path().join("a.zip")),
        gzip(&plain, files.path().join("no-ending")),
    ];
    let records = |file: &Path| {
        let folder = tempfile::tempdir().unwrap();
        let output = import(folder.path(), file);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        Records::read(folder.path()).patients_without_import()
    };
    let expected = records(&plain);
    assert_eq!(expected.len(), 9_000);
    for file in &packed {
        assert!(records(file) == expected, "{}", file.display());
    }
}

#[test]
fn a_file_that_is_cut_off_or_holds_something_else_fails_once_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let plain = generate(folder.path(), 3_000, 6);
    let whole = fs::read(gzip(&plain, folder.path().join("whole.gz"))).unwrap();
    let other = generate(folder.path(), 10, 7);
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("cut.gz", whole[..whole.len() / 2].to_vec(), "damaged or cut off"),
        ("two.zip", fs::read(zip(&[&plain, &other], folder.path().join("two"))).unwrap(), "several files"),
        ("bundle.json", b"{\"resourceType\":\"Bundle\"}".to_vec(), "a FHIR resource"),
        ("resources.ndjson", b"{\"resourceType\":\"Patient\"}\n{\"resourceType\":\"Patient\"}\n".to_vec(), "FHIR resources"),
        ("batch.hl7", b"FHS|^~\\&|\rBHS|\rMSH|^~\\&|\r".to_vec(), "HL7 v2 messages"),
    ];
    for (name, bytes, words) in cases {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let output = import(folder.path(), &file);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() && said.contains("failed:") && said.contains(words), "{name}: {said}");
    }
}

#[test]
fn a_packed_file_may_be_dropped_into_the_container() {
    let folder = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let packed = gzip(&generate(files.path(), 500, 8), files.path().join("drop.csv.gz"));
    let host = Host::start(folder.path(), &[]);
    host.drop_file(&packed, "drop.csv.gz");
    let import = host.await_import("drop.csv.gz");
    assert_eq!((import["state"].as_str(), import["rows"]["stored"].as_u64()), (Some("done"), Some(500)), "{import}");
}
