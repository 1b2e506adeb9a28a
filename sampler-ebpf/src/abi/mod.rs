//! Plain structs and tables, shared by the programs and by user space.

mod counters;
mod event;
mod offsets;
mod slot;

pub use counters::{COUNTERS, Counter, CounterRow, Unit, for_each_counter};
pub use event::{Event, EventKind};
pub use offsets::{ABSENT, MEMBERS, Member, MemberRow, Offsets};
pub use slot::{
    Control, FILTER_BITS, Filter, HookStats, MAX_CPUS, MAX_SLOTS, NO_SLOT, PIDS_PER_BLOCK, PidBlock,
    SLOT_PENDING, VcpuSlot, WalkRecord, WalkStats,
};
