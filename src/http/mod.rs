//! The edge: HTTP in, HTTP out. It turns requests into workflow verbs and their outcomes into status codes (`problem`, the only place with
//! status codes for errors). It does not know SQL, files or models.

mod access;
mod api;
mod audit;
mod auth;
mod body;
mod calls;
mod guard;
mod openapi;
mod pace;
mod patients;
mod predictions;
mod problem;
mod reads;
mod request;
mod roles;
mod routes;
mod trigger;

pub use api::{admission_reply, discharge_reply};
pub use openapi::document as openapi_document;
pub use request::{ApiReply, ApiRequest};
pub use roles::{app_roles as app_roles_manifest, page as roles_page};
pub use routes::{Operation, ROUTES, Route};

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use futures_util::Stream;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use warp::http::header::{HOST, STRICT_TRANSPORT_SECURITY};
use warp::http::{HeaderMap, HeaderValue, Method, Request, Version};
use warp::reply::Response;
use warp::{Filter, Reply};

use crate::error::{Error, Kind, Result};
use crate::server::{self, Limits};
use crate::sign_in::SignIn;
use crate::workflow::Hospital;

use self::api::Entered;
use self::body::Budget;
use self::calls::Calls;
use self::pace::Pace;
use self::request::GUARDS;

/// What the edge works with: the hospital, who may sign in, the clock, and what callers have used up of its limits.
pub struct App {
    /// The verbs' world.
    pub hospital: Hospital,
    /// Tells who calls.
    pub sign_in: SignIn,
    /// Reads the clock; verbs get the time as a value.
    pub now: fn() -> DateTime<Utc>,
    pace: Pace,
    calls: Calls,
    /// Calls of the API under way; some connections are kept for the host's own.
    under_way: Arc<Semaphore>,
    /// Of the API's calls and of the triggers': neither can take the other's.
    bodies: Budget,
    trigger_bodies: Budget,
}

impl App {
    /// The edge of `hospital`.
    pub fn new(hospital: Hospital, sign_in: SignIn, now: fn() -> DateTime<Utc>) -> Self {
        let edge = hospital.config.edge;
        let budget = || Budget::of(edge.bodies_bytes_max);
        let pace = Pace::new(edge.caller_rate, edge.caller_burst);
        let share = hospital.config.body_bytes_max.max(edge.bodies_bytes_max / CALLERS_OF_BODIES);
        let calls = Calls::new(edge.caller_calls, share);
        let kept = edge.connections_max.div_ceil(KEPT_OF_CONNECTIONS);
        let under_way = Arc::new(Semaphore::new(edge.connections_max.saturating_sub(kept).max(1)));
        Self { hospital, sign_in, now, pace, calls, under_way, bodies: budget(), trigger_bodies: budget() }
    }
}

/// One connection of so many is not for calls of the API: the host asks over it whether we live, and brings what triggers functions.
const KEPT_OF_CONNECTIONS: usize = 8;
/// It takes so many callers to use up the bytes of bodies under way.
const CALLERS_OF_BODIES: usize = 4;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens on 127.0.0.1; `port` 0 is a free one.
///
/// # Errors
/// The port is taken.
pub async fn listen(port: u16) -> Result<(TcpListener, SocketAddr)> {
    let failed = |cause: std::io::Error| Error::unavailable(format!("cannot listen on 127.0.0.1:{port}")).caused_by(cause);
    let socket = TcpSocket::new_v4().map_err(failed)?;
    socket.set_reuseaddr(true).map_err(failed)?;
    // Accepted connections inherit it; without it an answer in two writes waits 40 ms for the caller's delayed acknowledgement.
    socket.set_nodelay(true).map_err(failed)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(failed)?;
    let listener = socket.listen(BACKLOG).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Longest work on a call of the API: the platform's front end gives up after 230 seconds.
const API_TIME_MAX: Duration = Duration::from_secs(200);
/// Where a call is that has not yet found its way.
const ENTRY: &str = "/api";
/// Between two looks at what is to be summed up.
const SUMS_EVERY: Duration = Duration::from_secs(15);

/// Serves until the process ends. The Functions host stops it with SIGKILL; nothing waits for a shutdown.
pub async fn serve(app: Arc<App>, listener: TcpListener) {
    let edge = app.hospital.config.edge;
    let limits =
        Limits { connections_max: edge.connections_max, head_time_max: edge.head_time_max, answer_time_max: edge.answer_time_max };
    tokio::spawn(sum_up(Arc::clone(&app)));
    let behind_tls = app.hospital.config.in_azure;
    let inner = TowerToHyperService::new(warp::service(routes(app)));
    let service = service_fn(move |request: Request<Incoming>| {
        let inner = inner.clone();
        async move {
            match improper(&request) {
                Some(why) => Ok(guarded(problem::improper(why).into_response(), behind_tls)),
                None => inner.call(request).await,
            }
        }
    });
    server::serve(listener, limits, service, std::future::pending()).await;
}

/// Tells, when a flood is over, how large it was, even if nobody ever calls again.
async fn sum_up(app: Arc<App>) {
    loop {
        tokio::time::sleep(SUMS_EVERY).await;
        auth::tell_sums(&app);
        // What fails was logged there.
        let _ = app.hospital.tell_refusals((app.now)()).await;
    }
}

/// What two readers of one call could take for two different calls.
fn improper<B>(request: &Request<B>) -> Option<&'static str> {
    let hosts = request.headers().get_all(HOST).iter().count();
    match () {
        () if request.uri().authority().is_some() => Some("name the path alone, and the host in its header"),
        () if hosts > 1 => Some("name one host"),
        () if hosts == 0 && request.version() == Version::HTTP_11 => Some("name the host"),
        () => None,
    }
}

