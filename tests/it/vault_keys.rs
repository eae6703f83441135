//! Data keys wrapped by a Key Vault: the real client, over real TLS, against a server that speaks a vault's REST and wraps with real RSA keys.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey};
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Transport};
use azure_core::time::OffsetDateTime;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use futures_util::future::join_all;
use health_data_ai::azure::keys::{VaultKey, Wrapped};
use health_data_ai::domain::{Action, AuditEvent, Caller, Encounter, EncounterId, Outcome, PersonName, Phi};
use health_data_ai::error::Kind;
use health_data_ai::store::sealed::{FRESH, KeyFile, LEFT_ALONE, Sealed};
use health_data_ai::store::sqlite::Sqlite;
use health_data_ai::store::{Admitted, Store};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const HOST: &str = "ward.vault.azure.net";
const KEY: &str = "https://ward.vault.azure.net/keys/names";

/// A vault with one RSA key.
struct Vault {
    address: SocketAddr,
    authority: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// PKCS #8 of each version, and whether it is enabled.
    versions: Mutex<Vec<(Vec<u8>, bool)>>,
    /// Answers given in the place of the right ones.
    faults: Mutex<VecDeque<u16>>,
    asked: AtomicUsize,
    /// Takes calls, and answers none.
    silent: AtomicBool,
}

impl State {
    fn rotate(&self) {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = AsDer::as_der(&key).unwrap();
        self.versions.lock().unwrap().push((der.as_ref().to_vec(), true));
    }

    /// What a vault answers to a call with these headers and body.
    fn answer(&self, head: &str, body: &[u8]) -> (u16, Value) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let refusal = |status, code| (status, json!({ "error": { "code": code, "message": "Canary words" } }));
        let head_lower = head.to_ascii_lowercase();
        let Some(token) = head_lower.split("authorization: bearer ").nth(1) else {
            assert!(body.is_empty(), "a key was sent before anybody had asked who we are");
            return refusal(401, "Unauthorized");
        };
        if !token.starts_with("right") {
            return refusal(401, "Unauthorized");
        }
        if let Some(status) = self.faults.lock().unwrap().pop_front() {
            return refusal(status, "Fault");
        }
        let path = head.split_whitespace().nth(1).unwrap().split('?').next().unwrap().to_owned();
        assert!(head.starts_with("POST ") && head.contains("api-version="), "{head}");
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (version, verb) = match parts.as_slice() {
            ["keys", "names", verb] => (None, *verb),
            ["keys", "names", version, verb] => (Some(*version), *verb),
            _ => return refusal(404, "KeyNotFound"),
        };
        let versions = self.versions.lock().unwrap();
        let number = version.map_or(Some(versions.len()), |version| version.strip_prefix('v').and_then(|n| n.parse().ok()));
        let Some((number, (key, enabled))) = number.and_then(|n: usize| Some((n, versions.get(n.checked_sub(1)?)?))) else {
            return refusal(404, "KeyNotFound");
        };
        if !enabled {
            let inner = json!({ "code": "KeyDisabled" });
            return (403, json!({ "error": { "code": "Forbidden", "message": "Canary words", "innererror": inner } }));
        }
        let call: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(call["alg"], "RSA-OAEP-256");
        let value = URL_SAFE_NO_PAD.decode(call["value"].as_str().unwrap()).unwrap();
        let key = PrivateDecryptingKey::from_pkcs8(key).unwrap();
        let mut room = vec![0; 1024];
        let result = match verb {
            "wrapkey" => {
                let public = OaepPublicEncryptingKey::new(key.public_key()).unwrap();
                public.encrypt(&OAEP_SHA256_MGF1SHA256, &value, &mut room, None).map(|bytes| bytes.to_vec())
            }
            "unwrapkey" => {
                let private = OaepPrivateDecryptingKey::new(key).unwrap();
                private.decrypt(&OAEP_SHA256_MGF1SHA256, &value, &mut room, None).map(|bytes| bytes.to_vec())
            }
            _ => return refusal(404, "KeyNotFound"),
        };
        match result {
            Ok(bytes) => (200, json!({ "kid": format!("{KEY}/v{number}"), "value": URL_SAFE_NO_PAD.encode(bytes) })),
            Err(_) => refusal(400, "BadParameter"),
        }
    }
}

