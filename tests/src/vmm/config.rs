//! What a guest and its vCPUs are to be.

use std::sync::Arc;

use super::load::Load;
use super::page::Page;
use crate::host::CpuList;

/// Who puts a halted vCPU to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HaltIn {
    /// KVM, inside `KVM_RUN`: it owns the interrupt controller, as with every VMM of production.
    #[default]
    Kernel,
    /// The VMM: a halt leaves `KVM_RUN`, and the thread sleeps outside of the vCPU ioctl.
    UserSpace,
}

/// One vCPU to be.
#[derive(Debug, Clone)]
pub struct VcpuConfig {
    /// The vCPU's id as KVM is to know it; unique in its VM, below 4,096 on every kernel.
    pub id: u32,
    /// What it does.
    pub load: Load,
    /// CPUs that its thread may run on; the VMM's own when absent.
    pub cpus: Option<CpuList>,
    /// Nice value of its thread.
    pub nice: i32,
    /// A page of the VMM's own that its thread reads whenever the guest asks for its next turn.
    pub reads: Option<Arc<Page>>,
}

impl VcpuConfig {
    /// A vCPU without placement or priority of its own.
    #[must_use]
    pub const fn new(id: u32, load: Load) -> Self {
        Self { id, load, cpus: None, nice: 0, reads: None }
    }
}

/// A guest to be.
#[derive(Debug, Clone, Default)]
pub struct VmConfig {
    /// Its vCPUs.
    pub vcpus: Vec<VcpuConfig>,
    /// Who puts halted vCPUs to sleep.
    pub halt_in: HaltIn,
    /// Name the threads `CPU N/KVM`, as QEMU does with `debug-threads=on`.
    pub name_threads: bool,
}

impl VmConfig {
    /// A guest of `count` vCPUs, numbered from 0, that all have the same load.
    #[must_use]
    pub fn uniform(count: u32, load: Load) -> Self {
        Self { vcpus: (0..count).map(|id| VcpuConfig::new(id, load)).collect(), ..Self::default() }
    }
}
