//! What goes wrong with a storage account, told apart by what follows from it. What is shown names the container, the status and the
//! service's code: the SDK's own messages carry addresses, and those carry names of blobs and signatures.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use azure_core::error::ErrorKind;
use azure_core::http::StatusCode;
use backon::{BackoffBuilder, ExponentialBuilder};
use uuid::Uuid;

use crate::error::{Error, Result};

/// What went wrong.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no blob of this name.
    NoBlob,
    /// There is no such container.
    NoContainer,
    /// There is one already.
    ContainerExists,
    /// The blob is not the version that was asked for.
    Changed,
    /// The body broke off, or is not what was asked for: the same request may succeed at once.
    Broken(Error),
    /// Everything else; the SDK has repeated what a repetition can cure.
    Other(Error),
}

impl Fault {
    /// An answer that no storage account gives.
    pub(super) fn strange(what: &str) -> Self {
        Self::Broken(Error::unavailable(format!(
            "the storage account answered strangely: {what}; check what stands between it and this program"
        )))
    }

    /// As an error; `done` is what was to be done with a blob in `container`.
    pub(super) fn into_error(self, done: &str, container: &str) -> Error {
        match self {
            Self::NoBlob => Error::unavailable(format!("a blob in {container} cannot be {done}: it is gone")),
            // Not "not found": what was delivered must not be given up because a container is being made anew.
            Self::NoContainer => Error::unavailable(format!(
                "a blob in {container} cannot be {done}: the storage account has no such container; create it, or correct \
                 HDAI_IMPORT_CONTAINER"
            )),
            Self::ContainerExists => Error::conflict(format!("the container {container} exists")),
            Self::Changed => {
                Error::unavailable(format!("a blob in {container} was overwritten while it was read; it will be read afresh"))
            }
            Self::Broken(error) | Self::Other(error) => error,
        }
    }
}

/// Awaits `request` no longer than `limit`.
pub(super) async fn in_time<T>(limit: Duration, request: impl Future<Output = azure_core::Result<T>>) -> azure_core::Result<T> {
    let late = || azure_core::Error::new(ErrorKind::Io, io::Error::from(io::ErrorKind::TimedOut));
    tokio::time::timeout(limit, request).await.unwrap_or_else(|_| Err(late()))
}

/// What `error` means for a request that concerns `container`; `refused` is the remedy if the account does not let us in.
pub(super) fn of(error: azure_core::Error, container: &str, refused: &str) -> Fault {
    match error.kind() {
        ErrorKind::HttpResponse { status, error_code, .. } => {
            of_status(*status, error_code.as_deref().unwrap_or(""), container, refused)
        }
        ErrorKind::Credential => Fault::Other(
            Error::unavailable(format!(
                "no token for the storage account came, for a blob in {container}: check the app's identity"
            ))
            .caused_by(error),
        ),
        _ => Fault::Other(unreachable(&error, container)),
    }
}

fn of_status(status: StatusCode, code: &str, container: &str, refused: &str) -> Fault {
    // The code is the service's word; what is none of its codes is not repeated.
    let code = if code.bytes().all(|byte| byte.is_ascii_alphanumeric()) { code } else { "" };
    let answer = format!("{} {code}", u16::from(status));
    let answer = answer.trim_end();
    match (status, code) {
        (StatusCode::NotFound, "BlobNotFound") => Fault::NoBlob,
        (StatusCode::NotFound, "ContainerNotFound") => Fault::NoContainer,
        (StatusCode::Conflict, "ContainerAlreadyExists") => Fault::ContainerExists,
        (StatusCode::PreconditionFailed | StatusCode::RequestedRangeNotSatisfiable, _) => Fault::Changed,
        (StatusCode::Unauthorized | StatusCode::Forbidden, _) | (_, "InvalidAuthenticationInfo" | "AuthenticationFailed") => {
            // Unavailable, because the delivery must wait for the remedy and not be given up.
            let remedy = match code {
                "AuthorizationFailure" => format!("{refused}; or let this app's network through the account's firewall"),
                "KeyBasedAuthenticationNotPermitted" => {
                    "the account takes no signatures: remove HDAI_BLOB_SAS and use the app's identity".to_owned()
                }
                _ => refused.to_owned(),
            };
            Fault::Other(Error::unavailable(format!("the storage account refuses access to {container} ({answer}): {remedy}")))
        }
        (StatusCode::BadRequest, "InvalidResourceName" | "InvalidUri" | "OutOfRangeInput") => {
            Fault::Other(Error::invalid(format!(
                "the storage account does not take a name in {container} ({answer}): rename the file, or correct HDAI_IMPORT_CONTAINER"
            )))
        }
        (StatusCode::TooManyRequests, _) => busy(answer, container),
        (status, _) if status.is_server_error() => busy(answer, container),
        _ => Fault::Other(Error::unavailable(format!(
            "the storage account does not do what was asked of a blob in {container} ({answer}): look its code up, and compare \
             HDAI_BLOB_ACCOUNT_URL with the account"
        ))),
    }
}

