//! The handler's process: started, watched, restarted and ended by the real host's rules (exit 0 stays dead, exit 200 is a free
//! restart, the third fault stops the host). It does not know functions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::{Error, Result};

/// Faults that stop the host, each within [`FAULT_WINDOW`] of the one before.
const FAULTS_MAX: u32 = 3;
const FAULT_WINDOW: Duration = Duration::from_secs(30 * 60);
/// The longest line of output that is passed on whole.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// How long the rest of an ended handler's output is waited for.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);

/// Tells the handler that its standard input ends when this host does, even by SIGKILL. Azure's host does not set it.
pub const LIFELINE: &str = "HDAI_HOST_LIFELINE";

/// How to start the handler.
pub(crate) struct Launch {
    pub(crate) executable: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) working_dir: PathBuf,
    pub(crate) app_root: PathBuf,
    /// `local.settings.json`: a variable that the environment already has wins.
    pub(crate) settings: BTreeMap<String, String>,
    /// Set whatever the environment has.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) initialization_timeout: Duration,
    pub(crate) readiness_poll: Duration,
    /// A fault switch: how long after its start it is looked for.
    pub(crate) ready_delay: Duration,
}

/// A handle on the handler; clones see the same process.
#[derive(Clone)]
pub(crate) struct Handler {
    port: u16,
    state: watch::Receiver<State>,
    kill: mpsc::Sender<(u64, Ending)>,
    ready_within: Duration,
}

#[derive(Clone)]
enum State {
    Starting,
    Started(Started),
    Stopped,
}

/// Why a handler is ended from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A function exceeded its timeout.
    Timeout,
    /// A fault switch asked for another process.
    Restart,
    /// A fault switch asked for a crash, which is counted as one.
    Crash,
}

/// A started handler.
#[derive(Clone)]
pub(crate) struct Started {
    generation: u64,
    /// `None` once it has exited with 0: calls fail, nothing restarts it.
    pub(crate) pid: Option<u32>,
    pub(crate) clients: Clients,
}

/// HTTP clients whose pooled connections live no longer than the process they lead to.
#[derive(Clone)]
pub(crate) struct Clients {
    /// Follows redirects, as the real host's client does in default mode.
    pub(crate) following: reqwest::Client,
    /// Passes redirects on.
    pub(crate) straight: reqwest::Client,
}

impl Clients {
    fn new() -> Result<Clients> {
        let build = |policy| {
            let builder = reqwest::Client::builder().no_proxy().http1_only().redirect(policy);
            builder.build().map_err(|error| Error::internal("no HTTP client can be made").caused_by(error))
        };
        Ok(Clients {
            following: build(reqwest::redirect::Policy::limited(10))?,
            straight: build(reqwest::redirect::Policy::none())?,
        })
    }
}

impl Handler {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match &*self.state.borrow() {
            State::Started(started) => started.pid,
            State::Starting | State::Stopped => None,
        }
    }

    /// Waits until the handler takes calls; a call that arrives earlier is held for four times the initialization timeout.
    pub(crate) async fn ready(&self) -> Result<Started> {
        let mut state = self.state.clone();
        let waited = tokio::time::timeout(self.ready_within, state.wait_for(|state| !matches!(state, State::Starting))).await;
        match waited {
            Ok(Ok(state)) => match &*state {
                State::Started(started) => Ok(started.clone()),
                State::Starting | State::Stopped => Err(Error::unavailable("the host is stopping")),
            },
            Ok(Err(_)) => Err(Error::unavailable("the host is stopping")),
            Err(_) => Err(Error::unavailable("the handler did not become ready in time")),
        }
    }

    /// Returns when `started` is no longer the running process.
    pub(crate) async fn gone(&self, started: &Started) {
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| !matches!(state, State::Started(now) if now.generation == started.generation)).await;
    }

    /// Ends `started` and starts another in its place, unless that has happened already.
    pub(crate) fn replace(&self, started: &Started, why: Ending) {
        // An error means that the supervisor has ended, and the handler with it, or that others have asked for the same.
        let _ = self.kill.try_send((started.generation, why));
    }
}

