//! Reading one thread while it goes on.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use sampler_ebpf::abi::{
    COUNTERS, Control, Counter, Left, Member, Modes, VcpuSlot, WalkRecord, WalkStats, for_each_counter,
};

use super::{
    super::{
        occupancy::PATIENCE,
        quota::{part, queue},
        slot::asleep,
    },
    count,
    modes::read_modes,
    run_queue, sched_ns,
};
use crate::{
    maps::{arm, offset},
    task::{Access, Object, Typed, probe},
};

/// How often a thread is read again that switches while it is read.
pub(super) const ATTEMPTS: u32 = 3;

/// What tells that a thread switched, was woken or was brought up to date while it was read.
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
    pub(super) slot: *const VcpuSlot,
    pub(super) modes: *const Modes,
}

/// Reads a thread into its record; what switches at each attempt is left for the next pass or walk.
#[inline(always)]
pub(super) fn read_thread(
    control: *const Control,
    stats: *mut WalkStats,
    Known { slot, modes }: Known,
    record: *mut WalkRecord,
    task: Object,
) {
    // SAFETY: all pointers came from map look-ups that the verifier followed; walks do not overlap.
    let generation = unsafe { (&raw const (*control).generation).read_volatile() };
    // SAFETY: as above.
    unsafe {
        (&raw mut (*record).visited).write_volatile(generation);
        // What is written below holds only once it is whole.
        (&raw mut (*record).generation).write_volatile(0);
    }
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
        if stamp(task) == before && seq == seq_of(slot) && seq.is_multiple_of(2) {
            write(record, &before, &counters, &now);
            // SAFETY: as above.
            return unsafe { (&raw mut (*record).generation).write_volatile(generation) };
        }
    }
    count(stats, |s| &raw mut s.torn);
}

/// Whether an earlier pass of the same walk has read all of a thread.
#[inline(always)]
pub(super) fn is_read(control: *const Control, record: *const WalkRecord) -> bool {
    // SAFETY: the pointers came from map look-ups that the verifier followed; walks do not overlap.
    unsafe {
        (&raw const (*record).generation).read_volatile()
            == (&raw const (*control).generation).read_volatile()
            && (&raw const (*record).modes_observed).read_volatile() != WalkRecord::MODES_TORN
    }
}

/// The moment of a reading.
pub(super) struct Now {
    monotonic_ns: u64,
    sched_ns: u64,
    /// By how much the clock of run time is behind the scheduler's.
    irq_time: u64,
    /// CPU of the thread's run queue.
    cpu: u32,
}

#[inline(always)]
pub(super) fn now(control: *const Control, task: Object) -> Now {
    let rq = run_queue(task as u64);
    let irq_time =
        probe::<u64>(rq, offset(Member::RqClock)).saturating_sub(probe(rq, offset(Member::RqClockTask)));
    // SAFETY: the helper has no preconditions.
    let monotonic_ns = unsafe { bpf_ktime_get_ns() };
    let cpu = probe(rq, offset(Member::RqCpu));
    Now { monotonic_ns, sched_ns: sched_ns(control, monotonic_ns), irq_time, cpu }
}

impl Stamp {
    /// A thread that was preempted keeps its CPU's mark for a moment after its wait began: ask for the wait first.
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
        let run_clock = now.sched_ns.saturating_sub(now.irq_time);
        if self.runs() { run_clock.saturating_sub(self.exec_start) } else { 0 }
    }
}

#[inline(always)]
fn seq_of(slot: *const VcpuSlot) -> u64 {
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    unsafe { (&raw const (*slot).seq).read_volatile() }
}

/// Time asleep: what the scheduler program has taken in, and the sleep that it will take in at the end of the stint after
/// it. That one ended when the thread was given its CPU, or goes on.
#[inline(always)]
fn write_sleep(slot: *const VcpuSlot, record: *mut WalkRecord, stamp: &Stamp, now: &Now) {
    // SAFETY: both pointers came from map look-ups that the verifier followed; walks do not overlap.
    unsafe {
        let [mut halted, mut blocked] = (&raw const (*slot).asleep_ns).read_volatile();
        let left = (&raw const (*slot).left).read_volatile();
        let pcount = (&raw const (*slot).counters[Counter::Timeslices as usize]).read_volatile();
        let delay = (&raw const (*slot).counters[Counter::RunDelay as usize]).read_volatile();
        let stints = stamp.pcount.wrapping_sub(pcount);
        if stints <= 1 && left > Left::Runnable as u32 {
            let until = if stints == 0 { now.sched_ns } else { stamp.last_arrival };
            let waited = stamp.run_delay.wrapping_sub(delay) + stamp.waiting(now);
            let sleep = asleep((&raw const (*slot).left_ns).read_volatile(), until, waited);
            if left == Left::Halted as u32 {
                halted += sleep;
            } else {
                blocked += sleep;
            }
        }
        (&raw mut (*record).asleep_ns[0]).write_volatile(halted);
        (&raw mut (*record).asleep_ns[1]).write_volatile(blocked);
    }
}

/// What quotas held back: what the scheduler program has taken in, and what it will take in of the wait that goes on.
#[inline(always)]
fn write_throttled(slot: *const VcpuSlot, record: *mut WalkRecord, task: Object, waiting: u64, now: u64) {
    // SAFETY: both pointers came from map look-ups that the verifier followed; walks do not overlap.
    unsafe {
        (&raw mut (*record).throttled_ns).write_volatile((&raw const (*slot).throttled_ns).read_volatile());
        let held = if waiting == 0 { 0 } else { part::<Typed>(slot, queue::<Typed>(task), waiting, now) };
        (&raw mut (*record).held_back_ns).write_volatile(held);
    }
}

#[inline(always)]
fn write(record: *mut WalkRecord, stamp: &Stamp, counters: &[u64; COUNTERS.len()], now: &Now) {
    // SAFETY: the pointer came from a map look-up that the verifier followed; walks do not overlap.
    unsafe {
        (&raw mut (*record).monotonic_ns).write_volatile(now.monotonic_ns);
        (&raw mut (*record).sched_ns).write_volatile(now.sched_ns);
        (&raw mut (*record).counters).write_volatile(*counters);
        (&raw mut (*record).waiting_ns).write_volatile(stamp.waiting(now));
        (&raw mut (*record).running_ns).write_volatile(stamp.running(now));
        (&raw mut (*record).arrived_ns).write_volatile(stamp.last_arrival);
        (&raw mut (*record).on_cpu).write_volatile(u32::from(stamp.runs()));
        (&raw mut (*record).cpu).write_volatile(now.cpu);
    }
}
