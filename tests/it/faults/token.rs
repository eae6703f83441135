//! The endpoint that gives tokens is away, broken or silent.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;

/// How the endpoint is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Good,
    /// Closes whatever connects.
    Closing,
    Broken,
    Throttled,
    Silent,
    /// Says 200, and no token.
    Strange,
}

/// A managed identity's endpoint as App Service and Functions have it.
fn endpoint(mood: Arc<Mutex<Mood>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/msi/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mood = *mood.lock().unwrap();
            std::thread::spawn(move || {
                if mood == Mood::Closing {
                    return;
                }
                let _ = client.read(&mut [0; 16 * 1024]);
                let (status, body) = match mood {
                    Mood::Good => {
                        let token = crate::azurite::token("https://storage.azure.com");
                        (
                            "200 OK",
                            json!({ "access_token": token, "expires_on": "4000000000", "token_type": "Bearer",
                            "resource": "https://storage.azure.com" }),
                        )
                    }
                    Mood::Silent => {
                        // Until the client gives up.
                        let _ = client.read(&mut [0]);
                        return;
                    }
                    Mood::Strange => ("200 OK", json!({ "hello": "there" })),
                    Mood::Throttled => ("429 Too Many Requests", json!({ "error": "too many" })),
                    _ => ("500 Internal Server Error", json!({ "error": "broken" })),
                };
                let body = body.to_string();
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = client.write_all((head + &body).as_bytes());
            });
        }
    });
    url
}

#[test]
fn without_a_token_a_delivery_waits_and_is_told_so_in_time() {
    let azurite = Azurite::https();
    let moods = [Mood::Closing, Mood::Broken, Mood::Throttled, Mood::Silent, Mood::Strange];
    std::thread::scope(|scope| {
        for mood in moods {
            scope.spawn(move || {
                let site = Site::at(azurite, &azurite.account_url(), &format!("token-{mood:?}").to_lowercase());
                waits_for_a_token(&site, mood);
            });
        }
    });
}

fn waits_for_a_token(site: &Site, mood: Mood) {
    let state = Arc::new(Mutex::new(mood));
    let endpoint = endpoint(Arc::clone(&state));
    let authority = site.folder.path().join("authority.pem");
    std::fs::write(&authority, site.azurite.authority.as_ref().unwrap()).unwrap();
    let handler = site.handler(&[
        ("SSL_CERT_FILE", authority.to_str().unwrap()),
        ("IDENTITY_ENDPOINT", &endpoint),
        ("IDENTITY_HEADER", "h3ader"),
        ("HDAI_CALL_SECONDS_MAX", "20"),
    ]);
    let content = spoilt(&file(2_000, 1, 1), 100);
    site.drop_blob("a.csv", &content);
    let begun = Instant::now();
    let answer = handler.post(BLOB, site.call("a.csv").to_string().into_bytes());
    assert_eq!(answer.status, 503, "{mood:?} {}", answer.body);
    assert!(begun.elapsed() < Duration::from_secs(30), "{mood:?} took {:?}", begun.elapsed());
    assert_eq!(site.ledger(&site.record()), [], "{mood:?}");
    let log = handler.log();
    assert!(log.contains("no token for the storage account") || log.contains("HDAI_CALL_SECONDS_MAX"), "{mood:?} {log}");

    *state.lock().unwrap() = Mood::Good;
    handler.done(BLOB, &site.call("a.csv"));
    // A token that is there outlives its endpoint.
    *state.lock().unwrap() = mood;
    let more = file(2_000, 2, 10_001);
    site.drop_blob("b.csv", &more);
    handler.done(BLOB, &site.call("b.csv"));
    site.holds(&[("a.csv", &content), ("b.csv", &more)]);
}
