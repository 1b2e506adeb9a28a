//! CPU quotas by cgroup, version 1 or 2: groups of our own, made and removed, and how often they were
//! throttled.

mod group;
mod hierarchy;
mod sweep;

pub use group::{CpuGroup, CpuQuota, Throttling};
pub use hierarchy::Hierarchy;
pub use sweep::sweep;
