//! How much is told of each VM: all that KVM's hooks give, unless the VM leaves its guest so often that their price would be
//! felt. They cost a fraction of a microsecond for each exit, so what bounds the price is the rate of exits, which KVM counts by
//! itself, told or not.

use std::collections::BTreeMap;

use sampler_ebpf::abi::KvmStat;

use super::identity::KvmGuest;
use super::registry::Registry;
use crate::model::{Level, SamplerStats};

/// Time for which a VM must have been well below the bound before more is told of it again, ns: long enough not to flap.
const CALM_NS: u64 = 30_000_000_000;

/// What an operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The most that is told of any VM.
    pub most: Level,
    /// Exits of one vCPU in a second, averaged over an interval, beyond which less is told of its VM.
    pub max_exits: u64,
}

impl Levels {
    /// Where nothing else is asked for: at some 0.2 microseconds for each exit, two percent of a CPU at most.
    pub const DEFAULT: Self = Self { most: Level::Full, max_exits: 100_000 };
}

impl Default for Levels {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How much is told of one VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmLevel {
    is_lowered: bool,
    /// For how long it has been well below the bound, ns.
    calm_ns: u64,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
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
    pub fn observe(&mut self, exits_per_s: u64, interval_ns: u64, levels: Levels) -> Option<Change> {
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

/// Tells less of VMs that left their guests too often in the interval, and all again of those that are calm.
pub(super) fn adjust(registry: &mut Registry, levels: Levels, stats: &mut SamplerStats) {
    for (key, (exits_per_second, wall_ns)) in rates(registry) {
        let Some(vm) = registry.vm_mut(key) else { continue };
        let Some(change) = vm.level.observe(exits_per_second, wall_ns, levels) else { continue };
        let name = vm.facts.as_ref().and_then(|facts| facts.name.as_deref()).unwrap_or("");
        let (pid, bound) = (key.pid, levels.max_exits);
        if change == Change::Lowered {
            stats.levels_lowered += 1;
            tracing::warn!(
                pid,
                name,
                exits_per_second,
                bound,
                "a vCPU leaves its guest too often to tell why and to tell its CPU time apart: the guest goes on at level basic"
            );
        } else {
            tracing::info!(pid, name, exits_per_second, bound, "the guest is at level full again");
        }
    }
    stats.vms_lowered = registry.vms().filter(|(_, vm)| vm.level.is_lowered()).count() as u64;
}

/// The shortest interval that can be set, ns. Readings may be closer to each other while vCPUs are being found: a handful of exits
/// within a millisecond is no rate.
const LEAST_NS: u64 = 100_000_000;

/// Of each VM how often its busiest vCPU left the guest in a second of the interval, and the interval's length, ns.
fn rates(registry: &Registry) -> BTreeMap<KvmGuest, (u64, u64)> {
    let mut rates: BTreeMap<KvmGuest, (u64, u64)> = BTreeMap::new();
    for thread in registry.threads() {
        let Some(interval) = thread.interval.filter(|interval| interval.wall_ns > 0) else { continue };
        // KVM's count has what it emulates as well, but not each exit that it handles without leaving its innermost loop.
        let by_kvm = interval.kvm.and_then(|kvm| kvm.get(KvmStat::Exits)).unwrap_or(0);
        let told = thread.exits_added.as_deref();
        let by_hooks = told.map_or(0, |exits| exits.iter().map(|(_, exits)| exits.count).sum());
        let exits = by_kvm.max(by_hooks);
        let rate = exits as f64 * 1e9 / interval.wall_ns.max(LEAST_NS) as f64;
        let (most, wall_ns) = rates.entry(thread.vm).or_default();
        (*most, *wall_ns) = ((*most).max(rate as u64), (*wall_ns).max(interval.wall_ns));
    }
    rates
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
