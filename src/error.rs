//! The one error that crosses a module that does I/O. It knows nothing of HTTP or SQL.

use std::error::Error as StdError;
use std::fmt;

/// What a caller can do about an error. `http::problem` alone turns it into a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The input breaks a rule; the same input will fail again.
    Invalid,
    /// Nobody proved who they are.
    Unauthenticated,
    /// The caller is known and may not do this.
    Forbidden,
    /// The thing named does not exist.
    NotFound,
    /// The thing named is in a state that excludes the request.
    Conflict,
    /// The caller asked for too much in a short time; the same request may be fine later.
    TooMany,
    /// A dependency is away; the same request may succeed later.
    Unavailable,
    /// A fault of ours.
    Internal,
}

/// An error with a message fit for a log and for the caller: it names the thing, never a patient's value.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// `std::result::Result` with the house's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` whose `message` says what is wrong and what would put it right.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// [`Kind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// [`Kind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// [`Kind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// [`Kind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// [`Kind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Keeps what caused this error, for the log. Of causes that quote what they met (a panic's message, a JSON text's values) only what kind
    /// they are is kept.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(without_values(source.into()));
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message alone, without causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// True when the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        self.kind == Kind::Unavailable
    }
}

fn without_values(cause: Box<dyn StdError + Send + Sync>) -> Box<dyn StdError + Send + Sync> {
    if let Some(stopped) = cause.downcast_ref::<tokio::task::JoinError>() {
        return if stopped.is_panic() { "a task panicked" } else { "a task was cancelled" }.into();
    }
    if let Some(json) = cause.downcast_ref::<serde_json::Error>() {
        return format!("the JSON does not fit at line {} column {}", json.line(), json.column()).into();
    }
    cause
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_every_cause_once() {
        let inner = Error::unavailable("the disk is away");
        let outer = Error::internal("the import stopped").caused_by(inner);
        assert_eq!(outer.to_string(), "the import stopped: the disk is away");
        assert_eq!(outer.message(), "the import stopped");
        assert!(!outer.is_transient());
    }

    #[tokio::test]
    async fn what_a_cause_quotes_is_not_kept() {
        let json = serde_json::from_str::<i32>("\"Zebulonqx\"").unwrap_err();
        assert!(json.to_string().contains("Zebulonqx"));
        let panicked = tokio::spawn(async { panic!("{}", "Zebulonqx") }).await.unwrap_err();
        assert!(panicked.to_string().contains("Zebulonqx"));
        for error in [Error::invalid("no number").caused_by(json), Error::internal("broken off").caused_by(panicked)] {
            assert!(error.source().is_some() && !format!("{error} {error:?}").contains("Zebulonqx"), "{error:?}");
        }
    }
}
