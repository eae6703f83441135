//! TLS: a small authority of our own, and the handshake that TDS 7.4 wraps into its packets.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

/// Certificates for `localhost` and 127.0.0.1.
pub(crate) struct Certificates {
    /// The authority, PEM.
    pub(crate) authority: String,
    /// For TDS 7.4. TLS 1.2: a ticket of TLS 1.3 would come after the handshake, when the client no longer unwraps.
    pub(crate) wrapped: Arc<ServerConfig>,
    /// For TDS 8.0, which begins with TLS.
    pub(super) strict: Arc<ServerConfig>,
}

impl Certificates {
    pub(crate) fn make() -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "hdai tests");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        leaf.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let leaf = leaf.signed_by(&key, &authority).unwrap();
        let config = |version: &'static SupportedProtocolVersion| {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_protocol_versions(&[version])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], key)
                .unwrap()
        };
        let mut strict = config(&TLS13);
        strict.alpn_protocols.push(b"tds/8.0".to_vec());
        Self { authority: authority.as_ref().pem(), wrapped: Arc::new(config(&TLS12)), strict: Arc::new(strict) }
    }
}

/// A TCP stream whose bytes are wrapped into PRELOGIN packets as long as the handshake lasts.
pub(super) struct Wrapped {
    tcp: TcpStream,
    wrapping: bool,
    header: Vec<u8>,
    left: usize,
    pending: Vec<u8>,
    sent: usize,
}

const PRELOGIN: u8 = 0x12;
const HEADER: usize = 8;

impl Wrapped {
    pub(super) fn new(tcp: TcpStream, wrapping: bool) -> Self {
        Self { tcp, wrapping, header: Vec::new(), left: 0, pending: Vec::new(), sent: 0 }
    }

    /// The handshake is over.
    pub(super) fn unwrap_from_now_on(&mut self) {
        self.wrapping = false;
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.pending.len() {
            let count = ready!(Pin::new(&mut self.tcp).poll_write(context, &self.pending[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        self.pending.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wrapped {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.wrapping {
            return Pin::new(&mut this.tcp).poll_read(context, into);
        }
        while this.left == 0 {
            let mut bytes = [0; HEADER];
            let mut rest = ReadBuf::new(&mut bytes[..HEADER - this.header.len()]);
            ready!(Pin::new(&mut this.tcp).poll_read(context, &mut rest))?;
            if rest.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.header.extend(rest.filled());
            if this.header.len() == HEADER {
                if this.header[0] != PRELOGIN {
                    return Poll::Ready(Err(io::Error::other("a TLS handshake outside of PRELOGIN packets")));
                }
                this.left = usize::from(u16::from_be_bytes([this.header[2], this.header[3]])).saturating_sub(HEADER);
                this.header.clear();
            }
        }
        let most = this.left.min(into.remaining());
        let mut part = into.take(most);
        ready!(Pin::new(&mut this.tcp).poll_read(context, &mut part))?;
        let count = part.filled().len();
        this.left -= count;
        // What was read lies in the buffer already, and is not yet counted as its own.
        let read = part.filled().to_vec();
        into.put_slice(&read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.wrapping {
            return Pin::new(&mut this.tcp).poll_write(context, bytes);
        }
        ready!(this.poll_send(context))?;
        let count = bytes.len().min(4096 - HEADER);
        this.pending.extend([PRELOGIN, 1]);
        this.pending.extend(((count + HEADER) as u16).to_be_bytes());
        this.pending.extend([0; 4]);
        this.pending.extend(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}
