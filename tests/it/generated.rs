//! Files that the code generates are committed and held here; `UPDATE=1` rewrites them.

use std::fs;
use std::path::Path;

use crate::support::hdai;

fn hold(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is out of date: UPDATE=1 cargo test --release", path.display());
}

#[test]
fn the_sample_settings_are_the_settings() {
    hold("local.settings.sample.json", &health_data_ai::config::sample_settings());
}

#[test]
fn the_settings_page_is_the_settings() {
    let text = format!("# Settings\n\nGenerated from `src/config/settings.rs`.\n\n{}", health_data_ai::config::settings_table());
    hold("docs/settings.md", &text);
}

#[test]
fn the_data_dictionary_is_the_schema() {
    let folder = tempfile::tempdir().unwrap();
    let output = hdai(folder.path()).args(["schema", "--part", "dictionary"]).output().unwrap();
    assert!(output.status.success());
    hold("docs/data-dictionary.md", &String::from_utf8(output.stdout).unwrap());
}

#[test]
fn the_openapi_document_is_the_routes() {
    hold("docs/openapi.json", &format!("{:#}\n", health_data_ai::http::openapi_document()));
}

#[test]
fn the_roles_page_and_the_app_roles_are_the_table() {
    hold("docs/roles.md", &health_data_ai::http::roles_page());
    hold("infra/bicep/app-roles.json", &format!("{:#}\n", health_data_ai::http::app_roles_manifest()));
}

/// The messages in `sample-data/` are what the generator makes of seed 1.
#[test]
fn the_sample_messages_are_the_generators() {
    let folder = tempfile::tempdir().unwrap();
    for (what, kind, rows) in [("admissions", "admit", "10"), ("discharges", "discharge", "6")] {
        let out = folder.path().join(kind);
        let status = hdai(folder.path())
            .args(["generate", what, "--rows", rows, "--seed", "1", "--first-id", "100001", "--admitted", "2026-01-05", "--out"])
            .arg(&out)
            .status()
            .unwrap();
        assert!(status.success());
        for entry in fs::read_dir(out).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            hold(&format!("sample-data/{kind}/{name}"), &fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn completions_and_help_are_printed_and_usage_errors_exit_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let bash = hdai(folder.path()).args(["completions", "bash"]).output().unwrap();
    assert!(bash.status.success() && String::from_utf8_lossy(&bash.stdout).contains("hdai"));
    assert_eq!(hdai(folder.path()).output().unwrap().status.code(), Some(2));
    assert_eq!(hdai(folder.path()).arg("--no-such").output().unwrap().status.code(), Some(2));
    let help = hdai(folder.path()).arg("--help").output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes"));
    let refused = hdai(folder.path()).args(["import", "no-such-file.csv"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no-such-file.csv"));
}
