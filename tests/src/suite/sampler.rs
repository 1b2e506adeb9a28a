//! The sampler under test: its programs loaded into this kernel, its slots and snapshots.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hvsampler::collect::Collector;
use hvsampler::config::DEFAULT_NICE;
use hvsampler::kernel::clock::Clock;
use hvsampler::kernel::limits;
use hvsampler::load::{self, Loaded, Options};
use hvsampler::model::{Host, SamplerStats};
use hvsampler::source::{GuestFacts, Kvm, Levels};
use sampler_ebpf::abi::{Counter, NO_SLOT, SLOT_PENDING, SlotShares, VcpuSlot};

use crate::exactness::{CounterReader, Reading, Thread};
use crate::host::{self, kernel_version};

/// Loads the programs, attaches them and takes in the guests that run already.
pub(super) fn start() -> anyhow::Result<Kvm> {
    source(load::load(options())?)
}

/// The same at the service's own priority, which the calling thread keeps: for tests whose guests fight for
/// CPUs. At the guests' priority the thread that samples waits as they do, and the service's does not.
///
/// What is started later inherits the priority. So the guests, and all that competes with them, are started
/// before.
pub(super) fn start_as_service() -> anyhow::Result<Kvm> {
    as_service(start)
}

/// The same for another way to start.
pub(super) fn as_service(start: impl FnOnce() -> anyhow::Result<Kvm>) -> anyhow::Result<Kvm> {
    host::renice(0, DEFAULT_NICE)?;
    start()
}

/// As [`start`], with each hook attached by the last of its ways.
pub(super) fn start_fallback() -> anyhow::Result<Kvm> {
    source(load::load_fallback(options())?)
}

/// As [`start`], with no hook that reports births and deaths.
pub(super) fn start_reported_by_walks() -> anyhow::Result<Kvm> {
    source(load::load_reported_by_walks(options())?)
}

/// As [`start`], as if only CPUs with lower numbers could ever come online.
pub(super) fn start_with_cpus(possible_cpus: u32) -> anyhow::Result<Kvm> {
    source(load::load(Options { possible_cpus, ..options() })?)
}

/// What the programs are loaded with on this machine.
pub(super) fn options() -> Options {
    limits::lift_memlock();
    Options { log_level: 0, possible_cpus: limits::possible_cpus() }
}

/// With all that an operator gets where nothing else is asked for.
fn source(loaded: Loaded) -> anyhow::Result<Kvm> {
    let mut source = Kvm::start(Collector::new(loaded)?, Arc::new(Host::default()), Clock::start())?;
    source.set_levels(Levels::DEFAULT);
    Ok(source)
}

/// Takes a measurement, and takes it again where it failed while the two clocks of a reading were apart,
/// which the sampler has counted: on an emulated machine the host may have had the CPU in between. States are
/// beyond the wall time then, and the next interval has as much less.
pub(super) fn with_clocks_together<T>(
    source: &mut Kvm,
    mut measure: impl FnMut(&mut Kvm) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    const ATTEMPTS: u32 = 3;
    let apart = |source: &mut Kvm| anyhow::Ok(source.snapshot()?.sampler.negative_remainders);
    for _ in 1..ATTEMPTS {
        let before = apart(source)?;
        let error = match measure(source) {
            Ok(measured) => return Ok(measured),
            Err(error) => error,
        };
        ensure!(apart(source)? > before, "{error:#}");
        eprintln!("  once more, as the clocks of a reading were apart: {error:#}");
    }
    measure(source)
}

/// Lets the sampler see all of the threads; their slots are theirs then.
pub(super) fn follow(source: &mut Kvm, threads: &[Thread]) -> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_secs(20);
    let end = Instant::now() + LIMIT;
    loop {
        identify(source);
        source.snapshot()?;
        let slots = SlotReader(source.collector());
        let unknown: Vec<_> = threads.iter().filter(|thread| slots.index(thread.tid).is_none()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let entries = || unknown.iter().map(|thread| (thread, source.collector().pid_slot(thread.tid)));
        ensure!(
            Instant::now() < end,
            "of {} vCPU threads these have no slot: {:?}",
            threads.len(),
            entries().collect::<Vec<_>>()
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Answers for the platforms, with nothing: a VM is shown as soon as its platform has been asked.
pub(super) fn identify(source: &mut Kvm) {
    source.drain();
    for vm in source.take_unidentified() {
        source.identify(vm, GuestFacts::default());
    }
}

/// The slots that the scheduler program writes.
pub(super) struct SlotReader<'a>(pub(super) &'a Collector);

impl SlotReader<'_> {
    /// A thread's slot as of its last switch; `None` before its first.
    pub(super) fn slot(&self, tid: u32) -> Option<VcpuSlot> {
        self.0.slot(self.index(tid)?).filter(|slot| slot.fresh == 0)
    }

    fn index(&self, tid: u32) -> Option<u16> {
        self.0.pid_slot(tid).filter(|&index| index != NO_SLOT && index != SLOT_PENDING)
    }
}

impl SlotReader<'_> {
    /// The same with who took its thread's time.
    pub(super) fn slot_and_shares(&self, tid: u32) -> Option<(VcpuSlot, SlotShares)> {
        self.0.slot_and_shares(self.index(tid)?).filter(|(slot, _)| slot.fresh == 0)
    }
}

impl CounterReader for SlotReader<'_> {
    fn read(&self, tid: u32) -> Option<Reading> {
        // Before the first switch a slot holds the counts of the moment at which it was given out.
        self.slot(tid).map(|slot| reading(&slot))
    }
}

fn reading(slot: &VcpuSlot) -> Reading {
    let count = |counter: Counter| slot.counters[counter as usize];
    Reading {
        seq: slot.seq,
        on_cpu: slot.on_cpu != 0,
        run_ns: count(Counter::Run),
        run_delay_ns: count(Counter::RunDelay),
        voluntary: count(Counter::VoluntarySwitches),
        involuntary: count(Counter::InvoluntarySwitches),
        timeslices: count(Counter::Timeslices),
    }
}

/// Fails when the sampler itself says that it lost something; otherwise what it says of its estimates.
pub(super) fn nothing_lost(stats: &SamplerStats) -> anyhow::Result<String> {
    let losses = [
        ("events_lost", stats.events_lost),
        ("slots_exhausted", stats.slots_exhausted),
        ("segments_failed", stats.segments_failed),
        ("slots_capped", stats.slots_capped),
        ("switches_on_unknown_cpus", stats.switches_on_unknown_cpus),
        ("recursion_misses", stats.recursion_misses),
        ("unpaired", stats.unpaired),
    ];
    // From 7.0 on a program can be preempted there, and is skipped meanwhile; before, never.
    let preempted = if kernel_version()? < (7, 0) { stats.preemption_misses } else { 0 };
    let losses = losses.into_iter().chain([("preemption_misses", preempted)]);
    let lost: Vec<_> = losses.filter(|(_, count)| *count > 0).collect();
    ensure!(lost.is_empty(), "the sampler counts losses: {lost:?}");
    // Not counts but estimates, of the stint or wait that goes on: on a machine that is itself a guest the
    // clocks that they are made of can be apart by what that machine waits for its own CPU.
    let (fell, beyond) = (stats.counter_regressions, stats.negative_remainders);
    Ok(format!("{fell} estimates fell, {beyond} went beyond the wall time"))
}
