//! Arbitrary runs of a host: a few snapshots in a row, with VMs and vCPUs that come, go and take each
//! other's place, and with strings that mean harm.

mod host;

use std::sync::Arc;

use hvsampler::model::{
    BUCKETS, COUNTERS, Counters, DISTRIBUTIONS, Fact, Facts, Histogram, KVM_STATS, MEASURED,
};
use hvsampler::{
    export::settings::ExportSettings,
    model::{
        Attached, AttachedKind, Attributed, AttributedVm, BlockedTimes, CoStop, ControlGroup, Device, Disk,
        DiskCounts, Distributions, Ended, ExitKind, ExitTotals, Exits, HelperKind, HelperSum, HelperTimes,
        Helpers, Host, HostState, Interface, InterfaceCounts, KvmCounts, KvmVm, Level, Memory, NodeVcpus,
        NumaNode, OccupantKind, Origin, SamplerStats, Snapshot, State, StateTimes, Totals, Unseen, Vcpu,
        VcpuId, Vm, VmKey,
    },
};
use proptest::{collection, option, prelude::*, sample};

use host::{groups, host, host_state, placement};

/// One run of the sampler.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) settings: ExportSettings,
    pub(crate) host: Host,
    pub(crate) snapshots: Vec<Snapshot>,
}

/// VMs that a run knows; two neighbours share an id, as a guest does before and after a restart.
const VMS: u32 = 4;
/// Threads of a VM; two neighbours share the vCPU's number.
const THREADS: u32 = 4;

pub(crate) fn run() -> impl Strategy<Value = Run> {
    (settings(), host(), collection::vec(text(), VMS as usize), collection::vec((moment(), 0_u64..3), 1..5))
        .prop_map(|(settings, host, ids, moments)| {
            // Distinct in front, so that no two VMs share an id by chance.
            let ids: Vec<Arc<str>> =
                ids.iter().enumerate().map(|(n, id)| format!("{n}{id}").into()).collect();
            let snapshots = moments.into_iter().flat_map(|(moment, repeats)| {
                let first = moment.snapshot(&ids);
                (0..=repeats).map(move |repeat| later(&first, repeat))
            });
            let snapshots = snapshots.collect();
            Run { settings, host, snapshots }
        })
}

/// The same guests again, with other values: the steady state.
fn later(first: &Snapshot, repeat: u64) -> Snapshot {
    let mut snapshot = first.clone();
    if repeat > 0 {
        snapshot.ended.clear();
        snapshot.at_unix_ns = snapshot.at_unix_ns.wrapping_add(repeat);
    }
    for vcpu in snapshot.vms.iter_mut().flat_map(|vm| &mut vm.vcpus) {
        for (position, counter) in vcpu.counters.iter_mut().enumerate() {
            *counter = counter.wrapping_add(repeat * position as u64);
        }
        for (state, ns) in { vcpu.states }.iter() {
            vcpu.states.set(state, ns.wrapping_add(repeat << state as usize));
        }
    }
    snapshot
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<String>(),
        1 => Just(String::new()),
        1 => Just("a\"b'c\\d\n\r\t\0{}<>&%s$(reboot)\u{202e}\u{1f4a3}".to_owned()),
        1 => sample::select(vec!["x", "ü", "€", "💣"]).prop_map(|piece| piece.repeat(4096)),
        1 => (1020_usize..1028, "[xü]{4}").prop_map(|(len, tail)| "x".repeat(len) + &tail),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0_u64..3, Just(i64::MAX as u64), Just(u64::MAX), 0_u64..10_000_000_000_000]
}

