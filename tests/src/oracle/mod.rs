//! The kernel's own numbers, to hold the sampler's against; and a guest's, from its console.
//!
//! | oracle | file | exact |
//! |---|---|---|
//! | [`Schedstat`] | `/proc/PID/task/TID/schedstat` | to the nanosecond, once the thread is off its CPU |
//! | [`Switches`] | `/proc/PID/task/TID/status` | yes |
//! | [`TaskStat`] | `/proc/PID/task/TID/stat` | state, start, page faults; times in it are sampled and not used |
//! | [`threads`] | `/proc/PID/task`: ids and names | of those that live through the look |
//! | [`CpuGroup`] | `cpu.stat` of a cgroup, v1 or v2 | yes |
//! | [`Diskstats`] | `/proc/diskstats` | counts yes, times to a millisecond |
//! | [`io_counts`] | `io.stat` of a cgroup, v2 | yes |
//! | [`BlockTrace`] | tracefs: the event `block_rq_complete`, in a buffer of its own | yes |
//! | [`KvmDebugfs`] | `/sys/kernel/debug/kvm/PID-FD/`: sums over a VM's vCPUs | yes |
//! | [`KvmTrace`] | tracefs: the events `kvm_entry` and `kvm_exit`, in a buffer of its own | counts yes, times to a microsecond for each |
//! | [`SchedTrace`] | tracefs: the events `sched_switch` and `sched_wakeup`, in a buffer of its own | to a microsecond for each |
//! | [`HostTicks`] | `/proc/stat` | to a tick |
//! | [`StallTotals`] | `/proc/pressure/*`, `*.pressure` of a cgroup, v2 | to a microsecond |
//! | [`GuestStat`] | the guest's `/proc/stat`, printed on its console | to a tick of the guest |

mod block_trace;
mod cgroup;
mod diskstats;
mod error;
mod guest_stat;
mod host_ticks;
mod kvm_debugfs;
mod kvm_trace;
mod mount;
mod pressure;
mod sched_trace;
mod schedstat;
mod task_stat;
mod task_status;
mod tasks;
mod trace;

pub use block_trace::BlockTrace;
pub use cgroup::{
    Controller, CpuGroup, CpuQuota, Group, Hierarchy, IoCounts, Throttling, io_counts, sweep as sweep_groups,
};
pub use diskstats::{Diskstats, Served};
pub use error::OracleError;
pub use guest_stat::{CpuTicks, GuestStat};
pub use host_ticks::HostTicks;
pub use kvm_debugfs::KvmDebugfs;
pub use kvm_trace::{KvmTrace, Traced, TracedThread};
pub use pressure::StallTotals;
pub use sched_trace::{Activity, Change, SchedTrace};
pub use schedstat::{Schedstat, SchedstatFile};
pub use task_stat::{TaskStat, TaskState};
pub use task_status::Switches;
pub use tasks::{if_there, threads};
