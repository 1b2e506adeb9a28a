//! What was taken of one VM's time, so far and in the last interval.

use std::sync::Arc;

use super::thieves::{Culprit, Shares};
use crate::model::{Interval, Ledger, State, Stolen, StolenByVm, Theft, Thief, ThiefKind, VmKey};

/// VMs that are told apart in exported series, for each victim.
const TOLD_APART: usize = 8;

/// Who a culprit is, for one victim.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// As it is shown.
    pub thief: Thief,
    /// Its key, where it is a VM that lives.
    pub vm: Option<VmKey>,
}

/// The account of one victim.
#[derive(Clone, Debug, Default)]
pub struct Robbed {
    ledger: Ledger<Culprit>,
    /// Steal of the vCPUs' intervals since it was shared out last, ns; absent where there was no interval.
    steal_ns: Option<u64>,
    /// Time throttled in the same intervals, ns.
    throttled_ns: u64,
    stolen: Stolen,
    /// Which VMs are told apart, as in `stolen`.
    told_apart: Vec<ToldApart>,
    /// What the last interval's thieves took; sums to the run delay.
    interval: Option<Vec<Theft>>,
}

#[derive(Clone, Copy, Debug)]
struct ToldApart {
    key: VmKey,
    /// What it took lately: an eighth is forgotten each interval.
    lately_ns: u64,
}

impl Robbed {
    /// Adds one vCPU's interval.
    pub fn add(&mut self, interval: &Interval) {
        let throttled_ns = interval.states.get(State::Throttled).unwrap_or(0);
        self.throttled_ns += throttled_ns;
        *self.steal_ns.get_or_insert(0) += interval.run_delay_ns - throttled_ns;
    }

    /// Charges what was added to one vCPU's thieves.
    pub fn charge(&mut self, before: &Shares, now: &Shares) {
        now.charge(before, &mut self.ledger);
    }

    /// Those whom the next sharing out will name.
    pub fn charged(&self) -> impl Iterator<Item = Culprit> + '_ {
        self.ledger.charged()
    }

    /// Shares out the run delay of the vCPUs' intervals since the last call. `lives` tells of a VM whether it still does.
    pub fn share_out(
        &mut self,
        mut name: impl FnMut(Culprit) -> Suspect,
        lives: impl Fn(VmKey) -> bool,
        now_unix_ns: u64,
    ) {
        self.interval = None;
        let Some(steal_ns) = self.steal_ns.take() else { return };
        let (mut parts, rest) = self.ledger.settle(steal_ns);
        if rest > 0 {
            parts.push((Culprit::Nobody, rest));
        }
        let mut suspects: Vec<_> = parts.into_iter().map(|(culprit, ns)| (name(culprit), ns)).collect();
        // Keys of VMs first: to compare them is cheaper than their names, and there may be hundreds for each victim.
        suspects.sort_unstable_by(|(a, _), (b, _)| a.vm.cmp(&b.vm).then_with(|| a.thief.cmp(&b.thief)));
        suspects.dedup_by(|(later, ns), (earlier, sum)| {
            let same = later.vm == earlier.vm && later.thief == earlier.thief;
            *sum += if same { *ns } else { 0 };
            same
        });
        // Measured, and not shared out.
        let throttled_ns = std::mem::take(&mut self.throttled_ns);
        if throttled_ns > 0 {
            suspects.push((quota(), throttled_ns));
        }
        suspects.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
        self.retire(&suspects, lives);
        for (suspect, ns) in &suspects {
            self.accumulate(suspect, *ns);
        }
        self.tell_apart(&suspects, now_unix_ns);
        let thefts = suspects.into_iter().map(|(suspect, ns)| Theft { thief: suspect.thief, ns });
        self.interval = Some(thefts.collect());
    }

    /// What was taken since the VM was first seen.
    #[must_use]
    pub const fn stolen(&self) -> &Stolen {
        &self.stolen
    }

    /// Who took what in the last interval, the one that took most first.
    #[must_use]
    pub fn interval(&self) -> Option<&[Theft]> {
        self.interval.as_deref()
    }

    /// Lets VMs that ended go.
    fn retire(&mut self, suspects: &[(Suspect, u64)], lives: impl Fn(VmKey) -> bool) {
        for at in (0..self.told_apart.len()).rev() {
            let ToldApart { key, lately_ns } = &mut self.told_apart[at];
            let took = suspects.iter().find(|(suspect, _)| suspect.vm == Some(*key)).map_or(0, |(_, ns)| *ns);
            *lately_ns = *lately_ns - *lately_ns / 8 + took;
            if !lives(*key) {
                self.forget(at);
            }
        }
    }

    /// Tells further VMs apart from now on: as long as there is room, and in the place of one that has taken less in a long
    /// while than the other in this interval. What a VM took before is among the rest, and stays there.
    fn tell_apart(&mut self, suspects: &[(Suspect, u64)], now_unix_ns: u64) {
        for (suspect, ns) in suspects {
            let (Some(key), Some(id)) = (suspect.vm, suspect.thief.id.clone()) else { continue };
            if self.told_apart.iter().any(|vm| vm.key == key) {
                continue;
            }
            if self.told_apart.len() == TOLD_APART {
                let least = (0..TOLD_APART).min_by_key(|at| self.told_apart[*at].lately_ns);
                let Some(least) = least.filter(|at| self.told_apart[*at].lately_ns < *ns) else { return };
                self.forget(least);
            }
            let at = self.stolen.vms.partition_point(|vm| vm.id < id);
            self.told_apart.insert(at, ToldApart { key, lately_ns: *ns });
            self.stolen.vms.insert(at, StolenByVm { id, since_unix_ns: now_unix_ns, ns: 0 });
        }
    }

    fn forget(&mut self, at: usize) {
        self.told_apart.remove(at);
        self.stolen.vms.remove(at);
    }

    fn accumulate(&mut self, suspect: &Suspect, ns: u64) {
        let told_apart = suspect.vm.and_then(|key| self.told_apart.iter().position(|vm| vm.key == key));
        match told_apart {
            Some(at) => self.stolen.vms[at].ns += ns,
            None => self.stolen.kinds[suspect.thief.kind as usize] += ns,
        }
    }
}

