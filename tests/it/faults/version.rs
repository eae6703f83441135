//! The blob is overwritten or removed while it is read.

use super::*;
use crate::azurite::proxy::{Fate, Proxy};
use crate::handler::post_raw;

/// Delivers `a.csv` and does `meanwhile` while the second range of it is on its way; the call must fail.
fn during_a_read(site: &Site, proxy: &Proxy, handler: &Handler, meanwhile: impl FnOnce()) {
    proxy.hold_after(5 << 20);
    let (port, call) = (handler.port, site.call("a.csv").to_string());
    let calling = std::thread::spawn(move || post_raw(port, BLOB, &call));
    assert!(proxy.await_held(|| calling.is_finished()), "the import was over before");
    meanwhile();
    proxy.let_go();
    let answer = calling.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

fn site(test: &str) -> (Site, Proxy) {
    let azurite = Azurite::http();
    let proxy = Proxy::before(azurite.address(), |_| Fate::Pass);
    (Site::at(azurite, &proxy.account_url(), test), proxy)
}

#[test]
fn a_blob_overwritten_while_it_is_read_ends_as_its_new_content() {
    let (site, proxy) = site("overwritten");
    let handler = site.handler(&[]);
    let (old, new) = (file(ROWS, 1, 1), file(ROWS + 9_000, 2, 1));
    site.drop_blob("a.csv", &old);
    during_a_read(&site, &proxy, &handler, || site.drop_blob("a.csv", &new));
    let entry = site.ledger(&site.record()).remove(0);
    assert!(entry.state == State::Running && entry.checkpoint > 0, "{entry:?}");
    // The new version's own event, then the old one's next delivery.
    for _ in 0..2 {
        handler.done(BLOB, &site.call("a.csv"));
    }
    let given_up = site.ledger(&site.record()).remove(1);
    assert_eq!((given_up.id, given_up.state), (entry.id, State::Failed));
    assert!(given_up.failure.contains("replaced by a newer version"), "{}", given_up.failure);
    let counts = site.ledger(&site.record()).remove(0).counts;
    assert_eq!((counts.updated + counts.unchanged, counts.rejected), (entry.checkpoint, 0));
    site.holds_in(&site.record(), &[("a.csv", &new)], 1);
}

#[test]
fn a_blob_removed_while_it_is_read_is_given_up_in_words() {
    let (site, proxy) = site("removed");
    let handler = site.handler(&[]);
    let content = file(ROWS, 1, 1);
    site.drop_blob("a.csv", &content);
    during_a_read(&site, &proxy, &handler, || site.delete_blob("a.csv"));
    let entry = site.ledger(&site.record()).remove(0);
    assert!(entry.state == State::Running && entry.checkpoint > 0, "{entry:?}");
    handler.done(BLOB, &site.call("a.csv"));
    let given_up = site.ledger(&site.record()).remove(0);
    assert_eq!((&given_up.id, given_up.state, given_up.checkpoint), (&entry.id, State::Failed, entry.checkpoint));
    assert!(given_up.failure.contains("removed") && given_up.failure.contains("again"), "{}", given_up.failure);
    site.receipt_is_true(&given_up, &content);

    // Dropped again, the same bytes are another version, and nothing of the first is in the way.
    site.drop_blob("a.csv", &content);
    handler.done(BLOB, &site.call("a.csv"));
    assert_eq!(site.ledger(&site.record()).remove(0).counts.unchanged, entry.checkpoint);
    site.holds_in(&site.record(), &[("a.csv", &content)], 1);
}
