//! A storage account having a bad day: a proxy on loopback in front of the emulator, which passes requests on or spoils the answers.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    /// Passed on, the answer too.
    Pass,
    /// Answered with this status, as the service does when it is throttled or broken; `Retry-After: 0` with it.
    Status(u16),
    /// The same, with so many seconds in `Retry-After`.
    Later(u16, u32),
    /// Sent on to this port of this machine, for good.
    Elsewhere(u16),
    /// The answer's body breaks off after so many bytes.
    Cut(usize),
    /// The answer's body is shorter by so many bytes, and its length says so.
    Shorten(usize),
    /// The answer's body is sent in small pieces with this pause between.
    Slow(Duration),
    /// Never answered.
    Silence,
    /// The answer carries another entity tag.
    OtherEtag,
    /// Asked for the whole blob whatever range was wanted.
    Whole,
}

/// A request as the proxy sees it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// The address below the account, without its query.
    pub(crate) path: String,
    /// First byte of the range asked for.
    pub(crate) start: Option<u64>,
    /// How many requests for the same came before.
    pub(crate) before: usize,
}

/// A proxy that lives as long as the test process.
pub(crate) struct Proxy {
    port: u16,
    seen: Arc<Mutex<Vec<Asked>>>,
    gate: Arc<Gate>,
}

/// Counts the bytes of blobs on their way out, and can hold them back from a byte on.
#[derive(Default)]
struct Gate {
    state: Mutex<Passed>,
    changed: Condvar,
}

#[derive(Default)]
struct Passed {
    bytes: u64,
    at_most: Option<u64>,
    held: bool,
}

impl Gate {
    /// Sends a body, as far as it may go.
    fn send(&self, client: &mut TcpStream, body: &[u8], pause: Duration) -> std::io::Result<()> {
        const PIECE_BYTES: usize = 64 * 1024;
        let mut rest = body;
        while !rest.is_empty() {
            let mut state = self.state.lock().unwrap();
            while state.at_most.is_some_and(|limit| state.bytes >= limit) {
                state.held = true;
                self.changed.notify_all();
                state = self.changed.wait(state).unwrap();
            }
            let room = state.at_most.map_or(u64::MAX, |limit| limit - state.bytes);
            let (now, later) = rest.split_at(rest.len().min(PIECE_BYTES).min(usize::try_from(room).unwrap_or(usize::MAX)));
            state.bytes += now.len() as u64;
            drop(state);
            std::thread::sleep(pause);
            client.write_all(now)?;
            rest = later;
        }
        Ok(())
    }
}

impl Proxy {
    /// In front of `upstream` (host and port); `fate` decides for each request.
    pub(crate) fn before(upstream: &str, fate: impl Fn(&Asked) -> Fate + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (upstream, fate, seen) = (upstream.to_owned(), Arc::new(fate), Arc::new(Mutex::new(Vec::new())));
        let gate = Arc::new(Gate::default());
        let proxy = Self { port, seen: Arc::clone(&seen), gate: Arc::clone(&gate) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, fate, seen, gate) = (upstream.clone(), Arc::clone(&fate), Arc::clone(&seen), Arc::clone(&gate));
                std::thread::spawn(move || serve(client, &upstream, &*fate, &seen, &gate));
            }
        });
        proxy
    }

    /// The emulator's account behind it.
    pub(crate) fn account_url(&self) -> String {
        format!("http://127.0.0.1:{}/devstoreaccount1", self.port)
    }

    /// From now on lets `bytes` of blobs through, and no more until [`Proxy::let_go`].
    pub(crate) fn hold_after(&self, bytes: u64) {
        *self.gate.state.lock().unwrap() = Passed { bytes: 0, at_most: Some(bytes), held: false };
    }

    /// Waits until something is held back; false if `over` comes true first.
    pub(crate) fn await_held(&self, over: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        loop {
            let state = self.gate.state.lock().unwrap();
            let (state, _) = self.gate.changed.wait_timeout(state, Duration::from_millis(5)).unwrap();
            if state.held || over() {
                return state.held;
            }
            drop(state);
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is ever held back");
        }
    }

    /// Lets everything through.
    pub(crate) fn let_go(&self) {
        self.gate.state.lock().unwrap().at_most = None;
        self.gate.changed.notify_all();
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }
}

