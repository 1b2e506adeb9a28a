//! The service: sampling on a thread of its own, export on tokio tasks, and the signals that steer both.

mod announce;
mod audited;
mod exports;
mod lines;
pub mod logging;
mod own;
mod queued;
mod screen;

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

use self::{
    exports::{ExportSink, Exports},
    lines::Unwritten,
    logging::LogControl,
    own::Own,
};
use crate::{
    agent::{self, Opened, Sampling, Schedule, Sink, Sinks, StartOptions},
    audit::Audit,
    config::{Config, ConfigError},
    export::selfmetrics::SelfStats,
    kernel::{Root, host},
};

/// What a service is started with beside its configuration.
pub struct Start<R> {
    /// Reads the configuration again.
    pub reload: R,
    /// The log's level, to be changed when the configuration is read again.
    pub log: LogControl,
    /// What standard output is for.
    pub output: Output,
    /// Who else gets every snapshot.
    pub sinks: Vec<Box<dyn Sink>>,
}

/// What steers a service from outside.
pub struct Steering<S, H, A> {
    /// Over when the service is to end.
    pub shutdown: S,
    /// Over whenever the configuration is to be read again.
    pub hang_up: H,
    /// Over whenever the log is to say what came of the audit.
    pub ask: A,
}

/// What the service prints on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    #[default]
    None,
    /// Each snapshot as a table, unless the one before is still being drawn.
    Table,
    /// Every snapshot as a line of JSON.
    Json,
}

/// Samples KVM's guests and exports until `shutdown` is over; then takes a last snapshot and sends what
/// waits, for the configured deadline at most. SIGHUP reads the configuration again; SIGUSR1 asks for the
/// audit's last hour.
///
/// # Errors
/// What keeps the programs or the first exporter from working. Later failures are logged and counted.
pub async fn run<R>(config: Config, start: Start<R>, shutdown: impl Future<Output = ()>) -> Result<()>
where
    R: Fn() -> Result<Config, ConfigError>,
{
    let mut hang_ups = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    let mut questions = signal(SignalKind::user_defined1()).context("waiting for SIGUSR1")?;
    let hang_up = async move || {
        hang_ups.recv().await;
    };
    let ask = async move || {
        questions.recv().await;
    };
    run_with(config, start, Steering { shutdown, hang_up, ask }, agent::open).await
}

/// The same with any source.
///
/// # Errors What keeps the source or the first exporter from working, and a panic of the sampling thread.
/// Later failures are logged and counted.
pub async fn run_with<R, S, H, A>(
    config: Config,
    start: Start<R>,
    steering: Steering<S, H, A>,
    open: impl FnOnce(&StartOptions) -> Result<Opened>,
) -> Result<()>
where
    R: Fn() -> Result<Config, ConfigError>,
    S: Future<Output = ()>,
    H: AsyncFnMut(),
    A: AsyncFnMut(),
{
    let Start { reload, log, output, sinks } = start;
    let own = Own::default();
    let exports = Exports::start(&config, host::read(&Root::system())?, own.clone())?;
    let options = options(&config);
    let (driver, _bpf_log) = agent::settle(open(&options)?, options.nice)?;
    let (printer, mut unwritten) = printer(output)?;
    let sinks = printer.into_iter().chain(sinks).collect();
    let unread = log.lines().dropped();
    let audit = audited::begin(&config);
    let sinks = with_standard_sinks(sinks, &own, &exports, &audit)?;
    let sinks = Sinks::new(sinks, own.sinks).beside({
        let audit = audit.clone();
        move |stats| {
            stats.log_lines_dropped = unread.count();
            audit.report(stats);
        }
    });
    let delay = config.start_delay.draw(config.interval);
    say_what_begins(&config, delay, &exports, output);
    let sampling = Sampling::spawn(driver, schedule(&config), delay, sinks)?;
    let end = any_of(steering.shutdown, nobody_wants_it(unwritten.as_mut(), &exports), sampling.ended());
    let steering = Steering { shutdown: end, hang_up: steering.hang_up, ask: steering.ask };
    let config = steer(config, (reload, log), &sampling, &exports, &audit, steering).await;
    let sampled = spawn_blocking(move || sampling.stop()).await.context("taking the last snapshot")?;
    let printed = async {
        if let Some(unwritten) = unwritten {
            unwritten.wait(config.shutdown_deadline).await;
        }
    };
    tokio::join!(exports.shutdown(config.shutdown_deadline), printed);
    Ok(sampled?)
}

