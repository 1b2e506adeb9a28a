//! Who had each CPU lately, and whom a vCPU's wait is charged to.
//!
//! At `sched_switch` the coming thread's wait is known to the nanosecond before the kernel credits it: it
//! began at `sched_info.last_queued` and ends with the run queue's clock, the very clock that
//! `sched_info_arrive()` reads next. So the wait is laid over what this CPU remembers of itself.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;
use sampler_ebpf::abi::{
    Laying, Member, Occupancy, STRETCHES, SlotShares, WHO_IDLE, WHO_KERNEL, WHO_UNKNOWN, WHO_VCPU, Who,
    entry_at, is_stale, mark_of, who_of,
};

use crate::{
    maps::{arm, occupancy},
    shared::{Shared, bump, field, load, store},
    task::{Access, Object, clock},
};

/// An entry of nobody; the idle thread has a sum of its own.
const WHO_FREE: Who = WHO_IDLE;
/// Entries that a process may have in a table of shares: where it hashes to, and the next ones.
const PROBES: u32 = 4;
/// `PF_KTHREAD`, the same from 2.6.27 to 7.2.
const PF_KTHREAD: u32 = 0x0020_0000;
/// Stretches that a kernel without `bpf_loop` lays a wait over: its verifier follows each, some four hundred
/// instructions.
const SHORT: u64 = 128;
/// What a switch between two threads of one process takes of a CPU's patience, and what any other switch of
/// strangers does.
const SAME: u32 = 1;
const NEWS: u32 = 64;
/// How long a CPU remembers strangers after a vCPU was there, or came to wait: 256 stretches, or 16,384
/// switches inside one process, which write no stretch.
pub(super) const PATIENCE: u32 = 256 * NEWS;

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
    occupancy: Shared<Occupancy>,
    cpu: u32,
    (leaves, leaves_is_vcpu): (Object, bool),
    (comes, comes_is_vcpu): (Object, bool),
    now: u64,
) {
    arm(cpu, PATIENCE);
    let (left, comes) = (who::<A>(leaves, leaves_is_vcpu), who::<A>(comes, comes_is_vcpu));
    if known(occupancy) != left {
        mend::<A>(occupancy, left, leaves, now);
    }
    remember(occupancy, comes, now);
}

/// Remembers a switch between strangers, on a CPU that is `armed`.
#[inline(always)]
pub(super) fn strangers<A: Access>(cpu: u32, armed: u32, leaves: Object, comes: Object) {
    let Some(occupancy) = occupancy(cpu) else { return };
    let left = who::<A>(leaves, false);
    let is_last = armed <= NEWS;
    let comes = if is_last { WHO_UNKNOWN } else { who::<A>(comes, false) };
    let before = known(occupancy);
    if before == left && before == comes {
        return arm(cpu, armed - SAME);
    }
    let now = clock::<A>(leaves);
    if before != left {
        mend::<A>(occupancy, left, leaves, now);
    }
    remember(occupancy, comes, now);
    arm(cpu, if is_last { 0 } else { armed - NEWS });
}

/// Who has had the CPU since the last stretch began.
#[inline(always)]
fn known(occupancy: Shared<Occupancy>) -> Who {
    load!(occupancy.who)
}

/// Puts the thread that leaves into the memory where its arrival is missing: because the CPU did not remember
/// then, or because the kernel called no program.
#[inline(always)]
fn mend<A: Access>(occupancy: Shared<Occupancy>, left: Who, leaves: Object, now: u64) {
    let arrival = A::u64(leaves, Member::TaskLastArrival);
    let last = last_start(occupancy);
    // The idle thread has no arrival. One at the begin of the last stretch came with the switch at which the
    // CPU stopped looking.
    if arrival >= last && arrival != 0 && arrival <= now {
        remember(occupancy, left, arrival);
    }
}

#[inline(always)]
fn last_start(occupancy: Shared<Occupancy>) -> u64 {
    let last = load!(occupancy.written).wrapping_sub(1);
    let last = field!(occupancy.stretches).element(last as usize);
    load!(last.start_ns)
}

/// Remembers that `who` has the CPU from now on.
#[inline(always)]
fn remember(occupancy: Shared<Occupancy>, who: Who, now: u64) {
    if load!(occupancy.who) == who {
        return;
    }
    let written = load!(occupancy.written);
    let next = field!(occupancy.stretches).element(written as usize);
    store!(next.start_ns, now);
    store!(next.who, who);
    store!(occupancy.who, who);
    store!(occupancy.written, written + 1);
}

/// A wait that is to be charged to those who had the CPU.
pub(super) struct Wait {
    /// What the CPU remembers.
    pub(super) occupancy: Shared<Occupancy>,
    /// The waiting vCPU's table.
    pub(super) shares: Shared<SlotShares>,
    /// Begin, ns.
    pub(super) from_ns: u64,
    /// End, ns.
    pub(super) until_ns: u64,
}

