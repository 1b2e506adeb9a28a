//! The memory that the programs write and user space maps: no system call to read it.

use super::{
    counters::{COUNTERS, KVM_STATS},
    histogram::{DISTRIBUTIONS, Histogram},
    modes::MODES,
};

/// vCPU threads that can be followed at once, slot 0 included.
pub const MAX_SLOTS: u32 = 4096;
/// CPUs that have their own statistics block.
pub const MAX_CPUS: u32 = 1024;
/// Threads in one entry of the pid table. The kernel rounds array values up to 8 bytes, so one thread an
/// entry would cost four times its memory: 32 MiB instead of 8 at the largest `pid_max`.
pub const PIDS_PER_BLOCK: u32 = 32;
/// One entry of the pid table: the slots of [`PIDS_PER_BLOCK`] consecutive thread ids.
pub type PidBlock = [u16; PIDS_PER_BLOCK as usize];
/// Bits of the filter before the pid table: thread ids modulo this number. 4 KiB stay in the first-level cache,
/// and with 1,600 vCPUs one stranger in twenty passes by chance and pays for the look-up.
pub const FILTER_BITS: u32 = 1 << 15;
/// The filter: a bit is set while a followed thread's id falls on it.
pub type Filter = [u64; (FILTER_BITS / 64) as usize];
/// Entry of the pid table: this thread has no slot. Slot 0 is never given out.
pub const NO_SLOT: u16 = 0;
/// Entry of the pid table: the thread was announced, user space has not given it a slot yet.
pub const SLOT_PENDING: u16 = u16::MAX;

/// One vCPU thread, written by the scheduler program at its switches.
///
/// Single writer: a thread runs on one CPU at a time, and its switch-out on one CPU happens before its
/// switch-in on the next. `seq` is odd while a write goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct VcpuSlot {
    /// Writes begun plus writes ended.
    pub seq: u64,
    /// Address of the thread's `task_struct`, its identity while it lives. User space writes it when it gives the slot out.
    pub task: u64,
    /// Address of the `struct kvm_vcpu` that it ran when it was seen; KVM keeps it while the VM lives.
    pub vcpu: u64,
    /// 1 from a switch-in to the next switch-out.
    pub on_cpu: u32,
    /// CPU of the last switch.
    pub cpu: u32,
    /// Kernel's counts when the thread left its CPU last, in the order of [`COUNTERS`].
    pub counters: [u64; COUNTERS.len()],
    /// The scheduler's clock at that moment, ns.
    pub left_ns: u64,
    /// A [`Left`] as a number: how it left.
    pub left: u32,
    /// 1 until the first switch after the slot was given out: switches before it may be missing.
    pub fresh: u32,
    /// Time asleep since the slot was given out, by [`Left::sleep`]; without the sleep that goes on.
    pub asleep_ns: [u64; Left::SLEEPS],
    /// Address of the run queue on which the thread waits or will wait: its group's on its CPU. 0 when it is not known.
    pub quota_queue: u64,
    /// Time for which CPU quotas had held that queue back when the thread left its CPU or came to the queue, ns.
    pub quota_clock_ns: u64,
    /// The clock of that time at that moment, ns.
    pub quota_noted_ns: u64,
    /// Part of the waits since the slot was given out for which CPU quotas held the thread back, ns; without the wait that goes on.
    pub throttled_ns: u64,
    /// Distributions since the slot was given out, in the order of [`DISTRIBUTIONS`].
    pub distributions: [Histogram; DISTRIBUTIONS.len()],
}

impl VcpuSlot {
    /// Nobody's.
    pub const EMPTY: Self = Self {
        seq: 0,
        task: 0,
        vcpu: 0,
        on_cpu: 0,
        cpu: 0,
        counters: [0; COUNTERS.len()],
        left_ns: 0,
        left: Left::Unknown as u32,
        fresh: 0,
        asleep_ns: [0; Left::SLEEPS],
        quota_queue: 0,
        quota_clock_ns: 0,
        quota_noted_ns: 0,
        throttled_ns: 0,
        distributions: [Histogram::EMPTY; DISTRIBUTIONS.len()],
    };
}

