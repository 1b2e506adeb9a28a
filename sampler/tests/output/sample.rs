//! Snapshots with known numbers.

use std::sync::Arc;

use hvsampler::model::{
    Attached, AttachedKind, Attributed, AttributedVm, BlockedTimes, CoStop, ControlGroup, Device, Disk,
    DiskCounts, Distributions, ExitKind, ExitTotals, Exits, HelperKind, HelperSum, HelperTimes, Helpers,
    Host, HostState, HugePages, Interface, InterfaceCounts, Interval, KvmCounts, KvmVcpu, KvmVm, Level,
    Memory, NodeVcpus, NumaNode, Occupant, OccupantKind, Origin, Pressure, Resource, SamplerStats, Share,
    Snapshot, State, StateTimes, Unseen, Vcpu, VcpuId, Vm, VmKey,
};
use hvsampler::model::{
    COUNTERS, Counter, DISTRIBUTIONS, Fact, Facts, Histogram, KVM_STATS, KvmStat, bucket_of,
};

const SECOND: u64 = 1_000_000_000;
/// 2023-11-14 22:13:20 UTC.
const AT: u64 = 1_700_000_000 * SECOND;

pub(crate) fn snapshot(vms: Vec<Vm>) -> Snapshot {
    Snapshot {
        at_unix_ns: AT,
        interval_ns: 2 * SECOND,
        read_boottime_ns: 0,
        host_state: Some(host_state()),
        host: Arc::new(Host {
            id: Some("3d1219c7c4c5404aaa1f6d2a48adfda4".to_owned()),
            name: "node-7".to_owned(),
            kernel: "6.1.0-56-amd64".to_owned(),
            arch: "amd64".to_owned(),
            cpus: 16,
            ..Host::default()
        }),
        vms,
        ended: Vec::new(),
        sampler: SamplerStats::default(),
        programs: Arc::default(),
    }
}

/// A host that does all that a host may.
fn host_state() -> HostState {
    let mut pressure = Pressure::default();
    pressure.set(Resource::Cpu, [Some(9 * SECOND), None]);
    pressure.set(Resource::Memory, [Some(5_000), Some(3_000)]);
    HostState {
        at_unix_ns: AT - 4 * SECOND,
        booted_unix_ns: AT - 90 * SECOND,
        pressure,
        cpu_ns: std::array::from_fn(|mode| Some(mode as u64 * SECOND)),
        memory: Some([4 << 30, 3 << 30, 2 << 20, 1 << 30]),
        available: Some(4 << 30),
        huge_pages: [Some(HugePages { states: [5, 3], reserved: 1 }), None],
        threads: [Some(3), Some(0)],
        is_new: true,
    }
}

/// One that is over its memory.high.
fn control_group() -> ControlGroup {
    let mut pressure = Pressure::default();
    pressure.set(Resource::Memory, [Some(SECOND), Some(SECOND / 2)]);
    ControlGroup {
        at_unix_ns: AT - 3 * SECOND,
        since_unix_ns: AT - 23 * SECOND,
        pressure,
        events: [Some(0), Some(5), Some(0), Some(0), Some(0), None],
        is_new: true,
    }
}

/// Three reads of 3 ms, and a flush of which the kernel keeps no time.
fn disk() -> Disk {
    let mut durations = [Histogram::default(); 4];
    durations[0].sum_ns = 9_000_000;
    durations[0].counts[bucket_of(3_000_000)] = 3;
    let mut half = Histogram { sum_ns: 4_500_000, ..Histogram::default() };
    half.counts[bucket_of(1_500_000)] = 3;
    Disk {
        device: Device { major: 8, minor: 16 },
        name: "sdb".into(),
        since_unix_ns: AT - 40 * SECOND,
        before: None,
        counts: Arc::new(DiskCounts {
            operations: [3, 0, 1, 0],
            bytes: [12_288, 0, 0, 0],
            errors: [0, 1, 0, 0],
            durations,
            queued: [half, Histogram::default()],
            served: [half, Histogram::default()],
        }),
    }
}

