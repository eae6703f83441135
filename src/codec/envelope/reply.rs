//! The handler's answer, and how the host judges it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a function hands back. It is never written as an empty body, which would make the host wait until its function timeout.
/// `Debug` prints names only.
#[derive(Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Reply {
    /// One value for each output binding that is to be written.
    pub outputs: Map<String, Value>,
    /// Lines for the host's log, which leaves the hospital's reach: never a patient's value.
    pub logs: Vec<String>,
    /// What feeds a `$return` binding; `null` if there is none.
    pub return_value: Value,
}

impl Reply {
    /// A reply without outputs.
    pub fn done() -> Self {
        Self::default()
    }

    /// Writes `value` to the output binding `name`. A string that happens to be valid base64 would be decoded by the host: send an
    /// object or an array.
    #[must_use]
    pub fn output(mut self, name: impl Into<String>, value: Value) -> Self {
        self.outputs.insert(name.into(), value);
        self
    }

    /// Adds a line to the host's log.
    #[must_use]
    pub fn log(mut self, line: impl Into<String>) -> Self {
        self.logs.push(line.into());
        self
    }

    /// The JSON object that answers the host with status 200 and `application/json`.
    pub fn to_json(&self) -> Vec<u8> {
        // A struct of strings and JSON values always serialises; the fallback keeps the promise of a non-empty object.
        serde_json::to_vec(self).unwrap_or_else(|_| b"{}".to_vec())
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outputs: Vec<&String> = self.outputs.keys().collect();
        f.debug_struct("Reply").field("outputs", &outputs).field("logs", &self.logs.len()).finish_non_exhaustive()
    }
}

/// What came back over HTTP from a handler in default mode.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The `Content-Type` header, parameters included.
    pub content_type: Option<&'a str>,
    /// The `Content-Length` header; `None` for a chunked answer.
    pub content_length: Option<u64>,
    /// The body.
    pub body: &'a [u8],
}

/// The host's verdict on an [`Answer`].
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// The invocation succeeded.
    Success(Reply),
    /// The invocation failed, and why. Never holds the body.
    Failure(String),
    /// The host found no result object and never completes the invocation: it hangs until the function timeout kills the handler.
    Hangs,
}

/// Judges a handler's answer as the host does (`DefaultHttpWorkerService`, `HttpContentExtensions`, `BaseJsonMediaTypeFormatter`).
pub fn judge(answer: Answer<'_>) -> Judgement {
    if !(200..300).contains(&answer.status) {
        return Judgement::Failure(format!("the handler answered with status {}", answer.status));
    }
    if answer.content_length == Some(0) || answer.status == 204 {
        return Judgement::Hangs;
    }
    if !is_json(answer.content_type) {
        return Judgement::Failure("the handler's answer is not application/json".into());
    }
    if answer.body.iter().all(u8::is_ascii_whitespace) {
        return Judgement::Hangs;
    }
    match serde_json::from_slice::<Value>(answer.body) {
        Ok(Value::Null) => Judgement::Hangs,
        Ok(Value::Object(members)) => match read(members) {
            Some(reply) => Judgement::Success(reply),
            None => Judgement::Failure("a member of the handler's answer has the wrong type".into()),
        },
        Ok(_) => Judgement::Failure("the handler's answer is not a JSON object".into()),
        Err(_) => Judgement::Failure("the handler's answer is not valid JSON".into()),
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    let media = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json") || media.eq_ignore_ascii_case("text/json")
}

/// Unknown members are ignored, missing ones are empty, names are compared without case.
fn read(members: Map<String, Value>) -> Option<Reply> {
    let mut reply = Reply::default();
    for (name, value) in members {
        match name.to_ascii_lowercase().as_str() {
            "outputs" => reply.outputs = Option::<Map<String, Value>>::deserialize(value).ok()?.unwrap_or_default(),
            "logs" => {
                let lines = Option::<Vec<Option<String>>>::deserialize(value).ok()?.unwrap_or_default();
                reply.logs = lines.into_iter().flatten().collect();
            }
            "returnvalue" => reply.return_value = value,
            _ => {}
        }
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn verdict(status: u16, content_type: Option<&str>, content_length: Option<u64>, body: &str) -> Judgement {
        judge(Answer { status, content_type, content_length, body: body.as_bytes() })
    }

    fn chunked_json(body: &str) -> Judgement {
        verdict(200, Some("application/json; charset=utf-8"), None, body)
    }

    #[test]
    fn a_reply_is_never_empty_and_is_judged_a_success() {
        let empty = String::from_utf8(Reply::done().to_json()).unwrap();
        assert_eq!(empty, r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#);
        let reply = Reply::done().output("trainingRequest", json!({ "rows": 4 })).log("imported 4 rows");
        let wire = String::from_utf8(reply.to_json()).unwrap();
        assert_eq!(chunked_json(&wire), Judgement::Success(reply));
    }

    #[test]
    fn missing_members_and_other_spellings_are_fine() {
        assert_eq!(chunked_json("{}"), Judgement::Success(Reply::done()));
        let reply = Reply { return_value: json!(7), ..Reply::done().log("a") };
        assert_eq!(chunked_json(r#"{"logs":["a",null],"returnValue":7,"more":1,"OUTPUTS":null}"#), Judgement::Success(reply));
    }

    #[test]
    fn an_empty_success_hangs() {
        assert_eq!(verdict(200, Some("application/json"), Some(0), ""), Judgement::Hangs);
        assert_eq!(verdict(200, None, Some(0), ""), Judgement::Hangs);
        assert_eq!(verdict(204, None, None, ""), Judgement::Hangs);
        assert_eq!(chunked_json(""), Judgement::Hangs);
        assert_eq!(chunked_json("null"), Judgement::Hangs);
    }

    #[test]
    fn everything_else_fails_and_never_quotes_the_body() {
        for judgement in [
            verdict(500, Some("application/json"), None, "{\"secret\":1}"),
            verdict(302, None, Some(0), ""),
            verdict(200, Some("text/plain"), None, "secret"),
            verdict(200, Some("application/octet-stream"), Some(6), "secret"),
            verdict(200, None, Some(2), "{}"),
            chunked_json("secret"),
            chunked_json("[\"secret\"]"),
            chunked_json(r#"{"Outputs":"secret"}"#),
            chunked_json(r#"{"Logs":"secret"}"#),
        ] {
            match judgement {
                Judgement::Failure(why) => assert!(!why.contains("secret"), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn judging_never_panics(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = judge(Answer { status, content_type: Some("application/json"), content_length: None, body: &body });
        }
    }
}
