//! Arbitrary snapshots, with strings that mean harm.

use std::sync::Arc;

use hvsampler::model::{
    Attached, AttachedKind, Attributed, AttributedVm, BlockedTimes, CoStop, ControlGroup, Disk,
    Distributions, Ended, ExitKind, ExitTotals, Exits, HelperKind, HelperSum, HelperTimes, Helpers, Host,
    HostState, Interface, Interval, KvmCounts, KvmVcpu, KvmVm, Level, Memory, NodeVcpus, NumaNode, Occupant,
    OccupantKind, Origin, Share, Snapshot, State, StateTimes, Totals, Unseen, Vcpu, VcpuId, Vm, VmKey,
};
use hvsampler::model::{BUCKETS, COUNTERS, DISTRIBUTIONS, Fact, Facts, Histogram, KVM_STATS, MEASURED};
use proptest::{collection, option, prelude::*, sample};

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,40}",
        "[\x00-\x1f\u{7f}-\u{9f}\u{202a}-\u{202e}\"\\\\]{0,20}",
        Just("x\n\u{1b}[2J".repeat(1024)),
    ]
}

/// Small enough that sums over a snapshot do not overflow, as no kernel's counts do.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..3, 0..u64::from(u32::MAX), 0..u64::MAX >> 8]
}

fn counters() -> impl Strategy<Value = [u64; COUNTERS.len()]> {
    collection::vec(number(), COUNTERS.len()).prop_map(|counts| counts.try_into().unwrap())
}

fn states() -> impl Strategy<Value = StateTimes> {
    collection::vec(option::of(number()), State::ALL.len()).prop_map(|times| {
        let mut states = StateTimes::default();
        for (state, ns) in State::ALL.into_iter().zip(times) {
            if let Some(ns) = ns {
                states.set(state, ns);
            }
        }
        states
    })
}

fn kvm() -> impl Strategy<Value = KvmCounts> {
    (any::<[u64; KVM_STATS.len()]>(), any::<[bool; KVM_STATS.len()]>())
        .prop_map(|(counts, kept)| KvmCounts::new(counts, &kept))
}

fn distributions() -> impl Strategy<Value = Distributions> {
    // Counts of a histogram are added up: each below the number of buckets' share.
    let histogram = (number(), collection::vec(0..u64::MAX >> 8, BUCKETS))
        .prop_map(|(sum_ns, counts)| Histogram { sum_ns, counts: counts.try_into().unwrap() });
    collection::vec(histogram, DISTRIBUTIONS.len())
        .prop_map(|histograms| Distributions::new(histograms.try_into().unwrap()))
}

fn exits() -> impl Strategy<Value = Exits> {
    let kind = (sample::select(vec!["halt", "io", "other"]), option::of(sample::select(vec!["HLT", "npf"])));
    let totals =
        (any::<[u32; 3]>(), distributions()).prop_map(|([count, vmm_count, vmm_ns], distributions)| {
            ExitTotals {
                count: count.into(),
                vmm_count: vmm_count.into(),
                vmm_ns: vmm_ns.into(),
                latency: *distributions.at(0),
            }
        });
    collection::vec((kind, totals), 0..3).prop_map(|all| {
        let mut exits = Exits::default();
        for ((reason, raw), totals) in all {
            let kind = ExitKind { reason, raw };
            // Once each: sums are to fit.
            if exits.get(kind).is_none() {
                exits.add(kind, &totals);
            }
        }
        exits
    })
}

fn interval() -> impl Strategy<Value = Interval> {
    ([number(), number(), number()], counters(), states(), option::of(kvm())).prop_map(
        |([wall_ns, run_ns, run_delay_ns], counters, states, kvm)| Interval {
            wall_ns,
            run_ns,
            run_delay_ns,
            counters,
            states,
            blocked: BlockedTimes::default(),
            kvm,
        },
    )
}

