//! From what the programs count of disks to the disks of guests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sampler_ebpf::abi::{self, DiskKey, FirstDisk};

use super::{
    Owners,
    owners::{Change, Group},
    places::Places,
};
use crate::model::{Device, Disk, DiskCounts, Histogram, VmKey};

/// A disk that has served a guest.
#[derive(Debug, Default)]
struct Known {
    /// What was read of it last, as the programs have it: what was counted without a place, and since it has
    /// one.
    hashed: abi::DiskCounts,
    placed: abi::DiskCounts,
    /// One of these is another than at the reading before.
    is_changed: bool,
    /// Both together.
    counts: DiskCounts,
    /// What had been counted when the disk got its name: of another that had the device's numbers before.
    before: DiskCounts,
    /// What was shown of the reading before.
    previous: Option<Arc<DiskCounts>>,
    /// Nothing was added since then.
    is_same: bool,
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
    /// Disks of guests that have ended, which the shared table still has.
    ended: BTreeSet<DiskKey>,
    places: Places,
    unasked: BTreeSet<u32>,
}

impl Known {
    /// Takes in what was read. Most disks have nothing to do most of the time, and cost a comparison then.
    fn read(&mut self, is_placed: bool, counts: &abi::DiskCounts) {
        let known = if is_placed { &mut self.placed } else { &mut self.hashed };
        if known != counts {
            *known = *counts;
            self.is_changed = true;
        }
    }

    /// What was counted so far is another's.
    fn restart(&mut self) {
        (self.before, self.previous, self.shown) = (self.counts, None, None);
    }
}

impl Disks {
    /// What the shared table is to have; the counts of guests that get their number now begin at
    /// `at_unix_ns`.
    pub(in crate::source) fn take_changes(&mut self, at_unix_ns: u64) -> Vec<Change> {
        let changes = self.owners.take_changes();
        for change in &changes {
            if let Change::Owns(_, number) = change
                && self.since.insert(*number, at_unix_ns).is_some()
            {
                // It was not counted for a while: its disks begin anew.
                self.disks
                    .iter_mut()
                    .filter(|(key, _)| key.owner == *number)
                    .for_each(|(_, disk)| disk.restart());
            }
        }
        changes
    }

    /// Takes in what was counted of a disk while it had no place.
    pub(in crate::source) fn read(&mut self, key: &DiskKey, counts: &abi::DiskCounts) {
        self.disks.entry(*key).or_default().read(false, counts);
        if let std::collections::btree_map::Entry::Vacant(name) = self.names.entry(key.device) {
            name.insert(Name::default());
            self.unasked.insert(key.device);
        }
    }

    /// The disks that have places.
    pub(in crate::source) fn placed(&self) -> Vec<(DiskKey, u32)> {
        self.places.all().collect()
    }

    /// Takes in what was counted of a disk since it has a place.
    pub(in crate::source) fn read_placed(&mut self, key: &DiskKey, counts: &abi::DiskCounts) {
        if let Some(known) = self.disks.get_mut(key) {
            known.read(true, counts);
        }
    }

    /// All was read. Returns the control groups of guests of which a disk has a place from now on.
    pub(in crate::source) fn are_read(&mut self) -> Vec<(Group, FirstDisk)> {
        let mut placed = Vec::new();
        for (key, known) in &mut self.disks {
            known.previous = known.shown.take().map(|disk| disk.counts);
            known.is_same = !std::mem::take(&mut known.is_changed);
            if !known.is_same {
                known.counts = model(&known.hashed).plus(&model(&known.placed));
            }
            // To find the group takes a look at all guests, and is done once for each that gets a place.
            if self.places.is_any_left()
                && !self.places.has(key.owner)
                && let Some(group) = self.owners.group_of(key.owner)
                && self.places.give(*key)
            {
                placed.push((group, self.places.first_of(key.owner)));
            }
        }
        placed
    }

    /// What the row of a guest's control group says of its first disk.
    pub(in crate::source) fn first_of(&self, owner: u32) -> FirstDisk {
        self.places.first_of(owner)
    }

