//! What a vCPU's slot is told when its thread gets a CPU and when it leaves it.
//!
//! Nothing is timed here. At `sched_switch` the kernel's counts of the thread that leaves are complete: `update_curr()`
//! ran when it was put, its earlier waits were credited when it arrived, and its switch count was raised just before.
//! So a stint, and the wait and the sleep before it, are differences of the kernel's own counts and clock, all known at
//! the stint's end; the begin of a stint needs no more than a mark.

use sampler_ebpf::abi::{
    COUNTERS, Counter, Distribution, Left, Member, SlotShares, VcpuSlot, bucket_of, for_each_counter,
};

use super::{quota::note, timeline::draw};
use crate::task::{Access, Object};

/// Notes that the slot's thread is given a CPU; `charge` charges its wait.
#[inline(always)]
pub(super) fn arrive(slot: *mut VcpuSlot, cpu: u32, charge: impl FnOnce()) {
    // SAFETY: the pointer came from a map look-up that the verifier followed. Volatile keeps the order of the writes
    // between the two steps of `seq`, here and below.
    unsafe {
        begin(slot);
        (&raw mut (*slot).on_cpu).write_volatile(1);
        (&raw mut (*slot).cpu).write_volatile(cpu);
        charge();
        end(slot);
    }
}

/// Charges a part of a wait of a thread that is off its CPU.
#[inline(always)]
pub(super) fn amend(slot: *mut VcpuSlot, charge: impl FnOnce()) {
    // SAFETY: as above.
    unsafe {
        begin(slot);
        charge();
        end(slot);
    }
}

/// How a slot's thread leaves its CPU.
#[derive(Clone, Copy)]
pub(super) struct Departure {
    /// The slot's number.
    pub(super) index: u16,
    /// The CPU.
    pub(super) cpu: u32,
    /// How it leaves.
    pub(super) left: Left,
    /// The scheduler's clock, ns.
    pub(super) now: u64,
}

/// Takes in the stint that ends now; `charge_late` charges a wait of this length right before it that was not charged. Returns the number of switches that the kernel made since the slot's last without
/// calling the program: whole stints by the kernel's count of them, and the begin of this one.
#[inline(always)]
pub(super) fn leave<A: Access>(
    slot: *mut VcpuSlot,
    shares: *mut SlotShares,
    task: Object,
    Departure { index, cpu, left, now }: Departure,
    charge_late: impl FnOnce(u64),
) -> u64 {
    // SAFETY: as above.
    unsafe {
        begin(slot);
        let counts = Counts::read::<A>(task);
        let stints = counts.since(slot, Counter::Timeslices);
        let arrived = (&raw const (*slot).on_cpu).read_volatile() != 0;
        let missed = if (&raw const (*slot).fresh).read_volatile() != 0 {
            0
        } else {
            stints.saturating_sub(1) + u64::from(!arrived)
        };
        if stints <= 1 {
            distribute(slot, &counts, stints == 1);
            draw(slot, index, &counts, stints, now);
        }
        let late = uncharged(slot, shares, &counts);
        if late != 0 && !arrived && stints <= 1 {
            charge_late(late);
        } else if late != 0 {
            // When it was, and on which CPU, is not known.
            let unknown = &raw mut (*shares).unknown_ns;
            unknown.write_volatile(unknown.read_volatile() + late);
        }
        (&raw mut (*shares).charged_ns).write_volatile(0);
        (&raw mut (*slot).on_cpu).write_volatile(0);
        (&raw mut (*slot).cpu).write_volatile(cpu);
        (&raw mut (*slot).fresh).write_volatile(0);
        (&raw mut (*slot).left).write_volatile(left as u32);
        (&raw mut (*slot).left_ns).write_volatile(now);
        note::<A>(slot, task, now);
        counts.write(slot);
        end(slot);
        missed
    }
}

/// What the kernel has counted of a thread that leaves its CPU, each read once: a typed load is checked each time, and costs as
/// much as ten of the program's own.
pub(super) struct Counts {
    counters: [u64; COUNTERS.len()],
    /// When it was given the CPU, on the scheduler's clock, ns.
    pub(super) arrived_ns: u64,
}

