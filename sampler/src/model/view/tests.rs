use std::sync::Arc;

use super::*;
use crate::model::{
    COUNTERS, DISTRIBUTIONS, Distributions, Interval, KVM_STATS, KvmCounts, Share, StateTimes, bucket_of,
};

const SECOND: u64 = 1_000_000_000;

/// A vCPU that in two seconds was in these states for so many ms, and was preempted so often.
fn vcpu(states: &[(State, u64)], preemptions: u64) -> Vcpu {
    let mut times = StateTimes::default();
    states.iter().for_each(|&(state, ms)| times.set(state, ms * 1_000_000));
    let mut counters = [0; COUNTERS.len()];
    counters[Counter::InvoluntarySwitches as usize] = preemptions;
    let mut waits = Histogram::default();
    waits.counts[bucket_of(1000)] = preemptions;
    Vcpu {
        interval: Some(Interval { wall_ns: 2 * SECOND, counters, states: times, ..Interval::default() }),
        distributions: Arc::new(Distributions::new([waits; DISTRIBUTIONS.len()])),
        ..Vcpu::default()
    }
}

fn with_exits(mut vcpu: Vcpu, exits: u64) -> Vcpu {
    let mut counts = [0; KVM_STATS.len()];
    counts[KvmStat::Exits as usize] = exits;
    if let Some(interval) = &mut vcpu.interval {
        interval.kvm = Some(KvmCounts::new(counts, &[true; KVM_STATS.len()]));
    }
    vcpu
}

fn vm(id: &str, vcpus: Vec<Vcpu>) -> Vm {
    Vm { id: id.into(), vcpus, ..Vm::default() }
}

fn host(vms: Vec<Vm>) -> Snapshot {
    Snapshot { vms, ..Snapshot::default() }
}

#[test]
fn percents_are_of_the_wall_time_and_counts_of_a_second() {
    let one = with_exits(vcpu(&[(State::Run, 500), (State::Steal, 1500)], 8), 100);
    let rates = Rates::of_vcpu(&one).unwrap();
    assert_eq!((rates.percent(State::Run), rates.percent(State::Steal)), (Some(25.0), Some(75.0)));
    assert_eq!((rates.percent(State::Halted), rates.preemptions, rates.exits), (None, 4.0, Some(50.0)));
    assert_eq!((distribution::count(&rates.waits), rates.denied()), (8, 75.0));
}

#[test]
fn a_first_reading_has_no_rates() {
    let first = Vcpu { interval: None, ..vcpu(&[(State::Run, 1)], 1) };
    let empty = Vcpu { interval: Some(Interval::default()), ..Vcpu::default() };
    assert!(Rates::of_vcpu(&first).is_none() && Rates::of_vcpu(&empty).is_none());
    let guest = vm("a", vec![first, empty]);
    assert!(Rates::of_vm(&guest).is_none() && Rates::of_host(&host(vec![guest])).is_none());
}

#[test]
fn of_several_vcpus_percents_are_averaged_and_counts_added() {
    let vcpus = vec![
        with_exits(vcpu(&[(State::Run, 2000), (State::Steal, 0)], 2), 10),
        vcpu(&[(State::Run, 1000), (State::Steal, 1000)], 4),
    ];
    let rates = Rates::of_vm(&vm("a", vcpus)).unwrap();
    assert_eq!((rates.percent(State::Run), rates.percent(State::Steal)), (Some(75.0), Some(25.0)));
    assert_eq!((rates.preemptions, rates.exits, distribution::count(&rates.waits)), (3.0, Some(5.0), 6));
}

/// CPU time that one vCPU has broken down and the other has not: the parts still come to the whole. Sleep
/// that only one knows is averaged over that one.
#[test]
fn what_a_vcpu_does_not_know_of_its_cpu_time_is_in_another_state() {
    let vcpus = vec![vcpu(&[(State::Guest, 2000)], 0), vcpu(&[(State::Run, 1000), (State::Halted, 1000)], 0)];
    let rates = Rates::of_vm(&vm("a", vcpus)).unwrap();
    let of = |state| rates.percent(state);
    assert_eq!((of(State::Guest), of(State::Run), of(State::Halted)), (Some(50.0), Some(25.0), Some(50.0)));
}

#[test]
fn co_stop_is_of_the_longest_interval_and_never_more_than_all_of_it() {
    let mut guest = vm("a", vec![vcpu(&[], 0)]);
    for (ns, percent) in [(None, None), (Some(SECOND), Some(50.0)), (Some(2 * SECOND + 1), Some(100.0))] {
        guest.co_stop.interval_ns = ns;
        assert_eq!(Rates::of_vm(&guest).unwrap().co_stop, percent);
    }
}

#[test]
fn the_host_has_the_vcpus_of_all_guests() {
    let quiet = vm("a", vec![vcpu(&[(State::Steal, 0)], 0)]);
    let starved = vm("b", vec![vcpu(&[(State::Steal, 2000)], 2), vcpu(&[(State::Steal, 1000)], 4)]);
    let rates = Rates::of_host(&host(vec![quiet, starved])).unwrap();
    assert_eq!((rates.percent(State::Steal), rates.preemptions, rates.co_stop), (Some(50.0), 3.0, None));
}

#[test]
fn the_most_denied_come_first_and_equals_stay_in_order() {
    let denied =
        |id, steal, throttled| vm(id, vec![vcpu(&[(State::Steal, steal), (State::Throttled, throttled)], 0)]);
    let unrated = vm("unrated", vec![Vcpu::default()]);
    let host = host(vec![unrated, denied("a", 10, 0), denied("b", 10, 10), denied("c", 0, 10)]);
    let order: Vec<_> = by_denied(&host).iter().map(|rated| &*rated.vm.id).collect();
    assert_eq!(order, ["b", "a", "c", "unrated"]);
}

#[test]
fn the_worst_occupant_has_its_share_of_all_that_was_taken() {
    let mut guest = vm("me", Vec::new());
    assert!(WorstOccupant::of(&guest).is_none());
    guest.shares = Some([].into());
    assert!(WorstOccupant::of(&guest).is_none());
    let share = |kind, id: Option<&str>, ns| Share {
        occupant: Occupant { kind, id: id.map(Arc::from), name: None },
        ns,
    };
    for (id, is_itself) in [("other", false), ("me", true)] {
        let shares =
            [share(OccupantKind::Vm, Some(id), 3 * SECOND), share(OccupantKind::Quota, None, SECOND)];
        guest.shares = Some(shares.into());
        let worst = WorstOccupant::of(&guest).unwrap();
        assert_eq!((worst.is_itself, worst.percent, worst.who.kind), (is_itself, 75.0, OccupantKind::Vm));
    }
}