fn device(path: &str, seen_at: &[&str], unseen: Option<Unseen>) -> Attached {
    let seen_at = seen_at.iter().map(ToString::to_string).collect();
    Attached { kind: AttachedKind::Disk, path: path.to_owned(), seen_at, unseen }
}

pub(crate) fn vm(pid: u32, name: Option<&str>, vcpus: Vec<Vcpu>) -> Vm {
    Vm {
        key: VmKey::new([pid.into(), 5]),
        origin: Origin::Process { pid },
        id: format!("{pid}-5").into(),
        facts: Arc::new(
            Facts::default().with(Fact::Platform, "qemu").with(Fact::Name, name.unwrap_or_default()),
        ),
        start_unix_ns: AT - 60 * SECOND,
        uptime_ns: 60 * SECOND,
        distributions: vcpus.iter().fold(Distributions::default(), |sum, vcpu| sum.plus(&vcpu.distributions)),
        seen_unix_ns: AT - 40 * SECOND,
        kvm: Some(KvmVm {
            level: Level::Full,
            counts: KvmCounts::new([7; KVM_STATS.len()], &[true; KVM_STATS.len()]),
            exits: exits(30),
        }),
        attributed: Attributed {
            kinds: [2 * SECOND, 0, 5 * SECOND, 0, 0, 0, 0, SECOND],
            vms: vec![AttributedVm { id: "77-5".into(), since_unix_ns: AT - 30 * SECOND, ns: 3 * SECOND }],
        },
        shares: occupants(&vcpus),
        blocked: vcpus.iter().fold(BlockedTimes::default(), |mut sum, vcpu| {
            sum.add(&vcpu.blocked);
            sum
        }),
        disks: vec![disk()],
        interfaces: vec![Interface {
            id: (4_026_531_840, 7),
            name: "vnet0".into(),
            since_unix_ns: AT - 30 * SECOND,
            added: Some((
                InterfaceCounts { bytes: [1_000, 40], packets: [1, 1], ..InterfaceCounts::default() },
                2 * SECOND,
            )),
            counts: InterfaceCounts { bytes: [1_500, 60], packets: [1, 1], ..InterfaceCounts::default() },
            at_unix_ns: AT - SECOND,
            is_new: true,
        }],
        attached: [device("/dev/sdb", &["sdb"], None), device("/nfs/b.img", &[], Some(Unseen::NetworkFiles))]
            .into(),
        memory: Some(Memory {
            at_unix_ns: AT - 3 * SECOND,
            resident: [Some(1 << 30), Some(7 << 20), None, Some(0)],
            swapped: Some(4096),
            is_new: true,
        }),
        control_group: Some(control_group()),
        placement: vec![NodeVcpus { node: 0, vcpus: 1 }, NodeVcpus { node: 1, vcpus: 0 }],
        numa: vec![NumaNode { node: 1, bytes: 7 << 20, at_unix_ns: AT - 3 * SECOND, is_new: true }],
        counters: vcpus.first().map(|vcpu| vcpu.counters).unwrap_or_default(),
        co_stop: CoStop { ns: 7 * SECOND, interval_ns: co_stop(&vcpus), tick_ns: 1 << 20 },
        helpers: helpers(),
        vcpus,
    }
}

/// What an AMD processor's guests leave for.
fn exits(factor: u64) -> Exits {
    let mut exits = Exits::default();
    for (reason, raw, vmm_count) in [("halt", Some("hlt"), 0), ("io", Some("io"), 2), ("other", None, 0)] {
        let mut latency = Histogram { sum_ns: 90_000 * factor, ..Histogram::default() };
        latency.counts[bucket_of(30_000)] = 3 * factor;
        let totals = ExitTotals {
            count: 3 * factor,
            vmm_count: vmm_count * factor,
            vmm_ns: vmm_count * 20_000 * factor,
            latency,
        };
        exits.add(ExitKind { reason, raw }, &totals);
    }
    exits
}

/// Some of the time that the second of several waited.
fn co_stop(vcpus: &[Vcpu]) -> Option<u64> {
    let second = vcpus.get(1).and_then(|vcpu| vcpu.interval).map_or(0, |interval| interval.run_delay_ns / 2);
    vcpus.first()?.interval.map(|_| second)
}