/// The sink that has standard output, and what waits for it at the end.
type Printer = (Option<Box<dyn Sink>>, Option<Unwritten>);

fn printer(output: Output) -> Result<Printer> {
    Ok(match output {
        Output::None => (None, None),
        Output::Table => (Some(Box::new(screen::start()?)), None),
        Output::Json => {
            let (lines, unwritten) = lines::start()?;
            (Some(Box::new(lines)), Some(unwritten))
        }
    })
}

/// Around others those that each service has. The sampler's own statistics come first, and the exports last,
/// as what they take in is then what all others have seen.
fn with_standard_sinks(
    others: Vec<Box<dyn Sink>>,
    own: &Own,
    exports: &Exports,
    audit: &Audit,
) -> Result<Vec<Box<dyn Sink>>> {
    let mut sinks: Vec<Box<dyn Sink>> =
        vec![Box::new(own.clone()), Box::new(announce::start()?), Box::new(audited::start(audit)?)];
    sinks.extend(others);
    sinks.push(Box::new(ExportSink::from(exports.clone())));
    Ok(sinks)
}

fn say_what_begins(config: &Config, delay: Duration, exports: &Exports, output: Output) {
    let target = exports.target();
    tracing::info!(
        interval = ?config.interval,
        start_delay = ?delay,
        export = target.as_deref().unwrap_or("none"),
        "sampling"
    );
    if target.is_none() && output == Output::None {
        tracing::warn!("nothing is exported: set export.endpoint, OTEL_EXPORTER_OTLP_ENDPOINT or --endpoint");
    }
}

/// Over when one of them is.
async fn any_of(
    one: impl Future<Output = ()>,
    other: impl Future<Output = ()>,
    third: impl Future<Output = ()>,
) {
    tokio::select! {
        () = one => {}
        () = other => {}
        () = third => {}
    }
}

/// Waits until the reader of standard output has left a sampler that exports nothing: `run --json | head` is
/// to end.
async fn nobody_wants_it(unwritten: Option<&mut Unwritten>, exports: &Exports) {
    if let Some(unwritten) = unwritten {
        unwritten.over().await;
        if exports.target().is_none() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Waits for the end, and reads the configuration again or says what came of the audit whenever it is asked
/// to until then. Returns the configuration that held last.
async fn steer<R, S, H, A>(
    mut config: Config,
    (reload, log): (R, LogControl),
    sampling: &Sampling,
    exports: &Exports,
    audit: &Audit,
    steering: Steering<S, H, A>,
) -> Config
where
    R: Fn() -> Result<Config, ConfigError>,
    S: Future<Output = ()>,
    H: AsyncFnMut(),
    A: AsyncFnMut(),
{
    let Steering { shutdown, mut hang_up, mut ask } = steering;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return config,
            () = ask() => {
                tracing::info!("{}", audit.last_hour());
                continue;
            }
            () = hang_up() => {}
        }
        match reload() {
            Ok(new) => {
                sampling.reschedule(schedule(&new));
                log.set(new.log.level);
                audited::set(audit, &new);
                if let Err(error) = exports.replace(&config, &new) {
                    tracing::error!(error = format!("{error:#}"), "the export goes on as before");
                    config = Config { export: config.export, ..new };
                } else {
                    config = new;
                }
                tracing::info!(
                    interval = ?config.interval,
                    export = exports.target().as_deref().unwrap_or("none"),
                    "configuration read again; bpf_level, start_delay and lock_file hold from the next start on"
                );
            }
            Err(error) => tracing::error!(%error, "the configuration stays as it is"),
        }
    }
}

const fn options(config: &Config) -> StartOptions {
    StartOptions {
        bpf_log_level: config.log.bpf_level as u8,
        interval: config.interval,
        levels: config.levels(),
        nice: config.nice,
    }
}

fn schedule(config: &Config) -> Schedule {
    Schedule {
        interval: config.interval,
        levels: config.levels(),
        discovery_interval: config.discovery_interval,
        slow_interval: config.slow_interval,
        nice: config.nice,
        guests: Arc::new(config.guests.clone()),
    }
}

/// Reads what self-telemetry reports.
fn self_stats(own: &Own, exports: &Exports) -> SelfStats {
    SelfStats { sampler: own.stats(), sinks: own.sinks.read(), pipeline: exports.stats() }
}

#[cfg(test)]
mod tests;
