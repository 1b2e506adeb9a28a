//! That all of the model that outlives a process is as it was.

mod dice;
mod fuzz;
mod restart;

use std::{array, sync::Arc};

use super::{
    Account, Attached, AttachedKind, Attributed, AttributedVm, BLOCKED, BlockedTimes, COUNTERS, CoStop,
    ControlGroup, Device, DiskCounts, Distributions, Ended, ExitTotals, Fact, Facts, HelperKind, HelperSum,
    HelperTimes, Helpers, Histogram, HostParts, HostState, HugePages, InterfaceCounts, KvmCounts, Memory,
    NumaNode, Origin, Pressure, RESOURCES, Reading, Resource, State, StateTimes, UNSEEN, Unseen, VcpuId,
    VmKey,
};
use crate::kept::{
    Keep,
    checks::{bytes, is_as_it_was, value},
};
use dice::Dice;

/// Values that are made at random.
const ROUNDS: u64 = 50;

fn each(check: impl Fn(&mut Dice)) {
    (0..ROUNDS).for_each(|seed| check(&mut Dice::new(seed)));
}

fn pressure(dice: &mut Dice) -> Pressure {
    let mut pressure = Pressure::default();
    for place in 0..RESOURCES.len() {
        pressure.set(Resource::of(place).unwrap(), array::from_fn(|_| dice.perhaps()));
    }
    pressure
}

fn helpers(dice: &mut Dice) -> Helpers {
    let mut helpers = Helpers::default();
    for kind in HelperKind::ALL {
        if dice.coin() {
            let total = HelperTimes { run_ns: dice.number(), run_delay_ns: dice.number() };
            helpers.set(kind, HelperSum { threads: dice.small(), total });
        }
    }
    helpers
}

fn disk(dice: &mut Dice) -> DiskCounts {
    DiskCounts {
        operations: dice.numbers(),
        bytes: dice.numbers(),
        errors: dice.numbers(),
        durations: array::from_fn(|_| dice.histogram()),
        queued: array::from_fn(|_| dice.histogram()),
        served: array::from_fn(|_| dice.histogram()),
    }
}

fn host_state(dice: &mut Dice) -> HostState {
    HostState {
        at_unix_ns: dice.number(),
        booted_unix_ns: dice.number(),
        pressure: pressure(dice),
        cpu_ns: array::from_fn(|_| dice.perhaps()),
        memory: dice.coin().then(|| dice.numbers()),
        available: dice.perhaps(),
        huge_pages: array::from_fn(|_| {
            dice.coin().then(|| HugePages { states: dice.numbers(), reserved: dice.number() })
        }),
        threads: array::from_fn(|_| dice.perhaps()),
        is_new: dice.coin(),
    }
}

fn facts(dice: &mut Dice) -> Facts {
    Facts::default().with(Fact::Name, dice.text()).with(Fact::Uuid, dice.text())
}

fn states(dice: &mut Dice) -> StateTimes {
    let mut times = StateTimes::default();
    for state in State::ALL {
        if dice.coin() {
            times.set(state, dice.number() >> 8);
        }
    }
    times
}

fn ended(dice: &mut Dice) -> Ended {
    Ended {
        vm_id: dice.text().into(),
        vm_facts: Arc::new(facts(dice)),
        id: VcpuId::new(dice.numbers()),
        tid: dice.coin().then(|| dice.small()),
        index: dice.small(),
        unused: dice.coin(),
        start_unix_ns: dice.number(),
        followed_unix_ns: dice.number(),
        counters: dice.numbers(),
        totals: dice.totals(),
        states: states(dice),
        vm_gone: dice.coin(),
    }
}

fn attributed(dice: &mut Dice) -> Attributed {
    let vm = |dice: &mut Dice| AttributedVm {
        id: dice.text().into(),
        since_unix_ns: dice.number(),
        ns: dice.number(),
    };
    Attributed { kinds: dice.numbers(), vms: (0..dice.small() % 9).map(|_| vm(dice)).collect() }
}

fn attached(dice: &mut Dice) -> Attached {
    Attached {
        kind: [AttachedKind::Disk, AttachedKind::Network, AttachedKind::Passthrough][dice.below(3)],
        path: dice.text(),
        seen_at: (0..dice.below(3)).map(|_| dice.text()).collect(),
        unseen: Unseen::of(dice.below(UNSEEN.len() + 1)),
    }
}

