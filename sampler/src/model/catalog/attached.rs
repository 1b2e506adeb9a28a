//! The family of a guest's devices, and whose life its series share.

use super::{
    Attribute, Entity, Family, Of, Scope, Series, Start, Unit,
    entities::{VM_ID, VmId, is_vm, put_vm, vm_id},
};
use crate::model::{ATTACHED_KINDS, Attached, UNSEEN, Vm};

const SERIES: &[Series<Attached>] = &[Series::plain(
    Family::gauge(
        "hypervisor.vm.device.info",
        Unit::Count("{device}"),
        "A device that the VMM holds for its guest, and where it is counted or why it is not; always 1.",
    ),
    Start::None,
    |_, to| to.set(0, 1),
)];

/// A device that a VMM holds for its guest, and where it is seen. Where that changes it is another one.
#[derive(Debug)]
pub struct AttachedEntity;

impl Entity for AttachedEntity {
    type Data = Attached;
    type Key = (VmId, Attached);

    const NAME: &'static str = "a device that the VMM holds for its guest";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[
        VM_ID,
        (
            "hypervisor.device.kind",
            "`disk`, `network`, or `passthrough` where the guest drives it by itself.",
        ),
        ("hypervisor.device.path", "What the host calls it: a path, an interface, or the VMM's option."),
        (
            "hypervisor.device.seen_at",
            "Disks of the host where it is counted, with commas, or the interface; absent where it is not.",
        ),
        (
            "hypervisor.device.unseen",
            "Why a part of it is not counted, or nothing; absent where all is. meaning.md has the reasons.",
        ),
    ];
    const SERIES: &'static [Series<Attached>] = SERIES;
    const SCOPE: Scope = Scope::Part("devices");

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &Attached> {
        vm.attached.iter()
    }

    fn key(vm: Of<'_>, device: &Attached) -> Self::Key {
        (vm_id(vm), device.clone())
    }

    fn has_key(vm: Of<'_>, device: &Attached, (id, known): &Self::Key) -> bool {
        is_vm(vm, id) && device == known
    }

    fn start(_: Of<'_>, _: &Attached, _: Start) -> u64 {
        0
    }

    fn attributes(vm: Of<'_>, device: &Attached, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        let [_, kind, path, seen_at, unseen] = Self::ATTRIBUTES else { return };
        put_vm(vm, put);
        put(kind.0, Attribute::Text(ATTACHED_KINDS[device.kind as usize].key));
        put(path.0, Attribute::Text(&device.path));
        if !device.seen_at.is_empty() {
            put(seen_at.0, Attribute::Text(&device.seen_at.join(",")));
        }
        if let Some(why) = device.unseen {
            put(unseen.0, Attribute::Text(UNSEEN[why as usize].key));
        }
    }
}
