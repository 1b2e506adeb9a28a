//! A walk over threads, run by user space once per snapshot (`iter/task`, 5.8 and later): over all of the
//! host, or process by process over those of VMMs.
//!
//! Three things only a walk can know: vCPU threads that ran before the sampler started or that never leave
//! their CPU, and how much of a stint or of a wait is going on right now, which the kernel credits when it
//! ends. And it alone reads the threads that help VMMs without running a vCPU, so that those cost no switch
//! anything.

mod files;
mod helper;
mod io_group;
mod kvm;
mod modes;
mod thread;

use core::ffi::c_void;

use aya_ebpf::{EbpfContext, helpers::bpf_get_current_task};
use sampler_ebpf::{
    abi::{Control, Left, Member, NO_SLOT, SLOT_PENDING, WalkStats},
    lag::further,
};

use self::{
    helper::list_helper,
    io_group::read_io_group,
    kvm::read_kvm_stats,
    thread::{Known, is_read, read_thread},
};
use super::lifecycle::{Seen, announce, how_asleep, notifier, runs_another, runs_vcpu};
use crate::{
    maps::{control, kept, offset, pid_entry, walk_stats},
    shared::{Shared, bump, field, load, store},
    task::{Access, Object, Typed, monotonic_ns, probe, state},
};

/// `struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }`, the task NULL at the
/// end.
#[repr(C)]
struct WalkContext {
    meta: *const c_void,
    task: Object,
}

/// How often the clocks are looked at.
const LOOKS: u32 = 3;

struct Logging(*mut c_void);

impl EbpfContext for Logging {
    fn as_ptr(&self) -> *mut c_void {
        self.0
    }
}

/// One call per thread, in process context and preemptible.
///
/// # Safety
/// Called by the kernel alone, with a context of that type.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
unsafe extern "C" fn walk_tasks(ctx: *mut WalkContext) -> i32 {
    // SAFETY: the kernel passes a context of this type, and the verifier checks the load.
    let task = unsafe { (*ctx).task };
    if !task.is_null() {
        visit(&Logging(ctx.cast()), task);
    }
    0
}

#[inline(always)]
fn visit(ctx: &impl EbpfContext, task: Object) {
    let (Some(stats), Some(control)) = (walk_stats(), control()) else { return };
    calibrate(control);
    bump!(stats.threads, 1);
    let pid = Typed::u32(task, Member::TaskPid);
    let Some(entry) = pid_entry(pid) else { return };
    let index = entry.load();
    if index != NO_SLOT && index != SLOT_PENDING {
        let Some(kept) = kept(index) else { return };
        let (slot, modes, record) = (field!(kept.slot), field!(kept.modes), field!(kept.record));
        if load!(slot.task) == task as u64 {
            if !is_read(control, record) {
                read_thread(control, stats, Known { slot, modes }, record, task);
                read_kvm_stats(control, slot, record, task);
                read_io_group(record, task);
            }
            let notifier = notifier::<Typed>(task);
            let now = sched_ns(control, monotonic_ns());
            if runs_another::<Typed>(slot, task, notifier, now) {
                announce_found(ctx, control, stats, Found { task, notifier, pid, entry });
            }
            return;
        }
    }
    let notifier = notifier::<Typed>(task);
    if notifier != 0 && index != SLOT_PENDING && runs_vcpu::<Typed>(task, notifier) {
        return announce_found(ctx, control, stats, Found { task, notifier, pid, entry });
    }
    // One that waits for its slot is a vCPU's.
    if index != SLOT_PENDING {
        list_helper(control, stats, task, pid);
    }
}

/// A thread that a walk found to run a vCPU.
struct Found {
    task: Object,
    notifier: u64,
    pid: u32,
    entry: Shared<u16>,
}

#[inline(always)]
fn announce_found(ctx: &impl EbpfContext, control: Shared<Control>, stats: Shared<WalkStats>, found: Found) {
    let Found { task, notifier, pid, entry } = found;
    let seen = seen::<Typed>(control, task, notifier);
    let sent = announce::<Typed>(ctx, task, notifier, pid, entry, seen);
    if sent { field!(stats.announced) } else { field!(stats.events_lost) }.bump(1);
}

/// Measures the scheduler's clock against `CLOCK_MONOTONIC`, once per walk.
///
/// There is no helper that reads the scheduler's clock. But the thread that walks was put on its CPU just now
/// (user space yields right before), so its run queue's clock is some microseconds old at most. What comes
/// between the two looks, as an interrupt or another thread, makes that clock look older than it is, and
/// nothing makes it look younger: so it is looked at more than once.
#[inline(always)]
fn calibrate(control: Shared<Control>) {
    let generation = load!(control.generation);
    if load!(control.calibrated) == generation {
        return;
    }
    let mut ahead = look();
    for _ in 1..LOOKS {
        ahead = further(ahead, look());
    }
    store!(control.clock_offset_ns, ahead);
    store!(control.calibrated, generation);
}

/// By how much the scheduler's clock is ahead of `CLOCK_MONOTONIC`, modulo 2^64, by the one and then the
/// other.
#[inline(always)]
fn look() -> u64 {
    // SAFETY: the helper has no preconditions.
    let rq = run_queue(unsafe { bpf_get_current_task() });
    let clock: u64 = probe(rq, offset(Member::RqClock));
    clock.wrapping_sub(monotonic_ns())
}

#[inline(always)]
fn run_queue(task: u64) -> u64 {
    let cfs_rq: u64 = probe(task, offset(Member::TaskCfsRq));
    probe(cfs_rq, offset(Member::CfsRqRq))
}

/// The thread as the walk sees it now, for its slot to begin with.
#[inline(always)]
fn seen<A: Access>(control: Shared<Control>, task: Object, notifier: u64) -> Seen {
    let pcount = A::u64(task, Member::TaskPcount);
    let off_cpu = A::u8(task, Member::TaskOnCpu) == 0;
    let left = if A::u64(task, Member::TaskLastQueued) != 0 {
        Left::Runnable as u32
    } else if off_cpu {
        how_asleep::<A>(task, notifier, state::<A>(task))
    } else {
        Left::Unknown as u32
    };
    Seen { sched_ns: sched_ns(control, monotonic_ns()), left, pcount }
}

/// The scheduler's clock at a moment on `CLOCK_MONOTONIC`.
#[inline(always)]
fn sched_ns(control: Shared<Control>, monotonic_ns: u64) -> u64 {
    monotonic_ns.wrapping_add(load!(control.clock_offset_ns))
}
