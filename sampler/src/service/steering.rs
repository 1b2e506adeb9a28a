//! What steers a service at work: its signals, or what stands for them.

use std::{future::Future, sync::Arc};

use super::{
    audited, exports::Exports, logging::LogControl, read_again, schedule, status::Health, systemd::Manager,
    warn_of,
};
use crate::{
    agent::Sampling,
    audit::Audit,
    config::{Config, ConfigError, Loaded},
};

/// What steers a service from outside.
pub struct Steering<S, H, A> {
    /// Over when the service is to end.
    pub shutdown: S,
    /// Over whenever the configuration is to be read again.
    pub hang_up: H,
    /// Over whenever the log is to say what came of the audit.
    pub ask: A,
}

/// What is steered, and who is to know of it.
pub(super) struct Steered<'a> {
    pub(super) sampling: &'a Sampling,
    pub(super) exports: &'a Exports,
    pub(super) audit: &'a Audit,
    pub(super) health: &'a Health,
    pub(super) manager: &'a Manager,
    /// What the service manager shows of the service.
    pub(super) facts: &'a dyn Fn() -> String,
}

/// Waits for the end, and reads the configuration again or says what came of the audit whenever it is asked
/// to until then. Returns the configuration that held last.
pub(super) async fn steer<R, S, H, A>(
    mut config: Config,
    (reload, log): (R, LogControl),
    steered: &Steered<'_>,
    steering: Steering<S, H, A>,
) -> Config
where
    R: Fn() -> Result<Loaded, ConfigError>,
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
                tracing::info!("{}", steered.audit.last_hour());
                continue;
            }
            () = hang_up() => {}
        }
        steered.manager.reloads().await;
        let refused = match reload() {
            Ok(Loaded { config: new, warnings }) => {
                warn_of(&warnings);
                steered.follow(&mut config, new, &log)
            }
            Err(error) => {
                tracing::error!(%error, "the configuration stays as it is");
                Some(error.to_string())
            }
        };
        steered.manager.reloaded(refused, &(steered.facts)()).await;
    }
}

impl Steered<'_> {
    /// Has a new configuration followed. Returns why a part of it is not; then the export stays what it was.
    fn follow(&self, config: &mut Config, new: Config, log: &LogControl) -> Option<String> {
        let host = read_again(&self.exports.host());
        self.sampling.reschedule(schedule(&new, Arc::clone(&host)));
        log.set(&new.log);
        audited::set(self.audit, &new);
        let replaced = self.exports.replace(config, &new, host);
        let refused = replaced.err().map(|error| format!("{error:#}"));
        if let Some(error) = &refused {
            tracing::error!(error, "the export goes on as before");
            *config = Config { export: config.export.clone(), ..new };
        } else {
            *config = new;
        }
        self.health.follow(config);
        tracing::info!(
            interval = ?config.interval,
            export = self.exports.target().as_deref().unwrap_or("none"),
            "configuration read again; bpf_level, start_delay, lock_file, status_socket and [service] hold from \
             the next start on"
        );
        refused
    }
}
