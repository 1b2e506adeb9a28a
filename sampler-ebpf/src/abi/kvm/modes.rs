//! What a vCPU's thread does with the CPU time that it gets, and why the guest was left.

use super::exits::EXIT_ROWS;

/// What a thread that runs a vCPU does while it is on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// No hook has reported a mode yet, or the modes are not to be observed.
    Unobserved = 0,
    /// In the host's kernel on the vCPU's behalf: inside `KVM_RUN`, and not in the guest.
    Kernel = 1,
    /// The guest's own code, between `kvm_entry` and `kvm_exit`.
    Guest = 2,
    /// In the VMM, or in the kernel for it: outside `KVM_RUN`.
    Vmm = 3,
    /// Inside `KVM_RUN`: in the guest or in the kernel, of which the times are not measured apart. What
    /// follows an exit that is not timed.
    Inside = 4,
}

/// Modes that have times: all but [`Mode::Unobserved`]. A power of two, so that verifiers follow an index.
pub const MODES: usize = 4;

impl Mode {
    /// Where its time is in a table of all of them.
    #[must_use]
    pub const fn place(self) -> usize {
        mode_place(self as u32)
    }
}

/// Where the time of a [`Mode`] as a number is in a table of all of them. [`Mode::Unobserved`] has no time,
/// and no place of its own.
#[must_use]
#[inline(always)]
pub const fn mode_place(mode: u32) -> usize {
    mode.wrapping_sub(1) as usize % MODES
}

/// The modes of one vCPU thread. Written by the programs on KVM's hooks, which the thread itself calls, and
/// by the scheduler's at its switches. Up to 6.19 tracepoints call programs with preemption off; later only
/// those of `kvm_entry` and `kvm_exit` cannot be preempted. So a switch may find `seq` odd: it then leaves
/// everything to the program that it cut, but for `away_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct Modes {
    /// Writes begun plus writes ended: odd while one goes on.
    pub seq: u64,
    /// The thread, as `bpf_get_current_pid_tgid` has it: process id in the upper half, thread id in the lower
    /// one. The programs on KVM's hooks know it by nothing else, for each further helper that they call costs
    /// as much as all they write. Both ids may be used again: the end of the thread before clears the pid
    /// table. Where that was not seen, the next switch or walk finds that [`crate::abi::VcpuSlot::task`] is
    /// another's; what is written until then is of a thread that has ended. User space writes it when it
    /// gives the slot out.
    pub thread: u64,
    /// `CLOCK_MONOTONIC` when the mode began, or when the thread was given its CPU in it; 0 off a CPU, ns.
    pub since_ns: u64,
    /// A [`Mode`] as a number.
    pub mode: u32,
    /// Not 0 while the modes are to be observed: the number of this observation. Written by user space alone.
    pub epoch: u32,
    /// CPU time in each [`Mode`], by [`Mode::place`], without what goes on, ns.
    pub ns: [u64; MODES],
    /// `CLOCK_MONOTONIC` of the exit that no entry has followed yet; 0 where there is none, or where it is
    /// not timed, ns.
    pub exit_ns: u64,
    /// `CLOCK_MONOTONIC` when `KVM_RUN` was left after that exit; 0 before, and once the guest was entered,
    /// ns.
    pub user_ns: u64,
    /// The row of that exit in `exits`.
    pub exit_row: u8,
    /// 1 from a switch that came between an exit and its `kvm_exit`, which KVM for AMD calls late up to 6.1.
    pub is_cut: u8,
    /// 1 when the last exit was counted as one that went on to the VMM.
    pub is_vmms: u8,
    /// 1 from an exit to the next entry.
    pub is_out: u8,
    /// How many exits the last one stands for, if it is timed.
    pub weight: u8,
    /// One exit in so many is timed, less one: 0, or a power of two less one. Written by user space alone.
    pub timed_mask: u8,
    /// Keeps the layout explicit.
    pub _pad: u16,
    /// The epoch that the programs have seen: what they wrote under another is no longer true.
    pub epoch_seen: u32,
    /// By which the timed exits are chosen, so that no rhythm of the guest's decides: a linear congruential
    /// generator.
    pub dice: u32,
    /// Times that the modes could no longer be observed; wraps around.
    pub gaps: u32,
    /// Entries and exits without the other; wraps around.
    pub unpaired: u32,
    /// Time in the kernel for the exits that timed ones stand for beside themselves, an estimate: part of the
    /// time in [`Mode::Inside`], ns.
    pub stands_ns: u64,
    /// `CLOCK_MONOTONIC` when `KVM_RUN` began; 0 once the guest was entered, and outside, ns.
    pub inside_ns: u64,
    /// Time off the CPU within a write, ns: the scheduler's program adds to it where it cuts another.
    pub away_ns: u64,
    /// Exits, by the row of the processor's table of reasons.
    pub exits: [ExitCounts; EXIT_ROWS],
}

/// Buckets of an exit's latencies: as those of [`crate::histogram::Histogram`], the last one for all that are
/// longer than 4 s too.
pub const EXIT_BUCKETS: usize = 26;

/// Exits of one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ExitCounts {
    /// How many; wraps around.
    pub count: u32,
    /// How many of them went on to the VMM; wraps around.
    pub user_count: u32,
    /// Time from `kvm_exit` to the next `kvm_entry`, ns; of one that is timed as often as it stands for
    /// others.
    pub ns: u64,
    /// Part of it outside `KVM_RUN`, ns.
    pub user_ns: u64,
    /// Those times by length, likewise; each wraps around.
    pub counts: [u32; EXIT_BUCKETS],
}

/// Where the programs find the reason of an exit on kernels whose `kvm_exit` does not pass it: offsets in
/// structures of the processor's own KVM module, 0 where they are not known: none of these members is its
/// structure's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct ExitOffsets {
    /// The reason in `struct vcpu_vmx`, which begins with the `struct kvm_vcpu`.
    pub vmx_reason: u32,
    /// The control block in `struct vcpu_svm`, which begins with the `struct kvm_vcpu`.
    pub svm_vmcb: u32,
    /// The reason in `struct vmcb`.
    pub svm_code: u32,
    /// Keeps the layout explicit.
    pub _pad: u32,
}

impl ExitOffsets {
    /// None is known.
    pub const UNSET: Self = Self { vmx_reason: 0, svm_vmcb: 0, svm_code: 0, _pad: 0 };
}

impl Modes {
    /// The `thread` of a thread.
    #[must_use]
    pub const fn thread_of(tgid: u32, tid: u32) -> u64 {
        (tgid as u64) << 32 | tid as u64
    }

    /// Nothing is known of the thread, and nothing is to be observed.
    #[must_use]
    pub const fn new(tgid: u32, tid: u32) -> Self {
        const NO_EXITS: ExitCounts =
            ExitCounts { count: 0, user_count: 0, ns: 0, user_ns: 0, counts: [0; EXIT_BUCKETS] };
        Self {
            seq: 0,
            thread: Self::thread_of(tgid, tid),
            since_ns: 0,
            mode: Mode::Unobserved as u32,
            epoch: 0,
            ns: [0; MODES],
            exit_ns: 0,
            user_ns: 0,
            exit_row: 0,
            is_cut: 0,
            is_vmms: 0,
            is_out: 0,
            weight: 1,
            timed_mask: 0,
            _pad: 0,
            epoch_seen: 0,
            dice: 0,
            gaps: 0,
            unpaired: 0,
            stands_ns: 0,
            inside_ns: 0,
            away_ns: 0,
            exits: [NO_EXITS; EXIT_ROWS],
        }
    }
}
