//! JSON for programs: versioned documents, each described by a JSON Schema in `schema/`.
//!
//! Two rules hold for every document. What a guest or host is called is always there, and `null` where it is
//! not known. What is measured is left out where it is not known: absent, never zero.

mod plain;

use std::borrow::Cow;

use crate::model::{
    CoStop, Distributions, Ended, ExitKind, ExitTotals, Exits, HelperTimes, Host, Interval, KvmCounts,
    OccupantKind, SamplerStats, Share, Snapshot, StateTimes, Totals, Vcpu, Vm, distribution,
};
pub(crate) use plain::render;
use sampler_ebpf::abi::{COUNTERS, Counter, Histogram};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeSeq as _},
};

/// Value of `schema` in what [`once`] renders.
pub const ONCE_SCHEMA: &str = "hvsampler.once/1";

/// Renders one interval, on one line that ends with a newline; `schema/once-1.schema.json` describes it.
///
/// # Errors
/// None that the model can cause.
pub fn once(snapshot: &Snapshot) -> serde_json::Result<String> {
    render(&Once {
        schema: ONCE_SCHEMA,
        at_unix_ns: snapshot.at_unix_ns,
        interval_ns: snapshot.interval_ns,
        host: HostJson::of(&snapshot.host),
        vms: List(&snapshot.vms, VmJson::of),
        ended: List(&snapshot.ended, EndedJson::of),
        sampler: &snapshot.sampler,
    })
}

#[derive(Serialize)]
struct Once<'a> {
    schema: &'static str,
    at_unix_ns: u64,
    interval_ns: u64,
    host: HostJson<'a>,
    vms: List<'a, Vm, VmJson<'a>>,
    ended: List<'a, Ended, EndedJson<'a>>,
    sampler: &'a SamplerStats,
}

/// A host in every document.
#[derive(Serialize)]
pub(crate) struct HostJson<'a> {
    id: Option<&'a str>,
    name: &'a str,
    kernel: &'a str,
    arch: &'a str,
    cpus: u32,
}

impl<'a> HostJson<'a> {
    pub(crate) fn of(host: &'a Host) -> Self {
        Self {
            id: host.id.as_deref(),
            name: &host.name,
            kernel: &host.kernel,
            arch: &host.arch,
            cpus: host.cpus,
        }
    }
}

#[derive(Serialize)]
struct VmJson<'a> {
    id: &'a str,
    name: Option<&'a str>,
    uuid: Option<&'a str>,
    platform: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    start_unix_ns: u64,
    uptime_ns: u64,
    seen_unix_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kvm: Option<Kvm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exits: Option<ExitsJson<'a>>,
    distributions: DistributionsJson<'a>,
    steal_by: Vec<AttributedJson<'a>>,
    co_stop: CoStopJson,
    helpers: Vec<HelperJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<VmIntervalJson<'a>>,
    vcpus: List<'a, Vcpu, VcpuJson<'a>>,
}

impl<'a> VmJson<'a> {
    fn of(vm: &'a Vm) -> Self {
        let kvm = vm.kvm.as_ref();
        Self {
            id: &vm.id,
            name: vm.name.as_deref(),
            uuid: vm.uuid.as_deref(),
            platform: vm.platform,
            pid: vm.origin.pid(),
            start_unix_ns: vm.start_unix_ns,
            uptime_ns: vm.uptime_ns,
            seen_unix_ns: vm.seen_unix_ns,
            level: kvm.map(|kvm| kvm.level.key()),
            kvm: kvm.map(|kvm| Kvm(&kvm.counts)),
            exits: kvm.map(|kvm| ExitsJson(&kvm.exits)),
            distributions: DistributionsJson(Cow::Borrowed(&vm.distributions)),
            steal_by: AttributedJson::all(vm),
            co_stop: CoStopJson::of(vm.co_stop, vm.co_stop.ns),
            helpers: HelperJson::all(vm),
            interval: vm.shares.as_deref().map(|shares| VmIntervalJson::of(vm, shares)),
            vcpus: List(&vm.vcpus, VcpuJson::of),
        }
    }
}

/// One series of what was taken of a VM's time.
#[derive(Serialize)]
struct AttributedJson<'a> {
    kind: &'static str,
    id: Option<&'a str>,
    since_unix_ns: u64,
    ns: u64,
}

impl<'a> AttributedJson<'a> {
    fn all(vm: &'a Vm) -> Vec<Self> {
        let kinds = OccupantKind::ALL.into_iter().zip(vm.attributed.kinds).map(|(kind, ns)| Self {
            kind: kind.key(),
            id: None,
            since_unix_ns: vm.seen_unix_ns,
            ns,
        });
        let vms = vm.attributed.vms.iter().map(|by| Self {
            kind: OccupantKind::Vm.key(),
            id: Some(&by.id),
            since_unix_ns: by.since_unix_ns,
            ns: by.ns,
        });
        kinds.chain(vms).collect()
    }
}