/// How a wait is laid over the stretches.
pub(super) trait Overlay {
    /// Charges a wait.
    fn charge(wait: Wait);
    /// Charges a wait whose end was not seen, when the stint after it ends.
    fn charge_late(wait: Wait);
}

/// By `bpf_loop`, over all stretches; from 5.17 on.
pub(super) struct BpfLoop;

impl Overlay for BpfLoop {
    #[inline(always)]
    fn charge(wait: Wait) {
        let mut charge = Charge::new(wait);
        // Nearly all waits end here: the last stretch is the coming thread's own, the one before whom it
        // waited for.
        if charge.step(0) && charge.step(1) {
            let step: unsafe extern "C" fn(u32, *mut c_void) -> i64 = step;
            // SAFETY: the helper calls `step` with the context, which outlives the call.
            unsafe {
                bpf_loop(STRETCHES as u32 - 2, step as *mut c_void, (&raw mut charge).cast::<c_void>(), 0);
            }
        }
        charge.finish();
    }

    #[inline(always)]
    fn charge_late(wait: Wait) {
        Self::charge(wait);
    }
}

/// Body of the loop: returns 1 when it is to end.
///
/// # Safety
/// `charge` points to a [`Charge`].
unsafe extern "C" fn step(back: u32, charge: *mut c_void) -> i64 {
    // SAFETY: by contract.
    let more = unsafe { (*charge.cast::<Charge>()).step(u64::from(back) + 2) };
    i64::from(!more)
}

/// By a loop that the verifier follows to its end, over the last stretches alone.
pub(super) struct Unrolled;

impl Overlay for Unrolled {
    #[inline(always)]
    fn charge(wait: Wait) {
        let mut charge = Charge::new(wait);
        for back in 0..SHORT {
            if !charge.step(back) {
                break;
            }
        }
        charge.finish();
    }

    /// To nobody: they are rare, and another loop is more than the verifiers of old kernels follow.
    #[inline(always)]
    fn charge_late(wait: Wait) {
        add(wait.shares, WHO_UNKNOWN, wait.until_ns - wait.from_ns, wait.until_ns);
    }
}

/// A wait on its way into a table.
struct Charge {
    wait: Wait,
    laying: Laying,
}

impl Charge {
    #[inline(always)]
    fn new(wait: Wait) -> Self {
        let occupancy = wait.occupancy;
        let written = load!(occupancy.written);
        let laying = Laying { from_ns: wait.from_ns, until_ns: wait.until_ns, written };
        Self { wait, laying }
    }

    #[inline(always)]
    fn step(&mut self, back: u64) -> bool {
        let Wait { occupancy, shares, until_ns, .. } = self.wait;
        self.laying.step(
            back,
            |at| {
                let stretch = field!(occupancy.stretches).element(at);
                (load!(stretch.start_ns), load!(stretch.who))
            },
            |who, ns| add(shares, who, ns, until_ns),
        )
    }

    #[inline(always)]
    fn finish(&self) {
        self.laying.rest(|who, ns| add(self.wait.shares, who, ns, self.wait.until_ns));
    }
}

/// Adds to what a process took, at a moment of the scheduler's clock.
#[inline(never)]
fn add(shares: Shared<SlotShares>, who: Who, ns: u64, now: u64) {
    bump!(shares.charged_ns, ns);
    if who == WHO_IDLE {
        return field!(shares.idle_ns).bump(ns);
    }
    if who == WHO_UNKNOWN {
        return field!(shares.unknown_ns).bump(ns);
    }
    let home = who.wrapping_mul(0x9E37_79B1) >> 26;
    let entry = |at: u32| field!(shares.who).element(at as usize);
    let others = |who: Who| field!(shares.others_ns).element(mark_of(who));
    let taken = |at: u32| field!(shares.ns).element(at as usize);
    for at in home..home + PROBES {
        let found = entry(at).load();
        // Its own, or free, where nothing was taken yet. One way for both: the verifier follows each, in each
        // stretch.
        if who_of(found) == who || found == WHO_FREE {
            entry(at).store(entry_at(who, now));
            return taken(at).bump(ns);
        }
    }
    // One of two makes room: one that has taken nothing for long, or the one that took less; but no vCPU for
    // one that is none, for processes come and go by the hundred. The least of all would be a branch for
    // each.
    let other = home + PROBES / 2;
    let first = is_stale(entry(home).load(), now) || taken(home).load() < taken(other).load();
    let at = if first { home } else { other };
    let had = entry(at).load();
    if had & WHO_VCPU & !who != 0 && !is_stale(had, now) {
        return others(who).bump(ns);
    }
    others(had).bump(taken(at).load());
    entry(at).store(entry_at(who, now));
    taken(at).store(ns);
}
