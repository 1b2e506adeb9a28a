//! KVM: what a vCPU's thread does with its CPU time, why its guest was left, and what KVM counts of it.

mod exits;
mod file;
mod members;
mod modes;
mod stats;

pub use exits::{
    EXIT_CODES, EXIT_ROWS, ExitReason, ExitRow, OTHER_EXITS, SVM_EXITS, VMX_EXITS, exit_place, exit_rows,
    rows_of,
};
pub use file::{ANON_INODES, MAX_VCPU_FILES, VCPU_FILE, VCPU_FILE_END, VcpuFile, VcpuFiles};
pub(super) use members::kvm_members;
pub use modes::{EXIT_BUCKETS, ExitCounts, ExitOffsets, MODES, Mode, Modes, mode_place};
pub use stats::{KVM_STATS, KvmStat, for_each_kvm_stat};
