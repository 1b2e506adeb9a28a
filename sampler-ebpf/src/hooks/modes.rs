//! The modes of a vCPU's thread: what all hooks that write them share, and what a switch does to them.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use sampler_ebpf::abi::{MODES, Mode, Modes};

/// How often a program that is preempted while it looks at the clock looks again.
const TRIES: u32 = 3;

/// A vCPU's thread at a switch.
#[derive(Clone, Copy)]
pub(super) struct Switched {
    pub(super) modes: *mut Modes,
    /// It is inside a vCPU ioctl.
    pub(super) in_ioctl: bool,
    /// How long it has had its CPU, ns; 0 of one that comes.
    pub(super) stint_ns: u64,
}

/// A switch between threads of which one or both run vCPUs.
#[inline(always)]
pub(super) fn switch(leaves: Option<Switched>, comes: Option<Switched>) {
    // SAFETY: the pointers came from map look-ups that the verifier followed, and both threads' run queue is locked.
    unsafe {
        // A write that is under way goes on as it began.
        let is_observed_now = |modes: *mut Modes| is_written(modes) || is_observed(modes);
        let leaves = leaves.filter(|leaves| is_observed_now(leaves.modes));
        let comes = comes.filter(|comes| is_observed_now(comes.modes));
        if leaves.is_none() && comes.is_none() {
            return;
        }
        let now = bpf_ktime_get_ns();
        if let Some(leaves) = leaves {
            depart(leaves, now);
        }
        if let Some(comes) = comes {
            arrive(comes, now);
        }
    }
}

/// Whether the modes are to be told. Where they were not meanwhile, what was known is forgotten.
///
/// # Safety
/// `modes` belongs to a thread which nobody else writes about now, here and below.
#[inline(always)]
pub(super) unsafe fn is_observed(modes: *mut Modes) -> bool {
    // SAFETY: by contract, here and below.
    unsafe {
        let epoch = (&raw const (*modes).epoch).read_volatile();
        if epoch != (&raw const (*modes).epoch_seen).read_volatile() {
            reset(modes, epoch);
        }
        epoch != 0
    }
}

/// The thread leaves its CPU: what it was doing there ends. Whether it is inside a vCPU ioctl is known at a switch for certain.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn depart(leaves: Switched, now: u64) {
    let Switched { modes, in_ioctl, stint_ns } = leaves;
    // SAFETY: by contract, here and below.
    unsafe {
        if is_written(modes) {
            // Counted back when it comes again.
            let away = &raw mut (*modes).away_ns;
            return away.write_volatile(away.read_volatile().wrapping_sub(now));
        }
        begin(modes);
        let before = mode(modes);
        let since = &raw mut (*modes).since_ns;
        if before != Mode::Unobserved as u32 {
            // Where the kernel called no program when it was given its CPU, or when it left it before, what is known is older.
            let arrived = now.saturating_sub(stint_ns);
            let known = since.read_volatile();
            since.write_volatile(if known > arrived { known } else { arrived });
        }
        // Never found in the guest: the host's kernel runs here.
        let next = if in_ioctl && before != Mode::Vmm as u32 { Mode::Kernel } else { Mode::Vmm };
        pass(modes, next, now);
        since.write_volatile(0);
        if before == Mode::Guest as u32 {
            (&raw mut (*modes).is_cut).write_volatile(1);
        }
        end(modes);
    }
}

/// The thread is given a CPU.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn arrive(comes: Switched, now: u64) {
    let Switched { modes, in_ioctl, .. } = comes;
    // SAFETY: by contract.
    unsafe {
        if is_written(modes) {
            return bump(&raw mut (*modes).away_ns, now);
        }
        begin(modes);
        if mode(modes) == Mode::Unobserved as u32 {
            set_mode(modes, if in_ioctl { Mode::Kernel } else { Mode::Vmm });
        }
        (&raw mut (*modes).since_ns).write_volatile(now);
        end(modes);
    }
}

/// Whether a program of the thread's own was cut in the middle of a write.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn is_written(modes: *const Modes) -> bool {
    // SAFETY: by contract.
    unsafe { (&raw const (*modes).seq).read_volatile() & 1 != 0 }
}

