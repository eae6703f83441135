//! Ends that nobody planned: an interrupted demo, a killed host, a handler killed in the middle of an import.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::support::{Host, Records, generate, hdai};

/// The running processes that this one started.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| status(*pid).is_some_and(|(state, of)| of == parent && state != "Z")).collect()
}

/// A process's state and its parent's id.
fn status(pid: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, a closing bracket too.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// It has ended; whether anybody has asked how is its parent's matter.
fn is_gone(pid: u32) -> bool {
    status(pid).is_none_or(|(state, _)| state == "Z" || state == "X")
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn handler_of(host: u32) -> u32 {
    until("the handler", || children(host).first().copied())
}

/// A demo in a temporary folder below `temporary`.
fn demo(temporary: &Path, rows: &str) -> Child {
    let mut command = hdai(temporary);
    command.env_remove("HDAI_FOLDER").env("TMPDIR", temporary).args(["demo", "--rows", rows]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn interrupted(mut demo: Child, temporary: &Path) {
    let handler = handler_of(demo.id());
    signal("-INT", demo.id());
    let begun = Instant::now();
    let status: ExitStatus = loop {
        if let Some(status) = demo.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(30) {
            demo.kill().unwrap();
            panic!("the demo does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(1));
    assert!(is_gone(handler), "the handler is still there");
    assert_eq!(entries(temporary), Vec::<PathBuf>::new(), "something stays behind");
}

#[test]
fn a_demo_interrupted_while_it_generates_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    // Far more than is generated before the signal comes.
    let demo = demo(temporary.path(), "20000000");
    until("the file", || {
        let container = entries(temporary.path()).first()?.join("blobs/trainingdata");
        entries(&container).iter().any(|file| file.metadata().is_ok_and(|file| file.len() > 0)).then_some(())
    });
    interrupted(demo, temporary.path());
}

#[test]
fn a_demo_interrupted_while_it_imports_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let demo = demo(temporary.path(), "30000");
    until("the import", || {
        let database = entries(temporary.path()).first()?.join("hdai.db");
        let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let imports: u32 = database.query_row("SELECT count(*) FROM imports", [], |row| row.get(0)).ok()?;
        (imports > 0).then_some(())
    });
    interrupted(demo, temporary.path());
}

#[test]
fn a_killed_host_leaves_no_handler_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(&folder.path().join("state"), &[]);
    assert_eq!(host.get("/api/health").0, 200, "the handler is up");
    let handler = handler_of(host.pid());
    host.kill();
    until("the handler's end", || is_gone(handler).then_some(()));
}

/// Kills the handler while the import of `name` runs and has come as far as `checkpoint`; false if the import was over before.
fn kill_during_import(host: &Host, name: &str, checkpoint: u32) -> bool {
    let database = Connection::open(host.folder.join("hdai.db")).unwrap();
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "{name} is never imported");
        let seen = database.query_row("SELECT state, checkpoint FROM imports WHERE name = ?1", [name], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)?))
        });
        match seen {
            // Most of the file is still to come, so the handler dies at work.
            Ok((state, reached)) if state == "running" && reached >= checkpoint => {
                signal("-KILL", handler_of(host.pid()));
                return true;
            }
            Ok((state, _)) if state != "running" => return false,
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[test]
fn a_handler_killed_during_an_import_is_replaced_and_the_import_ends_once() {
    const ROWS: u32 = 250_000;
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(&folder.path().join("state"), &[]);
    let csv = generate(folder.path(), ROWS, 17);
    assert_eq!(host.get("/api/health").0, 200, "the record is there");
    let mut files = 0;
    // Two: a third fault would stop the host, as it stops the real one.
    for checkpoint in [0, 8_000] {
        let first = handler_of(host.pid());
        let name = (0..5)
            .map(|attempt| format!("{checkpoint}-{attempt}.csv"))
            .find(|name| {
                files += 1;
                host.drop_file(&csv, name);
                kill_during_import(&host, name, checkpoint)
            })
            .expect("no import was caught at work");
        let import = host.await_import(&name);
        assert_eq!(
            (&import["state"], &import["rows"]["read"], &import["rows"]["rejected"]),
            (&json!("done"), &json!(ROWS), &json!(0))
        );
        assert!(import["attempts"].as_u64().unwrap() >= 2, "{import}");
        assert!(is_gone(first) && handler_of(host.pid()) != first, "the handler was not replaced");
    }
    let records = Records::read(&host.folder);
    assert_eq!((records.patients.len(), records.imports.len()), (ROWS as usize, files));
}
