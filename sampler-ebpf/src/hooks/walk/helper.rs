//! Threads that run no vCPU and work for a VM all the same: those of its VMM's process, and kernel threads that say whom they serve.

use sampler_ebpf::abi::{Control, HelperRecord, MAX_HELPERS, Member, PF_KTHREAD, WalkStats, may_be_vhost};

use super::{
    count,
    thread::{ATTEMPTS, now, stamp},
};
use crate::{
    maps::{helper_record, is_vmm, offset},
    task::{Access, Object, Typed, probe_into},
};

/// Lists a thread in the next free record if it helps a VMM, or may. Whom it helps is decided by user space.
#[inline(always)]
pub(super) fn list_helper(control: *mut Control, stats: *mut WalkStats, task: Object, pid: u32) {
    let tgid = Typed::u32(task, Member::TaskTgid);
    let is_kernels = Typed::u32(task, Member::TaskFlags) & PF_KTHREAD != 0;
    // Of a kernel thread the name can be believed: nobody but the kernel gives it.
    let helps = if is_kernels { may_be_vhost(Typed::u64(task, Member::TaskComm)) } else { is_vmm(tgid) };
    if !helps {
        return;
    }
    // SAFETY: the pointer came from a map look-up that the verifier followed; walks do not overlap.
    let listed = unsafe { (&raw const (*control).helpers).read_volatile() };
    if listed >= u64::from(MAX_HELPERS) {
        return count(stats, |s| &raw mut s.helpers_dropped);
    }
    let Some(record) = helper_record(listed as u32) else { return };
    // SAFETY: as above.
    unsafe {
        let generation = (&raw const (*control).generation).read_volatile();
        (&raw mut (*record).generation).write_volatile(generation);
        (&raw mut (*record).tid).write_volatile(pid);
        (&raw mut (*record).tgid).write_volatile(tgid);
        (&raw mut (*record).kernel).write_volatile(u32::from(is_kernels));
        (&raw mut (*record).start_boottime_ns).write_volatile(Typed::u64(task, Member::TaskStartBoottime));
        probe_into(
            Typed::u64(task, Member::TaskGroupLeader),
            offset(Member::TaskStartBoottime),
            &raw mut (*record).leader_start_boottime_ns,
        );
        probe_into(task as u64, offset(Member::TaskComm), &raw mut (*record).comm);
        let read = read_times(control, record, task);
        (&raw mut (*record).read).write_volatile(u32::from(read));
        (&raw mut (*control).helpers).write_volatile(listed + 1);
        if !read {
            count(stats, |s| &raw mut s.torn);
        }
    }
}

/// Reads a thread's times as of one moment. Returns false for one that switches at each attempt.
///
/// # Safety
/// The record is a map's, and nobody else writes it now.
#[inline(always)]
unsafe fn read_times(control: *const Control, record: *mut HelperRecord, task: Object) -> bool {
    for _ in 0..ATTEMPTS {
        let before = stamp(task);
        let now = now(control, task);
        if stamp(task) == before {
            // SAFETY: by contract.
            unsafe {
                (&raw mut (*record).run_ns).write_volatile(before.run);
                (&raw mut (*record).run_delay_ns).write_volatile(before.run_delay);
                (&raw mut (*record).running_ns).write_volatile(before.running(&now));
                (&raw mut (*record).waiting_ns).write_volatile(before.waiting(&now));
            }
            return true;
        }
    }
    false
}
