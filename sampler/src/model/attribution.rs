//! Who took the time that a VM's vCPUs waited for a CPU.
//!
//! The scheduler program charges each wait to those who had the CPU. What it has charged by the time it is
//! read is not to the nanosecond what the vCPUs are said to have waited in the interval: the tables are read
//! a moment after the vCPUs, and a thread may have gone on meanwhile. A [`Ledger`] carries the difference
//! over, so that the parts of each interval come to the steal of that interval.

use std::{collections::BTreeMap, sync::Arc};

use super::label::Label;
use crate::kept::kept;

/// One label for each [`OccupantKind`], in the order of its discriminants.
pub const OCCUPANT_KINDS: &[Label] = &[
    Label { key: "vm", help: "A VM: another one, or the VM itself, whose vCPUs wait for each other." },
    Label { key: "helper", help: "The VM's own threads that run no vCPU." },
    Label { key: "host", help: "A process of the host." },
    Label { key: "kernel", help: "A kernel thread, or the kernel between a wake-up and the switch." },
    Label { key: "irq", help: "A kernel thread that handles interrupts." },
    Label { key: "quota", help: "A CPU quota that had run out." },
    Label { key: "forced-idle", help: "Nobody: core scheduling kept the CPU idle." },
    Label { key: "unattributed", help: "Who had the CPU was not seen." },
];

/// A kind of occupant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OccupantKind {
    /// A VM: another one, or the victim itself, whose vCPUs wait for each other.
    Vm,
    /// The victim's own threads that run no vCPU: emulator, I/O, vhost.
    Helper,
    /// A process of the host.
    Host,
    /// A kernel thread, or the kernel itself between a wake-up and the switch.
    Kernel,
    /// A kernel thread that handles interrupts.
    Irq,
    /// A CPU quota that had run out, of the thread's control group or of one above.
    Quota,
    /// Nobody: core scheduling kept the CPU idle, because of what its core's other CPUs ran.
    ForcedIdle,
    /// Nobody saw who.
    Unattributed,
}

impl OccupantKind {
    /// All kinds, in the order in which they are exported.
    pub const ALL: [Self; OCCUPANT_KINDS.len()] = [
        Self::Vm,
        Self::Helper,
        Self::Host,
        Self::Kernel,
        Self::Irq,
        Self::Quota,
        Self::ForcedIdle,
        Self::Unattributed,
    ];

    /// Name in every format.
    #[must_use]
    pub const fn key(self) -> &'static str {
        OCCUPANT_KINDS[self as usize].key
    }
}

/// Somebody who took time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occupant {
    /// What it is.
    pub kind: OccupantKind,
    /// Identity of a VM in exported series, where it is known.
    pub id: Option<Arc<str>>,
    /// A VM's name, the unit or command of a process, the name of a kernel thread; absent where it is not
    /// known.
    pub name: Option<Arc<str>>,
}

/// What somebody took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who.
    pub occupant: Occupant,
    /// How much, ns.
    pub ns: u64,
}

/// What was taken of a VM's time, cumulative since the first of its vCPUs was seen, by kind; VMs that take
/// much by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributed {
    /// By kind, ns; of VMs what is not in `vms`.
    pub kinds: [u64; OccupantKind::ALL.len()],
    /// The VMs that have series of their own, by their identity in exported series.
    pub vms: Vec<AttributedVm>,
}

kept! { Attributed { kinds in OCCUPANT_KINDS, vms } }

impl Attributed {
    /// By kind, ns. Not every host has core scheduling: that kind is absent until it was seen.
    pub fn iter(&self) -> impl Iterator<Item = (OccupantKind, u64)> {
        let all = OccupantKind::ALL.into_iter().zip(self.kinds);
        all.filter(|(kind, ns)| *kind != OccupantKind::ForcedIdle || *ns != 0)
    }
}

/// What one VM took of another's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributedVm {
    /// Identity of the occupant in exported series.
    pub id: Arc<str>,
    /// Since when it has a series of its own, Unix time in ns.
    pub since_unix_ns: u64,
    /// How much since then, ns.
    pub ns: u64,
}

kept! { AttributedVm { id, since_unix_ns, ns } }

/// Distributes the steal of a VM's intervals over those who were charged with it.
#[derive(Clone, Debug)]
pub struct Ledger<K> {
    /// What each was charged with and has not been shown yet, ns; below zero where more was shown.
    open: BTreeMap<K, i64>,
    /// What the last interval showed as nobody's, ns: charges that come late for it are not shown again.
    owed: u64,
}

impl<K> Default for Ledger<K> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), owed: 0 }
    }
}

impl<K: Ord + Copy> Ledger<K> {
    /// Charges somebody, or takes a charge back.
    pub fn charge(&mut self, who: K, ns: i64) {
        if ns != 0 {
            *self.open.entry(who).or_default() += ns;
        }
    }

