//! Who had each CPU lately, and whom a vCPU's wait is charged to.
//!
//! At `sched_switch` the coming thread's wait is known to the nanosecond before the kernel credits it: it
//! began at `sched_info.last_queued` and ends with the run queue's clock, the very clock that
//! `sched_info_arrive()` reads next. So the wait is compared with what this CPU remembers of itself.
//!
//! Remembering and charging are functions that the verifier follows once each, by themselves: global ones,
//! which take nothing but numbers and look the memory up. Inlined it would follow them for each path that
//! leads there, and their loops for each path within: on Linux 7.2 it took more than a minute.

use sampler_ebpf::{
    abi::{Member, Occupancy, SHARES, WHO_FORCED_IDLE, WHO_IDLE, WHO_KERNEL, WHO_UNKNOWN, WHO_VCPU, Who},
    occupancy::{self, Parts, last_start, who as known},
    shares::{self, SOME},
};

use super::core_scheduling::{idle_by, is_kept_from, note, was_kept_from};
use crate::{
    maps::{self, arm, hook_stats, totals},
    shared::{Shared, bump, field},
    task::{Access, Object, clock, run_queue},
};

/// `PF_KTHREAD`, the same from 2.6.27 to 7.2.
const PF_KTHREAD: u32 = 0x0020_0000;
/// What a switch between two threads of one process takes of a CPU's patience, and what any other switch of
/// strangers does.
const SAME: u32 = 1;
const NEWS: u32 = 64;
/// How long a CPU remembers strangers after a vCPU was there, or came to wait: 4,096 stretches, or 262,144
/// switches inside one process, which write no stretch. No wait is charged for more stretches than 2,048, and
/// a vCPU that sleeps meanwhile is not to find a CPU that does not know who has it: a wake-up arms nothing.
pub(super) const PATIENCE: u32 = 4096 * NEWS;

/// Names a thread as an occupant.
#[inline(always)]
fn who<A: Access>(task: Object, is_vcpu: bool) -> Who {
    let tgid = A::u32(task, Member::TaskTgid);
    if is_vcpu {
        tgid | WHO_VCPU
    } else if A::u32(task, Member::TaskFlags) & PF_KTHREAD != 0 && tgid != 0 {
        tgid | WHO_KERNEL
    } else {
        tgid
    }
}

/// Remembers a switch with a vCPU, at a moment of the scheduler's clock.
#[inline(always)]
pub(super) fn vcpus<A: Access>(
    cpu: u32,
    (leaves, leaves_is_vcpu): (Object, bool),
    (comes, comes_is_vcpu): (Object, bool),
    now: u64,
) {
    arm(cpu, PATIENCE);
    let Some(memory) = maps::occupancy(cpu) else { return };
    let left = who::<A>(leaves, leaves_is_vcpu);
    let who = who::<A>(comes, comes_is_vcpu);
    if known(memory) != left {
        mend::<A>(memory, cpu, left, leaves, now);
    }
    begin::<A>(memory, cpu, who, comes, now);
}

/// Remembers that a thread is given the CPU.
#[inline(always)]
fn begin<A: Access>(memory: Shared<Occupancy>, cpu: u32, who: Who, comes: Object, now: u64) {
    if known(memory) == WHO_IDLE && who != WHO_UNKNOWN && was_kept_from::<A>(memory, comes) {
        force_idle(memory, cpu, A::u64(comes, Member::TaskLastQueued), now);
    }
    if who != WHO_IDLE {
        if known(memory) != who {
            remember(cpu, who, now);
        }
        return;
    }
    let rq = run_queue::<A>(comes);
    let who = idle_by::<A>(rq);
    if known(memory) != who {
        remember(cpu, who, now);
    }
    note::<A>(memory, rq);
}

/// Mends an idle stretch that goes on: since a moment at which a thread began to wait it is of core
/// scheduling's making.
#[inline(always)]
fn force_idle(memory: Shared<Occupancy>, cpu: u32, since: u64, now: u64) {
    let began = last_start(memory);
    if since != 0 && since <= now {
        remember(cpu, WHO_FORCED_IDLE, if since > began { since } else { began });
    }
}

/// A thread that waits since a moment is taken away from the CPU of a queue.
#[inline(always)]
pub(super) fn taken_away<A: Access>(cpu: u32, rq: Object, since: u64, now: u64) {
    let Some(memory) = maps::occupancy(cpu) else { return };
    if known(memory) == WHO_IDLE && is_kept_from::<A>(memory, rq) {
        force_idle(memory, cpu, since, now);
    }
}

