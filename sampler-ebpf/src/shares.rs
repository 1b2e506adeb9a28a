//! Tables of time by process: adding to one, and what came to one between two moments.

use crate::{
    abi::{
        MARK_SHIFT, MARKS, SHARES, Shares, WHO_IDLE, WHO_OTHERS, WHO_UNKNOWN, WHO_VCPU, Who, entry_at,
        is_stale, mark_of, who_of,
    },
    shared::{Shared, field, load, store},
};

/// An entry of nobody; the idle thread has a sum of its own.
const WHO_FREE: Who = WHO_IDLE;
/// Entries that a process may have in a table: where it hashes to, and the next ones.
const PROBES: u32 = 4;
/// Entries that [`gained_by_some`] looks at: as many as a program's verifier follows at a time without
/// trouble.
pub const SOME: usize = 8;

/// Adds to what a process has, at a moment of the scheduler's clock. Returns whether another lost its entry
/// to it.
#[inline(always)]
pub fn add(table: Shared<Shares>, who: Who, ns: u64, now: u64) -> bool {
    let others = |who: Who| field!(table.others_ns).element(mark_of(who));
    if who == WHO_IDLE {
        field!(table.idle_ns).bump(ns);
        return false;
    }
    if who == WHO_UNKNOWN || who & WHO_OTHERS != 0 {
        others(who).bump(ns);
        return false;
    }
    let home = who.wrapping_mul(0x9E37_79B1) >> 26;
    let entry = |at: u32| field!(table.who).element(at as usize);
    let had = |at: u32| field!(table.ns).element(at as usize);
    for at in home..home + PROBES {
        let found = entry(at).load();
        // Its own, or free, where nothing was added yet. One way for both: the verifier follows each.
        if who_of(found) == who || found == WHO_FREE {
            entry(at).store(entry_at(who, now));
            had(at).bump(ns);
            return false;
        }
    }
    // One of two makes room: one that has got nothing for long, or the one that has less; but no vCPU for one
    // that is none, for processes come and go by the hundred. The least of all would be a branch for each.
    let other = home + PROBES / 2;
    let first = is_stale(entry(home).load(), now) || had(home).load() < had(other).load();
    let at = if first { home } else { other };
    let loser = entry(at).load();
    if loser & WHO_VCPU & !who != 0 && !is_stale(loser, now) {
        others(who).bump(ns);
        return false;
    }
    others(loser).bump(had(at).load());
    entry(at).store(entry_at(who, now));
    had(at).store(ns);
    true
}

/// Reading a table, in shared memory or in one's own.
pub trait Read: Copy {
    /// An entry, and its time.
    fn entry(self, at: usize) -> (u32, u64);
    /// Time of those without an entry, by mark.
    fn others_ns(self, mark: usize) -> u64;
    /// Time at which the CPU was idle.
    fn idle_ns(self) -> u64;
}

impl Read for Shared<Shares> {
    #[inline(always)]
    fn entry(self, at: usize) -> (u32, u64) {
        (field!(self.who).element(at).load(), field!(self.ns).element(at).load())
    }

    #[inline(always)]
    fn others_ns(self, mark: usize) -> u64 {
        field!(self.others_ns).element(mark).load()
    }

    #[inline(always)]
    fn idle_ns(self) -> u64 {
        load!(self.idle_ns)
    }
}

impl Read for &Shares {
    fn entry(self, at: usize) -> (u32, u64) {
        (self.who[at], self.ns[at])
    }

    fn others_ns(self, mark: usize) -> u64 {
        self.others_ns[mark]
    }

    fn idle_ns(self) -> u64 {
        self.idle_ns
    }
}

/// What came to a table since `then`, by process: parts that come to all that was added. What a process had
/// `then` and lost with its entry is taken off the others of its mark, where it is now.
#[inline(always)]
pub fn gained<R: Read>(table: R, then: R, mut each: impl FnMut(Who, i64)) {
    for first in (0..SHARES).step_by(SOME) {
        gained_by_some(table, then, first, &mut each);
    }
    gained_by_others(table, then, each);
}

/// The part of [`gained`] of [`SOME`] entries from `first` on.
#[inline(always)]
pub fn gained_by_some<R: Read>(table: R, then: R, first: usize, mut each: impl FnMut(Who, i64)) {
    for at in first..first + SOME {
        let ((entry, ns), (entry_then, ns_then)) = (table.entry(at), then.entry(at));
        let (who, who_then) = (who_of(entry), who_of(entry_then));
        if who == who_then && ns >= ns_then {
            if ns != ns_then {
                each(who, ns.wrapping_sub(ns_then) as i64);
            }
            continue;
        }
        if ns != 0 {
            each(who, ns as i64);
        }
        if ns_then != 0 {
            each(who_then & WHO_UNKNOWN | WHO_OTHERS, (ns_then as i64).wrapping_neg());
        }
    }
}

/// The part of [`gained`] of those without an entry, and of nobody.
#[inline(always)]
pub fn gained_by_others<R: Read>(table: R, then: R, mut each: impl FnMut(Who, i64)) {
    for mark in 0..MARKS {
        let ns = table.others_ns(mark).wrapping_sub(then.others_ns(mark));
        if ns != 0 {
            each((mark as Who) << MARK_SHIFT | WHO_OTHERS, ns as i64);
        }
    }
    let idle_ns = table.idle_ns().wrapping_sub(then.idle_ns());
    if idle_ns != 0 {
        each(WHO_IDLE, idle_ns as i64);
    }
}

/// Copies a table.
#[inline(always)]
pub fn copy(from: Shared<Shares>, to: Shared<Shares>) {
    for at in 0..SHARES {
        let (entry, ns) = from.entry(at);
        field!(to.who).element(at).store(entry);
        field!(to.ns).element(at).store(ns);
    }
    for mark in 0..MARKS {
        field!(to.others_ns).element(mark).store(from.others_ns(mark));
    }
    store!(to.idle_ns, from.idle_ns());
}
