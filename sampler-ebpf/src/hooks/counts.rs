//! The kernel's counts of a thread at a switch.

use sampler_ebpf::abi::{COUNTERS, Counter, Member, VcpuSlot, for_each_counter};

use crate::{
    shared::{Shared, load, store},
    task::{Access, Object},
};

/// What the kernel has counted of a thread that leaves its CPU, each read once: a typed load is checked each
/// time, and costs as much as ten of the program's own.
pub(super) struct Counts {
    counters: [u64; COUNTERS.len()],
    /// When it was given the CPU, on the scheduler's clock, ns.
    pub(super) arrived_ns: u64,
}

impl Counts {
    /// Of a thread that leaves its CPU.
    #[inline(always)]
    pub(super) fn read<A: Access>(task: Object) -> Self {
        let mut counters = [0; COUNTERS.len()];
        for_each_counter(|counter, member| counters[counter as usize] = A::u64(task, member));
        Self { counters, arrived_ns: A::u64(task, Member::TaskLastArrival) }
    }

    /// What came to a counter since the slot was written last.
    #[inline(always)]
    pub(super) fn since(&self, slot: Shared<VcpuSlot>, counter: Counter) -> u64 {
        self.counters[counter as usize].wrapping_sub(load!(slot.counters[counter as usize]))
    }

    /// Puts them into a slot that is being written.
    #[inline(always)]
    pub(super) fn write(&self, slot: Shared<VcpuSlot>) {
        for_each_counter(|counter, _| {
            store!(slot.counters[counter as usize], self.counters[counter as usize]);
        });
    }
}
