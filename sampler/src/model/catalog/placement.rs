//! The family of a VM's vCPUs by NUMA node, and whose life its series share.

use super::{
    Attribute, Bound, Entity, Family, Of, Scope, Series, Start, Unit,
    entities::{NUMA_NODE, VM_ID, VmId, is_vm, put_vm, start_of, vm_id},
};
use crate::model::{NodeVcpus, Vm};

const SERIES: &[Series<NodeVcpus>] = &[Series::plain(
    Family {
        bound: Bound::By("none at the moment of the snapshot. A vCPU may be elsewhere in between"),
        ..Family::up_down_counter(
            "hypervisor.vm.vcpu.numa.count",
            Unit::Count("{vcpu}"),
            "vCPUs of the VM on CPUs of the host's NUMA node, or in their queues; of those that sleep, that were there last.",
        )
    },
    Start::Created,
    |at, to| to.set(0, at.vcpus.into()),
)];

/// A VM's vCPUs on a NUMA node of the host.
#[derive(Debug)]
pub struct PlacementEntity;

impl Entity for PlacementEntity {
    type Data = NodeVcpus;
    type Key = (VmId, u32);

    const NAME: &'static str = "a VM's vCPUs on a NUMA node";
    const ATTRIBUTES: &'static [(&'static str, &'static str)] = &[VM_ID, NUMA_NODE];
    const SERIES: &'static [Series<NodeVcpus>] = SERIES;
    const SCOPE: Scope = Scope::Part("placement");

    fn of_vm(vm: &Vm) -> impl Iterator<Item = &NodeVcpus> {
        vm.placement.iter()
    }

    fn key(vm: Of<'_>, at: &NodeVcpus) -> Self::Key {
        (vm_id(vm), at.node)
    }

    fn has_key(vm: Of<'_>, at: &NodeVcpus, (id, node): &Self::Key) -> bool {
        is_vm(vm, id) && at.node == *node
    }

    fn start(vm: Of<'_>, _: &NodeVcpus, start: Start) -> u64 {
        start_of(vm, start)
    }

    fn attributes(vm: Of<'_>, at: &NodeVcpus, put: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        put_vm(vm, put);
        put(NUMA_NODE.0, Attribute::Number(at.node));
    }
}
