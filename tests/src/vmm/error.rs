//! What can go wrong in the VMM.

use std::io;

/// Why a guest did not start, run or stop.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// `/dev/kvm` is missing or may not be opened.
    #[error(
        "/dev/kvm cannot be opened: {source}; load kvm_intel or kvm_amd, and run as root or in the group kvm"
    )]
    Unavailable {
        /// What the kernel answered.
        source: io::Error,
    },
    /// A KVM ioctl failed.
    #[error("{call} failed: {source}")]
    Ioctl {
        /// The ioctl, as the KVM API names it.
        call: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A vCPU's ioctl failed.
    #[error("{call} of vCPU {vcpu} failed: {source}")]
    Vcpu {
        /// The vCPU's id.
        vcpu: u32,
        /// The ioctl, as the KVM API names it.
        call: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A vCPU's thread could not be started or placed.
    #[error("the thread of vCPU {vcpu} {what}: {source}")]
    Thread {
        /// The vCPU's id.
        vcpu: u32,
        /// What failed.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A vCPU left the guest for a reason that its program cannot cause.
    #[error("vCPU {vcpu} left the guest unexpectedly: {exit}")]
    UnexpectedExit {
        /// The vCPU's id.
        vcpu: u32,
        /// The exit, as KVM described it.
        exit: String,
    },
    /// The handler of the signal that calls vCPUs out of the guest could not be installed.
    #[error("the handler of the vCPUs' wake-up signal cannot be installed: {source}")]
    Signal {
        /// What the kernel answered.
        source: io::Error,
    },
    /// vCPU threads did not do in time what was asked of them.
    #[error("{count} vCPU threads had not {what} after {seconds} s")]
    Late {
        /// How many.
        count: usize,
        /// What was asked.
        what: &'static str,
        /// How long they were given.
        seconds: u64,
    },
    /// A vCPU's thread panicked.
    #[error("the thread of vCPU {vcpu} panicked")]
    Panicked {
        /// The vCPU's id.
        vcpu: u32,
    },
}