impl Vault {
    /// A vault whose key has one version.
    async fn start() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())))
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::new(State::default()));
        state.rotate();
        let (acceptor, shared) = (TlsAcceptor::from(Arc::new(config)), state.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), shared.clone());
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    let Some((head, body)) = request(&mut tls).await else { return };
                    let (status, answer) = state.answer(&head, &body);
                    while state.silent.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let challenge = match status {
                        401 => {
                            "WWW-Authenticate: Bearer authorization=\"https://login.microsoftonline.com/t\", resource=\"https://vault.azure.net\"\r\n"
                        }
                        _ => "",
                    };
                    let text = answer.to_string();
                    let head = format!(
                        "HTTP/1.1 {status} x\r\n{challenge}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        text.len()
                    );
                    let _ = tls.write_all(format!("{head}{text}").as_bytes()).await;
                    let _ = tls.shutdown().await;
                });
            }
        });
        Self { address, authority: authority.as_ref().pem(), state }
    }

    /// The key at `url`, for whom the token names.
    fn key(&self, url: &str, token: &'static str) -> VaultKey {
        self.key_at(self.address, url, token)
    }

    fn key_at(&self, address: SocketAddr, url: &str, token: &'static str) -> VaultKey {
        let authority = reqwest::Certificate::from_pem(self.authority.as_bytes()).unwrap();
        let client = reqwest::Client::builder().resolve(HOST, address).tls_certs_only([authority]).build().unwrap();
        let retry = ExponentialRetryOptions {
            initial_delay: Duration::from_millis(1).try_into().unwrap(),
            max_retries: 2,
            max_delay: Duration::from_millis(5).try_into().unwrap(),
            ..Default::default()
        };
        let options = ClientOptions {
            transport: Some(Transport::new(Arc::new(client))),
            retry: RetryOptions::exponential(retry),
            ..Default::default()
        };
        VaultKey::open(Arc::new(Someone(token)), url, options).unwrap()
    }

    fn fault(&self, statuses: &[u16]) {
        *self.state.faults.lock().unwrap() = statuses.iter().copied().collect();
    }
}

async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().trim().parse::<usize>().unwrap());
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, bytes[end..].to_vec()))
}

#[derive(Debug)]
struct Someone(&'static str);

#[async_trait::async_trait]
impl TokenCredential for Someone {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://vault.azure.net/.default"]);
        Ok(AccessToken::new(self.0, OffsetDateTime::now_utc() + Duration::from_secs(3600)))
    }
}

const SECRET: [u8; 32] = [42; 32];

#[tokio::test]
async fn a_key_is_wrapped_by_the_newest_version_and_unwrapped_by_the_one_that_wrapped_it() {
    let vault = Vault::start().await;
    let key = vault.key(KEY, "right");
    let first = key.wrap(&SECRET).await.unwrap();
    assert_eq!(first.by, format!("{KEY}/v1"));
    assert_eq!(first.bytes.len(), 256);
    assert!(!first.bytes.windows(8).any(|part| part == &SECRET[..8]));
    assert_eq!(**key.unwrap(&first).await.unwrap(), SECRET);

    vault.state.rotate();
    let second = key.wrap(&SECRET).await.unwrap();
    assert_eq!(second.by, format!("{KEY}/v2"));
    for wrapped in [&first, &second] {
        assert_eq!(**key.unwrap(wrapped).await.unwrap(), SECRET);
    }
    let pinned = vault.key(&format!("{KEY}/v1"), "right");
    assert_eq!(pinned.wrap(&SECRET).await.unwrap().by, first.by);
    assert_eq!(**pinned.unwrap(&second).await.unwrap(), SECRET);
}

