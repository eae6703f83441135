//! A login with a token: a managed identity's endpoint that answers one, and the server reads it back. `azure_identity` takes the endpoint
//! from the process's environment, so the client is a process of its own: this test program again, with one test chosen.

use std::collections::HashMap;

use health_data_ai::azure::identity::{Identity, Kind};
use health_data_ai::store::azure_sql::probe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::mock::{Script, Speech, start, well};
use crate::{Room, front};

const TOKEN: &str = "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJodHRwczovL2RhdGFiYXNlLndpbmRvd3MubmV0LyJ9.c2ln";

/// An endpoint as App Service has one; answers its URL and where it notes the calls.
#[allow(clippy::disallowed_methods, reason = "a token ends at a time of day")]
async fn endpoint() -> (String, std::sync::Arc<std::sync::Mutex<Vec<String>>>) {
    let (listener, port) = front::listener().await;
    let calls = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = calls.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.unwrap();
                request.extend(byte);
            }
            noted.lock().unwrap().push(String::from_utf8(request).unwrap());
            let ends = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600;
            let body = format!(
                r#"{{"access_token":"{TOKEN}","expires_on":"{ends}","resource":"https://database.windows.net","token_type":"Bearer"}}"#
            );
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        }
    });
    (format!("http://127.0.0.1:{port}/msi/token"), calls)
}

/// Runs [`the_client`] in a process of its own; answers what it wrote.
async fn client(room: &Room, endpoint: &str, connection: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "token::the_client", "--ignored", "--nocapture"])
        .envs(HashMap::from([
            ("IDENTITY_ENDPOINT", endpoint),
            ("IDENTITY_HEADER", "header"),
            ("AZURE_CLIENT_ID", "11111111-2222-3333-4444-555555555555"),
            ("PROBE_CONNECTION", connection),
            ("PROBE_CA", room.ca().to_str().unwrap()),
        ]))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The client's side of the tests below, not a test of its own.
#[tokio::test]
#[ignore = "runs as a process of its own, started by the other tests"]
#[allow(clippy::disallowed_methods, reason = "it is the edge of its process")]
async fn the_client() {
    let variable = |name: &str| std::env::var(name).ok();
    let mut settings = Room::new().settings(&variable("PROBE_CONNECTION").unwrap());
    settings.ca_file = variable("PROBE_CA").map(Into::into);
    match probe(&settings, &Identity::from_vars(variable)).await {
        Ok(found) => println!("found {}", found.login),
        Err(error) => println!("error {error}"),
    }
}

#[tokio::test]
async fn the_server_gets_the_token_of_the_identity() {
    for strict in [false, true] {
        let (script, _guard) = Script::new([well()]);
        let room = Room::new();
        let speech = if strict { Speech::Strict(&room.identity) } else { Speech::Tls(&room.identity) };
        let (mock, store) = start(speech, &script).await;
        let (listener, port) = front::listener().await;
        front::pass(listener, mock, !strict);
        let (endpoint, calls) = endpoint().await;
        let encrypt = if strict { "Strict" } else { "True" };
        let connection =
            format!("Server=tcp:localhost,{port};Database=record;Encrypt={encrypt};Authentication=Active Directory Default");
        let written = client(&room, &endpoint, &connection).await;
        assert!(written.contains("found hdai-app"), "{written}");
        let store = store.lock().await;
        assert_eq!(store.all().values().next().unwrap().received_token_as_string().as_deref(), Some(TOKEN));
        let calls = calls.lock().unwrap();
        let call = calls[0].to_lowercase();
        assert_eq!(calls.len(), 1);
        assert!(
            call.contains("client_id=11111111-2222-3333-4444-555555555555") && call.contains("x-identity-header: header"),
            "{call}"
        );
        assert!(call.contains("database.windows.net"), "{call}");
    }
}

#[tokio::test]
async fn a_token_is_not_sent_without_encryption() {
    let (script, _guard) = Script::new([well()]);
    let room = Room::new();
    let (port, store) = start(Speech::Plain, &script).await;
    let (endpoint, _) = endpoint().await;
    let written = client(&room, &endpoint, &format!("Server=localhost,{port};Database=record;Encrypt=False")).await;
    assert!(written.contains("offers no encryption") && !written.contains(TOKEN), "{written}");
    assert!(store.lock().await.all().values().all(|connection| connection.received_token.is_none()));
}

#[tokio::test]
async fn without_an_identity_there_is_no_login() {
    let (script, _guard) = Script::new([well()]);
    let room = Room::new();
    let (port, store) = start(Speech::Strict(&room.identity), &script).await;
    let nobody = Identity { kind: Kind::Workload, client_id: None };
    let settings = room.settings(&format!("Server=localhost,{port};Database=record;Encrypt=Strict"));
    let error = probe(&settings, &nobody).await.unwrap_err();
    assert!(error.to_string().contains("AZURE_FEDERATED_TOKEN_FILE"), "{error}");
    assert_eq!(store.lock().await.count(), 0);
}
