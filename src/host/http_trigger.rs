//! HTTP triggers in the three modes: an envelope (default), a re-created request (forward), a stream (proxy).
//! It does not know routes or keys: the front has chosen the function and let the caller in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use warp::reply::{Reply as _, Response};

use super::app::{Function, HttpMode};
use super::front::{Body, Request, status};
use super::invoke::read_bounded;
use super::{HOST_VERSION, Host};
use crate::codec::envelope::delivery::{self, HttpCall};
use crate::error::{Error, Result};

/// The longest answer that is passed on in the buffered modes.
const RESPONSE_BYTES_MAX: usize = 100 * 1024 * 1024;
/// How long a proxied request may lie still.
const PROXY_IDLE_MAX: Duration = Duration::from_secs(240);
/// Headers between two neighbours, which a proxy does not pass on.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// Answers `request` with what `function` makes of it.
pub(crate) async fn answer(host: &Host, function: &Function, parameters: Map<String, Value>, mut request: Request) -> Response {
    let platform: Vec<HeaderName> = request.headers.keys().filter(|name| is_platform_header(name)).cloned().collect();
    for name in platform {
        request.headers.remove(name);
    }
    if request.content_length().is_some_and(|length| length > host.options.request_bytes_max) {
        return status(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let too_long = Arc::new(AtomicBool::new(false));
    request.body = bounded(request.body, host.options.request_bytes_max, Arc::clone(&too_long));
    let mode = if function.pure_http { host.http_mode } else { HttpMode::Default };
    let answered = match mode {
        HttpMode::Default => as_envelope(host, function, parameters, request).await,
        HttpMode::Forward => forward(host, function, request).await,
        HttpMode::Proxy => proxy(host, function, request).await,
    };
    match answered {
        Ok(response) => response,
        Err(_) if too_long.load(Ordering::Relaxed) => status(StatusCode::PAYLOAD_TOO_LARGE),
        Err(error) => {
            tracing::error!(function = function.name, "failed: {error}");
            status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Headers that only the platform's authentication may set: there is none here, and a caller's are removed.
fn is_platform_header(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-ms-client-principal") || name.as_str().starts_with("x-ms-token-")
}

/// Ends the stream in an error, and says so in `too_long`, once it exceeds `limit` bytes.
fn bounded(body: Body, limit: u64, too_long: Arc<AtomicBool>) -> Body {
    let mut total: u64 = 0;
    let chunks = body.0.map(move |chunk| {
        let chunk = chunk?;
        total += chunk.len() as u64;
        if total > limit {
            too_long.store(true, Ordering::Relaxed);
            return Err(Error::invalid(format!("the request is longer than {limit} bytes")));
        }
        Ok(chunk)
    });
    Body(chunks.boxed())
}

async fn proxy(host: &Host, function: &Function, request: Request) -> Result<Response> {
    let started = host.invoker.handler.ready().await?;
    let mut headers = onward(&request.headers);
    let has_body =
        request.content_length().is_some_and(|length| length > 0) || request.headers.contains_key(header::TRANSFER_ENCODING);
    mark(&mut headers)?;
    let mut onward = started.clients.straight.request(request.method.clone(), handler_url(host, &request)?).headers(headers);
    if has_body {
        onward = onward.body(reqwest::Body::wrap_stream(request.body.0));
    }
    let answered = async {
        match tokio::time::timeout(PROXY_IDLE_MAX, onward.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Error::unavailable("the handler did not answer").caused_by(error.without_url())),
            Err(_) => Err(Error::unavailable("the handler did not answer within the proxy's 240 seconds")),
        }
    };
    let answer = host.invoker.within_timeout(function, &started, answered).await?;
    let (code, headers) = (answer.status(), onward_response(answer.headers()));
    Ok(with_head(streamed(answer), code, headers))
}

/// Passes a body on through a small channel: a caller that reads slowly slows the handler, a caller that goes away ends the call.
fn streamed(answer: reqwest::Response) -> Response {
    let (sender, mut receiver) = mpsc::channel::<Result<Bytes>>(4);
    tokio::spawn(async move {
        let mut chunks = answer.bytes_stream();
        loop {
            let next = match tokio::time::timeout(PROXY_IDLE_MAX, chunks.next()).await {
                Ok(None) => return,
                Ok(Some(Ok(chunk))) => Ok(chunk),
                Ok(Some(Err(error))) => Err(Error::unavailable("the handler's answer was cut off").caused_by(error.without_url())),
                Err(_) => Err(Error::unavailable("the handler's answer stood still for 240 seconds")),
            };
            let last = next.is_err();
            if sender.send(next).await.is_err() || last {
                return;
            }
        }
    });
    warp::reply::stream(stream::poll_fn(move |context| receiver.poll_recv(context))).into_response()
}

/// The older mode: only a body with a length, few headers, repeated query names merged, everything buffered.
async fn forward(host: &Host, function: &Function, request: Request) -> Result<Response> {
    let started = host.invoker.handler.ready().await?;
    let has_body = request.content_length().is_some_and(|length| length > 0);
    let mut headers = onward(&request.headers);
    let kept = [header::CONTENT_TYPE, header::CONTENT_LENGTH];
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("content-") && !(has_body && kept.contains(name)))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    mark(&mut headers)?;
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let agent = format!("{agent} Azure-Functions-Host/{HOST_VERSION}");
    headers.insert(header::USER_AGENT, header_value(agent.trim())?);
    let mut url = handler_url(host, &request)?;
    let query = merged_query(&url);
    url.set_query(None);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    let mut onward = started.clients.straight.request(request.method.clone(), url).headers(headers);
    if has_body {
        onward = onward.body(collect(request.body).await?);
    }
    let answered = async {
        let cut = |error: reqwest::Error| Error::unavailable("the handler did not answer").caused_by(error.without_url());
        let answer = onward.send().await.map_err(cut)?;
        let (code, headers) = (answer.status(), onward_response(answer.headers()));
        let body = read_bounded(answer, RESPONSE_BYTES_MAX).await?;
        Ok(with_head(Response::new(body.into()), code, headers))
    };
    host.invoker.within_timeout(function, &started, answered).await
}

async fn as_envelope(host: &Host, function: &Function, params: Map<String, Value>, request: Request) -> Result<Response> {
    let output = function.http_output.clone().unwrap_or_else(|| "$return".into());
    let url = handler_url(host, &request)?;
    let query = merged_query(&url).into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    let mut headers = Map::new();
    for name in request.headers.keys() {
        let values = request.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        headers.insert(name.as_str().to_owned(), values.collect());
    }
    // A body without a length is lost in this mode, as in the real host.
    let with_length = request.content_length().is_some_and(|length| length > 0);
    let content_type = request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let binary = content_type.starts_with("application/octet-stream") || content_type.starts_with("multipart/");
    let address = format!("http://{}{}", host.address, request.path_and_query());
    let body = match with_length {
        false => None,
        true if binary => Some(STANDARD.encode(collect(request.body).await?)),
        true => Some(String::from_utf8_lossy(&collect(request.body).await?).into_owned()),
    };
    let call = HttpCall { url: address, method: request.method.to_string(), query, headers, params, identities: Vec::new(), body };
    let reply = host.invoker.invoke(function, |sys| delivery::http(sys, &function.binding, call)).await?;
    if output == "$return" {
        return read_response(Some(reply.return_value));
    }
    if reply.outputs.is_empty() {
        return Ok(status(StatusCode::OK));
    }
    let mut outputs = reply.outputs;
    read_response(outputs.remove(&output))
}

/// The `res` object: `statusCode` or `status`, `headers`, `body`.
fn read_response(value: Option<Value>) -> Result<Response> {
    let response = match value {
        None | Some(Value::Null) => return Ok(with_head(Response::new("{}".into()), StatusCode::OK, HeaderMap::new())),
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::Null),
        Some(value) => value,
    };
    let Value::Object(response) = response else { return Err(Error::internal("the function's HTTP output is not an object")) };
    let code = response.get("statusCode").or_else(|| response.get("status")).unwrap_or(&Value::Null);
    let code =
        code.as_u64().or_else(|| code.as_str()?.parse().ok()).and_then(|code| StatusCode::from_u16(code.try_into().ok()?).ok());
    let mut headers = HeaderMap::new();
    for (name, value) in response.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return Err(Error::internal("a header of the function's HTTP output is not a scalar")),
        };
        let name = HeaderName::try_from(name.as_str()).map_err(|_| Error::internal("a header's name is not valid"))?;
        headers.insert(name, header_value(&text)?);
    }
    let body = match response.get("body") {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) => Bytes::from(text.clone()),
        Some(other) => {
            serde_json::to_vec_pretty(other).map_err(|error| Error::internal("a body cannot be written").caused_by(error))?.into()
        }
    };
    if !headers.contains_key(header::CONTENT_TYPE) && !body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    }
    Ok(with_head(Response::new(body.into()), code.unwrap_or(StatusCode::OK), headers))
}

