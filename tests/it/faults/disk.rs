//! The disk under the SQLite record is full.
//!
//! A file system of a few megabytes needs root and a mount. The limit on a file's size needs neither, and to SQLite it is the same: a write
//! that fails in the middle of a transaction. It is put on the handler's process alone, whose signal for it is ignored as no real full
//! disk sends one, and it is lifted while that process runs, as when somebody makes room.

#![cfg(target_os = "linux")]

use std::process::Command;

use super::*;
use crate::handler::serve;

/// `command` with `before` in front, in the same environment.
pub(super) fn under(before: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(before[0]);
    outer.args(&before[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

#[test]
fn a_full_disk_stops_an_import_whole_and_room_lets_it_go_on() {
    // From "not even the first batch" to "most of the file".
    for (number, megabytes) in [1, 4, 7, 11].into_iter().enumerate() {
        let site = Site::new(&format!("disk-{number}"));
        let content = spoilt(&file(ROWS, 1, 1), 100);
        site.drop_blob("a.csv", &content);
        let limit = format!("--fsize={}:", megabytes * 1024 * 1024);
        let state = site.state();
        let command = || under(&["env", "--ignore-signal=XFSZ", "prlimit", &limit], &serve(&state, &site.settings(&[])));
        let mut handler = Handler::launch(&state, command);
        let mut reached = 0;
        // Again and again: a disk stays full for a while.
        for _ in 0..3 {
            assert_eq!(handler.post(BLOB, site.call("a.csv").to_string().into_bytes()).status, 503, "{megabytes} MB");
            let entry = site.ledger(&site.record()).into_iter().next();
            let (checkpoint, stored) =
                entry.map_or((0, 0), |entry| (entry.checkpoint, entry.counts.stored + entry.counts.rejected));
            assert!(checkpoint >= reached && checkpoint < ROWS, "{megabytes} MB: {reached}, then {checkpoint}");
            reached = checkpoint;
            // Nothing half: what is counted is there, and nothing else.
            let rejected = site.ledger(&site.record()).first().map_or(0, |entry| entry.counts.rejected);
            assert_eq!((stored, handler.count("PatientData") as u64), (reached, reached - rejected), "{megabytes} MB");
            assert_eq!(handler.rows("PRAGMA integrity_check"), [["ok"]]);
        }
        handler.lives();
        let lifted = Command::new("prlimit").args(["--fsize=unlimited:", "--pid", &handler.child.id().to_string()]).status();
        assert!(lifted.unwrap().success());
        handler.done(BLOB, &site.call("a.csv"));
        site.holds(&[("a.csv", &content)]);
    }
}