/// Boxed, as the host is: what they are made of would not fit on a test's stack beside the snapshots.
fn settings() -> BoxedStrategy<ExportSettings> {
    let all = (text(), option::of(text()), collection::btree_map(text(), text(), 0..3));
    all.prop_map(|(service_name, host_id, resource_attributes)| ExportSettings {
        service_name,
        host_id,
        resource_attributes,
        ..ExportSettings::default()
    })
    .boxed()
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

fn counters() -> impl Strategy<Value = [u64; COUNTERS.len()]> {
    collection::vec(number(), COUNTERS.len()).prop_map(|counts| counts.try_into().unwrap())
}

/// With empty buckets before, behind and between; sums that fit, as a host's do.
fn distributions() -> impl Strategy<Value = Distributions> {
    let count = prop_oneof![3 => Just(0), 1 => 1_u64..300, 1 => 0..u64::MAX >> 8];
    let histogram = (number(), collection::vec(count, BUCKETS))
        .prop_map(|(sum_ns, counts)| Histogram { sum_ns, counts: counts.try_into().unwrap() });
    let empty = Just(Histogram::default());
    collection::vec(prop_oneof![4 => histogram, 1 => empty], DISTRIBUTIONS.len())
        .prop_map(|histograms| Distributions::new(histograms.try_into().unwrap()))
}

/// What a kernel counts it counts of every VM.
fn kvm() -> impl Strategy<Value = KvmCounts> {
    let kept = std::array::from_fn(|stat| stat % 5 != 4);
    collection::vec(number(), KVM_STATS.len())
        .prop_map(move |counts| KvmCounts::new(counts.try_into().unwrap(), &kept))
}

/// SlotShares come and go, and begin anew.
fn attributed() -> impl Strategy<Value = Attributed> {
    let by = (0_u64..3, number()).prop_map(|(since, ns)| AttributedVm {
        id: "".into(),
        since_unix_ns: since * 1_000,
        ns,
    });
    let vms = collection::vec(option::of(by), 3).prop_map(|vms| {
        let named = (0..).zip(vms).filter_map(|(n, by)| Some((n, by?)));
        named.map(|(n, by)| AttributedVm { id: format!("occupant-{n}").into(), ..by }).collect()
    });
    (collection::vec(number(), OccupantKind::ALL.len()), vms)
        .prop_map(|(kinds, vms)| Attributed { kinds: kinds.try_into().unwrap(), vms })
}

/// Kinds come as a guest goes on.
fn exits() -> impl Strategy<Value = Exits> {
    let kinds =
        [("halt", Some("HLT")), ("io", Some("IO_INSTRUCTION")), ("msr", Some("MSR_READ")), ("other", None)];
    let totals = (number(), number(), distributions());
    collection::vec(option::of(totals), kinds.len()).prop_map(move |all| {
        let mut exits = Exits::default();
        for ((reason, raw), totals) in kinds.into_iter().zip(all) {
            let Some((count, vmm_ns, distributions)) = totals else { continue };
            let totals = ExitTotals { count, vmm_count: count, vmm_ns, latency: *distributions.at(0) };
            exits.add(ExitKind { reason, raw }, &totals);
        }
        exits
    })
}

/// Kinds come and go, and with the guest that took over another's id there are others.
fn helpers() -> impl Strategy<Value = Helpers> {
    let times = (number(), number()).prop_map(|(run_ns, run_delay_ns)| HelperTimes { run_ns, run_delay_ns });
    collection::vec(option::of(times), HelperKind::ALL.len()).prop_map(|sums| {
        let mut helpers = Helpers::default();
        for (kind, total) in HelperKind::ALL.into_iter().zip(sums) {
            if let Some(total) = total {
                helpers.set(kind, HelperSum { threads: 1, total });
            }
        }
        helpers
    })
}

/// Some of it is not known, and some was sent before.
fn memory() -> impl Strategy<Value = Option<Memory>> {
    let bytes = || option::of(number());
    let resident = [bytes(), bytes(), bytes(), bytes()];
    let memory = (number(), resident, bytes(), any::<bool>());
    option::of(memory.prop_map(|(at_unix_ns, resident, swapped, is_new)| Memory {
        at_unix_ns,
        resident,
        swapped,
        is_new,
    }))
}

/// Disks come and go, and the kernel does not keep all times of each.
fn disks() -> impl Strategy<Value = Vec<Disk>> {
    let counts = (collection::vec(number(), 12), collection::vec(distributions(), 4));
    let disk =
        (0_u64..3, sample::select(vec!["sda", "dm-3"]), counts).prop_map(|(since, name, (counts, times))| {
            let counts = |from| std::array::from_fn(|n| counts[from + n]);
            let of = |n: usize| *times[n % 4].at(n / 4);
            Disk {
                device: Device::default(),
                name: name.into(),
                since_unix_ns: since * 1_000,
                before: None,
                counts: Arc::new(DiskCounts {
                    operations: counts(0),
                    bytes: counts(4),
                    errors: counts(8),
                    durations: std::array::from_fn(of),
                    queued: std::array::from_fn(|n| of(4 + n)),
                    served: std::array::from_fn(|n| of(8 + n)),
                }),
            }
        });
    collection::vec(option::of(disk), 2).prop_map(|disks| {
        let numbered = (0..).zip(disks).filter_map(|(minor, disk)| Some((minor, disk?)));
        let disks = numbered.map(|(minor, disk)| {
            let name = format!("{}{minor}", disk.name).into();
            Disk { device: Device { major: 8, minor }, name, ..disk }
        });
        disks.collect()
    })
}

/// Interfaces come and go, and some were sent before.
fn interfaces() -> impl Strategy<Value = Vec<Interface>> {
    let interface = (0_u64..3, number(), any::<bool>(), collection::vec(number(), 8)).prop_map(
        |(since, at_unix_ns, is_new, counts)| Interface {
            since_unix_ns: since * 1_000,
            at_unix_ns,
            is_new,
            counts: InterfaceCounts {
                bytes: [counts[0], counts[1]],
                packets: [counts[2], counts[3]],
                dropped: [counts[4], counts[5]],
                errors: [counts[6], counts[7]],
            },
            ..Interface::default()
        },
    );
    collection::vec(option::of(interface), 2).prop_map(|interfaces| {
        let numbered = (0..).zip(interfaces).filter_map(|(index, interface)| Some((index, interface?)));
        let named = numbered.map(|(index, interface)| Interface {
            id: (7, index),
            name: format!("tap{index}").into(),
            ..interface
        });
        named.collect()
    })
}

/// Devices come and go, and are seen at other disks.
fn attached() -> impl Strategy<Value = Arc<[Attached]>> {
    let device =
        (any::<bool>(), 0..3_usize, any::<bool>()).prop_map(|(is_disk, disks, is_unseen)| Attached {
            kind: if is_disk { AttachedKind::Disk } else { AttachedKind::Network },
            path: String::new(),
            seen_at: ["sda", "sdb"][..disks.min(2)].iter().map(ToString::to_string).collect(),
            unseen: is_unseen.then_some(Unseen::NoRequests),
        });
    collection::vec(option::of(device), 2).prop_map(|devices| {
        let numbered = (0..).zip(devices).filter_map(|(n, device)| Some((n, device?)));
        numbered.map(|(n, device): (u32, Attached)| Attached { path: format!("/{n}"), ..device }).collect()
    })
}

type Threads = Vec<Option<(StateTimes, [u64; COUNTERS.len()])>>;

/// What changes from one snapshot to the next.
#[derive(Clone, Debug)]
struct Moment {
    at_unix_ns: u64,
    host_state: Option<HostState>,
    vms: Vec<Option<MomentVm>>,
    ended: Vec<(u32, u32, StateTimes, bool)>,
}

#[derive(Clone, Debug)]
struct MomentVm {
    facts: Facts,
    distributions: Distributions,
    kvm: KvmCounts,
    attributed: Attributed,
    exits: Exits,
    helpers: Helpers,
    co_stop_ns: u64,
    blocked: BlockedTimes,
    counters: Counters,
    memory: Option<Memory>,
    groups: (Option<ControlGroup>, Vec<NumaNode>),
    placement: Vec<NodeVcpus>,
    disks: Vec<Disk>,
    interfaces: Vec<Interface>,
    attached: Arc<[Attached]>,
    threads: Threads,
}

fn moment() -> impl Strategy<Value = Moment> {
    let threads = collection::vec(option::of((states(), counters())), THREADS as usize);
    let platform = sample::select(vec!["qemu", "unknown"]);
    let name = prop_oneof![2 => Just(None), 2 => Just(Some("db1".to_owned())), 1 => option::of(text())];
    let blocked = (number(), collection::vec(0..u64::from(u32::MAX), MEASURED))
        .prop_map(|(ns, parts)| BlockedTimes::of(ns, &parts.try_into().unwrap()));
    // Boxed: what is made of so many parts is too much for the stack of a test.
    let rest = (
        kvm(),
        attributed(),
        exits(),
        helpers(),
        number(),
        blocked,
        counters(),
        memory(),
        disks().boxed(),
        (interfaces(), attached(), placement()).boxed(),
        groups().boxed(),
    );
    let vm = (name, option::of(text()), platform, distributions(), rest, threads).prop_map(
        |(
            name,
            uuid,
            platform,
            distributions,
            (
                kvm,
                attributed,
                exits,
                helpers,
                co_stop_ns,
                blocked,
                counters,
                memory,
                disks,
                (interfaces, attached, placement),
                groups,
            ),
            threads,
        )| {
            let facts = Facts::default().with(Fact::Platform, platform);
            let facts = facts.with(Fact::Name, name.unwrap_or_default());
            MomentVm {
                facts: facts.with(Fact::Uuid, uuid.unwrap_or_default()),
                distributions,
                kvm,
                attributed,
                exits,
                helpers,
                co_stop_ns,
                blocked,
                counters,
                memory,
                groups,
                disks,
                interfaces,
                attached,
                placement,
                threads,
            }
        },
    );
    let ended = collection::vec((0..VMS, 0..THREADS, states(), any::<bool>()), 0..4);
    (number(), option::of(host_state().boxed()), collection::vec(option::of(vm.boxed()), VMS as usize), ended)
        .prop_map(|(at_unix_ns, host_state, vms, ended)| Moment { at_unix_ns, host_state, vms, ended })
}

fn thread(vm: u32, thread: u32) -> VcpuId {
    VcpuId::new([u64::from(1000 + vm * THREADS + thread), 77])
}

/// When a thread was created; the first one at a time that is not known.
fn start(vm: u32, thread: u32) -> u64 {
    u64::from(vm * 1_000_000 + thread * 1000)
}

impl Moment {
    fn snapshot(self, ids: &[Arc<str>]) -> Snapshot {
        let id = |vm: u32| ids[vm as usize / 2].clone();
        let mut vms: Vec<Vm> = Vec::new();
        for (number, vm) in (0..).zip(self.vms) {
            let Some(vm) = vm else { continue };
            if vms.last().is_some_and(|last| last.id == id(number)) {
                continue;
            }
            let vcpus = (0..).zip(vm.threads).filter_map(|(position, thread_now)| {
                let (states, counters) = thread_now?;
                Some(Vcpu {
                    id: thread(number, position),
                    index: position / 2,
                    unused: position % 5 == 4,
                    start_unix_ns: start(number, position),
                    followed_unix_ns: start(number, position) + 3,
                    totals: Totals { run_ns: counters[0], run_delay_ns: counters[1] },
                    counters,
                    states,
                    ..Vcpu::default()
                })
            });
            vms.push(Vm {
                key: VmKey::new([number.into(), 3]),
                origin: Origin::Process { pid: 500 + number },
                id: id(number),
                facts: Arc::new(vm.facts),
                start_unix_ns: u64::from(number) * 1_000_000_000,
                uptime_ns: self.at_unix_ns / 3,
                distributions: vm.distributions,
                kvm: Some(KvmVm {
                    level: Level::ALL[number as usize / 2 % 3],
                    counts: vm.kvm,
                    exits: vm.exits,
                }),
                seen_unix_ns: u64::from(number) * 1_000_000_007,
                attributed: vm.attributed,
                shares: None,
                blocked: vm.blocked,
                counters: vm.counters,
                memory: vm.memory,
                control_group: vm.groups.0,
                numa: vm.groups.1,
                placement: vm.placement,
                disks: vm.disks,
                interfaces: vm.interfaces,
                attached: vm.attached,
                co_stop: CoStop { ns: vm.co_stop_ns, ..CoStop::default() },
                helpers: vm.helpers,
                vcpus: vcpus.collect(),
            });
        }
        let ended = self.ended.into_iter().map(|(vm, position, states, vm_gone)| Ended {
            vm_id: id(vm),
            vm_facts: Facts::unknown(),
            tid: None,
            id: thread(vm, position),
            index: position / 2,
            unused: position % 5 == 4,
            start_unix_ns: start(vm, position),
            followed_unix_ns: start(vm, position) + 3,
            counters: [1; COUNTERS.len()],
            totals: Totals::default(),
            states,
            vm_gone,
        });
        Snapshot {
            at_unix_ns: self.at_unix_ns,
            interval_ns: 1,
            read_boottime_ns: 0,
            host: Arc::new(Host::default()),
            host_state: self.host_state,
            ended: ended.collect(),
            vms,
            sampler: SamplerStats::default(),
            programs: Arc::default(),
        }
    }
}
