//! Tracing set-up. The Functions host takes each line of standard output as a log entry and treats standard error as errors, so the
//! handler writes JSON lines to standard output. No span or field holds a patient's value.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};

/// Where and how to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON lines on standard output: the handler under a Functions host.
    JsonLines,
    /// Plain lines on standard error: the command line.
    Plain,
}

/// Starts logging with `filter`, as `EnvFilter` reads it.
///
/// # Errors
/// The filter cannot be read, or logging was started before.
pub fn start(filter: &str, format: Format) -> Result<()> {
    let mut filter =
        EnvFilter::try_new(filter).map_err(|cause| Error::invalid("the setting HDAI_LOG cannot be read").caused_by(cause))?;
    // The SDK logs addresses, and those carry names of blobs.
    for directive in ["typespec_client_core=warn", "azure_core=warn", "azure_storage_blob=warn"] {
        let quiet = directive.parse().map_err(|cause| Error::internal("a log directive cannot be read").caused_by(cause))?;
        filter = filter.add_directive(quiet);
    }
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::JsonLines => {
            registry.with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stdout)).try_init()
        }
        Format::Plain => registry.with(tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr)).try_init(),
    };
    started.map_err(|cause| Error::internal("logging was started before").caused_by(cause))
}
