//! The service: sampling on a thread of its own, export on tokio tasks, and the signals that steer both.

mod announce;
mod exports;
mod lines;
pub mod logging;
mod screen;

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};

use self::{
    announce::Announcer,
    exports::Exports,
    lines::{Lines, Unwritten},
    logging::LogControl,
    screen::Screen,
};
use crate::{
    agent::{self, Opened, Sampling, Schedule, StartOptions},
    config::{Config, ConfigError},
    export::selfmetrics::SelfStats,
    kernel::{Root, host},
    model::{SamplerStats, Snapshot},
    source::Settings,
};

/// What a service is started with beside its configuration.
pub struct Start<R> {
    /// Reads the configuration again.
    pub reload: R,
    /// The log's level, to be changed when the configuration is read again.
    pub log: LogControl,
    /// What standard output is for.
    pub output: Output,
}

/// What steers a service from outside.
pub struct Steering<S, H> {
    /// Over when the service is to end.
    pub shutdown: S,
    /// Over whenever the configuration is to be read again.
    pub hang_up: H,
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

/// Samples KVM's guests and exports until `shutdown` is over; then takes a last snapshot and sends what waits, for the
/// configured deadline at most. SIGHUP reads the configuration again.
///
/// # Errors
/// What keeps the programs or the first exporter from working. Later failures are logged and counted.
pub async fn run<R>(config: Config, start: Start<R>, shutdown: impl Future<Output = ()>) -> Result<()>
where
    R: Fn() -> Result<Config, ConfigError>,
{
    let mut signals = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    let hang_up = async move || {
        signals.recv().await;
    };
    run_with(config, start, Steering { shutdown, hang_up }, agent::open).await
}

/// The same with any source.
///
/// # Errors
/// What keeps the source or the first exporter from working. Later failures are logged and counted.
pub async fn run_with<R, S, H>(
    config: Config,
    start: Start<R>,
    steering: Steering<S, H>,
    open: impl FnOnce(&StartOptions) -> Result<Opened>,
) -> Result<()>
where
    R: Fn() -> Result<Config, ConfigError>,
    S: Future<Output = ()>,
    H: AsyncFnMut(),
{
    let host = host::read(&Root::system())?;
    let stats = Arc::new(Mutex::new(SamplerStats::default()));
    let exports = Exports::start(&config, host, Arc::clone(&stats))?;
    let (driver, _bpf_log) = agent::settle(open(&options(&config))?)?;
    let (lines, mut unwritten) = (start.output == Output::Json).then(lines::start).transpose()?.unzip();
    let mut deliver = Deliver {
        announcer: Announcer::default(),
        stats,
        exports: exports.clone(),
        screen: (start.output == Output::Table).then(Screen::start).transpose()?,
        lines,
    };
    let delay = config.start_delay.draw(config.interval);
    tracing::info!(interval = ?config.interval, start_delay = ?delay, export = exports.target().as_deref().unwrap_or("none"), "sampling");
    if exports.target().is_none() && start.output == Output::None {
        tracing::warn!("nothing is exported: set export.endpoint, OTEL_EXPORTER_OTLP_ENDPOINT or --endpoint");
    }
    let sampling =
        Sampling::spawn(driver, schedule(&config), delay, move |snapshot| deliver.snapshot(snapshot))?;
    let shutdown = shutdown_or(steering.shutdown, nobody_wants_it(unwritten.as_mut(), &exports));
    let steering = Steering { shutdown, hang_up: steering.hang_up };
    let config = steer(config, start, &sampling, &exports, steering).await;
    spawn_blocking(move || sampling.stop()).await.context("taking the last snapshot")?;
    let printed = async {
        if let Some(unwritten) = unwritten {
            unwritten.wait(config.shutdown_deadline).await;
        }
    };
    tokio::join!(exports.shutdown(config.shutdown_deadline), printed);
    Ok(())
}

async fn shutdown_or(shutdown: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown => {}
        () = other => {}
    }
}

/// Waits until the reader of standard output has left a sampler that exports nothing: `run --json | head` is to end.
async fn nobody_wants_it(unwritten: Option<&mut Unwritten>, exports: &Exports) {
    if let Some(unwritten) = unwritten {
        unwritten.over().await;
        if exports.target().is_none() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Waits for the end and reads the configuration again whenever it is asked to until then. Returns the configuration that
/// held last.
async fn steer<R, S, H>(
    mut config: Config,
    start: Start<R>,
    sampling: &Sampling,
    exports: &Exports,
    steering: Steering<S, H>,
) -> Config
where
    R: Fn() -> Result<Config, ConfigError>,
    S: Future<Output = ()>,
    H: AsyncFnMut(),
{
    let Steering { shutdown, mut hang_up } = steering;
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => return config,
            () = hang_up() => {}
        }
        match (start.reload)() {
            Ok(new) => {
                sampling.reschedule(schedule(&new));
                start.log.set(new.log.level);
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

const fn settings(config: &Config) -> Settings {
    Settings { interval: config.interval, levels: config.levels() }
}

const fn options(config: &Config) -> StartOptions {
    StartOptions { bpf_log_level: config.log.bpf_level as u8, settings: settings(config) }
}

const fn schedule(config: &Config) -> Schedule {
    Schedule { settings: settings(config), discovery_interval: config.discovery_interval }
}

/// Where snapshots go. Runs on the sampling thread, so nothing here may wait.
struct Deliver {
    announcer: Announcer,
    stats: Arc<Mutex<SamplerStats>>,
    exports: Exports,
    screen: Option<Screen>,
    lines: Option<Lines>,
}

impl Deliver {
    fn snapshot(&mut self, mut snapshot: Snapshot) {
        snapshot.sampler.lines_skipped = self.lines.as_ref().map_or(0, Lines::skipped);
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.sampler;
        self.announcer.look_at(&snapshot);
        let snapshot = Arc::new(snapshot);
        if let Some(screen) = &self.screen {
            screen.show(Arc::clone(&snapshot));
        }
        if let Some(lines) = &mut self.lines {
            lines.put(Arc::clone(&snapshot));
        }
        self.exports.offer(snapshot);
    }
}

/// Reads what self-telemetry reports.
fn self_stats(stats: &Mutex<SamplerStats>, exports: &Exports) -> SelfStats {
    SelfStats { sampler: *stats.lock().unwrap_or_else(PoisonError::into_inner), pipeline: exports.stats() }
}
