//! The service's log: entries with fields where standard error is the journal's, lines of text elsewhere.
//!
//! Standard error may be a pipe that nobody reads, and the journal may stand still. Whoever logs, the
//! sampling thread among them, hands a line to [`LogLines`] and never waits.

mod entry;
mod journal;
mod limits;
mod lines;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env, io, panic, thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

pub use self::lines::{LogLines, MissingLines};
use self::{
    journal::{Journal, JournalSocket},
    limits::Limits,
    lines::Form,
};
use crate::config::LogSettings;

/// Lines that may wait for the reader of standard error, or for the journal.
const ROOM: usize = 4096;

/// For how long the end of the process waits for who reads the log.
pub const LAST_LINES: Duration = Duration::from_secs(1);

/// Changes the levels while the service runs.
pub struct LogControl {
    levels: reload::Handle<EnvFilter, Registry>,
    lines: LogLines,
}

/// Starts the log. Panics are written there too: by themselves they would wait for standard error's reader.
///
/// # Errors
/// When this process has a log already, or no thread can be started.
pub fn init(settings: &LogSettings) -> Result<LogControl> {
    let stream = env::var_os("JOURNAL_STREAM");
    let is_journal = journal::is_behind(stream.as_deref(), &io::stderr());
    let limits = Limits::default();
    let log = if is_journal {
        let out = JournalSocket::open(journal::SOCKET, io::stderr()).context("starting the log")?;
        let lines = LogLines::start(out, ROOM, Form::Journal, limits.clone()).context("starting the log")?;
        start(Journal::new(lines.clone()), limits, lines, settings)?
    } else {
        to(io::stderr(), ROOM, settings)?
    };
    let lines = log.lines();
    panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let mut text = format!("hvsampler: thread {} {panic}", thread.name().unwrap_or("unnamed"));
        // Only where the environment asks for it.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            text += &format!("\n{trace}");
        }
        lines.say(Level::ERROR, &text);
    }));
    Ok(log)
}

/// Starts the log with so much room for lines of text that wait for `out`.
pub(super) fn to(
    out: impl io::Write + Send + 'static,
    room: usize,
    settings: &LogSettings,
) -> Result<LogControl> {
    let limits = Limits::default();
    let lines = LogLines::start(out, room, Form::Text, limits.clone()).context("starting the log")?;
    let layer = fmt::layer().with_writer(lines.clone()).with_target(false).with_ansi(false);
    start(layer, limits, lines, settings)
}

fn start<L>(layer: L, limits: Limits, lines: LogLines, settings: &LogSettings) -> Result<LogControl>
where
    L: Layer<Filtered> + Send + Sync + 'static,
{
    let (filter, levels) = reload::Layer::new(filter(settings));
    let registry = tracing_subscriber::registry().with(filter).with(limits).with(layer);
    registry.try_init().context("starting the log")?;
    Ok(LogControl { levels, lines })
}

/// What is below the layer that writes.
type Filtered = tracing_subscriber::layer::Layered<
    Limits,
    tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>,
>;

impl LogControl {
    /// Sets other levels.
    pub fn set(&self, settings: &LogSettings) {
        if let Err(error) = self.levels.reload(filter(settings)) {
            tracing::error!(%error, "the log's level stays as it is");
        }
    }

    /// Where its lines go.
    #[must_use]
    pub fn lines(&self) -> LogLines {
        self.lines.clone()
    }
}

/// The levels are the sampler's own; libraries speak from warnings on, and messages of the eBPF programs were
/// chosen by their own level before they came here.
fn filter(settings: &LogSettings) -> EnvFilter {
    let level = settings.level.filter();
    let others = level.min(tracing::level_filters::LevelFilter::WARN);
    let mut directives = format!("{others},hvsampler={level},sampler_programs=trace");
    for (module, level) in &settings.modules {
        directives += &format!(",hvsampler::{module}={}", level.filter());
    }
    EnvFilter::new(directives)
}

#[cfg(test)]
pub(super) mod tests;
