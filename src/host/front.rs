//! The front: one HTTP server on 127.0.0.1 for the functions' routes, the administration and the webhooks.
//! It does not know how a function is called.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper_util::service::TowerToHyperService;
use serde_json::{Map, Value, json};
use warp::http::{HeaderMap, Method, StatusCode, Uri, header};
use warp::reply::Response;
use warp::{Buf, Filter};

use super::app::{AuthLevel, Function, Trigger};
use super::http_trigger::{self, allows, json_reply};
use super::process::stopped;
use super::routes::Template;
use super::{HOST_VERSION, Host, blob_trigger, event_grid, keys, timer};
use crate::codec::envelope::delivery::{self, QueueMessage};
use crate::error::{Error, Result};
use crate::server::{self, Limits};

/// The longest body of an administration or webhook request: Event Grid sends at most 1 MiB.
const CONTROL_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How long such a body may take.
const CONTROL_TIME_MAX: Duration = Duration::from_secs(60);

/// What a caller may ask of the front; Kestrel, the real host's, gives an idle connection 130 seconds, too.
const LIMITS: Limits =
    Limits { connections_max: 768, head_time_max: Duration::from_secs(130), answer_time_max: Duration::from_secs(120) };

/// A request as it came in.
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Percent-encoded.
    pub(crate) path: String,
    /// Without the question mark; empty if there is none.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// A request's body, in chunks.
pub(crate) struct Body(pub(crate) BoxStream<'static, Result<Bytes>>);

impl Request {
    pub(crate) fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    pub(crate) fn content_length(&self) -> Option<u64> {
        self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first value of a query parameter whose name is `name` in any case.
    pub(crate) fn query_value(&self, name: &str) -> Option<String> {
        let url = reqwest::Url::parse(&format!("http://localhost/?{}", self.query)).ok()?;
        url.query_pairs().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.into_owned())
    }

    /// Whether the caller shows one of the `accepted` keys.
    fn shows(&self, accepted: &[&str]) -> bool {
        let key = self.header("x-functions-key").map(str::to_owned).or_else(|| self.query_value("code"));
        key.is_some_and(|key| keys::is_one_of(&key, accepted))
    }

    /// The body, if it is no longer than a control message may be and comes in time.
    pub(crate) async fn control_body(&mut self) -> Option<Vec<u8>> {
        tokio::time::timeout(CONTROL_TIME_MAX, self.whole_body()).await.ok().flatten()
    }

    async fn whole_body(&mut self) -> Option<Vec<u8>> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.body.0.next().await {
            whole.extend_from_slice(&chunk.ok()?);
            if whole.len() > CONTROL_BYTES_MAX {
                return None;
            }
        }
        Some(whole)
    }
}

/// A function behind a route.
pub(crate) struct Route {
    pub(crate) function: Function,
    template: Template,
    methods: Vec<String>,
    level: AuthLevel,
}

/// The HTTP functions, the more literal route first.
pub(crate) fn routes(functions: &[Function]) -> Vec<Route> {
    let mut routes: Vec<Route> = functions
        .iter()
        .filter_map(|function| match &function.trigger {
            Trigger::Http { methods, route, level } => {
                Some(Route { function: function.clone(), template: route.clone(), methods: methods.clone(), level: *level })
            }
            _ => None,
        })
        .collect();
    routes.sort_by(|a, b| a.template.precedence(&b.template));
    routes
}

/// Serves `listener` until the host stops.
pub(crate) async fn serve(host: Arc<Host>, listener: tokio::net::TcpListener) {
    let mut shutdown = host.shutdown.clone();
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let body = warp::body::stream().map(boxed);
    let all = warp::method().and(warp::path::full()).and(query).and(warp::header::headers_cloned()).and(body).then(
        move |method: Method, path: warp::path::FullPath, query: String, headers: HeaderMap, body: Body| {
            let host = Arc::clone(&host);
            async move { dispatch(&host, Request { method, path: path.as_str().to_owned(), query, headers, body }).await }
        },
    );
    let service = TowerToHyperService::new(warp::service(all));
    server::serve(listener, LIMITS, service, async move { stopped(&mut shutdown).await }).await;
}

fn boxed<S, B>(body: S) -> Body
where
    S: futures_util::Stream<Item = Result<B, warp::Error>> + Send + 'static,
    B: Buf + Send,
{
    let chunks = body.map(|chunk| match chunk {
        Ok(mut chunk) => Ok(chunk.copy_to_bytes(chunk.remaining())),
        Err(error) => Err(Error::unavailable("the caller's request was cut off").caused_by(error)),
    });
    Body(chunks.boxed())
}

