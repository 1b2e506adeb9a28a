//! From what the programs count of disks to the disks of guests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sampler_ebpf::abi::{self, DiskKey};

use super::{Owners, owners::Change};
use crate::model::{Device, Disk, DiskCounts, VmKey};

/// A disk that has served a guest.
#[derive(Debug)]
struct Known {
    counts: DiskCounts,
    /// What had been counted when the disk got its name: of another that had the device's numbers before.
    before: DiskCounts,
    shown: Option<Disk>,
}

/// A device's name.
#[derive(Debug, Default)]
struct Name {
    /// Absent before the first answer.
    name: Option<Arc<str>>,
    /// It changed, or came, at this Unix time in ns; 0 of the first one.
    since_unix_ns: u64,
}

/// The disks of all guests.
#[derive(Debug, Default)]
pub(in crate::source) struct Disks {
    /// Whose control groups are.
    pub(in crate::source) owners: Owners,
    disks: BTreeMap<DiskKey, Known>,
    /// When the counts of a guest's disks were zero, Unix time in ns, by its number.
    since: BTreeMap<u32, u64>,
    names: BTreeMap<u32, Name>,
    unasked: BTreeSet<u32>,
}

impl Disks {
    /// What the shared table is to have; the counts of guests that get their number now begin at
    /// `at_unix_ns`.
    pub(in crate::source) fn take_changes(&mut self, at_unix_ns: u64) -> Vec<Change> {
        let changes = self.owners.take_changes();
        for change in &changes {
            if let Change::Owns(_, number) = change {
                self.since.entry(*number).or_insert(at_unix_ns);
            }
        }
        changes
    }

    /// Takes in what was counted of a disk.
    pub(in crate::source) fn read(&mut self, key: &DiskKey, counts: &abi::DiskCounts) {
        let known = self.disks.entry(*key).or_insert_with(|| Known {
            counts: DiskCounts::default(),
            before: DiskCounts::default(),
            shown: None,
        });
        let now = model(counts);
        if known.counts != now {
            known.counts = now;
            known.shown = None;
        }
        if let std::collections::btree_map::Entry::Vacant(name) = self.names.entry(key.device) {
            name.insert(Name::default());
            self.unasked.insert(key.device);
        }
    }

    /// Forgets the disks of guests that have ended; returns which the shared table is to forget.
    pub(in crate::source) fn forget_ended(&mut self) -> Vec<DiskKey> {
        let living: BTreeSet<u32> = self.owners.numbers().map(|(number, ..)| number).collect();
        self.since.retain(|number, _| living.contains(number));
        let ended: Vec<_> = self.disks.keys().filter(|key| !living.contains(&key.owner)).copied().collect();
        for key in &ended {
            self.disks.remove(key);
        }
        let used: BTreeSet<u32> = self.disks.keys().map(|key| key.device).collect();
        self.names.retain(|device, _| used.contains(device));
        self.unasked.retain(|device| used.contains(device));
        ended
    }

    /// Devices whose names are to be asked.
    pub(in crate::source) fn take_unasked(&mut self) -> Vec<Device> {
        std::mem::take(&mut self.unasked).into_iter().map(numbers).collect()
    }

    /// One could not be asked about: [`Self::take_unasked`] will have it again.
    pub(in crate::source) fn unasked_still(&mut self, device: Device) {
        self.unasked.insert(packed(device));
    }

    /// All devices that have served guests.
    pub(in crate::source) fn devices(&self) -> impl Iterator<Item = Device> + '_ {
        self.names.keys().copied().map(numbers)
    }

    /// What a device is called, or that it has no name. Another name than before is another disk: its counts
    /// begin then.
    pub(in crate::source) fn name(&mut self, device: Device, name: Option<&str>, at_unix_ns: u64) {
        let device = packed(device);
        let Some(known) = self.names.get_mut(&device) else { return };
        let name = match (name, &known.name) {
            (Some(name), _) => name.to_owned(),
            // No answer is no knowledge.
            (None, Some(_)) => return,
            (None, None) => numbers(device).to_string(),
        };
        if known.name.as_deref() == Some(&name) {
            return;
        }
        let is_another = known.name.replace(name.into()).is_some();
        for disk in self.disks.iter_mut().filter(|(key, _)| key.device == device).map(|(_, disk)| disk) {
            disk.shown = None;
            if is_another {
                disk.before = disk.counts;
            }
        }
        if is_another {
            known.since_unix_ns = at_unix_ns;
        }
    }

    /// The disks of each guest, ordered by device. One whose name is still to come is not among them.
    pub(in crate::source) fn shown(&mut self) -> BTreeMap<VmKey, Vec<Disk>> {
        let guests: BTreeMap<u32, VmKey> = self.owners.numbers().collect();
        let mut shown: BTreeMap<VmKey, Vec<Disk>> = BTreeMap::new();
        for (key, known) in &mut self.disks {
            let Some(guest) = guests.get(&key.owner) else { continue };
            let Some((name, named_unix_ns)) =
                self.names.get(&key.device).and_then(|name| Some((name.name.clone()?, name.since_unix_ns)))
            else {
                continue;
            };
            let since_unix_ns = self.since.get(&key.owner).copied().unwrap_or_default().max(named_unix_ns);
            let disk = known.shown.get_or_insert_with(|| Disk {
                device: numbers(key.device),
                name,
                since_unix_ns,
                counts: Arc::new(known.counts.since(&known.before)),
            });
            shown.entry(*guest).or_default().push(disk.clone());
        }
        shown
    }
}

