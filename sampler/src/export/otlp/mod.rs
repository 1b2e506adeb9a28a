//! From snapshots to OTLP metrics requests, written as protobuf straight into a buffer.
//!
//! Attributes are encoded once for each stream; a point then costs a few stores and the copy of its
//! attributes. The tables of states and counters are walked, so a new row needs nothing here.

mod catalog;
mod histogram;
mod plan;
mod sets;
mod streams;
mod wire;
mod writer;

use bytes::{Bytes, BytesMut};
use sampler_ebpf::abi::{COUNTERS, DISTRIBUTIONS};

use self::{
    catalog::{Catalog, HISTOGRAM_ATTRIBUTE},
    histogram::Distribution,
    plan::{Plan, Planner, Point, Sink, Value},
    streams::{ExitStream, Streams},
    wire::AnyValue,
    writer::{Envelope, Writer},
};
use super::{
    resource::{Resource, SCHEMA_URL, VERSION},
    settings::Histograms,
};
use crate::model::{OccupantKind, Snapshot, Vcpu, Vm};

/// Bytes that a request stays below before compression. Receivers commonly refuse more than 4 MiB.
pub const MAX_REQUEST_BYTES: usize = 3 << 20;

/// Name of the instrumentation scope.
pub const SCOPE: &str = "hvsampler";

/// One encoded `ExportMetricsServiceRequest`.
#[derive(Clone, Debug)]
pub struct Request {
    /// The message.
    pub body: Bytes,
    /// Points in it.
    pub points: u64,
    /// Of these, points that end a series.
    pub ends: u64,
}

/// Encodes the snapshots of one host, in the order in which they were taken.
///
/// It remembers which series it has exported, and ends each with one point flagged `NO_RECORDED_VALUE`
/// when the snapshot names it as ended or no longer has it. A series goes on when another thread or VM
/// takes its attributes over.
pub struct Encoder {
    catalog: Catalog,
    envelope: Envelope,
    streams: Streams,
    plan: Plan,
    buffer: BytesMut,
    histograms: Histograms,
    /// Start of the series that belong to the host.
    start_unix_ns: u64,
    /// Bytes that the metrics of one request may have.
    metrics_limit: usize,
}

impl Encoder {
    /// `start_unix_ns` is when the sampler started, Unix time in ns.
    #[must_use]
    pub fn new(resource: &Resource, start_unix_ns: u64) -> Self {
        Self::with_limit(resource, start_unix_ns, MAX_REQUEST_BYTES)
    }

    /// Like [`Encoder::new`], with requests below `max_request_bytes`. A request has at least one point,
    /// however long that is.
    #[must_use]
    pub fn with_limit(resource: &Resource, start_unix_ns: u64, max_request_bytes: usize) -> Self {
        let envelope = envelope(resource);
        let overhead = envelope.request_len(max_request_bytes) - max_request_bytes;
        Self {
            catalog: Catalog::new(),
            streams: Streams::default(),
            plan: Plan::default(),
            buffer: BytesMut::new(),
            histograms: Histograms::default(),
            start_unix_ns,
            metrics_limit: max_request_bytes.saturating_sub(overhead + 1),
            envelope,
        }
    }

    /// Sends distributions in this form.
    #[must_use]
    pub fn histograms(mut self, histograms: Histograms) -> Self {
        self.histograms = histograms;
        self
    }

    /// Appends the requests that carry the snapshot; at least one, for the number of VMs is always sent.
    ///
    /// Their bodies share one buffer, which is used again for the next snapshot once all are dropped.
    pub fn encode(&mut self, snapshot: &Snapshot, out: &mut Vec<Request>) {
        self.streams.update(snapshot);
        let points = Points {
            catalog: &self.catalog,
            streams: &self.streams,
            snapshot,
            histograms: self.histograms,
            start_unix_ns: self.start_unix_ns,
        };
        let mut planner = Planner::new(&mut self.plan, self.metrics_limit);
        points.walk(&mut planner);
        planner.finish();
        let mut writer = Writer::new(&self.envelope, &self.plan, &mut self.buffer, out);
        points.walk(&mut writer);
    }
}

