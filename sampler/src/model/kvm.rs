//! What KVM alone knows of its guests.

use std::sync::Arc;

use sampler_ebpf::abi::{KVM_STATS, KvmStat};

use super::{exits::Exits, level::Level};

/// What KVM alone knows of a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvmVm {
    /// How much is observed of its vCPUs now.
    pub level: Level,
    /// What KVM has counted of its vCPUs together since the first was seen, those that ended included.
    pub counts: KvmCounts,
    /// Why its vCPUs left the guest since the first was seen, those that ended included.
    pub exits: Exits,
}

/// What KVM alone knows of a vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvmVcpu {
    /// What KVM has counted of it since its creation; absent where that could not be read.
    pub counts: Option<KvmCounts>,
    /// Why it left the guest since it is followed.
    pub exits: Arc<Exits>,
    /// The same of the interval alone; absent where there is no interval.
    pub exits_added: Option<Arc<Exits>>,
}

/// KVM's counts, by [`KvmStat`]. One that this kernel does not keep is absent, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvmCounts {
    counts: [Option<u64>; KVM_STATS.len()],
}

impl KvmCounts {
    /// None are kept.
    pub const NONE: Self = Self { counts: [None; KVM_STATS.len()] };

    /// The counts that the kernel keeps.
    #[must_use]
    pub fn new(counts: [u64; KVM_STATS.len()], kept: &[bool; KVM_STATS.len()]) -> Self {
        Self { counts: std::array::from_fn(|n| kept[n].then_some(counts[n])) }
    }

    /// One count.
    #[must_use]
    pub const fn get(&self, stat: KvmStat) -> Option<u64> {
        self.counts[stat as usize]
    }

    /// One count, by its place in [`KVM_STATS`].
    #[must_use]
    pub const fn at(&self, stat: usize) -> Option<u64> {
        self.counts[stat]
    }

    /// Key and value of each count that is kept.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KVM_STATS.iter().zip(self.counts).filter_map(|(row, count)| Some((row.key, count?)))
    }

    /// Both together; what only one has is as that one has it.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let sum = |n: usize| match (self.counts[n], other.counts[n]) {
            (Some(one), Some(two)) => Some(one.saturating_add(two)),
            (one, two) => one.or(two),
        };
        Self { counts: std::array::from_fn(sum) }
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let added = |n: usize| Some(self.counts[n]?.saturating_sub(earlier.counts[n]?));
        Self { counts: std::array::from_fn(added) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_stays_absent() {
        let mut kept = [true; KVM_STATS.len()];
        kept[KvmStat::NestedRuns as usize] = false;
        let before = KvmCounts::new([3; KVM_STATS.len()], &kept);
        let after = KvmCounts::new([5; KVM_STATS.len()], &kept);
        let added = after.since(&before);
        assert_eq!((added.get(KvmStat::Exits), added.get(KvmStat::NestedRuns)), (Some(2), None));
        assert_eq!(added.iter().count(), KVM_STATS.len() - 1);
        let sum = KvmCounts::default().plus(&added).plus(&added);
        assert_eq!((sum.get(KvmStat::Exits), sum.get(KvmStat::NestedRuns)), (Some(4), None));
    }
}
