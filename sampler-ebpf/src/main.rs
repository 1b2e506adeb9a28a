//! The eBPF programs. `hooks` has one file per subsystem, `maps` every map, `task` the ways to
//! read a thread. How shared memory is touched, and the arithmetic of attribution, are in the library.

#![no_std]
#![no_main]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "what a hook reads of one thread or slot rests on one argument, which a block for each read would repeat"
)]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand the context over by value")]

mod hooks;
mod maps;
mod task;

use sampler_ebpf::shared;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier refuses programs that can reach this, so it never runs.
    unsafe { core::hint::unreachable_unchecked() }
}

/// The licence that the kernel checks before it lets a program use its GPL-only helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