fn envelope(resource: &Resource) -> Envelope {
    let mut attributes = Vec::new();
    for (key, value) in resource.iter() {
        wire::put_attribute(&mut attributes, 1, key, AnyValue::String(value));
    }
    let mut resource = Vec::new();
    wire::put_delimited(&mut resource, 1, &attributes);
    let mut name = Vec::new();
    wire::put_string(&mut name, 1, SCOPE);
    wire::put_string(&mut name, 2, VERSION);
    let mut scope = Vec::new();
    wire::put_delimited(&mut scope, 1, &name);
    let mut schema_url = Vec::new();
    wire::put_string(&mut schema_url, 3, SCHEMA_URL);
    Envelope { resource: resource.into(), scope: scope.into(), schema_url: schema_url.into() }
}

/// The points of one snapshot.
struct Points<'a> {
    catalog: &'a Catalog,
    streams: &'a Streams,
    snapshot: &'a Snapshot,
    histograms: Histograms,
    start_unix_ns: u64,
}

impl<'a> Points<'a> {
    /// Hands all points over, metric by metric.
    fn walk(&self, sink: &mut impl Sink<'a>) {
        self.vcpu_time(sink);
        self.counters(sink);
        self.distributions(sink);
        self.vm_kvm(sink);
        self.vm_exits(sink);
        self.vm_steal(sink);
        self.vm_co_stop(sink);
        self.vm_helper(sink);
        self.vm_info(sink);
        self.vm_vcpu_count(sink);
        self.vm_uptime(sink);
        let count = self.point(&[], self.start_unix_ns, int(self.snapshot.vms.len() as u64));
        sink.point(&self.catalog.vm_count, count);
    }

    fn vcpu_time(&self, sink: &mut impl Sink<'a>) {
        let family = &self.catalog.vcpu_time;
        let states = &self.catalog.states;
        for row in &self.streams.vcpu_rows {
            let attributes = self.streams.attributes_of(row);
            for (state, ns) in row.states.iter() {
                let mut point = self.point(attributes, row.start_unix_ns, Value::Double(seconds(ns)));
                point.attributes[1] = &states[state as usize];
                sink.point(family, point);
            }
        }
        for end in &self.streams.vcpu_ends {
            for state in end.states.iter() {
                let mut point = self.point(&end.attributes, end.start_unix_ns, Value::Ended);
                point.attributes[1] = &states[state as usize];
                sink.point(family, point);
            }
        }
    }

    fn counters(&self, sink: &mut impl Sink<'a>) {
        for metric in &self.catalog.counters {
            for row in &self.streams.vcpu_rows {
                let count = row.counters[metric.counter];
                let value = if metric.is_time { Value::Double(seconds(count)) } else { int(count) };
                let attributes = self.streams.attributes_of(row);
                sink.point(&metric.family, self.point(attributes, row.start_unix_ns, value));
            }
            for end in self.streams.vcpu_ends.iter().filter(|end| end.counters) {
                sink.point(&metric.family, self.point(&end.attributes, end.start_unix_ns, Value::Ended));
            }
        }
    }

    /// By VM: what its vCPUs had together, those that ended included.
    fn distributions(&self, sink: &mut impl Sink<'a>) {
        if self.histograms == Histograms::None {
            return;
        }
        for (n, family) in self.catalog.distributions.iter().enumerate() {
            for (row, vm) in self.streams.vm_rows.iter().zip(&self.snapshot.vms) {
                let value = Value::Distribution(Distribution::new(vm.distributions.at(n)));
                sink.point(family, self.histogram_point(&row.id, vm.seen_unix_ns, value));
            }
            for end in &self.streams.vm_ends {
                if let Some(id) = &end.id {
                    sink.point(family, self.histogram_point(id, end.seen_unix_ns, Value::Ended));
                }
            }
        }
    }

    fn vm_kvm(&self, sink: &mut impl Sink<'a>) {
        let catalog = self.catalog;
        for (times, family) in [(false, &catalog.vm_kvm_events), (true, &catalog.vm_kvm_time)] {
            let metrics = || catalog.kvm.iter().filter(move |metric| metric.is_time == times);
            for (row, vm) in self.streams.vm_rows.iter().zip(&self.snapshot.vms) {
                for metric in metrics() {
                    let Some(count) = vm.kvm_counts().at(metric.stat) else { continue };
                    let value = if times { Value::Double(seconds(count)) } else { int(count) };
                    sink.point(family, self.pair([&row.id, &metric.attribute], vm.seen_unix_ns, value));
                }
            }
            for end in &self.streams.vm_ends {
                let Some(id) = &end.id else { continue };
                for metric in metrics().filter(|metric| end.kvm.has(metric.stat)) {
                    sink.point(family, self.pair([id, &metric.attribute], end.seen_unix_ns, Value::Ended));
                }
            }
        }
    }

