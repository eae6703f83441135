//! One connection: handshake, login, and then one request after the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answer::{Answer, Change};
use super::control::{Action, Shared};
use super::engine::Engine;
use super::error::SqlError;
use super::login::{self, Login};
use super::packet::{self, Message};
use super::request::Request;
use super::tls::{Certificates, Wrapped};

type Tls = TlsStream<Wrapped>;

const FIRST_PACKET_BYTES: usize = 4096;
const TLS_HANDSHAKE: u8 = 0x16;

/// Serves a connection to its end.
pub(super) async fn serve(tcp: TcpStream, shared: Arc<Shared>, certificates: Arc<Certificates>) -> io::Result<()> {
    let id = shared.opened();
    tcp.set_nodelay(true)?;
    let mut stream = handshake(tcp, &certificates, id).await?;
    let Some((login, kill)) = log_in(&mut stream, &shared, id).await? else {
        return stream.shutdown().await;
    };
    let (path, sharing, user) = (shared.path.clone(), shared.clone(), login.user.clone());
    let opened = tokio::task::spawn_blocking(move || Engine::open(&path, sharing, id, user)).await.map_err(io::Error::other)?;
    let engine = match opened {
        Ok(engine) => engine,
        Err(error) => {
            shared.refused(&format!("the storage cannot be opened: {error}"), "");
            return Err(io::Error::other(error));
        }
    };
    let mut answer = Answer::new(false);
    answer.login_accepted(login.token.is_some());
    answer.change(&Change::Database(&shared.options.database));
    answer.change(&Change::Collation);
    answer.change(&Change::PacketSize(login.packet_size));
    if let Some((host, port)) = &shared.options.redirect {
        answer.change(&Change::Routing(host, *port));
    }
    packet::send(&mut stream, FIRST_PACKET_BYTES, id, &answer.finish(0)).await?;
    let (reader, writer) = tokio::io::split(stream);
    let (sender, messages) = mpsc::channel(4);
    let reading = tokio::spawn(read_all(reader, login.packet_size, sender, shared.clone()));
    let mut session = Session { id, size: login.packet_size, shared, kill, writer, messages, engine: Some(engine) };
    let ended = session.requests().await;
    reading.abort();
    session.close().await;
    ended
}

async fn read_all(mut reader: ReadHalf<Tls>, size: usize, sender: mpsc::Sender<Message>, shared: Arc<Shared>) {
    loop {
        match packet::read(&mut reader, size).await {
            Ok(message) => {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::Other {
                    shared.refused(&format!("the wire: {error}"), "");
                }
                return;
            }
        }
    }
}

/// TLS, either way; after it PRELOGIN is done.
async fn handshake(mut tcp: TcpStream, certificates: &Certificates, id: u64) -> io::Result<Tls> {
    let mut first = [0];
    tcp.peek(&mut first).await?;
    if first[0] == TLS_HANDSHAKE {
        let mut stream = TlsAcceptor::from(certificates.strict.clone()).accept(Wrapped::new(tcp, false)).await?;
        let request = expect(packet::read(&mut stream, FIRST_PACKET_BYTES).await?, packet::PRELOGIN)?;
        packet::send(&mut stream, FIRST_PACKET_BYTES, id, &login::prelogin_answer(&request)).await?;
        return Ok(stream);
    }
    let request = expect(packet::read(&mut tcp, FIRST_PACKET_BYTES).await?, packet::PRELOGIN)?;
    packet::send(&mut tcp, FIRST_PACKET_BYTES, id, &login::prelogin_answer(&request)).await?;
    let mut stream = TlsAcceptor::from(certificates.wrapped.clone()).accept(Wrapped::new(tcp, true)).await?;
    stream.flush().await?;
    stream.get_mut().0.unwrap_from_now_on();
    Ok(stream)
}

fn expect(message: Message, kind: u8) -> io::Result<Vec<u8>> {
    if message.kind == kind { Ok(message.bytes) } else { Err(io::Error::other(format!("a message of type {:#04x}", message.kind))) }
}

/// Reads LOGIN7; none if it was refused.
async fn log_in(stream: &mut Tls, shared: &Shared, id: u64) -> io::Result<Option<(Login, Arc<Notify>)>> {
    let bytes = expect(packet::read(stream, FIRST_PACKET_BYTES).await?, packet::LOGIN)?;
    let login = match login::parse(&bytes) {
        Ok(login) => login,
        Err(error) => {
            shared.refused(&error.message, "LOGIN7");
            return Err(io::Error::other(error.message));
        }
    };
    if let Some(token) = &login.token {
        shared.token(token.clone());
    }
    let options = &shared.options;
    let known = match &login.token {
        Some(token) => options.token.as_ref().is_none_or(|expected| expected == token),
        None => login.user == options.user && shared.has_password(&login.password),
    };
    let refusal = if let Some(number) = shared.login_fault() {
        Some(SqlError::new(number, if number == 18_456 { 14 } else { 20 }, format!("injected refusal {number}")))
    } else if !known {
        Some(SqlError::new(18_456, 14, format!("Login failed for user '{}'.", login.user)))
    } else if login.database != options.database {
        Some(SqlError::new(4060, 11, format!("Cannot open database \"{}\" requested by the login.", login.database)))
    } else {
        None
    };
    if let Some(refusal) = refusal {
        let mut answer = Answer::new(false);
        answer.error(&refusal);
        packet::send(stream, FIRST_PACKET_BYTES, id, &answer.finish(0)).await?;
        return Ok(None);
    }
    Ok(Some((login, shared.arrived(id))))
}

