//! Distributions add up to the kernel's own counts, and the sleeps between them to the scheduler's own clock.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hvsampler::collect::Collector;
use hvsampler::model::distribution::count;
use sampler_ebpf::abi::{Counter, Distribution, SlotShares, VcpuSlot};

use super::sampler::SlotReader;
use crate::exactness::Thread;

/// Slots of threads at one moment, each as of its last switch.
pub(super) type Slots = Vec<(Thread, (VcpuSlot, SlotShares))>;

/// Where the distributions of threads stand, as soon as all have switched; those that do not within a while
/// are left out.
pub(super) fn begin(collector: &Collector, threads: &[Thread]) -> Slots {
    const WHILE: Duration = Duration::from_secs(3);
    let reader = SlotReader(collector);
    let end = Instant::now() + WHILE;
    loop {
        let slots: Slots = threads
            .iter()
            .filter_map(|thread| Some((*thread, reader.slot_and_shares(thread.tid)?)))
            .collect();
        if slots.len() == threads.len() || Instant::now() > end {
            return slots;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Holds what was added since against the kernel's counts in the same slots, which the comparison with
/// schedstat has proved. To the nanosecond, unless the kernel made switches without calling the program:
/// those are left out of the distributions, and no thread may then have more than the kernel counts.
pub(super) fn add_up(collector: &Collector, begin: &Slots, missed_before: u64) -> anyhow::Result<String> {
    let reader = SlotReader(collector);
    let (mut waits, mut stints, mut asleep, mut wall, mut worst) = (0, 0, 0, 0, 0.0_f64);
    let (mut incomplete, mut charged, mut unknown) = (0_u64, 0_u64, 0_u64);
    for (watched, before) in begin {
        let Some(after) = reader.slot_and_shares(watched.tid) else { continue };
        let added = Added::between(before, &after);
        ensure!(
            added.steal.0 <= added.run_delay
                && added.stint.0 <= added.run
                && added.steal.1 <= added.timeslices,
            "thread {}: more in the distributions than the kernel counts: {added:?}",
            watched.tid
        );
        // From 5.15 on a stint may go on without a new timeslice, so there can be more stints.
        let whole = added.steal == (added.run_delay, added.timeslices)
            && added.stint.0 == added.run
            && added.stint.1 >= added.timeslices;
        incomplete += u64::from(!whole);
        ensure!(
            added.charged == added.run_delay,
            "thread {}: the shares of occupants and quota do not add up: {added:?}",
            watched.tid
        );
        (charged, unknown) = (charged + added.charged, unknown + added.unknown);
        ensure!(
            added.wakeups.0 <= added.steal.0 && added.wakeups.1 <= added.steal.1,
            "thread {}: more wake-ups than waits: {added:?}",
            watched.tid
        );
        if whole && added.wall > 0 {
            let known = added.run + added.run_delay + added.asleep;
            worst = worst.max(added.wall.abs_diff(known) as f64 / added.wall as f64);
        }
        waits += added.steal.1;
        stints += added.stint.1;
        asleep += added.asleep;
        wall += added.wall;
    }
    let missed = collector.hook_stats().missed_switches - missed_before;
    ensure!(incomplete <= missed, "{incomplete} threads do not add up, with {missed} missed switches");
    ensure!(waits > 0 && stints > 0, "nothing was added to the distributions");
    // Time in interrupts belongs to nobody where the kernel keeps it apart, nor does the moment between two
    // queues, nor what a machine that is itself a guest is denied by its own host: 1.2 % of one thread's time
    // was seen there.
    ensure!(
        worst < 0.05,
        "run, wait and sleep come to {:.2} % less or more than the wall time",
        worst * 100.0
    );
    Ok(format!(
        "{waits} waits and {stints} stints add up, asleep {:.1} of {:.1} s, nobody's at most {:.4} %; {:.3} s of waits \
         charged, {:.4} % to nobody",
        asleep as f64 / 1e9,
        wall as f64 / 1e9,
        worst * 100.0,
        charged as f64 / 1e9,
        unknown as f64 * 100.0 / charged.max(1) as f64
    ))
}

/// What was added to a slot between two of its thread's switches. Distributions: sum in ns, and count.
#[derive(Debug)]
struct Added {
    steal: (u64, u64),
    wakeups: (u64, u64),
    stint: (u64, u64),
    run: u64,
    run_delay: u64,
    timeslices: u64,
    asleep: u64,
    wall: u64,
    /// Of the run delay, by the occupants' table and the quota.
    charged: u64,
    /// Of that, nobody's.
    unknown: u64,
}

/// What a table of occupants, and the quota, hold of the waits up to the thread's last switch-out.
fn charged(slot: &VcpuSlot, occupants: &SlotShares) -> u64 {
    let shares = occupants.table.total_ns();
    shares + slot.throttled_ns - occupants.charged_ns
}

impl Added {
    fn between(
        (before, occupants_before): &(VcpuSlot, SlotShares),
        (after, occupants_after): &(VcpuSlot, SlotShares),
    ) -> Self {
        let distribution = |which: Distribution| {
            let (before, after) =
                (&before.distributions[which as usize], &after.distributions[which as usize]);
            (after.sum_ns - before.sum_ns, count(after) - count(before))
        };
        let counter = |which: Counter| after.counters[which as usize] - before.counters[which as usize];
        Self {
            steal: distribution(Distribution::Steal),
            wakeups: distribution(Distribution::WakeupLatency),
            stint: distribution(Distribution::Stint),
            run: counter(Counter::Run),
            run_delay: counter(Counter::RunDelay),
            timeslices: counter(Counter::Timeslices),
            asleep: after.asleep_ns.iter().sum::<u64>() - before.asleep_ns.iter().sum::<u64>(),
            wall: after.left_ns - before.left_ns,
            charged: charged(after, occupants_after) - charged(before, occupants_before),
            unknown: occupants_after.table.unknown_ns() - occupants_before.table.unknown_ns(),
        }
    }
}
