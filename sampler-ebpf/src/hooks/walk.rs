//! A walk over all threads, run by user space once per snapshot (`iter/task`, 5.8 and later).
//!
//! Three things only a walk can know: vCPU threads that ran before the sampler started or that never leave
//! their CPU, and how much of a stint or of a wait is going on right now, which the kernel credits when it ends.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_task, bpf_ktime_get_ns},
};
use sampler_ebpf::abi::{
    COUNTERS, Control, Counter, Member, NO_SLOT, SLOT_PENDING, WalkRecord, WalkStats, for_each_counter,
};

use super::lifecycle::{announce, notifier, runs_vcpu};
use crate::{
    maps::{control, offset, pid_entry, slot, walk_record, walk_stats},
    task::{Access, Object, Typed, probe},
};

/// How often a thread is read again that switches while it is read.
const ATTEMPTS: u32 = 3;

/// `struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }`, the task NULL at the end.
#[repr(C)]
struct WalkContext {
    meta: *const c_void,
    task: Object,
}

struct Logging(*mut c_void);

impl EbpfContext for Logging {
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

/// One call per thread, in process context and preemptible.
///
/// # Safety
/// Called by the kernel alone, with a context of that type.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
unsafe extern "C" fn walk_tasks(ctx: *mut WalkContext) -> i32 {
    // SAFETY: the kernel passes a context of this type, and the verifier checks the load.
    let task = unsafe { (*ctx).task };
    if !task.is_null() {
        visit(&Logging(ctx.cast()), task);
    }
    0
}

#[inline(always)]
fn visit(ctx: &impl EbpfContext, task: Object) {
    let (Some(stats), Some(control)) = (walk_stats(), control()) else { return };
    calibrate(control);
    count(stats, |s| &raw mut s.threads);
    let pid = Typed::u32(task, Member::TaskPid);
    let Some(entry) = pid_entry(pid) else { return };
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    let index = unsafe { entry.read_volatile() };
    if index != NO_SLOT && index != SLOT_PENDING {
        let Some(slot) = slot(index) else { return };
        // SAFETY: as above.
        if unsafe { (&raw const (*slot).task).read_volatile() } == task as u64 {
            if let Some(record) = walk_record(index) {
                read_thread(control, stats, record, task);
            }
            return;
        }
    }
    let notifier = notifier::<Typed>(task);
    if notifier != 0 && index != SLOT_PENDING && runs_vcpu::<Typed>(task, notifier) {
        let sent = announce::<Typed>(ctx, task, notifier, pid, entry);
        count(stats, |s| if sent { &raw mut s.announced } else { &raw mut s.events_lost });
    }
}

/// Measures the scheduler's clock against `CLOCK_MONOTONIC`, once per walk.
///
/// There is no helper that reads the scheduler's clock. But the thread that walks was put on its CPU just now
/// (user space yields right before), so its run queue's clock is some microseconds old at most.
#[inline(always)]
fn calibrate(control: *mut Control) {
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    unsafe {
        let generation = (&raw const (*control).generation).read_volatile();
        if (&raw const (*control).calibrated).read_volatile() == generation {
            return;
        }
        let rq = run_queue(bpf_get_current_task());
        let clock: u64 = probe(rq, offset(Member::RqClock));
        let offset = clock.wrapping_sub(bpf_ktime_get_ns());
        (&raw mut (*control).clock_offset_ns).write_volatile(offset);
        (&raw mut (*control).calibrated).write_volatile(generation);
    }
}

#[inline(always)]
fn run_queue(task: u64) -> u64 {
    let cfs_rq: u64 = probe(task, offset(Member::TaskCfsRq));
    probe(cfs_rq, offset(Member::CfsRqRq))
}

/// What tells that a thread switched, was woken or was brought up to date while it was read.
#[derive(PartialEq, Eq)]
struct Stamp {
    pcount: u64,
    last_queued: u64,
    exec_start: u64,
    run: u64,
    run_delay: u64,
    on_cpu: u8,
}

#[inline(always)]
fn stamp(task: Object) -> Stamp {
    Stamp {
        pcount: Typed::u64(task, Member::TaskPcount),
        last_queued: Typed::u64(task, Member::TaskLastQueued),
        exec_start: Typed::u64(task, Member::TaskExecStart),
        run: Typed::u64(task, Member::TaskSumExecRuntime),
        run_delay: Typed::u64(task, Member::TaskRunDelay),
        on_cpu: Typed::u8(task, Member::TaskOnCpu),
    }
}

#[inline(always)]
fn read_thread(control: *const Control, stats: *mut WalkStats, record: *mut WalkRecord, task: Object) {
    // SAFETY: both pointers came from map look-ups that the verifier followed; walks do not overlap.
    unsafe {
        let generation = (&raw const (*control).generation).read_volatile();
        (&raw mut (*record).visited).write_volatile(generation);
    }
    for _ in 0..ATTEMPTS {
        let before = stamp(task);
        let mut counters = [0u64; COUNTERS.len()];
        for_each_counter(|counter, member| counters[counter as usize] = Typed::u64(task, member));
        counters[Counter::Run as usize] = before.run;
        counters[Counter::RunDelay as usize] = before.run_delay;
        let rq = run_queue(task as u64);
        let irq_time =
            probe::<u64>(rq, offset(Member::RqClock)).saturating_sub(probe(rq, offset(Member::RqClockTask)));
        // SAFETY: the helper has no preconditions.
        let monotonic = unsafe { bpf_ktime_get_ns() };
        if stamp(task) == before {
            write(control, record, &before, &counters, monotonic, irq_time);
            return;
        }
    }
    count(stats, |s| &raw mut s.torn);
}

#[inline(always)]
fn write(
    control: *const Control,
    record: *mut WalkRecord,
    stamp: &Stamp,
    counters: &[u64; COUNTERS.len()],
    monotonic: u64,
    irq_time: u64,
) {
    // SAFETY: both pointers came from map look-ups that the verifier followed; walks do not overlap.
    unsafe {
        let sched = monotonic.wrapping_add((&raw const (*control).clock_offset_ns).read_volatile());
        // A thread that was preempted keeps its CPU's mark for a moment after its wait began: ask for the wait first.
        let waits = stamp.last_queued != 0;
        let runs = !waits && stamp.on_cpu != 0;
        (&raw mut (*record).monotonic_ns).write_volatile(monotonic);
        (&raw mut (*record).sched_ns).write_volatile(sched);
        (&raw mut (*record).counters).write_volatile(*counters);
        let waiting = if waits { sched.saturating_sub(stamp.last_queued) } else { 0 };
        let running = if runs { sched.saturating_sub(irq_time).saturating_sub(stamp.exec_start) } else { 0 };
        (&raw mut (*record).waiting_ns).write_volatile(waiting);
        (&raw mut (*record).running_ns).write_volatile(running);
        (&raw mut (*record).on_cpu).write_volatile(u32::from(runs));
        let generation = (&raw const (*control).generation).read_volatile();
        (&raw mut (*record).generation).write_volatile(generation);
    }
}

#[inline(always)]
fn count(stats: *mut WalkStats, field: impl Fn(&mut WalkStats) -> *mut u64) {
    // SAFETY: walks do not overlap, and nobody else writes this block.
    unsafe {
        let field = field(&mut *stats);
        *field += 1;
    }
}
