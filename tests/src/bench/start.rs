//! How soon the service is at work, and how late its exports are, on a host where it hardly gets a CPU: that
//! is where an operator needs it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::service::{Run, Service};
use super::sink::{Received, Sink};
use super::{machine, median};
use crate::guest::{Guest, GuestConfig, Guests, tiny_vmm};
use crate::host::{self, CpuList, Hog};
use crate::vmm::Load;

/// On two CPUs.
const GUESTS: u32 = 40;
const INTERVAL: Duration = Duration::from_secs(1);
/// Times that the service is started.
const STARTS: usize = 5;
/// Exports after the first one of each start.
const EXPORTS: u32 = 40;
/// The bar for the first export is 10 s.
const FIRST_WITHIN: Duration = Duration::from_secs(60);

/// Runs the benchmark and prints its table.
///
/// # Errors
/// When guests or the service do not start, or nothing is exported.
pub fn run() -> Result<()> {
    let allowed = CpuList::allowed().context("cannot read the allowed CPUs")?;
    let two: Vec<_> = allowed.numbers().iter().take(2).map(ToString::to_string).collect();
    let cpus: CpuList = two.join(",").parse()?;
    let binary = tiny_vmm()?;
    let guest = |n| Guest::begin(&binary, &GuestConfig::new(format!("busy-{n}"), 1, Load::Busy).on(&cpus));
    let _guests = Guests::together((0..GUESTS).map(guest))?;
    let hog = Hog::half(&cpus)?;
    let kind = if hog.real_time() { "real-time" } else { "common" };
    println!("{GUESTS} busy guests and a {kind} process that takes half of a CPU, all on CPUs {cpus}");
    println!("first export  exports  late by ms, median  99 of 100   most");
    let mut all = Vec::new();
    for _ in 0..STARTS {
        let (first, late) = start()?;
        print(&format!("{:.2} s", first.as_secs_f64()), &late);
        all.extend(late);
    }
    print("all starts", &all);
    println!("{}", machine());
    Ok(())
}

/// Starts the service once: when its first export came, and how late each after it was, ms.
fn start() -> Result<(Duration, Vec<f64>)> {
    let sink = ahead_of_all()?;
    let begin = Instant::now();
    let binary = host::sibling("hvsampler")?.to_string_lossy().into_owned();
    let run = Run { binary: &binary, interval: INTERVAL, config: None };
    let _service = Service::start(&run, Some(&sink.url()))?;
    let first = sink.next(FIRST_WITHIN)?.at;
    thread::sleep(INTERVAL * EXPORTS);
    let mut later = sink.drain();
    // What the service says of itself comes in requests of its own, which are shorter.
    let longest = later.iter().map(|received| received.bytes).max().unwrap_or_default();
    later.retain(|received| received.bytes > longest / 2);
    ensure!(later.len() > 1, "{} exports came after the first", later.len());
    Ok((first - begin, lateness(first, &later)))
}

/// A receiver that does not wait for a CPU itself.
fn ahead_of_all() -> Result<Sink> {
    let start = || {
        // Threads have the class of the one that starts them; the service is started by another.
        if host::real_time_at(0, 20).is_err() {
            host::renice(0, -20)?;
        }
        Sink::start()
    };
    thread::spawn(start).join().map_err(|_panic| anyhow::anyhow!("the receiver panicked"))?
}

/// How late each came, ms: after its place in a grid of intervals, which is where the earliest of all was.
fn lateness(first: Instant, later: &[Received]) -> Vec<f64> {
    let since = |received: &Received| (received.at - first).as_secs_f64() / INTERVAL.as_secs_f64();
    let places = later.iter().enumerate().map(|(n, received)| since(received) - (n + 1) as f64);
    let earliest = places.clone().fold(f64::INFINITY, f64::min);
    places.map(|place| (place - earliest) * INTERVAL.as_secs_f64() * 1e3).collect()
}

fn print(name: &str, late: &[f64]) {
    let mut sorted = late.to_vec();
    sorted.sort_by(f64::total_cmp);
    println!(
        "{name:>12} {:>8} {:>22.1} {:>10.1} {:>5.1}",
        late.len(),
        median(sorted.clone()),
        sorted[(sorted.len() * 99).div_ceil(100).saturating_sub(1)],
        sorted[sorted.len() - 1],
    );
}
