//! vCPUs as their VMMs hold them: by descriptors. A vCPU that nobody runs shows itself in no other way.

/// Descriptors of vCPUs that one look can list; what it finds beyond is counted. The list takes 3.5 MiB.
pub const MAX_VCPU_FILES: u32 = 65_536;
/// First eight bytes of the name that KVM gives a vCPU's descriptor, `kvm-vcpu:N`, since 4.18.
pub const VCPU_FILE: u64 = u64::from_le_bytes(*b"kvm-vcpu");
/// The byte after these. From 5.14 on a vCPU's statistics are a descriptor too, `kvm-vcpu-stats:N`.
pub const VCPU_FILE_END: u8 = b':';
/// `ANON_INODE_FS_MAGIC`: nobody but the kernel names files of that file system.
pub const ANON_INODES: u64 = 0x0904_1934;

/// One descriptor of a vCPU as a look found it. A vCPU that has several is listed as often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VcpuFile {
    /// Address of the `struct kvm_vcpu`: identity of the vCPU while it lives.
    pub vcpu: u64,
    /// Address of the `struct kvm`: identity of the VM while it lives.
    pub kvm: u64,
    /// `CLOCK_BOOTTIME` at the creation of the process, ns: with `tgid` it identifies the process.
    pub leader_start_boottime_ns: u64,
    /// `CLOCK_BOOTTIME` when it was found, ns.
    pub at_boottime_ns: u64,
    /// The scheduler's clock at that moment, ns.
    pub sched_ns: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// The vCPU's id as the VMM chose it.
    pub vcpu_id: u32,
    /// 1 when a thread has run it.
    pub has_run: u32,
    /// The thread that ran it last, by its id in the initial pid namespace; 0 where it has ended.
    pub runner: u32,
}

/// What a look has listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VcpuFiles {
    /// Descriptors of vCPUs, from the first record on. User space sets it to 0 before each look.
    pub listed: u64,
    /// Those that found no room, since the start.
    pub dropped: u64,
    /// Descriptors of any kind that were visited, since the start.
    pub visited: u64,
}
