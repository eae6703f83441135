//! Tracing set-up. The Functions host takes each line of standard output as a log entry and treats standard error as errors, so the
//! handler writes JSON lines to standard output. No span or field holds a patient's value.
//!
//! Dependencies log what passes through them: headers with tokens, addresses with names of files, statements, bodies. So they are heard
//! from `WARN` on only, and the SQL driver not at all, whatever the filter says.

use std::io::Write;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::{Error, Result};

/// Targets of our own: the crate's, and the names that the local host gives what a function said.
const OURS: [&str; 2] = ["health_data_ai", "Host.Function"];
/// Dependencies whose warnings quote values: a server's message names the key that was there twice.
const SILENT: [&str; 1] = ["tiberius"];

/// Where and how to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON lines on standard output: the handler under a Functions host.
    JsonLines,
    /// Plain lines on standard error: the command line.
    Plain,
}

/// Starts logging with `filter`, as `EnvFilter` reads it, for what is ours.
///
/// # Errors
/// The filter cannot be read, or logging was started before.
pub fn start(filter: &str, format: Format) -> Result<()> {
    let filter =
        EnvFilter::try_new(filter).map_err(|cause| Error::invalid("the setting HDAI_LOG cannot be read").caused_by(cause))?;
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(may_speak));
    let started = match format {
        Format::JsonLines => {
            registry.with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stdout)).try_init()
        }
        Format::Plain => registry.with(tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr)).try_init(),
    };
    started.map_err(|cause| Error::internal("logging was started before").caused_by(cause))
}

fn may_speak(metadata: &Metadata<'_>) -> bool {
    let of = |names: &[&str]| names.iter().any(|name| is_within(metadata.target(), name));
    of(&OURS) || (*metadata.level() <= Level::WARN && !of(&SILENT))
}

/// Is `target` this name, or something beneath it?
fn is_within(target: &str, name: &str) -> bool {
    target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '.']))
}

/// Has a panic tell where it was and not what it says: its message may quote what it met.
pub fn hush_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
        if tracing::event_enabled!(Level::ERROR) {
            tracing::error!(place, "a part of the program stopped by a fault of ours");
        } else {
            let _ = writeln!(std::io::stderr(), "hdai: a part of the program stopped by a fault of ours at {place}");
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const VALUE: &str = "Zebulonqx";

    /// Only a process of its own can have its logging and its panics.
    #[test]
    #[ignore = "another test runs it, in a process of its own"]
    fn speaks_and_dies() {
        start("trace,hyper=trace,tiberius::client=trace,[span]=trace", Format::JsonLines).unwrap();
        hush_panics();
        let span = tracing::trace_span!(target: "hyper::proto", "span", header = VALUE);
        span.in_scope(|| tracing::trace!("ours at trace"));
        tracing::info!(target: "Host.Function", "ours by name");
        tracing::info!(target: "health_data_aide", "{VALUE}");
        tracing::debug!(target: "reqwest::connect", "{VALUE}");
        tracing::info!(target: "azure_core", "{VALUE}");
        tracing::error!(target: "tiberius::tds", "the duplicate key value is {VALUE}");
        tracing::warn!(target: "rustls", "a dependency warns");
        std::thread::spawn(|| Vec::<()>::new().pop().expect(VALUE)).join().unwrap_err();
    }

    #[test]
    fn no_filter_lets_dependencies_speak_and_a_panic_tells_where_alone() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "telemetry::tests::speaks_and_dies", "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        for said in ["ours at trace", "ours by name", "a dependency warns", "a fault of ours", "telemetry.rs:"] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains(VALUE), "{text}");
    }
}
