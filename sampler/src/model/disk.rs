//! What a guest asks of disks.

use std::{fmt, sync::Arc};

use super::{Histogram, distribution};
use crate::kept::kept;

// Those with data first.
labels! {
    /// What a request does; the discriminant is the index in [`DISK_OPERATIONS`].
    DiskOperation in DISK_OPERATIONS {
        Read = "read", "Reads.";
        Write = "write", "Writes, zeroes included.";
        Flush = "flush", "Has the disk write what it keeps in a cache of its own.";
        Discard = "discard", "Says which parts are not needed any more.";
    }
}

impl DiskOperation {
    /// Those with data, which are first.
    pub const WITH_DATA: usize = 2;
}

/// A device's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

kept! { Device { major, minor } }

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What was counted of a guest's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Requests that ended, by [`DiskOperation`].
    pub operations: [u64; DISK_OPERATIONS.len()],
    /// Bytes of them.
    pub bytes: [u64; DISK_OPERATIONS.len()],
    /// Requests that failed, or parts of them.
    pub errors: [u64; DISK_OPERATIONS.len()],
    /// Time of requests from when they were made to their end, where the kernel keeps it.
    pub durations: [Histogram; DISK_OPERATIONS.len()],
    /// Of those with data: until the driver was given them, where the kernel keeps it.
    pub queued: [Histogram; DiskOperation::WITH_DATA],
    /// From then on.
    pub served: [Histogram; DiskOperation::WITH_DATA],
}

kept! {
    DiskCounts {
        operations in DISK_OPERATIONS,
        bytes in DISK_OPERATIONS,
        errors in DISK_OPERATIONS,
        durations in DISK_OPERATIONS,
        queued,
        served,
    }
}

impl DiskCounts {
    /// This and more, of the same disk.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            operations: sums(&self.operations, &other.operations),
            bytes: sums(&self.bytes, &other.bytes),
            errors: sums(&self.errors, &other.errors),
            durations: all_plus(&self.durations, &other.durations),
            queued: all_plus(&self.queued, &other.queued),
            served: all_plus(&self.served, &other.served),
        }
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = |now: &[u64; DISK_OPERATIONS.len()], earlier: &[u64; DISK_OPERATIONS.len()]| {
            std::array::from_fn(|n| now[n].saturating_sub(earlier[n]))
        };
        Self {
            operations: counts(&self.operations, &earlier.operations),
            bytes: counts(&self.bytes, &earlier.bytes),
            errors: counts(&self.errors, &earlier.errors),
            durations: histograms(&self.durations, &earlier.durations),
            queued: histograms(&self.queued, &earlier.queued),
            served: histograms(&self.served, &earlier.served),
        }
    }
}

fn sums<const N: usize>(one: &[u64; N], other: &[u64; N]) -> [u64; N] {
    std::array::from_fn(|n| one[n] + other[n])
}

fn all_plus<const N: usize>(one: &[Histogram; N], other: &[Histogram; N]) -> [Histogram; N] {
    std::array::from_fn(|n| distribution::plus(&one[n], &other[n]))
}

fn histograms<const N: usize>(now: &[Histogram; N], earlier: &[Histogram; N]) -> [Histogram; N] {
    std::array::from_fn(|n| distribution::since(&now[n], &earlier[n]))
}

/// A disk of the host that has served a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its numbers.
    pub device: Device,
    /// What the kernel calls it.
    pub name: Arc<str>,
    /// When its counts were zero, Unix time in ns.
    pub since_unix_ns: u64,
    /// What was counted since then.
    pub counts: Arc<DiskCounts>,
    /// The same where the interval began; absent of one that had served nothing before.
    pub before: Option<Arc<DiskCounts>>,
}

impl Disk {
    /// What the interval added.
    #[must_use]
    pub fn added(&self) -> DiskCounts {
        self.before.as_ref().map_or(*self.counts, |before| self.counts.since(before))
    }
}
