//! When a vCPU's thread ran and when it waited: what the co-stop of its VM is estimated from.
//!
//! Sums cannot say whether siblings ran and waited *at the same time*, and no program can keep a count of a
//! VM's running and waiting vCPUs: that takes atomic operations with a result, which programs have from 5.12
//! on, and a hook on wake-ups, which all threads of the host would pay for. So each thread's slot
//! has a drawing of its last stints and waits on a common grid of moments, the ticks, and user space compares
//! those of siblings. It is drawn when a stint ends, for all of the stint and of the wait before it is known
//! then, and costs nothing more than a comparison where no tick falls into either.

/// Ticks in a cell.
pub const TICKS_PER_CELL: u64 = 16;
/// Cells of a timeline.
pub const CELLS: usize = 64;
/// Of a cell's bits: at the cell's first tick the thread began to run, or ceased to; the next bits are of the
/// ticks after it.
pub const RUN: u64 = 1;
/// The same of waiting.
pub const WAIT: u64 = 1 << TICKS_PER_CELL;

/// A thread's last stints and waits. Written with its slot, and under its sequence number.
///
/// A cell has its number in its upper half and in the lower one which ticks change something. So a stint
/// takes two bits however long it is, nothing has to be cleared as time goes on, and a cell that has another
/// number than it would have today says that nothing changed. What the thread did at any moment follows from
/// the end: after the last stint drawn it neither ran nor waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Timeline {
    /// A ring of cells, by the number of each.
    pub cells: [u64; CELLS],
}

impl Timeline {
    /// Nothing is known.
    pub const EMPTY: Self = Self { cells: [0; CELLS] };
}

/// The first tick at or after a moment on the scheduler's clock; a tick is 2^`shift` ns long.
#[must_use]
#[inline(always)]
pub const fn tick_at(ns: u64, shift: u32) -> u64 {
    (ns + ((1 << (shift % u64::BITS)) - 1)) >> (shift % u64::BITS)
}

/// Index of a tick's cell.
#[must_use]
#[inline(always)]
pub const fn cell_of(tick: u64) -> usize {
    (tick / TICKS_PER_CELL) as usize % CELLS
}

/// A tick's cell after a change at that tick of [`RUN`], [`WAIT`] or both.
#[must_use]
#[inline(always)]
pub const fn changed(cell: u64, tick: u64, what: u64) -> u64 {
    let number = (tick / TICKS_PER_CELL) << 32;
    let kept = if (cell ^ number) >> 32 == 0 { cell } else { number };
    kept ^ (what << (tick % TICKS_PER_CELL))
}

/// Ticks of a cell at which something changes, first of running, then of waiting; none where the cell has
/// another number.
#[must_use]
#[inline(always)]
pub const fn changes(cell: u64, number: u64) -> [u16; 2] {
    let is_its_own = cell >> 32 == number & u32::MAX as u64;
    if is_its_own { [cell as u16, (cell >> TICKS_PER_CELL) as u16] } else { [0; 2] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_belongs_to_what_has_begun_at_it_and_not_ended_before() {
        assert_eq!([0, 1, 1024, 1025, 2048].map(|ns| tick_at(ns, 10)), [0, 1, 1, 2, 2]);
    }

    #[test]
    fn a_cell_holds_the_changes_of_its_own_ticks_alone() {
        let tick = 5 * TICKS_PER_CELL * CELLS as u64 + 3;
        let number = tick / TICKS_PER_CELL;
        let cell = changed(changed(0, tick, WAIT), tick + 2, WAIT | RUN);
        assert_eq!(changes(cell, number), [1 << 5, 1 << 3 | 1 << 5]);
        assert_eq!(changes(cell, number + CELLS as u64), [0, 0], "it is an older one's");
        let over = changed(cell, tick + TICKS_PER_CELL * CELLS as u64, RUN);
        assert_eq!(changes(over, number + CELLS as u64), [1 << 3, 0]);
        assert_eq!(changed(changed(over, tick, 0), tick, 0), changed(0, tick, 0), "what was there is gone");
    }

    #[test]
    fn the_same_change_twice_is_none() {
        let cell = changed(0, 7, RUN);
        assert_eq!(changes(changed(cell, 7, RUN), 0), [0, 0]);
    }
}
