//! Time in which a VM's vCPUs were out of step.

use crate::kept::kept;

/// Time in which at least one vCPU of a VM ran while at least one other was ready to run and waited for a
/// CPU. An estimate: it was looked at regular moments whether it was so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoStop {
    /// The whole of it since the first of the VM's vCPUs was seen, ns.
    pub ns: u64,
    /// What the interval added, ns; absent where there is no interval, and where not all vCPUs could be read:
    /// the next has it.
    pub interval_ns: Option<u64>,
    /// Time between two of those moments, ns: each stands for so much.
    pub tick_ns: u64,
}

kept! { CoStop { ns, interval_ns, tick_ns } }
