//! What KVM alone knows of its guests.

use std::sync::Arc;

use super::{
    counted::{KVM_STATS, KvmStat},
    exits::Exits,
    level::Level,
};
use crate::kept::kept;

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
}

/// KVM's counts, by [`KvmStat`]. One that this kernel does not keep is absent, never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvmCounts {
    /// Of one that is absent it is 0.
    counts: [u64; KVM_STATS.len()],
    /// Which are kept, one bit each: as an `Option` each would take twice the room, in all that is kept and
    /// shown of a vCPU.
    kept: u32,
}

kept! { KvmCounts { counts in KVM_STATS, kept } }

const _: () = assert!(KVM_STATS.len() <= u32::BITS as usize, "a bit for each count");

impl KvmCounts {
    /// None are kept.
    pub const NONE: Self = Self { counts: [0; KVM_STATS.len()], kept: 0 };

    /// The counts that the kernel keeps.
    #[must_use]
    pub fn new(counts: [u64; KVM_STATS.len()], kept: &[bool; KVM_STATS.len()]) -> Self {
        let kept = (0..).zip(kept).fold(0, |bits, (n, kept)| bits | u32::from(*kept) << n);
        Self::of(kept, |n| counts[n])
    }

    /// One count.
    #[must_use]
    pub const fn get(&self, stat: KvmStat) -> Option<u64> {
        self.at(stat as usize)
    }

    /// One count, by its place in [`KVM_STATS`].
    #[must_use]
    pub const fn at(&self, stat: usize) -> Option<u64> {
        if self.kept >> stat & 1 == 0 { None } else { Some(self.counts[stat]) }
    }

    /// Key and value of each count that is kept.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        KVM_STATS.iter().enumerate().filter_map(|(n, row)| Some((row.key, self.at(n)?)))
    }

    /// Both together; what only one has is as that one has it.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self::of(self.kept | other.kept, |n| self.counts[n].saturating_add(other.counts[n]))
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self::of(self.kept & earlier.kept, |n| self.counts[n].saturating_sub(earlier.counts[n]))
    }

    /// Whether these are counts that began again at zero after others: none is higher, and more than one
    /// fell. An administrator may clear a single one.
    #[must_use]
    pub fn began_again_after(&self, others: &Self) -> bool {
        let all = || (0..KVM_STATS.len()).map(|n| (self.at(n), others.at(n)));
        all().all(|(now, before)| now <= before) && all().filter(|(now, before)| now < before).count() > 1
    }

    fn of(kept: u32, count: impl Fn(usize) -> u64) -> Self {
        let counts = std::array::from_fn(|n| if kept >> n & 1 == 0 { 0 } else { count(n) });
        Self { counts, kept }
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
        assert!(before.began_again_after(&after) && !before.began_again_after(&before));
        assert!(!after.began_again_after(&before));
        let mut one = [5; KVM_STATS.len()];
        one[KvmStat::Exits as usize] = 0;
        assert!(!KvmCounts::new(one, &kept).began_again_after(&after), "it was cleared");
    }
}
