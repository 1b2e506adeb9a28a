//! The service's log, on standard error.
//!
//! Standard error may be a pipe that nobody reads. Whoever logs, the sampling thread among them, hands a line
//! to [`LogLines`] and never waits.

mod lines;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io, panic, thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

pub use self::lines::{DroppedLines, LogLines};
use crate::config::LogLevel;

/// Lines that may wait for the reader of standard error.
const ROOM: usize = 4096;

/// For how long the end of the process waits for the reader of standard error.
pub const LAST_LINES: Duration = Duration::from_secs(1);

/// Changes the level while the service runs.
pub struct LogControl {
    level: reload::Handle<EnvFilter, Registry>,
    lines: LogLines,
}

/// Starts the log. Panics are written there too: by themselves they would wait for standard error's reader.
///
/// # Errors
/// When this process has a log already, or no thread can be started.
pub fn init(level: LogLevel) -> Result<LogControl> {
    let log = to(io::stderr(), ROOM, level)?;
    let lines = log.lines();
    panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let mut text = format!("hvsampler: thread {} {panic}\n", thread.name().unwrap_or("unnamed"));
        // Only where the environment asks for it.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            text += &format!("{trace}\n");
        }
        lines.put(text.into());
    }));
    Ok(log)
}

/// Starts the log with so much room for lines that wait for `out`.
pub(super) fn to(out: impl io::Write + Send + 'static, room: usize, level: LogLevel) -> Result<LogControl> {
    let (filter, handle) = reload::Layer::new(filter(level));
    // journald puts its own time before each line.
    let with_time = std::env::var_os("JOURNAL_STREAM").is_none();
    let lines = LogLines::start(out, room).context("starting the log")?;
    let layer = fmt::layer().with_writer(lines.clone()).with_target(false).with_ansi(false);
    let registry = tracing_subscriber::registry().with(filter);
    if with_time { registry.with(layer).try_init() } else { registry.with(layer.without_time()).try_init() }
        .context("starting the log")?;
    Ok(LogControl { level: handle, lines })
}

impl LogControl {
    /// Sets another level.
    pub fn set(&self, level: LogLevel) {
        if let Err(error) = self.level.reload(filter(level)) {
            tracing::error!(%error, "the log's level stays as it is");
        }
    }

    /// Where its lines go.
    #[must_use]
    pub fn lines(&self) -> LogLines {
        self.lines.clone()
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
        let lines = LogLines::start(io::sink(), 1).unwrap();
        Self { level: reload::Layer::new(filter(LogLevel::Off)).1, lines }
    }
}
