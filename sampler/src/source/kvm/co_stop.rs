//! Co-stop: the time in which at least one vCPU of a VM ran while at least one sibling was ready to run and
//! waited for a CPU.
//!
//! An estimate: looked at on a grid of moments, the ticks, as the scheduler program draws them
//! ([`Timeline`]). Each tick at which both was true stands for its length. The grid is as fine as the
//! timelines allow that are to reach back over an interval: 480 to 960 ticks in each.

use std::time::Duration;

use sampler_ebpf::abi::{
    CELLS, COUNTERS, Counter, Left, TICKS_PER_CELL, Timeline, WalkRecord, cell_of, changes, tick_at,
};

use crate::{
    collect::{Collector, Leaving},
    kept::kept,
    model::CoStop,
};

/// Ticks that a window may have: those of a timeline, but for some cells that threads may have written over
/// by the time that they are read.
const MOST_TICKS: u64 = (CELLS as u64 - 4) * TICKS_PER_CELL;

/// Length of a tick as a power of two, ns: the shortest with which a window takes an interval.
pub(super) fn shift_for(interval: Duration) -> u32 {
    let ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
    ns.div_ceil(MOST_TICKS).next_power_of_two().trailing_zeros()
}

/// How far a VM's co-stop was counted.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The tick that is next; `None` where nothing goes before.
    next: Option<u64>,
    /// When the VM was first seen, by the scheduler's clock, until something was counted.
    seen_ns: Option<u64>,
    sum: CoStop,
}

kept! { Progress { next, seen_ns, sum } }

impl Progress {
    /// Nothing was counted yet of a VM that was first seen at this moment on the scheduler's clock.
    pub const fn since(seen_ns: u64) -> Self {
        Self { next: None, seen_ns: Some(seen_ns), sum: CoStop { ns: 0, interval_ns: None, tick_ns: 0 } }
    }

    /// What is to be shown.
    pub(super) const fn sum(&self) -> CoStop {
        self.sum
    }

    /// Goes on with another grid.
    pub(super) const fn restart(&mut self) {
        self.next = None;
        self.wait();
    }

    /// Leaves this interval to the next reading: not all of its vCPUs are known.
    pub(super) const fn wait(&mut self) {
        self.sum.interval_ns = None;
    }

    /// Whether the last reading left nothing to the next.
    const fn is_up_to_date(&self) -> bool {
        self.sum.interval_ns.is_some()
    }

    /// Takes in that no vCPU waited up to this tick.
    fn nobody_waited(&mut self, to: u64, shift: u32) {
        self.take_in(to, shift, |window| Counted { ticks: 0, of: window.ticks() });
    }

    /// Takes in what was so up to this tick: `count` says at how many ticks of a window.
    fn take_in(&mut self, to: u64, shift: u32, count: impl FnOnce(Window) -> Counted) {
        self.sum.tick_ns = 1 << shift;
        // In the first interval there is nothing to compare with; but what was since the VM was seen counts.
        let is_first = self.seen_ns.is_some();
        let next = self.seen_ns.take().map(|ns| tick_at(ns, shift)).or(self.next);
        let added = next.map(|next| {
            let window = Window { from: next.max(to.saturating_sub(MOST_TICKS)), to };
            let all = Window { from: next, to }.ticks();
            let Counted { ticks, of } = count(window);
            // What a late reading no longer finds is taken to have been as the rest.
            let ticks = u128::from(ticks) * u128::from(all) / u128::from(of.max(1));
            u64::try_from(ticks << shift).unwrap_or(u64::MAX)
        });
        self.sum.ns = self.sum.ns.saturating_add(added.unwrap_or(0));
        self.sum.interval_ns = added.filter(|_| !is_first);
        self.next = Some(next.map_or(to, |next| next.max(to)));
    }
}

/// Brings the co-stop of a VM up to date with what was read of all its threads.
pub(super) fn observe(collector: &Collector, progress: &mut Progress, reads: &Reads, shift: u32) {
    if reads.is_incomplete {
        return progress.wait();
    }
    let reads = &reads.reads;
    // As far as all are known.
    let Some(to) = reads.iter().map(|read| read.sched_ns >> shift).min() else { return };
    // What was left to this reading may be of an interval in which others waited.
    let nobody_waited = || progress.is_up_to_date() && reads.iter().all(|read| read.waited == Some(false));
    if reads.len() < 2 || nobody_waited() {
        return progress.nobody_waited(to, shift);
    }
    let timelines: Option<Vec<_>> =
        reads.iter().map(|read| collector.leaving_and_timeline(read.slot)).collect();
    let Some(timelines) = timelines else { return progress.wait() };
    progress.take_in(to, shift, |window| {
        let mut drawing = Drawing::new(window, shift);
        for (read, (leaving, timeline)) in reads.iter().zip(&timelines) {
            drawing.add(leaving, timeline, read);
        }
        drawing.both()
    });
}

/// What a pass read of a VM's threads. The room for it is kept from one to the next.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    reads: Vec<Read>,
    /// Some could not be read: nothing is known of the VM.
    is_incomplete: bool,
}

impl Reads {
    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.reads.clear();
        self.is_incomplete = false;
    }

    /// Adds a thread; `None` of one that could not be read.
    pub(super) fn push(&mut self, read: Option<Read>) {
        self.is_incomplete |= read.is_none();
        self.reads.extend(read);
    }
}

/// What was read of one thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    slot: u16,
    sched_ns: u64,
    waiting_ns: u64,
    arrived_ns: u64,
    is_on_cpu: bool,
    counters: [u64; COUNTERS.len()],
    /// Whether it waited in the interval, where it has one.
    waited: Option<bool>,
}

