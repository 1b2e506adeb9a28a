//! What the sampler counted, by the lines of `hvsampler run --json`, and the points that must come of it.
//!
//! Written from the documentation of the metrics and not from the encoder, so that both are not wrong in the
//! same way.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use hvsampler::export::resource::bounded;
use serde::Deserialize;

use super::point::{Attribute, Attributes, Distribution, Kind, Point, PointValue, Series};

/// One line, as far as it is exported.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Snapshot {
    schema: String,
    pub(super) at_unix_ns: u64,
    pub(super) host: Host,
    pub(super) vms: Vec<Vm>,
    pub(super) ended: Vec<Ended>,
    pub(super) sampler: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Host {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) kernel: String,
    pub(super) arch: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Vm {
    pub(super) id: String,
    pub(super) name: Option<String>,
    uuid: Option<String>,
    platform: String,
    pub(super) pid: u32,
    start_unix_ns: u64,
    uptime_ns: u64,
    seen_unix_ns: u64,
    distributions: BTreeMap<String, Histogram>,
    kvm: BTreeMap<String, u64>,
    steal_by: Vec<Attributed>,
    co_stop: CoStop,
    helpers: Vec<Helper>,
    vcpus: Vec<Vcpu>,
}

#[derive(Debug, Clone, Deserialize)]
struct Attributed {
    kind: String,
    id: Option<String>,
    since_unix_ns: u64,
    ns: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct CoStop {
    estimated_ns: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Helper {
    kind: String,
    threads: u64,
    run_ns: u64,
    run_delay_ns: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Histogram {
    count: u64,
    sum_ns: u64,
    zero_count: u64,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, Deserialize)]
struct Bucket {
    index: i32,
    count: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Vcpu {
    index: u32,
    tid: u32,
    start_unix_ns: u64,
    followed_unix_ns: u64,
    totals: Totals,
    states: BTreeMap<String, u64>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct Totals {
    run_ns: u64,
    run_delay_ns: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Ended {
    pub(super) vm_id: String,
    index: u32,
    start_unix_ns: u64,
    followed_unix_ns: u64,
    states: BTreeMap<String, u64>,
    vm_gone: bool,
}

/// Reads the whole lines of a file that may still grow.
///
/// # Errors
/// When a line is not of the schema.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Snapshot>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| -> anyhow::Result<Snapshot> {
        let snapshot: Snapshot = serde_json::from_str(line).with_context(|| format!("line {line:?}"))?;
        ensure!(snapshot.schema == "hvsampler.once/1", "schema {}", snapshot.schema);
        Ok(snapshot)
    };
    whole.lines().map(parse).collect()
}

/// The points of the snapshots, in order. `host_start_unix_ns` is where the host's own series begin.
///
/// A series that the snapshot before had and this one lacks ends, and so does one that came and went in
/// between.
///
/// # Errors
/// When a counter is missing in a line.
pub(super) fn points(snapshots: &[Snapshot], host_start_unix_ns: u64) -> anyhow::Result<Vec<Point>> {
    let mut all = Vec::new();
    let mut before = BTreeMap::new();
    for snapshot in snapshots {
        let values = values(snapshot, host_start_unix_ns)?;
        let live: BTreeMap<Series, u64> =
            values.iter().map(|point| (point.series.clone(), point.start_unix_ns)).collect();
        let mut ends = std::mem::replace(&mut before, live);
        for (series, start) in snapshot.ended.iter().flat_map(ended_series) {
            ends.entry(series).or_insert(start);
        }
        ends.retain(|series, _| !before.contains_key(series));
        all.extend(values);
        all.extend(ends.into_iter().map(|(series, start_unix_ns)| Point {
            series,
            at_unix_ns: snapshot.at_unix_ns,
            start_unix_ns,
            value: PointValue::Ended,
        }));
    }
    Ok(all)
}

fn values(snapshot: &Snapshot, host_start_unix_ns: u64) -> anyhow::Result<Vec<Point>> {
    let mut points = Vec::new();
    let mut put = |series, start_unix_ns, value| {
        points.push(Point { series, at_unix_ns: snapshot.at_unix_ns, start_unix_ns, value });
    };
    for vm in &snapshot.vms {
        let vcpus = exported(&vm.vcpus);
        for vcpu in &vcpus {
            let start = vcpu.start_unix_ns;
            for (state, ns) in &vcpu.states {
                put(time_series(&vm.id, vcpu.index, state), vcpu.followed_unix_ns, seconds(*ns));
            }
            for (metric, ns) in TOTALS.into_iter().zip([vcpu.totals.run_ns, vcpu.totals.run_delay_ns]) {
                put(total_series(&vm.id, vcpu.index, metric), start, seconds(ns));
            }
            for (key, metric, unit) in COUNTERS {
                let count = vcpu.rest.get(key).and_then(serde_json::Value::as_u64);
                let count = count.with_context(|| format!("{key} is missing in a line"))?;
                put(counter_series(&vm.id, vcpu.index, metric, unit), start, int(count));
            }
        }
        for (key, metric) in DISTRIBUTIONS {
            let histogram = vm.distributions.get(key);
            let histogram = histogram.with_context(|| format!("{key} is missing in a line"))?;
            put(distribution_series(&vm.id, metric), vm.seen_unix_ns, distribution(histogram));
        }
        for (key, count) in &vm.kvm {
            match key.strip_suffix("_ns") {
                Some(kind) => {
                    put(kvm_series(&vm.id, "time", "s", "time.kind", kind), vm.seen_unix_ns, seconds(*count));
                }
                None => {
                    put(kvm_series(&vm.id, "events", "{event}", "event", key), vm.seen_unix_ns, int(*count));
                }
            }
        }
        for taken in &vm.steal_by {
            let series = steal_series(&vm.id, &taken.kind, taken.id.as_deref());
            put(series, taken.since_unix_ns, seconds(taken.ns));
        }
        put(co_stop_series(&vm.id), vm.seen_unix_ns, seconds(vm.co_stop.estimated_ns));
        for helper in &vm.helpers {
            put(helper_count_series(&vm.id, &helper.kind), vm.seen_unix_ns, int(helper.threads));
            for (state, ns) in [("run", helper.run_ns), ("steal", helper.run_delay_ns)] {
                put(helper_series(&vm.id, &helper.kind, state), vm.seen_unix_ns, seconds(ns));
            }
        }
        put(info_series(vm), 0, PointValue::Int(1));
        put(vcpu_count_series(&vm.id), vm.start_unix_ns, int(vcpus.len() as u64));
        put(uptime_series(&vm.id), 0, seconds(vm.uptime_ns));
    }
    let count = series("hypervisor.vm.count", "{vm}", Kind::LEVEL, Attributes::new());
    put(count, host_start_unix_ns, int(snapshot.vms.len() as u64));
    Ok(points)
}

/// One thread for each vCPU: where two served the same, the younger.
fn exported(vcpus: &[Vcpu]) -> Vec<&Vcpu> {
    let mut youngest: BTreeMap<u32, &Vcpu> = BTreeMap::new();
    for vcpu in vcpus {
        let age = |vcpu: &Vcpu| (vcpu.start_unix_ns, vcpu.tid);
        let known = youngest.entry(vcpu.index).or_insert(vcpu);
        if age(vcpu) > age(known) {
            *known = vcpu;
        }
    }
    youngest.into_values().collect()
}

/// The series that end with a vCPU, each with its start.
fn ended_series(ended: &Ended) -> Vec<(Series, u64)> {
    let Ended { vm_id, index, start_unix_ns: start, followed_unix_ns, .. } = ended;
    let states = ended.states.keys().map(|state| (time_series(vm_id, *index, state), *followed_unix_ns));
    let counters = COUNTERS.map(|(_, metric, unit)| (counter_series(vm_id, *index, metric, unit), *start));
    let totals = TOTALS.map(|metric| (total_series(vm_id, *index, metric), *start));
    let mut series: Vec<_> = states.chain(totals).chain(counters).collect();
    if ended.vm_gone {
        series.extend(DISTRIBUTIONS.map(|(_, metric)| (distribution_series(vm_id, metric), *start)));
        series.extend(SHARES.map(|kind| (steal_series(vm_id, kind, None), *start)));
        series.push((co_stop_series(vm_id), *start));
        series.push((vcpu_count_series(vm_id), *start));
        series.push((uptime_series(vm_id), 0));
    }
    series
}

/// The kernel's times of a vCPU's thread since its creation.
const TOTALS: [&str; 2] = ["hypervisor.vcpu.cpu.time", "hypervisor.vcpu.run_delay"];

fn total_series(vm_id: &str, index: u32, metric: &str) -> Series {
    series(metric, "s", Kind::COUNTER, of_vcpu(vm_id, index))
}

/// The kinds of occupants, each of which has a series of every VM.
const SHARES: [&str; 7] = ["vm", "helper", "host", "kernel", "irq", "quota", "unattributed"];

fn kvm_series(vm_id: &str, metric: &str, unit: &str, attribute: &str, value: &str) -> Series {
    let mut attributes = of_vm(vm_id);
    attributes.insert(format!("hypervisor.kvm.{attribute}"), text(value));
    series(&format!("hypervisor.vm.kvm.{metric}"), unit, Kind::COUNTER, attributes)
}

fn steal_series(vm_id: &str, kind: &str, by: Option<&str>) -> Series {
    let mut attributes = of_vm(vm_id);
    attributes.insert("hypervisor.steal.by.kind".to_owned(), text(kind));
    attributes.extend(by.map(|by| ("hypervisor.steal.by.vm".to_owned(), text(by))));
    series("hypervisor.vm.steal.time", "s", Kind::COUNTER, attributes)
}

fn helper_series(vm_id: &str, kind: &str, state: &str) -> Series {
    let mut attributes = of_vm(vm_id);
    attributes.insert("hypervisor.helper.kind".to_owned(), text(kind));
    attributes.insert("hypervisor.helper.state".to_owned(), text(state));
    series("hypervisor.vm.helper.time", "s", Kind::COUNTER, attributes)
}

fn helper_count_series(vm_id: &str, kind: &str) -> Series {
    let mut attributes = of_vm(vm_id);
    attributes.insert("hypervisor.helper.kind".to_owned(), text(kind));
    series("hypervisor.vm.helper.count", "{thread}", Kind::LEVEL, attributes)
}

/// The counters that are metrics of their own: key in a line, metric, unit.
const COUNTERS: [(&str, &str, &str); 4] = [
    ("voluntary_switches", "hypervisor.vcpu.yields", "{yield}"),
    ("involuntary_switches", "hypervisor.vcpu.preemptions", "{preemption}"),
    ("migrations", "hypervisor.vcpu.migrations", "{migration}"),
    ("timeslices", "hypervisor.vcpu.timeslices", "{timeslice}"),
];

/// The distributions: key in a line, metric.
const DISTRIBUTIONS: [(&str, &str); 3] = [
    ("steal", "hypervisor.vcpu.steal.duration"),
    ("wakeup_latency", "hypervisor.vcpu.wakeup.latency"),
    ("stint", "hypervisor.vcpu.run.duration"),
];

fn time_series(vm_id: &str, index: u32, state: &str) -> Series {
    let mut attributes = of_vcpu(vm_id, index);
    attributes.insert("hypervisor.vcpu.state".to_owned(), text(state));
    series("hypervisor.vcpu.time", "s", Kind::COUNTER, attributes)
}

fn counter_series(vm_id: &str, index: u32, metric: &str, unit: &str) -> Series {
    series(metric, unit, Kind::COUNTER, of_vcpu(vm_id, index))
}

fn distribution_series(vm_id: &str, metric: &str) -> Series {
    series(metric, "s", Kind::DISTRIBUTION, of_vm(vm_id))
}

fn distribution(histogram: &Histogram) -> PointValue {
    PointValue::Distribution(Distribution {
        count: histogram.count,
        sum: histogram.sum_ns as f64 / 1e9,
        zero_count: histogram.zero_count,
        zero_threshold: 2_f64.powi(-22),
        buckets: histogram.buckets.iter().map(|bucket| (bucket.index, bucket.count)).collect(),
    })
}

fn info_series(vm: &Vm) -> Series {
    let mut attributes = of_vm(&vm.id);
    let known = [
        ("hypervisor.vm.name", vm.name.as_ref()),
        ("hypervisor.vm.uuid", vm.uuid.as_ref()),
        ("hypervisor.vm.platform", Some(&vm.platform)),
    ];
    for (key, value) in known {
        attributes.extend(value.map(|value| (key.to_owned(), text(value))));
    }
    attributes.insert("process.pid".to_owned(), Attribute::Int(vm.pid.into()));
    series("hypervisor.vm.info", "{vm}", Kind::Gauge, attributes)
}

fn co_stop_series(vm_id: &str) -> Series {
    series("hypervisor.vm.co_stop.time", "s", Kind::COUNTER, of_vm(vm_id))
}

fn vcpu_count_series(vm_id: &str) -> Series {
    series("hypervisor.vm.vcpu.count", "{vcpu}", Kind::LEVEL, of_vm(vm_id))
}

fn uptime_series(vm_id: &str) -> Series {
    series("hypervisor.vm.uptime", "s", Kind::Gauge, of_vm(vm_id))
}

fn series(metric: &str, unit: &str, kind: Kind, attributes: Attributes) -> Series {
    Series { metric: metric.to_owned(), attributes, unit: unit.to_owned(), kind }
}

fn of_vm(id: &str) -> Attributes {
    [("hypervisor.vm.id".to_owned(), text(id))].into()
}

fn of_vcpu(vm_id: &str, index: u32) -> Attributes {
    let mut attributes = of_vm(vm_id);
    attributes.insert("hypervisor.vcpu.id".to_owned(), Attribute::Int(index.into()));
    attributes
}

fn text(value: &str) -> Attribute {
    Attribute::Text(bounded(value).to_owned())
}

fn seconds(ns: u64) -> PointValue {
    PointValue::Double(ns as f64 / 1e9)
}

fn int(count: u64) -> PointValue {
    PointValue::Int(i64::try_from(count).unwrap_or(i64::MAX))
}
