//! Secrets of a Key Vault over the real SDK, against an HTTPS server on loopback that speaks the vault's REST shape: what is kept, read
//! anew, refused; and a connection string that is rotated under a pool.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::{AsyncRawResponse, ClientOptions, HttpClient, Request, RetryOptions, Transport, Url};
use azure_core::time::OffsetDateTime;
use health_data_ai::azure::cached_secret::CachedSecret;
use health_data_ai::azure::identity::Identity;
use health_data_ai::config::{Secret, SqlConnection, SqlSettings};
use health_data_ai::error::Kind;
use health_data_ai::store::Store;
use health_data_ai::store::azure_sql::AzureSql;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tds::{Certificates, Options, Server};

const URL: &str = "https://ward.vault.azure.net/secrets/sql-connection";

#[derive(Clone)]
enum Answer {
    /// A value, and the seconds from now until it ends.
    Holds(String, Option<i64>),
    Says(u16),
}

/// A vault with one secret.
struct Vault {
    url: Url,
    client: reqwest::Client,
    answer: Arc<Mutex<Answer>>,
    reads: Arc<Mutex<u32>>,
}

impl Vault {
    async fn start(answer: Answer) -> Self {
        let certificates = Certificates::make();
        let authority = reqwest::Certificate::from_pem(certificates.authority.as_bytes()).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(certificates.wrapped);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
        let vault = Self {
            url,
            client: reqwest::Client::builder().tls_certs_only([authority]).build().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            reads: Arc::default(),
        };
        let (answer, reads) = (vault.answer.clone(), vault.reads.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, answer, reads) = (acceptor.clone(), answer.clone(), reads.clone());
                tokio::spawn(async move { serve(acceptor.accept(tcp).await.unwrap(), &answer, &reads).await });
            }
        });
        vault
    }

    async fn holding(value: &str, seconds: Option<i64>) -> Self {
        Self::start(Answer::Holds(value.into(), seconds)).await
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How often the secret was asked for with a token.
    fn reads(&self) -> u32 {
        *self.reads.lock().unwrap()
    }

    fn secret(&self) -> CachedSecret {
        let to = Redirect { client: self.client.clone(), to: self.url.clone() };
        let transport = Some(Transport::new(Arc::new(to)));
        let options = ClientOptions { transport, retry: RetryOptions::none(), ..Default::default() };
        CachedSecret::new(Arc::new(Anyone), URL, options).unwrap()
    }
}

/// Lets the SDK believe that it speaks to the vault of [`URL`], so that its own check of the challenge stays on.
#[derive(Debug)]
struct Redirect {
    client: reqwest::Client,
    to: Url,
}

#[async_trait::async_trait]
impl HttpClient for Redirect {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut url = self.to.clone();
        url.set_path(request.url().path());
        url.set_query(request.url().query());
        let mut sent = Request::new(url, request.method());
        for (name, value) in request.headers().iter() {
            sent.insert_header(name.clone(), value.clone());
        }
        self.client.execute_request(&sent).await
    }
}

#[derive(Debug)]
struct Anyone;

#[async_trait::async_trait]
impl TokenCredential for Anyone {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://vault.azure.net/.default"]);
        Ok(AccessToken::new("t", OffsetDateTime::now_utc() + azure_core::time::Duration::hours(1)))
    }
}

