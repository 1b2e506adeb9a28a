//! From the devices that were found to those that are shown.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    collect::attached::FoundDevices,
    model::{Attached, VmKey},
};

/// The devices of a guest.
#[derive(Debug, Default)]
struct Known {
    found: FoundDevices,
    /// What was shown last, and whether the guest had a control group to itself then.
    shown: Option<(bool, Arc<[Attached]>)>,
    /// Whether it had one when that was known last.
    had_group: Option<bool>,
}

/// The devices that VMMs hold for their guests.
#[derive(Debug, Default)]
pub(in crate::source) struct Attachments(BTreeMap<VmKey, Known>);

impl Attachments {
    /// The devices that a guest has now.
    pub(in crate::source) fn found(&mut self, guest: VmKey, found: FoundDevices) {
        let known = self.0.entry(guest).or_default();
        if known.found != found {
            *known = Known { found, shown: None, had_group: known.had_group };
        }
    }

    /// Forgets guests that have ended.
    pub(in crate::source) fn retain(&mut self, mut lives: impl FnMut(VmKey) -> bool) {
        self.0.retain(|guest, _| lives(*guest));
    }

    /// Those of a guest, which has a control group of the io controller to itself or not. Where that is not
    /// known it is as it was before; where it never was, none are shown yet.
    pub(in crate::source) fn shown(&mut self, guest: VmKey, has_group: Option<bool>) -> Arc<[Attached]> {
        let Some(Known { found, shown, had_group }) = self.0.get_mut(&guest) else { return Arc::default() };
        *had_group = has_group.or(*had_group);
        let Some(has_group) = *had_group else { return Arc::default() };
        if let Some((had_group, all)) = shown
            && *had_group == has_group
        {
            return Arc::clone(all);
        }
        let all = found.all.iter().cloned();
        let mut all: Vec<_> =
            if has_group { all.collect() } else { all.map(Attached::without_group).collect() };
        // Without a group the same file at two disks is one that is seen at neither.
        all.sort();
        all.dedup();
        let all: Arc<[_]> = all.into();
        *shown = Some((has_group, Arc::clone(&all)));
        all
    }

    /// Devices that are not named, for there were too many.
    #[must_use]
    pub(in crate::source) fn left_out(&self) -> u64 {
        self.0.values().map(|known| known.found.left_out).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttachedKind, Unseen};

    const GUEST: VmKey = VmKey::new([1, 1]);

    fn disk(path: &str) -> Attached {
        let seen_at = vec!["sda".to_owned()];
        Attached { kind: AttachedKind::Disk, path: path.to_owned(), seen_at, unseen: None }
    }

    #[test]
    fn devices_are_shown_as_long_as_they_are_found() {
        let three = || FoundDevices { left_out: 3, ..FoundDevices::of(vec![disk("/a"), disk("/b")]) };
        let mut devices = Attachments::default();
        assert!(devices.shown(GUEST, Some(true)).is_empty(), "nobody has looked yet");
        devices.found(GUEST, three());
        assert!(devices.shown(GUEST, None).is_empty(), "whether it has a group is not known yet");
        let shown = devices.shown(GUEST, Some(true));
        assert_eq!((&*shown, devices.left_out()), (&[disk("/a"), disk("/b")][..], 3));
        devices.found(GUEST, three());
        assert!(Arc::ptr_eq(&devices.shown(GUEST, Some(true)), &shown), "the same is not made again");
        assert!(
            Arc::ptr_eq(&devices.shown(GUEST, None), &shown),
            "it is moved: nothing is known for a moment"
        );
        let unseen = devices.shown(GUEST, Some(false));
        assert!(unseen.iter().all(|device| device.unseen == Some(Unseen::NoGroup)), "{unseen:?}");
        assert_eq!(devices.shown(GUEST, Some(true)), shown);
        let elsewhere = Attached { seen_at: vec!["sdb".to_owned()], ..disk("/a") };
        devices.found(GUEST, FoundDevices::of(vec![disk("/a"), elsewhere]));
        assert_eq!((devices.shown(GUEST, Some(true)).len(), devices.shown(GUEST, Some(false)).len()), (2, 1));
        devices.found(GUEST, FoundDevices::of(vec![disk("/b")]));
        assert_eq!((&*devices.shown(GUEST, Some(true)), devices.left_out()), (&[disk("/b")][..], 0));
        devices.retain(|_| false);
        assert!(devices.shown(GUEST, Some(true)).is_empty());
    }
}
