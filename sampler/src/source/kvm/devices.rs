//! What is done for the disks and interfaces of guests at each reading.

use sampler_ebpf::abi::IoGroup;

use super::{Kvm, identity::KvmGuest};
use crate::{collect::CollectError, model::Device, source::io::Change};

impl Kvm {
    /// Reads what was counted of disks, and lets the programs count for guests that have a control group to
    /// themselves.
    pub(super) fn read_disks(&mut self) -> Result<(), CollectError> {
        let Self { collector, slots, disks, .. } = self;
        collector.disks(|key, counts| disks.read(key, counts))?;
        disks.owners.observe(slots.vms().map(|(guest, vm)| (guest.key(), vm.account.io_group)));
        disks.forget_ended().into_iter().for_each(|key| collector.forget_disk(key));
        self.publish_io_owners();
        Ok(())
    }

    /// Has interfaces read, where guests have some.
    pub(super) fn want_links(&mut self) {
        let Self { slots, interfaces, answers, .. } = self;
        interfaces.retain(|guest| slots.vm(KvmGuest::of(guest)).is_some());
        let namespaces = interfaces.namespaces();
        self.wants_links = !namespaces.is_empty();
        answers.network.want(namespaces);
    }

    /// What the kernel calls a disk.
    pub(super) fn name_disk(&mut self, device: Device, name: Option<&str>) {
        self.disks.name(device, name, self.clock.unix_ns());
    }

    /// Brings the shared table up to date.
    pub(super) fn publish_io_owners(&mut self) {
        for change in self.disks.take_changes(self.clock.unix_ns()) {
            let (group, owner) = match change {
                Change::Owns(group, owner) => (group, owner),
                Change::Owned(group) => (group, 0),
            };
            let row = IoGroup { serial: group.serial, owner, _pad: 0 };
            if !self.collector.set_io_owner(group.id, row) {
                tracing::warn!(
                    group = group.id,
                    "a guest's control group has too high a number: its disks are not counted"
                );
            }
        }
    }
}
