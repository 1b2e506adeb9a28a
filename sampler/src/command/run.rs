//! `hvsampler run`: the service.

use anyhow::{Context as _, Result};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use crate::{
    agent,
    cli::RunArgs,
    config::Config,
    lock::InstanceLock,
    service::{self, Start, logging},
};

/// Encoding and sending; sampling has a thread of its own.
const WORKERS: usize = 2;

/// Runs the service until SIGTERM or SIGINT.
///
/// # Errors
/// A configuration that cannot be used, a second instance, or what keeps the programs from working.
pub fn run(args: &RunArgs) -> Result<()> {
    let env = |name: &str| std::env::var(name).ok();
    let load = || Config::load(args.config.as_deref(), &env, &args.overrides());
    let config = load()?;
    let log = logging::init(config.log.level)?;
    // Before the lock: whoever lacks privileges should not read of a file that cannot be locked.
    agent::obstacles()?;
    let _lock = InstanceLock::acquire(&config.lock_file)?;
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let start = Start { reload: load, log, output: args.output(), sinks: Vec::new() };
        service::run(config, start, shutdown).await
    });
    // The deadline is over: what still waits for a receiver (the SDK retries on a thread of its own) is not
    // waited for.
    runtime.shutdown_background();
    result
}
