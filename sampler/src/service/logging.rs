//! The service's log, on standard error.

use std::io;

use anyhow::{Context as _, Result};
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::LogLevel;

/// Changes the level while the service runs.
pub struct LogControl(reload::Handle<EnvFilter, Registry>);

/// Starts the log.
///
/// # Errors
/// When this process has a log already.
pub fn init(level: LogLevel) -> Result<LogControl> {
    let (filter, handle) = reload::Layer::new(filter(level));
    // journald puts its own time before each line.
    let with_time = std::env::var_os("JOURNAL_STREAM").is_none();
    let lines = fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(false);
    let registry = tracing_subscriber::registry().with(filter);
    if with_time { registry.with(lines).try_init() } else { registry.with(lines.without_time()).try_init() }
        .context("starting the log")?;
    Ok(LogControl(handle))
}

impl LogControl {
    /// Sets another level.
    pub fn set(&self, level: LogLevel) {
        if let Err(error) = self.0.reload(filter(level)) {
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
        Self(reload::Layer::new(filter(LogLevel::Off)).1)
    }
}