/// Supervises the handler until `shutdown` turns true (or its sender is gone), or the third fault.
pub(crate) struct Supervisor {
    launch: Launch,
    port: u16,
    generation: u64,
    state: watch::Sender<State>,
    kill: mpsc::Receiver<(u64, Ending)>,
    shutdown: watch::Receiver<bool>,
}

enum End {
    Shutdown,
    /// Restarted without being counted.
    Free,
    Fault(String),
}

impl Supervisor {
    pub(crate) fn new(launch: Launch, shutdown: watch::Receiver<bool>) -> Result<(Supervisor, Handler)> {
        let port = free_port()?;
        let (state, seen) = watch::channel(State::Starting);
        let (kill_sender, kill) = mpsc::channel(16);
        let handler = Handler { port, state: seen, kill: kill_sender, ready_within: launch.initialization_timeout * 4 };
        Ok((Supervisor { launch, port, generation: 0, state, kill, shutdown }, handler))
    }

    pub(crate) async fn run(mut self) -> Result<()> {
        let mut faults: u32 = 0;
        let mut last_fault: Option<Instant> = None;
        loop {
            self.generation += 1;
            let end = self.one_life().await;
            match end {
                End::Shutdown => {
                    self.state.send_replace(State::Stopped);
                    return Ok(());
                }
                End::Free => tracing::info!("the handler is restarted"),
                End::Fault(why) => {
                    let recent = last_fault.is_some_and(|last| last.elapsed() < FAULT_WINDOW);
                    faults = if recent { faults + 1 } else { 1 };
                    last_fault = Some(Instant::now());
                    if faults >= FAULTS_MAX {
                        self.state.send_replace(State::Stopped);
                        let what = format!("the handler failed {FAULTS_MAX} times and is not restarted: the last time it {why}");
                        return Err(Error::unavailable(what));
                    }
                    tracing::error!(faults, "the handler {why}; it is restarted");
                }
            }
        }
    }

