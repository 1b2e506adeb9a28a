//! Who had a CPU, and whom a wait for it is charged to.
//!
//! A CPU remembers its last [`STRETCHES`] one by one, and has totals of all stretches that have ended, with a
//! checkpoint of them each [`APART`] stretches. A wait ends now; so most of it is the difference of the
//! totals to the first checkpoint within it, and what lies before that checkpoint is split over the
//! stretches.

use crate::{
    abi::{APART, CHECKPOINTS, Occupancy, STRETCHES, Shares, Split, WHO_UNKNOWN, Who},
    shared::{Shared, field, load, store},
    shares,
};

/// A wait whose first checkpoint lies no more than so many stretches back is split over them all: the
/// difference of two tables takes longer.
const FEW: u64 = 16;
/// Stretches that a wait is split over at a time: as many as a program's verifier follows without trouble.
const SOME: u64 = 8;

/// Where a checkpoint is kept.
#[must_use]
#[inline(always)]
pub const fn place(number: u64) -> usize {
    (number % CHECKPOINTS as u64) as usize
}

/// Who has the CPU.
#[inline(always)]
#[must_use]
pub fn who(memory: Shared<Occupancy>) -> Who {
    load!(memory.who)
}

/// When the last stretch began, ns.
#[inline(always)]
#[must_use]
pub fn last_start(memory: Shared<Occupancy>) -> u64 {
    start(memory, load!(memory.written).wrapping_sub(1))
}

#[inline(always)]
fn start(memory: Shared<Occupancy>, number: u64) -> u64 {
    let stretch = field!(memory.stretches).element(number as usize);
    load!(stretch.start_ns)
}

/// Remembers that `who` has the CPU from now on: ends the last stretch, and begins one. `checkpoint` gives
/// the table of a checkpoint's place. Returns whether a process lost its entry in the totals.
#[inline(always)]
pub fn remember(
    memory: Shared<Occupancy>,
    totals: Shared<Shares>,
    checkpoint: impl FnOnce(u64) -> Option<Shared<Shares>>,
    who: Who,
    now: u64,
) -> bool {
    let written = load!(memory.written);
    let began = start(memory, written.wrapping_sub(1));
    let displaced = written != 0 && shares::add(totals, load!(memory.who), now.saturating_sub(began), now);
    if written % APART == 0 {
        let number = written / APART;
        if let Some(table) = checkpoint(number) {
            shares::copy(totals, table);
        }
        field!(memory.checkpoints_ns).element(place(number)).store(now);
    }
    let next = field!(memory.stretches).element(written as usize);
    store!(next.start_ns, now);
    store!(next.who, who);
    store!(memory.who, who);
    store!(memory.written, written + 1);
    displaced
}

/// Whether core scheduling has forced a CPU idle that was idle before, by how often it began to do so on the
/// CPU's core: `then`, when the CPU became idle, and `now`, when a thread is given it. The choice of this
/// thread may have forced another CPU of the core idle: that one is not to be counted.
#[inline(always)]
#[must_use]
pub const fn was_forced_idle(then: u32, now: u32, for_this_thread: bool) -> bool {
    now.wrapping_sub(then) > for_this_thread as u32
}

/// The parts of a wait, handed over one after another.
pub trait Parts {
    /// So much of it somebody had the CPU.
    fn one(&mut self, who: Who, ns: u64);
    /// Splits some of it over some stretches, those before the stretch `before`, latest first (see
    /// [`stretches`]). Returns until when the rest was.
    fn stretches(&mut self, before: u64, from: u64, until: u64) -> u64;
    /// What came to the totals since a checkpoint.
    fn gained(&mut self, checkpoint: u64);
}

/// Charges a wait, which ends now or has ended lately.
#[inline(always)]
pub fn charge(memory: Shared<Occupancy>, from: u64, until: u64, parts: &mut impl Parts) {
    let written = load!(memory.written);
    let last = written.wrapping_sub(1) / APART;
    let last_start = last_start(memory);
    let at = |number| field!(memory.checkpoints_ns).element(place(number)).load();
    if written == 0 || until < last_start || at(last) <= from {
        return by_stretches(written, from, until, parts);
    }
    let first = first_after(last, from, at);
    let first_ns = at(first);
    if first == last && written - last * APART <= FEW {
        by_stretches(written, first_ns, until, parts);
    } else {
        // A coming thread has the CPU from now on: to be charged with nothing would cost another its entry.
        if until > last_start {
            parts.one(load!(memory.who), until - last_start);
        }
        parts.gained(first);
    }
    if first_ns > from {
        by_stretches(first * APART, from, first_ns, parts);
    }
}

/// The first of the checkpoints up to `last`, which is one of them, that was taken after `from`.
#[inline(always)]
fn first_after(last: u64, from: u64, at: impl Fn(u64) -> u64) -> u64 {
    let mut first = last;
    let mut step = CHECKPOINTS as u64 / 2;
    while step > 0 {
        // Those that are remembered go back by one less than there are.
        let is_one = first >= step && last - (first - step) < CHECKPOINTS as u64;
        if is_one && at(first - step) > from {
            first -= step;
        }
        step /= 2;
    }
    first
}

/// Splits a part of a wait over the stretches before `before`, no more than lie between two checkpoints; what
/// is older than those is nobody's.
#[inline(always)]
fn by_stretches(before: u64, from: u64, until: u64, parts: &mut impl Parts) {
    let mut until = until;
    for round in 0..APART / SOME {
        if until <= from {
            return;
        }
        until = parts.stretches(before.saturating_sub(round * SOME), from, until);
    }
    if until > from {
        parts.one(WHO_UNKNOWN, until - from);
    }
}

/// Splits some of a wait over some stretches, those before the stretch `before`, latest first, and hands the
/// parts to `each`. Returns until when the rest was.
#[inline(always)]
pub fn stretches(
    memory: Shared<Occupancy>,
    before: u64,
    from: u64,
    until: u64,
    mut each: impl FnMut(Who, u64),
) -> u64 {
    let written = load!(memory.written);
    let mut split = Split { from_ns: from, until_ns: until, written: before };
    for back in 0..SOME {
        // The place of one that is older than those that are remembered is another's.
        if before.wrapping_sub(back).wrapping_add(STRETCHES as u64) <= written {
            break;
        }
        let stretch = |at: usize| {
            let stretch = field!(memory.stretches).element(at);
            (load!(stretch.start_ns), load!(stretch.who))
        };
        if !split.step(back, stretch, &mut each) {
            break;
        }
    }
    split.until_ns
}
