//! What was taken of one VM's time, so far and in the last interval.

use std::sync::Arc;

use super::super::identity::KvmGuest;
use super::table::{RawOccupant, ThreadShares};
use crate::{
    kept::{Keep, Reader, Shape, Writer, kept},
    model::{Attributed, AttributedVm, Interval, Ledger, Occupant, OccupantKind, Share, State},
};

/// VMs that have exported series of their own, for each victim.
const MAX_OWN_SERIES: usize = 8;

/// Who a raw is, for one victim.
#[derive(Clone, Debug)]
pub struct Named {
    /// As it is shown.
    pub occupant: Occupant,
    /// Its key, where it is a VM that lives.
    pub vm: Option<KvmGuest>,
}

/// The account of one victim.
#[derive(Clone, Debug, Default)]
pub struct VmAccount {
    ledger: Ledger<RawOccupant>,
    /// Steal of the vCPUs' intervals since it was shared out last, ns; absent where there was no interval.
    steal_ns: Option<u64>,
    /// Time throttled in the same intervals, ns.
    throttled_ns: u64,
    attributed: Attributed,
    /// Which VMs have series of their own, as in `attributed`.
    own_series: Vec<OwnSeries>,
    /// What each occupant took in the last interval; sums to the run delay.
    interval: Option<Arc<[Share]>>,
}

#[derive(Clone, Copy, Debug)]
struct OwnSeries {
    key: KvmGuest,
    /// What it took lately: an eighth is forgotten each interval.
    lately_ns: u64,
}

kept! { OwnSeries { key, lately_ns } }

/// What was charged and not shown yet is nobody's: tables begin anew as well. Steal that was not shared out
/// there is none, as that is done before anything is kept.
impl Keep for VmAccount {
    const SHAPE: u64 = {
        let shape = Shape::of("attribution").number(Attributed::SHAPE);
        shape.number(Vec::<OwnSeries>::SHAPE).end()
    };

    fn put(&self, to: &mut Writer<'_>) {
        let Self { ledger: _, steal_ns: _, throttled_ns: _, attributed, own_series, interval: _ } = self;
        attributed.put(to);
        own_series.put(to);
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let (attributed, own_series) = <(Attributed, Vec<OwnSeries>)>::take(from)?;
        let are_the_same = attributed.vms.len() == own_series.len();
        are_the_same.then(|| Self { attributed, own_series, ..Self::default() })
    }
}

impl VmAccount {
    /// Adds one vCPU's interval.
    pub fn add(&mut self, interval: &Interval) {
        let throttled_ns = interval.states.get(State::Throttled).unwrap_or(0);
        self.throttled_ns += throttled_ns;
        *self.steal_ns.get_or_insert(0) += interval.run_delay_ns - throttled_ns;
    }

    /// Charges what was added to one vCPU's table.
    pub fn charge(&mut self, before: &ThreadShares, now: &ThreadShares) {
        now.charge(before, &mut self.ledger);
    }

    /// Those whom the next sharing out will name.
    pub fn charged(&self) -> impl Iterator<Item = RawOccupant> + '_ {
        self.ledger.charged()
    }

    /// Shares out the run delay of the vCPUs' intervals since the last call. `lives` says whether a VM still
    /// lives.
    pub fn share_out(
        &mut self,
        mut name: impl FnMut(RawOccupant) -> Named,
        lives: impl Fn(KvmGuest) -> bool,
        now_unix_ns: u64,
    ) {
        self.interval = None;
        let Some(steal_ns) = self.steal_ns.take() else { return };
        let (mut parts, rest) = self.ledger.settle(steal_ns);
        if rest > 0 {
            parts.push((RawOccupant::Nobody, rest));
        }
        let mut named: Vec<_> = parts.into_iter().map(|(raw, ns)| (name(raw), ns)).collect();
        // Keys of VMs first: to compare them is cheaper than their names, and there may be hundreds for each
        // victim.
        named.sort_unstable_by(|(a, _), (b, _)| a.vm.cmp(&b.vm).then_with(|| a.occupant.cmp(&b.occupant)));
        named.dedup_by(|(later, ns), (earlier, sum)| {
            let same = later.vm == earlier.vm && later.occupant == earlier.occupant;
            *sum += if same { *ns } else { 0 };
            same
        });
        // Measured, and not shared out.
        let throttled_ns = std::mem::take(&mut self.throttled_ns);
        if throttled_ns > 0 {
            named.push((quota(), throttled_ns));
        }
        named.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
        self.retire(&named, lives);
        for (one, ns) in &named {
            self.accumulate(one, *ns);
        }
        self.give_own_series(&named, now_unix_ns);
        let shares = named.into_iter().map(|(one, ns)| Share { occupant: one.occupant, ns });
        self.interval = Some(shares.collect());
    }

    /// What was taken since the VM was first seen.
    #[must_use]
    pub const fn attributed(&self) -> &Attributed {
        &self.attributed
    }

    /// Who took what in the last interval, the one that took most first.
    #[must_use]
    pub const fn interval(&self) -> Option<&Arc<[Share]>> {
        self.interval.as_ref()
    }

    /// Lets VMs that ended go.
    fn retire(&mut self, named: &[(Named, u64)], lives: impl Fn(KvmGuest) -> bool) {
        for at in (0..self.own_series.len()).rev() {
            let OwnSeries { key, lately_ns } = &mut self.own_series[at];
            let took = named.iter().find(|(one, _)| one.vm == Some(*key)).map_or(0, |(_, ns)| *ns);
            *lately_ns = *lately_ns - *lately_ns / 8 + took;
            if !lives(*key) {
                self.forget(at);
            }
        }
    }

    /// Gives further VMs series of their own from now on: as long as there is room, and in the place of one
    /// that has taken less in a long while than the other in this interval. What a VM took before is among
    /// the rest, and stays there.
    fn give_own_series(&mut self, named: &[(Named, u64)], now_unix_ns: u64) {
        for (one, ns) in named {
            let (Some(key), Some(id)) = (one.vm, one.occupant.id.clone()) else { continue };
            if self.own_series.iter().any(|vm| vm.key == key) {
                continue;
            }
            if self.own_series.len() == MAX_OWN_SERIES {
                let least = (0..MAX_OWN_SERIES).min_by_key(|at| self.own_series[*at].lately_ns);
                let Some(least) = least.filter(|at| self.own_series[*at].lately_ns < *ns) else { return };
                self.forget(least);
            }
            let at = self.attributed.vms.partition_point(|vm| vm.id < id);
            self.own_series.insert(at, OwnSeries { key, lately_ns: *ns });
            self.attributed.vms.insert(at, AttributedVm { id, since_unix_ns: now_unix_ns, ns: 0 });
        }
    }

    fn forget(&mut self, at: usize) {
        self.own_series.remove(at);
        self.attributed.vms.remove(at);
    }

    fn accumulate(&mut self, one: &Named, ns: u64) {
        let own_series = one.vm.and_then(|key| self.own_series.iter().position(|vm| vm.key == key));
        match own_series {
            Some(at) => self.attributed.vms[at].ns += ns,
            None => self.attributed.kinds[one.occupant.kind as usize] += ns,
        }
    }
}

