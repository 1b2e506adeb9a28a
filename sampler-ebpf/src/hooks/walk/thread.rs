//! Reading one thread while it goes on.

use sampler_ebpf::{
    abi::{
        COUNTERS, Control, Counter, Left, Member, Modes, VcpuSlot, WalkRecord, WalkStats, for_each_counter,
    },
    lag::Lag,
};

use super::{
    super::{
        occupancy::PATIENCE,
        quota::{part, queue},
        slot::asleep,
    },
    modes::read_modes,
    run_queue, sched_ns,
};
use crate::{
    maps::{arm, offset},
    shared::{Shared, bump, field, load, store},
    task::{Access, Object, Typed, monotonic_ns, probe},
};

/// How often a thread is read again that switches while it is read.
pub(super) const ATTEMPTS: u32 = 3;

/// What shows that a thread switched, was woken or was brought up to date while it was read.
#[derive(PartialEq, Eq)]
pub(super) struct Stamp {
    pcount: u64,
    last_queued: u64,
    last_arrival: u64,
    exec_start: u64,
    pub(super) run: u64,
    pub(super) run_delay: u64,
    on_cpu: u8,
}

#[inline(always)]
pub(super) fn stamp(task: Object) -> Stamp {
    Stamp {
        pcount: Typed::u64(task, Member::TaskPcount),
        last_queued: Typed::u64(task, Member::TaskLastQueued),
        last_arrival: Typed::u64(task, Member::TaskLastArrival),
        exec_start: Typed::u64(task, Member::TaskExecStart),
        run: Typed::u64(task, Member::TaskSumExecRuntime),
        run_delay: Typed::u64(task, Member::TaskRunDelay),
        on_cpu: Typed::u8(task, Member::TaskOnCpu),
    }
}

/// What the programs keep of a thread.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) slot: Shared<VcpuSlot>,
    pub(super) modes: Shared<Modes>,
}

/// Reads a thread into its record; what switches at each attempt is left for the next pass or walk.
#[inline(always)]
pub(super) fn read_thread(
    control: Shared<Control>,
    stats: Shared<WalkStats>,
    Known { slot, modes }: Known,
    record: Shared<WalkRecord>,
    task: Object,
) {
    let generation = load!(control.generation);
    store!(record.visited, generation);
    // What is written below holds only once it is whole.
    store!(record.generation, 0);
    for _ in 0..ATTEMPTS {
        let before = stamp(task);
        let mut counters = [0u64; COUNTERS.len()];
        for_each_counter(|counter, member| counters[counter as usize] = Typed::u64(task, member));
        counters[Counter::Run as usize] = before.run;
        counters[Counter::RunDelay as usize] = before.run_delay;
        let now = now(control, task);
        let seq = seq_of(slot);
        write_sleep(slot, record, &before, &now);
        write_throttled(slot, record, task, before.waiting(&now), now.sched_ns);
        if before.waits() {
            // It may wait long, and who has the CPU meanwhile is to be known.
            arm(now.cpu, PATIENCE);
        }
        read_modes(modes, record, now.monotonic_ns, before.stint_ns(&now));
        let is_whole = stamp(task) == before && seq == seq_of(slot) && seq.is_multiple_of(2);
        if is_whole && now.holds() {
            write(record, &before, &counters, &now);
            return field!(record.generation).store(generation);
        }
    }
    bump!(stats.torn, 1);
}

/// Whether an earlier pass of the same walk has read all of a thread.
#[inline(always)]
pub(super) fn is_read(control: Shared<Control>, record: Shared<WalkRecord>) -> bool {
    load!(record.generation) == load!(control.generation)
        && load!(record.modes_observed) != WalkRecord::MODES_TORN
}

/// The moment of a reading.
pub(super) struct Now {
    monotonic_ns: u64,
    sched_ns: u64,
    /// The thread's run queue.
    rq: u64,
    /// By how much its clock of run time is behind the scheduler's: time in interrupts, for the most part.
    lag: Lag,
    /// Its CPU.
    cpu: u32,
}

