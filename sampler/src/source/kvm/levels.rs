//! How much is observed of each VM: all that KVM's hooks give, unless the VM leaves its guest so often that
//! their price would be felt. They cost a fraction of a microsecond for each exit, most of it for two looks
//! at the clock. What bounds the price is the rate of exits, which KVM counts by itself, observed or not.

use crate::{
    kept::kept,
    model::{Level, Levels},
};

/// Time for which a VM must have been well below the bound before all its exits are timed again, ns: long
/// enough not to flap.
const CALM_NS: u64 = 30_000_000_000;

/// The shortest interval that can be set, ns. Readings may be closer to each other while vCPUs are being
/// found: a handful of exits within a millisecond is no rate.
const LEAST_NS: u64 = 100_000_000;

/// How much is observed of one VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmLevel {
    is_lowered: bool,
    /// For how long it has been well below the bound, ns.
    calm_ns: u64,
}

kept! { VmLevel { is_lowered, calm_ns } }

/// The vCPU of a VM that left its guest most often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busiest {
    /// How often in a second.
    pub(super) exits_per_second: u64,
    /// Length of the longest interval of its vCPUs, ns; 0 where none has one.
    pub(super) wall_ns: u64,
}

impl Busiest {
    /// Takes a vCPU in that left its guest so often in an interval.
    pub(super) fn take(&mut self, exits: u64, wall_ns: u64) {
        if wall_ns > 0 {
            let rate = exits as f64 * 1e9 / wall_ns.max(LEAST_NS) as f64;
            self.exits_per_second = self.exits_per_second.max(rate as u64);
            self.wall_ns = self.wall_ns.max(wall_ns);
        }
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Not every exit is timed from now on.
    Lowered,
    /// Every exit is timed again.
    Raised,
}

impl VmLevel {
    /// How much is observed now.
    #[must_use]
    pub fn level(self, levels: Levels) -> Level {
        if self.is_lowered { levels.most.min(Level::Sampled) } else { levels.most }
    }

    /// Whether less is observed than is allowed.
    #[must_use]
    pub const fn is_lowered(self) -> bool {
        self.is_lowered
    }

    /// Takes in an interval in which the busiest vCPU left its guest so often in a second.
    pub(super) fn observe(&mut self, busiest: Busiest, levels: Levels) -> Option<Change> {
        let Busiest { exits_per_second, wall_ns } = busiest;
        if levels.most < Level::Full {
            *self = Self::default();
            return None;
        }
        if !self.is_lowered {
            self.is_lowered = exits_per_second > levels.max_exits;
            self.calm_ns = 0;
            return self.is_lowered.then_some(Change::Lowered);
        }
        let is_calm = exits_per_second <= levels.max_exits / 2;
        self.calm_ns = if is_calm { self.calm_ns + wall_ns } else { 0 };
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

    fn rate(exits: u64) -> Busiest {
        let mut busiest = Busiest::default();
        busiest.take(exits, SECOND);
        busiest.take(exits / 2, SECOND);
        busiest.take(u64::MAX, 0);
        busiest
    }

    #[test]
    fn a_vm_that_exits_too_often_is_lowered_and_raised_when_it_is_calm_for_long() {
        let levels = Levels { most: Level::Full, max_exits: 1000 };
        let mut vm = VmLevel::default();
        assert_eq!(vm.observe(rate(1000), levels), None);
        assert_eq!(vm.level(levels), Level::Full);
        assert_eq!(vm.observe(rate(1001), levels), Some(Change::Lowered));
        assert_eq!(vm.level(levels), Level::Sampled);
        let basic = Levels { most: Level::Basic, ..levels };
        assert_eq!(vm.level(basic), Level::Basic, "no more than is allowed");
        for _ in 0..29 {
            assert_eq!(vm.observe(rate(500), levels), None);
        }
        assert_eq!(vm.observe(rate(501), levels), None, "not calm: it begins anew");
        for _ in 0..29 {
            assert_eq!(vm.observe(rate(0), levels), None);
        }
        assert_eq!(vm.observe(rate(0), levels), Some(Change::Raised));
        assert_eq!(vm.level(levels), Level::Full);
    }

    #[test]
    fn nothing_is_lowered_where_no_more_is_allowed() {
        for most in [Level::Basic, Level::Sampled] {
            let levels = Levels { most, max_exits: 1 };
            let mut vm = VmLevel::default();
            vm.observe(rate(9), Levels { most: Level::Full, ..levels });
            assert!(vm.is_lowered());
            assert_eq!(vm.observe(rate(9), levels), None);
            assert!(!vm.is_lowered());
            assert_eq!(vm.level(levels), most);
        }
    }
}
