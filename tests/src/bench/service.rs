//! The service as a process, and what it takes.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::sink::Sink;
use crate::oracle::Schedstat;

/// All vCPUs are followed, names are asked, memory has grown and connections stand by then: guests that sleep
/// in their VMM are found one by one, each when it happens to be preempted.
const WARM_UP: Duration = Duration::from_secs(45);
/// Length of what is measured.
const LENGTH: Duration = Duration::from_secs(20);
/// Time for the first export.
const FIRST_WITHIN: Duration = Duration::from_secs(30);

/// How the service is run.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    /// Path of the binary.
    pub(super) binary: &'a str,
    /// Time between snapshots.
    pub(super) interval: Duration,
    /// A configuration in place of the host's, where there is one.
    pub(super) config: Option<&'a str>,
}

/// What the service took once it had settled.
pub(super) struct Taken {
    /// From its start to its first export, where it exports.
    pub(super) first: Option<Duration>,
    /// CPU time in percent of a core.
    pub(super) percent: f64,
    /// The same of its sampling thread alone.
    pub(super) sampling_percent: f64,
    pub(super) resident_kib: u64,
    pub(super) sent_kib_per_export: f64,
}

impl Run<'_> {
    /// Runs the service and measures it.
    pub(super) fn measure(&self, exports: bool) -> Result<Taken> {
        let sink = Sink::start()?;
        let begin = Instant::now();
        let service = Service::start(self, exports.then(|| sink.url()).as_deref())?;
        let first = if exports { Some(sink.next(FIRST_WITHIN)?.at.duration_since(begin)) } else { None };
        thread::sleep(WARM_UP);
        sink.drain();
        let (before, at) = (service.cpu()?, Instant::now());
        thread::sleep(LENGTH);
        let (after, wall) = (service.cpu()?, at.elapsed());
        let received = sink.drain();
        ensure!(received.is_empty() != exports, "{} requests were received", received.len());
        let bytes: u64 = received.iter().map(|request| request.bytes).sum();
        let snapshots = (wall.as_secs_f64() / self.interval.as_secs_f64()).max(1.0);
        let percent = |ns: u64| ns as f64 / wall.as_nanos() as f64 * 100.0;
        Ok(Taken {
            first,
            percent: percent(after.all_ns - before.all_ns),
            sampling_percent: percent(after.sampling_ns - before.sampling_ns),
            resident_kib: service.resident_kib()?,
            sent_kib_per_export: bytes as f64 / 1024.0 / snapshots,
        })
    }
}

/// CPU time of the service so far.
struct Cpu {
    all_ns: u64,
    sampling_ns: u64,
}

/// The service under measurement. Dropping it kills it.
pub(super) struct Service {
    child: Child,
    config: Option<PathBuf>,
}

impl Service {
    pub(super) fn start(run: &Run<'_>, endpoint: Option<&str>) -> Result<Self> {
        let config = run.config.map(written).transpose()?;
        let mut command = Command::new(run.binary);
        command.args(["run", "--start-delay", "0s", "--log-level", "warn"]);
        command.args(["--interval", &format!("{}ms", run.interval.as_millis())]);
        if let Some(endpoint) = endpoint {
            command.args(["--endpoint", endpoint]);
        }
        if let Some(config) = &config {
            command.arg("--config").arg(config);
        }
        let child = command.stdin(Stdio::null()).spawn().context("hvsampler cannot be started")?;
        Ok(Self { child, config })
    }

    /// CPU time of all its threads; threads that ended in between would be missed, and it ends none.
    fn cpu(&self) -> Result<Cpu> {
        let pid = self.child.id();
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

    fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(config) = &self.config {
            drop(fs::remove_file(config));
        }
    }
}

/// A file with this configuration.
fn written(config: &str) -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("hvsampler-bench-{}-{number}.toml", std::process::id()));
    fs::write(&path, config)?;
    Ok(path)
}
