//! Threads that run no vCPU and work for a VM all the same: those of its VMM's process, and kernel threads
//! that say whom they serve.

use sampler_ebpf::abi::{Control, HelperRecord, MAX_HELPERS, Member, PF_KTHREAD, WalkStats, may_be_vhost};

use super::thread::{ATTEMPTS, now, stamp};
use crate::{
    maps::{helper_record, is_vmm, offset},
    shared::{Shared, bump, field, load, store},
    task::{Access, Object, Typed, probe_shared},
};

/// Lists a thread in the next free record if it helps a VMM, or may. Whom it helps is decided by user space.
#[inline(always)]
pub(super) fn list_helper(control: Shared<Control>, stats: Shared<WalkStats>, task: Object, pid: u32) {
    let tgid = Typed::u32(task, Member::TaskTgid);
    let is_kernels = Typed::u32(task, Member::TaskFlags) & PF_KTHREAD != 0;
    // Of a kernel thread the name can be believed: nobody but the kernel gives it.
    let helps = if is_kernels { may_be_vhost(Typed::u64(task, Member::TaskComm)) } else { is_vmm(tgid) };
    if !helps {
        return;
    }
    let listed = load!(control.helpers);
    if listed >= u64::from(MAX_HELPERS) {
        return field!(stats.helpers_dropped).bump(1);
    }
    let Some(record) = helper_record(listed as u32) else { return };
    store!(record.generation, load!(control.generation));
    store!(record.tid, pid);
    store!(record.tgid, tgid);
    store!(record.kernel, u32::from(is_kernels));
    store!(record.start_boottime_ns, Typed::u64(task, Member::TaskStartBoottime));
    probe_shared(
        Typed::u64(task, Member::TaskGroupLeader),
        offset(Member::TaskStartBoottime),
        field!(record.leader_start_boottime_ns),
    );
    probe_shared(task as u64, offset(Member::TaskComm), field!(record.comm));
    let read = read_times(control, record, task);
    store!(record.read, u32::from(read));
    store!(control.helpers, listed + 1);
    if !read {
        bump!(stats.torn, 1);
    }
}

/// Reads a thread's times as of one moment. Returns false for one that switches at each attempt.
#[inline(always)]
fn read_times(control: Shared<Control>, record: Shared<HelperRecord>, task: Object) -> bool {
    for _ in 0..ATTEMPTS {
        let before = stamp(task);
        let now = now(control, task);
        if stamp(task) == before && now.holds() {
            store!(record.run_ns, before.run);
            store!(record.run_delay_ns, before.run_delay);
            store!(record.running_ns, before.running(&now));
            store!(record.waiting_ns, before.waiting(&now));
            return true;
        }
    }
    false
}