/// The handler's address for the path as the caller wrote it. A path that URL rules would shorten (`/api/../x`) is refused: it would
/// reach the handler's trigger routes from outside.
fn handler_url(host: &Host, request: &Request) -> Result<reqwest::Url> {
    let unfit = || Error::invalid("the path is not in its normal form");
    let text = format!("http://127.0.0.1:{}{}", host.invoker.handler.port(), request.path_and_query());
    let url = reqwest::Url::parse(&text).map_err(|_| unfit())?;
    if url.path() == request.path { Ok(url) } else { Err(unfit()) }
}

fn merged_query(url: &reqwest::Url) -> Vec<(String, String)> {
    let mut merged: Vec<(String, String)> = Vec::new();
    for (name, value) in url.query_pairs() {
        match merged.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => *values = format!("{values},{value}"),
            None => merged.push((name.into_owned(), value.into_owned())),
        }
    }
    merged
}

/// What a proxy passes on of a caller's headers.
fn onward(headers: &HeaderMap) -> HeaderMap {
    let mut onward = onward_response(headers);
    onward.remove(header::HOST);
    onward
}

fn onward_response(headers: &HeaderMap) -> HeaderMap {
    let mut onward = headers.clone();
    for name in HOP_BY_HOP {
        onward.remove(name);
    }
    onward
}