/// How those are shown whom nobody can name.
#[must_use]
pub(super) fn unattributed(name: Option<&str>) -> Suspect {
    let name = name.map(Arc::from);
    Suspect { thief: Thief { kind: ThiefKind::Unattributed, id: None, name }, vm: None }
}

fn quota() -> Suspect {
    Suspect { thief: Thief { kind: ThiefKind::Quota, id: None, name: None }, vm: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pid: u32) -> VmKey {
        VmKey { pid, start_boottime_ns: 0, nth: 0 }
    }

    fn suspect(culprit: Culprit) -> Suspect {
        match culprit {
            Culprit::Process(who) => {
                let id = Some(format!("vm-{who:03}").into());
                Suspect { thief: Thief { kind: ThiefKind::Vm, id, name: None }, vm: Some(key(who)) }
            }
            _ => unattributed(None),
        }
    }

    /// One interval in which each of these took so much.
    fn interval(robbed: &mut Robbed, took: &[(u32, u64)], steal_ns: u64) {
        for (who, ns) in took {
            robbed.ledger.charge(Culprit::Process(*who), i64::try_from(*ns).unwrap());
        }
        robbed.steal_ns = Some(steal_ns);
        robbed.share_out(suspect, |key| key.pid != 99, 5);
    }

    #[test]
    fn the_parts_of_an_interval_come_to_its_steal() {
        let mut robbed = Robbed::default();
        interval(&mut robbed, &[(1, 30), (2, 50)], 100);
        let thefts: Vec<_> =
            robbed.interval().unwrap().iter().map(|theft| (theft.thief.kind.key(), theft.ns)).collect();
        assert_eq!(thefts, [("vm", 50), ("vm", 30), ("unattributed", 20)]);
        assert_eq!(robbed.stolen().kinds.iter().sum::<u64>(), 100, "told apart from then on");
        interval(&mut robbed, &[(1, 30), (2, 50)], 100);
        let stolen = robbed.stolen();
        assert_eq!(stolen.kinds.iter().sum::<u64>(), 120);
        let vms: Vec<_> = stolen.vms.iter().map(|vm| (&*vm.id, vm.ns)).collect();
        assert_eq!(vms, [("vm-001", 30), ("vm-002", 50)]);
        robbed.share_out(suspect, |_| true, 6);
        assert_eq!(robbed.interval(), None, "no vCPU was read");
    }

    #[test]
    fn vms_are_told_apart_as_long_as_there_is_room() {
        let mut robbed = Robbed::default();
        let many: Vec<_> = (1..=10).map(|who| (who, 1_000 * u64::from(who))).collect();
        interval(&mut robbed, &many, 55_000);
        let apart =
            |robbed: &Robbed| robbed.stolen.vms.iter().map(|vm| vm.id.to_string()).collect::<Vec<_>>();
        assert_eq!(apart(&robbed).first().map(String::as_str), Some("vm-003"), "the largest eight");
        assert_eq!(robbed.stolen.kinds[ThiefKind::Vm as usize], 55_000);
        interval(&mut robbed, &[(1, 2_000)], 2_000);
        assert_eq!(apart(&robbed).len(), TOLD_APART);
        assert!(!apart(&robbed).contains(&"vm-001".to_owned()), "less than each took lately");
        interval(&mut robbed, &[(1, 9_000)], 9_000);
        assert!(
            apart(&robbed).contains(&"vm-001".to_owned()) && !apart(&robbed).contains(&"vm-003".to_owned())
        );
        assert_eq!(robbed.stolen.vms[0], StolenByVm { id: "vm-001".into(), since_unix_ns: 5, ns: 0 });
    }

    #[test]
    fn a_vm_that_ended_makes_room() {
        let mut robbed = Robbed::default();
        interval(&mut robbed, &[(99, 10)], 10);
        assert_eq!(robbed.stolen.vms.len(), 1, "what it took at last is told");
        interval(&mut robbed, &[(1, 10)], 10);
        assert_eq!(robbed.stolen.vms.iter().map(|vm| &*vm.id).collect::<Vec<_>>(), ["vm-001"]);
    }
}