async fn dispatch(host: &Arc<Host>, request: Request) -> Response {
    if !is_local(&request.headers) {
        tracing::warn!("a request from a web page of another site, or for another host's name, was refused");
        return status(StatusCode::FORBIDDEN);
    }
    let path = request.path.to_ascii_lowercase();
    let prefix = format!("/{}", host.app.route_prefix.to_ascii_lowercase());
    match path.as_str() {
        "/" => Response::new("The local Azure Functions host is running.\n".into()),
        "/runtime/webhooks/eventgrid" => webhook(host, request, event_grid::Endpoint::Functions).await,
        "/runtime/webhooks/blobs" => webhook(host, request, event_grid::Endpoint::Blobs).await,
        _ if path.starts_with("/admin/") => administer(host, request).await,
        _ if path == prefix || path.starts_with(&format!("{prefix}/")) => {
            let rest = request.path[prefix.len()..].trim_start_matches('/').to_owned();
            http_function(host, request, &rest).await
        }
        _ => status(StatusCode::NOT_FOUND),
    }
}

async fn http_function(host: &Host, request: Request, rest: &str) -> Response {
    let found = host.routes.iter().find_map(|route| {
        let parameters = route.template.matches(rest).filter(|_| allows(&route.methods, &request.method))?;
        Some((route, parameters))
    });
    let Some((route, parameters)) = found.filter(|_| is_normal(&request.path)) else { return status(StatusCode::NOT_FOUND) };
    if !may_call(host, route, &request) {
        return status(StatusCode::UNAUTHORIZED);
    }
    http_trigger::answer(host, &route.function, parameters, request).await
}

/// Whether URL rules leave the path as it is. `/api/../x` would otherwise reach the handler's trigger routes from outside.
fn is_normal(path: &str) -> bool {
    reqwest::Url::parse(&format!("http://localhost{path}")).is_ok_and(|url| url.path() == path)
}

fn may_call(host: &Host, route: &Route, request: &Request) -> bool {
    if !host.options.enforce_keys || route.level == AuthLevel::Anonymous {
        return true;
    }
    let mut accepted = vec![host.keys.master_key.as_str()];
    if route.level == AuthLevel::Function {
        accepted.push(&host.keys.host_key);
        accepted.extend(host.keys.function_keys.get(&route.function.name).map(String::as_str));
    }
    request.shows(&accepted)
}

async fn webhook(host: &Arc<Host>, request: Request, endpoint: event_grid::Endpoint) -> Response {
    let system = match endpoint {
        event_grid::Endpoint::Functions => &host.keys.eventgrid_extension,
        event_grid::Endpoint::Blobs => &host.keys.blobs_extension,
    };
    if host.options.enforce_keys && !request.shows(&[system, &host.keys.master_key]) {
        return status(StatusCode::UNAUTHORIZED);
    }
    event_grid::receive(host, request, endpoint).await
}

