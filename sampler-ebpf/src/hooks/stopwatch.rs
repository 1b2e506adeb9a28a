//! What `cargo xtask bench interrupts` measures with: a program that begins before the sampler's on the same
//! tracepoint, and one that ends after it. The kernel calls programs of a tracepoint in the order in which
//! they were attached.

use aya_ebpf::{
    helpers::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, map},
    maps::Array,
    programs::BtfTracePointContext,
};
use sampler_ebpf::{
    shared::Shared,
    stopwatch::{BUCKETS, CPUS, LAPS, Lap, WORDS, bucket, entry},
};

use crate::task::monotonic_ns;

/// When the programs of a CPU began, ns.
#[map]
static BEGAN: Array<u64> = Array::with_max_entries(LAPS * CPUS, 0);

/// How long they took.
#[map]
static TOOK: Array<[u64; WORDS]> = Array::with_max_entries(LAPS * CPUS, 0);

#[btf_tracepoint(function = "sched_switch")]
fn switch_begins(_ctx: BtfTracePointContext) -> i32 {
    begin(Lap::Switch);
    0
}

#[btf_tracepoint(function = "sched_switch")]
fn switch_ends(_ctx: BtfTracePointContext) -> i32 {
    end(Lap::Switch);
    0
}

#[btf_tracepoint(function = "sched_migrate_task")]
fn move_begins(_ctx: BtfTracePointContext) -> i32 {
    begin(Lap::Move);
    0
}

#[btf_tracepoint(function = "sched_migrate_task")]
fn move_ends(_ctx: BtfTracePointContext) -> i32 {
    end(Lap::Move);
    0
}

#[inline(always)]
fn number(lap: Lap) -> u32 {
    // SAFETY: the helper has no preconditions.
    entry(lap, unsafe { bpf_get_smp_processor_id() } as u32)
}

#[inline(always)]
fn begin(lap: Lap) {
    if let Some(began) = BEGAN.get_ptr_mut(number(lap)) {
        // SAFETY: the pointer comes from the look-up.
        unsafe { Shared::new(began) }.store(monotonic_ns());
    }
}

#[inline(always)]
fn end(lap: Lap) {
    let now = monotonic_ns();
    let number = number(lap);
    let (Some(began), Some(took)) = (BEGAN.get_ptr_mut(number), TOOK.get_ptr_mut(number)) else { return };
    // SAFETY: the pointers come from the look-ups.
    let (began, took) = unsafe { (Shared::new(began), Shared::new(took)) };
    let ns = now.saturating_sub(began.load());
    took.element(bucket(ns)).bump(1);
    let longest = took.element(BUCKETS);
    if ns > longest.load() {
        longest.store(ns);
    }
}
