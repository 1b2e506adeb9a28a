//! Which disk of a guest has a place in the table of first disks: pure bookkeeping.

use std::collections::BTreeMap;

use sampler_ebpf::abi::{DiskKey, FirstDisk, MAX_FIRST_DISKS};

/// The places that were given out.
#[derive(Debug)]
pub(super) struct Places {
    /// By the guest's number: its disk, and the disk's place.
    given: BTreeMap<u32, (u32, u32)>,
    /// Places that were given back.
    free: Vec<u32>,
    /// The lowest place that nobody has had.
    unused: u32,
    most: u32,
}

impl Default for Places {
    fn default() -> Self {
        Self::of(MAX_FIRST_DISKS)
    }
}

impl Places {
    fn of(most: u32) -> Self {
        Self { given: BTreeMap::new(), free: Vec::new(), unused: 0, most }
    }

    /// Whether a disk of this guest has one.
    pub(super) fn has(&self, owner: u32) -> bool {
        self.given.contains_key(&owner)
    }

    /// Whether there is one for another guest.
    pub(super) fn is_any_left(&self) -> bool {
        !self.free.is_empty() || self.unused < self.most
    }

    /// Gives a disk a place, if no disk of its guest has one and there is one left.
    pub(super) fn give(&mut self, DiskKey { owner, device }: DiskKey) -> bool {
        if self.given.contains_key(&owner) {
            return false;
        }
        let unused = || {
            let place = self.unused;
            self.unused += u32::from(place < self.most);
            (place < self.most).then_some(place)
        };
        let Some(place) = self.free.pop().or_else(unused) else { return false };
        self.given.insert(owner, (device, place));
        true
    }

    /// Takes a disk's place back; nothing where it has none.
    pub(super) fn take_back(&mut self, DiskKey { owner, device }: DiskKey) -> Option<u32> {
        let (_, place) = self.given.get(&owner).copied().filter(|(known, _)| *known == device)?;
        self.given.remove(&owner);
        self.free.push(place);
        Some(place)
    }

    /// What the row of a guest's control group has.
    pub(super) fn first_of(&self, owner: u32) -> FirstDisk {
        self.given.get(&owner).map_or(FirstDisk::NONE, |(device, place)| FirstDisk::new(*device, *place))
    }

    /// The disks that have places.
    pub(super) fn all(&self) -> impl Iterator<Item = (DiskKey, u32)> + '_ {
        self.given.iter().map(|(owner, (device, place))| (DiskKey { owner: *owner, device: *device }, *place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn key(owner: u32, device: u32) -> DiskKey {
        DiskKey { owner, device }
    }

    #[test]
    fn one_disk_of_a_guest_has_a_place() {
        let mut places = Places::of(2);
        assert!(places.give(key(1, 10)));
        assert!(!places.give(key(1, 11)), "another has it");
        assert!(places.give(key(2, 10)));
        assert!(!places.is_any_left() && !places.give(key(3, 10)), "there is none left");
        assert_eq!(places.first_of(1), FirstDisk::new(10, 0));
        assert_eq!(places.first_of(3), FirstDisk::NONE);
        assert_eq!(places.all().collect::<Vec<_>>(), [(key(1, 10), 0), (key(2, 10), 1)]);
        assert_eq!(places.take_back(key(1, 11)), None);
        assert_eq!(places.take_back(key(1, 10)), Some(0));
        assert!(places.is_any_left());
        assert_eq!(places.take_back(key(1, 10)), None);
        assert!(places.give(key(3, 12)));
        assert_eq!(places.first_of(3), FirstDisk::new(12, 0), "it is used again");
    }
}
