//! Waits because a CPU quota has run out (`cpu.max`, CFS bandwidth control).
//!
//! The kernel tells nobody when it holds a run queue of a group back and when it lets it go, but it keeps a
//! clock for each that stands still meanwhile, or one that runs only then. Between a thread's departure and
//! its arrival the latter has moved by the time that a quota, its own group's or one above, has held the
//! queue back that it waits on.

use sampler_ebpf::abi::{ABSENT, Member, SlotShares, VcpuSlot};

use crate::{
    maps::offset,
    shared::{Shared, bump, field, load, store},
    task::{Access, Object, Probed, probe},
};

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

/// Notes the clock of the queue on which the slot's thread waits or will wait.
#[inline(always)]
pub(super) fn note<A: Access>(slot: Shared<VcpuSlot>, task: Object, now: u64) {
    // One that is not held back when it leaves its CPU cannot be before it has run again.
    let free = offset(Member::TaskThrottled) != ABSENT && A::u8(task, Member::TaskThrottled) == 0;
    if free {
        return field!(slot.quota_queue).store(0);
    }
    let queue = queue::<A>(task);
    write(slot, queue, moment::<A>(queue, now));
}

/// As [`note`], for a thread that comes to another CPU. A kernel that holds back threads and not queues does
/// not move those about; of one that is moved all the same the rest of the wait is not told.
#[inline(always)]
pub(super) fn note_on<A: Access>(slot: Shared<VcpuSlot>, task: Object, cpu: u64, now: u64) {
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
