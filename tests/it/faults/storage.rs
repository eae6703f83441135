//! A storage account that is throttled, broken, slow or cut off: cured within the call, and cured by the next delivery.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::azurite::proxy::{Asked, Fate, Proxy};

/// What becomes of requests for a blob, by its name: the fate, and how many requests for the same range meet it.
type Plan = Arc<Mutex<HashMap<&'static str, (Fate, usize)>>>;

/// A handler whose storage account follows `plan` for the downloads of blobs.
fn site(test: &str, second_range_only: bool) -> (Site, Plan, Proxy) {
    let (azurite, plan) = (Azurite::http(), Plan::default());
    let planned = Arc::clone(&plan);
    let proxy = Proxy::before(azurite.address(), move |asked: &Asked| {
        let concerned = asked.method == "GET" && asked.start >= Some(u64::from(second_range_only));
        let name = asked.path.rsplit('/').next().unwrap_or_default();
        match planned.lock().unwrap().get(name) {
            Some((fate, times)) if concerned && asked.before < *times => *fate,
            _ => Fate::Pass,
        }
    });
    (Site::at(azurite, &proxy.account_url(), test), plan, proxy)
}

#[test]
fn what_passes_while_the_call_lasts_is_not_even_noticed() {
    let (site, plan, _proxy) = site("storage-cured", false);
    let handler = site.handler(&[]);
    let faults = [
        ("throttled.csv", Fate::Later(429, 1), 1),
        ("broken.csv", Fate::Status(500), 2),
        ("busy.csv", Fate::Later(503, 1), 1),
        ("slow.csv", Fate::Slow(Duration::from_millis(10)), usize::MAX),
        ("cut.csv", Fate::Cut(1_000_000), 2),
        ("short.csv", Fate::Shorten(1), 1),
        ("range.csv", Fate::Whole, 2),
    ];
    let contents: Vec<Vec<u8>> = (0..faults.len() as i32)
        .map(|place| spoilt(&file(ROWS, place.unsigned_abs().into(), place * 100_000 + 1), 1_000))
        .collect();
    for ((name, fate, times), content) in faults.iter().zip(&contents) {
        plan.lock().unwrap().insert(name, (*fate, *times));
        site.drop_blob(name, content);
        let begun = Instant::now();
        handler.done(BLOB, &site.call(name));
        if let Fate::Later(_, seconds) = fate {
            assert!(begun.elapsed() >= Duration::from_secs((*seconds).into()), "{name}: Retry-After was not heeded");
        }
        let newest = site.ledger(&site.record()).remove(0);
        assert_eq!((newest.source.name.as_str(), newest.attempt), (*name, 1));
    }
    let files: Vec<(&str, &[u8])> = faults.iter().zip(&contents).map(|((name, ..), content)| (*name, content.as_slice())).collect();
    site.holds(&files);
}

#[test]
fn what_does_not_pass_is_a_503_and_the_next_delivery_cures_it() {
    let (site, plan, _proxy) = site("storage-later", true);
    // Five repetitions with doubling pauses, far from the function's end.
    let handler = site.handler(&[]);
    let faults = [
        ("throttled.csv", Fate::Status(429)),
        ("broken.csv", Fate::Status(500)),
        ("busy.csv", Fate::Status(503)),
        ("cut.csv", Fate::Cut(1_000_000)),
        ("short.csv", Fate::Shorten(1)),
        ("range.csv", Fate::Whole),
        ("changed.csv", Fate::OtherEtag),
    ];
    let contents: Vec<Vec<u8>> = (0..faults.len() as i32)
        .map(|place| spoilt(&file(ROWS, place.unsigned_abs().into(), place * 100_000 + 1), 1_000))
        .collect();
    for ((name, fate), content) in faults.iter().zip(&contents) {
        plan.lock().unwrap().insert(name, (*fate, usize::MAX));
        site.drop_blob(name, content);
    }
    // All at once: each waits for most of its time.
    std::thread::scope(|scope| {
        for (name, _) in &faults {
            let (site, handler) = (&site, &handler);
            scope.spawn(move || {
                let begun = Instant::now();
                assert_eq!(handler.post(BLOB, site.call(name).to_string().into_bytes()).status, 503, "{name}");
                assert!(begun.elapsed() < Duration::from_secs(60), "{name} took {:?}", begun.elapsed());
            });
        }
    });
    let record = site.record();
    let ledger = site.ledger(&record);
    assert!(ledger.len() == faults.len() && ledger.iter().all(|entry| entry.state == State::Running), "{ledger:?}");
    // The first range's rows are in, and stay.
    assert!(ledger.iter().all(|entry| entry.checkpoint > 0 && entry.checkpoint < ROWS), "{ledger:?}");
    plan.lock().unwrap().clear();
    for (name, _) in &faults {
        handler.done(BLOB, &site.call(name));
    }
    let files: Vec<(&str, &[u8])> = faults.iter().zip(&contents).map(|((name, _), content)| (*name, content.as_slice())).collect();
    site.holds(&files);
}

#[test]
fn a_pause_that_the_account_asks_for_never_outlasts_the_call() {
    let (site, plan, _proxy) = site("storage-hour", false);
    let content = file(300, 1, 1);
    site.drop_blob("a.csv", &content);
    site.drop_blob("b.csv", &file(300, 2, 1));
    plan.lock().unwrap().insert("a.csv", (Fate::Later(429, 3_600), usize::MAX));
    plan.lock().unwrap().insert("b.csv", (Fate::Silence, usize::MAX));
    let handler = site.handler(&[("HDAI_CALL_SECONDS_MAX", "3")]);
    for name in ["a.csv", "b.csv"] {
        let begun = Instant::now();
        assert_eq!(handler.post(BLOB, site.call(name).to_string().into_bytes()).status, 503);
        assert!(begun.elapsed() < Duration::from_secs(30), "{name} took {:?}", begun.elapsed());
    }
    site.delete_blob("b.csv");
    plan.lock().unwrap().clear();
    for name in ["a.csv", "b.csv"] {
        handler.done(BLOB, &site.call(name));
    }
    site.holds_in(&site.record(), &[("a.csv", &content)], 1);
}

#[test]
fn a_receipt_that_cannot_be_written_is_written_by_the_next_delivery() {
    let azurite = Azurite::http();
    let relented = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let relents = Arc::clone(&relented);
    let proxy = Proxy::before(azurite.address(), move |asked| {
        let of_receipt = asked.path.contains("-receipts/") && !relents.load(std::sync::atomic::Ordering::SeqCst);
        if of_receipt { Fate::Status(500) } else { Fate::Pass }
    });
    let site = Site::at(azurite, &proxy.account_url(), "storage-receipt");
    let content = spoilt(&file(500, 3, 1), 50);
    site.drop_blob("a.csv", &content);
    let handler = site.handler(&[]);
    assert_eq!(handler.post(BLOB, site.call("a.csv").to_string().into_bytes()).status, 503);
    // The rows are in all the same.
    assert_eq!(site.ledger(&site.record())[0].state, State::Done);
    relented.store(true, std::sync::atomic::Ordering::SeqCst);
    let reply = handler.done(BLOB, &site.call("a.csv"));
    assert!(reply["Outputs"]["trainingRequest"]["importId"].is_string(), "{reply}");
    assert_eq!(site.ledger(&site.record())[0].attempt, 1);
    site.holds(&[("a.csv", &content)]);
}
