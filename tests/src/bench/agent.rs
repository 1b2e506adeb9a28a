//! What the whole service costs on a host with many guests: its CPU time, its memory, and how soon it is at
//! work.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::fleet::{self, GUESTS, VCPUS};
use super::machine;
use super::service::Service;
use super::sink::Sink;
use crate::host;
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