fn vcpu() -> impl Strategy<Value = Vcpu> {
    let last = (option::of(kvm()), option::of(interval()), distributions(), distributions(), exits());
    (any::<[u32; 2]>(), any::<[u64; 2]>(), counters(), [number(), number()], states(), last).prop_map(
        |(
            [tid, index],
            [start_boottime_ns, start_unix_ns],
            counters,
            [running_ns, waiting_ns],
            states,
            (kvm, interval, before, added, exits),
        )| Vcpu {
            id: VcpuId::new([tid.into(), start_boottime_ns]),
            tid: (tid % 5 > 0).then_some(tid),
            index,
            unused: tid % 10 == 0,
            start_unix_ns,
            counters,
            others: Default::default(),
            running_ns,
            waiting_ns,
            totals: Totals { run_ns: running_ns, run_delay_ns: waiting_ns },
            held: Totals::default(),
            followed_unix_ns: start_unix_ns,
            states,
            blocked: BlockedTimes::default(),
            kvm: (index % 5 > 0).then(|| KvmVcpu { counts: kvm, exits: exits.into() }),
            distributions: before.plus(&added).into(),
            distributions_before: before.into(),
            seen_unix_ns: start_unix_ns,
            interval,
        },
    )
}

fn attributed() -> impl Strategy<Value = Attributed> {
    let by = (text(), any::<[u64; 2]>()).prop_map(|(id, [since_unix_ns, ns])| AttributedVm {
        id: id.into(),
        since_unix_ns,
        ns,
    });
    (any::<[u64; OccupantKind::ALL.len()]>(), collection::vec(by, 0..3))
        .prop_map(|(kinds, vms)| Attributed { kinds, vms })
}

fn shares() -> impl Strategy<Value = Option<Arc<[Share]>>> {
    let kind = sample::select(OccupantKind::ALL.to_vec());
    // A day at most, so that sums fit.
    let share = (kind, option::of(text()), option::of(text()), 0..86_400_000_000_000_u64).prop_map(
        |(kind, id, name, ns)| Share {
            occupant: Occupant { kind, id: id.map(Into::into), name: name.map(Into::into) },
            ns,
        },
    );
    option::of(collection::vec(share, 0..4).prop_map(Into::into))
}

fn helpers() -> impl Strategy<Value = Helpers> {
    let times = || any::<[u64; 2]>().prop_map(|[run_ns, run_delay_ns]| HelperTimes { run_ns, run_delay_ns });
    let sum = (any::<u32>(), times()).prop_map(|(threads, total)| HelperSum { threads, total });
    collection::vec(option::of(sum), HelperKind::ALL.len()).prop_map(|sums| {
        let mut helpers = Helpers::default();
        for (kind, sum) in HelperKind::ALL.into_iter().zip(sums) {
            if let Some(sum) = sum {
                helpers.set(kind, sum);
            }
        }
        helpers
    })
}

fn blocked() -> impl Strategy<Value = BlockedTimes> {
    let parts = collection::vec(0..u64::from(u32::MAX), MEASURED);
    (number(), parts).prop_map(|(ns, parts)| BlockedTimes::of(ns, &parts.try_into().unwrap()))
}

fn co_stop() -> impl Strategy<Value = CoStop> {
    (number(), option::of(number()), 0..63_u32).prop_map(|(ns, interval_ns, shift)| CoStop {
        ns,
        interval_ns,
        tick_ns: 1 << shift,
    })
}

fn facts(name: Option<String>, uuid: Option<String>) -> Arc<Facts> {
    let facts = Facts::default().with(Fact::Platform, "qemu").with(Fact::Name, name.unwrap_or_default());
    Arc::new(facts.with(Fact::Uuid, uuid.unwrap_or_default()))
}