impl Counts {
    #[inline(always)]
    fn read<A: Access>(task: Object) -> Self {
        let mut counters = [0; COUNTERS.len()];
        for_each_counter(|counter, member| counters[counter as usize] = A::u64(task, member));
        Self { counters, arrived_ns: A::u64(task, Member::TaskLastArrival) }
    }

    /// What came to a counter since the slot was written last.
    #[inline(always)]
    pub(super) fn since(&self, slot: *const VcpuSlot, counter: Counter) -> u64 {
        // SAFETY: the pointer came from a map look-up that the verifier followed.
        let before = unsafe { (&raw const (*slot).counters[counter as usize]).read_volatile() };
        self.counters[counter as usize].wrapping_sub(before)
    }

    /// # Safety
    /// `slot` points to a slot that nobody else writes now.
    #[inline(always)]
    unsafe fn write(&self, slot: *mut VcpuSlot) {
        for_each_counter(|counter, _| {
            // SAFETY: by contract.
            unsafe {
                (&raw mut (*slot).counters[counter as usize]).write_volatile(self.counters[counter as usize]);
            }
        });
    }
}

/// Adds one stint, and the wait and the sleep before it, to the distributions. From 5.15 on the kernel counts no arrival
/// (`credited`) of a thread that was preempted on its way to sleep: its stint goes on, and it has waited for nothing that
/// the kernel counts.
///
/// # Safety
/// `slot` points to a slot that nobody else writes now.
#[inline(always)]
unsafe fn distribute(slot: *mut VcpuSlot, counts: &Counts, credited: bool) {
    // SAFETY: by contract.
    unsafe {
        let left = (&raw const (*slot).left).read_volatile();
        if left == Left::Unknown as u32 {
            return;
        }
        add(slot, Distribution::Stint, counts.since(slot, Counter::Run));
        if !credited {
            return;
        }
        let waited = counts.since(slot, Counter::RunDelay);
        add(slot, Distribution::Steal, waited);
        let Some(sleep) = Left::sleep(left) else { return };
        add(slot, Distribution::WakeupLatency, waited);
        let left_ns = (&raw const (*slot).left_ns).read_volatile();
        let asleep = asleep(left_ns, counts.arrived_ns, waited);
        let total = &raw mut (*slot).asleep_ns[sleep];
        total.write_volatile(total.read_volatile() + asleep);
    }
}

/// What the kernel added to the run delay and nobody was charged with, ns: the wait before an arrival for which the kernel
/// called no program.
#[inline(always)]
fn uncharged(slot: *const VcpuSlot, shares: *const SlotShares, counts: &Counts) -> u64 {
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    let charged = unsafe { (&raw const (*shares).charged_ns).read_volatile() };
    counts.since(slot, Counter::RunDelay).saturating_sub(charged)
}

/// Time asleep of a thread that was off its CPU from `left_ns` until `until_ns` and waited for one in between.
#[inline(always)]
pub(super) const fn asleep(left_ns: u64, until_ns: u64, waited_ns: u64) -> u64 {
    until_ns.saturating_sub(left_ns).saturating_sub(waited_ns)
}

/// # Safety
/// `slot` points to a slot that nobody else writes now.
#[inline(always)]
unsafe fn add(slot: *mut VcpuSlot, distribution: Distribution, ns: u64) {
    // SAFETY: by contract, and the bucket is inside the array.
    unsafe {
        let histogram = &raw mut (*slot).distributions[distribution as usize];
        let sum = &raw mut (*histogram).sum_ns;
        sum.write_volatile(sum.read_volatile().wrapping_add(ns));
        let count = (&raw mut (*histogram).counts).cast::<u64>().add(bucket_of(ns));
        count.write_volatile(count.read_volatile() + 1);
    }
}

/// # Safety
/// As [`add`].
#[inline(always)]
unsafe fn begin(slot: *mut VcpuSlot) {
    // SAFETY: by contract.
    unsafe {
        let seq = (&raw const (*slot).seq).read_volatile();
        (&raw mut (*slot).seq).write_volatile(seq | 1);
    }
}

/// # Safety
/// As [`add`].
#[inline(always)]
unsafe fn end(slot: *mut VcpuSlot) {
    // SAFETY: by contract.
    unsafe {
        let seq = (&raw const (*slot).seq).read_volatile();
        (&raw mut (*slot).seq).write_volatile(seq + 1);
    }
}