fn numbers(device: u32) -> Device {
    let (major, minor) = abi::numbers_of(device);
    Device { major, minor }
}

const fn packed(Device { major, minor }: Device) -> u32 {
    abi::device_of(major, minor)
}

fn model(counts: &abi::DiskCounts) -> DiskCounts {
    let abi::DiskCounts { operations, bytes, errors, durations, queued, served } = *counts;
    DiskCounts { operations, bytes, errors, durations, queued, served }
}

#[cfg(test)]
mod tests {
    use sampler_ebpf::abi::device_of;

    use super::{super::Group, *};

    const GUEST: VmKey = VmKey::new([1, 1]);
    const DEVICE: Device = Device { major: 8, minor: 16 };

    /// Disks of a guest whose control group is its own from 50 ns on.
    fn disks() -> Disks {
        let mut disks = Disks::default();
        disks.owners.observe([(GUEST, Some(Group { id: 3, serial: 4, inode: 5 }))].into_iter());
        disks.owners.answer(GUEST, 5, Some(true));
        assert_eq!(disks.take_changes(50).len(), 1);
        disks
    }

    fn counts(reads: u64) -> abi::DiskCounts {
        abi::DiskCounts { operations: [reads, 0, 0, 0], ..abi::DiskCounts::default() }
    }

    fn key(owner: u32) -> DiskKey {
        DiskKey { owner, device: device_of(8, 16) }
    }

    fn shown(disks: &mut Disks) -> Option<(String, u64, u64)> {
        let disk = disks.shown().remove(&GUEST)?.pop()?;
        Some((disk.name.to_string(), disk.since_unix_ns, disk.counts.operations[0]))
    }

    #[test]
    fn a_disk_is_shown_once_it_has_a_name() {
        let mut disks = disks();
        disks.read(&key(1), &counts(7));
        assert_eq!((shown(&mut disks), disks.take_unasked()), (None, vec![DEVICE]));
        disks.name(DEVICE, Some("sdb"), 60);
        assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 7)));
        disks.read(&key(1), &counts(9));
        assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 9)));
        disks.name(DEVICE, None, 70);
        assert_eq!(shown(&mut disks).unwrap().0, "sdb", "no answer is no knowledge");
        assert_eq!(disks.take_unasked(), [], "it is asked about once");
    }

    #[test]
    fn a_device_without_a_name_is_called_by_its_numbers() {
        let mut disks = disks();
        disks.read(&key(1), &counts(7));
        disks.name(DEVICE, None, 60);
        assert_eq!(shown(&mut disks), Some(("8:16".into(), 50, 7)));
    }

    #[test]
    fn another_name_is_another_disk_that_begins_at_zero() {
        let mut disks = disks();
        disks.read(&key(1), &counts(7));
        disks.name(DEVICE, Some("sdb"), 60);
        disks.name(DEVICE, Some("sdc"), 80);
        disks.read(&key(1), &counts(10));
        assert_eq!(shown(&mut disks), Some(("sdc".into(), 80, 3)));
    }

    #[test]
    fn disks_of_guests_that_have_ended_are_forgotten() {
        let mut disks = disks();
        disks.read(&key(1), &counts(7));
        disks.read(&key(99), &counts(1));
        assert_eq!(disks.forget_ended(), [key(99)]);
        disks.owners.observe(std::iter::empty());
        assert_eq!(disks.forget_ended(), [key(1)]);
        assert_eq!((disks.devices().count(), disks.shown().len()), (0, 0));
    }
}