/// `GET /admin/host/status`, `GET /admin/functions`, `POST /admin/functions/<Name>`.
async fn administer(host: &Arc<Host>, mut request: Request) -> Response {
    if host.options.enforce_keys && !request.shows(&[&host.keys.master_key]) {
        return status(StatusCode::UNAUTHORIZED);
    }
    let path = request.path.to_ascii_lowercase();
    match (request.method.as_str(), path.trim_start_matches("/admin/")) {
        ("GET", "host/status") => {
            let state = if host.invoker.handler.pid().is_some() { "Running" } else { "Error" };
            let uptime_ms = u64::try_from(host.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            json_reply(
                StatusCode::OK,
                &json!({ "id": "local", "state": state, "version": HOST_VERSION, "processUptime": uptime_ms }),
            )
        }
        ("GET", "functions") => {
            let described = host.app.functions.iter().map(|function| {
                let address = match &function.trigger {
                    Trigger::Http { route, .. } => {
                        Some(format!("http://{}/{}/{}", host.address, host.app.route_prefix, route.as_str()))
                    }
                    _ => None,
                };
                json!({ "name": function.name, "invoke_url_template": address })
            });
            json_reply(StatusCode::OK, &described.collect())
        }
        ("POST", rest) if rest.starts_with("functions/") => {
            let Some(function) = host.app.function(&rest["functions/".len()..]).cloned() else {
                return status(StatusCode::NOT_FOUND);
            };
            let Some(body) = request.control_body().await else { return status(StatusCode::PAYLOAD_TOO_LARGE) };
            let input = match serde_json::from_slice::<Map<String, Value>>(&body) {
                Ok(members) => members.get("input").cloned().unwrap_or(Value::Null),
                Err(_) if body.is_empty() => Value::Null,
                Err(_) => return fault("the body must be {\"input\": ..}"),
            };
            fire(host, function, input)
        }
        _ => status(StatusCode::NOT_FOUND),
    }
}

/// Starts `function` by hand, outside its queue: it is not tried again.
fn fire(host: &Arc<Host>, function: Function, input: Value) -> Response {
    let text = match input {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    let event = serde_json::from_str::<Value>(&text).ok().filter(Value::is_object);
    match function.trigger {
        Trigger::Http { .. } => return fault("call an HTTP function by its route"),
        Trigger::Blob { .. } if !text.contains('/') => return fault("`input` must be container/name"),
        Trigger::EventGrid if event.is_none() => return fault("`input` must be an event, as an object or as text"),
        _ => {}
    }
    let task = Arc::clone(host);
    host.spawn(async move {
        let host = task;
        match &function.trigger {
            Trigger::Blob { .. } => {
                let (container, name) = text.split_once('/').unwrap_or_default();
                // The outcome is logged where the call is made.
                let _ = blob_trigger::invoke(&host, &function, container, name).await;
            }
            Trigger::Queue { .. } => {
                let message = by_hand(text);
                let _ = host.invoker.invoke(&function, |sys| delivery::queue(sys, &function.binding, &message)).await;
            }
            Trigger::EventGrid => {
                let event = event.unwrap_or(Value::Null);
                let _ = host.invoker.invoke(&function, |sys| delivery::event_grid(sys, &function.binding, event)).await;
            }
            Trigger::Timer { .. } => timer::fire(&host, &function, None, false).await,
            Trigger::Http { .. } => {}
        }
    });
    status(StatusCode::ACCEPTED)
}

fn by_hand(text: String) -> QueueMessage {
    let now = super::clock::now();
    let id = uuid::Uuid::new_v4().to_string();
    QueueMessage { id, text, dequeue_count: 1, pop_receipt: String::new(), inserted: now, expires: now, next_visible: now }
}

/// Whether the request was meant for this machine: its host's name is the loopback's, and no web page of another site sent it. A page
/// in a browser could otherwise start functions by hand.
fn is_local(headers: &HeaderMap) -> bool {
    let loopback = |uri: &Uri| matches!(uri.host(), Some("127.0.0.1" | "localhost" | "[::1]"));
    let is_loopback = |text: &str| text.parse::<Uri>().is_ok_and(|uri| loopback(&uri));
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    // Of two hosts another reader may take the other one.
    let one_host = headers.get_all(header::HOST).iter().count() <= 1;
    let host_ok = one_host && text(header::HOST).is_none_or(|host| is_loopback(&format!("http://{host}/")));
    let origin_ok = text(header::ORIGIN).is_none_or(is_loopback);
    let site_ok = headers.get("sec-fetch-site").is_none_or(|site| site != "cross-site");
    host_ok && origin_ok && site_ok
}

/// An answer without a body.
pub(crate) fn status(code: StatusCode) -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = code;
    response
}

/// A 400 that says why.
pub(crate) fn fault(what: &str) -> Response {
    json_reply(StatusCode::BAD_REQUEST, &json!({ "error": what }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_pages_may_call() {
        let local = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            is_local(&headers)
        };
        assert!(local(&[("host", "127.0.0.1:7071")]));
        assert!(local(&[("host", "localhost:7071"), ("origin", "http://localhost:7071")]));
        assert!(!local(&[("host", "evil.example")]));
        assert!(!local(&[("host", "127.0.0.1.evil.example:7071")]));
        assert!(!local(&[("host", "127.0.0.1:7071"), ("origin", "https://evil.example")]));
        assert!(!local(&[("host", "127.0.0.1:7071"), ("origin", "null")]));
        assert!(!local(&[("host", "127.0.0.1:7071"), ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn a_path_that_would_be_shortened_is_not_normal() {
        assert!(is_normal("/api/a%20b/c"));
        for path in ["/api/../x", "/api/%2e%2E/x", "/api/..\\x", "/api/./x"] {
            assert!(!is_normal(path), "{path}");
        }
    }
}
