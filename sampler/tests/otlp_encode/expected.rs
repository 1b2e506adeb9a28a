//! The same messages by plain code: points from the snapshot, ends as a difference of sets of series.

use std::collections::{BTreeMap, HashMap};

use hvsampler::{
    export::settings::ExportSettings,
    model::{ExitKind, ExitTotals, Host, OccupantKind, STATES, Snapshot, State, StateTimes, Vcpu, Vm},
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
use sampler_ebpf::abi::{COUNTERS, DISTRIBUTIONS, Histogram, KVM_STATS, Unit};

use super::points;

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

fn string(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(cut(value)))
}

fn int(key: &str, value: u32) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value.into()))
}

fn double(ns: u64) -> Option<number_data_point::Value> {
    Some(number_data_point::Value::AsDouble(ns as f64 / 1e9))
}

fn integer(count: u64) -> Option<number_data_point::Value> {
    Some(number_data_point::Value::AsInt(count.min(i64::MAX as u64) as i64))
}

impl Expected {
    pub(crate) fn new(settings: &ExportSettings, host: &Host, start_unix_ns: u64) -> Self {
        let mut attributes = BTreeMap::new();
        attributes.insert("service.name".to_owned(), settings.service_name.clone());
        attributes.insert("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        attributes
            .insert("service.instance.id".to_owned(), host.id.clone().unwrap_or_else(|| host.name.clone()));
        attributes.insert("host.id".to_owned(), host.id.clone().unwrap_or_default());
        attributes.insert("host.name".to_owned(), host.name.clone());
        attributes.insert("host.arch".to_owned(), host.arch.clone());
        attributes.insert("os.type".to_owned(), "linux".to_owned());
        attributes.insert("os.version".to_owned(), host.kernel.clone());
        attributes.insert("hypervisor.name".to_owned(), "kvm".to_owned());
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

    /// Every metric with the points of what lives.
    fn live(&self, snapshot: &Snapshot) -> Vec<Metric> {
        let at = snapshot.at_unix_ns;
        let vms = &snapshot.vms;
        let vcpus: Vec<(&Vm, &Vcpu)> =
            vms.iter().flat_map(|vm| youngest(vm).into_iter().map(move |vcpu| (vm, vcpu))).collect();
        let point = |attributes, start, value| NumberDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: at,
            value,
            ..NumberDataPoint::default()
        };
        let time = vcpus.iter().flat_map(|(vm, vcpu)| {
            vcpu.states.iter().map(|(state, ns)| {
                point(time_attributes(&vm.id, vcpu.index, state), vcpu.start_unix_ns, double(ns))
            })
        });
        let helps: Vec<_> = STATES.iter().map(|row| format!("{}: {}", row.key, row.help)).collect();
        let description = format!("Wall time of the vCPU thread by state. {}", helps.join(" "));
        let mut metrics = vec![sum("hypervisor.vcpu.time", "s", &description, true, time.collect())];
        for (index, row) in COUNTERS.iter().enumerate() {
            let Some(name) = row.metric else { continue };
            let unit = match row.unit {
                Unit::Nanoseconds => "s",
                Unit::Count(unit) => unit,
            };
            let points = vcpus.iter().map(|(vm, vcpu)| {
                let count = vcpu.counters[index];
                let value = if row.unit == Unit::Nanoseconds { double(count) } else { integer(count) };
                point(vcpu_attributes(&vm.id, vcpu.index), vcpu.start_unix_ns, value)
            });
            metrics.push(sum(name, unit, row.help, true, points.collect()));
        }
        for row in DISTRIBUTIONS {
            let points = vms.iter().map(|vm| {
                let histogram = vm.distributions.iter().find(|(other, _)| other.key == row.key).unwrap().1;
                let id = vec![string("hypervisor.vm.id", &vm.id)];
                distribution(id, vm.seen_unix_ns, at, histogram)
            });
            let data = ExponentialHistogram { data_points: points.collect(), aggregation_temporality: 2 };
            metrics.push(metric(row.metric, "s", row.help, Data::ExponentialHistogram(data)));
        }
        for (metric, unit, help, attribute) in [
            (
                "hypervisor.vm.kvm.events",
                "{event}",
                "What KVM has counted of the VM's vCPUs.",
                "hypervisor.kvm.event",
            ),
            (
                "hypervisor.vm.kvm.time",
                "s",
                "Time that KVM has counted of the VM's vCPUs.",
                "hypervisor.kvm.time.kind",
            ),
        ] {
            let rows = || KVM_STATS.iter().filter(|row| (unit == "s") == row.key.ends_with("_ns"));
            let points = vms.iter().flat_map(|vm| {
                rows().filter_map(|row| {
                    let count = vm.kvm_counts().iter().find(|(key, _)| *key == row.key)?.1;
                    let value = if unit == "s" { double(count) } else { integer(count) };
                    let key = string(attribute, row.key.trim_end_matches("_ns"));
                    Some(point(vec![string("hypervisor.vm.id", &vm.id), key], vm.seen_unix_ns, value))
                })
            });
            let helps = rows().map(|row| format!(" {}: {}", row.key.trim_end_matches("_ns"), row.help));
            metrics.push(sum(
                metric,
                unit,
                &format!("{help}{}", helps.collect::<String>()),
                true,
                points.collect(),
            ));
        }
        let exits: Vec<(&Vm, ExitKind, &ExitTotals)> = vms
            .iter()
            .flat_map(|vm| vm.exits().iter().map(move |(kind, totals)| (vm, kind, totals)))
            .collect();
        let number = |value: fn(&ExitTotals) -> Option<number_data_point::Value>| {
            let points = exits.iter().map(|(vm, kind, totals)| {
                point(exit_attributes(&vm.id, *kind), vm.seen_unix_ns, value(totals))
            });
            points.collect::<Vec<_>>()
        };
        metrics.push(sum(
            "hypervisor.vm.exits",
            "{exit}",
            "Exits of the VM's vCPUs from the guest, by reason and by the kernel's name for it.",
            true,
            number(|totals| integer(totals.count)),
        ));
        let points = exits.iter().map(|(vm, kind, totals)| {
            distribution(exit_attributes(&vm.id, *kind), vm.seen_unix_ns, at, &totals.latency)
        });
        let data = ExponentialHistogram { data_points: points.collect(), aggregation_temporality: 2 };
        let help = "Time from an exit to the next entry into the guest, whatever happened in between: halts, waits for a CPU.";
        metrics.push(metric("hypervisor.vm.exit.duration", "s", help, Data::ExponentialHistogram(data)));
        metrics.push(sum(
            "hypervisor.vm.exit.vmm.time",
            "s",
            "Part of that time which exits that went on to the VMM spent outside KVM_RUN, asleep or waiting for a CPU included.",
            true,
            number(|totals| double(totals.vmm_ns)),
        ));
        let steal = vms.iter().flat_map(|vm| {
            let kinds = OccupantKind::ALL
                .iter()
                .zip(vm.attributed.kinds)
                .map(|(kind, ns)| point(steal_attributes(&vm.id, *kind, None), vm.seen_unix_ns, double(ns)));
            let vms = vm.attributed.vms.iter().map(|by| {
                point(
                    steal_attributes(&vm.id, OccupantKind::Vm, Some(&by.id)),
                    by.since_unix_ns,
                    double(by.ns),
                )
            });
            kinds.chain(vms).collect::<Vec<_>>()
        });
        metrics.push(sum(
            "hypervisor.vm.steal.time",
            "s",
            "What was taken of the time of the VM's vCPUs while they waited for a CPU, by who had it, or by a CPU \
             quota. Of kind vm with \
             hypervisor.steal.by.vm: the VMs that take most, each since it is told apart; without it: the other VMs.",
            true,
            steal.collect(),
        ));
        let id = |vm: &Vm| vec![string("hypervisor.vm.id", &vm.id)];
        let co_stop = vms.iter().map(|vm| point(id(vm), vm.seen_unix_ns, double(vm.co_stop.ns)));
        metrics.push(sum(
            "hypervisor.vm.co_stop.time",
            "s",
            "Time in which at least one vCPU of the VM ran while at least one other was runnable and waited for a CPU. An \
             estimate: looked at 480 to 960 times in each interval.",
            true,
            co_stop.collect(),
        ));
        let helpers = vms.iter().flat_map(|vm| {
            vm.helpers.iter().flat_map(|(kind, sum)| {
                [("run", sum.total.run_ns), ("steal", sum.total.run_delay_ns)].map(|(state, ns)| {
                    let attributes = vec![
                        string("hypervisor.vm.id", &vm.id),
                        string("hypervisor.helper.kind", kind.key()),
                        string("hypervisor.helper.state", state),
                    ];
                    point(attributes, vm.seen_unix_ns, double(ns))
                })
            })
        });
        metrics.push(sum(
            "hypervisor.vm.helper.time",
            "s",
            "CPU time (run) of the threads that work for the VM and run no vCPU, and the time that they were runnable and \
             waited for a CPU (steal), also where a CPU quota held them back. By kind: emulator, iothread, vhost.",
            true,
            helpers.collect(),
        ));
        let info = vms.iter().map(|vm| point(info_attributes(vm), 0, integer(1))).collect();
        metrics.push(gauge("hypervisor.vm.info", "{vm}", "What is known of the VM; always 1.", info));
        let counts = vms.iter().map(|vm| point(id(vm), vm.start_unix_ns, integer(youngest(vm).len() as u64)));
        metrics.push(sum("hypervisor.vm.vcpu.count", "{vcpu}", "vCPUs of the VM.", false, counts.collect()));
        let uptime = vms.iter().map(|vm| point(id(vm), 0, double(at.saturating_sub(vm.start_unix_ns))));
        metrics.push(gauge(
            "hypervisor.vm.uptime",
            "s",
            "Time since the VMM process was created.",
            uptime.collect(),
        ));
        let count = point(vec![], self.start_unix_ns, integer(vms.len() as u64));
        metrics.push(sum("hypervisor.vm.count", "{vm}", "VMs on the host.", false, vec![count]));
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
            series.push(("hypervisor.vcpu.time", time_attributes(&ended.vm_id, ended.index, state), start));
        }
        for name in COUNTERS.iter().filter_map(|row| row.metric) {
            series.push((name, vcpu_attributes(&ended.vm_id, ended.index), start));
        }
        if ended.vm_gone {
            let id = vec![string("hypervisor.vm.id", &ended.vm_id)];
            for row in DISTRIBUTIONS {
                series.push((row.metric, id.clone(), start));
            }
            for kind in OccupantKind::ALL {
                let attributes = steal_attributes(&ended.vm_id, kind, None);
                series.push(("hypervisor.vm.steal.time", attributes, start));
            }
            series.push(("hypervisor.vm.co_stop.time", id.clone(), start));
            series.push(("hypervisor.vm.vcpu.count", id.clone(), start));
            series.push(("hypervisor.vm.uptime", id, 0));
        }
    }
    series
}

