//! Requests of guests at disks.

mod members;

pub(in crate::abi) use members::block_members;

use crate::histogram::BUCKETS;

/// Disks of guests that there is room for beside those with a place: each pair of a guest and a disk that has
/// served it. With [`MAX_FIRST_DISKS`] that is two disks of each of 1,792 guests.
pub const MAX_DISKS: u32 = 2560;

/// Numbers of control groups in the io controller that there is room for. The kernel gives out the lowest
/// that is free.
pub const MAX_IO_GROUPS: u32 = 65_536;

/// Guests whose first disk has a place in a table. The others' are in the hash, as all second disks are.
pub const MAX_FIRST_DISKS: u32 = 1024;

/// A disk of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct DiskKey {
    /// Number that user space gave the guest; it gives none twice.
    pub owner: u32,
    /// The disk, as [`device_of`] has it.
    pub device: u32,
}

/// Bits of a device's number that are its minor number (`MINORBITS`).
const MINOR_BITS: u32 = 20;

/// A device from its major and minor number.
#[must_use]
#[inline(always)]
pub const fn device_of(major: u32, minor: u32) -> u32 {
    major << MINOR_BITS | minor & ((1 << MINOR_BITS) - 1)
}

/// Major and minor number of a device.
#[must_use]
pub const fn numbers_of(device: u32) -> (u32, u32) {
    (device >> MINOR_BITS, device & ((1 << MINOR_BITS) - 1))
}

/// What a request does; the discriminant is its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DiskOperation {
    /// Reads.
    Read,
    /// Writes, zeroes included.
    Write,
    /// Has the disk write what it keeps in a cache of its own.
    Flush,
    /// Says which parts are not needed any more.
    Discard,
}

impl DiskOperation {
    /// Number of them.
    pub const COUNT: usize = 4;
    /// Those with data, which are first.
    pub const WITH_DATA: usize = 2;

    /// From the low byte of the kernel's flags, as the kernel's own statistics have it: what is no discard
    /// and odd writes. Zeroes and secure erasures do.
    #[must_use]
    #[inline(always)]
    pub const fn of(operation: u32) -> Self {
        match operation {
            FLUSH => Self::Flush,
            DISCARD => Self::Discard,
            write if write % 2 == 1 => Self::Write,
            _ => Self::Read,
        }
    }
}

/// `REQ_OP_WRITE`: a plain write. What else is odd writes in other ways, as zeroes, or resets a zone.
pub const PLAIN_WRITE: u32 = 1;
/// `REQ_OP_FLUSH` and `REQ_OP_DISCARD`; all of these the same from 5.10 to 7.2.
const FLUSH: u32 = 2;
const DISCARD: u32 = 3;
/// Operations from this on are the drivers' own commands (`REQ_OP_SCSI_IN`, `REQ_OP_DRV_IN`), which the
/// kernel's statistics have only where it is asked to (`queue/iostats_passthrough`).
pub const FIRST_COMMAND: u32 = 32;

/// What was counted of a guest's disk. Any CPU adds to it, with atomic operations: what follows from other
/// counts has none of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DiskCounts {
    /// Sums, by [`DiskOperation`].
    pub sums: [OperationSums; DiskOperation::COUNT],
    /// Requests by their time from when they were made to their end, where the kernel keeps it: by
    /// [`DiskOperation`], and by bucket as [`crate::histogram`] has them.
    pub durations: [[u64; BUCKETS]; DiskOperation::COUNT],
    /// Of those with data, where the kernel keeps it: by their time until the driver was given them.
    pub queued: [[u64; BUCKETS]; DiskOperation::WITH_DATA],
    /// By their time from then on.
    pub served: [[u64; BUCKETS]; DiskOperation::WITH_DATA],
}

/// Sums of one operation: a line of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct OperationSums {
    /// Bytes of requests.
    pub bytes: u64,
    /// Requests that failed, or parts of them.
    pub errors: u64,
    /// Requests that ended of which the kernel keeps no time. All others are in `durations`.
    pub untimed: u64,
    /// Time of requests until the driver was given them, ns, of those that are in `queued`.
    pub queued_ns: u64,
    /// Time of the same from then on, ns.
    pub served_ns: u64,
    /// Time of all others in `durations`, ns.
    pub whole_ns: u64,
    /// Keeps the layout explicit.
    pub _pad: [u64; 2],
}

impl DiskCounts {
    /// Requests that ended, by [`DiskOperation`].
    #[must_use]
    pub fn operations(&self) -> [u64; DiskOperation::COUNT] {
        core::array::from_fn(|n| self.sums[n].untimed + self.durations[n].iter().sum::<u64>())
    }
}

/// The disk of a guest that has a place in the table, and which it is, in one word: neither is read without
/// the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct FirstDisk(u64);

impl FirstDisk {
    /// No disk has one.
    pub const NONE: Self = Self(0);

    /// The disk with these numbers, as [`device_of`] has them, has this place.
    #[must_use]
    pub const fn new(device: u32, place: u32) -> Self {
        Self((place as u64 + 1) << 32 | device as u64)
    }

    /// The place of this disk, if it has one.
    #[must_use]
    #[inline(always)]
    pub const fn place_of(self, device: u32) -> Option<u32> {
        let place = (self.0 >> 32) as u32;
        if self.0 as u32 == device && place != 0 { Some(place - 1) } else { None }
    }
}

/// Whose the requests are that are charged to a control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IoGroup {
    /// The control group's serial number: another that has its number later has another.
    pub serial: u64,
    /// The guest's disk that has a place in the table.
    pub first: FirstDisk,
    /// Number of the guest; 0 of none.
    pub owner: u32,
    /// Keeps the layout explicit.
    pub _pad: u32,
}

/// What the programs on the block layer lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct BlockStats {
    /// Requests of guests for whose disk there was no room.
    pub untracked: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_those_of_the_kernel_s_statistics() {
        assert_eq!(
            [0, 2, 3].map(DiskOperation::of),
            [DiskOperation::Read, DiskOperation::Flush, DiskOperation::Discard]
        );
        assert_eq!([1, 5, 7, 9].map(DiskOperation::of), [DiskOperation::Write; 4]);
    }

    #[test]
    fn a_place_is_that_of_one_disk() {
        let device = device_of(8, 16);
        assert_eq!(FirstDisk::new(device, 0).place_of(device), Some(0));
        assert_eq!(FirstDisk::new(device, MAX_FIRST_DISKS - 1).place_of(device), Some(MAX_FIRST_DISKS - 1));
        assert_eq!(FirstDisk::new(device, 7).place_of(device + 1), None);
        assert_eq!(FirstDisk::NONE.place_of(0), None, "nor has the disk whose numbers are zero");
    }

    #[test]
    fn all_requests_that_ended_are_operations() {
        let mut counts = DiskCounts::default();
        counts.sums[1].untimed = 2;
        (counts.durations[1][3], counts.durations[1][31], counts.durations[2][0]) = (4, 8, 16);
        assert_eq!(counts.operations(), [0, 14, 16, 0]);
        assert_eq!(size_of::<OperationSums>(), 64, "a line of the cache");
        assert_eq!(size_of::<DiskCounts>() % 64, 0);
    }

    #[test]
    fn numbers_of_devices_are_packed_as_the_kernel_does() {
        assert_eq!(numbers_of(device_of(259, 1_048_575)), (259, 1_048_575));
        assert_eq!(device_of(8, 16), 8 << 20 | 16);
    }
}
