//! What the export tests share.

use std::sync::Arc;

use hvsampler::model::{
    Attached, AttachedKind, Attributed, AttributedVm, BlockedTimes, CoStop, ControlGroup, Device, Disk,
    DiskCounts, Distributions, ExitKind, ExitTotals, Exits, HelperKind, HelperSum, HelperTimes, Helpers,
    Host, Interface, InterfaceCounts, KvmCounts, KvmVm, Level, Memory, NodeVcpus, NumaNode, Origin, Snapshot,
    State, StateTimes, Totals, Vcpu, VcpuId, Vm, VmKey,
};
use hvsampler::model::{COUNTERS, DISTRIBUTIONS, Fact, Facts, Histogram, KVM_STATS};

/// As of a guest that has run for a while: waits of all lengths from microseconds to a tenth of a second.
fn busy(seed: u32) -> Histogram {
    let mut histogram = Histogram { sum_ns: 1_000_000 * u64::from(seed + 1), ..Histogram::default() };
    for (position, count) in (0_u64..).zip(&mut histogram.counts[4..20]) {
        *count = u64::from(seed) * 131 + position * position * 17;
    }
    histogram
}

/// Exits for six reasons, as a Linux guest on AMD has them.
fn exits(seed: u32) -> Exits {
    let mut exits = Exits::default();
    let kinds = [
        ("halt", "hlt"),
        ("interrupt", "interrupt"),
        ("io", "io"),
        ("msr", "msr"),
        ("page-fault", "npf"),
        ("interrupt-window", "vintr"),
    ];
    for (n, (reason, raw)) in (0..).zip(kinds) {
        let count = u64::from(seed) * 131 + n;
        let totals = ExitTotals { count, vmm_count: n, vmm_ns: n * 1000, latency: busy(seed) };
        exits.add(ExitKind { reason, raw: Some(raw) }, &totals);
    }
    exits
}

/// An emulator and two I/O threads; no vhost.
fn helpers(seed: u64) -> Helpers {
    let mut helpers = Helpers::default();
    for (threads, kind) in (1..).zip([HelperKind::Emulator, HelperKind::IoThread]) {
        let total = HelperTimes { run_ns: seed * 31 + 7, run_delay_ns: seed * 29 + u64::from(threads) };
        helpers.set(kind, HelperSum { threads, total });
    }
    helpers
}

/// A host with `vms` guests of `vcpus` vCPUs each, all numbers distinct.
pub(crate) fn snapshot_of(vms: u32, vcpus: u32) -> Snapshot {
    const START: u64 = 1_700_000_000_000_000_000;
    let vcpu = |vm: u32, index: u32| {
        let seed = u64::from(vm * 1000 + index);
        let mut states = StateTimes::default();
        for (position, state) in State::ALL.into_iter().enumerate() {
            states.set(state, seed * 1_000_003 + position as u64);
        }
        let mut counters = [0; COUNTERS.len()];
        for (position, counter) in counters.iter_mut().enumerate() {
            *counter = seed * 17 + position as u64;
        }
        Vcpu {
            id: VcpuId::new([u64::from(100_000 + vm * 100 + index), seed]),
            index,
            start_unix_ns: START + seed,
            followed_unix_ns: START + seed + 1,
            totals: Totals { run_ns: seed * 19, run_delay_ns: seed * 23 },
            counters,
            states,
            ..Vcpu::default()
        }
    };
    let vm = |vm: u32| Vm {
        key: VmKey::new([u64::from(vm), 0]),
        origin: Origin::Process { pid: 10_000 + vm },
        id: format!("8c2f41f6-9d0e-4c3a-8b59-{vm:012x}").into(),
        facts: Arc::new(Facts::default().with(Fact::Platform, "qemu")),
        start_unix_ns: START + u64::from(vm),
        uptime_ns: u64::from(vm) * 1_000_000_007,
        kvm: Some(KvmVm {
            level: Level::Full,
            counts: KvmCounts::new(
                std::array::from_fn(|n| u64::from(vm) * 1_000_003 + n as u64),
                &[true; KVM_STATS.len()],
            ),
            exits: exits(vm),
        }),
        distributions: Distributions::new([busy(vm); DISTRIBUTIONS.len()]),
        seen_unix_ns: START + 1_000,
        attributed: Attributed {
            kinds: std::array::from_fn(|n| u64::from(vm) + n as u64),
            vms: (0..3)
                .map(|by| AttributedVm { id: format!("by-{by}").into(), since_unix_ns: START, ns: by })
                .collect(),
        },
        shares: None,
        blocked: BlockedTimes::of(u64::from(vm) + 10, &[1, 0, 2, 3, 0]),
        counters: std::array::from_fn(|n| u64::from(vm) + n as u64),
        interfaces: vec![Interface {
            id: (1, vm),
            name: format!("tap{vm}").into(),
            since_unix_ns: START,
            added: None,
            counts: InterfaceCounts { bytes: [u64::from(vm); 2], ..InterfaceCounts::default() },
            at_unix_ns: START + 1,
            is_new: true,
        }],
        attached: [Attached {
            kind: AttachedKind::Disk,
            path: format!("/dev/sd{vm}"),
            seen_at: vec![format!("sd{vm}")],
            unseen: None,
        }]
        .into(),
        disks: vec![Disk {
            device: Device { major: 8, minor: vm },
            name: format!("sd{vm}").into(),
            since_unix_ns: START,
            before: None,
            counts: Arc::new(DiskCounts {
                operations: [u64::from(vm); 4],
                durations: [busy(vm); 4],
                queued: [busy(vm); 2],
                served: [busy(vm); 2],
                ..DiskCounts::default()
            }),
        }],
        memory: Some(Memory {
            at_unix_ns: START,
            resident: [Some(u64::from(vm)); 4],
            swapped: None,
            is_new: true,
        }),
        control_group: Some(ControlGroup {
            at_unix_ns: START,
            since_unix_ns: START,
            events: [Some(u64::from(vm)); 6],
            is_new: true,
            ..ControlGroup::default()
        }),
        placement: vec![NodeVcpus { node: vm, vcpus: vm }],
        numa: vec![NumaNode { node: vm, bytes: 1, at_unix_ns: START, is_new: true }],
        co_stop: CoStop { ns: u64::from(vm) * 1_000_003, ..CoStop::default() },
        helpers: helpers(u64::from(vm)),
        vcpus: (0..vcpus).map(|index| vcpu(vm, index)).collect(),
    };
    Snapshot {
        at_unix_ns: START + 1_000_000_000_000,
        interval_ns: 1_000_000_000,
        read_boottime_ns: 0,
        host: Arc::new(Host::default()),
        host_state: None,
        vms: (0..vms).map(vm).collect(),
        ended: Vec::new(),
        sampler: hvsampler::model::SamplerStats::default(),
        programs: Arc::default(),
    }
}