    /// Forgets the disks of guests that have ended; returns which the shared tables are to forget, with their
    /// places: those that had ended at the call before, for a program may just be adding to one.
    pub(in crate::source) fn forget_ended(&mut self) -> Vec<(DiskKey, Option<u32>)> {
        let living: BTreeSet<u32> = self.owners.numbers().map(|(number, ..)| number).collect();
        self.since.retain(|number, _| living.contains(number));
        let ended: BTreeSet<DiskKey> =
            self.disks.keys().filter(|key| !living.contains(&key.owner)).copied().collect();
        let (forgotten, ended): (Vec<_>, _) = ended.into_iter().partition(|key| self.ended.contains(key));
        self.ended = ended.into_iter().collect();
        for key in &forgotten {
            self.disks.remove(key);
        }
        let used: BTreeSet<u32> = self.disks.keys().map(|key| key.device).collect();
        self.names.retain(|device, _| used.contains(device));
        self.unasked.retain(|device| used.contains(device));
        forgotten.into_iter().map(|key| (key, self.places.take_back(key))).collect()
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
        let is_another = known.name.replace(name.as_str().into()).is_some();
        for disk in self.disks.iter_mut().filter(|(key, _)| key.device == device).map(|(_, disk)| disk) {
            disk.shown = None;
            if is_another {
                disk.restart();
            }
        }
        if is_another {
            known.since_unix_ns = at_unix_ns;
        }
        // A disk that had the name, and is gone from sysfs while somebody holds it, has it no more.
        let mut others = self.names.iter().filter(|(other, _)| **other != device);
        if let Some((&other, _)) = others.find(|(_, known)| known.name.as_deref() == Some(&name)) {
            self.name(numbers(other), Some(&numbers(other).to_string()), at_unix_ns);
        }
    }

    /// The disks of each guest, ordered by device. One whose name is still to come is not among them.
    pub(in crate::source) fn shown(&mut self) -> BTreeMap<VmKey, Vec<Disk>> {
        let guests: BTreeMap<u32, VmKey> = self.owners.counted().collect();
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
                counts: match known.previous.as_ref().filter(|_| known.is_same) {
                    Some(previous) => Arc::clone(previous),
                    None => Arc::new(known.counts.since(&known.before)),
                },
                before: known.previous.clone(),
            });
            shown.entry(*guest).or_default().push(disk.clone());
        }
        shown
    }
}

/// The counts of both sides have the same order.
const _: () = {
    use crate::model::DiskOperation as Model;
    use abi::DiskOperation as Abi;
    assert!(
        Abi::Read as usize == Model::Read as usize
            && Abi::Write as usize == Model::Write as usize
            && Abi::Flush as usize == Model::Flush as usize
            && Abi::Discard as usize == Model::Discard as usize,
    );
};

fn numbers(device: u32) -> Device {
    let (major, minor) = abi::numbers_of(device);
    Device { major, minor }
}

const fn packed(Device { major, minor }: Device) -> u32 {
    abi::device_of(major, minor)
}

fn model(counts: &abi::DiskCounts) -> DiskCounts {
    let abi::DiskCounts { sums, durations, queued, served } = counts;
    let histogram = |sum_ns, counts: &[u64; _]| Histogram { sum_ns, counts: *counts };
    DiskCounts {
        operations: counts.operations(),
        bytes: sums.map(|sums| sums.bytes),
        errors: sums.map(|sums| sums.errors),
        durations: std::array::from_fn(|n| {
            histogram(sums[n].queued_ns + sums[n].served_ns + sums[n].whole_ns, &durations[n])
        }),
        queued: std::array::from_fn(|n| histogram(sums[n].queued_ns, &queued[n])),
        served: std::array::from_fn(|n| histogram(sums[n].served_ns, &served[n])),
    }
}

#[cfg(test)]
mod tests {
    use sampler_ebpf::abi::device_of;