async fn serve(mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>, answer: &Mutex<Answer>, reads: &Mutex<u32>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("get /secrets/sql-connection"), "{head}");
        let (status, more, body) = if !head.contains("authorization: bearer t") {
            let challenge = r#"Bearer authorization="https://login.microsoftonline.com/t", resource="https://vault.azure.net""#;
            (401, format!("www-authenticate: {challenge}\r\n"), String::new())
        } else {
            *reads.lock().unwrap() += 1;
            // Those who ask at once must meet.
            tokio::time::sleep(Duration::from_millis(100)).await;
            match answer.lock().unwrap().clone() {
                Answer::Says(status) => (status, String::new(), r#"{"error":{"code":"X","message":"Canary"}}"#.to_owned()),
                Answer::Holds(value, seconds) => {
                    let mut attributes = json!({ "enabled": true });
                    if let Some(seconds) = seconds {
                        attributes["exp"] = json!(OffsetDateTime::now_utc().unix_timestamp() + seconds);
                    }
                    (
                        200,
                        String::new(),
                        json!({ "value": value, "id": format!("{URL}/0a1b"), "attributes": attributes }).to_string(),
                    )
                }
            }
        };
        let answer =
            format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{more}\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn value(secret: &CachedSecret) -> String {
    secret.get().await.unwrap().reveal().to_owned()
}

#[tokio::test]
async fn a_secret_without_an_end_is_read_once_for_all_who_ask() {
    let vault = Vault::holding("one", None).await;
    let secret = vault.secret();
    let all = futures_util::future::join_all((0..20).map(|_| value(&secret))).await;
    assert!(all.iter().all(|value| value == "one"));
    vault.set(Answer::Holds("two".into(), None));
    assert_eq!((value(&secret).await.as_str(), vault.reads()), ("one", 1));
}

#[tokio::test]
async fn a_secret_is_read_anew_before_it_ends() {
    let vault = Vault::holding("one", Some(6)).await;
    let secret = vault.secret();
    assert_eq!(value(&secret).await, "one");
    vault.set(Answer::Holds("two".into(), None));
    assert_eq!((value(&secret).await.as_str(), vault.reads()), ("one", 1));
    tokio::time::sleep(Duration::from_millis(3_300)).await;
    let all = futures_util::future::join_all((0..20).map(|_| value(&secret))).await;
    assert!(all.iter().all(|value| value == "two"), "{all:?}");
    assert_eq!(vault.reads(), 2);
}

#[tokio::test]
async fn a_vault_that_does_not_give_it_any_more_is_survived_until_the_secret_ends() {
    let ills = [403, 404, 429, 500].map(|status| async move {
        let vault = Vault::holding("Canary", Some(5)).await;
        let secret = vault.secret();
        assert_eq!(value(&secret).await, "Canary");
        let begun = Instant::now();
        vault.set(Answer::Says(status));
        tokio::time::sleep(Duration::from_millis(2_700)).await;
        assert_eq!(value(&secret).await, "Canary", "{status}");
        // It is not asked again for every connection.
        assert_eq!((value(&secret).await.as_str(), vault.reads()), ("Canary", 2), "{status}");
        tokio::time::sleep(Duration::from_millis(5_100).saturating_sub(begun.elapsed())).await;
        let error = secret.get().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{status}");
        assert!(error.to_string().contains("ward.vault.azure.net") && !error.to_string().contains("Canary"), "{error}");
        // It is back.
        vault.set(Answer::Holds("three".into(), None));
        assert_eq!(value(&secret).await, "three", "{status}");
    });
    futures_util::future::join_all(ills).await;
}

#[tokio::test]
async fn what_a_vault_refuses_at_first_is_told_with_a_remedy() {
    for (status, words) in
        [(403, "Key Vault Secrets User"), (404, "no secret of this name"), (429, "asked by too many"), (500, "HTTP status 500")]
    {
        let error = Vault::start(Answer::Says(status)).await.secret().get().await.unwrap_err();
        assert!(error.kind() == Kind::Unavailable && error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains("Canary"), "{error}");
    }
}

#[tokio::test]
async fn a_secret_that_has_ended_is_refused() {
    let vault = Vault::holding("Canary", Some(-10)).await;
    let error = vault.secret().get().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    assert!(error.to_string().contains("has ended; make a new version") && !error.to_string().contains("Canary"), "{error}");
}

/// The server, a vault that holds its connection string, and the settings of a record there.
async fn hospital(seconds: Option<i64>) -> (Server, Vault, SqlSettings) {
    let server = Server::start(Options::default());
    let vault = Vault::holding(&server.connection_string(), seconds).await;
    let connection = SqlConnection::Vault(URL.into());
    let settings = SqlSettings { ca_file: Some(server.ca_file().to_owned()), ..SqlSettings::new(connection) };
    (server, vault, settings)
}

fn rotate(server: &Server, vault: &Vault, password: &str) {
    server.faults().change_password(password);
    vault.set(Answer::Holds(server.connection_string().replace("Not-A-Secret-1", password), None));
}

fn cut_off(server: &Server) {
    for session in server.faults().sessions() {
        server.faults().kill(session);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_string_that_was_rotated_is_taken_up_without_a_restart() {
    let (server, vault, settings) = hospital(None).await;
    let store = AzureSql::open_with_secret(vault.secret(), &settings, &Identity::default()).await.unwrap();
    store.migrate().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for round in 2..4 {
        rotate(&server, &vault, &format!("Not-A-Secret-{round}"));
        // Whoever is logged in stays.
        assert_eq!(store.totals().await.unwrap().encounters, 0);
        assert_eq!(vault.reads(), round - 1);
        // New connections are needed; they are refused with the old password, once, and then not.
        cut_off(&server);
        let many = futures_util::future::join_all((0..8).map(|_| store.totals())).await;
        assert!(many.iter().all(Result::is_ok), "{many:?}");
        assert_eq!(vault.reads(), round, "the vault was asked once for all of them");
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_string_that_ends_is_replaced_before_anybody_is_refused() {
    let (server, vault, settings) = hospital(Some(6)).await;
    let store = AzureSql::open_with_secret(vault.secret(), &settings, &Identity::default()).await.unwrap();
    store.migrate().await.unwrap();
    rotate(&server, &vault, "Not-A-Secret-2");
    tokio::time::sleep(Duration::from_millis(3_300)).await;
    cut_off(&server);
    let before = server.faults().connections();
    assert!(store.totals().await.is_ok());
    assert_eq!((vault.reads(), server.faults().connections()), (2, before + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_at_once_and_the_vault_is_asked_once_more() {
    let (server, vault, settings) = hospital(None).await;
    let store = AzureSql::open_with_secret(vault.secret(), &settings, &Identity::default()).await.unwrap();
    store.migrate().await.unwrap();
    server.faults().change_password("Canary-7");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    cut_off(&server);
    let begun = Instant::now();
    let error = store.totals().await.unwrap_err();
    assert!(error.to_string().contains("refused the identity or the password"), "{error}");
    assert!(!error.to_string().contains("Not-A-Secret"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30) && vault.reads() == 2, "{:?}, {} reads", begun.elapsed(), vault.reads());
}

#[tokio::test]
async fn what_is_no_connection_string_stops_the_start() {
    let vault = Vault::holding("Canary", None).await;
    let settings = SqlSettings::new(SqlConnection::Vault(URL.into()));
    let error = AzureSql::open_with_secret(vault.secret(), &settings, &Identity::default()).await.err().unwrap();
    assert!(error.kind() == Kind::Invalid && !error.to_string().contains("Canary"), "{error}");
    let wrong = CachedSecret::new(Arc::new(Anyone), "https://ward.vault.azure.net/keys/x", ClientOptions::default());
    assert_eq!(wrong.err().unwrap().kind(), Kind::Invalid);
    assert_eq!(format!("{:?}", Secret::new("Canary")), "Secret");
}
