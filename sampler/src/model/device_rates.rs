//! What an interval came to for a guest's disks and interfaces.

use super::{
    Disk, DiskOperation, Histogram, Interface, InterfaceCounts,
    disk::{DISK_OPERATIONS, DiskCounts},
};

/// Of a disk.
#[derive(Clone, Copy, Debug)]
pub struct DiskRates {
    /// Requests that ended in a second, by [`DiskOperation`].
    pub operations: [f64; DISK_OPERATIONS.len()],
    /// Bytes of them.
    pub bytes: [f64; DISK_OPERATIONS.len()],
    /// Requests that failed in a second.
    pub errors: f64,
    /// How long those with data took, by [`DiskOperation`].
    pub durations: [Histogram; DiskOperation::WITH_DATA],
}

impl DiskRates {
    /// `None` where there was no interval.
    #[must_use]
    pub fn of(disk: &Disk, interval_ns: u64) -> Option<Self> {
        let seconds = (interval_ns > 0).then_some(interval_ns as f64 / 1e9)?;
        let added: DiskCounts = disk.added();
        let rates = |counts: &[u64; DISK_OPERATIONS.len()]| counts.map(|count| count as f64 / seconds);
        Some(Self {
            operations: rates(&added.operations),
            bytes: rates(&added.bytes),
            errors: rates(&added.errors).iter().sum(),
            durations: std::array::from_fn(|n| added.durations[n]),
        })
    }
}

/// Of an interface, by [`super::Direction`].
#[derive(Clone, Copy, Debug)]
pub struct InterfaceRates {
    /// Bytes in a second.
    pub bytes: [f64; 2],
    /// Packets.
    pub packets: [f64; 2],
    /// Packets that were dropped.
    pub dropped: [f64; 2],
    /// Packets with errors.
    pub errors: [f64; 2],
}

impl InterfaceRates {
    /// `None` of one that was read once.
    #[must_use]
    pub fn of(interface: &Interface) -> Option<Self> {
        let (InterfaceCounts { bytes, packets, dropped, errors }, ns) = interface.added?;
        let seconds = (ns > 0).then_some(ns as f64 / 1e9)?;
        let rates = |counts: [u64; 2]| counts.map(|count| count as f64 / seconds);
        Some(Self {
            bytes: rates(bytes),
            packets: rates(packets),
            dropped: rates(dropped),
            errors: rates(errors),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_disk_s_rates_are_of_what_the_interval_added() {
        let counts = |reads, bytes| {
            Arc::new(DiskCounts {
                operations: [reads, 0, 0, 0],
                bytes: [bytes, 0, 0, 0],
                errors: [0, 1, 0, 1],
                ..DiskCounts::default()
            })
        };
        let disk = Disk { counts: counts(30, 4096), before: Some(counts(10, 0)), ..Disk::default() };
        let rates = DiskRates::of(&disk, 2_000_000_000).unwrap();
        assert_eq!((rates.operations[0], rates.bytes[0], rates.errors), (10.0, 2048.0, 0.0));
        let new = Disk { before: None, ..disk };
        assert_eq!(
            DiskRates::of(&new, 2_000_000_000).unwrap().operations[0],
            15.0,
            "it had done nothing before"
        );
        assert!(DiskRates::of(&new, 0).is_none());
    }

    #[test]
    fn an_interface_s_rates_are_of_the_time_between_its_readings() {
        let added = InterfaceCounts { packets: [6, 4], ..InterfaceCounts::default() };
        let interface = Interface { added: Some((added, 500_000_000)), ..Interface::default() };
        assert_eq!(InterfaceRates::of(&interface).unwrap().packets, [12.0, 8.0]);
        assert!(InterfaceRates::of(&Interface::default()).is_none());
    }
}
