//! Addresses that lead elsewhere, by every way in: refused, audited, and nobody contacted.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::azurite::proxy::{Fate, Proxy};
use crate::handler::{self, QUEUE, inline};

/// A server that nobody may talk to: its port, and how often somebody did.
fn forbidden() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, calls) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            counted.fetch_add(1, SeqCst);
            drop(client);
        }
    });
    (port, calls)
}

/// Addresses that are not the site's container, though they look like it or lead to the forbidden port.
fn addresses(site: &Site, port: u16) -> Vec<String> {
    let (container, account) = (&site.name, site.account_url.as_str());
    let (authority, path) = account.split_once("://").unwrap().1.split_once('/').unwrap();
    let own_port = authority.split_once(':').unwrap().1;
    let good = format!("{path}/{container}/a.csv");
    let mut all = vec![
        // Another account, another container.
        format!("http://{authority}/otheraccount/{container}/a.csv"),
        format!("http://{authority}/{path}x/{container}/a.csv"),
        format!("https://{path}.blob.core.windows.net/{container}/a.csv"),
        format!("{account}/other/a.csv"),
        format!("{account}/{container}-receipts/a.csv"),
        format!("{account}/$root/a.csv"),
        // Another scheme.
        format!("https://{authority}/{good}"),
        format!("ftp://{authority}/{good}"),
        format!("gopher://127.0.0.1:{port}/{good}"),
        format!("file:///{good}"),
        format!("file://{authority}/{good}"),
        format!("//{authority}/{good}"),
        good.clone(),
        // Credentials before the host.
        format!("http://user@{authority}/{good}"),
        format!("http://user:s3cret@{authority}/{good}"),
        format!("http://{authority}@127.0.0.1:{port}/{good}"),
        format!("http://127.0.0.1:{port}\\@{authority}/{good}"),
        format!("http://127.0.0.1:{port}#@{authority}/{good}"),
        // Ways out of the container.
        format!("{account}/{container}/../other/a.csv"),
        format!("{account}/{container}/..%2fother%2fa.csv"),
        format!("{account}/{container}/%2e%2e/other/a.csv"),
        format!("{account}/{container}/..%5cother%5ca.csv"),
        format!("{account}/{container}//a.csv"),
        format!("{account}/{container}/./a.csv"),
        format!("{account}/../{path}/{container}/a.csv"),
        format!("{account}/{container}%2f..%2fother/a.csv"),
        format!("{account}/{container}/a.csv%00"),
        format!("{account}/{container}/a.csv%0d%0aHost:%20127.0.0.1:{port}"),
        "http://169.254.169.254/metadata/identity/oauth2/token".to_owned(),
    ];
    // Another port, and every way to write this machine's address.
    let hosts = ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "017700000001", "0.0.0.0"];
    let more = ["[::1]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "127.0.0.1.", "localhost.", "LOCALHOST"];
    all.extend(hosts.iter().chain(&more).map(|host| format!("http://{host}:{port}/{good}")));
    // The right port by another name for the machine is another account.
    all.extend(hosts[1..].iter().chain(&more).map(|host| format!("http://{host}:{own_port}/{good}")));
    all
}

/// An event of a blob that was written at `url`.
fn event(url: &str, cloud: bool) -> Value {
    let data = json!({ "api": "PutBlob", "contentLength": 5_000, "url": url });
    let kind = "Microsoft.Storage.BlobCreated";
    match cloud {
        false => json!({ "id": "1", "eventType": kind, "topic": "t", "data": data }),
        true => json!({ "specversion": "1.0", "id": "1", "type": kind, "source": "s", "data": data }),
    }
}

