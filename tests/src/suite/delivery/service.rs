//! `hvsampler run`, as an operator starts it: with a configuration file.

use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::collector::Site;
use super::counted::{self, Snapshot};
use super::daemon::Daemon;
use crate::runner::Context;

/// The default of `export.queue_bytes`.
const QUEUE_BYTES: usize = 16 << 20;

/// The service's settings that tests differ in.
pub(super) struct Settings<'a> {
    /// `grpc` or `http/protobuf`.
    pub(super) protocol: &'a str,
    pub(super) endpoint: String,
    /// Time between snapshots, in the configuration's words.
    pub(super) interval: &'a str,
    /// Bound of the queue.
    pub(super) queue_bytes: usize,
}

impl<'a> Settings<'a> {
    /// Export to the collector of a site, with a queue that nothing fills.
    pub(super) fn of(site: &Site, protocol: &'a str, interval: &'a str) -> Self {
        Self { protocol, endpoint: site.endpoint(protocol), interval, queue_bytes: QUEUE_BYTES }
    }
}

/// The running service, printing every snapshot.
pub(super) struct Service(Daemon);

/// What the service left behind.
pub(super) struct Record {
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) log: String,
}

impl Service {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(context: &Context, settings: &Settings<'_>) -> anyhow::Result<Self> {
        let directory = context.directory();
        let config = directory.join("config.toml");
        fs::write(&config, text(context, settings)?)?;
        let mut command = Command::new(context.binary("hvsampler")?);
        command.args(["run", "--json", "--config"]).arg(&config);
        // They would go over the file.
        for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"OTEL_")) {
            command.env_remove(name);
        }
        Ok(Self(Daemon::start("hvsampler", command, directory)?))
    }

    /// The snapshots so far.
    ///
    /// # Errors
    /// When a line is not as documented.
    pub(super) fn snapshots(&self) -> anyhow::Result<Vec<Snapshot>> {
        counted::read(&self.0.output()?)
    }

    /// Waits until the snapshots so far are such.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub(super) fn wait_until(
        &mut self,
        what: &str,
        holds: impl Fn(&[Snapshot]) -> bool,
    ) -> anyhow::Result<()> {
        self.0.wait_until(what, |daemon| Ok(holds(&counted::read(&daemon.output()?)?)))
    }

    /// Waits until so many more snapshots were taken.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub(super) fn wait_for_more(&mut self, more: usize) -> anyhow::Result<()> {
        let now = self.snapshots()?.len();
        self.wait_until("more snapshots are taken", |snapshots| snapshots.len() >= now + more)
    }

    /// Waits until the log has such a text.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub(super) fn wait_for_log(&mut self, text: &str) -> anyhow::Result<()> {
        self.0.wait_until(&format!("the service says {text:?}"), |daemon| Ok(daemon.log().contains(text)))
    }

    /// Stops the service; it sends what waits.
    ///
    /// # Errors
    /// When it does not end well, or snapshots are missing in what it printed.
    pub(super) fn stop(self) -> anyhow::Result<Record> {
        let output = self.0.output.clone();
        let log = self.0.stop()?;
        let snapshots = counted::read(&fs::read_to_string(output)?)?;
        let last = snapshots.last().context("the service took no snapshot")?;
        let taken = last.sampler.get("snapshots").copied();
        ensure!(
            taken == Some(snapshots.len() as u64),
            "{} snapshots were printed of {taken:?} that were taken",
            snapshots.len()
        );
        Ok(Record { snapshots, log })
    }

    /// Kills the service: what waits is lost. Returns what it printed until then.
    ///
    /// # Errors
    /// When a line is not as documented.
    pub(super) fn kill(self) -> anyhow::Result<Vec<Snapshot>> {
        let output = self.0.output.clone();
        drop(self);
        counted::read(&fs::read_to_string(output)?)
    }
}

fn text(context: &Context, settings: &Settings<'_>) -> anyhow::Result<String> {
    let directory = context.directory().to_str().context("the test's directory is not UTF-8")?;
    let Settings { protocol, endpoint, interval, queue_bytes } = settings;
    // The time-out is long because an attempt that a busy machine makes late would be made again, and arrive
    // twice.
    Ok(format!(
        r#"
interval = "{interval}"
start_delay = "0s"
shutdown_deadline = "60s"
lock_file = '{directory}/lock'
status_socket = '{directory}/status'

[host]
system = true

[export]
endpoint = "{endpoint}"
protocol = "{protocol}"
timeout = "60s"
queue_bytes = {queue_bytes}
resource_attributes = {{ "deployment.environment.name" = "test" }}

[export.retry]
initial_backoff = "200ms"
max_backoff = "1s"
"#
    ))
}
