//! What the whole service costs on a host with many guests: its CPU time, its memory, and how soon it is at
//! work.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::fleet::{self, GUESTS, VCPUS};
use super::machine;
use super::sink::Sink;
use crate::host;
use crate::oracle::Schedstat;
use crate::vmm::Load;

/// So that all values change.
const LOAD: Load = Load::Half { burn: Duration::from_micros(20), sleep: Duration::from_millis(100) };
const LENGTH: Duration = Duration::from_secs(20);
/// All vCPUs are followed, names are asked, memory has grown and connections stand by then: these guests
/// sleep in their VMM, so that each is found when it happens to be preempted.
const WARM_UP: Duration = Duration::from_secs(45);

/// How the service is run: time between snapshots, and whether it exports them.
const RUNS: [(Duration, bool); 3] =
    [(Duration::from_secs(1), true), (Duration::from_secs(1), false), (Duration::from_millis(100), true)];

/// Runs the benchmark and prints its table. `binaries` take turns on the same guests; without any it is the
/// one beside this program.
///
/// # Errors
/// When guests or the service do not start.
pub fn run(binaries: &[String]) -> Result<()> {
    let own = [host::sibling("hvsampler")?.to_string_lossy().into_owned()];
    let binaries = if binaries.is_empty() { &own } else { binaries };
    println!("starting {GUESTS} guests of {VCPUS} vCPUs, each of which wakes up ten times a second");
    let guests = fleet::start(LOAD)?;
    println!("interval  first export  CPU of the service  its sampling thread  memory  sent per export");
    for (interval, exports) in RUNS {
        for binary in binaries {
            measure(binary, interval, exports)?;
        }
    }
    println!("{} vCPU threads, {}", guests.len() * VCPUS as usize, machine());
    Ok(())
}

fn measure(binary: &str, interval: Duration, exports: bool) -> Result<()> {
    let sink = Sink::start()?;
    let begin = Instant::now();
    let service = Service::start(binary, interval, exports.then(|| sink.url()).as_deref())?;
    let first = if exports {
        let first = sink.next(Duration::from_secs(30))?.at.duration_since(begin);
        format!("{:.2} s", first.as_secs_f64())
    } else {
        "no export".into()
    };
    thread::sleep(WARM_UP);
    sink.drain();
    let (before, at) = (service.cpu()?, Instant::now());
    thread::sleep(LENGTH);
    let (after, wall) = (service.cpu()?, at.elapsed());
    let received = sink.drain();
    ensure!(received.is_empty() != exports, "{} requests were received", received.len());
    let bytes: u64 = received.iter().map(|request| request.bytes).sum();
    let snapshots = (wall.as_secs_f64() / interval.as_secs_f64()).max(1.0);
    let percent = |ns: u64| ns as f64 / wall.as_nanos() as f64 * 100.0;
    println!(
        "{:>7.1}s {first:>13} {:>8.3} % of a core {:>10.3} % of one {:>9.1} MiB {:>9.1} KiB  {binary}",
        interval.as_secs_f64(),
        percent(after.all_ns - before.all_ns),
        percent(after.sampling_ns - before.sampling_ns),
        service.resident_kib()? as f64 / 1024.0,
        bytes as f64 / 1024.0 / snapshots,
    );
    Ok(())
}

/// CPU time of the service so far.
struct Cpu {
    all_ns: u64,
    sampling_ns: u64,
}

/// The service under measurement. Dropping it kills it.
struct Service(Child);

impl Service {
    fn start(binary: &str, interval: Duration, endpoint: Option<&str>) -> Result<Self> {
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
    fn cpu(&self) -> Result<Cpu> {
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

    fn resident_kib(&self) -> Result<u64> {
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
