//! The service: sampling on a thread of its own, export on tokio tasks, and the signals that steer both.

mod announce;
mod audited;
mod exports;
mod lines;
pub mod logging;
mod own;
pub mod privileges;
mod queued;
mod screen;
pub mod status;
mod steering;
mod systemd;

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
    privileges::Confined,
    status::{Answering, Health},
    steering::{Steered, steer},
    systemd::Manager,
};
pub use self::{
    steering::Steering,
    systemd::{Inherited, Supervision},
};
use crate::{
    agent::{self, BpfLog, Driver, Opened, Opener, Sampling, Schedule, Sink, Sinks, StartOptions},
    audit::Audit,
    config::{Config, ConfigError, Loaded, Warning},
    duration,
    export::{selfmetrics::SelfStats, table::Column, terminal::count},
    kernel::{Root, check::CheckItem, host},
    model::Host,
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
    /// The service manager that started this process.
    pub supervision: Supervision,
}

/// How long the kernel may take to check and attach the programs. On a host whose CPUs are scarce that takes
/// minutes.
const LOADING: Duration = Duration::from_secs(5 * 60);

/// How much longer a part of the start, or the stop, may take on such a host than it is meant to.
const SLACK: Duration = Duration::from_secs(30);

/// What the service prints on standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Nothing.
    #[default]
    None,
    /// Each snapshot as a table with these columns, unless the one before is still being drawn. None: those
    /// that fit.
    Table(Vec<&'static Column>),
    /// Every snapshot as a line of JSON.
    Json,
}

/// Samples the host's guests and exports until `shutdown` is over; then takes a last snapshot and sends what
/// waits, for the configured deadline at most. SIGHUP reads the configuration again; SIGUSR1 asks for the
/// audit's last hour. What privileges loading takes, and serving does not, are with `confined`.
///
/// # Errors
/// What keeps the programs or the first exporter from working. Later failures are logged and counted.
pub async fn run<R>(
    config: Config,
    start: Start<R>,
    confined: Confined,
    shutdown: impl Future<Output = ()>,
) -> Result<()>
where
    R: Fn() -> Result<Loaded, ConfigError>,
{
    let mut hang_ups = signal(SignalKind::hangup()).context("waiting for SIGHUP")?;
    let mut questions = signal(SignalKind::user_defined1()).context("waiting for SIGUSR1")?;
    let hang_up = async move || {
        hang_ups.recv().await;
    };
    let ask = async move || {
        questions.recv().await;
    };
    let open = |options: &StartOptions| {
        let of_loading = *options;
        let loaded = confined.load(move || agent::load(&of_loading))??;
        agent::begin(loaded, options)
    };
    let source = Opener { hypervisor: agent::SOURCE.hypervisor, open };
    run_with(config, start, Steering { shutdown, hang_up, ask }, source).await
}

/// The same with any source.
///
/// # Errors
/// What keeps the source or the first exporter from working, and a panic of the sampling thread. Later
/// failures are logged and counted.
pub async fn run_with<R, S, H, A>(
    config: Config,
    start: Start<R>,
    steering: Steering<S, H, A>,
    source: Opener<impl FnOnce(&StartOptions) -> Result<Opened>>,
) -> Result<()>
where
    R: Fn() -> Result<Loaded, ConfigError>,
    S: Future<Output = ()>,
    H: AsyncFnMut(),
    A: AsyncFnMut(),
{
    let Start { reload, log, output, sinks, supervision } = start;
    let manager = Manager::of(&supervision);
    let own = Own::default();
    let host = Arc::new(Host { hypervisor: Some(source.hypervisor), ..host::read(&Root::system())? });
    let exports = Exports::start(&config, Arc::clone(&host), own.clone())?;
    let health = Health::begin(&config, own.clone(), exports.clone());
    // Before the programs are loaded: that may take minutes, in which somebody may ask.
    let answering = Answering::start(&config.status_socket, health.clone()).await?;
    let (driver, _bpf_log, hooks) = start_source(options(&config), source.open, &manager).await?;
    let prints = output != Output::None;
    let (printer, mut unwritten) = printer(output)?;
    let sinks = printer.into_iter().chain(sinks).collect();
    let missing = log.lines().missing();
    let audit = audited::begin(&config);
    let sinks = with_standard_sinks(sinks, &own, &exports, &audit)?;
    let sinks = Sinks::new(sinks, own.sinks.clone()).beside({
        let audit = audit.clone();
        move |stats| {
            stats.log_lines_dropped = missing.dropped();
            stats.log_lines_left_out = missing.left_out();
            audit.report(stats);
        }
    });
    let delay = config.start_delay.draw(config.interval);
    say_what_begins(&config, delay, &exports, &driver, &hooks);
    if exports.target().is_none() && !prints {
        tracing::warn!("nothing is exported: set export.endpoint, OTEL_EXPORTER_OTLP_ENDPOINT or --endpoint");
    }
    manager.starts(&format!("first snapshot in {}", duration::format(delay)), delay + SLACK).await;
    let sampling = Sampling::spawn(driver, schedule(&config, host), delay, sinks)?;
    let end = any_of(steering.shutdown, nobody_wants_it(unwritten.as_mut(), &exports), sampling.ended());
    let steering = Steering { shutdown: end, hang_up: steering.hang_up, ask: steering.ask };
    let facts = || facts_of(&own, &sampling, &exports);
    let steered = Steered {
        sampling: &sampling,
        exports: &exports,
        audit: &audit,
        health: &health,
        manager: &manager,
        facts: &facts,
    };
    // One task does both: a service that cannot be steered any more gives no sign of life either.
    let config = tokio::select! {
        config = steer(config, (reload, log), &steered, steering) => config,
        never = manager.supervise(&sampling, facts) => match never {},
    };
    manager.stops(config.shutdown_deadline + SLACK).await;
    let sampled = spawn_blocking(move || sampling.stop()).await.context("taking the last snapshot")?;
    let printed = async {
        if let Some(unwritten) = unwritten {
            unwritten.wait(config.shutdown_deadline).await;
        }
    };
    tokio::join!(exports.shutdown(config.shutdown_deadline), printed);
    drop(answering);
    Ok(sampled?)
}

