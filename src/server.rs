//! HTTP/1.1 on a listener, within limits: how many connections there are, how large the head of a call may be, how long a caller may take
//! to send it and to take the answer. It does not know what is served. (The server of `warp` has no such limits.)

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};

/// What a caller may ask of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. When one more comes, the one that waits longest for its next call ends; if none waits, the one that takes
    /// longest to take its answer.
    pub connections_max: usize,
    /// Longest wait for the whole head of the next call; then the connection ends.
    pub head_time_max: Duration,
    /// Longest wait until an answer is taken; then the connection ends.
    pub answer_time_max: Duration,
}

/// Largest head of a call, in bytes: a platform's principal and a token fit in.
pub const HEAD_BYTES_MAX: usize = 128 * 1024;
/// How much of what a caller still sends is read after the last answer, in bytes, and for how long: one that is still writing when the
/// connection breaks does not see its answer.
const DISCARDED_BYTES_MAX: usize = 8 * 1024 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a new connection waits for the place of one that ends.
const PLACE_TIME_MAX: Duration = Duration::from_secs(1);
/// Refusals of connections under way at once; further ones are not even told.
const REFUSALS_MAX: usize = 64;
/// A pause after the system gave no connection: no file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves `service` until `stop` comes; then calls under way are finished.
pub async fn serve<S, B>(listener: TcpListener, limits: Limits, service: S, stop: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let places = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    let (taken, refusals) = (Arc::new(Semaphore::new(places as usize)), Arc::new(Semaphore::new(REFUSALS_MAX)));
    let waiting = Arc::new(Waiting::default());
    let (stopping, stopped) = watch::channel(false);
    let mut stop = pin!(stop);
    loop {
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        match place(&taken, &waiting).await {
            Some(place) => {
                let seat = Seat::new(Arc::clone(&waiting));
                tokio::spawn(converse(stream, limits, service.clone(), seat, place, stopped.clone()));
            }
            None => {
                if let Ok(refusal) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(turn_away(stream, refusal));
                }
            }
        }
    }
    drop(listener);
    let _ = stopping.send(true);
    // Each connection that is still there holds a place.
    let _ = taken.acquire_many(places).await;
}

/// A place for one more connection, if need be that of the one which waits longest.
async fn place(taken: &Arc<Semaphore>, waiting: &Waiting) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(taken).try_acquire_owned() {
        return Some(place);
    }
    if !waiting.end_oldest() {
        return None;
    }
    timeout(PLACE_TIME_MAX, Arc::clone(taken).acquire_owned()).await.ok()?.ok()
}

async fn turn_away(mut stream: TcpStream, _refusal: OwnedSemaphorePermit) {
    let told = async {
        stream.write_all(FULL).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(HEAD_BYTES_MAX as u64), &mut tokio::io::sink()).await
    };
    let _ = timeout(PLACE_TIME_MAX, told).await;
}

/// One connection, until it ends.
async fn converse<S, B>(
    stream: TcpStream,
    limits: Limits,
    service: S,
    seat: Arc<Seat>,
    _place: OwnedSemaphorePermit,
    mut stopped: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let called = {
        let seat = Arc::clone(&seat);
        service_fn(move |request| {
            seat.call();
            let (seat, answer) = (Arc::clone(&seat), service.call(request));
            async move {
                let answer = answer.await;
                seat.stand(Order::Answered);
                answer
            }
        })
    };
    let socket = Socket::new(stream, limits.answer_time_max, Arc::clone(&seat), stopped.clone());
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_time_max).max_header_size(HEAD_BYTES_MAX);
    // Whoever hangs up does not break off what was asked for, and keeps the place of it until it is done.
    builder.half_close(true);
    let mut connection = pin!(builder.serve_connection(socket, called));
    let mut stop = pin!(async {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            // A call may have come meanwhile.
            () = seat.end.notified() => {
                if !seat.is_called() {
                    return;
                }
            }
            () = &mut stop => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
        }
    };
    if let Err(error) = ended {
        // What callers do to their connections is no fault of ours, and a stranger may do it as often as it likes.
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The connections without a call under way, in the order in which they make room.
#[derive(Default)]
struct Waiting(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    last: u64,
    waiting: BTreeMap<(Order, u64), Arc<Notify>>,
}

/// Which connections make room first; of each the longest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    /// Waits for its next call.
    Waits,
    /// Its answer is not yet taken.
    Answered,
}