impl Read {
    /// What a walk's record says.
    pub(super) const fn new(slot: u16, record: &WalkRecord, waited: Option<bool>) -> Self {
        Self {
            slot,
            sched_ns: record.sched_ns,
            waiting_ns: record.waiting_ns,
            arrived_ns: record.arrived_ns,
            is_on_cpu: record.on_cpu != 0,
            counters: record.counters,
            waited,
        }
    }
}

/// Ticks from one on to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    from: u64,
    to: u64,
}

impl Window {
    const fn ticks(self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

/// Ticks at which something was so, of those at which it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    ticks: u64,
    of: u64,
}

/// Bits of the ticks of a window, by cell.
type Bits = [u16; CELLS];

/// At which ticks of a window any vCPU of a VM ran, and at which any waited.
#[derive(Debug)]
struct Drawing {
    window: Window,
    shift: u32,
    ran: Bits,
    waited: Bits,
}

impl Drawing {
    const fn new(window: Window, shift: u32) -> Self {
        Self { window, shift, ran: [0; CELLS], waited: [0; CELLS] }
    }

    /// Adds a thread: what its slot has of it, and what went on at the walk.
    fn add(&mut self, leaving: &Leaving, timeline: &Timeline, read: &Read) {
        self.add_timeline(timeline, tick_at(leaving.left_ns, self.shift));
        let now = read.sched_ns;
        let since = |counter: Counter| {
            read.counters[counter as usize].wrapping_sub(leaving.counters[counter as usize])
        };
        let is_drawn = leaving.left != Left::Unknown as u32;
        let stints = since(Counter::Timeslices);
        if read.waiting_ns > 0 {
            // What was waited on other CPUs is counted already.
            let before = if stints == 0 && is_drawn { since(Counter::RunDelay) } else { 0 };
            let queued = now.saturating_sub(read.waiting_ns).saturating_sub(before);
            self.set(|drawing| &mut drawing.waited, queued, now);
        }
        if read.is_on_cpu {
            // Where the kernel counts no arrival of a thread that was put off its CPU on its way to sleep, it
            // came back later.
            let is_same = stints == 0 && is_drawn && leaving.left_ns < now;
            let arrived = if is_same { read.arrived_ns.max(leaving.left_ns) } else { read.arrived_ns };
            self.set(|drawing| &mut drawing.ran, arrived, now);
            // The wait before it is drawn when it ends.
            if stints == 1 && is_drawn {
                let queued = arrived.saturating_sub(since(Counter::RunDelay));
                self.set(|drawing| &mut drawing.waited, queued, arrived);
            }
        }
    }

    /// Adds what is drawn of a thread that did nothing after this tick: backwards from there, for that is
    /// where it is known.
    fn add_timeline(&mut self, timeline: &Timeline, end: u64) {
        let (first, last) = (self.window.from / TICKS_PER_CELL, self.window.to / TICKS_PER_CELL);
        let mut state = [0_u16; 2];
        let drawn = end / TICKS_PER_CELL;
        for number in (first..=last.max(drawn)).rev() {
            let cell = timeline.cells[cell_of(number * TICKS_PER_CELL)];
            if is_newer(cell, number, drawn) {
                // It went on meanwhile, and the beginning of the window is lost.
                self.window.from = self.window.from.max((number + 1) * TICKS_PER_CELL);
                return;
            }
            let changes = changes(cell, number);
            if number <= last {
                let at = cell_of(number * TICKS_PER_CELL);
                self.ran[at] |= before_changes_after(changes[0]) ^ state[0];
                self.waited[at] |= before_changes_after(changes[1]) ^ state[1];
            }
            for (state, changes) in state.iter_mut().zip(changes) {
                *state ^= if changes.count_ones().is_multiple_of(2) { 0 } else { u16::MAX };
            }
        }
    }

    /// Adds a stretch of time.
    fn set(&mut self, into: impl Fn(&mut Self) -> &mut Bits, from_ns: u64, until_ns: u64) {
        let Window { from, to } = self.window;
        let (mut tick, until) =
            (tick_at(from_ns, self.shift).max(from), tick_at(until_ns, self.shift).min(to));
        while tick < until {
            let end = (tick / TICKS_PER_CELL + 1) * TICKS_PER_CELL;
            into(self)[cell_of(tick)] |= between(tick, until.min(end));
            tick = end;
        }
    }

    /// Ticks at which one ran and another waited.
    fn both(&self) -> Counted {
        let Window { from, to } = self.window;
        let mut ticks = 0;
        let mut tick = from;
        while tick < to {
            let end = (tick / TICKS_PER_CELL + 1) * TICKS_PER_CELL;
            let at = cell_of(tick);
            ticks += u64::from((self.ran[at] & self.waited[at] & between(tick, to.min(end))).count_ones());
            tick = end;
        }
        Counted { ticks, of: self.window.ticks() }
    }
}

/// Whether a cell was written over since it had this number; the last that was drawn is known.
const fn is_newer(cell: u64, number: u64, drawn: u64) -> bool {
    let ahead = ((cell >> 32) as u32).wrapping_sub(number as u32) as u64;
    ahead != 0 && ahead <= drawn.saturating_sub(number)
}

/// For each tick of a cell whether the number of changes after it is odd.
const fn before_changes_after(changes: u16) -> u16 {
    let mut odd = changes >> 1;
    odd ^= odd >> 1;
    odd ^= odd >> 2;
    odd ^= odd >> 4;
    odd ^ odd >> 8
}

/// Bits of the ticks from one on to another of the same cell, or to its end.
const fn between(from: u64, until: u64) -> u16 {
    let ticks = until - from;
    let bits = if ticks >= TICKS_PER_CELL { u16::MAX } else { (1 << ticks) - 1 };
    bits << (from % TICKS_PER_CELL)
}

#[cfg(test)]
mod tests;
