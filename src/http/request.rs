//! A call to the API as a value, whichever way the Functions host delivered it: proxied, forwarded, or inside an envelope.

use bytes::Bytes;
use warp::http::{HeaderMap, Method, StatusCode};

/// Entries of a list when the caller names no limit.
const ENTRIES: u64 = 50;

/// A call.
#[derive(Clone)]
pub struct ApiRequest {
    /// The method.
    pub method: Method,
    /// The path, `/api/...`.
    pub path: String,
    /// The query without `?`.
    pub query: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, within the limit.
    pub body: Bytes,
}

impl ApiRequest {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A query parameter that is a whole number; `None` if it is absent or no number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// How many entries of a list the caller asks for.
    pub fn limit(&self) -> u32 {
        u32::try_from(self.number("limit").unwrap_or(ENTRIES)).unwrap_or(u32::MAX)
    }

    /// A query parameter, decoded; `None` if it is absent or empty.
    pub fn text(&self, name: &str) -> Option<String> {
        let (_, value) = self.query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
        // What is no text asks for nothing that is there, and not for everything.
        let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        (!value.is_empty()).then(|| value.into_owned())
    }

    /// The media type of the body, lower case, without parameters.
    pub fn media_type(&self) -> Option<String> {
        let text = self.header("content-type")?;
        Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()).filter(|media_type| !media_type.is_empty())
    }
}

/// What every answer says to caches and browsers: it is data, it is for this caller, and it loads nothing.
pub(super) const GUARDS: [(&str, &str); 4] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
];

/// An answer.
#[derive(Clone)]
pub struct ApiReply {
    /// The status.
    pub status: StatusCode,
    /// Headers, lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl ApiReply {
    /// A JSON answer that no cache may keep.
    pub fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        Self::text(status, "application/json; charset=utf-8", body.to_string())
    }

    /// A text of this media type that no cache may keep.
    pub fn text(status: StatusCode, content_type: &str, body: String) -> Self {
        let guards = GUARDS.into_iter().map(|(name, value)| (name, value.to_owned()));
        let headers = std::iter::once(("content-type", content_type.to_owned())).chain(guards).collect();
        Self { status, headers, body: body.into_bytes() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
