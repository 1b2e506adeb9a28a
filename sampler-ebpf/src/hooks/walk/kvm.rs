//! What KVM itself counts of a vCPU.

use sampler_ebpf::abi::{ABSENT, Control, VcpuSlot, WalkRecord, for_each_kvm_stat};

use super::super::lifecycle::is_run_by;
use crate::{
    maps::offset,
    task::{Object, Typed, probe_into},
};

/// Copies the counts of the slot's vCPU. Nothing keeps the vCPU alive meanwhile: its VM may end while the thread goes on. So
/// what was read holds only where the vCPU is the thread's before and after. Straight into the record: the counts would
/// not fit on the stack.
#[inline(always)]
pub(super) fn read_kvm_stats(
    control: *const Control,
    slot: *const VcpuSlot,
    record: *mut WalkRecord,
    task: Object,
) {
    // SAFETY: all pointers came from map look-ups that the verifier followed; walks do not overlap.
    unsafe {
        let vcpu = (&raw const (*slot).vcpu).read_volatile();
        (&raw mut (*record).kvm_generation).write_volatile(0);
        if vcpu == 0 || !is_run_by::<Typed>(vcpu, task) {
            return;
        }
        for_each_kvm_stat(|stat, member| {
            if offset(member) != ABSENT {
                probe_into(vcpu, offset(member), &raw mut (*record).kvm[stat as usize]);
            }
        });
        if is_run_by::<Typed>(vcpu, task) {
            let generation = (&raw const (*control).generation).read_volatile();
            (&raw mut (*record).kvm_generation).write_volatile(generation);
        }
    }
}