/// Time in which some vCPUs of a VM ran while others waited for a CPU.
#[derive(Serialize)]
struct CoStopJson {
    estimated_ns: u64,
    tick_ns: u64,
}

impl CoStopJson {
    const fn of(co_stop: CoStop, estimated_ns: u64) -> Self {
        Self { estimated_ns, tick_ns: co_stop.tick_ns }
    }
}

/// Helper threads of one kind.
#[derive(Serialize)]
struct HelperJson {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<u32>,
    run_ns: u64,
    run_delay_ns: u64,
}

impl HelperJson {
    fn all(vm: &Vm) -> Vec<Self> {
        let sums = vm.helpers.iter();
        sums.map(|(kind, sum)| Self { threads: Some(sum.threads), ..Self::of(kind.key(), sum.total) })
            .collect()
    }

    fn of_interval(vm: &Vm) -> Vec<Self> {
        let sums = vm.helpers.iter();
        sums.filter_map(|(kind, sum)| Some(Self::of(kind.key(), sum.interval?))).collect()
    }

    const fn of(kind: &'static str, times: HelperTimes) -> Self {
        Self { kind, threads: None, run_ns: times.run_ns, run_delay_ns: times.run_delay_ns }
    }
}

/// What an interval took of a VM's time, and what its helpers had in it.
#[derive(Serialize)]
struct VmIntervalJson<'a> {
    run_delay_ns: u64,
    steal_by: List<'a, Share, ShareJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    co_stop: Option<CoStopJson>,
    helpers: Vec<HelperJson>,
}

impl<'a> VmIntervalJson<'a> {
    fn of(vm: &Vm, shares: &'a [Share]) -> Self {
        Self {
            run_delay_ns: shares.iter().map(|share| share.ns).sum(),
            steal_by: List(shares, |share| ShareJson {
                kind: share.occupant.kind.key(),
                name: share.occupant.name.as_deref(),
                id: share.occupant.id.as_deref(),
                ns: share.ns,
            }),
            co_stop: vm.co_stop.interval_ns.map(|ns| CoStopJson::of(vm.co_stop, ns)),
            helpers: HelperJson::of_interval(vm),
        }
    }
}

#[derive(Serialize)]
struct ShareJson<'a> {
    kind: &'static str,
    name: Option<&'a str>,
    id: Option<&'a str>,
    ns: u64,
}

#[derive(Serialize)]
struct VcpuJson<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<u32>,
    start_unix_ns: u64,
    #[serde(flatten)]
    counters: Counters<'a>,
    running_ns: u64,
    waiting_ns: u64,
    totals: TotalsJson,
    followed_unix_ns: u64,
    states: States<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kvm: Option<Kvm<'a>>,
    seen_unix_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exits: Option<ExitsJson<'a>>,
    distributions: DistributionsJson<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<IntervalJson<'a>>,
}

impl<'a> VcpuJson<'a> {
    fn of(vcpu: &'a Vcpu) -> Self {
        let kvm = vcpu.kvm.as_ref();
        Self {
            index: vcpu.index,
            tid: vcpu.tid,
            start_unix_ns: vcpu.start_unix_ns,
            counters: Counters { values: &vcpu.counters, times: true },
            running_ns: vcpu.running_ns,
            waiting_ns: vcpu.waiting_ns,
            totals: TotalsJson::of(vcpu.totals),
            followed_unix_ns: vcpu.followed_unix_ns,
            states: States(&vcpu.states),
            kvm: kvm.and_then(|kvm| kvm.counts.as_ref()).map(Kvm),
            seen_unix_ns: vcpu.seen_unix_ns,
            exits: kvm.map(|kvm| ExitsJson(&kvm.exits)),
            distributions: DistributionsJson(Cow::Borrowed(&vcpu.distributions)),
            interval: vcpu.interval.as_ref().map(|interval| IntervalJson::of(vcpu, interval)),
        }
    }
}

/// The kernel's times since the thread's creation, with what goes on.
#[derive(Serialize)]
struct TotalsJson {
    run_ns: u64,
    run_delay_ns: u64,
}

impl TotalsJson {
    const fn of(totals: Totals) -> Self {
        Self { run_ns: totals.run_ns, run_delay_ns: totals.run_delay_ns }
    }
}

