//! From what is read of guests' control groups to what snapshots show of them, whichever hypervisor runs the
//! guests. Pure.
//!
//! A control group is a guest's own where it is made for it and no other guest is in it, as with disks.

use std::collections::BTreeMap;

use crate::{
    collect::procfs::GuestGroup,
    model::{ControlGroup, MEMORY_EVENTS, NumaNode, Pressure, VmKey},
};

/// A guest's control group.
#[derive(Debug)]
struct Known {
    /// The last reading.
    read: GuestGroup,
    at_unix_ns: u64,
    /// It was read since the snapshot before.
    is_new: bool,
    /// When the last reading was taken while another guest was in the group, Unix time in ns.
    shared_unix_ns: Option<u64>,
    /// What had been counted when the counts began, and when that was, Unix time in ns; absent while the
    /// group is not the guest's alone.
    began: Option<(Counts, u64)>,
}

/// What never falls of a control group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    pressure: Pressure,
    events: [Option<u64>; MEMORY_EVENTS.len()],
}

/// The control groups of all guests.
#[derive(Debug, Default)]
pub(super) struct Groups {
    guests: BTreeMap<VmKey, Known>,
    fell: u64,
    uncounted: u64,
}

/// What a snapshot has of a guest's control group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) group: Option<ControlGroup>,
    pub(super) nodes: Vec<NumaNode>,
}

impl Groups {
    /// Takes in a reading of a guest's control groups. Where it is in another one, or something of it falls
    /// or is known no longer, its counts begin anew.
    pub(super) fn read(&mut self, guest: VmKey, read: GuestGroup, at_unix_ns: u64) {
        let before = self.guests.remove(&guest);
        let mut began = before.as_ref().and_then(|known| known.began);
        if let Some(before) = &before
            && began.is_some()
        {
            let added = Counts::of(&read).since(&Counts::of(&before.read));
            let is_same = before.read.unified == read.unified;
            self.fell += u64::from(is_same && added == Err(Differs::Fell));
            began = began.filter(|_| is_same && added.is_ok());
        }
        let shared_unix_ns = before.and_then(|known| known.shared_unix_ns);
        self.guests.insert(guest, Known { read, at_unix_ns, is_new: true, shared_unix_ns, began });
    }

    /// Forgets guests that have ended.
    pub(super) fn retain(&mut self, mut lives: impl FnMut(VmKey) -> bool) {
        self.guests.retain(|guest, _| lives(*guest));
    }

    /// What is shown of all guests.
    pub(super) fn shown(&mut self) -> BTreeMap<VmKey, Shown> {
        let unified = members(self.guests.values().map(|known| known.read.unified));
        let memory = members(self.guests.values().map(|known| known.read.memory));
        self.uncounted = 0;
        let guests = self.guests.iter_mut().map(|(guest, known)| {
            let is_alone = |members: &BTreeMap<u64, u32>, group: Option<u64>| {
                group.is_some_and(|group| members.get(&group) == Some(&1))
            };
            let is_own = is_alone(&unified, known.read.unified);
            self.uncounted += u64::from(!is_own);
            let shown = Shown {
                group: known.group(is_own),
                nodes: if is_alone(&memory, known.read.memory) { known.nodes() } else { Vec::new() },
            };
            (*guest, shown)
        });
        guests.collect()
    }

    /// A guest is in a snapshot: what was shown of it is not new any more.
    pub(super) fn is_shown(&mut self, guest: VmKey) {
        if let Some(known) = self.guests.get_mut(&guest) {
            known.is_new = false;
        }
    }

    /// Counters that were lower than before.
    pub(super) const fn fell(&self) -> u64 {
        self.fell
    }

    /// Guests without a control group of version 2 to themselves, at the last snapshot.
    pub(super) const fn uncounted(&self) -> u64 {
        self.uncounted
    }
}

/// How many guests are in each group.
fn members(groups: impl Iterator<Item = Option<u64>>) -> BTreeMap<u64, u32> {
    let mut members = BTreeMap::new();
    groups.flatten().for_each(|group| *members.entry(group).or_default() += 1);
    members
}

impl Known {
    /// Counts begin with the first reading that is the guest's alone: not with one that was taken before
    /// another guest left the group.
    fn group(&mut self, is_own: bool) -> Option<ControlGroup> {
        if !is_own {
            (self.began, self.shared_unix_ns) = (None, Some(self.at_unix_ns));
        }
        if self.shared_unix_ns == Some(self.at_unix_ns) {
            return None;
        }
        let now = Counts::of(&self.read);
        let (before, since_unix_ns) = *self.began.get_or_insert((now, self.at_unix_ns));
        let Counts { pressure, events } = now.since(&before).ok()?;
        let group = ControlGroup {
            at_unix_ns: self.at_unix_ns,
            since_unix_ns,
            pressure,
            events,
            is_new: self.is_new,
        };
        (now != Counts::default()).then_some(group)
    }

    fn nodes(&self) -> Vec<NumaNode> {
        let Self { at_unix_ns, is_new, .. } = *self;
        let nodes = self.read.nodes.iter();
        nodes.map(|(&node, &bytes)| NumaNode { node, bytes, at_unix_ns, is_new }).collect()
    }
}

/// How counts cannot follow others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differs {
    /// One is lower.
    Fell,
    /// One is known that was not, or the other way round.
    Known,
}

impl Counts {
    const fn of(read: &GuestGroup) -> Self {
        Self { pressure: read.pressure, events: read.events }
    }