#[tokio::test]
async fn a_fault_that_passes_is_tried_again_and_one_that_stays_is_told_with_its_remedy() {
    let vault = Vault::start().await;
    let key = vault.key(KEY, "right");
    vault.fault(&[429, 503]);
    let wrapped = key.wrap(&SECRET).await.unwrap();
    for (statuses, words) in [
        (&[403][..], "Key Vault Crypto Service Encryption User"),
        (&[404], "no key of this name"),
        (&[429; 9], "asked by too many"),
        (&[500; 9], "HTTP status 500"),
    ] {
        vault.fault(statuses);
        let error = key.unwrap(&wrapped).await.err().unwrap();
        let text = error.to_string();
        assert!(error.kind() == Kind::Unavailable && text.contains(words) && text.contains(HOST), "{text}");
        assert!(!text.contains("Canary"), "the vault's own words are repeated: {text}");
        vault.fault(&[]);
    }
    let stranger = vault.key(KEY, "wrong").wrap(&SECRET).await.unwrap_err().to_string();
    assert!(stranger.contains("did not accept the token"), "{stranger}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = vault.key_at(nobody, KEY, "right").wrap(&SECRET).await.unwrap_err().to_string();
    assert!(away.contains("cannot be reached"), "{away}");
    vault.state.versions.lock().unwrap()[0].1 = false;
    let disabled = key.unwrap(&wrapped).await.err().unwrap();
    assert!(disabled.is_transient() && disabled.to_string().contains("enable that version again"), "{disabled}");
    vault.fault(&[400]);
    let unwilling = key.wrap(&SECRET).await.unwrap_err();
    assert!(unwilling.is_transient() && unwilling.to_string().contains("must be an RSA key"), "{unwilling}");
}

#[tokio::test]
async fn a_record_does_not_choose_whom_we_ask_and_an_altered_key_is_refused() {
    let vault = Vault::start().await;
    let key = vault.key(KEY, "right");
    let wrapped = key.wrap(&SECRET).await.unwrap();
    let asked = vault.state.asked.load(Ordering::SeqCst);
    for by in [
        "https://evil.example/keys/names/v1",
        "https://ward.vault.azure.net/keys/others/v1",
        "https://ward.vault.azure.net/keys/names",
        "file:0011",
    ] {
        let error = key.unwrap(&Wrapped { by: by.into(), ..wrapped.clone() }).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Internal, "{by}");
    }
    assert_eq!(vault.state.asked.load(Ordering::SeqCst), asked);
    let mut altered = wrapped.clone();
    altered.bytes[17] ^= 1;
    let refused = key.unwrap(&altered).await.err().unwrap();
    assert!(refused.kind() == Kind::Internal && refused.message().contains("altered"), "{refused}");
}

#[expect(clippy::disallowed_methods, reason = "a key's day")]
fn sealed(folder: &std::path::Path, key: Option<VaultKey>) -> Sealed {
    let inner = Arc::new(Sqlite::open(folder.join("record.db")).unwrap());
    match key {
        Some(key) => Sealed::new(inner, Arc::new(key), Utc::now),
        None => Sealed::new(inner, Arc::new(KeyFile::new(folder.join("data.key"))), Utc::now),
    }
}

#[expect(clippy::disallowed_methods, reason = "an event's time")]
fn event(detail: &str) -> AuditEvent {
    AuditEvent::new(&Caller::command_line("c"), Action::RotateKeys, Outcome::Success, Utc::now()).detail(detail)
}

fn encounter(id: i64) -> Encounter {
    let options = health_data_ai::synthetic::Options { rows: 1, seed: 1, first_id: i32::try_from(id).unwrap() };
    let mut encounter = health_data_ai::synthetic::encounters(&options).unwrap().next().unwrap();
    encounter.name = PersonName::new("Ada", "", format!("Nameof{id}"));
    encounter.discharged = Phi::new(None);
    encounter
}

async fn admit(record: &Sealed, id: i64) -> Admitted {
    record.admit(&encounter(id), None, &event("")).await.unwrap()
}

async fn name(record: &Sealed, id: i64) -> String {
    let stored = record.encounter(EncounterId::new(id).unwrap()).await.unwrap().unwrap();
    stored.encounter.name.display().reveal().clone()
}