#[derive(Serialize)]
struct IntervalJson<'a> {
    wall_ns: u64,
    run_ns: u64,
    run_delay_ns: u64,
    #[serde(flatten)]
    counters: Counters<'a>,
    states: States<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kvm: Option<Kvm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exits: Option<ExitsJson<'a>>,
    distributions: DistributionsJson<'a>,
}

impl<'a> IntervalJson<'a> {
    fn of(vcpu: &'a Vcpu, interval: &'a Interval) -> Self {
        Self {
            wall_ns: interval.wall_ns,
            run_ns: interval.run_ns,
            run_delay_ns: interval.run_delay_ns,
            counters: Counters { values: &interval.counters, times: false },
            states: States(&interval.states),
            kvm: interval.kvm.as_ref().map(Kvm),
            exits: vcpu.kvm.as_ref().and_then(|kvm| kvm.exits_added.as_deref()).map(ExitsJson),
            distributions: DistributionsJson(Cow::Owned(vcpu.distributions_added())),
        }
    }
}

#[derive(Serialize)]
struct EndedJson<'a> {
    vm_id: &'a str,
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<u32>,
    start_unix_ns: u64,
    followed_unix_ns: u64,
    #[serde(flatten)]
    counters: Counters<'a>,
    states: States<'a>,
    vm_gone: bool,
}

impl<'a> EndedJson<'a> {
    fn of(ended: &'a Ended) -> Self {
        Self {
            vm_id: &ended.vm_id,
            index: ended.index,
            tid: ended.tid,
            start_unix_ns: ended.start_unix_ns,
            followed_unix_ns: ended.followed_unix_ns,
            counters: Counters { values: &ended.counters, times: true },
            states: States(&ended.states),
            vm_gone: ended.vm_gone,
        }
    }
}

/// The table of counters as keys, and `switches`, which is both kinds together.
struct Counters<'a> {
    values: &'a [u64; COUNTERS.len()],
    /// With run time and steal. An interval has its own, which take in what goes on at its ends.
    times: bool,
}

impl Serialize for Counters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = |counter: Counter| self.values[counter as usize];
        let mut map = serializer.serialize_map(None)?;
        for (at, row) in COUNTERS.iter().enumerate() {
            if self.times || (at != Counter::Run as usize && at != Counter::RunDelay as usize) {
                map.serialize_entry(row.key, &self.values[at])?;
            }
        }
        let switches = value(Counter::VoluntarySwitches).saturating_add(value(Counter::InvoluntarySwitches));
        map.serialize_entry("switches", &switches)?;
        map.end()
    }
}

struct Kvm<'a>(&'a KvmCounts);

impl Serialize for Kvm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

struct ExitsJson<'a>(&'a Exits);

impl Serialize for ExitsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ExitJson::of))
    }
}

/// Exits of one kind.
#[derive(Serialize)]
struct ExitJson {
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<&'static str>,
    count: u64,
    ns: u64,
    vmm_count: u64,
    vmm_ns: u64,
    latency: HistogramJson,
}

impl ExitJson {
    fn of((kind, totals): (ExitKind, &ExitTotals)) -> Self {
        Self {
            reason: kind.reason,
            raw: kind.raw,
            count: totals.count,
            ns: totals.latency.sum_ns,
            vmm_count: totals.vmm_count,
            vmm_ns: totals.vmm_ns,
            latency: HistogramJson::of(&totals.latency),
        }
    }
}

struct DistributionsJson<'a>(Cow<'a, Distributions>);

impl Serialize for DistributionsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(row, histogram)| (row.key, HistogramJson::of(histogram))))
    }
}

/// As OTLP has it: empty buckets are left out.
#[derive(Serialize)]
struct HistogramJson {
    count: u64,
    sum_ns: u64,
    zero_count: u64,
    buckets: Vec<BucketJson>,
}

#[derive(Serialize)]
struct BucketJson {
    index: i32,
    count: u64,
}

impl HistogramJson {
    fn of(histogram: &Histogram) -> Self {
        let buckets = distribution::buckets(histogram).map(|(index, count)| BucketJson { index, count });
        Self {
            count: distribution::count(histogram),
            sum_ns: histogram.sum_ns,
            zero_count: histogram.counts[0],
            buckets: buckets.collect(),
        }
    }
}

struct States<'a>(&'a StateTimes);

impl Serialize for States<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(state, ns)| (state.row().key, ns)))
    }
}

/// Serialises items of the model one by one through their form in JSON.
struct List<'a, T, J>(&'a [T], fn(&'a T) -> J);

impl<T, J: Serialize> Serialize for List<'_, T, J> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for item in self.0 {
            list.serialize_element(&self.1(item))?;
        }
        list.end()
    }
}
