//! Plain structs and tables, shared by the programs and by user space.

mod attribution;
mod counters;
mod event;
mod exits;
mod helper;
mod histogram;
mod modes;
mod offsets;
mod slot;
mod timeline;

pub use attribution::{
    Laying, MARK_SHIFT, MARKS, Occupancy, SHARES, STRETCHES, SlotShares, Stretch, WHO_IDLE, WHO_KERNEL,
    WHO_PID, WHO_UNKNOWN, WHO_VCPU, Who, entry_at, is_stale, mark_of, who_of,
};
pub use counters::{
    COUNTERS, Counter, CounterRow, KVM_STATS, KvmStat, Unit, for_each_counter, for_each_kvm_stat,
};
pub use event::{Event, EventKind};
pub use exits::{
    EXIT_CODES, EXIT_ROWS, ExitReason, ExitRow, OTHER_EXITS, SVM_EXITS, VMX_EXITS, exit_place, exit_rows,
};
pub use helper::{HelperRecord, MAX_HELPERS, PF_KTHREAD, VHOST_PREFIX, VMMS_PER_WORD, may_be_vhost};
pub use histogram::{
    BUCKETS, DISTRIBUTIONS, Distribution, DistributionRow, Histogram, ZERO_EXPONENT, bucket_of,
};
pub use modes::{EXIT_BUCKETS, ExitCounts, ExitOffsets, MODES, Mode, Modes};
pub use offsets::{ABSENT, MEMBERS, Member, MemberRow, Offsets};
pub use slot::{
    Control, FILTER_BITS, Filter, HookStats, Left, MAX_CPUS, MAX_SLOTS, NO_SLOT, PIDS_PER_BLOCK, PidBlock,
    SLOT_PENDING, VcpuSlot, WalkRecord, WalkStats,
};
pub use timeline::{CELLS, RUN, TICKS_PER_CELL, Timeline, WAIT, cell_of, changed, changes, tick_at};
