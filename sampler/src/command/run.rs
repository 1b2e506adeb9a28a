//! `hvsampler run`: the service.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use tracing::Level;

use super::environment;
use crate::{
    agent,
    cli::RunArgs,
    config::{Config, ConfigError, Loaded},
    lock::InstanceLock,
    service::{
        self, Start, Supervision,
        logging::{self, LAST_LINES},
        privileges::{self, Confined},
    },
};

/// Encoding and sending; sampling has a thread of its own.
const WORKERS: usize = 2;

/// Runs the service until SIGTERM or SIGINT.
///
/// # Errors
/// A configuration that cannot be used, a second instance, or a privilege that is missing. Once there is a
/// log, errors are written where it goes: standard error may have no reader.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let settings = &args.settings;
    let load = || Config::load(settings.config.as_deref(), &environment, &settings.overrides());
    let Loaded { config, warnings } = load()?;
    // Before the lock: whoever lacks privileges should not read of a file that cannot be locked.
    agent::obstacles()?;
    privileges::make_directories(&config.service, &[&config.lock_file, &config.status_socket])?;
    let _lock = InstanceLock::acquire(&config.lock_file)?;
    privileges::remove_socket_of_others(&config.service, &config.status_socket)?;
    let shortcomings = agent::shortcomings(config.service.network_namespaces);
    // Before the log, which has a thread.
    let confined = privileges::confine(&config.service)?;
    let log = logging::init(&config.log)?;
    service::warn_of(&warnings);
    service::warn_of_shortcomings(&shortcomings);
    confined.report();
    let lines = log.lines();
    let supervision = Supervision::of(&|name| std::env::var_os(name), std::process::id());
    let start = Start { reload: load, log, output: args.output(), sinks: Vec::new(), supervision };
    let served = serve(config, start, confined);
    if let Err(error) = &served {
        lines.say(Level::ERROR, super::complaint(error).trim_end());
    }
    // Now that nobody has anything to log any more.
    lines.flush(LAST_LINES);
    Ok(if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Serves until one of the signals. Fails on what keeps the programs from working.
fn serve<R>(config: Config, start: Start<R>, confined: Confined) -> Result<()>
where
    R: Fn() -> Result<Loaded, ConfigError>,
{
    let mut runtime = Builder::new_multi_thread();
    if confined.is_active() {
        runtime.on_thread_start(privileges::leave_guests_alone);
    }
    let runtime = runtime.worker_threads(WORKERS).enable_all().build()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        service::run(config, start, confined, shutdown).await
    });
    // The deadline is over: what still waits for a receiver (the SDK retries on a thread of its own) is not
    // waited for.
    runtime.shutdown_background();
    result
}
