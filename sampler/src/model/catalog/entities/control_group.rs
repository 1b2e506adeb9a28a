//! The control group that is a VM's own.

use super::{
    super::control_group, Attribute, Entity, NUMA_NODE, Of, Scope, Series, Start, StartWords, VM_ID, VmId,
    is_vm, put_vm, start_of, vm_id,
};
use crate::model::{ControlGroup, NumaNode, Vm};

/// The control group that is a VM's own.
#[derive(Debug)]
pub struct ControlGroupEntity;

impl Entity for ControlGroupEntity {
    type Data = ControlGroup;
    /// With its start: one that counts anew is another one.
    type Key = (VmId, u64);

    const NAME: &'static str = "a VM's own control group, which is read from time to time";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[VM_ID];
    const SERIES: &'static [Series<ControlGroup>] = control_group::SERIES;
    const SCOPE: Scope = Scope::Part("control_groups");
    const OWN_TIME: Option<&'static str> = Some("read_unix_ns");
    const STARTS: StartWords = StartWords {
        own: "the sampler first read the control group as this VM's alone, or a count of it fell",
        ..StartWords::OF_VM
    };

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &ControlGroup> {
        vm.control_group.iter()
    }

    fn key(vm: Of<'_>, group: &ControlGroup) -> Self::Key {
        (vm_id(vm), group.since_unix_ns)
    }

    fn has_key(vm: Of<'_>, group: &ControlGroup, (id, since_unix_ns): &Self::Key) -> bool {
        is_vm(vm, id) && group.since_unix_ns == *since_unix_ns
    }

    fn start(_: Of<'_>, group: &ControlGroup, start: Start) -> u64 {
        if start == Start::Own { group.since_unix_ns } else { 0 }
    }

    fn read_unix_ns(group: &ControlGroup) -> Option<u64> {
        Some(group.at_unix_ns)
    }

    fn is_new(group: &ControlGroup) -> bool {
        group.is_new
    }

    fn attributes(vm: Of<'_>, _: &ControlGroup, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
    }
}

/// A NUMA node of the host whose memory a VM has.
#[derive(Debug)]
pub struct NumaEntity;

impl Entity for NumaEntity {
    type Data = NumaNode;
    type Key = (VmId, u32);

    const NAME: &'static str = "a VM's memory on a NUMA node";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[VM_ID, NUMA_NODE];
    const SERIES: &'static [Series<NumaNode>] = control_group::NUMA_SERIES;
    const SCOPE: Scope = Scope::Part("numa");
    const OWN_TIME: Option<&'static str> = Some("read_unix_ns");

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &NumaNode> {
        vm.numa.iter()
    }

    fn key(vm: Of<'_>, node: &NumaNode) -> Self::Key {
        (vm_id(vm), node.node)
    }

    fn has_key(vm: Of<'_>, node: &NumaNode, (id, number): &Self::Key) -> bool {
        is_vm(vm, id) && node.node == *number
    }

    fn start(vm: Of<'_>, _: &NumaNode, start: Start) -> u64 {
        start_of(vm, start)
    }

    fn read_unix_ns(node: &NumaNode) -> Option<u64> {
        Some(node.at_unix_ns)
    }

    fn is_new(node: &NumaNode) -> bool {
        node.is_new
    }

    fn attributes(vm: Of<'_>, node: &NumaNode, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
        put(NUMA_NODE.0, Attribute::Number(node.node));
    }
}