/// Puts the hooks in place and finds the guests that run already.
async fn start_source(
    options: StartOptions,
    open: impl FnOnce(&StartOptions) -> Result<Opened>,
    manager: &Manager,
) -> Result<(Driver, BpfLog, Vec<String>)> {
    manager.starts("loading the eBPF programs", LOADING).await;
    let mut opened = open(&options)?;
    let hooks = std::mem::take(&mut opened.hooks);
    manager.starts("looking for guests", agent::SETTLE + SLACK).await;
    let (driver, bpf_log) = agent::settle(opened, options.nice)?;
    Ok((driver, bpf_log, hooks))
}

/// The sink that has standard output, and what waits for it at the end.
type Printer = (Option<Box<dyn Sink>>, Option<Unwritten>);

fn printer(output: Output) -> Result<Printer> {
    Ok(match output {
        Output::None => (None, None),
        Output::Table(columns) => (Some(Box::new(screen::start(columns)?)), None),
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

/// The one line of a start that has all of it.
fn say_what_begins(config: &Config, delay: Duration, exports: &Exports, driver: &Driver, hooks: &[String]) {
    let (guests, vcpus) = driver.followed();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        kernel = exports.host().kernel,
        level = config.level.key(),
        hooks = hooks.join(", "),
        guests,
        vcpus,
        interval = ?config.interval,
        start_delay = ?delay,
        export = exports.target().as_deref().unwrap_or("none"),
        "sampling"
    );
}

/// Says what of the configuration is not used.
pub fn warn_of(warnings: &[Warning]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Says what will be missing, and how to have it.
pub fn warn_of_shortcomings(items: &[CheckItem]) {
    for CheckItem { name, detail, fix, .. } in items {
        tracing::warn!(fix = fix.as_deref(), "{name}: {detail}");
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

const fn options(config: &Config) -> StartOptions {
    StartOptions {
        bpf_log_level: config.log.bpf_level as u8,
        interval: config.interval,
        levels: config.levels(),
        host: config.host,
        nice: config.nice,
    }
}

/// The host as it is called now.
fn read_again(known: &Arc<Host>) -> Arc<Host> {
    match host::read(&Root::system()) {
        Ok(host) => Arc::new(Host { hypervisor: known.hypervisor, ..host }),
        Err(error) => {
            tracing::error!(%error, "the host is called as before");
            Arc::clone(known)
        }
    }
}

fn schedule(config: &Config, host: Arc<Host>) -> Schedule {
    Schedule {
        host,
        interval: config.interval,
        levels: config.levels(),
        discovery_interval: config.discovery_interval,
        slow_interval: config.slow_interval,
        host_parts: config.host,
        nice: config.nice,
        guests: Arc::new(config.guests.clone()),
    }
}

/// What a person wants to know of a service that works, in a line.
fn facts_of(own: &Own, sampling: &Sampling, exports: &Exports) -> String {
    let (guests, vcpus) = own.guests();
    let waiting = exports.stats().queue_requests;
    let target = match exports.target() {
        // The one that is being sent is no news.
        Some(target) if waiting > 1 => format!("to {target}, {waiting} requests wait"),
        Some(target) => format!("to {target}"),
        None => "not exported".to_owned(),
    };
    let every = duration::format(sampling.interval());
    let failed = match own.stats().snapshots_failed {
        0 => String::new(),
        failed => format!("; {failed} snapshots failed"),
    };
    let (guests, vcpus) = (count(guests, "guest"), count(vcpus, "vCPU"));
    format!("{guests} with {vcpus}, every {every}, {target}{failed}")
}

/// Reads what self-telemetry reports.
fn self_stats(own: &Own, exports: &Exports) -> SelfStats {
    SelfStats { sampler: own.stats(), sinks: own.sinks.read(), pipeline: exports.stats() }
}

#[cfg(test)]
mod tests;
