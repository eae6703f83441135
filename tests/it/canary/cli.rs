//! The command line with planted files. What a person asked for goes to standard output; nothing but the file's name to standard error.

use std::fs;
use std::process::Output;

use super::inputs::{admission, discharge, files, wrong_messages};
use super::planted::{FILE, Kind, everything, holds_none};
use crate::support::hdai;

/// Commands, whether they succeed, and what they may print on standard output: it is the answer to the person who named the file.
const COMMANDS: &[(&[&str], &[Kind])] = &[
    (&["import", "{sound}"], &[Kind::File]),
    (&["import", "{broken}"], &[Kind::File]),
    (&["import", "{torn}", "{no-header}", "{packed}", "{half}", "{two}", "{free-text}", "{bytes}"], &[Kind::File]),
    (&["imports", "replay", "--dry-run"], &[Kind::File]),
    (&["admit", "{admission}"], &[Kind::Name, Kind::Id, Kind::Day, Kind::File]),
    (&["discharge", "{discharge}"], &[Kind::Name, Kind::Id, Kind::Day, Kind::File]),
    (&["admit", "{message}"], &[Kind::File]),
    (&["discharge", "{message}"], &[Kind::File]),
    (&["admit", "{free-text}"], &[Kind::File]),
    (&["facilities", "{sound}"], &[Kind::File]),
    (&["facilities", "{free-text}"], &[Kind::File]),
    (&["train"], &[]),
    (&["model", "list"], &[]),
    (&["model", "card"], &[]),
    (&["predict", "--data", "{sound}"], &[Kind::Id]),
    (&["predict", "--data", "{broken}"], &[]),
    (&["predict", "--data", "{free-text}"], &[]),
    (&["predict", "--backfill"], &[]),
    (&["evaluate", "--data", "{sound}"], &[]),
    (&["evaluate", "--data", "{free-text}"], &[]),
    (&["receipt", "verify", "{free-text}"], &[Kind::File]),
    (&["experiment", "run", "{free-text}", "--data", "{sound}"], &[Kind::File]),
    (&["migrate-data", "--from", "{free-text}"], &[Kind::File]),
    (&["migrate-data", "--from", "{sound}", "--dry-run"], &[Kind::File]),
    (&["audit", "verify"], &[]),
    (&["audit", "who", "918273645"], &[Kind::Id]),
    (&["audit", "export"], &[Kind::Id]),
    (&["anomalies"], &[]),
    (&["keys", "list"], &[]),
    (&["keys", "rotate"], &[]),
    (&["schema"], &[]),
    (&["doctor"], &[]),
];

#[test]
fn nothing_planted_leaves_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut named: Vec<(String, Vec<u8>)> = files(folder.path());
    named.push((format!("{FILE}-admission.json"), admission().to_string().into_bytes()));
    named.push((format!("{FILE}-discharge.json"), discharge().to_string().into_bytes()));
    let mut places = Vec::new();
    for (name, bytes) in &named {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let what = name.trim_start_matches(FILE).trim_start_matches('-').split('.').next().unwrap();
        places.push((format!("{{{what}}}"), path.to_str().unwrap().to_owned()));
    }
    let message = folder.path().join(format!("{FILE}-message.json"));
    places.push(("{message}".into(), message.to_str().unwrap().to_owned()));
    let run = |arguments: &[&str]| -> Output {
        let place = |argument: &&str| {
            places.iter().find(|(what, _)| what == argument).map_or((*argument).to_owned(), |(_, path)| path.clone())
        };
        hdai(&state).args(arguments.iter().map(place)).env("HDAI_LOG", "trace").env("RUST_LOG", "trace").output().unwrap()
    };
    // Some of each kind: a process for each would take minutes.
    let wrong = wrong_messages();
    let wrong = wrong.iter().step_by(wrong.len() / 8).chain(wrong.last());
    let mut ran = 0;
    for body in wrong {
        fs::write(&message, body).unwrap();
        for (arguments, shown) in COMMANDS.iter().filter(|(arguments, _)| arguments.contains(&"{message}")) {
            let output = run(arguments);
            let allowed = if output.status.success() { &[Kind::Name, Kind::Id, Kind::Day, Kind::File][..] } else { shown };
            check(arguments, &output, allowed);
        }
    }
    fs::write(&message, everything()).unwrap();
    for (arguments, shown) in COMMANDS {
        let output = run(arguments);
        assert_ne!(output.status.code(), Some(2), "{arguments:?} cannot be read: {}", String::from_utf8_lossy(&output.stderr));
        check(arguments, &output, shown);
        ran += usize::from(output.status.success());
    }
    assert!(ran >= 10, "{ran} of the commands succeeded");
}

fn check(arguments: &[&str], output: &Output, shown: &[Kind]) {
    holds_none(&format!("standard output of {arguments:?}"), &output.stdout, shown);
    // An error names the file that the person named.
    holds_none(&format!("standard error of {arguments:?}"), &output.stderr, &[Kind::File]);
}