/// Every route of the handler.
pub fn routes(app: Arc<App>) -> impl Filter<Extract = (impl Reply,), Error = std::convert::Infallible> + Clone {
    // The host polls `/` for readiness and liveness: cheap, open, no dependency.
    let ready = warp::path::end().and(warp::get()).map(|| warp::reply().into_response());

    let with_app = {
        let app = Arc::clone(&app);
        warp::any().map(move || Arc::clone(&app))
    };
    let trigger = warp::path::param::<String>()
        .and(warp::path::end())
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(with_app.clone())
        .then(|function: String, headers: HeaderMap, body, app: Arc<App>| async move {
            trigger_call(app, function, headers, body).await.into_response()
        })
        .boxed();

    let api = warp::path("api")
        .and(warp::path::full())
        .and(warp::method())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(with_app)
        .then(|path: warp::path::FullPath, method: Method, query: String, headers: HeaderMap, body, app: Arc<App>| async move {
            let request = ApiRequest { method, path: path.as_str().to_owned(), query, headers, body: Bytes::new() };
            api_call(app, request, body).await.into_response()
        })
        .boxed();

    let behind_tls = app.hospital.config.in_azure;
    let all = ready.or(api).unify().or(trigger).unify().recover(not_found).unify();
    all.map(move |response: Response| guarded(response, behind_tls))
}

/// Adds what every answer says, whoever gives it.
fn guarded(mut response: Response, behind_tls: bool) -> Response {
    let headers = response.headers_mut();
    for (name, value) in GUARDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // In Azure the platform ends TLS in front of us; on this machine there is none to promise.
    if behind_tls {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    response
}

/// A call of the API: the body is read once its head has let it in.
async fn api_call<B: Buf>(
    app: Arc<App>,
    request: ApiRequest,
    body: impl Stream<Item = std::result::Result<B, warp::Error>>,
) -> ApiReply {
    let until = Instant::now() + API_TIME_MAX;
    // What comes unread makes the connection useless for another call.
    let coming = body::is_coming(&request.headers);
    let unread = |reply: ApiReply| if coming { reply.with("connection", "close") } else { reply };
    let Ok(under_way) = Arc::clone(&app.under_way).try_acquire_owned() else { return unread(problem::crowded()) };
    let (entering, asked) = (Arc::clone(&app), request.clone());
    let entered = match guard::seen_through(ENTRY, until, async move { api::enter(&entering, &asked).await }).await {
        Ok(Ok(entered)) => entered,
        Ok(Err(refused)) | Err(refused) => return unread(refused),
    };
    if !entered.takes_body() {
        return unread(carried_out(app, entered, request, until, under_way).await);
    }
    let config = &app.hospital.config;
    let budget = entered.share_of(&app.bodies);
    let budget = budget.as_ref().unwrap_or(&app.bodies);
    match budget.read(&request.headers, body, config.body_bytes_max, config.body_time_max).await {
        Ok(held) => {
            let request = ApiRequest { body: held.bytes.clone(), ..request };
            carried_out(app, entered, request, until, (under_way, held)).await
        }
        Err(refused) => problem::body_refused(refused),
    }
}

/// Does what a call asks for; what it `holds` of the limits is free when it is done, and not before, however long its caller waits.
async fn carried_out(app: Arc<App>, entered: Entered, request: ApiRequest, until: Instant, holds: impl Send + 'static) -> ApiReply {
    let path = entered.path();
    let work = async move {
        let reply = api::carry_out(&app, &entered, &request).await;
        drop(holds);
        reply
    };
    guard::seen_through(path, until, work).await.unwrap_or_else(|failed| failed)
}

/// A call of the Functions host.
async fn trigger_call<B: Buf>(
    app: Arc<App>,
    function: String,
    headers: HeaderMap,
    body: impl Stream<Item = std::result::Result<B, warp::Error>>,
) -> ApiReply {
    let coming = body::is_coming(&headers);
    let unread = |reply: ApiReply| if coming { reply.with("connection", "close") } else { reply };
    if !is_from_a_host(&headers) {
        return unread(problem::of(&Error::new(Kind::Forbidden, "only the Functions host on this machine calls a trigger")));
    }
    if !trigger::is_one(&function) {
        return unread(problem::not_found("there is no such function: compare the folder names with this binary's version"));
    }
    let config = &app.hospital.config;
    match app.trigger_bodies.read(&headers, body, config.trigger_bytes_max, config.body_time_max).await {
        Ok(held) => trigger::answer(app, function, headers, held).await,
        Err(refused) => problem::body_refused(refused),
    }
}

/// Whether a trigger's call may be a Functions host's: it names the loopback, and no web page sent it. A page in a browser of this machine
/// could otherwise bring in a file of its own.
fn is_from_a_host(headers: &HeaderMap) -> bool {
    let loopback = |host: &str| matches!(host.rsplit_once(':').map_or(host, |(host, _)| host), "127.0.0.1" | "localhost" | "[::1]");
    let host = headers.get("host").is_none_or(|host| host.to_str().is_ok_and(loopback));
    host && !headers.contains_key("origin") && !headers.contains_key("sec-fetch-site")
}

async fn not_found(_: warp::Rejection) -> std::result::Result<Response, std::convert::Infallible> {
    Ok(problem::not_found("there is nothing at this path: GET /api/openapi.json lists what there is").into_response())
}

impl Reply for ApiReply {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }
}
