//! The same messages by plain code: points from the snapshot, ends as a difference of sets of series.

use std::collections::{BTreeMap, HashMap};

use hvsampler::{
    export::settings::ExportSettings,
    model::{
        BLOCKED, DISTRIBUTIONS, Histogram, Host, OccupantKind, Snapshot, StateTimes,
        catalog::{Entity, Family, ForEachEntity, Instrument, for_each_entity},
    },
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, exponential_histogram_data_point::Buckets, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message as _;

use super::{
    devices::{of_attached, of_disks, of_interfaces, of_memory, times_of_disks},
    guest::{
        COUNTED, CPU_TIME, RUN_DELAY, exit_attributes, of_exits, of_vcpu, of_vm, steal_attributes,
        time_attributes, vcpu_attributes, youngest,
    },
    host::{of_groups, of_host, of_placement},
    points,
};

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

/// A series: metric, and attributes as bytes so that they can be a key.
type Series = (String, Vec<u8>);

/// Builds what the encoder should have said, snapshot after snapshot.
pub(crate) struct Expected {
    resource: Resource,
    start_unix_ns: u64,
    /// Open series with the attributes and start time of their last point.
    open: HashMap<Series, (Vec<KeyValue>, u64)>,
}

fn cut(text: &str) -> String {
    let mut kept = String::new();
    for character in text.chars() {
        if kept.len() + character.len_utf8() > 1024 {
            break;
        }
        kept.push(character);
    }
    kept
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: cut(key), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(super) fn string(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(cut(value)))
}

pub(super) fn int(key: &str, value: u32) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value.into()))
}

pub(super) fn double(ns: u64) -> Option<number_data_point::Value> {
    Some(number_data_point::Value::AsDouble(ns as f64 / 1e9))
}

pub(super) fn integer(count: u64) -> Option<number_data_point::Value> {
    Some(number_data_point::Value::AsInt(count.min(i64::MAX as u64) as i64))
}

/// The families with their descriptions, in the order of the catalog.
fn families() -> Vec<(Family, String)> {
    #[derive(Default)]
    struct Families(Vec<(Family, String)>);
    impl ForEachEntity for Families {
        fn entity<E: Entity>(&mut self) {
            for series in E::SERIES {
                if self.0.iter().all(|(known, _)| known.name != series.family.name) {
                    self.0.push((series.family, series.description()));
                }
            }
        }
    }
    let mut families = Families::default();
    for_each_entity(&mut families);
    families.0
}

/// Points of sums and gauges, by metric.
pub(super) struct Numbers {
    pub(super) at: u64,
    points: HashMap<&'static str, Vec<NumberDataPoint>>,
}

impl Numbers {
    pub(super) fn put(
        &mut self,
        name: &'static str,
        attributes: Vec<KeyValue>,
        start: u64,
        value: Option<number_data_point::Value>,
    ) {
        self.points.entry(name).or_default().push(NumberDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: self.at,
            value,
            ..NumberDataPoint::default()
        });
    }
}

/// Metrics of a VM's distributions, in the order of their table.
pub(crate) const WAITS: [&str; DISTRIBUTIONS.len()] =
    ["hypervisor.vcpu.steal.duration", "hypervisor.vcpu.wakeup.latency", "hypervisor.vcpu.run.duration"];

pub(super) fn id(vm_id: &str) -> Vec<KeyValue> {
    vec![string("hypervisor.vm.id", vm_id)]
}