fn vm() -> impl Strategy<Value = Vm> {
    (
        any::<u32>(),
        any::<[u64; 2]>(),
        text(),
        option::of(text()),
        option::of(text()),
        collection::vec(vcpu(), 0..4),
        (
            distributions(),
            attributed(),
            shares(),
            kvm(),
            exits(),
            any::<bool>(),
            helpers(),
            co_stop(),
            blocked(),
            counters(),
        ),
    )
        .prop_map(|(pid, [start_boottime_ns, start_unix_ns], id, name, uuid, vcpus, rest)| Vm {
            key: VmKey::new([pid.into(), start_boottime_ns]),
            origin: if pid % 5 > 0 { Origin::Process { pid } } else { Origin::Domain { domid: pid } },
            id: id.into(),
            facts: facts(name, uuid),
            start_unix_ns,
            uptime_ns: start_unix_ns / 2,
            distributions: rest.0,
            kvm: (pid % 5 > 0).then_some(KvmVm {
                level: if rest.5 { Level::Full } else { Level::Basic },
                counts: rest.3,
                exits: rest.4,
            }),
            seen_unix_ns: start_unix_ns,
            attributed: rest.1,
            shares: rest.2,
            blocked: rest.8,
            counters: rest.9,
            interfaces: (pid % 7 == 0)
                .then(|| Interface { name: "tap0".into(), ..Interface::default() })
                .into_iter()
                .collect(),
            disks: (pid % 5 == 0)
                .then(|| Disk { name: "sda".into(), ..Disk::default() })
                .into_iter()
                .collect(),
            attached: (0..pid % 3)
                .map(|n| Attached {
                    kind: AttachedKind::Disk,
                    path: format!("/{n}"),
                    seen_at: Vec::new(),
                    unseen: Some(Unseen::Unknown),
                })
                .collect(),
            control_group: (pid % 3 == 0).then(|| ControlGroup {
                events: [Some(start_unix_ns), None, None, None, None, None],
                ..ControlGroup::default()
            }),
            placement: (0..pid % 2).map(|node| NodeVcpus { node, vcpus: pid }).collect(),
            numa: (0..pid % 3)
                .map(|node| NumaNode { node, bytes: start_unix_ns, ..NumaNode::default() })
                .collect(),
            memory: (pid % 3 == 0)
                .then(|| Memory { resident: [Some(5), None, Some(7), None], ..Memory::default() }),
            co_stop: rest.7,
            helpers: rest.6,
            vcpus,
        })
}

fn ended() -> impl Strategy<Value = Ended> {
    (text(), any::<[u32; 2]>(), any::<[u64; 2]>(), counters(), states(), any::<bool>()).prop_map(
        |(vm_id, [tid, index], [start_boottime_ns, start_unix_ns], counters, states, vm_gone)| Ended {
            vm_id: vm_id.into(),
            vm_facts: Facts::unknown(),
            id: VcpuId::new([tid.into(), start_boottime_ns]),
            tid: (tid % 5 > 0).then_some(tid),
            index,
            unused: tid % 10 == 0,
            start_unix_ns,
            followed_unix_ns: start_unix_ns,
            counters,
            totals: Totals { run_ns: counters[0], run_delay_ns: counters[1] },
            states,
            vm_gone,
        },
    )
}

pub(crate) fn host() -> impl Strategy<Value = Host> {
    (option::of(text()), text(), text(), any::<u32>()).prop_map(|(id, name, kernel, cpus)| Host {
        id,
        name,
        kernel,
        arch: "amd64".to_owned(),
        cpus,
        ..Host::default()
    })
}

fn host_state() -> impl Strategy<Value = HostState> {
    let numbers = || collection::vec(option::of(number()), 8);
    (number(), numbers(), numbers()).prop_map(|(at_unix_ns, cpus, pressure)| {
        let mut state = HostState { at_unix_ns, booted_unix_ns: at_unix_ns / 2, ..HostState::default() };
        state.cpu_ns.copy_from_slice(&cpus);
        state.pressure.iter_mut().zip(pressure).for_each(|(place, value)| *place = value);
        state.memory = cpus[0].map(|bytes| [bytes, 0, 1, 2]);
        state
    })
}

pub(crate) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let parts = (host(), option::of(host_state()));
    (any::<[u64; 2]>(), parts, collection::vec(vm(), 0..5), collection::vec(ended(), 0..3)).prop_map(
        |([at_unix_ns, interval_ns], (host, host_state), vms, ended)| Snapshot {
            at_unix_ns,
            interval_ns,
            read_boottime_ns: 0,
            host: Arc::new(host),
            host_state,
            vms,
            ended,
            sampler: Default::default(),
            programs: Arc::default(),
        },
    )
}
