//! The scheduler's context switch: run time, run delay, switches and migrations of vCPU threads.
//!
//! Nothing is computed here. The kernel keeps all of these counts itself, and at this tracepoint those of the
//! thread that leaves are complete: `update_curr()` ran when it was put, its earlier waits were credited when
//! it arrived, and its switch count was raised just before. Those of the thread that comes are not yet, so
//! for it only the arrival is noted.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use sampler_ebpf::abi::{Counter, HookStats, Member, NO_SLOT, SLOT_PENDING, VcpuSlot, for_each_counter};

use super::lifecycle::{announce, gone, notifier, runs_vcpu};
use crate::{
    maps::{hook_stats, may_have_slot, pid_entry, slot},
    task::{Access, Object, Probed, Typed, is_dead},
};

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next[, unsigned int prev_state])`
///
/// The fourth argument came with 5.18 and was backported by some: not used.
#[btf_tracepoint(function = "sched_switch")]
fn sched_switch_btf(ctx: BtfTracePointContext) -> i32 {
    on_switch::<Typed>(&ctx, ctx.arg(1), ctx.arg(2));
    0
}

/// The same for a kernel that refuses `tp_btf`.
#[raw_tracepoint(tracepoint = "sched_switch")]
fn sched_switch_raw(ctx: RawTracePointContext) -> i32 {
    on_switch::<Probed>(&ctx, ctx.arg(1), ctx.arg(2));
    0
}

#[inline(always)]
fn on_switch<A: Access>(ctx: &impl EbpfContext, prev: Object, next: Object) {
    switch_out::<A>(ctx, prev);
    switch_in::<A>(next);
}

#[inline(always)]
fn switch_out<A: Access>(ctx: &impl EbpfContext, task: Object) {
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
    let dead = is_dead::<A>(task);
    if let Some(slot) = own_slot(index, task, stats) {
        let missed = missed_switches::<A>(slot, task);
        record::<A>(slot, task, cpu);
        count(stats, |s| &raw mut s.vcpu_switches);
        if missed != 0 {
            add(stats, |s| &raw mut s.missed_switches, missed);
        }
    } else if index != SLOT_PENDING && notifier != 0 && !dead && runs_vcpu::<A>(task, notifier) {
        let sent = announce::<A>(ctx, task, notifier, pid, entry);
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

#[inline(always)]
fn switch_in<A: Access>(task: Object) {
    let pid = A::u32(task, Member::TaskPid);
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
    // SAFETY: as above; the verifier knows the slot's size.
    unsafe {
        if (&raw const (*slot).task).read_volatile() != task as u64 {
            return;
        }
        begin(slot);
        (&raw mut (*slot).on_cpu).write_volatile(1);
        (&raw mut (*slot).cpu).write_volatile(bpf_get_smp_processor_id() as u32);
        end(slot);
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

/// Switches of the thread that the kernel made since the last recorded departure without calling this program: whole
/// stints by the kernel's count of them, and the begin of the stint that ends now.
#[inline(always)]
fn missed_switches<A: Access>(slot: *const VcpuSlot, task: Object) -> u64 {
    // SAFETY: the pointer came from a map look-up that the verifier followed.
    let (before, arrived) = unsafe {
        let before = (&raw const (*slot).counters[Counter::Timeslices as usize]).read_volatile();
        (before, (&raw const (*slot).on_cpu).read_volatile())
    };
    // The slot was given out while the thread was on its CPU.
    if before == 0 {
        return 0;
    }
    let stints = A::u64(task, Member::TaskPcount).saturating_sub(before).saturating_sub(1);
    stints + u64::from(arrived == 0)
}

/// Copies the kernel's counts of a thread that leaves its CPU.
#[inline(always)]
fn record<A: Access>(slot: *mut VcpuSlot, task: Object, cpu: u32) {
    // SAFETY: the pointer came from a map look-up that the verifier followed. Volatile keeps the order of
    // the writes between the two steps of `seq`.
    unsafe {
        begin(slot);
        (&raw mut (*slot).on_cpu).write_volatile(0);
        (&raw mut (*slot).cpu).write_volatile(cpu);
        for_each_counter(|counter, member| {
            let value = A::u64(task, member);
            (&raw mut (*slot).counters[counter as usize]).write_volatile(value);
        });
        end(slot);
    }
}

/// # Safety
/// `slot` points to a slot that nobody else writes now.
#[inline(always)]
unsafe fn begin(slot: *mut VcpuSlot) {
    // SAFETY: by contract.
    unsafe {
        let seq = (&raw const (*slot).seq).read_volatile();
        (&raw mut (*slot).seq).write_volatile(seq | 1);
    }
}

/// # Safety
/// As [`begin`].
#[inline(always)]
unsafe fn end(slot: *mut VcpuSlot) {
    // SAFETY: by contract.
    unsafe {
        let seq = (&raw const (*slot).seq).read_volatile();
        (&raw mut (*slot).seq).write_volatile(seq + 1);
    }
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
