//! What stands between the client and the mock: see the README.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::Identity;

/// Connections that a front saw.
#[derive(Default)]
pub struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl Counts {
    /// All that ever came.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Those that the client has not closed.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The most that were open at once.
    pub fn most_open(&self) -> usize {
        self.most_open.load(Ordering::SeqCst)
    }

    fn came(&self) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
    }

    fn went(&self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A listener on this machine and its port.
pub async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Passes every byte on to the mock at `to`; `mend` makes the mock's handshake packets SQL Server's.
pub fn pass(listener: TcpListener, to: u16, mend: bool) -> Arc<Counts> {
    serve(listener, to, None, mend)
}

/// Ends TLS as `identity` and passes what was in it on to the mock at `to`.
pub fn end_tls(listener: TcpListener, to: u16, identity: &Identity) -> Arc<Counts> {
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols.push(b"tds/8.0".to_vec());
    serve(listener, to, Some(TlsAcceptor::from(Arc::new(config))), false)
}

fn serve(listener: TcpListener, to: u16, tls: Option<TlsAcceptor>, mend: bool) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    let kept = counts.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (counts, tls) = (counts.clone(), tls.clone());
            counts.came();
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                match tls {
                    None => relay(client, server, mend).await,
                    Some(tls) => {
                        if let Ok(client) = tls.accept(client).await {
                            relay(client, server, mend).await;
                        }
                    }
                }
                counts.went();
            });
        }
    });
    kept
}

/// Passes bytes on in both directions until the client has gone.
async fn relay(client: impl AsyncRead + AsyncWrite, server: TcpStream, mend: bool) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = server.into_split();
    let answers = async move {
        let mut mender = Mender::new(mend);
        let mut bytes = vec![0; 16_384];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            let mended = mender.mend(&bytes[..length]);
            if to_client.write_all(&mended).await.is_err() || to_client.flush().await.is_err() {
                break;
            }
        }
        // The client decides when it is over.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = answers => {}
    }
}

/// Rewrites the packet type of the server's handshake packets, all after the first answer and before the first TLS record outside a
/// packet.
struct Mender {
    done: bool,
    packets: usize,
    header: Vec<u8>,
    left: usize,
}

impl Mender {
    fn new(mend: bool) -> Self {
        Self { done: !mend, packets: 0, header: Vec::new(), left: 0 }
    }

    fn mend(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut mended = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.done {
                mended.push(byte);
            } else if self.left > 0 {
                self.left -= 1;
                mended.push(byte);
            } else if self.header.is_empty() && (0x14..=0x17).contains(&byte) {
                self.done = true;
                mended.push(byte);
            } else {
                self.header.push(byte);
                if self.header.len() == 8 {
                    self.left = usize::from(u16::from_be_bytes([self.header[2], self.header[3]])) - 8;
                    if self.packets > 0 && self.header[0] == 0x04 {
                        self.header[0] = 0x12;
                    }
                    self.packets += 1;
                    mended.append(&mut self.header);
                }
            }
        }
        mended
    }
}