    /// What was added since `earlier`.
    fn since(&self, earlier: &Self) -> Result<Self, Differs> {
        let mut added = *self;
        let before = earlier.pressure.iter().chain(earlier.events);
        let now = added.pressure.iter_mut().chain(&mut added.events);
        for (now, before) in now.zip(before) {
            *now = match (*now, before) {
                (Some(now), Some(before)) => Some(now.checked_sub(before).ok_or(Differs::Fell)?),
                (None, None) => None,
                _ => return Err(Differs::Known),
            };
        }
        Ok(added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MemoryEvent, Resource, Stalled};

    const A: VmKey = VmKey::new([1, 1]);
    const B: VmKey = VmKey::new([2, 1]);

    fn group(inode: u64, high: u64) -> GuestGroup {
        let mut group = GuestGroup { unified: Some(inode), memory: Some(inode), ..GuestGroup::default() };
        group.events[MemoryEvent::High as usize] = Some(high);
        group.pressure.set(Resource::Memory, [Some(high * 1000), None]);
        group.nodes.insert(0, high);
        group
    }

    /// Begin, time, events and newness of a guest's group.
    fn shown(groups: &mut Groups, guest: VmKey) -> Option<(u64, u64, u64, bool)> {
        let group = groups.shown().remove(&guest)?.group?;
        groups.is_shown(guest);
        let high = group.events[MemoryEvent::High as usize].unwrap();
        let stalled = group.pressure.get(Resource::Memory, Stalled::AtLeastOne);
        assert_eq!(stalled, Some(high * 1000), "they begin together");
        assert_eq!(group.events[MemoryEvent::Oom as usize], None);
        Some((group.since_unix_ns, group.at_unix_ns, high, group.is_new))
    }

    #[test]
    fn counts_begin_with_the_first_reading_and_each_is_new_once() {
        let mut groups = Groups::default();
        assert_eq!(shown(&mut groups, A), None, "nothing was read");
        groups.read(A, group(5, 100), 50);
        assert_eq!(shown(&mut groups, A), Some((50, 50, 0, true)));
        assert_eq!(shown(&mut groups, A), Some((50, 50, 0, false)));
        groups.read(A, group(5, 130), 60);
        let mut all = groups.shown();
        groups.is_shown(A);
        let nodes = &all[&A].nodes;
        assert_eq!(nodes, &[NumaNode { node: 0, bytes: 130, at_unix_ns: 60, is_new: true }]);
        assert_eq!(all.remove(&A).unwrap().group.unwrap().events[MemoryEvent::High as usize], Some(30));
        assert_eq!((shown(&mut groups, A), groups.uncounted()), (Some((50, 60, 30, false)), 0));
    }

    #[test]
    fn a_count_that_falls_begins_anew_and_is_counted() {
        let mut groups = Groups::default();
        for (high, at_unix_ns) in [(100, 50), (150, 60), (120, 70)] {
            groups.read(A, group(5, high), at_unix_ns);
            groups.shown();
        }
        assert_eq!((shown(&mut groups, A), groups.fell()), (Some((70, 70, 0, true)), 1));
    }

    #[test]
    fn another_group_begins_anew_and_so_does_one_that_says_something_else() {
        let mut groups = Groups::default();
        groups.read(A, group(5, 100), 50);
        groups.shown();
        groups.read(A, group(6, 90), 60);
        assert_eq!(shown(&mut groups, A), Some((60, 60, 0, true)), "it was moved");
        groups.read(A, GuestGroup { events: group(6, 95).events, ..GuestGroup::default() }, 70);
        assert_eq!(shown(&mut groups, A), None, "to a group that is not its own");
        groups.read(A, group(6, 95), 80);
        assert_eq!(shown(&mut groups, A), Some((80, 80, 0, true)));
        groups.read(A, GuestGroup { pressure: Pressure::default(), ..group(6, 99) }, 90);
        let of_events = groups.shown().remove(&A).unwrap().group.unwrap();
        assert_eq!((of_events.since_unix_ns, of_events.pressure), (90, Pressure::default()), "switched off");
        assert_eq!(groups.fell(), 0, "nothing of one group was lower than before");
        groups.read(A, GuestGroup { unified: Some(6), ..GuestGroup::default() }, 100);
        assert_eq!(shown(&mut groups, A), None, "it says nothing");
    }

    #[test]
    fn a_group_that_two_guests_are_in_is_nobody_s() {
        let mut groups = Groups::default();
        groups.read(A, group(5, 100), 50);
        assert!(shown(&mut groups, A).is_some());
        groups.read(B, group(5, 110), 60);
        let all = groups.shown();
        assert!(all.values().all(|shown| *shown == Shown::default()), "{all:?}");
        assert_eq!(groups.uncounted(), 2);
        groups.read(A, group(5, 120), 70);
        groups.shown();
        groups.retain(|guest| guest == A);
        assert_eq!(shown(&mut groups, A), None, "that was read while the other was in it");
        groups.read(A, group(5, 125), 75);
        let alone = "what was counted meanwhile may be the other's";
        assert_eq!(shown(&mut groups, A), Some((75, 75, 0, true)), "{alone}");
    }

    #[test]
    fn memory_is_shown_without_a_group_of_version_2() {
        let mut groups = Groups::default();
        groups.read(A, GuestGroup { unified: None, ..group(5, 100) }, 50);
        let shown = groups.shown().remove(&A).unwrap();
        assert!(shown.group.is_none() && shown.nodes.len() == 1, "{shown:?}");
    }
}
