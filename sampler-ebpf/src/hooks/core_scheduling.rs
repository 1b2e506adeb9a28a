//! CPUs that core scheduling keeps idle though threads wait for them, because what the core's other CPUs run
//! is not to be trusted with them (`PR_SCHED_CORE`).
//!
//! The kernel counts by core how often it begins to do so, and to how many CPUs it does it now. Both change
//! while the queues of the whole core are locked, as they are at a switch. Where a CPU becomes idle, the
//! second count says whether it is forced to be. One that is idle already makes no switch when it is forced
//! to stay so: the first count has moved by the time that a thread is given the CPU.

use sampler_ebpf::{
    abi::{ABSENT, Member, Occupancy, WHO_FORCED_IDLE, WHO_IDLE, Who},
    occupancy::was_forced_idle,
};

use crate::{
    maps::offset,
    shared::{Shared, load, store},
    task::{Access, FIRST_FAIR, Object, priority, run_queue},
};

/// The run queue with the state of a queue's core; nothing where the kernel knows no core scheduling.
#[inline(always)]
fn core<A: Access>(rq: Object) -> Option<Object> {
    if offset(Member::RqCore) == ABSENT { None } else { Some(A::u64(rq, Member::RqCore) as Object) }
}

/// Who has the CPU of a queue whose idle thread is given it.
#[inline(always)]
pub(super) fn idle_by<A: Access>(rq: Object) -> Who {
    match core::<A>(rq) {
        // At most as many as a core has CPUs: the first byte is all of it.
        Some(core) if A::u8(core, Member::RqForcedIdle) != 0 && A::u32(rq, Member::RqRunnable) != 0 => {
            WHO_FORCED_IDLE
        }
        _ => WHO_IDLE,
    }
}

/// Notes the core's count as its CPU becomes idle.
#[inline(always)]
pub(super) fn note<A: Access>(memory: Shared<Occupancy>, rq: Object) {
    if let Some(core) = core::<A>(rq) {
        store!(memory.forced_idles, A::u32(core, Member::RqForcedIdles));
    }
}

/// Whether a CPU that became idle by itself was forced to stay so, up to now that a thread is given it.
#[inline(always)]
pub(super) fn was_kept_from<A: Access>(memory: Shared<Occupancy>, task: Object) -> bool {
    let Some(core) = core::<A>(run_queue::<A>(task)) else { return false };
    let (then, now) = (load!(memory.forced_idles), A::u32(core, Member::RqForcedIdles));
    // Where no CPU of the core is forced to be idle now, the choice of this thread forced none. The kernel
    // notes the count in the queues of all threads that it compared meanwhile; of one that is not of the
    // fair class in none.
    let queue = A::u64(task, Member::TaskCfsRq) as Object;
    let is_noted = || priority::<A>(task) < FIRST_FAIR || A::u32(queue, Member::CfsRqForcedIdles) == now;
    let for_this_thread = A::u8(core, Member::RqForcedIdle) != 0 && is_noted();
    // A CPU of which nothing is remembered has no count of its own yet.
    load!(memory.written) != 0 && was_forced_idle(then, now, for_this_thread)
}

/// The same, of a thread that is taken away from its CPU: it was not chosen.
#[inline(always)]
pub(super) fn is_kept_from<A: Access>(memory: Shared<Occupancy>, rq: Object) -> bool {
    let Some(core) = core::<A>(rq) else { return false };
    A::u8(core, Member::RqForcedIdle) != 0
        || was_forced_idle(load!(memory.forced_idles), A::u32(core, Member::RqForcedIdles), false)
}
