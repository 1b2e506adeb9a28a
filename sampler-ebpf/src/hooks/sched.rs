//! The scheduler's context switch: which of its two threads run vCPUs, and what is written to their slots.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use sampler_ebpf::abi::{Counter, Followed, Left, Member, Modes, NO_SLOT, SLOT_PENDING, VcpuSlot};

use super::{
    lifecycle::{Seen, announce, gone, how_asleep, notifier, runs_another, runs_vcpu},
    modes::{self, Switched},
    occupancy::{PATIENCE, charge, strangers, taken_away, vcpus},
    quota::{held_back, note_on, queue},
    slot::{Departure, amend, arrive, leave},
};
use crate::{
    maps::{arm, armed, hook_stats, kept, may_have_slot, on_unknown_cpu, pid_entry, switches_report},
    shared::{Shared, bump, field, load},
    task::{Access, Object, Probed, TASK_DEAD, TASK_RUNNING, Typed, clock, run_queue, state},
};

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next[, unsigned int state])`
///
/// The fourth argument came with 5.18 and was backported by some: not used.
#[btf_tracepoint(function = "sched_switch")]
fn sched_switch_btf(ctx: BtfTracePointContext) -> i32 {
    on_switch::<Typed>(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// The same for a kernel that refuses `tp_btf`.
#[raw_tracepoint(tracepoint = "sched_switch")]
fn sched_switch_raw(ctx: RawTracePointContext) -> i32 {
    on_switch::<Probed>(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// `sched_migrate_task(struct task_struct *p, int dest_cpu)`, with the queue locked that a waiting thread
/// leaves, and only the thread's own lock held where it is woken up on another CPU
#[btf_tracepoint(function = "sched_migrate_task")]
fn sched_migrate_btf(ctx: BtfTracePointContext) -> i32 {
    on_migrate::<Typed>(ctx.arg(0), ctx.arg(1));
    0
}

/// The same for a kernel that refuses `tp_btf`.
#[raw_tracepoint(tracepoint = "sched_migrate_task")]
fn sched_migrate_raw(ctx: RawTracePointContext) -> i32 {
    on_migrate::<Probed>(ctx.arg(0), ctx.arg(1));
    0
}

#[inline(always)]
fn on_switch<A: Access>(ctx: &impl EbpfContext, preempted: u64, prev: Object, next: Object) {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let (pid, next_pid) = (A::u32(prev, Member::TaskPid), A::u32(next, Member::TaskPid));
    let notifier = notifier::<A>(prev);
    if notifier == 0 && !may_have_slot(pid) && !may_have_slot(next_pid) {
        // All that most switches of a host come to.
        return between_strangers::<A>(cpu, prev, next);
    }
    let now = clock::<A>(prev);
    account::<A>(&Leaving { cpu, preempted: preempted != 0, task: prev, pid, notifier, now }, next, next_pid);
    if notifier != 0 || may_have_slot(pid) {
        report::<A, _>(ctx, prev, preempted, cpu, now);
    }
}

/// Takes a switch in of which one or both threads may run vCPUs.
#[inline(always)]
fn account<A: Access>(leaving: &Leaving, next: Object, next_pid: u32) {
    let &Leaving { cpu, task: prev, notifier, now, .. } = leaving;
    let leaves = switch_out::<A>(leaving);
    let comes = followed(next, next_pid);
    if leaves.is_none() && comes.is_none() {
        return between_strangers::<A>(cpu, prev, next);
    }
    modes::switch(
        Switched {
            modes: leaves,
            in_ioctl: notifier != 0,
            stint_ns: now.saturating_sub(A::u64(prev, Member::TaskLastArrival)),
        },
        Switched { modes: comes.map(Known::modes), in_ioctl: self::notifier::<A>(next) != 0, stint_ns: 0 },
    );
    vcpus::<A>(cpu, (prev, leaves.is_some()), (next, comes.is_some()), now);
    if let Some(Known { index, kept }) = comes {
        let (slot, shares) = (field!(kept.slot), field!(kept.shares));
        let queued = A::u64(next, Member::TaskLastQueued);
        arrive(slot, cpu, || {
            if queued != 0 {
                let held = held_back::<A>(slot, shares, queue::<A>(next), now.saturating_sub(queued), now);
                charge(cpu, index, queued + held, now);
            }
        });
    }
}

#[inline(always)]
fn between_strangers<A: Access>(cpu: u32, prev: Object, next: Object) {
    let armed = armed(cpu);
    if armed != 0 {
        strangers::<A>(cpu, armed, prev, next);
    }
}

/// A thread that waits is moved to another CPU: the wait so far was on this one, and the kernel has just
/// credited it.
#[inline(always)]
fn on_migrate<A: Access>(task: Object, to: u64) {
    let known = followed(task, A::u32(task, Member::TaskPid));
    let Some(Known { index, kept }) = known else { return };
    let (slot, shares) = (field!(kept.slot), field!(kept.shares));
    let before = load!(slot.counters[Counter::RunDelay as usize]);
    let known_stints = load!(slot.counters[Counter::Timeslices as usize]);
    let charged = load!(shares.charged_ns);
    // It will wait there, and may wait long.
    arm(to as u32, PATIENCE);
    let run_queue = run_queue::<A>(task);
    let cpu = A::u32(run_queue, Member::RqCpu);
    let now = A::u64(run_queue, Member::RqClock);
    let stints = A::u64(task, Member::TaskPcount);
    let waited = A::u64(task, Member::TaskRunDelay).wrapping_sub(before).saturating_sub(charged);
    // What was credited for a stint that the slot does not know is not of this wait.
    let waited = if stints == known_stints { waited } else { 0 };
    amend(slot, || {
        let held = held_back::<A>(slot, shares, queue::<A>(task), waited, now);
        note_on::<A>(slot, task, to, now);
        // Of a thread that is woken up on another CPU nothing is to be charged, and its old CPU not locked.
        if waited > held {
            let since = now.saturating_sub(waited - held);
            taken_away::<A>(cpu, run_queue, since, now);
            charge(cpu, index, since, now);
        }
    });
}

/// A thread that leaves its CPU.
struct Leaving {
    cpu: u32,
    preempted: bool,
    task: Object,
    pid: u32,
    notifier: u64,
    /// The scheduler's clock, ns.
    now: u64,
}

/// Takes in the stint of a vCPU's thread that is followed. Returns its modes.
#[inline(always)]
fn switch_out<A: Access>(leaving: &Leaving) -> Option<Shared<Modes>> {
    let &Leaving { cpu, preempted, task, pid, notifier, now } = leaving;
    if !may_have_slot(pid) {
        return None;
    }
    let index = pid_entry(pid)?.load();
    let Some(stats) = hook_stats(cpu) else {
        if index != NO_SLOT {
            on_unknown_cpu();
        }
        return None;
    };
    let Some(Known { index, kept }) = own_slot(index, task) else {
        if index != NO_SLOT && index != SLOT_PENDING {
            bump!(stats.stale_slots, 1);
        }
        return None;
    };
    let left = how_left::<A>(preempted, state::<A>(task), task, notifier);
    let (slot, shares) = (field!(kept.slot), field!(kept.shares));
    let missed = leave::<A>(kept, task, Departure { index, cpu, left, now }, |late| {
        // It ended when the thread was given this CPU.
        let arrival = A::u64(task, Member::TaskLastArrival);
        // The clock of a queue shows the time up to now; a period's end is a moment.
        let is_moment = load!(slot.quota_queue) == VcpuSlot::NEXT_PERIOD;
        let until = if is_moment { arrival } else { now };
        let held = held_back::<A>(slot, shares, queue::<A>(task), late, until);
        charge(cpu, index, arrival.saturating_sub(late - held), arrival);
    });
    bump!(stats.vcpu_switches, 1);
    if missed.switches != 0 {
        bump!(stats.missed_switches, missed.switches);
    }
    if missed.ns != 0 {
        bump!(stats.missed_moves, missed.moves);
        bump!(stats.missed_ns, missed.ns);
    }
    Some(field!(kept.modes))
}

/// Reports of a thread that leaves its CPU what user space does not know: that it runs a vCPU, or another one
/// than before, or that it will never run again. After all that is written about it, for user space may
/// give its slot to another thread while this program still runs. A function of its own: what is known of
/// the thread would have to be kept over all of the program.
#[inline(never)]
fn report<A: Access, C: EbpfContext>(ctx: &C, task: Object, preempted: u64, cpu: u32, now: u64) {
    let (pid, state) = (A::u32(task, Member::TaskPid), state::<A>(task));
    let (Some(entry), Some(stats)) = (pid_entry(pid), hook_stats(cpu)) else { return };
    let index = entry.load();
    if state & TASK_DEAD != 0 {
        if index != NO_SLOT {
            // Whether or not it can be reported: another thread may have this id soon.
            entry.store(NO_SLOT);
            if switches_report() {
                let sent = gone::<A>(ctx, task, pid);
                if sent { field!(stats.gone) } else { field!(stats.events_lost) }.bump(1);
            }
        }
        return;
    }
    if !switches_report() {
        return;
    }
    let notifier = notifier::<A>(task);
    if index == SLOT_PENDING || notifier == 0 || !runs_unknown::<A>(index, task, notifier, now) {
        return;
    }
    let left = how_left::<A>(preempted != 0, state, task, notifier);
    let seen = Seen { sched_ns: now, left, pcount: A::u64(task, Member::TaskPcount) };
    let sent = announce::<A>(ctx, task, notifier, pid, entry, seen);
    if sent { field!(stats.announced) } else { field!(stats.events_lost) }.bump(1);
}

/// Whether a thread inside a vCPU ioctl runs a vCPU that is not known to be its.
#[inline(always)]
fn runs_unknown<A: Access>(index: u16, task: Object, notifier: u64, now: u64) -> bool {
    match own_slot(index, task) {
        Some(Known { kept, .. }) => runs_another::<A>(field!(kept.slot), task, notifier, now),
        None => runs_vcpu::<A>(task, notifier),
    }
}

/// How a thread leaves its CPU, a [`Left`] as a number. One that is preempted stays on its queue whatever it
/// was about to do.
#[inline(always)]
fn how_left<A: Access>(preempted: bool, state: u64, task: Object, notifier: u64) -> u32 {
    if preempted || state == TASK_RUNNING {
        Left::Runnable as u32
    } else {
        how_asleep::<A>(task, notifier, state)
    }
}

/// What is kept of a thread that is followed.
#[derive(Clone, Copy)]
struct Known {
    /// The slot's number.
    index: u32,
    kept: Shared<Followed>,
}

impl Known {
    #[inline(always)]
    fn modes(self) -> Shared<Modes> {
        let kept = self.kept;
        field!(kept.modes)
    }
}

/// What is kept of a thread, if it is followed.
#[inline(always)]
fn followed(task: Object, pid: u32) -> Option<Known> {
    if !may_have_slot(pid) {
        return None;
    }
    own_slot(pid_entry(pid)?.load(), task)
}

/// What the pid table names, if it is this very thread's and not an earlier one's with the same pid.
#[inline(always)]
fn own_slot(index: u16, task: Object) -> Option<Known> {
    if index == NO_SLOT || index == SLOT_PENDING {
        return None;
    }
    let kept = kept(index)?;
    if load!(kept.slot.task) != task as u64 {
        return None;
    }
    Some(Known { index: u32::from(index), kept })
}
