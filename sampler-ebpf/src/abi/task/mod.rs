//! Threads: what the scheduler reports of those that run vCPUs, and what a walk finds of all.

mod counters;
mod distributions;
mod event;
mod helper;
mod members;
mod slot;
mod timeline;
mod walk;

pub use counters::{COUNTERS, Counter, for_each_counter};
pub use distributions::{DISTRIBUTIONS, Distribution};
pub use event::{Event, EventKind};
pub use helper::{HelperRecord, MAX_HELPERS, PF_KTHREAD, VHOST_PREFIX, VMMS_PER_WORD, may_be_vhost};
pub(super) use members::task_members;
pub use slot::{
    FILTER_BITS, Filter, HookStats, KEPT_NS, Left, MAX_PIDS, NO_SLOT, PIDS_PER_BLOCK, PidBlock, SLOT_PENDING,
    VcpuSlot,
};
pub use timeline::{CELLS, RUN, TICKS_PER_CELL, Timeline, WAIT, cell_of, changed, changes, tick_at};
pub use walk::{Control, WalkRecord, WalkStats};
