//! For how long the programs keep interrupts off: at one context switch, and at the move of one thread to
//! another CPU, on a host whose vCPUs do both all the time.
//!
//! Two small programs are on the same tracepoints: one begins before the sampler's, one ends after it. What
//! they find without the sampler's between them is what they measure of themselves. On a virtual machine some
//! times have in them that its own CPU was taken away.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};
use hvsampler::collect::Collector;
use hvsampler::kernel::clock::Clock;
use hvsampler::kernel::limits;
use hvsampler::load::{self, Loaded, Options};
use hvsampler::model::{Host, Level};
use hvsampler::source::{Kvm, Levels};
use sampler_ebpf::stopwatch::{BUCKET_NS, BUCKETS, LAPS, Lap, WORDS, entry};

use super::fleet::{self, GUESTS, VCPUS};
use super::machine;
use crate::twin;
use crate::vmm::Load;

/// As in `bench host`.
const LOAD: Load = Load::Half { burn: Duration::from_micros(2), sleep: Duration::from_millis(25) };
const INTERVAL: Duration = Duration::from_secs(1);
/// Snapshots of each turn, and those before it until all guests are followed.
const LENGTH: u32 = 10;
const SETTLING: u32 = 5;
/// What is to be the longest of one switch, and of each of 32 threads of a pass that takes 30 us, ns.
const BARS: [u64; LAPS as usize] = [2_000, 30_000 / 32];

/// Runs the benchmark and prints its table.
///
/// # Errors
/// When guests do not start or the programs cannot be loaded.
pub fn run() -> Result<()> {
    let _guests = fleet::start(LOAD)?;
    let options = Options { log_level: 0, possible_cpus: limits::possible_cpus() };
    println!("| | | times | median, ns | 99 of 100 | 999 of 1,000 | longest | above the bar |");
    println!("|---|---|---|---|---|---|---|---|");
    {
        let mut watch = twin::load_stopwatch(options)?;
        twin::end_after(&mut watch)?;
        thread::sleep(INTERVAL * LENGTH);
        print("nothing", &Laps::read(&mut watch, &options)?);
    }
    for level in [Level::Basic, Level::Full] {
        let mut watch = twin::load_stopwatch(options)?;
        let mut source =
            Kvm::start(Collector::new(load::load(options)?)?, Arc::new(Host::default()), Clock::start())?;
        source.set_levels(Levels { most: level, ..Levels::DEFAULT });
        follow(&mut source, SETTLING)?;
        twin::end_after(&mut watch)?;
        follow(&mut source, LENGTH)?;
        print(level.key(), &Laps::read(&mut watch, &options)?);
    }
    println!("bars: {} ns a switch, {} ns a move (30 us for 32)", BARS[0], BARS[1]);
    println!("{GUESTS} guests of {VCPUS} vCPUs on {} CPUs; {}", options.possible_cpus, machine());
    Ok(())
}

fn follow(source: &mut Kvm, intervals: u32) -> Result<()> {
    for _ in 0..intervals {
        source.snapshot()?;
        thread::sleep(INTERVAL);
    }
    Ok(())
}

/// What was measured of all CPUs, by [`Lap`].
struct Laps([Times; LAPS as usize]);

struct Times {
    buckets: [u64; BUCKETS],
    longest_ns: u64,
}

impl Laps {
    fn read(watch: &mut Loaded, options: &Options) -> Result<Self> {
        let map = watch.object.map_mut("TOOK").context("the object has no map TOOK")?;
        let map: Array<&mut MapData, [u64; WORDS]> = Array::try_from(map)?;
        let of = |lap| -> Result<Times> {
            let mut sum = Times { buckets: [0; BUCKETS], longest_ns: 0 };
            for cpu in 0..options.possible_cpus {
                let words = map.get(&entry(lap, cpu), 0)?;
                sum.buckets.iter_mut().zip(words).for_each(|(sum, count)| *sum += count);
                sum.longest_ns = sum.longest_ns.max(words[BUCKETS]);
            }
            Ok(sum)
        };
        Ok(Self([of(Lap::Switch)?, of(Lap::Move)?]))
    }
}

impl Times {
    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The end of the bucket that so many of a thousand do not go beyond.
    fn quantile(&self, of_thousand: u64) -> String {
        let wanted = (self.count() * of_thousand).div_ceil(1000);
        let mut sum = 0;
        let at = self.buckets.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        match at {
            Some(at) if at < BUCKETS - 1 => (BUCKET_NS * (at as u64 + 1)).to_string(),
            _ => format!("over {}", BUCKET_NS * (BUCKETS as u64 - 1)),
        }
    }

    fn share_above(&self, bar_ns: u64) -> f64 {
        let above: u64 = self.buckets[(bar_ns / BUCKET_NS) as usize..].iter().sum();
        above as f64 / self.count().max(1) as f64
    }
}

fn print(between: &str, laps: &Laps) {
    for ((what, times), bar_ns) in ["a switch", "a move"].iter().zip(&laps.0).zip(BARS) {
        println!(
            "| {between} | {what} | {} | {} | {} | {} | {} | {:.3} % |",
            times.count(),
            times.quantile(500),
            times.quantile(990),
            times.quantile(999),
            times.longest_ns,
            times.share_above(bar_ns) * 100.0,
        );
    }
}