/// How those are shown whom nobody can name.
#[must_use]
pub(in super::super) fn unattributed(name: Option<&str>) -> Named {
    let name = name.map(Arc::from);
    Named { occupant: Occupant { kind: OccupantKind::Unattributed, id: None, name }, vm: None }
}

fn quota() -> Named {
    Named { occupant: Occupant { kind: OccupantKind::Quota, id: None, name: None }, vm: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pid: u32) -> KvmGuest {
        KvmGuest { pid, start_boottime_ns: 0, nth: 0 }
    }

    fn one(raw: RawOccupant) -> Named {
        match raw {
            RawOccupant::Process(who) => {
                let id = Some(format!("vm-{who:03}").into());
                Named { occupant: Occupant { kind: OccupantKind::Vm, id, name: None }, vm: Some(key(who)) }
            }
            _ => unattributed(None),
        }
    }

    /// One interval in which each of these took so much.
    fn interval(account: &mut VmAccount, took: &[(u32, u64)], steal_ns: u64) {
        for (who, ns) in took {
            account.ledger.charge(RawOccupant::Process(*who), i64::try_from(*ns).unwrap());
        }
        account.steal_ns = Some(steal_ns);
        account.share_out(one, |key| key.pid != 99, 5);
    }

    #[test]
    fn the_parts_of_an_interval_come_to_its_steal() {
        let mut account = VmAccount::default();
        interval(&mut account, &[(1, 30), (2, 50)], 100);
        let shares: Vec<_> =
            account.interval().unwrap().iter().map(|share| (share.occupant.kind.key(), share.ns)).collect();
        assert_eq!(shares, [("vm", 50), ("vm", 30), ("unattributed", 20)]);
        assert_eq!(account.attributed().kinds.iter().sum::<u64>(), 100, "series of their own from then on");
        interval(&mut account, &[(1, 30), (2, 50)], 100);
        let attributed = account.attributed();
        assert_eq!(attributed.kinds.iter().sum::<u64>(), 120);
        let vms: Vec<_> = attributed.vms.iter().map(|vm| (&*vm.id, vm.ns)).collect();
        assert_eq!(vms, [("vm-001", 30), ("vm-002", 50)]);
        account.share_out(one, |_| true, 6);
        assert_eq!(account.interval(), None, "no vCPU was read");
    }

    #[test]
    fn vms_have_own_series_as_long_as_there_is_room() {
        let mut account = VmAccount::default();
        let many: Vec<_> = (1..=10).map(|who| (who, 1_000 * u64::from(who))).collect();
        interval(&mut account, &many, 55_000);
        let apart = |account: &VmAccount| {
            account.attributed.vms.iter().map(|vm| vm.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(apart(&account).first().map(String::as_str), Some("vm-003"), "the largest eight");
        assert_eq!(account.attributed.kinds[OccupantKind::Vm as usize], 55_000);
        interval(&mut account, &[(1, 2_000)], 2_000);
        assert_eq!(apart(&account).len(), MAX_OWN_SERIES);
        assert!(!apart(&account).contains(&"vm-001".to_owned()), "less than each took lately");
        interval(&mut account, &[(1, 9_000)], 9_000);
        assert!(
            apart(&account).contains(&"vm-001".to_owned()) && !apart(&account).contains(&"vm-003".to_owned())
        );
        assert_eq!(account.attributed.vms[0], AttributedVm { id: "vm-001".into(), since_unix_ns: 5, ns: 0 });
    }

    #[test]
    fn a_vm_that_ended_makes_room() {
        let mut account = VmAccount::default();
        interval(&mut account, &[(99, 10)], 10);
        assert_eq!(account.attributed.vms.len(), 1, "what it took at last is shown");
        interval(&mut account, &[(1, 10)], 10);
        assert_eq!(account.attributed.vms.iter().map(|vm| &*vm.id).collect::<Vec<_>>(), ["vm-001"]);
    }
}
