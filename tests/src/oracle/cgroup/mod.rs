//! Control groups, version 1 or 2: groups of our own, made and removed, how often they were throttled, and
//! what they asked of disks.

mod group;
mod hierarchy;
mod io;
mod sweep;

pub use group::{CpuGroup, CpuQuota, Group, Throttling};
pub use hierarchy::{Controller, Hierarchy};
pub use io::{IoCounts, io_counts};
pub use sweep::sweep;
