//! What a walk over all threads finds of those that run vCPUs.

use super::{counters::COUNTERS, slot::Left};
use crate::abi::kvm::{KVM_STATS, MODES};

/// One vCPU thread as a walk over all threads found it. Written by the walk alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct WalkRecord {
    /// Number of the walk that wrote this.
    pub generation: u64,
    /// Number of the walk that found the thread, read or not: one that switches at each attempt to read it
    /// still lives.
    pub visited: u64,
    /// `CLOCK_MONOTONIC` at the moment of reading, ns.
    pub monotonic_ns: u64,
    /// The scheduler's clock at that moment, ns: the clock in which run time and run delay are counted.
    pub sched_ns: u64,
    /// Kernel's counts, in the order of [`COUNTERS`].
    pub counters: [u64; COUNTERS.len()],
    /// CPU time since the kernel last brought its count up to date, ns; 0 off the CPU.
    pub running_ns: u64,
    /// The scheduler's clock when the thread was given a CPU last, ns.
    pub arrived_ns: u64,
    /// Length of the wait that is going on, ns: not yet in the kernel's run delay; 0 when the thread does not
    /// wait.
    pub waiting_ns: u64,
    /// Part of that wait for which a CPU quota has held the thread back, ns.
    pub held_back_ns: u64,
    /// The same of all waits that ended since the thread has its slot, ns.
    pub throttled_ns: u64,
    /// Time asleep since the thread has its slot, by [`Left`], the sleep that goes on included, ns.
    pub asleep_ns: [u64; Left::COUNT],
    /// 1 when the thread was on a CPU.
    pub on_cpu: u32,
    /// CPU that it is on, or on whose queue it waits; of one that sleeps the last.
    pub cpu: u32,
    /// CPU time in each [`crate::abi::Mode`], by its place, since the thread has its slot, what goes on
    /// included, ns.
    pub modes_ns: [u64; MODES],
    /// Times that the modes could no longer be observed.
    pub modes_gaps: u32,
    /// Entries into the guest and exits from it without the other.
    pub unpaired: u32,
    /// Part of the time in [`crate::abi::Mode::Inside`] that was the kernel's, an estimate, ns.
    pub stands_ns: u64,
    /// 1 while the modes are observed, 0 while they are not; [`WalkRecord::MODES_TORN`] where they changed at
    /// each attempt to read them: then what the record has of them is the walk's before.
    pub modes_observed: u32,
    /// Number of the thread's control group in the io controller; 0 where this kernel has none.
    pub io_group: u32,
    /// Serial number of that, which no other control group will ever have.
    pub io_serial: u64,
    /// The control group itself: its inode in the file system of control groups.
    pub io_cgroup: u64,
    /// Number of the last walk if it read what KVM counts of the vCPU; 0 when it did not, because the vCPU is
    /// no longer the thread's: `kvm` says nothing then.
    pub kvm_generation: u64,
    /// What KVM has counted, in the order of [`KVM_STATS`]; what this kernel does not count stays 0.
    pub kvm: [u64; KVM_STATS.len()],
}

impl WalkRecord {
    /// No walk has written it.
    pub const EMPTY: Self = Self {
        generation: 0,
        visited: 0,
        monotonic_ns: 0,
        sched_ns: 0,
        counters: [0; COUNTERS.len()],
        running_ns: 0,
        arrived_ns: 0,
        waiting_ns: 0,
        held_back_ns: 0,
        throttled_ns: 0,
        asleep_ns: [0; Left::COUNT],
        on_cpu: 0,
        cpu: 0,
        modes_ns: [0; MODES],
        modes_gaps: 0,
        unpaired: 0,
        stands_ns: 0,
        modes_observed: 0,
        io_group: 0,
        io_serial: 0,
        io_cgroup: 0,
        kvm_generation: 0,
        kvm: [0; KVM_STATS.len()],
    };

    /// Of `modes_observed`: they could not be read.
    pub const MODES_TORN: u32 = 2;
}

/// What user space and the walk pass to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// Number of the walk that comes next.
    pub generation: u64,
    /// Scheduler's clock minus `CLOCK_MONOTONIC` (wrapping), measured by the walk at its start.
    pub clock_offset_ns: u64,
    /// Number of the walk that measured it.
    pub calibrated: u64,
    /// Helper threads that the walk has listed so far. User space sets it to 0 before each walk.
    pub helpers: u64,
}

/// Statistics of the walks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct WalkStats {
    /// Threads visited.
    pub threads: u64,
    /// Threads announced as new vCPUs by a walk.
    pub announced: u64,
    /// Events that did not fit into the ring buffer.
    pub events_lost: u64,
    /// Threads that switched during each of the attempts to read them: their record keeps the walk before.
    pub torn: u64,
    /// Helper threads that a walk found and had no record for.
    pub helpers_dropped: u64,
}
