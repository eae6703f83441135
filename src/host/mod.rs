//! The local Functions host: reads `host.json` and the function folders, starts the handler and plays the triggers as Azure's host does.
//! It does not know what the handler does: it talks to it over HTTP only.

mod app;
mod blob_trigger;
mod clock;
mod contract;
mod event_grid;
mod event_sender;
mod event_source;
mod fault;
mod front;
mod http_trigger;
mod invoke;
mod keys;
mod process;
mod queue_trigger;
mod queues;
mod routes;
mod stage;
mod timer;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

pub use app::HttpMode;
pub use blob_trigger::{BLOB_POISON_QUEUE, BLOB_QUEUE};
pub use contract::{Contract, contract};
pub use event_sender::{Delivery, EventSchema, EventSender, blob_created_event};
pub use event_source::EventGrid;
pub use fault::{Calls, FAULTS, Fault};
pub use keys::Keys;
pub use process::LIFELINE;
pub use queues::{BlobVersion, MESSAGE_BYTES_MAX, Peeked, QUEUE_MESSAGES_MAX, Queues};
pub use stage::{Sources, embedded, from_dir, stage};

use self::app::{App, Trigger};
use self::fault::Faults;
use self::front::Route;
use self::invoke::Invoker;
use self::process::{Launch, Supervisor, stopped};
use self::queue_trigger::Intake;
use crate::blob::Blobs;
use crate::blob::local::Local;
use crate::error::{Error, Result};