/// Ends what goes on and begins `next`, in a program that may be preempted, between [`begin`] and [`end`]. Returns the moment.
///
/// # Safety
/// As above.
#[inline(always)]
pub(super) unsafe fn pass_preemptible(modes: *mut Modes, next: Mode) -> u64 {
    // SAFETY: by contract; the helper has no preconditions.
    unsafe {
        let away_ns = &raw const (*modes).away_ns;
        let since = &raw mut (*modes).since_ns;
        let away = || away_ns.read_volatile();
        // What it was away before that moment is not of what ends; what it is away after it not of what begins.
        let (mut gone, mut now) = (away(), bpf_ktime_get_ns());
        for _ in 0..TRIES {
            let again = away();
            if again == gone {
                break;
            }
            (gone, now) = (again, bpf_ktime_get_ns());
        }
        let known = since.read_volatile();
        if known != 0 {
            since.write_volatile(known + gone);
        }
        pass(modes, next, now);
        let late = away().wrapping_sub(gone);
        if late != 0 {
            since.write_volatile(now + late);
        }
        now
    }
}

/// Nothing is known until the next hook tells.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn reset(modes: *mut Modes, epoch: u32) {
    // SAFETY: by contract.
    unsafe {
        begin(modes);
        if mode(modes) != Mode::Unobserved as u32 {
            set_mode(modes, Mode::Unobserved);
            bump(&raw mut (*modes).gaps, 1);
        }
        (&raw mut (*modes).since_ns).write_volatile(0);
        (&raw mut (*modes).exit_ns).write_volatile(0);
        (&raw mut (*modes).user_ns).write_volatile(0);
        (&raw mut (*modes).inside_ns).write_volatile(0);
        (&raw mut (*modes).is_cut).write_volatile(0);
        (&raw mut (*modes).is_vmms).write_volatile(0);
        (&raw mut (*modes).epoch_seen).write_volatile(epoch);
        end(modes);
    }
}

/// Ends what goes on and begins `next`.
///
/// # Safety
/// As above.
#[inline(always)]
pub(super) unsafe fn pass(modes: *mut Modes, next: Mode, now: u64) {
    // SAFETY: by contract; the index is inside the array.
    unsafe {
        let since = (&raw const (*modes).since_ns).read_volatile();
        if since != 0 {
            let ns = (&raw mut (*modes).ns).cast::<u64>().add(mode(modes) as usize % MODES);
            bump(ns, now.saturating_sub(since));
        }
        set_mode(modes, next);
        (&raw mut (*modes).since_ns).write_volatile(now);
    }
}

/// # Safety
/// As above.
#[inline(always)]
pub(super) unsafe fn mode(modes: *const Modes) -> u32 {
    // SAFETY: by contract.
    unsafe { (&raw const (*modes).mode).read_volatile() }
}

/// # Safety
/// As above.
#[inline(always)]
pub(super) unsafe fn set_mode(modes: *mut Modes, mode: Mode) {
    // SAFETY: by contract.
    unsafe { (&raw mut (*modes).mode).write_volatile(mode as u32) };
}

/// # Safety
/// `value` may be read and written.
#[inline(always)]
pub(super) unsafe fn bump(value: *mut u64, by: u64) {
    // SAFETY: by contract.
    unsafe { value.write_volatile(value.read_volatile().wrapping_add(by)) };
}

/// # Safety
/// As above.
#[inline(always)]
pub(super) unsafe fn begin(modes: *mut Modes) {
    // SAFETY: by contract.
    unsafe {
        (&raw mut (*modes).away_ns).write_volatile(0);
        let seq = (&raw const (*modes).seq).read_volatile();
        (&raw mut (*modes).seq).write_volatile(seq | 1);
    }
}

/// # Safety
/// As above.
#[inline(always)]
pub(super) unsafe fn end(modes: *mut Modes) {
    // SAFETY: by contract.
    unsafe {
        let seq = (&raw const (*modes).seq).read_volatile();
        (&raw mut (*modes).seq).write_volatile((seq | 1) + 1);
    }
}