/// One request a connection. A peer that goes away ends it.
fn serve(
    mut client: TcpStream,
    upstream: &str,
    fate: &dyn Fn(&Asked) -> Fate,
    seen: &Mutex<Vec<Asked>>,
    gate: &Gate,
) -> Option<()> {
    let (head, body) = read_message(&mut client)?;
    let mut line = head.split([' ', '?']);
    let (method, path) = (line.next()?.to_owned(), line.next()?.to_owned());
    let range = header(&head, "range").or_else(|| header(&head, "x-ms-range"));
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    let asked = {
        let mut seen = seen.lock().unwrap();
        let before = seen.iter().filter(|asked| (&asked.method, &asked.path, asked.start) == (&method, &path, start)).count();
        seen.push(Asked { method, path, start, before });
        seen.last()?.clone()
    };
    let fate = fate(&asked);
    let refusal = |status: u16, header: String| {
        format!("HTTP/1.1 {status} Fault\r\nContent-Length: 0\r\n{header}\r\nConnection: close\r\n\r\n")
    };
    match fate {
        Fate::Status(status) => return client.write_all(refusal(status, "Retry-After: 0".into()).as_bytes()).ok(),
        Fate::Later(status, seconds) => {
            return client.write_all(refusal(status, format!("Retry-After: {seconds}")).as_bytes()).ok();
        }
        Fate::Elsewhere(port) => {
            let path = &asked.path;
            return client.write_all(refusal(308, format!("Location: http://127.0.0.1:{port}{path}")).as_bytes()).ok();
        }
        Fate::Silence => {
            // Until the client gives up.
            let _ = client.read(&mut [0]);
            return None;
        }
        _ => {}
    }
    let mut request: Vec<&str> = head.trim_end().split("\r\n").collect();
    request.retain(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        name != "connection" && !(fate == Fate::Whole && (name == "range" || name == "x-ms-range"))
    });
    request.push("connection: close");
    let mut server = TcpStream::connect(upstream).ok()?;
    server.write_all(format!("{}\r\n\r\n", request.join("\r\n")).as_bytes()).ok()?;
    server.write_all(&body).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let (mut head, mut body) = (String::from_utf8_lossy(&answer[..split]).into_owned(), answer[split..].to_vec());
    match fate {
        Fate::Cut(bytes) => body.truncate(bytes),
        Fate::Shorten(bytes) => {
            let length = format!("{}", body.len().saturating_sub(bytes));
            head = with_header(&head, "content-length", &length);
            body.truncate(body.len().saturating_sub(bytes));
        }
        Fate::OtherEtag => head = with_header(&head, "etag", "\"0x1\""),
        _ => {}
    }
    client.write_all(head.as_bytes()).ok()?;
    let pause = if let Fate::Slow(pause) = fate { pause } else { Duration::ZERO };
    if asked.start.is_some() { gate.send(&mut client, &body, pause).ok() } else { client.write_all(&body).ok() }
}

/// A request's head and its body, whose length the SDK always tells.
fn read_message(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut message, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let split = message.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        if let Some(split) = split {
            let head = String::from_utf8_lossy(&message[..split]).into_owned();
            let length: usize = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            if message.len() >= split + length {
                return Some((head, message[split..].to_vec()));
            }
        }
        match stream.read(&mut piece) {
            Ok(length @ 1..) => message.extend_from_slice(&piece[..length]),
            _ => return None,
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let line = head.split("\r\n").find(|line| line.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name)))?;
    Some(line.split_once(':')?.1.trim())
}

fn with_header(head: &str, name: &str, value: &str) -> String {
    let changed = head.split("\r\n").map(|line| match line.split_once(':') {
        Some((found, _)) if found.eq_ignore_ascii_case(name) => format!("{found}: {value}"),
        _ => line.to_owned(),
    });
    changed.collect::<Vec<_>>().join("\r\n")
}