/// The version this host answers to: that of the real host whose wire format was measured.
pub const HOST_VERSION: &str = "4.1048.200.26180";

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long the parts of a stopping host may take.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How to run an app. [`Options::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// The staged app: `host.json`, the function folders, the executable, and perhaps `local.settings.json`.
    pub app_dir: PathBuf,
    /// Where queues, receipts and keys are kept.
    pub state_dir: PathBuf,
    /// Each direct sub-folder is a container.
    pub blob_dir: PathBuf,
    /// Instead of `blob_dir`: a storage account, watched by listing.
    pub account: Option<Account>,
    /// The storage account that blob addresses name.
    pub account_url: String,
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Variables that the handler gets besides this process's own.
    pub handler_env: Vec<(String, String)>,
    /// Whether function keys and webhook keys are demanded; `func start` does not.
    pub enforce_keys: bool,
    /// Instead of what `host.json` says.
    pub http_mode: Option<HttpMode>,
    /// Instead of what a function's `supportsDeferredBinding` says.
    pub blob_payload: Option<BlobPayload>,
    /// The longest HTTP request body; the real host's `FUNCTIONS_REQUEST_BODY_SIZE_LIMIT`, 100 MiB unless set.
    pub request_bytes_max: u64,
    /// Play Event Grid: a new blob is an event to the webhooks, instead of a message to its function.
    pub event_grid: Option<EventGrid>,
    /// What goes wrong on purpose.
    pub faults: Vec<Fault>,
    /// Seed of what is random in `faults`.
    pub fault_seed: u64,
    /// Polls, leases and deadlines.
    pub timing: Timing,
}

/// A storage account.
#[derive(Clone)]
pub struct Account(pub Arc<dyn Blobs>);

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account")
    }
}

/// How a blob's content reaches the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobPayload {
    /// A reference; the handler reads the blob itself.
    Deferred,
    /// The content, in base64.
    Inline,
}

/// How long things last. The defaults suit a run by hand; tests shorten them.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Between two looks for readiness.
    pub readiness_poll: Duration,
    /// Between two looks at a queue; this process's own messages are seen at once.
    pub queue_poll: Duration,
    /// Between two looks at a watched folder.
    pub blob_poll: Duration,
    /// How long a file's size and time of writing must stand still before it counts as written.
    pub blob_settle: Duration,
    /// How long a message stays invisible when its host dies; it is renewed while work runs. The real host's is 10 minutes.
    pub lease: Duration,
    /// How long a failed message stays invisible. The real host's is zero, plus up to a minute until its next look.
    pub retry_after: Duration,
    /// How long Event Grid waits for an answer.
    pub event_deadline: Duration,
    /// Instead of `host.json`'s `functionTimeout`.
    pub function_timeout: Option<Duration>,
    /// Instead of `host.json`'s `initializationTimeout`.
    pub initialization_timeout: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            readiness_poll: Duration::from_millis(25),
            queue_poll: Duration::from_secs(1),
            blob_poll: Duration::from_secs(1),
            blob_settle: Duration::from_secs(2),
            lease: Duration::from_secs(60),
            retry_after: Duration::from_secs(1),
            event_deadline: Duration::from_secs(30),
            function_timeout: None,
            initialization_timeout: None,
        }
    }
}

impl Options {
    /// The defaults of `func start`, with Azurite's account address.
    pub fn new(app_dir: impl Into<PathBuf>, state_dir: impl Into<PathBuf>, blob_dir: impl Into<PathBuf>) -> Options {
        Options {
            app_dir: app_dir.into(),
            state_dir: state_dir.into(),
            blob_dir: blob_dir.into(),
            account: None,
            account_url: "http://127.0.0.1:10000/devstoreaccount1".into(),
            port: 7071,
            handler_env: Vec::new(),
            enforce_keys: false,
            http_mode: None,
            blob_payload: None,
            request_bytes_max: 100 * 1024 * 1024,
            event_grid: None,
            faults: Vec::new(),
            fault_seed: 1,
            timing: Timing::default(),
        }
    }
}

/// What every part of a running host shares.
struct Host {
    app: App,
    options: Options,
    http_mode: HttpMode,
    routes: Vec<Route>,
    invoker: Invoker,
    queues: Queues,
    files: Arc<dyn Blobs>,
    keys: Keys,
    address: SocketAddr,
    began: Instant,
    shutdown: watch::Receiver<bool>,
}

impl Host {
    /// Runs `work` beside the request that asked for it, until the host stops.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                () = stopped(&mut shutdown) => {}
            }
        });
    }

    fn intake(&self, queue: String, poison_queue: String, parallel: usize, attempts_max: u32) -> Intake {
        let timing = &self.options.timing;
        Intake {
            queues: self.queues.clone(),
            queue,
            poison_queue,
            parallel,
            attempts_max,
            lease: timing.lease,
            poll: timing.queue_poll,
            retry_after: timing.retry_after,
            shutdown: self.shutdown.clone(),
            faults: Arc::clone(&self.invoker.faults),
        }
    }
}

/// A running host. Dropping it stops it without waiting.
pub struct Running {
    host: Arc<Host>,
    shutdown: watch::Sender<bool>,
    supervisor: JoinHandle<Result<()>>,
    parts: JoinSet<()>,
}

/// Starts a host: when this returns, the front listens and the handler is being started; calls are held until it is ready.
/// [`crate::error::Kind::Invalid`] for an app that the real host would not run, [`crate::error::Kind::Unavailable`] for a port in use.
pub async fn start(options: Options) -> Result<Running> {
    let app = App::load(&options.app_dir)?;
    for name in &app.ignored {
        tracing::warn!("the folder {name} holds no function.json and is ignored");
    }
    let queues = Queues::open(&options.state_dir)?;
    let is_http = |function: &&app::Function| matches!(function.trigger, Trigger::Http { .. });
    let keys = Keys::open(&options.state_dir, app.functions.iter().filter(is_http).map(|function| function.name.as_str()))?;
    let in_use = |error| Error::unavailable(format!("the host cannot listen on 127.0.0.1:{}", options.port)).caused_by(error);
    let socket = tokio::net::TcpSocket::new_v4().map_err(in_use)?;
    socket.set_reuseaddr(true).map_err(in_use)?;
    // Accepted connections inherit it; without it an answer in two writes waits 40 ms for the caller's delayed acknowledgement.
    socket.set_nodelay(true).map_err(in_use)?;
    socket.bind((Ipv4Addr::LOCALHOST, options.port).into()).map_err(in_use)?;
    let listener = socket.listen(BACKLOG).map_err(in_use)?;
    let address = listener.local_addr().map_err(in_use)?;
    let (shutdown, stop) = watch::channel(false);
    let faults = Arc::new(Faults::new(&options.faults, options.fault_seed));
    let launch = Launch {
        executable: app.executable.clone(),
        arguments: app.arguments.clone(),
        working_dir: app.working_dir.clone(),
        app_root: app.root.clone(),
        settings: app.settings.clone(),
        env: options.handler_env.clone(),
        initialization_timeout: options.timing.initialization_timeout.unwrap_or(app.initialization_timeout),
        readiness_poll: options.timing.readiness_poll,
        ready_delay: faults.ready_delay,
    };
    let (supervisor, handler) = Supervisor::new(launch, stop.clone())?;
    let function_timeout = options.timing.function_timeout.or(app.function_timeout);
    let host = Arc::new(Host {
        http_mode: options.http_mode.unwrap_or(app.http_mode),
        routes: front::routes(&app.functions),
        invoker: Invoker { handler, queues: queues.clone(), function_timeout, faults },
        queues,
        files: files(&options),
        keys,
        address,
        began: Instant::now(),
        shutdown: stop,
        app,
        options,
    });
    let mut parts = JoinSet::new();
    parts.spawn(front::serve(Arc::clone(&host), listener));
    listen(&host, &mut parts);
    tracing::info!("the Functions host listens on http://{address}");
    Ok(Running { host, shutdown, supervisor: tokio::spawn(supervisor.run()), parts })
}

/// Where the blobs lie.
fn files(options: &Options) -> Arc<dyn Blobs> {
    match &options.account {
        Some(account) => Arc::clone(&account.0),
        None => Arc::new(Local::new(&options.blob_dir)),
    }
}

/// Starts what delivers to the functions that are not called over HTTP.
fn listen(host: &Arc<Host>, parts: &mut JoinSet<()>) {
    let mut blobs = false;
    for function in &host.app.functions {
        let (host, function) = (Arc::clone(host), function.clone());
        match function.trigger.clone() {
            Trigger::Queue { queue } => {
                parts.spawn(queue_trigger::listen(host, function, queue));
            }
            Trigger::Timer { schedule, run_on_startup } => {
                parts.spawn(timer::listen(host, function, schedule, run_on_startup));
            }
            Trigger::Blob { path, .. } => {
                blobs = true;
                parts.spawn(blob_trigger::watch(host, function, path));
            }
            Trigger::EventGrid | Trigger::Http { .. } => {}
        }
    }
    if blobs {
        parts.spawn(blob_trigger::listen(Arc::clone(host)));
    }
    if let Some(grid) = host.options.event_grid {
        parts.spawn(event_source::listen(Arc::clone(host), grid));
    }
}

/// Runs a host until `shutdown` resolves, or until it stops by itself because its handler kept failing: that is an error.
pub async fn run(options: Options, shutdown: impl Future<Output = ()>) -> Result<()> {
    let mut running = start(options).await?;
    tokio::select! {
        ended = running.wait() => return ended,
        () = shutdown => {}
    }
    running.stop().await;
    Ok(())
}

impl Running {
    /// Where the front listens.
    pub fn http(&self) -> SocketAddr {
        self.host.address
    }

    /// The handler's process; `None` while it is being started, and once it is dead.
    pub fn handler_pid(&self) -> Option<u32> {
        self.host.invoker.handler.pid()
    }

    /// Waits until the handler takes calls.
    pub async fn ready(&self) -> Result<()> {
        self.host.invoker.handler.ready().await.map(|_| ())
    }

    /// The port that the handler listens on; restarts keep it.
    pub fn handler_port(&self) -> u16 {
        self.host.invoker.handler.port()
    }

    /// The host's queues.
    pub fn queues(&self) -> &Queues {
        &self.host.queues
    }

    /// The keys that callers show when keys are enforced.
    pub fn keys(&self) -> &Keys {
        &self.host.keys
    }

    /// Returns when the host stops by itself, because its handler kept failing: always an error.
    pub async fn wait(&mut self) -> Result<()> {
        match (&mut self.supervisor).await {
            Ok(ended) => {
                self.shutdown.send_replace(true);
                ended
            }
            Err(error) => Err(Error::internal("the host's supervisor was cut off").caused_by(error)),
        }
    }

    /// Ends the handler (SIGKILL, as the real host does), gives messages in flight back to their queues and stops listening.
    pub async fn stop(mut self) {
        self.shutdown.send_replace(true);
        let ended = tokio::time::timeout(STOP_GRACE, async {
            if !self.supervisor.is_finished() {
                let _ = (&mut self.supervisor).await;
            }
            while self.parts.join_next().await.is_some() {}
        });
        if ended.await.is_err() {
            tracing::warn!("a part of the host did not stop in time and is cut off");
            self.parts.abort_all();
        }
    }
}
