//! What an attached program costs before it does anything: the twin that `cargo xtask bench hooks` compares with.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

/// As the scheduler program, but empty. Never attached by the sampler itself.
#[btf_tracepoint(function = "sched_switch")]
fn empty_switch_btf(_ctx: BtfTracePointContext) -> i32 {
    0
}