/// Overwrites the host's own headers, which a caller cannot choose.
fn mark(headers: &mut HeaderMap) -> Result<()> {
    let invocation = header_value(&uuid::Uuid::new_v4().to_string())?;
    headers.insert("x-azure-functions-hostversion", HeaderValue::from_static(HOST_VERSION));
    headers.insert("x-azure-functions-invocationid", invocation.clone());
    headers.insert("x-ms-invocation-id", invocation);
    Ok(())
}

fn with_head(mut response: Response, code: StatusCode, headers: HeaderMap) -> Response {
    *response.status_mut() = code;
    *response.headers_mut() = headers;
    response
}

fn header_value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::internal("a text cannot be an HTTP header"))
}

/// Reads a body that [`bounded`] has bounded.
pub(crate) async fn collect(mut body: Body) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(chunk) = body.0.next().await {
        whole.extend_from_slice(&chunk?);
    }
    Ok(whole.freeze())
}

/// The methods of a trigger that lists none.
pub(crate) fn allows(methods: &[String], method: &Method) -> bool {
    methods.is_empty() || methods.iter().any(|allowed| allowed == method.as_str())
}

/// An error body as the host's administration writes it.
pub(crate) fn json_reply(code: StatusCode, value: &Value) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    with_head(Response::new(json!(value).to_string().into()), code, headers)
}