#[tokio::test]
async fn a_record_goes_from_a_key_file_to_a_vault_and_from_one_version_to_the_next() {
    let (vault, folder) = (Vault::start().await, tempfile::tempdir().unwrap());
    let here = sealed(folder.path(), None);
    here.migrate().await.unwrap();
    assert_eq!(admit(&here, 7).await, Admitted::Now);

    let unwilling = sealed(folder.path(), Some(vault.key(KEY, "right"))).migrate().await.unwrap_err().to_string();
    assert!(unwilling.contains("is wrapped by file:") && unwilling.contains("HDAI_DATA_KEY_URL"), "{unwilling}");
    let keys = here.rewrap_keys(&vault.key(KEY, "right"), |key| event(&key.id)).await.unwrap();
    assert!(keys.len() == 1 && keys[0].wrapped_by == format!("{KEY}/v1"));
    let refused = sealed(folder.path(), None).migrate().await.unwrap_err().to_string();
    assert!(refused.contains(&format!("is wrapped by {KEY}/v1")), "{refused}");

    vault.state.rotate();
    let there = sealed(folder.path(), Some(vault.key(KEY, "right")));
    there.migrate().await.unwrap();
    assert_eq!(name(&there, 7).await, "Ada Nameof7");
    let keys = there.rewrap_keys(&vault.key(KEY, "right"), |key| event(&key.id)).await.unwrap();
    assert_eq!(keys[0].wrapped_by, format!("{KEY}/v2"));
    vault.state.versions.lock().unwrap()[0].1 = false;
    let again = sealed(folder.path(), Some(vault.key(KEY, "right")));
    again.migrate().await.unwrap();
    assert_eq!(name(&again, 7).await, "Ada Nameof7");
}

#[tokio::test]
async fn a_vault_that_is_away_stops_a_start_and_no_admission() {
    let (vault, folder) = (Vault::start().await, tempfile::tempdir().unwrap());
    let record = sealed(folder.path(), Some(vault.key(KEY, "right")));
    vault.fault(&[403; 9]);
    let refused = record.migrate().await.unwrap_err().to_string();
    assert!(refused.contains("Key Vault Crypto Service Encryption User"), "{refused}");
    assert_eq!(record.data_keys().await.unwrap(), []);
    vault.fault(&[]);
    record.migrate().await.unwrap();
    admit(&record, 1).await;

    let other = sealed(folder.path(), Some(vault.key(KEY, "right")));
    other.migrate().await.unwrap();
    let before = record.data_keys().await.unwrap()[0].id.clone();
    let made = other.renew_key(&before, event).await.unwrap().unwrap();
    admit(&other, 2).await;
    tokio::time::sleep(FRESH).await;
    vault.fault(&[503; 1000]);
    // The newer key cannot be unwrapped here: the one before is used, and what is under the newer one is told apart.
    assert_eq!(admit(&record, 3).await, Admitted::Now);
    assert!(record.encounter(EncounterId::new(2).unwrap()).await.is_err());
    let start = sealed(folder.path(), Some(vault.key(KEY, "right"))).migrate().await.unwrap_err().to_string();
    assert!(start.contains("HTTP status 503"), "{start}");
    vault.fault(&[]);
    tokio::time::sleep(LEFT_ALONE).await;
    for id in 1..=3 {
        assert_eq!(name(&record, id).await, format!("Ada Nameof{id}"));
    }
    admit(&record, 4).await;
    let raw = rusqlite::Connection::open(folder.path().join("record.db")).unwrap();
    let last: String = raw.query_row("SELECT LastName FROM PatientData WHERE eid = 4", [], |row| row.get(0)).unwrap();
    assert!(last.starts_with(&format!("hdai1:{made}:")), "{last}");
}

/// An instance that holds one key, in a record whose current key is another one: its id.
async fn one_key_behind(vault: &Vault, folder: &std::path::Path) -> (Sealed, String) {
    let record = sealed(folder, Some(vault.key(KEY, "right")));
    record.migrate().await.unwrap();
    admit(&record, 1).await;
    let other = sealed(folder, Some(vault.key(KEY, "right")));
    other.migrate().await.unwrap();
    let before = record.data_keys().await.unwrap()[0].id.clone();
    let made = other.renew_key(&before, event).await.unwrap().unwrap();
    admit(&other, 2).await;
    tokio::time::sleep(FRESH).await;
    (record, made)
}

