//! What the whole service costs on a host with many guests: its CPU time, its memory, and how soon it is at
//! work.

use std::time::Duration;

use anyhow::Result;

use super::fleet::{self, GUESTS, VCPUS};
use super::machine;
use super::service::Run;
use crate::host;
use crate::vmm::Load;

/// So that all values change.
const LOAD: Load = Load::Half { burn: Duration::from_micros(20), sleep: Duration::from_millis(100) };

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
            measure(&Run { binary, interval, config: None }, exports)?;
        }
    }
    println!("{} vCPU threads, {}", guests.len() * VCPUS as usize, machine());
    Ok(())
}

fn measure(run: &Run<'_>, exports: bool) -> Result<()> {
    let taken = run.measure(exports)?;
    let first =
        taken.first.map_or_else(|| "no export".into(), |first| format!("{:.2} s", first.as_secs_f64()));
    println!(
        "{:>7.1}s {first:>13} {:>8.3} % of a core {:>10.3} % of one {:>9.1} MiB {:>9.1} KiB  {}",
        run.interval.as_secs_f64(),
        taken.percent,
        taken.sampling_percent,
        taken.resident_kib as f64 / 1024.0,
        taken.sent_kib_per_export,
        run.binary,
    );
    Ok(())
}
