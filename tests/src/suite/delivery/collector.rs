//! The official OpenTelemetry Collector with the node configuration that operators start from.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use super::daemon::{Daemon, free_port};
use super::received::{self, Batch};
use crate::runner::{Context, required_file};

/// Where a collector is to listen and what it is to write; it may run or not.
pub(super) struct Site {
    grpc: u16,
    http: u16,
    own: u16,
    /// Where the collector writes to. Where nobody listens there it takes most of a minute to end.
    pub(super) prometheus: u16,
    file: PathBuf,
}

impl Site {
    /// Chooses ports.
    ///
    /// # Errors
    /// When none are free.
    pub(super) fn choose(context: &Context) -> anyhow::Result<Self> {
        Ok(Self {
            grpc: free_port()?,
            http: free_port()?,
            own: free_port()?,
            prometheus: free_port()?,
            file: context.directory().join("received.jsonl"),
        })
    }

    /// The endpoint of a protocol, by the name that the configuration has for it.
    pub(super) fn endpoint(&self, protocol: &str) -> String {
        let port = if protocol == "grpc" { self.grpc } else { self.http };
        format!("http://127.0.0.1:{port}")
    }

    /// Starts the collector as operators have it and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn open(&self, context: &Context) -> anyhow::Result<Daemon> {
        self.open_with(context, &[])
    }

    /// The same with variables of the configuration that have a default.
    pub(super) fn open_with(&self, context: &Context, more: &[(&str, &str)]) -> anyhow::Result<Daemon> {
        let mut command = Command::new(required_file("HVS_COLLECTOR")?);
        command.arg("--config").arg(required_file("HVS_COLLECTOR_CONFIG")?);
        command
            .env("HVS_OTLP_GRPC", format!("127.0.0.1:{}", self.grpc))
            .env("HVS_OTLP_HTTP", format!("127.0.0.1:{}", self.http))
            .env("HVS_COLLECTOR_PORT", self.own.to_string())
            .env("HVS_REMOTE_WRITE", format!("http://127.0.0.1:{}/api/v1/write", self.prometheus))
            .env("HVS_FILE", &self.file)
            .envs(more.iter().copied());
        let mut collector = Daemon::start("collector", command, context.directory())?;
        collector.wait_until("the collector listens", |_| {
            Ok([self.grpc, self.http].iter().all(|&port| TcpStream::connect(("127.0.0.1", port)).is_ok()))
        })?;
        Ok(collector)
    }

    /// What the collector has written; nothing before it ran.
    ///
    /// # Errors
    /// When it is not what the sampler may have sent.
    pub(super) fn received(&self) -> anyhow::Result<Vec<Batch>> {
        if !self.file.exists() {
            return Ok(Vec::new());
        }
        received::read(&fs::read_to_string(&self.file).context("reading the collector's file")?)
    }
}
