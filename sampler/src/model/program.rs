//! What the eBPF programs cost, as the kernel counts it.

use std::sync::Arc;

/// What the kernel has counted of one program since it was loaded. It counts only while somebody wants it:
/// `kernel.bpf_stats_enabled` (5.1), or a descriptor of `BPF_ENABLE_STATS` (5.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramRuns {
    /// Its name in the object.
    pub name: Arc<str>,
    /// Runs.
    pub count: u64,
    /// Time that they took, ns.
    pub time_ns: u64,
}
