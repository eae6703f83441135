//! A server for this folder's own tests that speaks just enough TDS 8.0: it lets everyone in, runs nothing, and has accidents on demand.
//! Whatever depends on SQL is tested elsewhere.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::config::{Secret, SqlConnection, SqlSettings};

/// What happens to a request instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accident {
    /// The connection breaks, and the request was not carried out.
    CutBefore,
    /// It was carried out, and the connection breaks.
    CutAfter,
    /// The server refuses with this number.
    Refused(u32),
}

#[derive(Default)]
struct State {
    /// The operation that was committed.
    committed: bool,
    seen: Vec<&'static str>,
    accidents: VecDeque<(&'static str, Accident)>,
}

/// A running stub.
pub(super) struct Stub {
    state: Arc<Mutex<State>>,
    port: u16,
    cut_all: watch::Sender<u32>,
    authority: PathBuf,
    _folder: tempfile::TempDir,
}

impl Stub {
    pub(super) async fn start(accidents: impl IntoIterator<Item = (&'static str, Accident)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("ca.pem");
        let tls = acceptor(&authority);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { accidents: accidents.into_iter().collect(), ..State::default() }));
        let (cut_all, cut) = watch::channel(0);
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, state, mut cut) = (tls.clone(), shared.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serve(tcp, tls, state) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { state, port, cut_all, authority, _folder: folder }
    }

    pub(super) fn settings(&self) -> SqlSettings {
        let text = format!("Server=localhost,{};Database=d;UID=u;PWD=p;Encrypt=Strict", self.port);
        let mut settings = SqlSettings::new(SqlConnection::Text(Secret::new(text)));
        settings.ca_file = Some(self.authority.clone());
        settings
    }

    /// How many requests of this kind came: `login`, `set-up`, `alive`, `begin`, `work`, `commit` or `statement`.
    pub(super) fn count(&self, what: &str) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|seen| **seen == what).count()
    }

    /// Breaks every connection that is open.
    pub(super) fn cut_all(&self) {
        self.cut_all.send_modify(|times| *times += 1);
    }
}

fn acceptor(authority_file: &PathBuf) -> TlsAcceptor {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(authority_file, authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let builder = ServerConfig::builder().with_no_client_auth();
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols.push(b"tds/8.0".to_vec());
    TlsAcceptor::from(Arc::new(config))
}

const PRELOGIN: u8 = 0x12;
const LOGIN: u8 = 0x10;
const BATCH: u8 = 0x01;
const STATEMENT: u8 = 0x03;
const TRANSACTION: u8 = 0x0e;
const BEGIN: u8 = 5;

async fn serve(tcp: TcpStream, tls: TlsAcceptor, state: Arc<Mutex<State>>) -> io::Result<()> {
    let mut stream = tls.accept(tcp).await?;
    loop {
        let (kind, body) = message(&mut stream).await?;
        let what = match kind {
            PRELOGIN => "prelogin",
            LOGIN => "login",
            BATCH if says(&body, "XACT_ABORT") => "set-up",
            BATCH if says(&body, "AS alive") => "alive",
            BATCH => "work",
            STATEMENT => "statement",
            TRANSACTION if transaction(&body) == BEGIN => "begin",
            TRANSACTION => "commit",
            _ => return Ok(()),
        };
        let (accident, committed) = {
            let mut state = state.lock().unwrap();
            state.seen.push(what);
            let accident = state.accidents.iter().position(|(request, _)| *request == what);
            let accident = accident.and_then(|place| state.accidents.remove(place)).map(|(_, accident)| accident);
            state.committed |= what == "commit" && matches!(accident, None | Some(Accident::CutAfter));
            (accident, state.committed)
        };
        let answer = match accident {
            Some(Accident::CutBefore | Accident::CutAfter) => return Ok(()),
            Some(Accident::Refused(number)) => refusal(number),
            None => match what {
                "prelogin" => vec![0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 16, 0, 0, 0, 0, 0, 2],
                "login" => [login_ack(), done(0)].concat(),
                // A descriptor of 8 bytes in the place of none.
                "begin" => [vec![0xe3, 11, 0, 8, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0], done(0)].concat(),
                "commit" => [vec![0xe3, 11, 0, 9, 0, 8, 1, 0, 0, 0, 0, 0, 0, 0], done(0)].concat(),
                // The only statement here is the witness's.
                "statement" if committed => one_row(),
                _ => done(0),
            },
        };
        let length = u16::try_from(answer.len() + 8).unwrap().to_be_bytes();
        stream.write_all(&[0x04, 1, length[0], length[1], 0, 0, 1, 0]).await?;
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
}

/// A whole message: its kind and what is in its packets.
async fn message(stream: &mut TlsStream<TcpStream>) -> io::Result<(u8, Vec<u8>)> {
    let mut body = Vec::new();
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).await?;
        let mut packet = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - 8];
        stream.read_exact(&mut packet).await?;
        body.append(&mut packet);
        if header[1] & 1 == 1 {
            return Ok((header[0], body));
        }
    }
}

fn says(body: &[u8], text: &str) -> bool {
    let text: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    body.windows(text.len()).any(|window| window == text)
}

/// The kind of a transaction request, behind all headers.
fn transaction(body: &[u8]) -> u8 {
    body[usize::from(body[0])]
}

fn login_ack() -> Vec<u8> {
    // Interface, TDS 7.4, a name of one letter, version 16.
    let body = [1, 0x74, 0, 0, 4, 1, b'S', 0, 16, 0, 0, 0];
    [vec![0xad, 12, 0], body.to_vec()].concat()
}

fn done(status: u8) -> Vec<u8> {
    vec![0xfd, status, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn refusal(number: u32) -> Vec<u8> {
    // State, class, then an empty message, server, procedure and line.
    let body = [&number.to_le_bytes()[..], &[1, 16], &[0, 0], &[0], &[0], &[0; 4]].concat();
    [vec![0xaa, body.len() as u8, 0], body, done(2)].concat()
}

/// One column without a name, `int NULL`, and one row.
fn one_row() -> Vec<u8> {
    let columns = vec![0x81, 1, 0, 0, 0, 0, 0, 1, 0, 0x26, 4, 0];
    let row = vec![0xd1, 4, 1, 0, 0, 0];
    [columns, row, vec![0xfd, 0x10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]].concat()
}
