//! What KVM itself counts of a vCPU.

use sampler_ebpf::abi::{ABSENT, Control, VcpuSlot, WalkRecord, for_each_kvm_stat};

use super::super::lifecycle::is_run_by;
use crate::{
    maps::offset,
    shared::{Shared, field, load, store},
    task::{Object, Typed, probe_shared},
};

/// Copies the counts of the slot's vCPU. Nothing keeps the vCPU alive meanwhile: its VM may end while the
/// thread goes on. So what was read holds only where the vCPU is the thread's before and after. Straight into
/// the record: the counts would not fit on the stack.
#[inline(always)]
pub(super) fn read_kvm_stats(
    control: Shared<Control>,
    slot: Shared<VcpuSlot>,
    record: Shared<WalkRecord>,
    task: Object,
) {
    let vcpu = load!(slot.vcpu);
    store!(record.kvm_generation, 0);
    if vcpu == 0 || !is_run_by::<Typed>(vcpu, task) {
        return;
    }
    for_each_kvm_stat(|stat, member| {
        if offset(member) != ABSENT {
            probe_shared(vcpu, offset(member), field!(record.kvm[stat as usize]));
        }
    });
    if is_run_by::<Typed>(vcpu, task) {
        store!(record.kvm_generation, load!(control.generation));
    }
}
