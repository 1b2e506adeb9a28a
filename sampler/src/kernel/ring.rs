//! Whether the lock of ring buffers may be taken where nothing may sleep.
//!
//! The scheduler's hooks run with a run queue locked. On PREEMPT_RT a `spinlock_t` sleeps. Before Linux 6.12,
//! and before late stable releases of 6.1, 6.6 and 6.11, `bpf_ringbuf.spinlock` is one: where it is taken in
//! such a hook, the CPU can hang. No version is compared: the kernel's types say it.

use super::{
    Root,
    btf::{Btf, VMLINUX},
    check::CheckItem,
};

/// What the kernel does with who waits for the lock of a ring buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingLock {
    /// It spins.
    Spins,
    /// It sleeps.
    Sleeps,
    /// The types do not say, and why not.
    Unknown(String),
}

/// Locks that spin on every kernel, by their structures.
const SPINNING: [&str; 3] = ["raw_spinlock", "qspinlock", "rqspinlock"];

/// What a lock holds that sleeps, by the names that it had.
const SLEEPING: [&str; 2] = ["rt_mutex_base", "rt_mutex"];

impl RingLock {
    /// By the kernel's types.
    #[must_use]
    pub fn of(btf: &Btf) -> Self {
        let holds = |member, known: &[&str]| {
            btf.structure_of("spinlock", member).is_ok_and(|held| known.contains(&held.as_str()))
        };
        // Where a spinlock_t spins, the kernel is none of PREEMPT_RT, and so does whatever the ring has.
        if holds("rlock", &SPINNING) {
            return Self::Spins;
        }
        let lock = match btf.structure_of("bpf_ringbuf", "spinlock") {
            Ok(lock) => lock,
            Err(error) => return Self::Unknown(error.to_string()),
        };
        match lock.as_str() {
            lock if SPINNING.contains(&lock) => Self::Spins,
            "spinlock" if holds("lock", &SLEEPING) => Self::Sleeps,
            lock => Self::Unknown(format!("whether its struct {lock} sleeps is not known")),
        }
    }

    /// Why the scheduler's hooks must not take it; `None` where they may.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        match self {
            Self::Spins => None,
            Self::Sleeps => Some("the lock of this kernel's ring buffers sleeps (PREEMPT_RT)".to_owned()),
            Self::Unknown(why) => {
                Some(format!("the lock of this kernel's ring buffers is not understood ({why})"))
            }
        }
    }
}

/// Who reports vCPUs that are new or that end?
#[must_use]
pub fn check(root: &Root) -> CheckItem {
    const NAME: &str = "births and deaths";
    let path = VMLINUX.trim_start_matches('/');
    let lock = match Btf::read(&root.path(path)) {
        Ok(btf) => RingLock::of(&btf),
        Err(error) => return CheckItem::warn(NAME, error.to_string(), "as for the kernel types"),
    };
    let Some(obstacle) = lock.obstacle() else {
        return CheckItem::ok(NAME, "reported by the scheduler's hooks as they happen");
    };
    let fix = match lock {
        RingLock::Unknown(_) => {
            "report this kernel with its BTF. The sampler works; ends show two snapshots late"
        }
        _ => "nothing to do: ends show two snapshots late. From Linux 6.12 on hooks report them",
    };
    let detail =
        format!("found by the walk of each snapshot alone: {obstacle}; no scheduler's hook may take it");
    CheckItem::warn(NAME, detail, fix)
}

#[cfg(test)]
mod tests;
