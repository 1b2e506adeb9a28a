//! Waits because a CPU quota has run out: `cpu.max` (CFS bandwidth control), which is for threads of the fair
//! class alone, and the runtime of a thread of the deadline class.
//!
//! A real-time thread that is held back has no clock at all: the kernel keeps a mark that it is, of its CPU
//! and now. A scheduler that was loaded (sched_ext) has quotas of its own, or none. So these have no quota
//! here.
//!
//! The kernel reports to nobody when it holds a run queue of a group back and when it lets it go, but it
//! keeps a clock for each that stands still meanwhile, or one that runs only then. Between a thread's
//! departure and its arrival the latter has moved by the time that a quota, its own group's or one above, has
//! held the queue back that it waits on.

use sampler_ebpf::{
    abi::{ABSENT, Member, SlotShares, VcpuSlot},
    quota::until_period,
};

use crate::{
    maps::offset,
    shared::{Shared, bump, field, load, store},
    task::{Access, FIRST_FAIR, Object, Probed, priority, probe},
};

/// `SCHED_EXT`
const SCHED_EXT: u32 = 7;

/// The thread's run queue: its group's on its CPU.
#[inline(always)]
pub(super) fn queue<A: Access>(task: Object) -> Object {
    A::u64(task, Member::TaskCfsRq) as Object
}

/// The thread's run queue on another CPU; null where it cannot be found.
#[inline(always)]
fn queue_on<A: Access>(task: Object, cpu: u64) -> Object {
    if offset(Member::TaskGroup) == ABSENT || offset(Member::GroupCfsRqs) == ABSENT {
        return core::ptr::null();
    }
    let group = A::u64(task, Member::TaskGroup);
    let queues: u64 = probe(group, offset(Member::GroupCfsRqs));
    probe::<u64>(queues.wrapping_add(cpu * 8), 0) as Object
}

/// What a queue's clock shows.
#[derive(Clone, Copy)]
struct Moment {
    /// Time for which quotas have held the queue back so far, ns.
    held_ns: u64,
    /// The clock with which that time is measured, ns.
    at_ns: u64,
}

#[inline(always)]
fn moment<A: Access>(queue: Object, now: u64) -> Moment {
    if offset(Member::CfsRqThrottledSelfTime) != ABSENT {
        let since = A::u64(queue, Member::CfsRqThrottledSelf);
        let going_on = if since == 0 { 0 } else { now.saturating_sub(since) };
        return Moment { held_ns: A::u64(queue, Member::CfsRqThrottledSelfTime) + going_on, at_ns: now };
    }
    if offset(Member::CfsRqThrottledPeltTime) == ABSENT {
        return Moment { held_ns: 0, at_ns: now };
    }
    // The clock of the load average, which is slower than the scheduler's on a CPU that is busy below its top
    // speed.
    let rq = A::u64(queue, Member::CfsRqRq) as Object;
    let since_update = now.saturating_sub(A::u64(rq, Member::RqClock));
    let at_ns =
        A::u64(rq, Member::RqClockPelt).wrapping_sub(A::u64(rq, Member::RqLostIdleTime)) + since_update;
    let past = A::u64(queue, Member::CfsRqThrottledPeltTime);
    if A::u32(queue, Member::CfsRqThrottleCount) == 0 {
        return Moment { held_ns: past, at_ns };
    }
    Moment { held_ns: past + at_ns.saturating_sub(A::u64(queue, Member::CfsRqThrottledPelt)), at_ns }
}

/// Whether this kernel's quotas are reported at all: where those of groups are not, there is no such state.
#[inline(always)]
fn is_reported() -> bool {
    offset(Member::CfsRqThrottledSelfTime) != ABSENT || offset(Member::CfsRqThrottledPeltTime) != ABSENT
}

/// Notes of a thread that no quota of a group holds back what else does. Returns whether it is such a thread.
#[inline(always)]
fn note_other<A: Access>(slot: Shared<VcpuSlot>, task: Object) -> bool {
    let prio = priority::<A>(task);
    if prio >= FIRST_FAIR && A::u32(task, Member::TaskPolicy) != SCHED_EXT {
        return false;
    }
    store!(slot.quota_queue, 0);
    let is_known = prio < 0 && offset(Member::TaskDlRuntime) != ABSENT && is_reported();
    if is_known && A::u64(task, Member::TaskDlRuntime) as i64 <= 0 {
        let began = A::u64(task, Member::TaskDlNext).wrapping_sub(A::u64(task, Member::TaskDlDeadline));
        let until = began.wrapping_add(A::u64(task, Member::TaskDlPeriod));
        store!(slot.quota_clock_ns, until);
        store!(slot.quota_queue, VcpuSlot::NEXT_PERIOD);
    }
    true
}

