//! The service's log, on standard error.
//!
//! A thread of its own writes: standard error may be a pipe that nobody reads, and whoever logs, the sampling
//! thread among them, must not wait for it. What does not fit into the queue is left out.

use std::io;

use anyhow::{Context as _, Result};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::LogLevel;

/// Lines that may wait for the reader of standard error.
const MAX_PENDING_LINES: usize = 4096;

/// Changes the level while the service runs. When it is dropped what waits is written, for a second at most.
pub struct LogControl {
    level: reload::Handle<EnvFilter, Registry>,
    _writer: Option<WorkerGuard>,
}

/// Starts the log.
///
/// # Errors
/// When this process has a log already.
pub fn init(level: LogLevel) -> Result<LogControl> {
    let (filter, handle) = reload::Layer::new(filter(level));
    // journald puts its own time before each line.
    let with_time = std::env::var_os("JOURNAL_STREAM").is_none();
    let (to, writer) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_PENDING_LINES)
        .thread_name("log-lines")
        .finish(io::stderr());
    let lines = fmt::layer().with_writer(to).with_target(false).with_ansi(false);
    let registry = tracing_subscriber::registry().with(filter);
    if with_time { registry.with(lines).try_init() } else { registry.with(lines.without_time()).try_init() }
        .context("starting the log")?;
    Ok(LogControl { level: handle, _writer: Some(writer) })
}

impl LogControl {
    /// Sets another level.
    pub fn set(&self, level: LogLevel) {
        if let Err(error) = self.level.reload(filter(level)) {
            tracing::error!(%error, "the log's level stays as it is");
        }
    }
}

/// The level is the sampler's own; libraries speak from warnings on, and messages of the eBPF programs were
/// chosen by their own level before they came here.
fn filter(level: LogLevel) -> EnvFilter {
    let level = level.filter();
    let others = level.min(tracing::level_filters::LevelFilter::WARN);
    EnvFilter::new(format!("{others},hvsampler={level},sampler_programs=trace"))
}

#[cfg(test)]
impl LogControl {
    /// Of no log.
    pub(super) fn none() -> Self {
        Self { level: reload::Layer::new(filter(LogLevel::Off)).1, _writer: None }
    }
}
