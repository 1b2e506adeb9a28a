//! What is done for the disks and interfaces of guests at each reading.

use std::collections::BTreeMap;

use sampler_ebpf::abi::IoGroup;

use super::{Kvm, identity::KvmGuest, shown::Devices};
use crate::{
    collect::devices::DiskName,
    model::{Device, VmKey},
    source::io::Change,
};

impl Kvm {
    /// Reads what was counted of disks, and lets the programs count for guests that have a control group to
    /// themselves.
    pub(super) fn read_disks(&mut self) {
        let Self { collector, slots, disks, clock, .. } = self;
        let now_ns = clock.monotonic_ns();
        if let Err(error) = collector.disks().read(|key, counts| disks.read(key, counts)) {
            // The counts go on, and the next reading has them.
            tracing::warn!(%error, "disks of guests cannot be read now");
        } else {
            disks.give_up(now_ns).into_iter().for_each(|key| collector.disks().forget(key));
        }
        for (key, place) in disks.placed() {
            disks.read_placed(&key, &collector.disks().first(place));
        }
        for (group, first) in disks.are_read(now_ns) {
            collector.disks().set_first(group.id, group.serial, first);
        }
        disks.owners.observe(slots.vms().map(|(guest, vm)| (guest.key(), vm.account.io_group)));
        let ended = disks.forget_ended();
        self.publish_io_owners();
        for (key, place) in ended {
            self.collector.disks().forget(key);
            place.into_iter().for_each(|place| self.collector.disks().clear_first(place));
        }
    }

    /// Has interfaces read, where guests have some.
    pub(super) fn want_links(&mut self) {
        let Self { slots, interfaces, attached, groups, answers, .. } = self;
        let lives = |guest| slots.vm(KvmGuest::of(guest)).is_some();
        interfaces.retain(lives);
        attached.retain(lives);
        groups.retain(lives);
        let namespaces = interfaces.namespaces();
        self.wants_links = !namespaces.is_empty();
        answers.network.want(&namespaces);
    }

    /// What guests do with devices, as it is shown.
    pub(super) fn shown_devices(&mut self) -> BTreeMap<VmKey, Devices> {
        let Self { slots, disks, interfaces, attached, groups, .. } = self;
        let (mut shown, mut groups) = (disks.shown(), groups.shown());
        let mut of = |guest: VmKey| Devices {
            disks: shown.remove(&guest).unwrap_or_default(),
            interfaces: interfaces.shown(guest),
            attached: attached.shown(guest, disks.owners.has_group(guest)),
            groups: groups.remove(&guest).unwrap_or_default(),
            ..Devices::default()
        };
        slots.vms().map(|(guest, _)| (guest.key(), of(guest.key()))).collect()
    }

    /// What the kernel calls a disk.
    pub(super) fn name_disk(&mut self, device: Device, name: Option<DiskName>) {
        // What was counted since the last reading is the new one's, where there is one.
        self.disks.name(device, name, self.at_unix_ns);
    }

    /// Brings the shared table up to date.
    pub(super) fn publish_io_owners(&mut self) {
        for change in self.disks.take_changes(self.clock.unix_ns()) {
            let (group, owner) = match change {
                Change::Owns(group, owner) => (group, owner),
                Change::Owned(group) => (group, 0),
            };
            let first = self.disks.first_of(owner);
            let row = IoGroup { serial: group.serial, first, owner, _pad: 0 };
            if !self.collector.disks().set_owner(group.id, row) {
                self.disks.owners.without_room(group);
                tracing::warn!(
                    group = group.id,
                    "a guest's control group has too high a number: its disks are not counted"
                );
            }
        }
    }
}
