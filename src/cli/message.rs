//! `hdai admit` and `hdai discharge`: messages from files, answered as the HTTP functions answer them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use warp::http::StatusCode;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{self, App};
use crate::sign_in::SignIn;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// JSON files: the blueprint's four-part message or FHIR R4; UTF-8 or UTF-16
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Admit,
    Discharge,
}

pub(super) async fn run(config: Config, args: Args, verb: Verb) -> Result<ExitCode> {
    let bytes_max = config.body_bytes_max as u64;
    // Whoever runs the command line is known without signing in.
    let sign_in = SignIn::new(false, None, None);
    let app = Arc::new(App::new(super::open(config).await?, sign_in, super::now));
    let mut all_done = true;
    for file in &args.files {
        let unreadable =
            |cause: std::io::Error| Error::not_found(format!("the file {} cannot be read", file.display())).caused_by(cause);
        if std::fs::metadata(file).map_err(unreadable)?.len() > bytes_max {
            return Err(Error::invalid(format!("the file {} is larger than {bytes_max} bytes", file.display())));
        }
        let body = Bytes::from(std::fs::read(file).map_err(unreadable)?);
        let caller = super::caller();
        let reply = match verb {
            Verb::Admit => http::admission_reply(&app, &caller, &body).await,
            Verb::Discharge => http::discharge_reply(&app, &caller, &body).await,
        };
        all_done &= reply.status == StatusCode::OK || reply.status == StatusCode::CREATED;
        let text = match serde_json::from_slice::<serde_json::Value>(&reply.body) {
            Ok(answer) => format!("{answer:#}"),
            Err(_) => String::from_utf8_lossy(&reply.body).into_owned(),
        };
        say!("{text}");
    }
    Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
