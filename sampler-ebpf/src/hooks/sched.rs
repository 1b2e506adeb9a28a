//! The scheduler's context switch: which of its two threads run vCPUs, and what their slots are told.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use sampler_ebpf::abi::{HookStats, Left, Member, NO_SLOT, SLOT_PENDING, VcpuSlot};

use super::{
    lifecycle::{Seen, announce, gone, halted, notifier, runs_vcpu},
    slot::{arrive, leave},
};
use crate::{
    maps::{hook_stats, may_have_slot, pid_entry, slot},
    task::{Access, Object, Probed, TASK_DEAD, TASK_RUNNING, Typed, clock, state},
};

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next[, unsigned int prev_state])`
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

#[inline(always)]
fn on_switch<A: Access>(ctx: &impl EbpfContext, preempted: u64, prev: Object, next: Object) {
    switch_out::<A>(ctx, preempted != 0, prev);
    switch_in(next, A::u32(next, Member::TaskPid));
}

#[inline(always)]
fn switch_out<A: Access>(ctx: &impl EbpfContext, preempted: bool, task: Object) {
    let pid = A::u32(task, Member::TaskPid);
    let notifier = notifier::<A>(task);
    if notifier == 0 && !may_have_slot(pid) {
        return;
    }
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    let (Some(entry), Some(stats)) = (pid_entry(pid), hook_stats(cpu)) else { return };
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    let index = unsafe { entry.read_volatile() };
    let state = state::<A>(task);
    let dead = state & TASK_DEAD != 0;
    if let Some(slot) = own_slot(index, task, stats) {
        let left = how_left(preempted, state, task, notifier);
        let missed = leave::<A>(slot, task, cpu, left, clock::<A>(task));
        count(stats, |s| &raw mut s.vcpu_switches);
        if missed != 0 {
            add(stats, |s| &raw mut s.missed_switches, missed);
        }
    } else if index != SLOT_PENDING && notifier != 0 && !dead && runs_vcpu::<A>(task, notifier) {
        let seen = Seen {
            sched_ns: clock::<A>(task),
            left: how_left(preempted, state, task, notifier),
            pcount: A::u64(task, Member::TaskPcount),
        };
        let sent = announce::<A>(ctx, task, notifier, pid, entry, seen);
        count(stats, |s| if sent { &raw mut s.announced } else { &raw mut s.events_lost });
        return;
    }
    if dead && index != NO_SLOT {
        // SAFETY: the pointer came from a map look-up that the verifier followed.
        unsafe { entry.write_volatile(NO_SLOT) };
        let sent = gone::<A>(ctx, task, pid);
        count(stats, |s| if sent { &raw mut s.gone } else { &raw mut s.events_lost });
    }
}

/// A thread that is preempted stays on its queue whatever it was about to do.
#[inline(always)]
fn how_left(preempted: bool, state: u64, task: Object, notifier: u64) -> Left {
    if preempted || state == TASK_RUNNING {
        Left::Runnable
    } else if halted(task, notifier) {
        Left::Halted
    } else {
        Left::Blocked
    }
}

#[inline(always)]
fn switch_in(task: Object, pid: u32) {
    if !may_have_slot(pid) {
        return;
    }
    let Some(entry) = pid_entry(pid) else { return };
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    let index = unsafe { entry.read_volatile() };
    if index == NO_SLOT || index == SLOT_PENDING {
        return;
    }
    let Some(slot) = slot(index) else { return };
    // SAFETY: as above; the verifier knows the slot's size. The helper has no preconditions.
    unsafe {
        if (&raw const (*slot).task).read_volatile() == task as u64 {
            arrive(slot, bpf_get_smp_processor_id() as u32);
        }
    }
}

/// The slot that the pid table names, if it is this very thread's and not an earlier one's with the same pid.
#[inline(always)]
fn own_slot(index: u16, task: Object, stats: *mut HookStats) -> Option<*mut VcpuSlot> {
    if index == NO_SLOT || index == SLOT_PENDING {
        return None;
    }
    let slot = slot(index)?;
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    if unsafe { (&raw const (*slot).task).read_volatile() } != task as u64 {
        count(stats, |s| &raw mut s.stale_slots);
        return None;
    }
    Some(slot)
}

#[inline(always)]
fn count(stats: *mut HookStats, field: impl Fn(&mut HookStats) -> *mut u64) {
    add(stats, field, 1);
}

#[inline(always)]
fn add(stats: *mut HookStats, field: impl Fn(&mut HookStats) -> *mut u64, number: u64) {
    // SAFETY: the block belongs to this CPU, and this program cannot be interrupted by itself there.
    unsafe {
        let field = field(&mut *stats);
        *field += number;
    }
}
