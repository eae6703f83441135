//! The layers of the house (`ARCHITECTURE.md`), and that a clinical feature is named in one place.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use health_data_ai::schema::FEATURES;

/// Who may know whom: a room, and the rooms it may name.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("schema", &[]),
    ("domain", &["schema"]),
    ("codec", &["domain", "schema", "error"]),
    ("predict", &["domain", "schema", "error"]),
    ("synthetic", &["domain", "schema", "error"]),
    ("config", &["domain", "error"]),
    ("telemetry", &["error"]),
    ("azure", &["error", "config"]),
    ("blob", &["domain", "schema", "error", "config", "azure"]),
    ("store", &["domain", "schema", "error", "config", "azure"]),
    ("topic", &["error", "config", "azure"]),
    ("workflow", &["codec", "predict", "store", "blob", "topic", "domain", "schema", "error", "config"]),
    ("server", &[]),
    ("sign_in", &["domain", "error", "config"]),
    ("http", &["workflow", "server", "sign_in", "store", "codec", "domain", "schema", "error", "config", "telemetry"]),
    ("host", &["codec", "config", "server", "error", "blob"]),
    (
        "cli",
        &[
            "host",
            "http",
            "sign_in",
            "workflow",
            "store",
            "blob",
            "topic",
            "codec",
            "predict",
            "synthetic",
            "azure",
            "domain",
            "schema",
            "error",
            "config",
            "telemetry",
        ],
    ),
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&src).unwrap();
            let room = relative.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            (room, path, text)
        })
        .collect()
}

/// The rooms that `text` names with `crate::room`, also in `use crate::{a, b}`.
fn named_rooms(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (index, _) in text.match_indices("crate::") {
        let rest = &text[index + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').map(str::trim).collect::<Vec<_>>(),
            None => vec![rest],
        };
        for item in list {
            let room: String = item.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if MAY_KNOW.iter().any(|(known, _)| *known == room) {
                rooms.push(room);
            }
        }
    }
    rooms
}

#[test]
fn rooms_know_only_whom_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_KNOW.iter().copied().collect();
    let mut seen = 0;
    for (room, path, text) in all_sources() {
        if room == "main" || room == "lib" {
            continue;
        }
        let may =
            allowed.get(room.as_str()).unwrap_or_else(|| panic!("{} is in a room that MAY_KNOW does not list", path.display()));
        for named in named_rooms(&text) {
            seen += 1;
            assert!(named == room || may.contains(&named.as_str()), "{}: {room} must not know {named}", path.display());
        }
    }
    assert!(seen > 100, "the test has stopped seeing anything");
}

#[test]
fn pure_rooms_do_no_io_and_read_no_clock() {
    for (room, path, text) in all_sources() {
        if !["schema", "domain", "codec", "predict", "synthetic"].contains(&room.as_str()) {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for forbidden in [
            "tokio",
            "std::fs",
            "std::env",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "Utc::now",
            "SystemTime",
            "Instant::now",
            "thread_rng",
            "rand::rng",
        ] {
            assert!(!code.contains(forbidden), "{}: a pure room must not use {forbidden}", path.display());
        }
    }
}

#[test]
fn a_feature_is_named_as_text_in_the_schema_only() {
    for (room, path, text) in all_sources() {
        if room == "schema" {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for spec in &FEATURES {
            for quoted in [format!("\"{}\"", spec.name), format!(" {} ", spec.name), format!("`{}`", spec.name)] {
                let in_code = code
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .any(|line| line.contains(&quoted) && line.contains('"'));
                assert!(!in_code, "{}: {quoted} is named outside schema.rs", path.display());
            }
            if let Some(code_of) = spec.code {
                assert!(
                    !code.contains(&format!("\"{}\"", code_of.code)),
                    "{}: {} is coded outside schema.rs",
                    path.display(),
                    spec.name
                );
            }
        }
    }
}

#[test]
fn no_source_file_is_over_500_lines() {
    for (_, path, text) in all_sources() {
        assert!(text.lines().count() <= 500, "{} has {} lines", path.display(), text.lines().count());
    }
}

#[test]
fn every_room_is_on_the_map() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    for (room, _) in MAY_KNOW {
        assert!(map.contains(&format!("`{room}`")), "ARCHITECTURE.md does not name the room {room}");
    }
}
