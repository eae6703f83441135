//! One call of a function in default mode: the envelope out, the verdict back, its queue outputs written.
//! It does not know what triggered the call, nor what to do when it fails.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use serde_json::Value;

use super::app::{Function, QueueOutput};
use super::fault::{Faults, Harm};
use super::process::{Ending, Handler, Started};
use super::queues::Queues;
use super::{HOST_VERSION, clock};
use crate::codec::envelope::delivery::Sys;
use crate::codec::envelope::{Answer, Judgement, Reply, judge};
use crate::error::{Error, Result};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 100 * 1024 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;

/// Calls functions.
pub(crate) struct Invoker {
    pub(crate) handler: Handler,
    pub(crate) queues: Queues,
    /// `None` is unbounded.
    pub(crate) function_timeout: Option<Duration>,
    pub(crate) faults: Arc<Faults>,
}

impl Invoker {
    /// Calls `function` with the envelope that `build` makes. An error is a failed invocation; its message holds nothing that the
    /// handler wrote.
    pub(crate) async fn invoke(&self, function: &Function, build: impl FnOnce(&Sys<'_>) -> Value) -> Result<Reply> {
        let sys = Sys { function: &function.name, now: clock::now(), rand_guid: uuid::Uuid::new_v4().to_string() };
        let invocation = uuid::Uuid::new_v4().to_string();
        let body =
            serde_json::to_vec(&build(&sys)).map_err(|error| Error::internal("an envelope cannot be written").caused_by(error))?;
        let began = tokio::time::Instant::now();
        let result = self.call(function, &invocation, body.into()).await;
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(_) => tracing::info!(function = function.name, invocation, duration_ms, "succeeded"),
            Err(error) => tracing::error!(function = function.name, invocation, duration_ms, "failed: {error}"),
        }
        result
    }

    async fn call(&self, function: &Function, invocation: &str, body: Bytes) -> Result<Reply> {
        let started = self.handler.ready().await?;
        let url = format!("http://127.0.0.1:{}/{}", self.handler.port(), function.name);
        let request = started
            .clients
            .following
            .post(url)
            .header("X-Azure-Functions-HostVersion", HOST_VERSION)
            .header("X-Azure-Functions-InvocationId", invocation)
            .header("User-Agent", format!("Azure-Functions-Host/{HOST_VERSION}"))
            .header("Content-Type", "application/json; charset=utf-8")
            .body(chunked(body));
        let reply = self.within_timeout(function, &started, judged(request)).await?;
        for line in &reply.logs {
            tracing::info!(target: "Host.Function", function = function.name, invocation, "{line}");
        }
        for output in &function.queue_outputs {
            let value = if output.binding == "$return" { Some(&reply.return_value) } else { reply.outputs.get(&output.binding) };
            let bodies = messages(output, value)?;
            if !bodies.is_empty() {
                self.queues.put(&output.queue, bodies).await?;
            }
        }
        Ok(reply)
    }

    /// Runs `call` of `function` until it ends, the function timeout kills the handler, or the handler is gone for another reason.
    pub(crate) async fn within_timeout<T>(
        &self,
        function: &Function,
        started: &Started,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let harm = self.faults.next_call(function);
        if harm == Some(Harm::Fail) {
            return Err(Error::unavailable("a fault on purpose: the call was not made"));
        }
        let cut = async {
            let (after, why) = match harm {
                Some(Harm::Kill(after)) => (after, Ending::Crash),
                Some(Harm::Restart(after)) => (after, Ending::Restart),
                _ => std::future::pending().await,
            };
            tokio::time::sleep(after).await;
            why
        };
        let deadline = async {
            match self.function_timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = call => match harm {
                Some(Harm::Drop) => done.and(Err(Error::unavailable("a fault on purpose: the handler's answer was lost"))),
                _ => done,
            },
            why = cut => {
                self.handler.replace(started, why);
                Err(Error::unavailable("a fault on purpose: the handler was ended during the call"))
            }
            () = self.handler.gone(started) => Err(Error::unavailable("the handler ended during the call")),
            () = deadline => {
                self.handler.replace(started, Ending::Timeout);
                Err(Error::unavailable("the function exceeded its timeout"))
            }
        }
    }
}

/// A body without a length, which HTTP/1.1 sends chunked, as the real host does.
fn chunked(body: Bytes) -> reqwest::Body {
    let chunks = (0..body.len())
        .step_by(CHUNK_BYTES)
        .map(move |start| Ok::<_, std::io::Error>(body.slice(start..body.len().min(start + CHUNK_BYTES))));
    reqwest::Body::wrap_stream(stream::iter(chunks))
}

async fn judged(request: reqwest::RequestBuilder) -> Result<Reply> {
    let cut = |error: reqwest::Error| Error::unavailable("the handler did not answer").caused_by(error.without_url());
    let response = request.send().await.map_err(cut)?;
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let content_type = header("content-type");
    let content_length = header("content-length").and_then(|text| text.parse().ok());
    let body = read_bounded(response, ANSWER_BYTES_MAX).await?;
    match judge(Answer { status, content_type: content_type.as_deref(), content_length, body: &body }) {
        Judgement::Success(reply) => Ok(reply),
        Judgement::Failure(why) => Err(Error::internal(why)),
        Judgement::Hangs => {
            tracing::error!("the handler answered with success and no JSON object: the Functions host never completes such a call");
            std::future::pending().await
        }
    }
}

/// Reads a handler's answer, up to `limit` bytes.
pub(crate) async fn read_bounded(response: reqwest::Response, limit: usize) -> Result<Bytes> {
    let mut body = BytesMut::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Error::unavailable("the handler's answer was cut off").caused_by(error.without_url()))?;
        if body.len() + chunk.len() > limit {
            return Err(Error::internal(format!("the handler's answer is longer than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The messages that an output value becomes: an array is one message for each element, everything else is one.
fn messages(output: &QueueOutput, value: Option<&Value>) -> Result<Vec<Vec<u8>>> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(elements)) => Ok(elements.iter().filter(|element| !element.is_null()).map(message).collect()),
        // The real host decodes a string that happens to be valid base64, unless the binding says `binary`.
        Some(Value::String(text)) if !output.binary => {
            Ok(vec![STANDARD.decode(text).unwrap_or_else(|_| text.clone().into_bytes())])
        }
        Some(other) => Ok(vec![message(other)]),
    }
}

fn message(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => other.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(binary: bool, value: Value) -> Vec<String> {
        let output = QueueOutput { binding: "x".into(), queue: "xyz".into(), binary };
        messages(&output, Some(&value)).unwrap().into_iter().map(|body| String::from_utf8_lossy(&body).into_owned()).collect()
    }

    #[test]
    fn outputs_become_messages_as_in_the_real_host() {
        assert_eq!(texts(false, json!({ "a": 1 })), ["{\"a\":1}"]);
        assert_eq!(texts(false, json!([{ "a": 1 }, "two", null, 3])), ["{\"a\":1}", "two", "3"]);
        assert_eq!(texts(false, json!([])), Vec::<String>::new());
        assert_eq!(texts(false, Value::Null), Vec::<String>::new());
        assert_eq!(texts(false, json!("plain text")), ["plain text"]);
        assert_eq!(texts(false, json!("aGVsbG8=")), ["hello"], "a string that is base64 is decoded");
        assert_eq!(texts(true, json!("aGVsbG8=")), ["aGVsbG8="]);
    }
}
