//! What travels through the ring buffer: lifecycle, never measurements.

use super::counters::COUNTERS;

/// Kind of an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A thread without a slot was seen inside a vCPU ioctl.
    VcpuSeen = 1,
    /// A thread with a slot, or announced for one, ran for the last time.
    ThreadGone = 2,
}

/// One lifecycle event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// An [`EventKind`] as a number.
    pub kind: u32,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// The vCPU's id as the VMM chose it (`VcpuSeen`).
    pub vcpu_id: u32,
    /// Address of the `task_struct`: identity of the thread while it lives.
    pub task: u64,
    /// Address of the `struct kvm`: identity of the VM while it lives (`VcpuSeen`).
    pub kvm: u64,
    /// Address of the `struct kvm_vcpu` (`VcpuSeen`).
    pub vcpu: u64,
    /// `CLOCK_MONOTONIC` at the thread's creation, ns.
    pub start_time_ns: u64,
    /// `CLOCK_BOOTTIME` at the thread's creation, ns.
    pub start_boottime_ns: u64,
    /// `CLOCK_BOOTTIME` at the creation of the process, ns: with `tgid` it identifies the process.
    pub leader_start_boottime_ns: u64,
    /// `CLOCK_BOOTTIME` of the event, ns.
    pub at_boottime_ns: u64,
    /// The scheduler's clock at that moment, ns: where its slot begins (`VcpuSeen`).
    pub sched_ns: u64,
    /// The kernel's counts of the thread at that moment (`VcpuSeen`), in the order of [`COUNTERS`].
    pub counters: [u64; COUNTERS.len()],
    /// A [`super::Left`] as a number: how the thread left its CPU, where it was seen off it.
    pub left: u32,
    /// Keeps the layout explicit.
    pub _pad: u32,
    /// Name of the thread, not terminated when it fills the array.
    pub comm: [u8; 16],
}