#[tokio::test]
async fn while_the_vault_is_silent_known_keys_serve_and_all_who_need_another_wait_for_one_attempt() {
    let (vault, folder) = (Vault::start().await, tempfile::tempdir().unwrap());
    let (record, made) = one_key_behind(&vault, folder.path()).await;
    vault.state.silent.store(true, Ordering::SeqCst);
    let asked = vault.state.asked.load(Ordering::SeqCst);
    let waiting = join_all((0..40).map(|_| record.encounter(EncounterId::new(2).unwrap())));
    let working = async {
        for id in 3..8 {
            assert_eq!(admit(&record, id).await, Admitted::Now);
            assert_eq!(name(&record, id).await, format!("Ada Nameof{id}"));
        }
    };
    tokio::pin!(waiting);
    tokio::select! {
        _ = &mut waiting => panic!("who needs the vault was faster than who does not"),
        () = working => {}
    }
    let told = |answer: Result<_, health_data_ai::error::Error>| {
        let error = answer.map(drop).unwrap_err();
        assert!(error.is_transient() && error.message().contains("no answer came within"), "{error}");
    };
    waiting.await.into_iter().for_each(told);
    // Who comes now is told at once what came of it.
    told(record.encounter(EncounterId::new(2).unwrap()).await);
    assert_eq!(vault.state.asked.load(Ordering::SeqCst), asked + 1, "one call in all");

    vault.state.silent.store(false, Ordering::SeqCst);
    tokio::time::sleep(LEFT_ALONE).await;
    assert_eq!(name(&record, 2).await, "Ada Nameof2");
    admit(&record, 9).await;
    let raw = rusqlite::Connection::open(folder.path().join("record.db")).unwrap();
    let last: String = raw.query_row("SELECT LastName FROM PatientData WHERE eid = 9", [], |row| row.get(0)).unwrap();
    assert!(last.starts_with(&format!("hdai1:{made}:")), "the newer key is taken up: {last}");
}

#[tokio::test]
async fn an_outage_a_disabled_key_and_a_damaged_one_are_told_apart_and_no_import_fails_for_good_by_them() {
    let (vault, folder) = (Vault::start().await, tempfile::tempdir().unwrap());
    let (record, made) = one_key_behind(&vault, folder.path()).await;
    let raw = rusqlite::Connection::open(folder.path().join("record.db")).unwrap();
    let row = |column: &str| format!("SELECT {column} FROM datakeys WHERE id = '{made}'");
    let wrapped: Vec<u8> = raw.query_row(&row("wrapped"), [], |row| row.get(0)).unwrap();
    let by: String = raw.query_row(&row("wrappedby"), [], |row| row.get(0)).unwrap();
    let set = |wrapped: &[u8], by: &str| {
        raw.execute("UPDATE datakeys SET wrapped = ?1, wrappedby = ?2 WHERE id = ?3", (wrapped, by, &made)).unwrap();
    };
    let start = || async { sealed(folder.path(), Some(vault.key(KEY, "right"))).migrate().await.unwrap_err() };

    let mut damaged = wrapped.clone();
    damaged[17] ^= 1;
    set(&damaged, &by);
    let error = start().await;
    assert!(error.kind() == Kind::Internal && error.message().contains(&made), "{error}");
    // In an instance that runs: whoever needs the key is told so, and what needs none goes on.
    let error = record.encounter(EncounterId::new(2).unwrap()).await.unwrap_err();
    assert!(error.kind() == Kind::Internal && error.message().contains(&made), "{error}");
    assert_eq!(admit(&record, 3).await, Admitted::Now);
    // A repeated admission that nobody can decide on is a failure, and the trail says so.
    let error = record.admit(&encounter(2), None, &event("repeated")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Internal, "{error}");
    let newest = record.audit_events(1).await.unwrap().remove(0);
    assert_eq!((newest.outcome, newest.detail.as_str()), (Outcome::Failure, "repeated"));

    let another = vault.key(KEY, "right").wrap(&SECRET).await.unwrap();
    set(&another.bytes, &another.by);
    let error = start().await;
    assert!(error.kind() == Kind::Internal && error.message().contains("is another key"), "{error}");
    set(&wrapped, "https://ward.vault.azure.net/keys/others/v1");
    let error = start().await;
    assert!(error.kind() == Kind::Internal && error.message().contains("HDAI_DATA_KEY_URL"), "{error}");

    set(&wrapped, &by);
    vault.state.versions.lock().unwrap()[0].1 = false;
    let error = start().await;
    assert!(error.is_transient() && error.message().contains("enable that version again"), "{error}");
    assert!(error.message().contains(&made) || error.message().contains("the data key "), "{error}");
    vault.state.versions.lock().unwrap()[0].1 = true;
    vault.fault(&[503; 1000]);
    let error = start().await;
    assert!(error.is_transient() && error.message().contains("HTTP status 503"), "{error}");
    vault.fault(&[]);
    sealed(folder.path(), Some(vault.key(KEY, "right"))).migrate().await.unwrap();
}