impl Waiting {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection that is the first to make room; answers whether there is one.
    fn end_oldest(&self) -> bool {
        self.queue().waiting.pop_first().inspect(|(_, end)| end.notify_one()).is_some()
    }
}

/// A connection's place among those that wait.
struct Seat {
    waiting: Arc<Waiting>,
    end: Arc<Notify>,
    /// `None` while a call is under way.
    number: Mutex<Option<(Order, u64)>>,
}

impl Seat {
    /// One that waits.
    fn new(waiting: Arc<Waiting>) -> Arc<Self> {
        let seat = Arc::new(Self { waiting, end: Arc::default(), number: Mutex::default() });
        seat.stand(Order::Waits);
        seat
    }

    fn number(&self) -> MutexGuard<'_, Option<(Order, u64)>> {
        self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand(&self, order: Order) {
        self.call();
        let mut queue = self.waiting.queue();
        queue.last += 1;
        let number = (order, queue.last);
        queue.waiting.insert(number, Arc::clone(&self.end));
        *self.number() = Some(number);
    }

    /// All that was answered has left.
    fn taken(&self) {
        let answered = matches!(*self.number(), Some((Order::Answered, _)));
        if answered {
            self.stand(Order::Waits);
        }
    }

    fn is_called(&self) -> bool {
        self.number().is_none()
    }

    /// A call came: the connection no longer waits.
    fn call(&self) {
        let number = self.number().take();
        if let Some(number) = number {
            self.waiting.queue().waiting.remove(&number);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.call();
    }
}

/// A connection that gives up a caller who does not take its answer, and hears out one that is still sending when all is said.
struct Socket {
    stream: TokioIo<TcpStream>,
    answer_time_max: Duration,
    /// Runs while something written waits to be taken.
    patience: Option<Pin<Box<Sleep>>>,
    begun: bool,
    closing: Option<Closing>,
    seat: Arc<Seat>,
    /// When the server stops, nobody is heard out.
    stopped: watch::Receiver<bool>,
}

struct Closing {
    until: Pin<Box<Sleep>>,
    discarded: usize,
}

/// The preface of HTTP/2 has 24 bytes. A parser that sees fewer answers it as the version it does not speak; one that sees all hangs up.
const FIRST_BYTES_MAX: usize = 23;

impl Socket {
    fn new(stream: TcpStream, answer_time_max: Duration, seat: Arc<Seat>, stopped: watch::Receiver<bool>) -> Self {
        Self { stream: TokioIo::new(stream), answer_time_max, patience: None, begun: false, closing: None, seat, stopped }
    }

    /// An error once the caller has not taken what was written for too long.
    fn wait_for_the_caller<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = self.answer_time_max;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(patience.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads on until the caller ends, or has had its time.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if *self.stopped.borrow() {
            return Poll::Ready(Ok(()));
        }
        let closing = self.closing.get_or_insert_with(|| Closing { until: Box::pin(sleep(DISCARD_TIME_MAX)), discarded: 0 });
        let mut space = [0; 16 * 1024];
        while closing.discarded < DISCARDED_BYTES_MAX {
            if closing.until.as_mut().poll(cx).is_ready() {
                break;
            }
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => closing.discarded += buffer.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Read for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.begun {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let mut space = [0; FIRST_BYTES_MAX];
        let room = buf.remaining().min(FIRST_BYTES_MAX);
        let mut first = ReadBuf::new(&mut space[..room]);
        ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut first))?;
        self.begun = true;
        buf.put_slice(first.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Pending => self.wait_for_the_caller(cx),
            written => written,
        }
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, bufs) {
            Poll::Pending => self.wait_for_the_caller(cx),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Everything was written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.patience = None;
        self.seat.taken();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        self.poll_discard(cx)
    }
}
