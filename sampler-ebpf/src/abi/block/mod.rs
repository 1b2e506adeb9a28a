//! Requests of guests at disks.

mod members;

pub(in crate::abi) use members::block_members;

use crate::histogram::Histogram;

/// Disks of guests that there is room for: each pair of a guest and a disk that has served it.
pub const MAX_DISKS: u32 = 2048;

/// Numbers of control groups in the io controller that there is room for. The kernel gives out the lowest
/// that is free.
pub const MAX_IO_GROUPS: u32 = 65_536;

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

/// `REQ_OP_FLUSH` and `REQ_OP_DISCARD`, the same from 5.10 to 7.2.
const FLUSH: u32 = 2;
const DISCARD: u32 = 3;
/// Operations from this on are the drivers' own commands (`REQ_OP_SCSI_IN`, `REQ_OP_DRV_IN`), which no
/// statistics of the kernel have.
pub const FIRST_COMMAND: u32 = 32;

/// What was counted of a guest's disk. Any CPU adds to it, with atomic operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct DiskCounts {
    /// Requests that ended, by [`DiskOperation`].
    pub operations: [u64; DiskOperation::COUNT],
    /// Bytes of them.
    pub bytes: [u64; DiskOperation::COUNT],
    /// Requests that failed, or parts of them.
    pub errors: [u64; DiskOperation::COUNT],
    /// Time of requests from when they were made to their end, where the kernel keeps it.
    pub durations: [Histogram; DiskOperation::COUNT],
    /// Of those with data: until the driver was given them, where the kernel keeps it.
    pub queued: [Histogram; DiskOperation::WITH_DATA],
    /// From then on.
    pub served: [Histogram; DiskOperation::WITH_DATA],
}

/// Whose the requests are that are charged to a control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct IoGroup {
    /// The control group's serial number: another that has its number later has another.
    pub serial: u64,
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
    fn numbers_of_devices_are_packed_as_the_kernel_does() {
        assert_eq!(numbers_of(device_of(259, 1_048_575)), (259, 1_048_575));
        assert_eq!(device_of(8, 16), 8 << 20 | 16);
    }
}