/// Remembers a switch between strangers, on a CPU that is `armed`.
#[inline(always)]
pub(super) fn strangers<A: Access>(cpu: u32, armed: u32, leaves: Object, comes: Object) {
    let Some(memory) = maps::occupancy(cpu) else { return };
    let left = who::<A>(leaves, false);
    let is_last = armed <= NEWS;
    let who = if is_last { WHO_UNKNOWN } else { who::<A>(comes, false) };
    let before = known(memory);
    if before == left && before == who {
        return arm(cpu, armed - SAME);
    }
    let now = clock::<A>(leaves);
    if before != left {
        mend::<A>(memory, cpu, left, leaves, now);
    }
    begin::<A>(memory, cpu, who, comes, now);
    // Another CPU may have armed this one meanwhile, for a thread that comes to wait here.
    if maps::armed(cpu) == armed {
        arm(cpu, if is_last { 0 } else { armed - NEWS });
    }
}

/// Puts the thread that leaves into the memory where its arrival is missing: because the CPU did not remember
/// then, or because the kernel called no program.
#[inline(always)]
fn mend<A: Access>(memory: Shared<Occupancy>, cpu: u32, left: Who, leaves: Object, now: u64) {
    let arrival = A::u64(leaves, Member::TaskLastArrival);
    let last = last_start(memory);
    // The idle thread has no arrival. One at the begin of the last stretch came with the switch at which the
    // CPU stopped looking.
    if arrival >= last && arrival != 0 && arrival <= now {
        remember(cpu, left, arrival);
    }
}

/// Remembers that `who`, who has not had it, has the CPU from now on.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn remember(cpu: u32, who: Who, now: u64) -> u64 {
    let (Some(memory), Some(totals)) = (maps::occupancy(cpu), totals(cpu)) else { return 0 };
    let displaced = occupancy::remember(memory, totals, |number| maps::checkpoint(cpu, number), who, now);
    if displaced && let Some(stats) = hook_stats(cpu) {
        bump!(stats.occupants_displaced, 1);
    }
    0
}

/// Charges a wait for a CPU that was from `from` until `until` to those who had the CPU.
#[inline(never)]
#[unsafe(no_mangle)]
pub(super) extern "C" fn charge(cpu: u32, index: u32, from: u64, until: u64) -> u64 {
    if let Some(memory) = maps::occupancy(cpu) {
        occupancy::charge(memory, from, until, &mut OnSlot { cpu, index, now: until });
    }
    0
}

/// Charges a slot with the parts of a wait.
struct OnSlot {
    cpu: u32,
    index: u32,
    /// The scheduler's clock, ns.
    now: u64,
}

impl Parts for OnSlot {
    #[inline(always)]
    fn one(&mut self, who: Who, ns: u64) {
        add(self.index, who, ns, self.now);
    }

    #[inline(always)]
    fn stretches(&mut self, before: u64, from: u64, until: u64) -> u64 {
        charge_stretches(self.cpu, self.index, before, from, until)
    }

    #[inline(always)]
    fn gained(&mut self, checkpoint: u64) {
        for first in (0..SHARES as u32).step_by(SOME) {
            charge_gained(self.cpu, self.index, checkpoint, first, self.now);
        }
        charge_gained_by_others(self.cpu, self.index, checkpoint, self.now);
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn charge_stretches(cpu: u32, index: u32, before: u64, from: u64, until: u64) -> u64 {
    let Some(memory) = maps::occupancy(cpu) else { return until };
    // Charged now, whenever it was: entries are aged by that.
    let now = last_start(memory).max(until);
    occupancy::stretches(memory, before, from, until, |who, ns| {
        add(index, who, ns, now);
    })
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn charge_gained(cpu: u32, index: u32, number: u64, first: u32, now: u64) -> u64 {
    let (Some(totals), Some(then)) = (totals(cpu), maps::checkpoint(cpu, number)) else { return 0 };
    shares::gained_by_some(totals, then, first as usize, |who, ns| {
        add(index, who, ns as u64, now);
    });
    0
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn charge_gained_by_others(cpu: u32, index: u32, number: u64, now: u64) -> u64 {
    let (Some(totals), Some(then)) = (totals(cpu), maps::checkpoint(cpu, number)) else { return 0 };
    shares::gained_by_others(totals, then, |who, ns| {
        add(index, who, ns as u64, now);
    });
    0
}

/// Charges a slot: `ns` may be less than nothing, as a number that wraps around.
#[inline(never)]
#[unsafe(no_mangle)]
pub(super) extern "C" fn add(index: u32, who: Who, ns: u64, now: u64) -> u64 {
    let Some(kept) = maps::kept(index as u16) else { return 0 };
    let shares = field!(kept.shares);
    bump!(shares.charged_ns, ns);
    shares::add(field!(shares.table), who, ns, now);
    0
}