impl Expected {
    pub(crate) fn new(settings: &ExportSettings, host: &Host, start_unix_ns: u64) -> Self {
        let mut attributes = BTreeMap::new();
        attributes.insert("service.name".to_owned(), settings.service_name.clone());
        attributes.insert("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let id = settings.host_id.clone().or_else(|| host.id.clone());
        let name = id.clone().unwrap_or_else(|| host.name.clone());
        // Of the semantic conventions.
        let instances = uuid::uuid!("4d63009a-8d0f-11ee-aad7-4c796ed8e320");
        let instance = uuid::Uuid::new_v5(&instances, name.as_bytes()).to_string();
        attributes
            .insert("service.instance.id".to_owned(), if name.is_empty() { String::new() } else { instance });
        attributes.insert("host.id".to_owned(), id.unwrap_or_default());
        attributes.insert("host.name".to_owned(), host.name.clone());
        attributes.insert("host.arch".to_owned(), host.arch.clone());
        attributes.insert("os.type".to_owned(), "linux".to_owned());
        attributes.insert("os.version".to_owned(), host.os_version.clone().unwrap_or_default());
        let build = host.os_build.clone().unwrap_or_else(|| host.kernel.clone());
        attributes.insert("os.build_id".to_owned(), build);
        let hypervisor = host.hypervisor.unwrap_or_default();
        attributes.insert("hypervisor.name".to_owned(), hypervisor.to_owned());
        attributes.retain(|_, value| !value.is_empty());
        for (key, value) in &settings.resource_attributes {
            attributes.insert(cut(key), value.clone());
        }
        let attributes = attributes.iter().map(|(key, value)| string(key, value)).collect();
        Self { resource: Resource { attributes, ..Resource::default() }, start_unix_ns, open: HashMap::new() }
    }

    pub(crate) fn message(&mut self, snapshot: &Snapshot) -> ExportMetricsServiceRequest {
        let mut metrics = self.live(snapshot);
        self.end(&mut metrics, snapshot);
        metrics.retain_mut(|metric| !points::is_empty(metric));
        let scope = InstrumentationScope {
            name: "hvsampler".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_metrics = ScopeMetrics { scope: Some(scope), metrics, schema_url: SCHEMA.to_owned() };
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![scope_metrics],
                schema_url: SCHEMA.to_owned(),
            }],
        }
    }

    /// Every metric with the points of what lives, in the catalog's order.
    fn live(&self, snapshot: &Snapshot) -> Vec<Metric> {
        let mut numbers = Numbers { at: snapshot.at_unix_ns, points: HashMap::new() };
        let mut histograms: HashMap<&str, Vec<ExponentialHistogramDataPoint>> = HashMap::new();
        for vm in &snapshot.vms {
            for vcpu in youngest(vm) {
                of_vcpu(vm, vcpu, &mut numbers);
            }
            of_vm(vm, &mut numbers);
            of_exits(vm, &mut numbers);
            of_disks(vm, &mut numbers);
            of_attached(vm, &mut numbers);
            of_placement(vm, &mut numbers);
            for (name, attributes, interface, count) in of_interfaces(vm) {
                if interface.is_new {
                    let at = std::mem::replace(&mut numbers.at, interface.at_unix_ns);
                    numbers.put(name, attributes, interface.since_unix_ns, integer(count));
                    numbers.at = at;
                }
            }
            for ((name, attributes, value), [start, at], _) in
                of_groups(vm).into_iter().filter(|(.., is_new)| *is_new)
            {
                let at = std::mem::replace(&mut numbers.at, at);
                numbers.put(name, attributes, start, value);
                numbers.at = at;
            }
            for (name, attributes, since, times) in times_of_disks(vm) {
                let point = distribution(attributes, since, snapshot.at_unix_ns, &times);
                histograms.entry(name).or_default().push(point);
            }
            for (name, histogram) in WAITS.iter().zip(vm.distributions.iter().map(|(_, histogram)| histogram))
            {
                let point = distribution(id(&vm.id), vm.seen_unix_ns, snapshot.at_unix_ns, histogram);
                histograms.entry(name).or_default().push(point);
            }
            for (kind, totals) in vm.exits().iter() {
                let attributes = exit_attributes(&vm.id, kind);
                let point = distribution(attributes, vm.seen_unix_ns, snapshot.at_unix_ns, &totals.latency);
                histograms.entry("hypervisor.vm.exit.duration").or_default().push(point);
            }
        }
        let vms = snapshot.vms.len() as u64;
        numbers.put("hypervisor.vm.count", vec![], self.start_unix_ns, integer(vms));
        if let Some(host) = snapshot.host_state.filter(|host| host.is_new) {
            let at = std::mem::replace(&mut numbers.at, host.at_unix_ns);
            for (name, attributes, value) in of_host(&host) {
                numbers.put(name, attributes, host.booted_unix_ns, value);
            }
            numbers.at = at;
        }
        let mut points = numbers.points;
        let metrics = families();
        let metrics = metrics.into_iter().map(|(family, help)| {
            let data = match family.instrument {
                Instrument::Histogram => Data::ExponentialHistogram(ExponentialHistogram {
                    data_points: histograms.remove(family.name).unwrap_or_default(),
                    aggregation_temporality: 2,
                }),
                Instrument::Gauge => {
                    Data::Gauge(Gauge { data_points: points.remove(family.name).unwrap_or_default() })
                }
                Instrument::Counter | Instrument::UpDownCounter => Data::Sum(Sum {
                    data_points: points.remove(family.name).unwrap_or_default(),
                    aggregation_temporality: 2,
                    is_monotonic: family.instrument == Instrument::Counter,
                }),
            };
            Metric {
                name: family.name.to_owned(),
                unit: family.unit.ucum().to_owned(),
                description: help,
                data: Some(data),
                ..Metric::default()
            }
        });
        let metrics: Vec<_> = metrics.collect();
        assert!(points.is_empty() && histograms.is_empty(), "no family: {:?}", points.keys());
        metrics
    }

    /// Adds an end for each series that was open or is named as ended, and that does not live.
    fn end(&mut self, metrics: &mut [Metric], snapshot: &Snapshot) {
        let mut live = HashMap::new();
        for metric in &mut *metrics {
            let name = metric.name.clone();
            for (attributes, start) in points::series(metric) {
                live.insert((name.clone(), key(&attributes)), (attributes, start));
            }
        }
        for vm in &snapshot.vms {
            for (name, attributes, _) in of_memory(vm) {
                live.insert((name.to_owned(), key(&attributes)), (attributes, vm.start_unix_ns));
            }
            for ((name, attributes, _), [start, _], _) in of_groups(vm) {
                live.insert((name.to_owned(), key(&attributes)), (attributes, start));
            }
            for (name, attributes, interface, _) in of_interfaces(vm) {
                live.insert((name.to_owned(), key(&attributes)), (attributes, interface.since_unix_ns));
            }
        }
        for host in snapshot.host_state.iter() {
            for (name, attributes, _) in of_host(host) {
                live.insert((name.to_owned(), key(&attributes)), (attributes, host.booted_unix_ns));
            }
        }
        let mut ends = std::mem::take(&mut self.open);
        for (name, attributes, start) in named(snapshot) {
            ends.entry((name.to_owned(), key(&attributes))).or_insert((attributes, start));
        }
        ends.retain(|series, _| !live.contains_key(series));
        for ((name, _), (attributes, start)) in ends {
            let metric = metrics.iter_mut().find(|metric| metric.name == name).expect("the metric exists");
            points::push_end(metric, attributes, start, snapshot.at_unix_ns);
        }
        self.open = live;
    }
}

