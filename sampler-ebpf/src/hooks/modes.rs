//! The modes of a vCPU's thread: what all hooks that write them share, and what a switch does to them.

use sampler_ebpf::abi::{Mode, Modes, mode_place};

use crate::{
    shared::{Shared, bump, field, load, store, written},
    task::monotonic_ns,
};

/// How often a program that is preempted while it looks at the clock looks again.
const TRIES: u32 = 3;

/// A vCPU's thread at a switch.
#[derive(Clone, Copy)]
pub(super) struct Switched {
    /// `None` of a thread that is not followed.
    pub(super) modes: Option<Shared<Modes>>,
    /// It is inside a vCPU ioctl.
    pub(super) in_ioctl: bool,
    /// How long it has had its CPU, ns; 0 of one that comes.
    pub(super) stint_ns: u64,
}

/// A switch between threads of which one or both run vCPUs.
#[inline(always)]
pub(super) fn switch(leaves: Switched, comes: Switched) {
    // A write that is under way goes on as it began.
    let is_observed_now = |modes: &Shared<Modes>| is_written(*modes) || is_observed(*modes);
    let leaving = leaves.modes.filter(is_observed_now);
    let coming = comes.modes.filter(is_observed_now);
    if leaving.is_none() && coming.is_none() {
        return;
    }
    let now = monotonic_ns();
    if let Some(modes) = leaving {
        depart(modes, leaves, now);
    }
    if let Some(modes) = coming {
        arrive(modes, comes, now);
    }
}

/// Whether the modes are observed. Where they were not meanwhile, what was known is forgotten.
#[inline(always)]
pub(super) fn is_observed(modes: Shared<Modes>) -> bool {
    let epoch = load!(modes.epoch);
    if epoch != load!(modes.epoch_seen) {
        reset(modes, epoch);
    }
    epoch != 0
}

/// The thread leaves its CPU: what it was doing there ends. Whether it is inside a vCPU ioctl is known at a
/// switch for certain.
#[inline(always)]
fn depart(modes: Shared<Modes>, leaves: Switched, now: u64) {
    let Switched { in_ioctl, stint_ns, .. } = leaves;
    if is_written(modes) {
        // Counted back when it comes again.
        let away = load!(modes.away_ns);
        return field!(modes.away_ns).store(away.wrapping_sub(now));
    }
    change(modes, || {
        let before = mode(modes);
        if before != Mode::Unobserved as u32 {
            // Where the kernel called no program when it was given its CPU, or when it left it before, what
            // is known is older.
            let arrived = now.saturating_sub(stint_ns);
            let known = load!(modes.since_ns);
            store!(modes.since_ns, if known > arrived { known } else { arrived });
        }
        // Never found in the guest: the host's kernel runs here.
        let next = match in_ioctl {
            true if before == Mode::Inside as u32 => Mode::Inside,
            true if before != Mode::Vmm as u32 => Mode::Kernel,
            _ => Mode::Vmm,
        };
        pass(modes, next, now);
        store!(modes.since_ns, 0);
        if before == Mode::Guest as u32 {
            store!(modes.is_cut, 1);
        }
    });
}

/// The thread is given a CPU.
#[inline(always)]
fn arrive(modes: Shared<Modes>, comes: Switched, now: u64) {
    let Switched { in_ioctl, .. } = comes;
    if is_written(modes) {
        return field!(modes.away_ns).bump(now);
    }
    change(modes, || {
        if mode(modes) == Mode::Unobserved as u32 {
            set_mode(modes, if in_ioctl { Mode::Kernel } else { Mode::Vmm });
        }
        store!(modes.since_ns, now);
    });
}

/// Whether a program of the thread's own was cut in the middle of a write.
#[inline(always)]
fn is_written(modes: Shared<Modes>) -> bool {
    load!(modes.seq) & 1 != 0
}

/// Ends what goes on and begins `next`, in a program that may be preempted, within a [`change`]. Returns the
/// moment.
#[inline(always)]
pub(super) fn pass_preemptible(modes: Shared<Modes>, next: Mode) -> u64 {
    let away = || load!(modes.away_ns);
    // What it was away before that moment is not of what ends; what it is away after it not of what begins.
    let (mut gone, mut now) = (away(), monotonic_ns());
    for _ in 0..TRIES {
        let again = away();
        if again == gone {
            break;
        }
        (gone, now) = (again, monotonic_ns());
    }
    let known = load!(modes.since_ns);
    if known != 0 {
        store!(modes.since_ns, known + gone);
    }
    pass(modes, next, now);
    let late = away().wrapping_sub(gone);
    if late != 0 {
        store!(modes.since_ns, now + late);
    }
    now
}

/// Nothing is known until the next hook reports a mode.
#[inline(always)]
fn reset(modes: Shared<Modes>, epoch: u32) {
    change(modes, || {
        if mode(modes) != Mode::Unobserved as u32 {
            set_mode(modes, Mode::Unobserved);
            bump!(modes.gaps, 1);
        }
        store!(modes.since_ns, 0);
        store!(modes.exit_ns, 0);
        store!(modes.user_ns, 0);
        store!(modes.inside_ns, 0);
        store!(modes.is_cut, 0);
        store!(modes.is_vmms, 0);
        store!(modes.is_out, 0);
        store!(modes.epoch_seen, epoch);
    });
}

/// Ends what goes on and begins `next`.
#[inline(always)]
pub(super) fn pass(modes: Shared<Modes>, next: Mode, now: u64) {
    let since = load!(modes.since_ns);
    if since != 0 {
        let (ns, before) = (now.saturating_sub(since), mode(modes));
        field!(modes.ns).element(mode_place(before)).bump(ns);
        let weight = load!(modes.weight);
        if weight > 1 && before == Mode::Kernel as u32 && load!(modes.exit_ns) != 0 {
            bump!(modes.stands_ns, ns * u64::from(weight - 1));
        }
    }
    set_mode(modes, next);
    store!(modes.since_ns, now);
}

#[inline(always)]
pub(super) fn mode(modes: Shared<Modes>) -> u32 {
    load!(modes.mode)
}

#[inline(always)]
pub(super) fn set_mode(modes: Shared<Modes>, mode: Mode) {
    store!(modes.mode, mode as u32);
}

/// Changes the modes of a thread which nobody else writes about now.
#[inline(always)]
pub(super) fn change(modes: Shared<Modes>, change: impl FnOnce()) {
    store!(modes.away_ns, 0);
    written(field!(modes.seq), change);
}
