//! A vCPU thread's slot, and how programs find it by the thread's id. User space maps this memory: no system
//! call to read it.

use super::{counters::COUNTERS, distributions::DISTRIBUTIONS};
use crate::histogram::Histogram;

/// Thread ids that a 64-bit kernel has at most (`PID_MAX_LIMIT`). The tables have room for all of them, for
/// `pid_max` may be raised at any time.
pub const MAX_PIDS: u32 = 4 << 20;
/// Threads in one entry of the pid table. The kernel rounds array values up to 8 bytes, so one thread an
/// entry would cost four times its memory: 32 MiB instead of 8.
pub const PIDS_PER_BLOCK: u32 = 32;
/// One entry of the pid table: the slots of [`PIDS_PER_BLOCK`] consecutive thread ids.
pub type PidBlock = [u16; PIDS_PER_BLOCK as usize];
/// Bits of the filter before the pid table: thread ids modulo this number. 4 KiB stay in the first-level
/// cache, and with 1,600 vCPUs one stranger in twenty passes by chance and pays for the look-up.
pub const FILTER_BITS: u32 = 1 << 15;
/// The filter: a bit is set while a followed thread's id falls on it.
pub type Filter = [u64; (FILTER_BITS / 64) as usize];
/// Entry of the pid table: this thread has no slot. Slot 0 is never given out.
pub const NO_SLOT: u16 = 0;
/// Time that a thread keeps its slot at least, ns: one that runs two vCPUs in turn is not announced at each
/// switch.
pub const KEPT_NS: u64 = 100_000_000;
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
    /// Address of the thread's `task_struct`, its identity while it lives. User space writes it when it gives
    /// the slot out.
    pub task: u64,
    /// Address of the `struct kvm_vcpu` that it ran when it was seen; KVM keeps it while the VM lives. A
    /// thread that runs another one is announced again.
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
    /// Time asleep since the slot was given out, by [`Left`]; without the sleep that goes on.
    pub asleep_ns: [u64; Left::COUNT],
    /// Address of the run queue on which the thread waits or will wait: its group's on its CPU. 0 when it is
    /// not known, or no quota of a group is for the thread; [`VcpuSlot::NEXT_PERIOD`] of one of the deadline
    /// class that has used up its runtime.
    pub quota_queue: u64,
    /// Time for which CPU quotas had held that queue back when the thread left its CPU or came to the queue,
    /// ns; with [`VcpuSlot::NEXT_PERIOD`] the scheduler's clock when that begins.
    pub quota_clock_ns: u64,
    /// The clock of that time at that moment, ns.
    pub quota_noted_ns: u64,
    /// Part of the waits since the slot was given out for which CPU quotas held the thread back, ns; without
    /// the wait that goes on.
    pub throttled_ns: u64,
    /// The scheduler's clock when the slot was given out, ns.
    pub begun_ns: u64,
    /// Distributions since the slot was given out, in the order of [`DISTRIBUTIONS`].
    pub distributions: [Histogram; DISTRIBUTIONS.len()],
}

impl VcpuSlot {
    /// Of `quota_queue`: what holds the thread back is its own runtime, until its next period. No queue has
    /// this address.
    pub const NEXT_PERIOD: u64 = 1;

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
        asleep_ns: [0; Left::COUNT],
        quota_queue: 0,
        quota_clock_ns: 0,
        quota_noted_ns: 0,
        throttled_ns: 0,
        begun_ns: 0,
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
    /// It waits for I/O inside `KVM_RUN`: for a page.
    FaultIo = 3,
    /// It waits for anything else inside `KVM_RUN`: for a page that another process brings, for a lock.
    Fault = 4,
    /// It waits for I/O outside `KVM_RUN`.
    VmmIo = 5,
    /// It sleeps outside `KVM_RUN`.
    Vmm = 6,
    /// It was stopped.
    Stopped = 7,
}

impl Left {
    /// Ways to leave a CPU: a power of two, so that programs need not compare a number with it.
    pub const COUNT: usize = 8;

    /// Whether a thread that left so sleeps.
    #[must_use]
    #[inline(always)]
    pub const fn is_sleep(left: u32) -> bool {
        left >= Self::Halted as u32
    }

    /// Place of a number among the times of a slot.
    #[must_use]
    #[inline(always)]
    pub const fn place(left: u32) -> usize {
        left as usize % Self::COUNT
    }
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
    /// Switches of followed threads that the kernel made without calling the program, begins or ends of
    /// stints: until the thread's next switch its slot was behind. Walks and later switches are not affected,
    /// for all counts are cumulative.
    pub missed_switches: u64,
    /// Moves of waiting followed threads for which the kernel called no program: the wait before such a move
    /// is nobody's.
    pub missed_moves: u64,
    /// Time of waits that are nobody's because of missed switches and moves, ns.
    pub missed_ns: u64,
    /// Times that a process lost its entry in a CPU's totals to another, also one that was there no more.
    pub occupants_displaced: u64,
}