/// An emulator's thread, and a worker of vhost that came lately.
fn helpers() -> Helpers {
    let mut helpers = Helpers::default();
    let times = |run_ns, run_delay_ns| HelperTimes { run_ns, run_delay_ns };
    let sum = |total| HelperSum { threads: 1, total };
    helpers.set(HelperKind::Emulator, sum(times(9 * SECOND, 4 * SECOND)));
    helpers.set(HelperKind::Vhost, sum(times(3, 2)));
    helpers
}

/// Of what was taken another VM took three quarters and a process of the host the rest.
fn occupants(vcpus: &[Vcpu]) -> Option<Arc<[Share]>> {
    let intervals: Vec<_> = vcpus.iter().filter_map(|vcpu| vcpu.interval).collect();
    let steal: u64 = intervals.iter().map(|interval| interval.run_delay_ns).sum();
    let occupant = |kind, id: Option<&str>, name: &str| Occupant {
        kind,
        id: id.map(Arc::from),
        name: Some(name.into()),
    };
    let shares = [
        Share { occupant: occupant(OccupantKind::Vm, Some("77-5"), "loud"), ns: steal - steal / 4 },
        Share { occupant: occupant(OccupantKind::Host, None, "backup.service"), ns: steal / 4 },
    ];
    (!intervals.is_empty()).then(|| shares.into_iter().filter(|share| share.ns > 0).collect())
}

/// A vCPU that in two seconds ran, waited and slept so many ms, and was preempted so often.
pub(crate) fn vcpu(index: u32, tid: u32, [run, steal, blocked]: [u64; 3], preemptions: u64) -> Vcpu {
    const MS: u64 = 1_000_000;
    let states = |factor: u64| {
        let mut states = StateTimes::default();
        states.set(State::Run, run * MS * factor);
        states.set(State::Steal, steal * MS * factor);
        states.set(State::Blocked, blocked * MS * factor);
        states
    };
    let counters = |factor: u64| {
        let mut counters = [0; COUNTERS.len()];
        counters[Counter::Run as usize] = run * MS * factor;
        counters[Counter::RunDelay as usize] = steal * MS * factor;
        counters[Counter::InvoluntarySwitches as usize] = preemptions * factor;
        counters[Counter::VoluntarySwitches as usize] = 3 * factor;
        counters[Counter::MajorFaults as usize] = 2 * factor;
        counters
    };
    // A third of it for pages from a disk.
    let why = |factor: u64| {
        BlockedTimes::of(
            blocked * MS * factor,
            &[blocked / 3 * MS * factor, 0, 0, blocked * MS * factor / 2, 0],
        )
    };
    let kvm = |factor: u64| {
        let counts = std::array::from_fn(|n| n as u64 * factor);
        let mut kept = [true; KVM_STATS.len()];
        // As on 5.10.
        kept[KvmStat::NestedRuns as usize] = false;
        KvmCounts::new(counts, &kept)
    };
    // Half of the waits are short; the longest take up to an eighth of a second.
    let distributions = |factor: u64| {
        let mut histogram = Histogram { sum_ns: steal * MS * factor, ..Histogram::default() };
        for ns in [100, 3_000, 900_000, 100_000_000] {
            histogram.counts[bucket_of(ns)] += preemptions * factor;
        }
        Distributions::new([histogram; DISTRIBUTIONS.len()])
    };
    Vcpu {
        id: VcpuId::new([tid.into(), 6]),
        tid: Some(tid),
        index,
        start_unix_ns: AT - 59 * SECOND,
        followed_unix_ns: AT - 40 * SECOND,
        counters: counters(30),
        states: states(30),
        blocked: why(30),
        kvm: Some(KvmVcpu { counts: Some(kvm(30)), exits: exits(30).into() }),
        interval: Some(Interval {
            wall_ns: (run + steal + blocked) * MS,
            run_ns: run * MS,
            run_delay_ns: steal * MS,
            counters: counters(1),
            states: states(1),
            blocked: why(1),
            kvm: Some(kvm(1)),
        }),
        distributions: distributions(30).into(),
        distributions_before: distributions(29).into(),
        seen_unix_ns: AT - 40 * SECOND,
        ..Vcpu::default()
    }
}
