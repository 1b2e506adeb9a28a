//! Which guest has a control group of the io controller to itself.
//!
//! Pure bookkeeping: what walks and answers say goes in, changes of the shared table come out.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::VmKey;

/// A control group of the io controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) struct Group {
    /// Its number there, which another may have later.
    pub(in crate::source) id: u32,
    /// Its serial number, which no other will have.
    pub(in crate::source) serial: u64,
    /// Its inode in the file system of control groups.
    pub(in crate::source) inode: u64,
}

/// What the shared table is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Change {
    /// Requests that are charged to this control group are those of the guest of this number.
    Owns(Group, u32),
    /// They are nobody's any more.
    Owned(Group),
}

/// A guest.
#[derive(Clone, Copy, Debug)]
struct Owner {
    number: u32,
    group: Option<Group>,
    /// Whether that is made for this guest; not known before somebody has looked.
    is_own: Option<bool>,
    /// The table has it.
    is_set: bool,
    /// Readings since that is not known.
    unknown_for: u32,
}

/// Readings after which a guest of which nobody can find out has no control group to itself.
const PATIENCE: u32 = 10;

/// Guests and their control groups.
#[derive(Debug, Default)]
pub(in crate::source) struct Owners {
    guests: BTreeMap<VmKey, Owner>,
    by_number: BTreeMap<u32, VmKey>,
    last_number: u32,
    changes: Vec<Change>,
    unasked: Vec<(VmKey, u64)>,
}

impl Owners {
    /// Takes in which guests there are, and in which control groups.
    pub(in crate::source) fn observe(&mut self, guests: impl Iterator<Item = (VmKey, Option<Group>)>) {
        let mut gone: BTreeSet<VmKey> = self.guests.keys().copied().collect();
        for (guest, group) in guests {
            gone.remove(&guest);
            self.see(guest, group);
        }
        for guest in gone {
            if let Some(owner) = self.guests.remove(&guest) {
                self.by_number.remove(&owner.number);
                self.unset(&owner);
            }
        }
        self.settle();
    }

    fn see(&mut self, guest: VmKey, group: Option<Group>) {
        let next = self.last_number + 1;
        let owner = self.guests.entry(guest).or_insert(Owner {
            number: next,
            group: None,
            is_own: None,
            is_set: false,
            unknown_for: 0,
        });
        owner.unknown_for = if owner.is_own.is_some() { 0 } else { owner.unknown_for.saturating_add(1) };
        self.last_number = self.last_number.max(owner.number);
        self.by_number.insert(owner.number, guest);
        // Nothing was read of it: it is where it was.
        let Some(group) = group.filter(|group| owner.group != Some(*group)) else { return };
        let before = *owner;
        *owner = Owner { group: Some(group), is_own: None, is_set: false, unknown_for: 0, ..before };
        self.unasked.push((guest, group.inode));
        self.unset(&before);
    }

    /// Whether the control group with this inode is made for a guest; nothing where nobody could find out.
    pub(in crate::source) fn answer(&mut self, guest: VmKey, inode: u64, is_own: Option<bool>) {
        if let Some(owner) = self.guests.get_mut(&guest)
            && owner.group.is_some_and(|group| group.inode == inode)
        {
            owner.is_own = is_own.or(owner.is_own);
            self.settle();
        }
    }

    /// Control groups to be asked about: whether they are made for these guests.
    pub(in crate::source) fn take_unasked(&mut self) -> Vec<(VmKey, u64)> {
        std::mem::take(&mut self.unasked)
    }

    /// Control groups of which nobody could find out so far whether they are made for these guests.
    #[must_use]
    pub(in crate::source) fn unanswered(&self) -> Vec<(VmKey, u64)> {
        let unanswered = self.guests.iter().filter(|(_, owner)| owner.is_own.is_none());
        unanswered.filter_map(|(guest, owner)| Some((*guest, owner.group?.inode))).collect()
    }

    /// One could not be asked about: [`Self::take_unasked`] will have it again.
    pub(in crate::source) fn unasked_still(&mut self, guest: VmKey, inode: u64) {
        self.unasked.push((guest, inode));
    }

    /// What has changed since the last call, in order.
    pub(in crate::source) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The control group of the guest of this number, where its requests are counted.
    pub(in crate::source) fn group_of(&self, number: u32) -> Option<Group> {
        self.guests.get(self.by_number.get(&number)?).filter(|owner| owner.is_set)?.group
    }

    /// Whether a guest has a control group to itself; nothing where that is not known, or being asked.
    pub(in crate::source) fn has_group(&self, guest: VmKey) -> Option<bool> {
        let owner = self.guests.get(&guest)?;
        (owner.is_own.is_some() || owner.unknown_for > PATIENCE).then_some(owner.is_set)
    }

