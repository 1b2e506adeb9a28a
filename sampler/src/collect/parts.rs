//! Parts of what is shared with the programs. Most of what a reading costs is memory that is not in the
//! caches, so no more is read than is used.

use std::mem::offset_of;

use sampler_ebpf::abi::{COUNTERS, ExitCounts, Modes, Occupancy};

use super::Mapped;

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
#[derive(Debug)]
pub struct ExitsOf<'a> {
    modes: &'a Mapped<Modes>,
    index: usize,
}

impl<'a> ExitsOf<'a> {
    pub(super) const fn new(modes: &'a Mapped<Modes>, index: usize) -> Self {
        Self { modes, index }
    }

    /// The row of the last exit.
    #[must_use]
    pub fn last_row(&self) -> usize {
        let row: u32 = self.modes.read_part(self.index, offset_of!(Modes, exit_row));
        row as usize
    }

    /// A row without its latencies: with them it grows at the exit and at the entry after it.
    #[must_use]
    pub fn head(&self, row: usize) -> ExitCounts {
        let at = Self::at(row);
        ExitCounts {
            count: self.modes.read_part(self.index, at + offset_of!(ExitCounts, count)),
            user_count: self.modes.read_part(self.index, at + offset_of!(ExitCounts, user_count)),
            ns: self.modes.read_part(self.index, at + offset_of!(ExitCounts, ns)),
            user_ns: self.modes.read_part(self.index, at + offset_of!(ExitCounts, user_ns)),
            ..ExitCounts::default()
        }
    }

    /// A row.
    #[must_use]
    pub fn row(&self, row: usize) -> ExitCounts {
        self.modes.read_part(self.index, Self::at(row))
    }

    const fn at(row: usize) -> usize {
        offset_of!(Modes, exits) + row * size_of::<ExitCounts>()
    }
}
