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
}

/// The devices that VMMs hold for their guests.
#[derive(Debug, Default)]
pub(in crate::source) struct Attachments(BTreeMap<VmKey, Known>);

impl Attachments {
    /// The devices that a guest has now.
    pub(in crate::source) fn found(&mut self, guest: VmKey, found: FoundDevices) {
        let known = self.0.entry(guest).or_default();
        if known.found != found {
            *known = Known { found, shown: None };
        }
    }

    /// Forgets guests that have ended.
    pub(in crate::source) fn retain(&mut self, mut lives: impl FnMut(VmKey) -> bool) {
        self.0.retain(|guest, _| lives(*guest));
    }

    /// Those of a guest, which has a control group of the io controller to itself or not.
    pub(in crate::source) fn shown(&mut self, guest: VmKey, has_group: bool) -> Arc<[Attached]> {
        let Some(Known { found, shown }) = self.0.get_mut(&guest) else { return Arc::default() };
        if let Some((had_group, all)) = shown
            && *had_group == has_group
        {
            return Arc::clone(all);
        }
        let all = found.all.iter().cloned();
        let all: Arc<[_]> =
            if has_group { all.collect() } else { all.map(Attached::without_group).collect() };
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
        let mut devices = Attachments::default();
        assert!(devices.shown(GUEST, true).is_empty(), "nobody has looked yet");
        devices.found(GUEST, FoundDevices { all: vec![disk("/a"), disk("/b")], left_out: 3 });
        let shown = devices.shown(GUEST, true);
        assert_eq!((&*shown, devices.left_out()), (&[disk("/a"), disk("/b")][..], 3));
        devices.found(GUEST, FoundDevices { all: vec![disk("/a"), disk("/b")], left_out: 3 });
        assert!(Arc::ptr_eq(&devices.shown(GUEST, true), &shown), "the same is not made again");
        let unseen = devices.shown(GUEST, false);
        assert!(unseen.iter().all(|device| device.unseen == Some(Unseen::NoGroup)), "{unseen:?}");
        assert_eq!(devices.shown(GUEST, true), shown);
        devices.found(GUEST, FoundDevices::of(vec![disk("/b")]));
        assert_eq!((&*devices.shown(GUEST, true), devices.left_out()), (&[disk("/b")][..], 0));
        devices.retain(|_| false);
        assert!(devices.shown(GUEST, true).is_empty());
    }
}
