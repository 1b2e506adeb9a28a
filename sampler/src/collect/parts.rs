//! Parts of what is shared with the programs. Most of what a reading costs is memory that is not in the
//! caches, so no more is read than is used.

use std::mem::offset_of;

use sampler_ebpf::abi::{COUNTERS, ExitCounts, Followed, Occupancy};

use super::segments::Segments;

/// How a thread left its CPU.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    /// The kernel's counts then.
    pub counters: [u64; COUNTERS.len()],
    /// The scheduler's clock then, ns.
    pub left_ns: u64,
    /// A [`sampler_ebpf::abi::Left`] as a number.
    pub left: u32,
}

/// What a CPU remembers of who had it.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// As it was read.
    pub memory: Box<Occupancy>,
    /// The first stretch that is whole: the CPU wrote over those before it meanwhile.
    pub oldest: u64,
}

/// The exits of a slot's thread, to be read row by row: of most threads most rows are as they were, and what
/// is not read need not come from memory.
pub struct ExitsOf<'a> {
    slots: &'a Segments,
    slot: u16,
}

impl<'a> ExitsOf<'a> {
    pub(super) const fn new(slots: &'a Segments, slot: u16) -> Self {
        Self { slots, slot }
    }

    /// The row of the last exit.
    #[must_use]
    pub fn last_row(&self) -> usize {
        let row: u8 = self.slots.part(self.slot, offset_of!(Followed, modes.exit_row));
        usize::from(row)
    }

    /// A row without its latencies: with them it grows at the exit and at the entry after it.
    #[must_use]
    pub fn head(&self, row: usize) -> ExitCounts {
        let at = Self::at(row);
        ExitCounts {
            count: self.slots.part(self.slot, at + offset_of!(ExitCounts, count)),
            user_count: self.slots.part(self.slot, at + offset_of!(ExitCounts, user_count)),
            ns: self.slots.part(self.slot, at + offset_of!(ExitCounts, ns)),
            user_ns: self.slots.part(self.slot, at + offset_of!(ExitCounts, user_ns)),
            ..ExitCounts::default()
        }
    }

    /// A row.
    #[must_use]
    pub fn row(&self, row: usize) -> ExitCounts {
        self.slots.part(self.slot, Self::at(row))
    }

    const fn at(row: usize) -> usize {
        offset_of!(Followed, modes.exits) + row * size_of::<ExitCounts>()
    }
}
