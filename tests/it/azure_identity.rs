//! A token from a managed identity's endpoint, through the real client. `azure_identity` takes the endpoint from the process's environment,
//! so the client is a process of its own: this test program again, with one test chosen.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use health_data_ai::azure::identity::{Identity, Kind, credential, token};
use warp::Filter;
use warp::http::StatusCode;

const SCOPE: &str = "https://database.windows.net/.default";

/// An endpoint as App Service has one, whose tokens are good for `seconds`; answers its URL and the calls that came.
#[expect(clippy::disallowed_methods, reason = "a token ends at a time of day")]
async fn endpoint(seconds: u64) -> (String, Arc<Mutex<Vec<String>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let noted = calls.clone();
    let route = warp::path!("msi" / "token")
        .and(warp::query::raw())
        .and(warp::header::optional::<String>("x-identity-header"))
        .map(move |query: String, header: Option<String>| {
            let mut calls = noted.lock().unwrap();
            calls.push(query);
            if header.as_deref() != Some("right") {
                return warp::reply::with_status(
                    warp::reply::json(&serde_json::json!({ "error": "no such identity" })),
                    StatusCode::UNAUTHORIZED,
                );
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let answer = serde_json::json!({
                "access_token": format!("token-{}", calls.len()), "expires_on": (now + seconds).to_string(),
                "resource": "https://database.windows.net", "token_type": "Bearer",
            });
            warp::reply::with_status(warp::reply::json(&answer), StatusCode::OK)
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/msi/token", listener.local_addr().unwrap());
    tokio::spawn(warp::serve(route).incoming(listener).run());
    (url, calls)
}

/// Runs [`the_client`] in a process of its own; answers its lines.
async fn client(endpoint: &str, header: &str, client_id: Option<&str>) -> Vec<String> {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "azure_identity::the_client", "--ignored", "--nocapture"]);
    command.env("IDENTITY_ENDPOINT", endpoint).env("IDENTITY_HEADER", header).env_remove("AZURE_CLIENT_ID");
    if let Some(client_id) = client_id {
        command.env("AZURE_CLIENT_ID", client_id);
    }
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter(|line| line.starts_with("token") || line.starts_with("error")).map(str::to_owned).collect()
}

/// The client's side of the tests below, not a test of its own: asks twice.
#[tokio::test]
#[ignore = "runs as a process of its own, started by the other tests"]
#[expect(clippy::disallowed_methods, reason = "it is the edge of its process")]
async fn the_client() {
    let identity = Identity::from_vars(|name| std::env::var(name).ok());
    assert_eq!(identity.kind, Kind::Managed);
    let credential = credential(&identity).unwrap();
    for _ in 0..2 {
        match token(credential.as_ref(), &identity, SCOPE).await {
            Ok(token) => println!("\n{} for {} s", token.secret.reveal(), token.valid.as_secs()),
            Err(error) => println!("\nerror {}", error.to_string()),
        }
    }
}

#[tokio::test]
async fn a_token_comes_and_is_kept() {
    let (url, calls) = endpoint(3600).await;
    let lines = client(&url, "right", None).await;
    let calls = calls.lock().unwrap();
    assert_eq!((lines.len(), calls.len()), (2, 1), "{lines:?} {calls:?}");
    for line in &lines {
        assert!(line == "token-1 for 3600 s" || line.starts_with("token-1 for 35"), "{line}");
    }
    assert!(calls[0].contains("database.windows.net") && !calls[0].contains("client_id"), "{calls:?}");
}

#[tokio::test]
async fn a_user_assigned_identity_is_named() {
    let (url, calls) = endpoint(3600).await;
    client(&url, "right", Some("11111111-2222-3333-4444-555555555555")).await;
    let calls = calls.lock().unwrap();
    assert!(calls[0].contains("client_id=11111111-2222-3333-4444-555555555555"), "{calls:?}");
}

#[tokio::test]
async fn a_token_that_ends_soon_is_renewed() {
    let (url, calls) = endpoint(120).await;
    let lines = client(&url, "right", None).await;
    assert_eq!(calls.lock().unwrap().len(), 2);
    assert!(lines[0].starts_with("token-1 for 1") && lines[1].starts_with("token-2 for 1"), "{lines:?}");
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_told_at_once_with_a_remedy() {
    let (url, calls) = endpoint(3600).await;
    let begun = Instant::now();
    let lines = client(&url, "wrong", None).await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!((lines.len(), calls.lock().unwrap().len()), (2, 2), "{lines:?}");
    for line in &lines {
        assert!(line.starts_with("error no token for https://database.windows.net") && line.contains("AZURE_CLIENT_ID"), "{line}");
        assert!(!line.contains("token-") && !line.contains("wrong"), "{line}");
        // What the endpoint said is said once.
        assert_eq!(line.matches("no such identity").count(), 1, "{line}");
    }
}
