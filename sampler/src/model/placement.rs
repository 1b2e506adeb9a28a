//! At which of the host's NUMA nodes a VM's vCPUs are.

use super::control_group::NumaNode;

/// The vCPUs of a VM at a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeVcpus {
    /// The node's number.
    pub node: u32,
    /// vCPUs that are on a CPU of it, or wait for one; of those that sleep, that were on one last.
    pub vcpus: u32,
}

/// How much of a VM's memory is far from a vCPU of it, on the average over its vCPUs, bytes: an estimate, for
/// which pages a vCPU uses is not known. Absent where memory is not known by node, or no vCPU is.
#[must_use]
pub fn remote_memory(placement: &[NodeVcpus], memory: &[NumaNode]) -> Option<u64> {
    let all: u32 = placement.iter().map(|at| at.vcpus).sum();
    if all == 0 || memory.is_empty() {
        return None;
    }
    let at = |node: u32| placement.iter().find(|at| at.node == node).map_or(0, |at| at.vcpus);
    let far = |bytes: u64, node: u32| u128::from(bytes) * u128::from(all - at(node));
    let sum: u128 = memory.iter().map(|memory| far(memory.bytes, memory.node)).sum();
    u64::try_from(sum / u128::from(all)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn far(vcpus: &[(u32, u32)], memory: &[(u32, u64)]) -> Option<u64> {
        let memory = memory.iter().map(|&(node, bytes)| NumaNode { node, bytes, ..NumaNode::default() });
        let placement = vcpus.iter().map(|&(node, vcpus)| NodeVcpus { node, vcpus });
        remote_memory(&placement.collect::<Vec<_>>(), &memory.collect::<Vec<_>>())
    }

    #[test]
    fn memory_is_far_from_the_vcpus_of_other_nodes() {
        assert_eq!(far(&[(0, 4), (1, 0)], &[(0, 100), (1, 0)]), Some(0), "all of it is near");
        assert_eq!(far(&[(0, 4), (1, 0)], &[(0, 0), (1, 100)]), Some(100), "and here none");
        assert_eq!(far(&[(0, 3), (1, 1)], &[(0, 100), (1, 60)]), Some(25 + 45));
        assert_eq!(far(&[(0, 2)], &[(3, 8)]), Some(8), "a node without CPUs");
        assert_eq!(far(&[(0, 0)], &[(0, 8)]), None, "no vCPU is known");
        assert_eq!(far(&[(0, 2)], &[]), None, "nor is memory here");
        assert_eq!(
            far(&[(0, 1), (1, 1)], &[(0, u64::MAX), (1, u64::MAX)]),
            Some(u64::MAX),
            "and no overflow"
        );
    }
}