#[test]
fn counts_of_vcpus_are_as_they_were() {
    each(|dice| {
        is_as_it_was(&dice.histogram());
        is_as_it_was(&Distributions::new(array::from_fn(|_| dice.histogram())));
        let kept = array::from_fn(|_| dice.coin());
        is_as_it_was(&KvmCounts::new(dice.numbers(), &kept));
        is_as_it_was(&BlockedTimes::of(dice.number() >> 8, &array::from_fn(|_| dice.number() >> 8)));
        let latency = dice.histogram();
        let [count, vmm_count, vmm_ns] = dice.numbers();
        is_as_it_was(&ExitTotals { count, vmm_count, vmm_ns, latency });
        is_as_it_was(&dice.totals());
        is_as_it_was(&ended(dice));
    });
}

#[test]
fn counts_of_vms_and_of_the_host_are_as_they_were() {
    each(|dice| {
        is_as_it_was(&attributed(dice));
        is_as_it_was(&helpers(dice));
        is_as_it_was(&disk(dice));
        is_as_it_was(&Device { major: dice.small(), minor: dice.small() });
        let [bytes, packets, dropped, errors] = array::from_fn(|_| dice.numbers());
        is_as_it_was(&InterfaceCounts { bytes, packets, dropped, errors });
        is_as_it_was(&CoStop { ns: dice.number(), interval_ns: dice.perhaps(), tick_ns: dice.number() });
        is_as_it_was(&Memory {
            at_unix_ns: dice.number(),
            resident: array::from_fn(|_| dice.perhaps()),
            swapped: dice.perhaps(),
            is_new: dice.coin(),
        });
        is_as_it_was(&ControlGroup {
            at_unix_ns: dice.number(),
            since_unix_ns: dice.number(),
            pressure: pressure(dice),
            events: array::from_fn(|_| dice.perhaps()),
            is_new: dice.coin(),
        });
        let (node, [bytes, at_unix_ns]) = (dice.small(), dice.numbers());
        is_as_it_was(&NumaNode { node, bytes, at_unix_ns, is_new: dice.coin() });
        is_as_it_was(&host_state(dice));
        is_as_it_was(&HostParts { pressure: dice.coin(), system: dice.coin() });
    });
}

#[test]
fn who_a_guest_is_and_what_it_has_are_as_they_were() {
    each(|dice| {
        is_as_it_was(&VmKey::new(dice.numbers()));
        is_as_it_was(&VcpuId::new(dice.numbers()));
        is_as_it_was(&facts(dice));
        is_as_it_was(&attached(dice));
        let (pid, domid) = (dice.small(), dice.small());
        for origin in [Origin::Unknown, Origin::Process { pid }, Origin::Domain { domid }] {
            is_as_it_was(&origin);
        }
    });
}

#[test]
fn labels_are_put_on_anew() {
    let facts = Facts::default().with(Fact::Name, "web");
    let labelled = facts.clone().with_labels(vec![("team", "storage".into())]);
    assert_eq!(value(&bytes(&labelled)), Some(facts));
}

#[test]
fn of_a_histogram_the_buckets_that_hold_something_are_written() {
    let mut histogram = Histogram::default();
    assert_eq!(bytes(&histogram).len(), 8 + 4 + 1);
    histogram.counts[3] = 7;
    histogram.counts[9] = u64::from(u32::MAX);
    assert_eq!(bytes(&histogram).len(), 8 + 4 + 1 + 2 * 4);
    histogram.counts[9] += 1;
    assert_eq!(bytes(&histogram).len(), 8 + 4 + 1 + 2 * 8);
    is_as_it_was(&histogram);
}

#[test]
fn an_account_takes_less_than_half_a_kilobyte() {
    let account = Account::follow(Reading { throttled_ns: Some(0), ..Reading::default() });
    let length = bytes(&account).len();
    assert!((440..512).contains(&length), "{length} bytes for {} and {}", COUNTERS.len(), BLOCKED.len());
    assert_ne!(Account::SHAPE, Reading::SHAPE);
}
