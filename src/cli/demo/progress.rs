//! What the demo is doing, on standard error: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub(super) struct Progress {
    terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal() }
    }

    pub(super) fn say(&self, text: &str) {
        eprintln!("{text}");
    }

    /// A bar of `total` steps under `label`.
    pub(super) fn bar(&self, label: &'static str, total: u64) -> Bar {
        if !self.terminal {
            eprintln!("{label} ...");
            return Bar { bar: None, label };
        }
        let bar = ProgressBar::new(total).with_prefix(label);
        let style = ProgressStyle::with_template("{prefix:<22} [{bar:32}] {human_pos}/{human_len} {per_sec}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Bar { bar: Some(bar), label }
    }

    /// Something of unknown length under `label`.
    pub(super) fn spinner(&self, label: &'static str) -> Bar {
        if !self.terminal {
            eprintln!("{label} ...");
            return Bar { bar: None, label };
        }
        let bar = ProgressBar::new_spinner().with_message(label);
        bar.enable_steady_tick(Duration::from_millis(120));
        Bar { bar: Some(bar), label }
    }
}

pub(super) struct Bar {
    bar: Option<ProgressBar>,
    label: &'static str,
}

impl Bar {
    pub(super) fn at(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// Ends the bar with a line of its own.
    pub(super) fn done(self, outcome: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{}: {outcome}", self.label);
    }
}