    /// Those who were charged and not shown yet.
    pub fn charged(&self) -> impl Iterator<Item = K> + '_ {
        self.open.iter().filter(|(_, ns)| **ns > 0).map(|(who, _)| *who)
    }

    /// Takes an interval's steal out of what is charged. The parts come to `attributed`, with the rest for
    /// which nobody was charged. Where more is charged, each part is smaller in the same ratio, and the next
    /// interval has what is left.
    ///
    /// What was shown stays shown: a charge that is taken back from one and put on another changes nothing
    /// for an interval that is over.
    pub fn settle(&mut self, attributed: u64) -> (Vec<(K, u64)>, u64) {
        self.cancel_what_was_taken_back();
        let late = self.sum().saturating_sub(attributed).min(std::mem::take(&mut self.owed));
        self.drop_from_the_largest(late);
        let charged = self.sum();
        let mut parts = Vec::new();
        let mut left = attributed.min(charged);
        for (who, open) in &mut self.open {
            let ns = unsigned(*open);
            // Rounded up, so that nothing is left when all have given.
            let part = if charged <= attributed { ns } else { share(ns, attributed, charged).min(left) };
            if part > 0 {
                parts.push((*who, part));
                *open -= signed(part);
                left -= part;
            }
        }
        self.open.retain(|_, ns| *ns != 0);
        let shown: u64 = parts.iter().map(|(_, ns)| ns).sum();
        self.owed = attributed - shown;
        (parts, attributed - shown)
    }

    fn sum(&self) -> u64 {
        self.open.values().map(|ns| unsigned(*ns)).sum()
    }

    fn cancel_what_was_taken_back(&mut self) {
        let back: u64 = self.open.values().map(|ns| unsigned(ns.saturating_neg())).sum();
        self.open.retain(|_, ns| *ns > 0);
        self.drop_from_the_largest(back);
    }

    fn drop_from_the_largest(&mut self, mut ns: u64) {
        while ns > 0 {
            let Some((_, largest)) = self.open.iter_mut().max_by_key(|(_, open)| **open) else { return };
            let part = unsigned(*largest).min(ns);
            if part == 0 {
                return;
            }
            *largest -= signed(part);
            ns -= part;
        }
    }
}

fn share(ns: u64, of: u64, all: u64) -> u64 {
    let part = (u128::from(ns) * u128::from(of)).div_ceil(u128::from(all.max(1)));
    u64::try_from(part).unwrap_or(u64::MAX)
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

fn unsigned(ns: i64) -> u64 {
    u64::try_from(ns).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_nobody_was_charged_with_is_returned() {
        let mut ledger = Ledger::default();
        ledger.charge('a', 30);
        ledger.charge('b', 60);
        assert_eq!(ledger.settle(100), (vec![('a', 30), ('b', 60)], 10));
        assert_eq!(ledger.settle(0), (vec![], 0));
    }

    #[test]
    fn what_is_charged_early_is_shown_later() {
        let mut ledger = Ledger::default();
        ledger.charge('a', 30);
        ledger.charge('b', 60);
        assert_eq!(ledger.settle(45), (vec![('a', 15), ('b', 30)], 0));
        assert_eq!(ledger.settle(45), (vec![('a', 15), ('b', 30)], 0));
    }

    #[test]
    fn what_was_shown_stays_shown() {
        let mut ledger = Ledger::default();
        ledger.charge('a', 100);
        assert_eq!(ledger.settle(100), (vec![('a', 100)], 0));
        // It was somebody else, and a third one takes time meanwhile.
        ledger.charge('a', -100);
        ledger.charge('b', 100);
        ledger.charge('c', 10);
        assert_eq!(ledger.settle(10), (vec![('c', 10)], 0));
        ledger.charge('a', 50);
        assert_eq!(ledger.settle(50), (vec![('a', 50)], 0));
    }

    #[test]
    fn what_is_charged_late_is_not_shown_twice() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.settle(80), (vec![], 80));
        ledger.charge('a', 80);
        ledger.charge('b', 5);
        assert_eq!(ledger.settle(5), (vec![('b', 5)], 0));
        assert_eq!(ledger.settle(0), (vec![], 0));
    }

    proptest! {
        #[test]
        fn the_parts_come_to_the_steal_and_nothing_is_lost(
            steps in proptest::collection::vec(
                (proptest::collection::vec((0_u8..5, 0_i64..1_000_000), 0..6), 0_u64..2_000_000), 1..20)
        ) {
            let mut ledger = Ledger::default();
            let (mut charged, mut shown, mut nobodys) = (0_u64, 0_u64, 0_u64);
            for (charges, attributed) in steps {
                for (who, ns) in charges {
                    ledger.charge(who, ns);
                    charged += ns as u64;
                }
                let (parts, rest) = ledger.settle(attributed);
                let sum: u64 = parts.iter().map(|(_, ns)| ns).sum();
                prop_assert_eq!(sum + rest, attributed);
                shown += sum;
                prop_assert!(rest == 0 || ledger.open.is_empty());
                nobodys += rest;
            }
            let (parts, _) = ledger.settle(u64::MAX / 2);
            shown += parts.iter().map(|(_, ns)| ns).sum::<u64>();
            prop_assert!(shown <= charged && charged <= shown + nobodys, "{shown} of {charged}, {nobodys} nobody's");
        }
    }
}
