//! What the eBPF programs share with user space, and what of them can be tested there.
//!
//! [`abi`] is everything that both sides of the kernel boundary must agree on, once: which kernel members are
//! read, which counters they become, how slots and records lie in memory, which events travel through the
//! ring buffer. [`histogram`] is the one form of a distribution, from the programs to OTLP. [`occupancy`] and
//! [`shares`] are the arithmetic of attribution, on [`shared`] memory: they touch no kernel, so tests hold
//! them against the whole history of a CPU. [`lag`] distinguishes a reading of two clocks from one that an
//! update fell into, and [`quota`] says how much of a wait is a quota's. The library has no dependencies, so
//! that the host binary can link it without pulling in `aya-ebpf`. `fixture`, behind a feature, is for tests.

#![cfg_attr(
    target_arch = "bpf",
    expect(unstable_features, reason = "inline assembly for eBPF is one, and atomic additions take it"),
    feature(asm_experimental_arch)
)]
#![no_std]

#[cfg(feature = "fixtures")]
extern crate std;

pub mod abi;
#[cfg(feature = "fixtures")]
pub mod fixture;
pub mod histogram;
pub mod lag;
pub mod occupancy;
pub mod quota;
pub mod shared;
pub mod shares;
pub mod stopwatch;
