//! What distinguishes VMs and vCPUs from each other, and where a VM comes from.
//!
//! Keys are opaque here and for everything behind the model: the source that made one alone knows what is in
//! it.

use crate::kept::kept;

/// What distinguishes a VM from all others on its host while it lives. The same VM has the same key in every
/// run of the sampler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VmKey([u64; 2]);

kept! { VmKey(content) }

impl VmKey {
    /// A key with this content, which is for a source to choose.
    #[must_use]
    pub const fn new(content: [u64; 2]) -> Self {
        Self(content)
    }

    /// The content, for the source that chose it.
    #[must_use]
    pub const fn content(self) -> [u64; 2] {
        self.0
    }
}

/// What distinguishes a vCPU's stream of counts from all others on its host: counts that begin anew are
/// another stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VcpuId([u64; 2]);

kept! { VcpuId(content) }

impl VcpuId {
    /// An id with this content, which is for a source to choose.
    #[must_use]
    pub const fn new(content: [u64; 2]) -> Self {
        Self(content)
    }

    /// The content, for the source that chose it.
    #[must_use]
    pub const fn content(self) -> [u64; 2] {
        self.0
    }
}

/// Where a VM comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said.
    #[default]
    Unknown,
    /// A process of this host, the VMM, runs it.
    Process {
        /// Its id in the initial pid namespace.
        pid: u32,
    },
    /// A domain of a hypervisor below this host.
    Domain {
        /// Its number.
        domid: u32,
    },
}

kept! { enum Origin { 0 = Unknown, 1 = Process { pid: u32 }, 2 = Domain { domid: u32 } } }

impl Origin {
    /// The VMM's process id, where there is a VMM.
    #[must_use]
    pub const fn pid(self) -> Option<u32> {
        match self {
            Self::Process { pid } => Some(pid),
            Self::Unknown | Self::Domain { .. } => None,
        }
    }

    /// The number by which an administrator of the host knows the VM: a process id, or a domain's.
    #[must_use]
    pub const fn number(self) -> Option<u32> {
        match self {
            Self::Unknown => None,
            Self::Process { pid: number } | Self::Domain { domid: number } => Some(number),
        }
    }
}