    /// The guest of each number whose requests are counted.
    pub(in crate::source) fn counted(&self) -> impl Iterator<Item = (u32, VmKey)> + '_ {
        let counted = self.guests.iter().filter(|(_, owner)| owner.is_set);
        counted.map(|(guest, owner)| (owner.number, *guest))
    }

    /// The guest of each number.
    pub(in crate::source) fn numbers(&self) -> impl Iterator<Item = (u32, VmKey)> + '_ {
        self.guests.iter().map(|(guest, owner)| (owner.number, *guest))
    }

    /// There is no room for this control group in the shared table: it is nobody's.
    pub(in crate::source) fn without_room(&mut self, group: Group) {
        for owner in self.guests.values_mut().filter(|owner| owner.group == Some(group)) {
            (owner.is_own, owner.is_set) = (Some(false), false);
        }
    }

    /// Guests without a control group to themselves.
    pub(in crate::source) fn uncounted(&self) -> u64 {
        self.guests.values().filter(|owner| !owner.is_set).count() as u64
    }

    /// A guest has a control group to itself where that was made for it, and no other guest is in it.
    fn settle(&mut self) {
        let mut members = BTreeMap::<u64, u32>::new();
        for group in self.guests.values().filter_map(|owner| owner.group) {
            *members.entry(group.serial).or_default() += 1;
        }
        for owner in self.guests.values_mut() {
            let Some(group) = owner.group else { continue };
            let has_it = owner.is_own == Some(true) && members.get(&group.serial) == Some(&1);
            if has_it != owner.is_set {
                owner.is_set = has_it;
                let change = if has_it { Change::Owns(group, owner.number) } else { Change::Owned(group) };
                self.changes.push(change);
            }
        }
    }

    fn unset(&mut self, owner: &Owner) {
        if let Some(group) = owner.group.filter(|_| owner.is_set) {
            self.changes.push(Change::Owned(group));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: VmKey = VmKey::new([1, 1]);
    const B: VmKey = VmKey::new([2, 1]);

    fn group(id: u32) -> Group {
        Group { id, serial: 100 + u64::from(id), inode: 1000 + u64::from(id) }
    }

    fn seen(owners: &mut Owners, guests: &[(VmKey, u32)]) -> Vec<Change> {
        owners.observe(guests.iter().map(|(guest, id)| (*guest, Some(group(*id)))));
        owners.take_changes()
    }

    #[test]
    fn a_guest_owns_a_control_group_once_that_is_known_to_be_made_for_it() {
        let mut owners = Owners::default();
        assert_eq!(seen(&mut owners, &[(A, 5)]), []);
        assert_eq!(owners.take_unasked(), [(A, 1005)]);
        owners.answer(A, 1005, None);
        owners.answer(A, 1004, Some(true));
        assert_eq!(owners.unanswered(), [(A, 1005)]);
        assert_eq!(
            (owners.take_changes(), owners.uncounted()),
            (vec![], 1),
            "nobody knows, and the other is another one"
        );
        owners.answer(A, 1005, Some(true));
        assert_eq!(owners.take_changes(), [Change::Owns(group(5), 1)]);
        assert_eq!(seen(&mut owners, &[(A, 5)]), [], "that is so already");
        assert_eq!((owners.numbers().collect::<Vec<_>>(), owners.uncounted()), (vec![(1, A)], 0));
        assert_eq!(seen(&mut owners, &[]), [Change::Owned(group(5))]);
    }

    #[test]
    fn what_is_not_known_for_long_is_no_control_group() {
        let mut owners = Owners::default();
        assert_eq!(owners.has_group(A), None, "there is no such guest");
        seen(&mut owners, &[(A, 3)]);
        assert_eq!(owners.has_group(A), None);
        owners.answer(A, group(3).inode, Some(true));
        assert_eq!(owners.has_group(A), Some(true));
        seen(&mut owners, &[(A, 4)]);
        assert_eq!(owners.has_group(A), None, "it was moved");
        for _ in 0..PATIENCE {
            assert_eq!(owners.has_group(A), None);
            seen(&mut owners, &[(A, 4)]);
        }
        seen(&mut owners, &[(A, 4)]);
        assert_eq!(owners.has_group(A), Some(false));
        owners.answer(A, group(4).inode, Some(true));
        assert_eq!(owners.has_group(A), Some(true));
    }

    #[test]
    fn a_control_group_that_two_guests_are_in_is_nobody_s() {
        let mut owners = Owners::default();
        seen(&mut owners, &[(A, 5)]);
        owners.answer(A, 1005, Some(true));
        owners.take_changes();
        assert_eq!(seen(&mut owners, &[(A, 5), (B, 5)]), [Change::Owned(group(5))]);
        owners.answer(B, 1005, Some(true));
        assert_eq!(owners.take_changes(), []);
        assert_eq!(seen(&mut owners, &[(B, 5)]), [Change::Owns(group(5), 2)], "alone in it");
    }

    #[test]
    fn a_guest_that_is_moved_keeps_its_number_and_is_asked_about_again() {
        let mut owners = Owners::default();
        seen(&mut owners, &[(A, 5)]);
        owners.answer(A, 1005, Some(true));
        owners.take_unasked();
        owners.take_changes();
        assert_eq!(seen(&mut owners, &[(A, 6)]), [Change::Owned(group(5))]);
        assert_eq!(owners.take_unasked(), [(A, 1006)]);
        owners.unasked_still(A, 1006);
        assert_eq!(owners.take_unasked(), [(A, 1006)]);
        owners.answer(A, 1006, Some(true));
        assert_eq!(owners.take_changes(), [Change::Owns(group(6), 1)]);
        owners.observe([(A, None)].into_iter());
        assert_eq!(owners.take_changes(), [], "a reading that failed moves nobody");
        owners.answer(A, 1006, Some(false));
        assert_eq!(owners.take_changes(), [Change::Owned(group(6))]);
    }

    #[test]
    fn a_number_is_given_once() {
        let mut owners = Owners::default();
        seen(&mut owners, &[(A, 5)]);
        seen(&mut owners, &[]);
        seen(&mut owners, &[(A, 5), (B, 6)]);
        assert_eq!(owners.numbers().map(|(number, ..)| number).collect::<Vec<_>>(), [2, 3]);
    }
}
