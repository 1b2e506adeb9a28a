//! Plain structs and tables, shared by the programs and by user space: a folder or file for each subsystem,
//! and the forms that their tables have in common.

mod attribution;
mod block;
mod counters;
mod followed;
mod kvm;
mod offsets;
mod task;

pub use attribution::{
    APART, CHECKPOINTS, MARK_SHIFT, MARKS, Occupancy, SHARES, STRETCHES, Shares, SlotShares, Split, Stretch,
    WHO_FORCED_IDLE, WHO_IDLE, WHO_KERNEL, WHO_OTHERS, WHO_PID, WHO_UNKNOWN, WHO_VCPU, Who, entry_at,
    is_stale, mark_of, who_of,
};
pub use block::{
    BlockStats, DiskCounts, DiskKey, DiskOperation, FIRST_COMMAND, FirstDisk, IoGroup, MAX_DISKS,
    MAX_FIRST_DISKS, MAX_IO_GROUPS, OperationSums, PLAIN_WRITE, device_of, numbers_of,
};
pub use counters::CounterRow;
pub use followed::{Followed, MAX_SLOTS, SEGMENT, SEGMENTS};
pub use kvm::{
    ANON_INODES, EXIT_BUCKETS, EXIT_CODES, EXIT_ROWS, ExitCounts, ExitOffsets, ExitReason, ExitRow,
    KVM_STATS, KvmStat, MAX_VCPU_FILES, MODES, Mode, Modes, OTHER_EXITS, SVM_EXITS, VCPU_FILE, VCPU_FILE_END,
    VMX_EXITS, VcpuFile, VcpuFiles, exit_place, exit_rows, for_each_kvm_stat, mode_place, rows_of,
};
pub use offsets::{ABSENT, BIT, MEMBERS, Member, MemberRow, Offsets};
pub use task::{
    CELLS, COUNTERS, Control, Counter, DISTRIBUTIONS, Distribution, Event, EventKind, FILTER_BITS, Filter,
    HelperRecord, HookStats, KEPT_NS, Left, MAX_HELPERS, MAX_PIDS, NO_SLOT, PF_KTHREAD, PIDS_PER_BLOCK,
    PidBlock, RUN, SLOT_PENDING, TICKS_PER_CELL, Timeline, VHOST_PREFIX, VMMS_PER_WORD, VcpuSlot, WAIT,
    WalkRecord, WalkStats, cell_of, changed, changes, for_each_counter, may_be_vhost, tick_at,
};
