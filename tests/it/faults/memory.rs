//! A file of a million rows in a handler that may not have more than 256 MB.
//!
//! The limit is `RLIMIT_DATA`: all memory that is private and writable, used or not (`man setrlimit`; Linux 4.7 and later). What it refuses,
//! the allocator cannot give, and the process aborts. It needs no root, unlike a control group. `ulimit -v` would say little: it counts
//! addresses, and every thread reserves 64 MB of those for an arena that it never uses.

#![cfg(target_os = "linux")]

use super::*;
use crate::handler::serve;

const LIMIT_BYTES: u64 = 256 * 1024 * 1024;
const MILLION: u64 = 1_000_000;

#[test]
fn a_million_rows_are_imported_in_256_mb() {
    let site = Site::new("million");
    let content = spoilt(&file(MILLION, 1, 1), 10_000);
    site.drop_blob("million.csv", &content);
    let state = site.state();
    let limit = format!("--data={LIMIT_BYTES}:{LIMIT_BYTES}");
    let handler = Handler::launch(&state, || super::disk::under(&["prlimit", &limit], &serve(&state, &site.settings(&[]))));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", handler.child.id())).unwrap();
    let set = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
    assert_eq!(set.matches(&LIMIT_BYTES.to_string()).count(), 2, "the limit is not in force: {set}");
    handler.done(BLOB, &site.call("million.csv"));
    assert!(peak_bytes(handler.child.id()) < LIMIT_BYTES);
    drop(handler);
    site.holds(&[("million.csv", &content)]);
}
