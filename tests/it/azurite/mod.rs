//! A real Azurite for the tests, over http and over https with token authentication: its locked version is installed once below the
//! build folder, started once a test run on free ports, and ends with the process that started it (`tests/azurite/watched.js`).

pub(crate) mod proxy;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::hmac::hmac_sha256;
use azure_core::http::Transport;
use azure_core::time::OffsetDateTime;
use azure_storage_blob::{BlobContainerClient, BlobServiceClient};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use health_data_ai::blob::azure::{Access, AzureBlobs, Limits};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

/// The emulator's account and its published key.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// An Azurite that listens.
pub(crate) struct Azurite {
    child: Child,
    /// `http://127.0.0.1:PORT` or `https://…`.
    origin: String,
    /// The certificate authority that vouches for it, if it speaks https.
    pub(crate) authority: Option<String>,
}

impl Azurite {
    /// The one of this test run that speaks http and takes signatures.
    pub(crate) fn http() -> &'static Self {
        static HTTP: OnceLock<Azurite> = OnceLock::new();
        HTTP.get_or_init(|| Self::start(None))
    }

    /// The one of this test run that speaks https and takes tokens too.
    pub(crate) fn https() -> &'static Self {
        static HTTPS: OnceLock<Azurite> = OnceLock::new();
        HTTPS.get_or_init(|| Self::start(Some(&Certificates::new())))
    }

    /// The queue service of this test run that speaks http and takes signatures.
    pub(crate) fn queues() -> &'static Self {
        static QUEUES: OnceLock<Azurite> = OnceLock::new();
        QUEUES.get_or_init(|| Self::serve("queue", None))
    }

    pub(crate) fn start(certificates: Option<&Certificates>) -> Self {
        Self::serve("blob", certificates)
    }

    /// `blob` or `queue`.
    pub(crate) fn serve(service: &str, certificates: Option<&Certificates>) -> Self {
        let installed = install();
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("node");
        command.arg(source().join("watched.js")).arg(&installed).arg(service).current_dir(&installed);
        command.args([format!("--{service}Host"), "127.0.0.1".to_owned(), format!("--{service}Port"), "0".to_owned()]);
        command.args(["--inMemoryPersistence", "--disableTelemetry", "--silent"]);
        if let Some(certificates) = certificates {
            let (cert, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
            fs::write(&cert, &certificates.server).unwrap();
            fs::write(&key, &certificates.key).unwrap();
            command.args(["--oauth", "basic", "--cert"]).arg(cert).arg("--key").arg(key);
        }
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child =
            spawned.expect("node cannot be started: install Node 20 or newer, the tests run the storage emulator on it");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address =
            lines.find_map(|line| line.split_once("successfully listens on ").map(|(_, address)| address.trim().to_owned()));
        let address = address.expect("the emulator never listened; run the command of tests/azurite/watched.js by hand");
        // It may go on writing, and must not meet a closed pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let origin = address.replace("localhost", "127.0.0.1").trim_end_matches('/').to_owned();
        Self { child, origin, authority: certificates.map(|certificates| certificates.authority.clone()) }
    }

    /// The account's URL.
    pub(crate) fn account_url(&self) -> String {
        format!("{}/{ACCOUNT}", self.origin)
    }

    /// The host and port.
    pub(crate) fn address(&self) -> &str {
        self.origin.split_once("://").unwrap().1
    }

    /// The project's client of the emulator's own account.
    pub(crate) fn blobs(&self, limits: Limits) -> AzureBlobs {
        AzureBlobs::with(&self.account_url(), &Access::Emulator, limits, self.transport()).unwrap()
    }

    /// The SDK's client of a container, which is made.
    pub(crate) async fn container(&self, name: &str) -> BlobContainerClient {
        let url = format!("{}?{}", self.account_url(), signature("rwdlactf", "2099-01-01T00:00:00Z"));
        let options = azure_storage_blob::BlobServiceClientOptions {
            client_options: azure_core::http::ClientOptions { transport: self.transport(), ..Default::default() },
            ..Default::default()
        };
        let account = BlobServiceClient::new(url.parse().unwrap(), None, Some(options)).unwrap();
        let container = account.blob_container_client(name);
        container.create(None).await.unwrap();
        container
    }

    /// An HTTP client that trusts this server.
    pub(crate) fn transport(&self) -> Option<Transport> {
        let authority = reqwest::Certificate::from_pem(self.authority.as_ref()?.as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
        Some(Transport::new(Arc::new(client)))
    }

    /// Closes its standard input, as the end of this process would.
    pub(crate) fn orphan(mut self) -> Child {
        assert!(self.child.try_wait().unwrap().is_none(), "it has ended before");
        drop(self.child.stdin.take());
        self.child
    }
}

/// Limits for the tests: small ranges, short pauses.
pub(crate) fn impatient() -> Limits {
    Limits { range_bytes: 512 * 1024, request: Duration::from_secs(60), pause: Duration::from_millis(10), ..Limits::default() }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/azurite")
}

/// The folder with the locked version, below the build folder; nothing is written into the sources.
fn install() -> PathBuf {
    let lock = fs::read(source().join("package-lock.json")).unwrap();
    let name: String = <sha2::Sha256 as sha2::Digest>::digest(&lock)[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    let below = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (folder, done) = (below.join(format!("azurite-{name}")), below.join(format!("azurite-{name}.installed")));
    fs::create_dir_all(&folder).unwrap();
    // Another test run may be at it.
    let guard = fs::File::create(below.join("azurite.lock")).unwrap();
    guard.lock().unwrap();
    if !done.exists() {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(source().join(file), folder.join(file)).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&folder).stdin(Stdio::null());
        let output =
            npm.output().expect("npm cannot be started: install Node 20 or newer, the tests run the storage emulator on it");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "npm ci did not install the storage emulator; it needs a package registry once: {said}");
        fs::write(done, "").unwrap();
    }
    folder
}

