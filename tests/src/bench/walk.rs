//! What a snapshot costs on a host with many idle threads: one that visits the whole host, and one that
//! visits the VMMs alone.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hvsampler::collect::{Collector, Reach};
use hvsampler::kernel::{clock::Clock, limits};
use hvsampler::load::{self, Options};
use hvsampler::source::{GuestFacts, Kvm};

use super::pid_max::{PID_MAX, Raised};
use super::{machine, median};
use crate::guest::{Guest, GuestConfig, Guests, tiny_vmm};
use crate::vmm::Load;

const GUESTS: usize = 50;
/// A vCPU that is halted stays inside its ioctl, so the first walk finds it.
const LOAD: Load = Load::Halt;
/// Idle threads where the machine allows as many.
const THREADS: u32 = 100_000;
/// Thread ids that are left to the rest of the machine.
const SPARE: u32 = 2_000;
/// Each thread has four mappings, of which a process may have 65,530.
const THREADS_PER_PROCESS: u32 = 10_000;
/// They begin to sleep at once.
const IDLE: Load = Load::Half { burn: Duration::from_micros(1), sleep: Duration::from_secs(24 * 3600) };
const REPETITIONS: usize = 101;
/// Time between two measurements: no snapshot comes right after another, so what it reads is seldom in the
/// caches.
const PAUSE: Duration = Duration::from_millis(20);
/// Time until all vCPUs are followed.
const SETTLES: Duration = Duration::from_secs(60);

/// Runs the benchmark and prints its table, with so many idle threads.
///
/// # Errors
/// When guests do not start or the programs cannot be loaded.
pub fn run(threads: Option<&str>) -> Result<()> {
    let asked = threads
        .map(|threads| threads.parse::<u32>().with_context(|| format!("{threads} is no number of threads")));
    let asked = asked.transpose()?;
    // Where the limit cannot be raised, as in a container, there is room for fewer.
    let raised = Raised::to(PID_MAX, asked.unwrap_or(THREADS) + alive()? + SPARE);
    let _raised = raised.map_err(|error| println!("{error:#}"));
    let threads = match asked {
        Some(threads) => threads,
        None => THREADS.min(room()?),
    };
    println!("starting {threads} idle threads and {GUESTS} guests of one vCPU");
    let _idle = idle(threads)?;
    let guests = guests()?;
    let options = Options { log_level: 0, possible_cpus: limits::possible_cpus() };
    one_process(options, &guests)?;
    let collector = Collector::new(load::load(options)?)?;
    let mut source = Kvm::start(collector, std::sync::Arc::default(), Clock::start())?;
    settle(&mut source)?;
    if !source.collector().visits_processes() {
        println!("this kernel always visits the whole host");
    }
    let mut samples = [Twin::default(), Twin::default()];
    for n in 0..REPETITIONS {
        // Every other time the other way round, so that a drift of the machine's speed cancels out.
        for twin in if n % 2 == 0 { [0, 1] } else { [1, 0] } {
            source.walk_host_always(twin == 0);
            samples[twin].take(&mut source)?;
        }
    }
    println!("| a snapshot visits | threads | ms |");
    println!("|---|---|---|");
    for (what, twin) in ["the whole host", "the VMMs"].into_iter().zip(samples) {
        println!("| {what} | {:.0} | {:.3} |", median(twin.threads), median(twin.ms));
    }
    println!("medians of {REPETITIONS} snapshots each, in turn; {}", machine());
    Ok(())
}

#[derive(Default)]
struct Twin {
    ms: Vec<f64>,
    threads: Vec<f64>,
}

impl Twin {
    fn take(&mut self, source: &mut Kvm) -> Result<()> {
        source.drain();
        let visited = |source: &Kvm| source.collector().walk_stats().threads;
        let (before, begin) = (visited(source), Instant::now());
        source.read()?;
        self.ms.push(begin.elapsed().as_secs_f64() * 1e3);
        self.threads.push((visited(source) - before) as f64);
        source.compose();
        thread::sleep(PAUSE);
        Ok(())
    }
}

/// Prints what a walk takes for one more process and for one more thread, on threads that are none of a VMM.
fn one_process(options: Options, guests: &[Guest]) -> Result<()> {
    let mut collector = Collector::new(load::load(options)?)?;
    collector.loaded().pause();
    let pids: BTreeSet<u32> = guests.iter().map(Guest::pid).collect();
    let first: BTreeSet<u32> = pids.iter().copied().take(1).collect();
    let (all, first) = (Reach::Processes(pids), Reach::Processes(first));
    // The vCPUs are announced, and to nobody.
    collector.walk(&Reach::Host)?;
    if !collector.visits_processes() {
        return Ok(());
    }
    let before = collector.walk_stats().threads;
    collector.walk(&all)?;
    let threads = (collector.walk_stats().threads - before) as f64 / GUESTS as f64;
    let mut us = [const { Vec::new() }; 3];
    for _ in 0..REPETITIONS {
        for (us, reach) in us.iter_mut().zip([&Reach::Host, &all, &first]) {
            thread::sleep(PAUSE);
            let begin = Instant::now();
            collector.walk(reach)?;
            us.push(begin.elapsed().as_secs_f64() * 1e6);
        }
    }
    let [host, all, first] = us.map(median);
    let thread = (host - first) / collector.host_threads() as f64;
    let process = (all - first) / (GUESTS - 1) as f64 - threads * thread;
    println!(
        "one more process takes {process:.2} us beside its threads, one more thread {thread:.3} us: as long as {:.1} threads",
        process / thread
    );
    Ok(())
}

/// Takes snapshots until all vCPUs are followed.
fn settle(source: &mut Kvm) -> Result<()> {
    let end = Instant::now() + SETTLES;
    while source.vcpus() < GUESTS || source.awaits_facts() {
        ensure!(Instant::now() < end, "{} of {GUESTS} vCPUs were found", source.vcpus());
        source.drain();
        for vm in source.take_unidentified() {
            source.identify(vm, GuestFacts::default());
        }
        source.snapshot()?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Threads for which this machine has room.
fn room() -> Result<u32> {
    let limit = fs::read_to_string("/proc/sys/kernel/threads-max")?.trim().parse::<u32>()?;
    let pid_max = fs::read_to_string(PID_MAX)?.trim().parse::<u32>()?;
    Ok(limit.min(pid_max).saturating_sub(alive()? + SPARE))
}

/// Threads of this machine.
fn alive() -> Result<u32> {
    // Running and existing scheduling entities.
    let load = fs::read_to_string("/proc/loadavg")?;
    let threads = load.split(['/', ' ']).nth(4).context("no number of threads in /proc/loadavg")?;
    Ok(threads.parse()?)
}

fn idle(threads: u32) -> Result<Guests> {
    let binary = tiny_vmm()?;
    let whole = (0..threads / THREADS_PER_PROCESS).map(|_| THREADS_PER_PROCESS);
    let processes = whole.chain([threads % THREADS_PER_PROCESS]).filter(|threads| *threads > 0);
    let start = |io_threads| {
        let config = GuestConfig { io_threads, ..GuestConfig::new("idle", 0, IDLE) };
        Ok(Guest::start(&binary, &config)?)
    };
    processes.map(start).collect()
}

fn guests() -> Result<Guests> {
    let binary = tiny_vmm()?;
    let start = |n| Ok(Guest::start(&binary, &GuestConfig::new(format!("walked-{n}"), 1, LOAD))?);
    (0..GUESTS).map(start).collect()
}