/// Notes the clock of the queue on which the slot's thread waits or will wait.
#[inline(always)]
pub(super) fn note<A: Access>(slot: Shared<VcpuSlot>, task: Object, now: u64) {
    if note_other::<A>(slot, task) {
        return;
    }
    // One that is not held back when it leaves its CPU cannot be before it has run again.
    let free = offset(Member::TaskThrottled) != ABSENT && A::u8(task, Member::TaskThrottled) == 0;
    if free {
        return field!(slot.quota_queue).store(0);
    }
    let queue = queue::<A>(task);
    write(slot, queue, moment::<A>(queue, now));
}

/// As [`note`], for a thread that comes to another CPU. A kernel that holds back threads and not queues does
/// not move those about; of one that is moved all the same the quota's part in the rest of the wait is not
/// counted.
#[inline(always)]
pub(super) fn note_on<A: Access>(slot: Shared<VcpuSlot>, task: Object, cpu: u64, now: u64) {
    if note_other::<A>(slot, task) {
        return;
    }
    if offset(Member::TaskThrottled) != ABSENT {
        return field!(slot.quota_queue).store(0);
    }
    let queue = queue_on::<A>(task, cpu);
    // A thread that is woken up leaves a queue that nobody has locked, with a clock as old as its sleep.
    let rq = Probed::u64(queue, Member::CfsRqRq) as Object;
    let clock = Probed::u64(rq, Member::RqClock);
    write(slot, queue, moment::<Probed>(queue, if clock > now { clock } else { now }));
}

#[inline(always)]
fn write(slot: Shared<VcpuSlot>, queue: Object, moment: Moment) {
    store!(slot.quota_queue, queue as u64);
    store!(slot.quota_clock_ns, moment.held_ns);
    store!(slot.quota_noted_ns, moment.at_ns);
}

/// How much of a wait that goes on is due to a quota; none where the clock was not noted, or another queue's.
#[inline(always)]
pub(super) fn part<A: Access>(slot: Shared<VcpuSlot>, queue: Object, waited: u64, now: u64) -> u64 {
    let before = Moment { held_ns: load!(slot.quota_clock_ns), at_ns: load!(slot.quota_noted_ns) };
    let noted = load!(slot.quota_queue);
    if noted == VcpuSlot::NEXT_PERIOD {
        return until_period(now.saturating_sub(waited), before.held_ns, now);
    }
    if noted == 0 || noted != queue as u64 {
        return 0;
    }
    part_between(before, moment::<A>(queue, now), waited)
}

/// A wait that began with the note is held back for as long as its queue. Of one that began later, with a
/// wake-up, it is not known when in all that time its queue was held back: it has its share, which is an
/// estimate.
#[inline(always)]
fn part_between(before: Moment, now: Moment, waited: u64) -> u64 {
    let held = now.held_ns.saturating_sub(before.held_ns);
    if held == 0 {
        return 0;
    }
    let past = now.at_ns.saturating_sub(before.at_ns);
    if past <= waited && offset(Member::CfsRqThrottledSelfTime) != ABSENT {
        return if held < waited { held } else { waited };
    }
    if held >= past {
        return waited;
    }
    // So that the product fits: beyond two seconds to a microsecond, and nothing beyond half an hour.
    let shift = if past >> 31 == 0 { 0 } else { 10 };
    if past >> 41 != 0 {
        return 0;
    }
    let product = (held >> shift).wrapping_mul(waited >> shift);
    let part = product.checked_div(past >> shift).unwrap_or(0) << shift;
    if part < waited { part } else { waited }
}

/// Charges the quota with its part of a wait that ends, and returns it.
#[inline(always)]
pub(super) fn held_back<A: Access>(
    slot: Shared<VcpuSlot>,
    shares: Shared<SlotShares>,
    queue: Object,
    waited: u64,
    now: u64,
) -> u64 {
    let held = part::<A>(slot, queue, waited, now);
    bump!(slot.throttled_ns, held);
    bump!(shares.charged_ns, held);
    // For a moment the kernel has the wait go on still: a walk is not to find this part a second time.
    store!(slot.quota_queue, 0);
    held
}
