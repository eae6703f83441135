//! A Microsoft Entra ID of the tests: RSA keys, tokens signed with them, and a server on loopback that publishes them.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::prelude::{BASE64_STANDARD, Engine};
use health_data_ai::config::EntraSettings;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

pub(super) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(super) const CLIENT: &str = "99999999-8888-7777-6666-555555555555";
pub(super) const URI: &str = "api://hdai";
pub(super) const OBJECT: &str = "5b5450db-eb26-4c1a-981c-ba1d25f0483d";

/// A signing key and its id.
pub(super) struct Key {
    pub(super) id: &'static str,
    signing: EncodingKey,
}

impl Key {
    pub(super) fn new(id: &'static str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        // The library wants PKCS#1, which lies behind the 26 bytes that PKCS#8 begins with for this size of key.
        Self { id, signing: EncodingKey::from_rsa_der(&der.as_ref()[26..]) }
    }

    /// As an issuer publishes it.
    pub(super) fn published(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.signing, Algorithm::RS256).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        let mut jwk = serde_json::to_value(jwk).unwrap();
        // Entra's keys say what they are for, and not by which algorithm.
        jwk.as_object_mut().unwrap().remove("alg");
        jwk["use"] = json!("sig");
        jwk
    }

    /// The modulus, which everybody may know.
    pub(super) fn modulus(&self) -> String {
        match Jwk::from_encoding_key(&self.signing, Algorithm::RS256).unwrap().algorithm {
            AlgorithmParameters::RSA(parameters) => parameters.n,
            _ => panic!("an RSA key"),
        }
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_with(self.header(), claims)
    }

    pub(super) fn header(&self) -> Header {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.id.to_owned());
        header
    }

    pub(super) fn sign_with(&self, header: Header, claims: &Value) -> String {
        encode(&header, claims, &self.signing).unwrap()
    }
}

/// What Entra says of a person of these roles, now; `more` replaces claims, null takes one away.
pub(super) fn claims(roles: &[&str], more: Value) -> Value {
    let now = now();
    let mut claims = json!({
        "ver": "2.0", "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "aud": CLIENT, "tid": TENANT, "oid": OBJECT,
        "sub": "pairwise", "azp": "aaaaaaaa-0000-0000-0000-000000000000", "scp": "user_impersonation", "roles": roles,
        "name": "Planted Canary", "preferred_username": "planted.canary@example.org",
        "iat": now, "nbf": now - 10, "exp": now + 3600,
    });
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// What Entra's first version says.
pub(super) fn first_version() -> Value {
    json!({ "ver": "1.0", "iss": format!("https://sts.windows.net/{TENANT}/"), "aud": URI, "azp": null, "appid": CLIENT })
}

#[expect(clippy::disallowed_methods, reason = "tokens are of today")]
pub(super) fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// The header that App Service authentication makes of an identity.
pub(super) fn principal(object: &str, tenant: &str, role: &str) -> String {
    let claims = json!([
        { "typ": "http://schemas.microsoft.com/identity/claims/objectidentifier", "val": object },
        { "typ": "http://schemas.microsoft.com/identity/claims/tenantid", "val": tenant },
        { "typ": "roles", "val": role },
    ]);
    BASE64_STANDARD.encode(json!({ "auth_typ": "aad", "claims": claims }).to_string())
}

/// What the server answers.
#[derive(Clone)]
pub(super) enum Answer {
    Keys(Vec<Value>),
    /// Breaks off.
    Away,
    /// Says nothing.
    Silent,
}

/// The server that publishes the keys.
#[derive(Clone)]
pub(super) struct Server {
    port: u16,
    answer: Arc<Mutex<Answer>>,
    fetches: Arc<AtomicUsize>,
}

impl Server {
    pub(super) fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, answer: Arc::new(Mutex::new(Answer::Away)), fetches: Arc::default() };
        server.publish(keys);
        let (answer, fetches) = (Arc::clone(&server.answer), Arc::clone(&server.fetches));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, fetches) = (answer.lock().unwrap().clone(), Arc::clone(&fetches));
                std::thread::spawn(move || serve(stream, &answer, &fetches));
            }
        });
        server
    }

    pub(super) fn publish(&self, keys: &[&Key]) {
        self.answer(Answer::Keys(keys.iter().map(|key| key.published()).collect()));
    }

    pub(super) fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How often it was asked.
    pub(super) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/keys", self.port)
    }

    pub(super) fn vars(&self) -> Vec<(&'static str, String)> {
        vec![
            ("HDAI_ENTRA_TENANT_ID", TENANT.to_owned()),
            ("HDAI_ENTRA_AUDIENCES", format!("{CLIENT},{URI}")),
            ("HDAI_ENTRA_KEYS_URL", self.url()),
        ]
    }

    pub(super) fn settings(&self) -> EntraSettings {
        let vars = self.vars();
        let lookup = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        health_data_ai::config::Config::from_vars(lookup).unwrap().sign_in.entra.unwrap()
    }
}

fn serve(mut stream: std::net::TcpStream, answer: &Answer, fetches: &AtomicUsize) {
    let mut request = [0; 4096];
    if stream.read(&mut request).unwrap_or(0) == 0 {
        return;
    }
    fetches.fetch_add(1, Ordering::SeqCst);
    match answer {
        Answer::Keys(keys) => {
            let body = json!({ "keys": keys }).to_string();
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
        Answer::Away => {}
        Answer::Silent => std::thread::sleep(Duration::from_secs(30)),
    }
}