fn busy(answer: &str, container: &str) -> Fault {
    Fault::Other(Error::unavailable(format!(
        "the storage account is busy or broken, for a blob in {container} ({answer}): it will be tried again"
    )))
}

fn unreachable(error: &azure_core::Error, container: &str) -> Error {
    let why = root_cause(error).map(|cause| format!(" ({cause})")).unwrap_or_default();
    Error::unavailable(format!(
        "the storage account cannot be reached, for a blob in {container}{why}: check HDAI_BLOB_ACCOUNT_URL and the network"
    ))
}

/// The innermost cause, where it is one that knows no address.
fn root_cause(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut innermost = error;
    let mut timed_out = false;
    loop {
        timed_out |= innermost.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_timeout);
        match innermost.source() {
            Some(source) => innermost = source,
            None => break,
        }
    }
    let known = !innermost.is::<reqwest::Error>() && !innermost.is::<azure_core::Error>();
    let text = innermost.to_string();
    match (timed_out, known && !text.contains("://")) {
        (true, _) => Some("it took too long".to_owned()),
        (false, true) => Some(text),
        (false, false) => None,
    }
}

/// A body that broke off.
pub(super) fn broken(error: &azure_core::Error, container: &str) -> Fault {
    Fault::Broken(unreachable(error, container))
}

/// Tries again what broke. Each pause is lengthened by chance up to double, so that readers that were cut off together do not come back
/// together.
pub(super) async fn persistently<T, F: Future<Output = Result<T, Fault>>>(
    attempts: u32,
    pause: Duration,
    mut work: impl FnMut() -> F,
) -> Result<T, Fault> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(pause)
        .with_max_times(attempts.saturating_sub(1) as usize)
        .with_jitter()
        .with_jitter_seed(Uuid::new_v4().as_u64_pair().1);
    for pause in pauses.build() {
        match work().await {
            Err(Fault::Broken(_)) => tokio::time::sleep(pause).await,
            outcome => return outcome,
        }
    }
    work().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// What each answer comes to: the kind of the error, and a word of its remedy.
    #[test]
    fn an_answer_is_told_by_status_and_code() {
        for (status, code, kind, remedy) in [
            (403, "AuthorizationPermissionMismatch", Kind::Unavailable, "the role"),
            (401, "", Kind::Unavailable, "the role"),
            (400, "InvalidAuthenticationInfo", Kind::Unavailable, "the role"),
            (403, "AuthorizationFailure", Kind::Unavailable, "firewall"),
            (403, "KeyBasedAuthenticationNotPermitted", Kind::Unavailable, "HDAI_BLOB_SAS"),
            (404, "ContainerNotFound", Kind::Unavailable, "HDAI_IMPORT_CONTAINER"),
            (404, "ResourceNotFound", Kind::Unavailable, "HDAI_BLOB_ACCOUNT_URL"),
            (412, "ConditionNotMet", Kind::Unavailable, "read afresh"),
            (400, "InvalidUri", Kind::Invalid, "rename"),
            (409, "BlobArchived", Kind::Unavailable, "409 BlobArchived"),
            (429, "", Kind::Unavailable, "tried again"),
            (503, "ServerBusy", Kind::Unavailable, "503 ServerBusy"),
        ] {
            let error = of_status(StatusCode::from(status), code, "drop", "give it the role").into_error("read", "drop");
            assert!(
                error.kind() == kind && error.message().contains(remedy) && error.message().contains("drop"),
                "{status} {code}: {error}"
            );
        }
        let odd = of_status(StatusCode::from(409), "a smith's https://x/?sig=1", "drop", "").into_error("read", "drop").to_string();
        assert!(!odd.contains("smith") && odd.contains("409"), "{odd}");
    }
}