    use super::*;

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
        let mut counts = abi::DiskCounts::default();
        counts.sums[0].untimed = reads;
        counts
    }

    /// Takes in what was counted of a disk, and of no other.
    fn read(disks: &mut Disks, key: &DiskKey, reads: u64) {
        disks.read(key, &counts(reads));
        disks.are_read();
    }

    fn key(owner: u32) -> DiskKey {
        DiskKey { owner, device: device_of(8, 16) }
    }

    fn shown(disks: &mut Disks) -> Option<(String, u64, u64)> {
        let disk = disks.shown().remove(&GUEST)?.pop()?;
        Some((disk.name.to_string(), disk.since_unix_ns, disk.counts.operations[0]))
    }

    fn added(disks: &mut Disks) -> u64 {
        disks.shown()[&GUEST][0].added().operations[0]
    }

    #[test]
    fn a_disk_is_shown_once_it_has_a_name() {
        let mut disks = disks();
        read(&mut disks, &key(1), 7);
        assert_eq!((shown(&mut disks), disks.take_unasked()), (None, vec![DEVICE]));
        disks.name(DEVICE, Some("sdb"), 60);
        assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 7)));
        read(&mut disks, &key(1), 9);
        assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 9)));
        assert_eq!(added(&mut disks), 2);
        read(&mut disks, &key(1), 9);
        assert_eq!((shown(&mut disks).unwrap().2, added(&mut disks)), (9, 0));
        disks.name(DEVICE, None, 70);
        assert_eq!(shown(&mut disks).unwrap().0, "sdb", "no answer is no knowledge");
        assert_eq!(disks.take_unasked(), [], "it is asked about once");
    }

    #[test]
    fn a_device_without_a_name_is_called_by_its_numbers() {
        let mut disks = disks();
        read(&mut disks, &key(1), 7);
        disks.name(DEVICE, None, 60);
        assert_eq!(shown(&mut disks), Some(("8:16".into(), 50, 7)));
    }

    #[test]
    fn another_name_is_another_disk_that_begins_at_zero() {
        let mut disks = disks();
        read(&mut disks, &key(1), 7);
        disks.name(DEVICE, Some("sdb"), 60);
        disks.name(DEVICE, Some("sdc"), 80);
        read(&mut disks, &key(1), 10);
        assert_eq!(shown(&mut disks), Some(("sdc".into(), 80, 3)));
        assert_eq!(added(&mut disks), 3);
    }

    #[test]
    fn a_guest_that_was_not_counted_for_a_while_begins_anew() {
        let mut disks = disks();
        read(&mut disks, &key(1), 7);
        disks.name(DEVICE, Some("sdb"), 60);
        let group = Group { id: 8, serial: 8, inode: 8 };
        disks.owners.observe([(GUEST, Some(group))].into_iter());
        disks.take_changes(70);
        assert_eq!(shown(&mut disks), None, "nothing is counted: that is not zero");
        disks.owners.answer(GUEST, 8, Some(true));
        disks.take_changes(90);
        read(&mut disks, &key(1), 9);
        assert_eq!(shown(&mut disks), Some(("sdb".into(), 90, 2)));
    }

    #[test]
    fn two_disks_never_have_one_name() {
        let mut disks = disks();
        let other = DiskKey { owner: 1, device: device_of(8, 32) };
        read(&mut disks, &key(1), 7);
        read(&mut disks, &other, 1);
        disks.name(DEVICE, Some("nvme1n1"), 60);
        disks.name(Device { major: 8, minor: 32 }, Some("nvme1n1"), 80);
        let shown = disks.shown().remove(&GUEST).unwrap();
        let names: Vec<_> = shown.iter().map(|disk| (&*disk.name, disk.since_unix_ns)).collect();
        assert_eq!(names, [("8:16", 80), ("nvme1n1", 50)]);
    }

    #[test]
    fn a_disk_that_is_replaced_under_its_name_and_numbers_goes_on() {
        let mut disks = disks();
        read(&mut disks, &key(1), 7);
        disks.name(DEVICE, Some("sdb"), 60);
        assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 7)));
        disks.name(DEVICE, Some("sdb"), 80);
        read(&mut disks, &key(1), 9);
        assert_eq!((shown(&mut disks), added(&mut disks)), (Some(("sdb".into(), 50, 9)), 2));
    }

    #[test]
    fn guests_with_64_disks_each_have_all_of_them_of_4096() {
        const GUESTS: u32 = 64;
        const DISKS: u32 = 64;
        let guest = |number: u32| VmKey::new([number.into(), 1]);
        let group = |number: u32| Group { id: number, serial: number.into(), inode: number.into() };
        let mut disks = Disks::default();
        disks.owners.observe((1..=GUESTS).map(|number| (guest(number), Some(group(number)))));
        (1..=GUESTS).for_each(|number| disks.owners.answer(guest(number), number.into(), Some(true)));
        assert_eq!(disks.take_changes(50).len(), GUESTS as usize);
        for owner in 1..=GUESTS {
            for minor in 0..DISKS {
                let key = DiskKey { owner, device: device_of(owner, minor) };
                disks.read(&key, &counts((owner * DISKS + minor).into()));
            }
        }
        assert_eq!(disks.are_read().len(), GUESTS as usize, "one disk of each has a place");
        let unasked = disks.take_unasked();
        assert_eq!(unasked.len(), (GUESTS * DISKS) as usize);
        for device in unasked {
            disks.name(device, Some(&format!("disk-{device}")), 60);
        }
        let shown = disks.shown();
        assert_eq!(shown.len(), GUESTS as usize);
        for owner in 1..=GUESTS {
            let all = shown[&guest(owner)].iter().map(|disk| disk.counts.operations[0]);
            assert!(all.eq((0..DISKS).map(|minor| u64::from(owner * DISKS + minor))), "guest {owner}");
        }
    }

    #[test]
    fn disks_of_guests_that_have_ended_are_forgotten() {
        let mut disks = disks();
        read(&mut disks, &key(1), 7);
        read(&mut disks, &key(99), 1);
        assert_eq!(disks.forget_ended(), [], "a program may just be adding to it");
        assert_eq!(disks.forget_ended(), [(key(99), None)]);
        disks.owners.observe(std::iter::empty());
        assert_eq!(disks.forget_ended(), []);
        assert_eq!(disks.forget_ended(), [(key(1), Some(0))]);
        assert_eq!((disks.devices().count(), disks.shown().len()), (0, 0));
    }

    #[test]
    fn a_disk_that_has_a_place_has_what_was_counted_before_too() {
        let mut disks = disks();
        disks.read(&key(1), &counts(7));
        let group = Group { id: 3, serial: 4, inode: 5 };
        assert_eq!(disks.are_read(), [(group, FirstDisk::new(device_of(8, 16), 0))]);
        assert_eq!(disks.placed(), [(key(1), 0)]);
        disks.name(DEVICE, Some("sdb"), 60);
        disks.read(&key(1), &counts(8));
        disks.read_placed(&key(1), &counts(30));
        assert_eq!(disks.are_read(), []);
        assert_eq!(shown(&mut disks), Some(("sdb".into(), 50, 38)));
        // One that comes or goes meanwhile may be missing from the other table.
        disks.read_placed(&key(1), &counts(31));
        disks.are_read();
        assert_eq!((shown(&mut disks).unwrap().2, added(&mut disks)), (39, 1));
    }

    #[test]
    fn parts_of_durations_come_to_the_whole() {
        let mut counts = abi::DiskCounts::default();
        counts.sums[0] =
            abi::OperationSums { queued_ns: 3, served_ns: 5, whole_ns: 11, ..abi::OperationSums::default() };
        (counts.durations[0][7], counts.queued[0][2], counts.served[0][1]) = (2, 1, 1);
        let DiskCounts { operations, durations, queued, served, .. } = model(&counts);
        assert_eq!((operations[0], durations[0].sum_ns, durations[0].counts[7]), (2, 19, 2));
        assert_eq!((queued[0].sum_ns, queued[0].counts[2]), (3, 1));
        assert_eq!((served[0].sum_ns, served[0].counts[1]), (5, 1));
    }
}
