//! Births and deaths of vCPU threads, told to user space.

use aya_ebpf::EbpfContext;
use aya_log_ebpf::debug;
use sampler_ebpf::abi::{Event, EventKind, Member, NO_SLOT, SLOT_PENDING};

use crate::{
    maps::{events, offset},
    task::{Access, Object, comm, probe},
};

/// Whether the thread is inside a KVM vCPU ioctl: only then is its list of preempt notifiers not empty.
#[inline(always)]
pub(crate) fn notifier<A: Access>(task: Object) -> u64 {
    A::u64(task, Member::TaskPreemptNotifiers)
}

/// The `struct kvm_vcpu` that a notifier is part of.
#[inline(always)]
fn vcpu_of(notifier: u64) -> u64 {
    notifier.wrapping_sub(u64::from(offset(Member::VcpuNotifierLink)))
}

/// Whether the thread runs the vCPU that its notifier belongs to. Any vCPU ioctl registers the notifier, and VMMs set
/// vCPUs up and save them from other threads; a notifier of another module's objects does not fit either.
#[inline(always)]
pub(crate) fn runs_vcpu<A: Access>(task: Object, notifier: u64) -> bool {
    let runner: u64 = probe(vcpu_of(notifier), offset(Member::VcpuPid));
    runner != 0 && runner == A::u64(task, Member::TaskThreadPid)
}

/// Announces a thread that was seen running a vCPU, once. Returns false when the event was lost: the
/// next switch or walk tries again.
#[inline(always)]
pub(crate) fn announce<A: Access>(
    ctx: &impl EbpfContext,
    task: Object,
    notifier: u64,
    pid: u32,
    entry: *mut u16,
) -> bool {
    // Before the event: user space may answer it with a slot while this program still runs.
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    unsafe { entry.write_volatile(SLOT_PENDING) };
    let sent = send::<A>(EventKind::VcpuSeen, task, pid, vcpu_of(notifier));
    if sent {
        debug!(ctx, "vcpu seen: tid {}", pid);
    } else {
        // SAFETY: as above.
        unsafe { entry.write_volatile(NO_SLOT) };
    }
    sent
}

/// Tells that a thread ran for the last time. Returns false when the event was lost; the walk finds out then.
#[inline(always)]
pub(crate) fn gone<A: Access>(ctx: &impl EbpfContext, task: Object, pid: u32) -> bool {
    debug!(ctx, "thread gone: tid {}", pid);
    send::<A>(EventKind::ThreadGone, task, pid, 0)
}

#[inline(always)]
fn send<A: Access>(kind: EventKind, task: Object, pid: u32, vcpu: u64) -> bool {
    let Some(mut room) = events().reserve::<Event>(0) else {
        return false;
    };
    let mut event = Event {
        kind: kind as u32,
        tid: pid,
        tgid: A::u32(task, Member::TaskTgid),
        vcpu_id: 0,
        task: task as u64,
        kvm: 0,
        start_time_ns: A::u64(task, Member::TaskStartTime),
        start_boottime_ns: A::u64(task, Member::TaskStartBoottime),
        leader_start_boottime_ns: probe(
            A::u64(task, Member::TaskGroupLeader),
            offset(Member::TaskStartBoottime),
        ),
        comm: [0; 16],
    };
    if vcpu != 0 {
        event.vcpu_id = probe(vcpu, offset(Member::VcpuId));
        event.kvm = probe(vcpu, offset(Member::VcpuKvm));
    }
    comm(task, &mut event.comm);
    room.write(event);
    room.submit(0);
    true
}
