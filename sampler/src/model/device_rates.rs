//! What an interval came to for a guest's disks and interfaces.

use super::{
    Direction, Disk, DiskOperation, Histogram, Interface, InterfaceCounts,
    disk::{DISK_OPERATIONS, DiskCounts},
    snapshot::Vm,
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

/// Of all disks and interfaces of a guest together, in a second; absent where it has none with an interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct IoRates {
    /// Bytes read.
    pub read: Option<f64>,
    /// Bytes written.
    pub written: Option<f64>,
    /// Reads that ended.
    pub reads: Option<f64>,
    /// Writes that ended.
    pub writes: Option<f64>,
    /// Bytes that the guest received.
    pub received: Option<f64>,
    /// Bytes that the guest sent.
    pub sent: Option<f64>,
}

impl IoRates {
    /// Of a guest.
    #[must_use]
    pub fn of(vm: &Vm, interval_ns: u64) -> Self {
        const READ: usize = DiskOperation::Read as usize;
        const WRITE: usize = DiskOperation::Write as usize;
        let mut sum = Self::default();
        let add = |sum: &mut Option<f64>, rate: f64| *sum.get_or_insert(0.0) += rate;
        // What these are asked for they ask of a disk below, which has it once more: dm-multipath always, and
        // a loop device unless its file is nobody's disk.
        let is_loop = |disk: &&Disk| disk.name.starts_with("loop");
        let is_layer = |disk: &&Disk| disk.name.starts_with("dm-");
        let has_others = vm.disks.iter().any(|disk| !is_loop(&disk) && !is_layer(&disk));
        let once = vm.disks.iter().filter(|disk| !is_layer(disk) && !(is_loop(disk) && has_others));
        for disk in once.filter_map(|disk| DiskRates::of(disk, interval_ns)) {
            add(&mut sum.read, disk.bytes[READ]);
            add(&mut sum.written, disk.bytes[WRITE]);
            add(&mut sum.reads, disk.operations[READ]);
            add(&mut sum.writes, disk.operations[WRITE]);
        }
        for interface in vm.interfaces.iter().filter_map(InterfaceRates::of) {
            add(&mut sum.received, interface.bytes[Direction::Receive as usize]);
            add(&mut sum.sent, interface.bytes[Direction::Transmit as usize]);
        }
        sum
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

    #[test]
    fn a_guest_has_the_sum_of_its_devices() {
        let counts =
            DiskCounts { operations: [4, 2, 9, 9], bytes: [4096, 512, 0, 7], ..DiskCounts::default() };
        let disk = || Disk { counts: Arc::new(counts), ..Disk::default() };
        let added = InterfaceCounts { bytes: [600, 20], ..InterfaceCounts::default() };
        let read_once = Interface::default();
        let interface = Interface { added: Some((added, 1_000_000_000)), ..Interface::default() };
        let vm = Vm { disks: vec![disk(), disk()], interfaces: vec![interface, read_once], ..Vm::default() };
        let rates = IoRates::of(&vm, 2_000_000_000);
        assert_eq!(
            [rates.read, rates.written, rates.reads, rates.writes, rates.received, rates.sent],
            [4096.0, 512.0, 4.0, 2.0, 600.0, 20.0].map(Some)
        );
        let named = |name: &str| Disk { name: name.into(), ..disk() };
        let read = |names: &[&str]| {
            let disks = names.iter().map(|name| named(name)).collect();
            IoRates::of(&Vm { disks, ..Vm::default() }, 2_000_000_000).read
        };
        assert_eq!(read(&["dm-3", "sda"]), Some(2048.0), "what a layer asks of a disk is there once");
        assert_eq!(read(&["loop0", "sda"]), Some(2048.0));
        assert_eq!(read(&["loop0", "loop1"]), Some(4096.0));
        let none = IoRates::of(&Vm::default(), 2_000_000_000);
        assert_eq!((none.read, none.received), (None, None), "absent is not zero");
    }
}
