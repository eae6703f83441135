//! What the demo and the benchmarks share: a scratch folder, a local host in it, and a look at a process's memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::host;

/// A folder that goes with this value.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new(what: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("hdai-{what}-{}", uuid::Uuid::new_v4().simple()));
        super::create_private(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a folder that stays; the system cleans its temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts the local host in `folder` and waits until its handler takes calls.
pub(super) async fn start_host(config: &Config, folder: &Path) -> Result<(host::Running, Url)> {
    let (running, url) = launch_host(config, folder).await?;
    running.ready().await?;
    Ok((running, url))
}

/// Starts the local host in `folder` on a free port, with this binary as its handler; answers it and its address. Files are dropped by a rename here, so they need no time to settle.
pub(super) async fn launch_host(config: &Config, folder: &Path) -> Result<(host::Running, Url)> {
    let mut options = super::host::options(&Config { folder: folder.to_owned(), ..config.clone() })?;
    options.port = 0;
    options.timing.blob_poll = Duration::from_millis(100);
    options.timing.blob_settle = Duration::ZERO;
    // One caller stands for all of a hospital's.
    options.handler_env.push(("HDAI_CALLER_RATE".into(), "0".into()));
    super::host::stage_into(None, &config.import_container, &options.app_dir)?;
    let running = host::start(options).await?;
    let url = Url::parse(&format!("http://{}", running.http()))
        .map_err(|cause| Error::internal("the local host's address is no URL").caused_by(cause))?;
    Ok((running, url))
}

/// Peak resident memory of a process, where the system tells (`/proc`).
pub(super) fn peak_resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}
