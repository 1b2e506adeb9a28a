//! How much is told of each VM: all that KVM's hooks give, unless the VM leaves its guest so often that their
//! price would be felt. They cost a fraction of a microsecond for each exit, so what bounds the price is the
//! rate of exits, which KVM counts by itself, told or not.

use crate::model::{Level, Levels};

/// Time for which a VM must have been well below the bound before more is told of it again, ns: long enough
/// not to flap.
const CALM_NS: u64 = 30_000_000_000;

/// How much is told of one VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmLevel {
    is_lowered: bool,
    /// For how long it has been well below the bound, ns.
    calm_ns: u64,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Less is told from now on.
    Lowered,
    /// All is told again.
    Raised,
}

impl VmLevel {
    /// How much is told now.
    #[must_use]
    pub fn level(self, levels: Levels) -> Level {
        if self.is_lowered { Level::Basic } else { levels.most }
    }

    /// Whether less is told than is allowed.
    #[must_use]
    pub const fn is_lowered(self) -> bool {
        self.is_lowered
    }

    /// Takes in an interval in which the busiest vCPU left its guest so often in a second.
    pub(super) fn observe(&mut self, exits_per_s: u64, interval_ns: u64, levels: Levels) -> Option<Change> {
        if !self.is_lowered {
            self.is_lowered = levels.most == Level::Full && exits_per_s > levels.max_exits;
            self.calm_ns = 0;
            return self.is_lowered.then_some(Change::Lowered);
        }
        let is_calm = exits_per_s <= levels.max_exits / 2;
        self.calm_ns = if is_calm { self.calm_ns + interval_ns } else { 0 };
        if self.calm_ns < CALM_NS {
            return None;
        }
        *self = Self::default();
        Some(Change::Raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_vm_that_exits_too_often_is_lowered_and_raised_when_it_is_calm_for_long() {
        let levels = Levels { most: Level::Full, max_exits: 1000 };
        let mut vm = VmLevel::default();
        assert_eq!(vm.observe(1000, SECOND, levels), None);
        assert_eq!(vm.level(levels), Level::Full);
        assert_eq!(vm.observe(1001, SECOND, levels), Some(Change::Lowered));
        assert_eq!(vm.level(levels), Level::Basic);
        for _ in 0..29 {
            assert_eq!(vm.observe(500, SECOND, levels), None);
        }
        assert_eq!(vm.observe(501, SECOND, levels), None, "not calm: it begins anew");
        for _ in 0..29 {
            assert_eq!(vm.observe(0, SECOND, levels), None);
        }
        assert_eq!(vm.observe(0, SECOND, levels), Some(Change::Raised));
        assert_eq!(vm.level(levels), Level::Full);
    }

    #[test]
    fn nothing_is_lowered_where_no_more_is_allowed() {
        let levels = Levels { most: Level::Basic, max_exits: 1 };
        let mut vm = VmLevel::default();
        assert_eq!(vm.observe(9, SECOND, levels), None);
        assert_eq!(vm.level(levels), Level::Basic);
    }
}