    async fn one_life(&mut self) -> End {
        self.state.send_replace(State::Starting);
        let (mut child, clients) = match self.spawn() {
            Ok(spawned) => spawned,
            Err(error) => return End::Fault(format!("could not be started ({error})")),
        };
        // Held, because waiting for a child closes its input; when this process dies, however it dies, the input ends.
        let _lifeline = child.stdin.take();
        let mut output = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            output.spawn(pass_on(stdout, false));
        }
        if let Some(stderr) = child.stderr.take() {
            output.spawn(pass_on(stderr, true));
        }
        let end = self.watch_over(&mut child, clients).await;
        if !matches!(end, End::Shutdown) {
            self.state.send_replace(State::Starting);
        }
        if let Err(error) = child.kill().await {
            tracing::warn!("the handler could not be ended: {error}");
        }
        let _ = tokio::time::timeout(OUTPUT_GRACE, async { while output.join_next().await.is_some() {} }).await;
        end
    }

    fn spawn(&self) -> Result<(Child, Clients)> {
        let launch = &self.launch;
        let mut command = Command::new(&launch.executable);
        command.args(&launch.arguments).current_dir(&launch.working_dir).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // The host hands its own environment down, so whether it has a variable is the host's to know.
        command.envs(launch.settings.iter().filter(|(name, _)| std::env::var_os(name).is_none()));
        command.envs(launch.env.iter().map(|(name, value)| (name, value)));
        let worker_id = uuid::Uuid::new_v4().to_string();
        let port = self.port.to_string();
        command.env("FUNCTIONS_CUSTOMHANDLER_PORT", &port).env("FUNCTIONS_HTTPWORKER_PORT", &port);
        command.env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", &worker_id).env("FUNCTIONS_HTTPWORKER_ID", &worker_id);
        command.env("FUNCTIONS_APP_ROOT_PATH", &launch.app_root).env(LIFELINE, "stdin");
        let child = command.spawn().map_err(|error| {
            Error::not_found(format!("the executable {} cannot be run", launch.executable.display())).caused_by(error)
        })?;
        Ok((child, Clients::new()?))
    }

    async fn watch_over(&mut self, child: &mut Child, clients: Clients) -> End {
        let pid = child.id();
        let budget = self.launch.initialization_timeout;
        let (straight, delay, poll) = (clients.straight.clone(), self.launch.ready_delay, self.launch.readiness_poll);
        let look = async {
            tokio::time::sleep(delay).await;
            accepts(straight, self.port, poll).await;
        };
        let ready = tokio::time::timeout(budget, look);
        tokio::select! {
            ready = ready => if ready.is_err() {
                return End::Fault(format!("did not listen on 127.0.0.1:{} within {budget:?}", self.port));
            },
            code = exit(child) => {
                if code == Some(0) {
                    // The real host does not notice and polls on until its budget is spent.
                    tokio::select! {
                        () = tokio::time::sleep(budget) => {}
                        () = stopped(&mut self.shutdown) => return End::Shutdown,
                    }
                }
                return self.judge_exit(code, true);
            }
            () = stopped(&mut self.shutdown) => return End::Shutdown,
        }
        tracing::info!(pid, port = self.port, "the handler is ready");
        let started = Started { generation: self.generation, pid, clients };
        self.state.send_replace(State::Started(started.clone()));
        loop {
            tokio::select! {
                code = exit(child) => {
                    if code != Some(0) {
                        return self.judge_exit(code, false);
                    }
                    tracing::error!("the handler exited with 0: the Functions host does not restart it, and every call will fail");
                    self.state.send_replace(State::Started(Started { pid: None, ..started }));
                    stopped(&mut self.shutdown).await;
                    return End::Shutdown;
                }
                Some((generation, why)) = self.kill.recv() => if generation == self.generation {
                    match why {
                        Ending::Timeout => {
                            tracing::error!("a function exceeded its timeout: the handler is killed, with every call in flight");
                        }
                        Ending::Restart => tracing::warn!("a fault on purpose: the handler is replaced, with every call in flight"),
                        Ending::Crash => return End::Fault("was killed on purpose".into()),
                    }
                    return End::Free;
                },
                () = stopped(&mut self.shutdown) => return End::Shutdown,
            }
        }
    }

    fn judge_exit(&self, code: Option<i32>, starting: bool) -> End {
        match code {
            Some(200) => End::Free,
            Some(code) if starting => End::Fault(format!("exited with {code} before it was ready")),
            Some(code) => End::Fault(format!("exited with {code}")),
            None => End::Fault("was ended by a signal".into()),
        }
    }
}

/// Resolves once the host is to stop.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn exit(child: &mut Child) -> Option<i32> {
    child.wait().await.ok().and_then(|status| status.code())
}

/// Any answer is readiness, and so is any failure but a refused connection.
async fn accepts(client: reqwest::Client, port: u16, poll: Duration) {
    let address = format!("http://127.0.0.1:{port}/");
    while matches!(client.get(&address).send().await, Err(error) if error.is_connect()) {
        tokio::time::sleep(poll).await;
    }
}

/// Free now; the handler binds it next, and the same one after a restart.
fn free_port() -> Result<u16> {
    let unavailable = |error| Error::unavailable("no free port on 127.0.0.1").caused_by(error);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(unavailable)?;
    Ok(listener.local_addr().map_err(unavailable)?.port())
}

#[derive(Debug, PartialEq)]
enum Level {
    Information,
    Warning,
    Error,
}

/// Custom handlers default to "stderr means error".
fn level_of(line: &str, stderr: bool) -> Level {
    match stderr {
        false => Level::Information,
        true if line.to_ascii_lowercase().contains("warn") => Level::Warning,
        true => Level::Error,
    }
}

async fn pass_on(output: impl AsyncRead + Unpin, stderr: bool) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut output).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        match level_of(text, stderr) {
            _ if text.is_empty() => {}
            Level::Information => tracing::info!(target: "Host.Function.Console", "{text}"),
            Level::Warning => tracing::warn!(target: "Host.Function.Console", "{text}"),
            Level::Error => tracing::error!(target: "Host.Function.Console", "{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_classified_as_the_real_host_does() {
        assert_eq!(level_of("error: nothing of the sort", false), Level::Information);
        assert_eq!(level_of("WARNING: disk", true), Level::Warning);
        assert_eq!(level_of("started", true), Level::Error);
    }
}
