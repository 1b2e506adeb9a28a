//! Births and deaths of vCPU threads, reported to user space.

use aya_ebpf::{EbpfContext, helpers::bpf_ktime_get_boot_ns};
use aya_log_ebpf::debug;
use sampler_ebpf::abi::{
    Counter, Event, EventKind, KEPT_NS, Left, Member, SLOT_PENDING, VcpuSlot, for_each_counter,
};

use crate::{
    maps::{events, offset},
    shared::{Shared, load},
    task::{Access, Object, TASK_STOPPED, probe, probe_into},
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

/// The notifier of a `struct kvm_vcpu`.
#[inline(always)]
pub(crate) fn notifier_of(vcpu: u64) -> u64 {
    vcpu.wrapping_add(u64::from(offset(Member::VcpuNotifierLink)))
}

/// Whether a thread that has a slot runs another vCPU by now than when it got it. Not asked before it has had
/// the slot for a while.
#[inline(always)]
pub(crate) fn runs_another<A: Access>(
    slot: Shared<VcpuSlot>,
    task: Object,
    notifier: u64,
    sched_ns: u64,
) -> bool {
    notifier != 0
        && load!(slot.vcpu) != vcpu_of(notifier)
        && sched_ns.saturating_sub(load!(slot.begun_ns)) >= KEPT_NS
        && runs_vcpu::<A>(task, notifier)
}

/// Whether the thread runs the vCPU that its notifier belongs to. Any vCPU ioctl registers the notifier, and
/// VMMs set vCPUs up and save them from other threads; a notifier of another module's objects does not fit
/// either.
#[inline(always)]
pub(crate) fn runs_vcpu<A: Access>(task: Object, notifier: u64) -> bool {
    is_run_by::<A>(vcpu_of(notifier), task)
}

/// Whether the thread was the last to run the vCPU.
#[inline(always)]
pub(crate) fn is_run_by<A: Access>(vcpu: u64, task: Object) -> bool {
    let runner: u64 = probe(vcpu, offset(Member::VcpuPid));
    runner != 0 && runner == A::u64(task, Member::TaskThreadPid)
}

/// Whether KVM has put the thread to sleep because its vCPU has nothing to do: the guest halted, or has not
/// been started.
#[inline(always)]
fn halted(task: Object, notifier: u64) -> bool {
    notifier != 0 && probe::<u64>(vcpu_of(notifier), offset(Member::VcpuWaitTask)) == task as u64
}

/// How a thread in this state sleeps, a [`Left`] as a number. By arithmetic but for halts: the verifier would
/// follow each branch through all of the program.
#[inline(always)]
pub(crate) fn how_asleep<A: Access>(task: Object, notifier: u64, state: u64) -> u32 {
    if halted(task, notifier) {
        return Left::Halted as u32;
    }
    let idle = 1 - A::bit(task, Member::TaskInIowait);
    let outside = 1 - some(notifier);
    let stopped = A::bit(task, Member::TaskFrozen) | some(state & TASK_STOPPED);
    let waits = Left::FaultIo as u32 + idle + 2 * outside;
    stopped * Left::Stopped as u32 + (1 - stopped) * waits
}

const _: () = assert!(Left::Fault as u32 == Left::FaultIo as u32 + 1, "one that waits for no I/O");
const _: () = assert!(Left::VmmIo as u32 == Left::FaultIo as u32 + 2, "one outside KVM_RUN");
const _: () = assert!(Left::Vmm as u32 == Left::FaultIo as u32 + 3, "one that is both");

/// 1 of any number but 0.
#[inline(always)]
const fn some(number: u64) -> u32 {
    ((number | number.wrapping_neg()) >> 63) as u32
}

/// The moment at which a thread was seen, for its slot to begin with.
pub(crate) struct Seen {
    /// The scheduler's clock, ns.
    pub(crate) sched_ns: u64,
    /// How it left its CPU, where it was seen off it, a [`Left`] as a number.
    pub(crate) left: u32,
    /// How often it had been given a CPU.
    pub(crate) pcount: u64,
}

/// Announces a thread that was seen running a vCPU, once. Returns false when the event was lost: the
/// next switch or walk tries again.
#[inline(always)]
pub(crate) fn announce<A: Access>(
    ctx: &impl EbpfContext,
    task: Object,
    notifier: u64,
    pid: u32,
    entry: Shared<u16>,
    seen: Seen,
) -> bool {
    // Before the event: user space may answer it with a slot while this program still runs.
    let before = entry.load();
    entry.store(SLOT_PENDING);
    let sent = send::<A>(EventKind::VcpuSeen, task, pid, vcpu_of(notifier), seen);
    if sent {
        debug!(ctx, "vcpu seen: tid {}", pid);
    } else {
        // One that is followed keeps its slot.
        entry.store(before);
    }
    sent
}

/// Reports that a thread ran for the last time. Returns false when the event was lost; the walk finds out
/// then.
#[inline(always)]
pub(crate) fn gone<A: Access>(ctx: &impl EbpfContext, task: Object, pid: u32) -> bool {
    debug!(ctx, "thread gone: tid {}", pid);
    send::<A>(
        EventKind::ThreadGone,
        task,
        pid,
        0,
        Seen { sched_ns: 0, left: Left::Unknown as u32, pcount: 0 },
    )
}

/// Writes the event straight into the ring: put together on the stack it would be copied byte by byte.
#[inline(always)]
fn send<A: Access>(kind: EventKind, task: Object, pid: u32, vcpu: u64, seen: Seen) -> bool {
    let Some(mut room) = events().reserve::<Event>(0) else {
        return false;
    };
    let event = room.as_mut_ptr();
    // SAFETY: the room is as large as an event and nobody else's, and every field is written. The helper that
    // reads the clock has no preconditions.
    unsafe {
        (&raw mut (*event).kind).write(kind as u32);
        (&raw mut (*event).tid).write(pid);
        (&raw mut (*event).tgid).write(A::u32(task, Member::TaskTgid));
        (&raw mut (*event).task).write(task as u64);
        (&raw mut (*event).vcpu).write(vcpu);
        (&raw mut (*event).start_time_ns).write(A::u64(task, Member::TaskStartTime));
        (&raw mut (*event).start_boottime_ns).write(A::u64(task, Member::TaskStartBoottime));
        probe_into(
            A::u64(task, Member::TaskGroupLeader),
            offset(Member::TaskStartBoottime),
            &raw mut (*event).leader_start_boottime_ns,
        );
        (&raw mut (*event).at_boottime_ns).write(bpf_ktime_get_boot_ns());
        (&raw mut (*event).sched_ns).write(seen.sched_ns);
        (&raw mut (*event)._pad).write(0);
        probe_into(task as u64, offset(Member::TaskComm), &raw mut (*event).comm);
        let (mut vcpu_id, mut kvm, mut left) = (0, 0, seen.left);
        let mut pcount = 0;
        for_each_counter(|counter, member| {
            let value = if vcpu == 0 { 0 } else { A::u64(task, member) };
            if counter as usize == Counter::Timeslices as usize {
                pcount = value;
            }
            (&raw mut (*event).counters[counter as usize]).write(value);
        });
        if vcpu != 0 {
            vcpu_id = probe(vcpu, offset(Member::VcpuId));
            kvm = probe(vcpu, offset(Member::VcpuKvm));
            // A walk looks on: the thread may have run meanwhile.
            if pcount != seen.pcount {
                left = Left::Unknown as u32;
            }
        }
        (&raw mut (*event).vcpu_id).write(vcpu_id);
        (&raw mut (*event).kvm).write(kvm);
        (&raw mut (*event).left).write(left);
    }
    room.submit(0);
    true
}
