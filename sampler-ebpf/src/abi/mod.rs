//! Plain structs and tables, shared by the programs and by user space.

mod counters;
mod event;
mod offsets;
mod slot;

pub use counters::{COUNTERS, Counter, CounterRow, Unit};
pub use event::{Event, EventKind};
pub use offsets::{ABSENT, MEMBERS, Member, MemberRow, Offsets};
pub use slot::{
    Control, HookStats, MAX_CPUS, MAX_SLOTS, NO_SLOT, SLOT_PENDING, VcpuSlot, WalkRecord, WalkStats,
};