/// How a thread left its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Left {
    /// Nobody saw it.
    Unknown = 0,
    /// It could have gone on: it waits for a CPU from then on.
    Runnable = 1,
    /// The guest halted, and KVM put the thread to sleep.
    Halted = 2,
    /// It sleeps anywhere else: in the VMM, for a page, paused.
    Blocked = 3,
}

impl Left {
    /// Kinds of sleep.
    pub const SLEEPS: usize = 2;

    /// Index of the sleep that begins so; `None` for a number that begins no sleep.
    #[must_use]
    #[inline(always)]
    pub const fn sleep(left: u32) -> Option<usize> {
        // Not by subtraction and comparison: the verifier would have to follow that.
        if left == Self::Halted as u32 {
            Some(0)
        } else if left == Self::Blocked as u32 {
            Some(1)
        } else {
            None
        }
    }
}

/// One vCPU thread as a walk over all threads found it. Written by the walk alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct WalkRecord {
    /// Number of the walk that wrote this.
    pub generation: u64,
    /// Number of the walk that found the thread, read or not: one that switches at each attempt to read it still lives.
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
    /// Length of the wait that is going on, ns: not yet in the kernel's run delay; 0 when the thread does not wait.
    pub waiting_ns: u64,
    /// Part of that wait for which a CPU quota has held the thread back, ns.
    pub held_back_ns: u64,
    /// The same of all waits that ended since the thread has its slot, ns.
    pub throttled_ns: u64,
    /// Time asleep since the thread has its slot, by [`Left::sleep`], the sleep that goes on included, ns.
    pub asleep_ns: [u64; Left::SLEEPS],
    /// 1 when the thread was on a CPU.
    pub on_cpu: u32,
    /// CPU that it is on, or on whose queue it waits; of one that sleeps the last.
    pub cpu: u32,
    /// CPU time in each [`super::Mode`] since the thread has its slot, what goes on included, ns.
    pub modes_ns: [u64; MODES],
    /// Times that the modes could no longer be told.
    pub modes_gaps: u64,
    /// Entries into the guest and exits from it without the other.
    pub unpaired: u64,
    /// 1 while the modes are told, 0 while they are not; [`WalkRecord::MODES_TORN`] where they changed at each attempt to read
    /// them: then what the record has of them is the walk's before.
    pub modes_observed: u32,
    /// Keeps the layout explicit.
    pub _pad: u32,
    /// Number of the last walk if it read what KVM counts of the vCPU; 0 when it did not, because the vCPU is no longer the
    /// thread's: `kvm` says nothing then.
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
        asleep_ns: [0; Left::SLEEPS],
        on_cpu: 0,
        cpu: 0,
        modes_ns: [0; MODES],
        modes_gaps: 0,
        unpaired: 0,
        modes_observed: 0,
        _pad: 0,
        kvm_generation: 0,
        kvm: [0; KVM_STATS.len()],
    };

    /// Of `modes_observed`: they could not be read.
    pub const MODES_TORN: u32 = 2;
}

/// What user space and the walk tell each other.
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

/// Statistics of the scheduler program, one block per CPU so that each has a single writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct HookStats {
    /// Switches of followed vCPU threads, out and in.
    pub vcpu_switches: u64,
    /// Threads announced as new vCPUs.
    pub announced: u64,
    /// Followed threads that ended.
    pub gone: u64,
    /// Events that did not fit into the ring buffer.
    pub events_lost: u64,
    /// Switches of a thread whose pid still named the slot of an earlier thread.
    pub stale_slots: u64,
    /// Switches of followed threads that the kernel made without calling the program, begins or ends of stints: until
    /// the thread's next switch its slot was behind. Walks and later switches are not affected, for all counts are
    /// cumulative.
    pub missed_switches: u64,
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
