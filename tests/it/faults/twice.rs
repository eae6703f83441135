//! One blob delivered to two handler processes over one record at the same time.

use std::sync::Arc;
use std::time::Duration;

use health_data_ai::azure::identity::Identity;
use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
use health_data_ai::store::azure_sql::AzureSql;

use super::*;
use crate::azurite::proxy::{Fate, Proxy};
use crate::handler::post_raw;
use crate::support::sealed;
use crate::tds::{Options, Server};

/// Delivers the same blob to both at nearly the same time; both must count it as done.
fn deliver_to_both(handlers: &[Handler; 2], call: &Value, head_start: Duration) {
    std::thread::scope(|scope| {
        let [first, second] = handlers;
        scope.spawn(|| first.done(BLOB, call));
        scope.spawn(|| {
            std::thread::sleep(head_start);
            second.done(BLOB, call)
        });
    });
}

/// Two handlers with one record, each with a log of its own.
fn two(site: &Site, vars: &[(&str, &str)]) -> [Handler; 2] {
    let shared = site.state();
    let one = site.handler(vars);
    let folder = site.folder.path().join("second");
    let vars = [vars, &[("HDAI_FOLDER", shared.to_str().unwrap())]].concat();
    [one, Handler::start(&folder, &site.settings(&vars))]
}

#[test]
fn a_blob_delivered_to_two_handlers_at_once_is_imported_once() {
    let site = Site::new("twice");
    let handlers = two(&site, &[]);
    let mut files = Vec::new();
    for turn in 0..8_u64 {
        let content = spoilt(&file(20_000, turn + 1, turn as i32 * 20_000 + 1), 500);
        let name = format!("{turn}.csv");
        site.drop_blob(&name, &content);
        deliver_to_both(&handlers, &site.call(&name), Duration::from_millis(draw(1, turn, 60)));
        files.push((name, content));
    }
    let taken_over = site.ledger(&site.record()).iter().filter(|entry| entry.attempt > 1).count();
    assert!(taken_over > 0, "the deliveries never met");
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    site.holds(&files);
}

#[test]
fn a_delivery_that_took_over_and_was_killed_leaves_the_import_to_its_next() {
    let azurite = Azurite::http();
    let proxy = Proxy::before(azurite.address(), |_| Fate::Pass);
    let site = Site::at(azurite, &proxy.account_url(), "twice-killed");
    let content = spoilt(&file(ROWS, 3, 1), 100);
    site.drop_blob("a.csv", &content);
    let [first, mut second] = two(&site, &[]);
    // The older waits in the second range, with rows of the first committed; the newer waits for its first byte.
    proxy.hold_after(5 << 20);
    let call = site.call("a.csv").to_string();
    let calling = |port: u16| {
        let call = call.clone();
        std::thread::spawn(move || post_raw(port, BLOB, &call))
    };
    let older = calling(first.port);
    until_attempt(&site, 1);
    let newer = calling(second.port);
    until_attempt(&site, 2);
    second.child.kill().unwrap();
    proxy.let_go();
    assert_eq!(newer.join().unwrap(), "");
    let answer = older.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("taken over by another delivery"), "{answer}");
    assert_eq!(site.ledger(&site.record())[0].state, State::Running);
    first.done(BLOB, &site.call("a.csv"));
    site.holds(&[("a.csv", &content)]);
}

fn until_attempt(site: &Site, attempt: u32) {
    let begun = std::time::Instant::now();
    while site.ledger(&site.record()).first().is_none_or(|entry| entry.attempt < attempt) {
        assert!(begun.elapsed() < Duration::from_secs(60), "attempt {attempt} never begins");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn two_handlers_over_azure_sql_import_a_blob_once() {
    let server = Server::start(Options::default());
    let site = Site::new("twice-sql");
    let connection = server.connection_string();
    let ca_file = server.ca_file().to_str().unwrap().to_owned();
    let vars = [("HDAI_SQL_CONNECTION", connection.as_str()), ("HDAI_SQL_CA_FILE", ca_file.as_str())];
    let handlers = two(&site, &vars);
    let mut files = Vec::new();
    for turn in 0..3_u64 {
        let content = spoilt(&file(9_000, turn + 1, turn as i32 * 9_000 + 1), 500);
        let name = format!("{turn}.csv");
        site.drop_blob(&name, &content);
        deliver_to_both(&handlers, &site.call(&name), Duration::from_millis(draw(2, turn, 300)));
        files.push((name, content));
    }
    assert_eq!(server.refusals(), Vec::<String>::new());
    let settings = SqlSettings {
        ca_file: Some(server.ca_file().to_owned()),
        ..SqlSettings::new(SqlConnection::Text(Secret::new(connection.as_str())))
    };
    let record = site.runtime.block_on(AzureSql::open(&settings, &Identity::from_vars(|_| None))).unwrap();
    let record = sealed(&site.state(), Arc::new(record));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    site.holds_in(&record, &files, 0);
}
