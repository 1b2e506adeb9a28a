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

/// Runs the benchmark and prints its table.
///
/// # Errors
/// When guests or the service do not start.
pub fn run() -> Result<()> {
    println!("starting {GUESTS} guests of {VCPUS} vCPUs, each of which wakes up ten times a second");
    let guests = fleet::start(LOAD)?;
    println!("interval  first export     CPU of the service      memory  sent per export");
    for interval in [Duration::from_secs(1), Duration::from_millis(100)] {
        measure(interval)?;
    }
    println!("{} vCPU threads, {}", guests.len() * VCPUS as usize, machine());
    Ok(())
}

fn measure(interval: Duration) -> Result<()> {
    let sink = Sink::start()?;
    let begin = Instant::now();
    let service = Service::start(interval, &sink.url())?;
    let first = sink.next(Duration::from_secs(30))?.at.duration_since(begin);
    thread::sleep(WARM_UP);
    sink.drain();
    let (before, at) = (service.cpu_ns()?, Instant::now());
    thread::sleep(LENGTH);
    let (cpu, wall) = (service.cpu_ns()? - before, at.elapsed());
    let received = sink.drain();
    ensure!(!received.is_empty(), "nothing was exported");
    let bytes: u64 = received.iter().map(|request| request.bytes).sum();
    let exports = (wall.as_secs_f64() / interval.as_secs_f64()).max(1.0);
    println!(
        "{:>7.1}s {:>12.2}s {:>9.3} % of one core {:>7.1} MiB {:>10.1} KiB",
        interval.as_secs_f64(),
        first.as_secs_f64(),
        cpu as f64 / wall.as_nanos() as f64 * 100.0,
        service.resident_kib()? as f64 / 1024.0,
        bytes as f64 / 1024.0 / exports,
    );
    Ok(())
}

/// The service under measurement. Dropping it kills it.
struct Service(Child);

impl Service {
    fn start(interval: Duration, endpoint: &str) -> Result<Self> {
        let mut command = Command::new(host::sibling("hvsampler")?);
        command.args(["run", "--start-delay", "0s", "--log-level", "warn", "--endpoint", endpoint]);
        command.args(["--interval", &format!("{}ms", interval.as_millis())]);
        let child = command.stdin(Stdio::null()).spawn().context("hvsampler cannot be started")?;
        Ok(Self(child))
    }

    /// CPU time of all its threads; threads that ended in between would be missed, and it ends none.
    fn cpu_ns(&self) -> Result<u64> {
        let pid = self.0.id();
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let tid = task?.file_name().to_string_lossy().parse()?;
            sum += Schedstat::of(pid, tid)?.run_ns;
        }
        Ok(sum)
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
