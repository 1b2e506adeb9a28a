//! What is written to a vCPU's slot when its thread gets a CPU and when it leaves it.
//!
//! Nothing is timed here. At `sched_switch` the kernel's counts of the thread that leaves are complete:
//! `update_curr()` ran when it was put, its earlier waits were credited when it arrived, and its switch count
//! was raised just before. So a stint, and the wait and the sleep before it, are differences of the kernel's
//! own counts and clock, all known at the stint's end; the begin of a stint needs no more than a mark.

use sampler_ebpf::{
    abi::{Counter, Distribution, Followed, Left, SlotShares, VcpuSlot, WHO_UNKNOWN},
    histogram::bucket_of,
};

use super::{counts::Counts, quota::note, timeline::draw};
use crate::{
    shared::{Shared, bump, field, load, store, written},
    task::{Access, Object},
};

/// Notes that the slot's thread is given a CPU; `charge` charges its wait.
#[inline(always)]
pub(super) fn arrive(slot: Shared<VcpuSlot>, cpu: u32, charge: impl FnOnce()) {
    written(field!(slot.seq), || {
        store!(slot.on_cpu, 1);
        store!(slot.cpu, cpu);
        charge();
    });
}

/// Charges a part of a wait of a thread that is off its CPU.
#[inline(always)]
pub(super) fn amend(slot: Shared<VcpuSlot>, charge: impl FnOnce()) {
    written(field!(slot.seq), charge);
}

/// How a slot's thread leaves its CPU.
#[derive(Clone, Copy)]
pub(super) struct Departure {
    /// The slot's number.
    pub(super) index: u32,
    /// The CPU.
    pub(super) cpu: u32,
    /// How it leaves, a [`Left`] as a number.
    pub(super) left: u32,
    /// The scheduler's clock, ns.
    pub(super) now: u64,
}

/// What the kernel did with a thread since its last switch without calling a program.
pub(super) struct Missed {
    /// Switches: whole stints by the kernel's count of them, and the begin of the one that ends.
    pub(super) switches: u64,
    /// Moves to another CPU: of a wait whose end was seen a part was not.
    pub(super) moves: u64,
    /// Time of waits that is nobody's for that, ns.
    pub(super) ns: u64,
}

/// Takes in the stint that ends now; `charge_late` charges a wait of this length right before it that was not
/// charged. Returns what the kernel did since the slot's last switch without calling the program.
#[inline(always)]
pub(super) fn leave<A: Access>(
    kept: Shared<Followed>,
    task: Object,
    Departure { index, cpu, left, now }: Departure,
    charge_late: impl FnOnce(u64),
) -> Missed {
    let (slot, shares) = (field!(kept.slot), field!(kept.shares));
    written(field!(slot.seq), || {
        let counts = Counts::read::<A>(task);
        let stints = counts.since(slot, Counter::Timeslices);
        let arrived = load!(slot.on_cpu) != 0;
        if stints <= 1 {
            distribute(slot, &counts, stints == 1);
            draw(slot, field!(kept.timeline), &counts, stints, now);
        }
        let late = uncharged(slot, shares, &counts);
        let (is_fresh, nobodys) = (load!(slot.fresh) != 0, late != 0 && (arrived || stints > 1));
        let missed = Missed {
            switches: if is_fresh { 0 } else { stints.saturating_sub(1) + u64::from(!arrived) },
            moves: u64::from(!is_fresh && nobodys && stints <= 1),
            ns: if !is_fresh && nobodys { late } else { 0 },
        };
        if nobodys {
            // When it was, and on which CPU, is not known.
            super::occupancy::add(index, WHO_UNKNOWN, late, now);
        } else if late != 0 {
            charge_late(late);
        }
        store!(shares.charged_ns, 0);
        store!(slot.on_cpu, 0);
        store!(slot.cpu, cpu);
        store!(slot.fresh, 0);
        store!(slot.left, left);
        store!(slot.left_ns, now);
        note::<A>(slot, task, now);
        counts.write(slot);
        missed
    })
}

/// Adds one stint, and the wait and the sleep before it, to the distributions. From 5.15 on the kernel counts
/// no arrival (`credited`) of a thread that was preempted on its way to sleep: its stint goes on, and it has
/// waited for nothing that the kernel counts.
#[inline(always)]
fn distribute(slot: Shared<VcpuSlot>, counts: &Counts, credited: bool) {
    let left = load!(slot.left);
    if left == Left::Unknown as u32 {
        return;
    }
    add(slot, Distribution::Stint, counts.since(slot, Counter::Run));
    if !credited {
        return;
    }
    let waited = counts.since(slot, Counter::RunDelay);
    add(slot, Distribution::Steal, waited);
    if Left::is_sleep(left) {
        add(slot, Distribution::WakeupLatency, waited);
        let left_ns = load!(slot.left_ns);
        bump!(slot.asleep_ns[Left::place(left)], asleep(left_ns, counts.arrived_ns, waited));
    }
}

/// What the kernel added to the run delay and nobody was charged with, ns: the wait before an arrival for
/// which the kernel called no program.
#[inline(always)]
fn uncharged(slot: Shared<VcpuSlot>, shares: Shared<SlotShares>, counts: &Counts) -> u64 {
    let charged = load!(shares.charged_ns);
    counts.since(slot, Counter::RunDelay).saturating_sub(charged)
}

/// Time asleep of a thread that was off its CPU from `left_ns` until `until_ns` and waited for one in
/// between.
#[inline(always)]
pub(super) const fn asleep(left_ns: u64, until_ns: u64, waited_ns: u64) -> u64 {
    until_ns.saturating_sub(left_ns).saturating_sub(waited_ns)
}

#[inline(always)]
fn add(slot: Shared<VcpuSlot>, distribution: Distribution, ns: u64) {
    let histogram = field!(slot.distributions[distribution as usize]);
    bump!(histogram.sum_ns, ns);
    field!(histogram.counts).element(bucket_of(ns)).bump(1);
}