/// An account signature over http and https, of all containers and blobs.
pub(crate) fn signature(permissions: &str, expiry: &str) -> String {
    signed(KEY, permissions, expiry)
}

/// The same with a key of one's own.
pub(crate) fn signed(key: &str, permissions: &str, expiry: &str) -> String {
    signed_for("b", key, permissions, expiry)
}

/// The same for the queue service, `q`.
pub(crate) fn queue_signature(permissions: &str) -> String {
    signed_for("q", KEY, permissions, "2099-01-01T00:00:00Z")
}

fn signed_for(service: &str, key: &str, permissions: &str, expiry: &str) -> String {
    let text = format!("{ACCOUNT}\n{permissions}\n{service}\nsco\n\n{expiry}\n\nhttps,http\n2018-11-09\n");
    let signature = hmac_sha256(&text, &key.to_owned().into()).unwrap();
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (expiry, signature) = (encoded(expiry), encoded(&signature));
    format!("sv=2018-11-09&ss={service}&srt=sco&sp={permissions}&se={expiry}&spr=https%2Chttp&sig={signature}")
}

/// A token with the claims that the emulator looks at; it does not look at the signature.
pub(crate) fn token(audience: &str) -> String {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let issuer = "https://sts.windows.net/00000000-0000-0000-0000-000000000000/";
    let claims = json!({ "aud": audience, "iss": issuer, "iat": now - 60, "nbf": now - 60, "exp": now + 3600 });
    let encoded = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", encoded(r#"{"alg":"RS256","typ":"JWT"}"#), encoded(&claims.to_string()), encoded("unsigned"))
}

/// A credential that gives tokens for `audience`.
#[derive(Debug)]
pub(crate) struct Tokens(pub(crate) &'static str);

#[async_trait::async_trait]
impl TokenCredential for Tokens {
    async fn get_token(&self, scopes: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://storage.azure.com/.default"]);
        Ok(AccessToken::new(token(self.0), OffsetDateTime::now_utc() + azure_core::time::Duration::hours(1)))
    }
}

/// A certificate authority and a server it vouches for, in PEM.
pub(crate) struct Certificates {
    authority: String,
    server: String,
    key: String,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        let server_key = rcgen::KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server = rcgen::CertificateParams::new(names).unwrap().signed_by(&server_key, &issuer).unwrap();
        Self { authority, server: server.pem(), key: server_key.serialize_pem() }
    }
}
