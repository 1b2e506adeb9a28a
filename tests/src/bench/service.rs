//! The service as a process, and what it takes.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::oracle::Schedstat;

/// CPU time of the service so far.
pub(super) struct Cpu {
    pub(super) all_ns: u64,
    pub(super) sampling_ns: u64,
}

/// The service under measurement. Dropping it kills it.
pub(super) struct Service(Child);

impl Service {
    pub(super) fn start(binary: &str, interval: Duration, endpoint: Option<&str>) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["run", "--start-delay", "0s", "--log-level", "warn"]);
        command.args(["--interval", &format!("{}ms", interval.as_millis())]);
        if let Some(endpoint) = endpoint {
            command.args(["--endpoint", endpoint]);
        }
        let child = command.stdin(Stdio::null()).spawn().context("hvsampler cannot be started")?;
        Ok(Self(child))
    }

    /// CPU time of all its threads; threads that ended in between would be missed, and it ends none.
    pub(super) fn cpu(&self) -> Result<Cpu> {
        let pid = self.0.id();
        let mut cpu = Cpu { all_ns: 0, sampling_ns: 0 };
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let task = task?;
            let tid = task.file_name().to_string_lossy().parse()?;
            let run_ns = Schedstat::of(pid, tid)?.run_ns;
            cpu.all_ns += run_ns;
            if fs::read_to_string(task.path().join("comm"))?.trim() == "sampling" {
                cpu.sampling_ns += run_ns;
            }
        }
        Ok(cpu)
    }

    pub(super) fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