struct Session {
    id: u64,
    size: usize,
    shared: Arc<Shared>,
    kill: Arc<Notify>,
    writer: WriteHalf<Tls>,
    messages: mpsc::Receiver<Message>,
    engine: Option<Engine>,
}

/// What came of waiting while a request was under way.
enum Under {
    Answer(Vec<u8>),
    Cancelled,
    Gone,
}

impl Session {
    async fn requests(&mut self) -> io::Result<()> {
        loop {
            let message = tokio::select! {
                message = self.messages.recv() => message,
                () = self.kill.notified() => return Ok(()),
            };
            let Some(message) = message else { return Ok(()) };
            let answered = match message.kind {
                packet::ATTENTION => Under::Cancelled,
                kind => self.request(kind, &message.bytes).await?,
            };
            let bytes = match answered {
                Under::Answer(bytes) => bytes,
                Under::Cancelled => Answer::attention(),
                Under::Gone => return Ok(()),
            };
            packet::send(&mut self.writer, self.size, self.id, &bytes).await?;
        }
    }

    async fn request(&mut self, kind: u8, bytes: &[u8]) -> io::Result<Under> {
        let request = match Request::parse(kind, bytes) {
            Ok(request) => request,
            Err(error) => {
                let call = kind == packet::CALL;
                return Ok(self.engine.as_mut().map_or(Under::Gone, |engine| Under::Answer(engine.injected(&error, call))));
            }
        };
        let action = self.shared.request(request.text());
        if let Some(error) = action.as_ref().and_then(Action::as_error) {
            let call = request.is_call();
            return self.work(move |engine| engine.injected(&error, call)).await;
        }
        match action {
            Some(Action::CloseBefore) => return Ok(Under::Gone),
            Some(Action::Delay(time)) => {
                if let Some(instead) = self.wait(time).await {
                    return Ok(instead);
                }
            }
            _ => {}
        }
        let under = self.work(move |engine| engine.serve(request)).await?;
        Ok(if matches!(action, Some(Action::CloseAfter)) { Under::Gone } else { under })
    }

    /// Waits; answers what ended the wait before its time.
    async fn wait(&mut self, time: Duration) -> Option<Under> {
        tokio::select! {
            () = tokio::time::sleep(time) => None,
            () = self.kill.notified() => Some(Under::Gone),
            message = self.messages.recv() => match message {
                Some(Message { kind: packet::ATTENTION, .. }) => Some(Under::Cancelled),
                _ => Some(Under::Gone),
            },
        }
    }

    /// Has the engine work on a thread of its own, and listens meanwhile.
    async fn work(&mut self, work: impl FnOnce(&mut Engine) -> Vec<u8> + Send + 'static) -> io::Result<Under> {
        let Some(mut engine) = self.engine.take() else { return Ok(Under::Gone) };
        let (interrupt, cancelled) = (engine.interrupt(), engine.cancelled.clone());
        cancelled.store(false, Ordering::SeqCst);
        let mut task = tokio::task::spawn_blocking(move || {
            let answer = work(&mut engine);
            (engine, answer)
        });
        let instead = tokio::select! {
            done = &mut task => {
                let (engine, answer) = done.map_err(io::Error::other)?;
                self.engine = Some(engine);
                return Ok(Under::Answer(answer));
            }
            () = self.kill.notified() => Under::Gone,
            message = self.messages.recv() => match message {
                Some(Message { kind: packet::ATTENTION, .. }) => Under::Cancelled,
                _ => Under::Gone,
            },
        };
        cancelled.store(true, Ordering::SeqCst);
        // An interrupt ends what runs now and not what begins a moment later, so it is repeated.
        let (engine, _) = loop {
            interrupt.interrupt();
            if let Ok(done) = tokio::time::timeout(Duration::from_millis(20), &mut task).await {
                break done.map_err(io::Error::other)?;
            }
        };
        self.engine = Some(engine);
        Ok(instead)
    }

    async fn close(mut self) {
        if let Some(engine) = self.engine.take() {
            let _ = tokio::task::spawn_blocking(move || engine.close()).await;
        }
        self.shared.left(self.id);
    }
}