/// One thread for each vCPU number: the one created last.
fn youngest(vm: &Vm) -> Vec<&Vcpu> {
    let mut by_index: BTreeMap<u32, &Vcpu> = BTreeMap::new();
    for vcpu in &vm.vcpus {
        let age = |vcpu: &Vcpu| (vcpu.start_unix_ns, vcpu.id);
        let chosen = by_index.entry(vcpu.index).or_insert(vcpu);
        if age(vcpu) > age(chosen) {
            *chosen = vcpu;
        }
    }
    by_index.into_values().collect()
}

fn key(attributes: &[KeyValue]) -> Vec<u8> {
    attributes.iter().flat_map(KeyValue::encode_length_delimited_to_vec).collect()
}

fn vcpu_attributes(vm_id: &str, index: u32) -> Vec<KeyValue> {
    vec![string("hypervisor.vm.id", vm_id), int("hypervisor.vcpu.id", index)]
}

fn time_attributes(vm_id: &str, index: u32, state: State) -> Vec<KeyValue> {
    let mut attributes = vcpu_attributes(vm_id, index);
    attributes.push(string("hypervisor.vcpu.state", state.row().key));
    attributes
}

fn steal_attributes(vm_id: &str, kind: OccupantKind, by: Option<&str>) -> Vec<KeyValue> {
    let mut attributes =
        vec![string("hypervisor.vm.id", vm_id), string("hypervisor.steal.by.kind", kind.key())];
    attributes.extend(by.map(|by| string("hypervisor.steal.by.vm", by)));
    attributes
}

fn exit_attributes(vm_id: &str, kind: ExitKind) -> Vec<KeyValue> {
    let mut attributes =
        vec![string("hypervisor.vm.id", vm_id), string("hypervisor.exit.reason", kind.reason)];
    attributes.extend(kind.raw.map(|raw| string("hypervisor.exit.raw", raw)));
    attributes
}

fn info_attributes(vm: &Vm) -> Vec<KeyValue> {
    let mut attributes = vec![string("hypervisor.vm.id", &vm.id)];
    attributes.extend(vm.name.iter().map(|name| string("hypervisor.vm.name", name)));
    attributes.extend(vm.uuid.iter().map(|uuid| string("hypervisor.vm.uuid", uuid)));
    attributes.push(string("hypervisor.vm.platform", vm.platform));
    attributes.push(int("process.pid", vm.origin.number()));
    attributes
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

fn sum(name: &str, unit: &str, help: &str, is_monotonic: bool, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(name, unit, help, Data::Sum(Sum { data_points, aggregation_temporality: 2, is_monotonic }))
}

fn gauge(name: &str, unit: &str, help: &str, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(name, unit, help, Data::Gauge(Gauge { data_points }))
}

fn metric(name: &str, unit: &str, help: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: help.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}
