//! What an attached program costs before it does anything: the twin that `cargo xtask bench hooks` compares
//! with.

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};

/// As the scheduler program, but empty. Never attached by the sampler itself.
#[btf_tracepoint(function = "sched_switch")]
fn empty_switch_btf(_ctx: BtfTracePointContext) -> i32 {
    0
}

/// The same for the programs on KVM's hooks.
#[raw_tracepoint(tracepoint = "kvm_entry")]
fn empty_kvm_raw(_ctx: RawTracePointContext) -> i32 {
    0
}

/// The same for the program on the block layer.
#[btf_tracepoint(function = "block_rq_complete")]
fn empty_request_btf(_ctx: BtfTracePointContext) -> i32 {
    0
}
