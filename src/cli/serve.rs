//! `hdai serve`: the Azure Functions custom handler.

use std::process::ExitCode;
use std::sync::Arc;

use crate::config::Config;
use crate::error::Result;
use crate::host;
use crate::http::{self, App};
use crate::sign_in::SignIn;
use crate::workflow;

#[derive(Debug, Default, clap::Args)]
pub(super) struct Args {
    /// Port on 127.0.0.1; 0 is a free one. The Functions host's choice wins
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

pub(super) async fn run(config: Config, args: Args) -> Result<ExitCode> {
    let port = config.port.unwrap_or(args.port);
    // The port opens only once the record is usable: an accepting socket is the host's only sign of readiness.
    let hospital = super::open(config).await?;
    let sign_in = SignIn::open(&hospital.config)?;
    let app = Arc::new(App::new(hospital, sign_in, super::now));
    if std::env::var(host::LIFELINE).is_ok_and(|lifeline| lifeline == "stdin") {
        exit_with_the_host();
    }
    if app.hospital.config.topic.is_some() {
        tokio::spawn(workflow::relay(app.hospital.clone(), super::now));
    }
    let (listener, address) = http::listen(port).await?;
    tracing::info!(%address, "ready");
    http::serve(app, listener).await;
    // The server runs until the process is killed; coming here is a fault, and exit code 0 would leave the host without a handler.
    Ok(ExitCode::FAILURE)
}

/// A local host that is killed cannot stop its handler; the pipe to it breaks all the same. The real host sets no such thing.
fn exit_with_the_host() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(1);
    });
}
