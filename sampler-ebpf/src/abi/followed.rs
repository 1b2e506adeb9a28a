//! All that is kept of a vCPU thread that is followed, in one value: a program finds all of it with one
//! look-up.
//!
//! The slots are in segments, each a map of its own, so that memory grows with what is followed. User space
//! makes the segments and puts them into a map of maps; all are of one size, so the kernel inlines both steps
//! of a look-up.

use super::{
    attribution::SlotShares,
    kvm::Modes,
    task::{SLOT_PENDING, Timeline, VcpuSlot, WalkRecord},
};

/// Slots of a segment: 4.875 MiB.
pub const SEGMENT: u32 = 1024;
/// Segments that there can be.
pub const SEGMENTS: u32 = 64;
/// Slots that there can be, slot 0 included: all whose number fits into the pid table, but for
/// [`SLOT_PENDING`].
pub const MAX_SLOTS: u32 = SLOT_PENDING as u32;

const _: () = assert!(SEGMENT * SEGMENTS > MAX_SLOTS, "each slot has a segment");

/// One vCPU thread. Each part has its own writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct Followed {
    /// What it does with its CPU time, and why its guest was left. First, for it is aligned most.
    pub modes: Modes,
    /// What the scheduler program keeps of it.
    pub slot: VcpuSlot,
    /// When it ran and waited lately; written with the slot.
    pub timeline: Timeline,
    /// Who took its time; written with the slot.
    pub shares: SlotShares,
    /// What the last walk found. It begins in a cache line of `shares`: a walk writes once an interval.
    pub record: WalkRecord,
}

const _: () = assert!(
    size_of::<Followed>()
        == size_of::<Modes>()
            + size_of::<VcpuSlot>()
            + size_of::<Timeline>()
            + size_of::<SlotShares>()
            + size_of::<WalkRecord>(),
    "no part needs padding"
);
