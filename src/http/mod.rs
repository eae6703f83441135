//! The edge: HTTP in, HTTP out. It turns requests into workflow verbs and their outcomes into status codes (`problem`, the only place with
//! status codes for errors). It does not know SQL, files or models.

mod access;
mod api;
mod audit;
mod auth;
mod guard;
mod openapi;
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

use bytes::{Buf, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::{Stream, TryStreamExt};
use tokio::net::{TcpListener, TcpSocket};
use warp::http::header::STRICT_TRANSPORT_SECURITY;
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};
use warp::{Filter, Reply};

use crate::error::{Error, Kind, Result};
use crate::sign_in::SignIn;
use crate::workflow::Hospital;

/// What the edge works with: the hospital, who may sign in, and the clock.
pub struct App {
    /// The verbs' world.
    pub hospital: Hospital,
    /// Tells who calls.
    pub sign_in: SignIn,
    /// Reads the clock; verbs get the time as a value.
    pub now: fn() -> DateTime<Utc>,
}

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

/// Serves until the process ends. The Functions host stops it with SIGKILL; nothing waits for a shutdown.
pub async fn serve(app: Arc<App>, listener: TcpListener) {
    warp::serve(routes(app)).incoming(listener).run().await;
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
            if !is_from_a_host(&headers) {
                return problem::of(&Error::new(Kind::Forbidden, "only the Functions host on this machine calls a trigger"))
                    .into_response();
            }
            match read_body(body, app.hospital.config.trigger_bytes_max).await {
                Ok(body) => trigger::answer(&app, &function, &headers, &body).await.into_response(),
                Err(refused) => problem::body_refused(refused).into_response(),
            }
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
            let config = &app.hospital.config;
            let read = tokio::time::timeout(config.body_time_max, read_body(body, config.body_bytes_max)).await;
            let reply = match read.unwrap_or(Err(BodyRefused::TooSlow)) {
                Err(refused) => problem::body_refused(refused),
                Ok(body) => {
                    let request = ApiRequest { method, path: path.as_str().to_owned(), query, headers, body };
                    api::answer(&app, &request).await
                }
            };
            reply.into_response()
        })
        .boxed();

    let behind_tls = app.hospital.config.in_azure;
    ready.or(api).unify().or(trigger).unify().recover(not_found).unify().map(move |mut response: warp::reply::Response| {
        // In Azure the platform ends TLS in front of us; on this machine there is none to promise.
        if behind_tls {
            response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
        response
    })
}

/// Whether a trigger's call may be a Functions host's: it names the loopback, and no web page sent it. A page in a browser of this machine
/// could otherwise bring in a file of its own.
fn is_from_a_host(headers: &HeaderMap) -> bool {
    let loopback = |host: &str| matches!(host.rsplit_once(':').map_or(host, |(host, _)| host), "127.0.0.1" | "localhost" | "[::1]");
    let host = headers.get("host").is_none_or(|host| host.to_str().is_ok_and(loopback));
    host && !headers.contains_key("origin") && !headers.contains_key("sec-fetch-site")
}

async fn not_found(_: warp::Rejection) -> std::result::Result<warp::reply::Response, std::convert::Infallible> {
    Ok(problem::not_found("there is nothing at this path: GET /api/openapi.json lists what there is").into_response())
}

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRefused {
    /// Larger than the limit, in bytes.
    TooLarge(usize),
    /// Not all of it came in time.
    TooSlow,
    /// The connection broke.
    Broken,
}

/// How much of a body that is too large is read on, in bytes: a caller that is still writing does not see the answer.
const DRAINED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Reads a body, counting: the Functions host sends chunked bodies without a `Content-Length`.
async fn read_body<B: Buf>(
    body: impl Stream<Item = std::result::Result<B, warp::Error>>,
    bytes_max: usize,
) -> std::result::Result<Bytes, BodyRefused> {
    let mut body = std::pin::pin!(body);
    let mut bytes = BytesMut::new();
    let mut drained = 0;
    while let Some(chunk) = body.try_next().await.map_err(|_| BodyRefused::Broken)? {
        if drained > 0 || bytes.len() + chunk.remaining() > bytes_max {
            bytes = BytesMut::new();
            drained += chunk.remaining();
            if drained > DRAINED_BYTES_MAX {
                return Err(BodyRefused::TooLarge(bytes_max));
            }
            continue;
        }
        bytes.reserve(chunk.remaining());
        let mut chunk = chunk;
        while chunk.has_remaining() {
            let piece = chunk.chunk();
            bytes.extend_from_slice(piece);
            let length = piece.len();
            chunk.advance(length);
        }
    }
    if drained > 0 { Err(BodyRefused::TooLarge(bytes_max)) } else { Ok(bytes.freeze()) }
}

impl Reply for ApiReply {
    fn into_response(self) -> warp::reply::Response {
        let mut response = warp::reply::Response::new(self.body.into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        if matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            // The rest of the body was not read.
            headers.insert("connection", HeaderValue::from_static("close"));
        }
        response
    }
}