    fn vm_exits(&self, sink: &mut impl Sink<'a>) {
        let Catalog { vm_exits, vm_exit_duration, vm_exit_vmm_time, .. } = self.catalog;
        let histograms = self.histograms != Histograms::None;
        let families = [(vm_exits, true), (vm_exit_duration, histograms), (vm_exit_vmm_time, true)];
        for (metric, (family, _)) in families.into_iter().enumerate().filter(|(_, (_, sent))| *sent) {
            let point = |id, exit: &'a ExitStream, start, value| match metric {
                1 => self.histogram_points([id, &exit.histogram_attributes], start, value),
                _ => self.pair([id, &exit.attributes], start, value),
            };
            for (row, vm) in self.streams.vm_rows.iter().zip(&self.snapshot.vms) {
                for (exit, (_, totals)) in row.exits.iter().zip(vm.exits().iter()) {
                    let value = match metric {
                        0 => int(totals.count),
                        1 => Value::Distribution(Distribution::new(&totals.latency)),
                        _ => Value::Double(seconds(totals.vmm_ns)),
                    };
                    sink.point(family, point(&row.id, exit, vm.seen_unix_ns, value));
                }
            }
            for end in &self.streams.exit_ends {
                sink.point(family, point(&end.id, &end.exit, end.seen_unix_ns, Value::Ended));
            }
        }
    }

    fn vm_steal(&self, sink: &mut impl Sink<'a>) {
        let family = &self.catalog.vm_steal;
        let kinds = &self.catalog.occupant_kinds;
        for (row, vm) in self.streams.vm_rows.iter().zip(&self.snapshot.vms) {
            for (kind, ns) in kinds.iter().zip(vm.attributed.kinds) {
                sink.point(family, self.pair([&row.id, kind], vm.seen_unix_ns, Value::Double(seconds(ns))));
            }
            for (occupant, by) in row.occupants.iter().zip(&vm.attributed.vms) {
                let value = Value::Double(seconds(by.ns));
                sink.point(family, self.pair([&row.id, &occupant.attributes], by.since_unix_ns, value));
            }
        }
        for end in &self.streams.vm_ends {
            let Some(id) = &end.id else { continue };
            for kind in kinds {
                sink.point(family, self.pair([id, kind], end.seen_unix_ns, Value::Ended));
            }
        }
        for end in &self.streams.occupant_ends {
            let attributes: [&[u8]; 2] = [&end.id, &end.occupant.attributes];
            sink.point(family, self.pair(attributes, end.occupant.since_unix_ns, Value::Ended));
        }
    }

    fn vm_co_stop(&self, sink: &mut impl Sink<'a>) {
        let family = &self.catalog.vm_co_stop;
        for (row, vm) in self.streams.vm_rows.iter().zip(&self.snapshot.vms) {
            let value = Value::Double(seconds(vm.co_stop.ns));
            sink.point(family, self.point(&row.id, vm.seen_unix_ns, value));
        }
        for end in &self.streams.vm_ends {
            if let Some(id) = &end.id {
                sink.point(family, self.point(id, end.seen_unix_ns, Value::Ended));
            }
        }
    }

    fn vm_helper(&self, sink: &mut impl Sink<'a>) {
        let family = &self.catalog.vm_helper;
        let kinds = &self.catalog.helper_kinds;
        for (row, vm) in self.streams.vm_rows.iter().zip(&self.snapshot.vms) {
            for (kind, sum) in vm.helpers.iter() {
                let times = [sum.total.run_ns, sum.total.run_delay_ns];
                for (state, ns) in kinds[kind as usize].iter().zip(times) {
                    let value = Value::Double(seconds(ns));
                    sink.point(family, self.pair([&row.id, state], vm.seen_unix_ns, value));
                }
            }
        }
        for end in &self.streams.helper_ends {
            for state in end.kinds.iter().flat_map(|kind| &kinds[kind as usize]) {
                sink.point(family, self.pair([&end.id, state], end.seen_unix_ns, Value::Ended));
            }
        }
    }

    fn vm_info(&self, sink: &mut impl Sink<'a>) {
        let family = &self.catalog.vm_info;
        for row in &self.streams.vm_rows {
            sink.point(family, self.point(&row.info, 0, int(1)));
        }
        for info in self.streams.vm_ends.iter().filter_map(|end| end.info.as_deref()) {
            sink.point(family, self.point(info, 0, Value::Ended));
        }
    }

    fn vm_vcpu_count(&self, sink: &mut impl Sink<'a>) {
        let family = &self.catalog.vm_vcpu_count;
        for (row, vm) in self.streams.vm_rows.iter().zip(&self.snapshot.vms) {
            sink.point(family, self.point(&row.id, vm.start_unix_ns, int(row.vcpus as u64)));
        }
        for end in &self.streams.vm_ends {
            if let Some(id) = &end.id {
                sink.point(family, self.point(id, end.start_unix_ns, Value::Ended));
            }
        }
    }

    fn vm_uptime(&self, sink: &mut impl Sink<'a>) {
        let family = &self.catalog.vm_uptime;
        for (row, vm) in self.streams.vm_rows.iter().zip(&self.snapshot.vms) {
            let uptime = seconds(self.snapshot.at_unix_ns.saturating_sub(vm.start_unix_ns));
            sink.point(family, self.point(&row.id, 0, Value::Double(uptime)));
        }
        for id in self.streams.vm_ends.iter().filter_map(|end| end.id.as_deref()) {
            sink.point(family, self.point(id, 0, Value::Ended));
        }
    }

    fn point<'p>(&self, attributes: &'p [u8], start_unix_ns: u64, value: Value<'p>) -> Point<'p> {
        self.pair([attributes, &[]], start_unix_ns, value)
    }

    fn pair<'p>(&self, [first, second]: [&'p [u8]; 2], start_unix_ns: u64, value: Value<'p>) -> Point<'p> {
        let attributes = [first, second, &[]];
        Point { attributes, start_unix_ns, at_unix_ns: self.snapshot.at_unix_ns, value }
    }

    /// A point with one attribute, which was encoded for a `NumberDataPoint`.
    fn histogram_point<'p>(&self, attribute: &'p [u8], start_unix_ns: u64, value: Value<'p>) -> Point<'p> {
        self.histogram_points([attribute, &[]], start_unix_ns, value)
    }

    /// The same with more attributes, which were encoded for an `ExponentialHistogramDataPoint`.
    fn histogram_points<'p>(
        &self,
        [attribute, more]: [&'p [u8]; 2],
        start_unix_ns: u64,
        value: Value<'p>,
    ) -> Point<'p> {
        let attributes = [HISTOGRAM_ATTRIBUTE, attribute.get(1..).unwrap_or_default(), more];
        Point { attributes, start_unix_ns, at_unix_ns: self.snapshot.at_unix_ns, value }
    }
}

/// Points that a snapshot's values make, without those that end series; for counting what was never encoded.
pub(crate) fn points_of(snapshot: &Snapshot, histograms: Histograms) -> u64 {
    let distributions = if histograms == Histograms::None { 0 } else { DISTRIBUTIONS.len() };
    let per_vm = 4 + distributions + OccupantKind::ALL.len();
    let counters = COUNTERS.iter().filter(|row| row.metric.is_some()).count();
    let per_exit = if histograms == Histograms::None { 2 } else { 3 };
    let vm = |vm: &Vm| {
        let states = |vcpu: &Vcpu| vcpu.states.iter().count();
        per_vm
            + vm.kvm_counts().iter().count()
            + vm.attributed.vms.len()
            + vm.exits().iter().len() * per_exit
            + 2 * vm.helpers.iter().count()
            + vm.vcpus.iter().map(|vcpu| states(vcpu) + counters).sum::<usize>()
    };
    1 + snapshot.vms.iter().map(vm).sum::<usize>() as u64
}

/// Seconds as receivers want them. Not rounded: dividing by 1e9 gives the double nearest to the quotient.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// OTLP integers are signed: a count past their end stays there.
fn int(count: u64) -> Value<'static> {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}
