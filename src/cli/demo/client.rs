//! The care line manager's side of HTTP.

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use crate::error::{Error, Result};

/// A deployment, local or not.
pub(in crate::cli) struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<String>,
    key: Option<String>,
}

impl Client {
    pub(in crate::cli) fn new(base: Url, token: Option<String>, key: Option<String>) -> Result<Self> {
        let local = matches!(base.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if base.scheme() != "https" && !local {
            return Err(Error::invalid("the deployment's address must use https: patients travel on it"));
        }
        Ok(Self { base, http: http_client()?, token, key })
    }

    /// Calls `path` and answers status and JSON body (null if it is none).
    pub(in crate::cli) async fn call(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<(StatusCode, Value)> {
        let url = self.base.join(path).map_err(|cause| Error::internal("the path is no URL").caused_by(cause))?;
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(key) = &self.key {
            request = request.header("x-functions-key", key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let away = |cause: reqwest::Error| Error::unavailable("the deployment does not answer").caused_by(cause.without_url());
        let response = request.send().await.map_err(away)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(away)?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// Reads `path`; a 404 is `None`.
    pub(in crate::cli) async fn get(&self, path: &str) -> Result<Option<Value>> {
        match self.call(Method::GET, path, None).await? {
            (StatusCode::OK, value) => Ok(Some(value)),
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (status, _) => Err(Error::unavailable(format!("GET /{path} answered {status}"))),
        }
    }
}

pub(in crate::cli) fn http_client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(120))
        .build()
        .map_err(|cause| Error::internal("the HTTP client cannot start").caused_by(cause))
}