#[test]
fn an_address_that_leads_elsewhere_is_refused_and_audited_and_nobody_is_contacted() {
    let azurite = Azurite::http();
    let (port, contacted) = forbidden();
    let proxy = Proxy::before(azurite.address(), |_| Fate::Pass);
    let site = Site::at(azurite, &proxy.account_url(), "foreign");
    let content = file(50, 1, 1);
    site.drop_blob("a.csv", &content);
    let mut handler = site.handler(&[]);
    let refusals = |it: &Handler| it.rows("SELECT caller FROM audit WHERE outcome = 'refused' ORDER BY seq");
    for (number, url) in addresses(&site, port).iter().enumerate() {
        let before = refusals(&handler).len();
        let envelope = if number % 2 == 0 { deferred(url) } else { inline(url, &content) };
        let mut said = handler.done(BLOB, &envelope).to_string();
        said += &handler.done(QUEUE, &handler::queued(&json!({ "url": url }))).to_string();
        let reply = handler.done("PatientDataEvents", &json!({ "Data": { "event": [event(url, number % 2 == 1)] } }));
        // A name that leads out of the container is the import's to refuse.
        for request in reply["Outputs"]["importRequests"].as_array().into_iter().flatten() {
            said += &handler.done(QUEUE, &handler::queued(request)).to_string();
        }
        let callers: Vec<String> = refusals(&handler).into_iter().skip(before).flatten().collect();
        let queued = reply["Outputs"]["importRequests"].is_array();
        // The events of our own receipts are expected.
        let of_event = (!url.contains("-receipts/")).then_some(if queued { QUEUE } else { "PatientDataEvents" });
        assert_eq!(callers, [BLOB, QUEUE].into_iter().chain(of_event).collect::<Vec<_>>(), "{url}");
        assert!(!said.contains("s3cret") && !said.contains("://"), "{said}");
    }
    assert_eq!((handler.count("imports"), handler.count("PatientData")), (0, 0));
    assert_eq!(contacted.load(SeqCst), 0, "somebody was contacted");
    assert_eq!(proxy.seen().len(), 0, "the account was asked for something: {:?}", proxy.seen());

    // Among events of no concern the one that counts still leads to its import; what is ours and no file is no offence.
    let foreign = format!("http://127.0.0.1:{port}/devstoreaccount1/{}/a.csv", site.name);
    let receipt = format!("{}/{}-receipts/x.receipt.json", site.account_url, site.name);
    let batch = json!([event(&foreign, false), event(&receipt, false), event(&site.uri("a.csv"), true)]);
    let before = refusals(&handler).len();
    let reply = handler.done("PatientDataEvents", &json!({ "Data": { "event": batch } }));
    assert_eq!(reply["Outputs"]["importRequests"], json!([{ "url": site.uri("a.csv") }]));
    assert_eq!(refusals(&handler).len(), before + 1);
    handler.done(QUEUE, &handler::queued(&reply["Outputs"]["importRequests"][0]));
    assert_eq!(contacted.load(SeqCst), 0, "somebody was contacted");
    handler.lives();
    drop(handler);
    site.holds(&[("a.csv", &content)]);
}

#[test]
fn an_account_that_sends_us_elsewhere_is_not_followed() {
    let azurite = Azurite::http();
    let (port, contacted) = forbidden();
    for (number, method) in ["HEAD", "GET", "PUT"].into_iter().enumerate() {
        let relented = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let relents = Arc::clone(&relented);
        let proxy = Proxy::before(azurite.address(), move |asked| {
            if asked.method == method && !relents.load(SeqCst) { Fate::Elsewhere(port) } else { Fate::Pass }
        });
        let site = Site::at(azurite, &proxy.account_url(), &format!("elsewhere-{number}"));
        let content = file(300, 1, 1);
        site.drop_blob("a.csv", &content);
        let handler = site.handler(&[]);
        assert_eq!(handler.post(BLOB, site.call("a.csv").to_string().into_bytes()).status, 503, "{method}");
        assert_eq!(contacted.load(SeqCst), 0, "{method} was followed");
        relented.store(true, SeqCst);
        handler.done(BLOB, &site.call("a.csv"));
        site.holds(&[("a.csv", &content)]);
    }
}