#[inline(always)]
pub(super) fn now(control: Shared<Control>, task: Object) -> Now {
    let rq = run_queue(task as u64);
    let lag = Lag::of(clocks(rq));
    let monotonic_ns = monotonic_ns();
    let cpu = probe(rq, offset(Member::RqCpu));
    Now { monotonic_ns, sched_ns: sched_ns(control, monotonic_ns), rq, lag, cpu }
}

/// A run queue's clocks: the scheduler's, and that of run time.
#[inline(always)]
fn clocks(rq: u64) -> (u64, u64) {
    (probe(rq, offset(Member::RqClock)), probe(rq, offset(Member::RqClockTask)))
}

impl Now {
    /// Whether the clocks were not read in the middle of an update. Asked once all else was read: the later,
    /// the less an update can still be under way.
    #[inline(always)]
    pub(super) fn holds(&self) -> bool {
        self.lag.holds(clocks(self.rq))
    }
}

impl Stamp {
    /// A thread that was preempted keeps its CPU's mark for a moment after its wait began: ask for the wait
    /// first.
    #[inline(always)]
    const fn waits(&self) -> bool {
        self.last_queued != 0
    }

    #[inline(always)]
    const fn runs(&self) -> bool {
        !self.waits() && self.on_cpu != 0
    }

    /// Length of the stint that is going on, ns.
    #[inline(always)]
    fn stint_ns(&self, now: &Now) -> Option<u64> {
        self.runs().then(|| now.sched_ns.saturating_sub(self.last_arrival))
    }

    /// Length of the wait that is going on, ns.
    #[inline(always)]
    pub(super) const fn waiting(&self, now: &Now) -> u64 {
        if self.waits() { now.sched_ns.saturating_sub(self.last_queued) } else { 0 }
    }

    /// CPU time since the kernel last brought its count up to date, ns.
    #[inline(always)]
    pub(super) const fn running(&self, now: &Now) -> u64 {
        let run_clock = now.sched_ns.saturating_sub(now.lag.ns());
        if self.runs() { run_clock.saturating_sub(self.exec_start) } else { 0 }
    }
}

#[inline(always)]
fn seq_of(slot: Shared<VcpuSlot>) -> u64 {
    load!(slot.seq)
}

/// Time asleep: what the scheduler program has taken in, and the sleep that it will take in at the end of the
/// stint after it. That one ended when the thread was given its CPU, or goes on.
#[inline(always)]
fn write_sleep(slot: Shared<VcpuSlot>, record: Shared<WalkRecord>, stamp: &Stamp, now: &Now) {
    store!(record.asleep_ns, load!(slot.asleep_ns));
    let left = load!(slot.left);
    let pcount = load!(slot.counters[Counter::Timeslices as usize]);
    let delay = load!(slot.counters[Counter::RunDelay as usize]);
    let stints = stamp.pcount.wrapping_sub(pcount);
    if stints <= 1 && Left::is_sleep(left) {
        let until = if stints == 0 { now.sched_ns } else { stamp.last_arrival };
        let waited = stamp.run_delay.wrapping_sub(delay) + stamp.waiting(now);
        bump!(record.asleep_ns[Left::place(left)], asleep(load!(slot.left_ns), until, waited));
    }
}

/// What quotas held back: what the scheduler program has taken in, and what it will take in of the wait that
/// goes on.
#[inline(always)]
fn write_throttled(slot: Shared<VcpuSlot>, record: Shared<WalkRecord>, task: Object, waiting: u64, now: u64) {
    store!(record.throttled_ns, load!(slot.throttled_ns));
    let held = if waiting == 0 { 0 } else { part::<Typed>(slot, queue::<Typed>(task), waiting, now) };
    store!(record.held_back_ns, held);
}

#[inline(always)]
fn write(record: Shared<WalkRecord>, stamp: &Stamp, counters: &[u64; COUNTERS.len()], now: &Now) {
    store!(record.monotonic_ns, now.monotonic_ns);
    store!(record.sched_ns, now.sched_ns);
    store!(record.counters, *counters);
    store!(record.waiting_ns, stamp.waiting(now));
    store!(record.running_ns, stamp.running(now));
    store!(record.arrived_ns, stamp.last_arrival);
    store!(record.on_cpu, u32::from(stamp.runs()));
    store!(record.cpu, now.cpu);
}