/// The series that a snapshot names as ended, whether they were open or not.
fn named(snapshot: &Snapshot) -> Vec<(&'static str, Vec<KeyValue>, u64)> {
    let mut series = Vec::new();
    for ended in &snapshot.ended {
        let start = ended.start_unix_ns;
        let states: &StateTimes = &ended.states;
        for (state, _) in states.iter() {
            let attributes = time_attributes(&ended.vm_id, ended.index, state);
            series.push(("hypervisor.vcpu.time", attributes, ended.followed_unix_ns));
        }
        for name in COUNTED.map(|(name, _)| name).into_iter().chain([CPU_TIME, RUN_DELAY]) {
            series.push((name, vcpu_attributes(&ended.vm_id, ended.index), start));
        }
        if ended.vm_gone {
            let id = vec![string("hypervisor.vm.id", &ended.vm_id)];
            for name in WAITS {
                series.push((name, id.clone(), start));
            }
            for kind in OccupantKind::ALL.into_iter().filter(|kind| *kind != OccupantKind::ForcedIdle) {
                let attributes = steal_attributes(&ended.vm_id, kind, None);
                series.push(("hypervisor.vm.steal.time", attributes, start));
            }
            for reason in BLOCKED {
                let attributes = [id.clone(), vec![string("hypervisor.blocked.reason", reason.key)]].concat();
                series.push(("hypervisor.vcpu.blocked.time", attributes, start));
            }
            for of in ["minor", "major"] {
                let attributes = [id.clone(), vec![string("hypervisor.page_fault.type", of)]].concat();
                series.push(("hypervisor.vcpu.page_faults", attributes, start));
            }
            series.push(("hypervisor.vm.co_stop.time", id.clone(), start));
            series.push(("hypervisor.vm.vcpu.count", id.clone(), start));
            series.push(("hypervisor.vm.uptime", id, 0));
        }
    }
    series
}

fn key(attributes: &[KeyValue]) -> Vec<u8> {
    attributes.iter().flat_map(KeyValue::encode_length_delimited_to_vec).collect()
}

/// Every bucket is counted by hand: the encoder trims, and offsets follow from that.
fn distribution(
    attributes: Vec<KeyValue>,
    start_time_unix_nano: u64,
    time_unix_nano: u64,
    histogram: &Histogram,
) -> ExponentialHistogramDataPoint {
    let mut counts = histogram.counts[1..].to_vec();
    let empty = counts.iter().take_while(|count| **count == 0).count();
    counts.drain(..empty);
    while counts.last() == Some(&0) {
        counts.pop();
    }
    let offset = -22 + empty as i32;
    let positive = (!counts.is_empty()).then_some(Buckets { offset, bucket_counts: counts });
    ExponentialHistogramDataPoint {
        attributes,
        start_time_unix_nano,
        time_unix_nano,
        count: histogram.counts.iter().sum(),
        sum: Some(histogram.sum_ns as f64 / 1e9),
        scale: 0,
        zero_count: histogram.counts[0],
        positive,
        zero_threshold: 1.0 / 4_194_304.0,
        ..ExponentialHistogramDataPoint::default()
    }
}
