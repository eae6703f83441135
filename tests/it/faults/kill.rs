//! The handler is killed at a byte of its download, and again, and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::*;
use crate::azurite::proxy::{Asked, Fate, Proxy};
use crate::handler::post_raw;

/// Ends the handler without its knowing once `bytes` of the blob have left the storage account; false if the call was over before.
fn kill_at(proxy: &Proxy, handler: &mut Handler, call: &Value, bytes: u64, pause: Duration) -> bool {
    proxy.hold_after(bytes);
    let (port, body) = (handler.port, call.to_string());
    let calling = std::thread::spawn(move || post_raw(port, BLOB, &body));
    let held = proxy.await_held(|| calling.is_finished());
    // What came through is being worked on.
    std::thread::sleep(pause);
    handler.child.kill().unwrap();
    handler.child.wait().unwrap();
    proxy.let_go();
    let answer = calling.join().unwrap();
    assert_eq!(held, answer.is_empty(), "{answer}");
    held
}

#[test]
fn a_handler_killed_at_any_byte_again_and_again_ends_in_one_import() {
    let content = spoilt(&file(ROWS, 1, 1), 100);
    for seed in 0..6 {
        let azurite = Azurite::http();
        let proxy = Proxy::before(azurite.address(), |_| Fate::Pass);
        let site = Site::at(azurite, &proxy.account_url(), &format!("kill-{seed}"));
        site.drop_blob("a.csv", &content);
        let kills = 1 + draw(seed, 0, 4);
        for turn in 1..=kills {
            let byte = draw(seed, turn, content.len() as u64);
            let pause = Duration::from_millis(draw(seed, 100 + turn, 150));
            let mut handler = site.handler(&[]);
            assert!(kill_at(&proxy, &mut handler, &site.call("a.csv"), byte, pause), "seed {seed}: the import was over at {byte}");
        }
        let handler = site.handler(&[]);
        handler.done(BLOB, &site.call("a.csv"));
        assert_eq!(u64::from(site.ledger(&site.record())[0].attempt), kills + 1, "seed {seed}");
        site.holds(&[("a.csv", &content)]);
    }
}

#[test]
fn a_handler_killed_between_the_last_row_and_the_receipt_leaves_its_receipt_to_the_next() {
    let azurite = Azurite::http();
    let relented = Arc::new(AtomicBool::new(false));
    let relents = Arc::clone(&relented);
    let of_receipts = |asked: &Asked| asked.method == "PUT" && asked.path.contains("-receipts/");
    let proxy =
        Proxy::before(
            azurite.address(),
            move |asked| {
                if of_receipts(asked) && !relents.load(SeqCst) { Fate::Silence } else { Fate::Pass }
            },
        );
    let site = Site::at(azurite, &proxy.account_url(), "kill-receipt");
    let content = spoilt(&file(500, 2, 1), 50);
    site.drop_blob("a.csv", &content);
    let mut handler = site.handler(&[]);
    let (port, call) = (handler.port, site.call("a.csv").to_string());
    let calling = std::thread::spawn(move || post_raw(port, BLOB, &call));
    let begun = Instant::now();
    while !proxy.seen().iter().any(of_receipts) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no receipt is ever written");
        std::thread::sleep(Duration::from_millis(5));
    }
    handler.child.kill().unwrap();
    assert_eq!(calling.join().unwrap(), "");
    relented.store(true, SeqCst);
    let reply = site.handler(&[]).done(BLOB, &site.call("a.csv"));
    assert!(reply["Logs"][0].as_str().unwrap().contains("was over before"), "{reply}");
    assert!(reply["Outputs"]["trainingRequest"]["importId"].is_string(), "{reply}");
    assert_eq!(site.ledger(&site.record())[0].attempt, 1);
    site.holds(&[("a.csv", &content)]);
}
