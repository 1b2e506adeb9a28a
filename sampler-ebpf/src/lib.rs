//! The ABI between the eBPF programs and user space.
//!
//! Everything that both sides of the kernel boundary must agree on is defined here once: which kernel
//! members are read, which counters they become, how slots and records lie in memory, which events travel
//! through the ring buffer. The library has no dependencies, so that the host binary can link it without
//! pulling in `aya-ebpf`.

#![no_std]

pub mod abi;
