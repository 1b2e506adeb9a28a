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
use crate::{
    collect::devices::DiskName,
    model::{Device, Disk, DiskCounts, Histogram, VmKey},
};

/// Time for which a program may still work with what it read of a control group's row before that changed,
/// ns. It takes far less than a microsecond, but from Linux 7.0 on it may be preempted.
const SETTLED_NS: u64 = 10_000_000_000;

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
    /// It has a place from then on, by `CLOCK_MONOTONIC` in ns.
    placed_ns: Option<u64>,
    /// What the shared hash had of it when its entry was given up.
    given_up: Option<Box<DiskCounts>>,
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
    /// The kernel's number of the disk that has it, where it gives one.
    sequence: Option<u64>,
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

    /// All was read. Returns the control groups of guests of which a disk has a place from now on, by
    /// `CLOCK_MONOTONIC` in ns.
    pub(in crate::source) fn are_read(&mut self, now_ns: u64) -> Vec<(Group, FirstDisk)> {
        let mut placed = Vec::new();
        for (key, known) in &mut self.disks {
            known.previous = known.shown.take().map(|disk| disk.counts);
            known.is_same = !std::mem::take(&mut known.is_changed);
            if !known.is_same {
                let now = model(&known.hashed).plus(&model(&known.placed));
                known.counts = known.given_up.as_ref().map_or(now, |before| before.plus(&now));
            }
            // To find the group is done once for each that gets a place.
            if self.places.is_any_left()
                && !self.places.has(key.owner)
                && let Some(group) = self.owners.group_of(key.owner)
                && self.places.give(*key)
            {
                known.placed_ns = Some(now_ns);
                placed.push((group, self.places.first_of(key.owner)));
            }
        }
        placed
    }

    /// Disks whose entries in the shared hash are needed no more, right after that was read: they have had a
    /// place for so long that no program adds to the entry any more. Each once.
    pub(in crate::source) fn give_up(&mut self, now_ns: u64) -> Vec<DiskKey> {
        let is_old =
            |known: &Known| known.placed_ns.is_some_and(|at| now_ns.saturating_sub(at) >= SETTLED_NS);
        let old = self.disks.iter_mut().filter(|(_, known)| known.given_up.is_none() && is_old(known));
        let given_up = old.map(|(key, known)| {
            known.given_up = Some(Box::new(model(&std::mem::take(&mut known.hashed))));
            *key
        });
        given_up.collect()
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

    /// What a device is called, or that it has no name. Another name than before is another disk, and so is
    /// one with another number: its counts begin then.
    pub(in crate::source) fn name(&mut self, device: Device, name: Option<DiskName>, at_unix_ns: u64) {
        let device = packed(device);
        let Some(known) = self.names.get_mut(&device) else { return };
        let DiskName { name, sequence } = match (name, &known.name) {
            (Some(name), _) => name,
            // No answer is no knowledge.
            (None, Some(_)) => return,
            (None, None) => unnamed(device),
        };
        let is_replaced = sequence.zip(known.sequence).is_some_and(|(now, before)| now != before);
        known.sequence = sequence.or(known.sequence);
        if known.name.as_deref() == Some(&name) && !is_replaced {
            return;
        }
        known.sequence = sequence;
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
            self.name(numbers(other), Some(unnamed(other)), at_unix_ns);
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

/// What a disk without a name is called.
fn unnamed(device: u32) -> DiskName {
    DiskName { name: numbers(device).to_string(), sequence: None }
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
mod tests;
