//! The metrics, built once from the tables of states and counters.

use sampler_ebpf::abi::{COUNTERS, CounterRow, DISTRIBUTIONS, KVM_STATS, Unit};

use super::wire::{self, AnyValue};
use crate::model::{ExitKind, HelperKind, OccupantKind, STATES};

/// Field of `NumberDataPoint` that holds its attributes.
pub(super) const POINT_ATTRIBUTES: u8 = 7;

/// Field of `ExponentialHistogramDataPoint` that holds them.
const HISTOGRAM_ATTRIBUTES: u8 = 1;

/// Tag of an attribute there: it replaces that of the other points.
pub(super) const HISTOGRAM_ATTRIBUTE: &[u8] = &[HISTOGRAM_ATTRIBUTES << 3 | 2];

/// Which message the points of a metric are.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Number,
    Histogram,
}

impl Shape {
    /// Field that holds a point's flags.
    pub(super) const fn flags_field(self) -> u8 {
        match self {
            Self::Number => 8,
            Self::Histogram => 10,
        }
    }
}

/// Everything of a `Metric` message but its points.
pub(super) struct Family {
    /// Name, description and unit, encoded.
    pub(super) head: Box<[u8]>,
    /// The points' message.
    pub(super) shape: Shape,
    /// Field of `Metric` that holds the points: `gauge`, `sum` or `exponential_histogram`.
    pub(super) data_field: u8,
    /// What follows the points inside that field, encoded.
    pub(super) tail: &'static [u8],
}

/// How a metric behaves.
#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    /// Cumulative, and never falling but at a reset.
    Monotonic,
    /// Cumulative, rising and falling: what the conventions call an UpDownCounter.
    UpDown,
    /// Cumulative histograms with buckets that are powers of two.
    Distribution,
}

impl Family {
    fn new(name: &str, unit: &str, description: &str, kind: Kind) -> Self {
        const GAUGE: u8 = 5;
        const SUM: u8 = 7;
        const EXPONENTIAL_HISTOGRAM: u8 = 10;
        // Fields 2, aggregation_temporality = CUMULATIVE (2), of both kinds, and 3, is_monotonic, of `Sum`.
        const CUMULATIVE: &[u8] = &[2 << 3, 2];
        const CUMULATIVE_MONOTONIC: &[u8] = &[2 << 3, 2, 3 << 3, 1];
        let mut head = Vec::new();
        wire::put_string(&mut head, 1, name);
        wire::put_string(&mut head, 2, description);
        wire::put_string(&mut head, 3, unit);
        let (shape, data_field, tail): (_, _, &[u8]) = match kind {
            Kind::Gauge => (Shape::Number, GAUGE, &[]),
            Kind::Monotonic => (Shape::Number, SUM, CUMULATIVE_MONOTONIC),
            Kind::UpDown => (Shape::Number, SUM, CUMULATIVE),
            Kind::Distribution => (Shape::Histogram, EXPONENTIAL_HISTOGRAM, CUMULATIVE),
        };
        Self { head: head.into(), shape, data_field, tail }
    }

    /// Bytes of the field that holds the points, without tag and length.
    pub(super) const fn data_len(&self, points_len: usize) -> usize {
        points_len + self.tail.len()
    }

    /// Bytes of the `Metric` message with `points_len` bytes of points.
    pub(super) const fn metric_len(&self, points_len: usize) -> usize {
        self.head.len() + wire::delimited_len(self.data_len(points_len))
    }
}

/// A counter that is a metric of its own.
pub(super) struct CounterMetric {
    /// Index in [`COUNTERS`].
    pub(super) counter: usize,
    /// Counted in nanoseconds and exported in seconds.
    pub(super) is_time: bool,
    /// Its family.
    pub(super) family: Family,
}

/// What KVM counts, as a point of one of two metrics.
pub(super) struct KvmMetric {
    /// Index in [`KVM_STATS`].
    pub(super) stat: usize,
    /// Counted in nanoseconds and exported in seconds.
    pub(super) is_time: bool,
    /// The attribute that tells it from the others of its metric, encoded.
    pub(super) attribute: Box<[u8]>,
}

/// All metrics, in the order in which they are sent.
pub(super) struct Catalog {
    pub(super) vcpu_time: Family,
    pub(super) counters: Vec<CounterMetric>,
    /// By [`DISTRIBUTIONS`].
    pub(super) distributions: Vec<Family>,
    pub(super) vm_kvm_events: Family,
    pub(super) vm_kvm_time: Family,
    /// By [`KVM_STATS`].
    pub(super) kvm: Vec<KvmMetric>,
    pub(super) vm_exits: Family,
    pub(super) vm_exit_duration: Family,
    pub(super) vm_exit_vmm_time: Family,
    pub(super) vm_steal: Family,
    pub(super) vm_co_stop: Family,
    pub(super) vm_helper: Family,
    pub(super) vm_info: Family,
    pub(super) vm_vcpu_count: Family,
    pub(super) vm_uptime: Family,
    pub(super) vm_count: Family,
    /// The attribute `hypervisor.vcpu.state` of each row of [`STATES`], encoded.
    pub(super) states: Vec<Box<[u8]>>,
    /// The attribute `hypervisor.steal.by.kind` of each of [`OccupantKind::ALL`], encoded.
    pub(super) occupant_kinds: Vec<Box<[u8]>>,
    /// Kind and state of each of [`HelperKind::ALL`], encoded: first of running, then of waiting.
    pub(super) helper_kinds: Vec<[Box<[u8]>; 2]>,
}

impl Catalog {
    pub(super) fn new() -> Self {
        let counters = COUNTERS.iter().enumerate().filter_map(|(counter, row)| {
            let (unit, is_time) = match row.unit {
                Unit::Nanoseconds => ("s", true),
                Unit::Count(unit) => (unit, false),
            };
            let family = Family::new(row.metric?, unit, row.help, Kind::Monotonic);
            Some(CounterMetric { counter, is_time, family })
        });
        let state = |key| {
            let mut bytes = Vec::new();
            wire::put_attribute(&mut bytes, POINT_ATTRIBUTES, "hypervisor.vcpu.state", AnyValue::String(key));
            bytes.into()
        };
        let occupant_kind = |kind: OccupantKind| {
            let mut bytes = Vec::new();
            put_occupant_kind(&mut bytes, kind);
            bytes.into()
        };
        let states: Vec<_> = STATES.iter().map(|row| format!("{}: {}", row.key, row.help)).collect();
        let vcpu_time = format!("Wall time of the vCPU thread by state. {}", states.join(" "));
        Self {
            vcpu_time: Family::new("hypervisor.vcpu.time", "s", &vcpu_time, Kind::Monotonic),
            counters: counters.collect(),
            distributions: DISTRIBUTIONS
                .iter()
                .map(|row| Family::new(row.metric, "s", row.help, Kind::Distribution))
                .collect(),
            vm_kvm_events: Family::new(
                "hypervisor.vm.kvm.events",
                "{event}",
                &format!("What KVM has counted of the VM's vCPUs. {}", helps(false)),
                Kind::Monotonic,
            ),
            vm_kvm_time: Family::new(
                "hypervisor.vm.kvm.time",
                "s",
                &format!("Time that KVM has counted of the VM's vCPUs. {}", helps(true)),
                Kind::Monotonic,
            ),
            kvm: kvm_metrics().collect(),
            vm_exits: Family::new(
                "hypervisor.vm.exits",
                "{exit}",
                "Exits of the VM's vCPUs from the guest, by reason and by the kernel's name for it.",
                Kind::Monotonic,
            ),
            vm_exit_duration: Family::new(
                "hypervisor.vm.exit.duration",
                "s",
                "Time from an exit to the next entry into the guest, whatever happened in between: halts, waits for a CPU.",
                Kind::Distribution,
            ),
            vm_exit_vmm_time: Family::new(
                "hypervisor.vm.exit.vmm.time",
                "s",
                "Part of that time which exits that went on to the VMM spent outside KVM_RUN, asleep or waiting for a CPU included.",
                Kind::Monotonic,
            ),
            vm_steal: Family::new(
                "hypervisor.vm.steal.time",
                "s",
                "What was taken of the time of the VM's vCPUs while they waited for a CPU, by who had it, or by a CPU \
                 quota. Of kind vm with \
                 hypervisor.steal.by.vm: the VMs that take most, each since it is told apart; without it: the other VMs.",
                Kind::Monotonic,
            ),
            vm_co_stop: Family::new(
                "hypervisor.vm.co_stop.time",
                "s",
                "Time in which at least one vCPU of the VM ran while at least one other was runnable and waited for a CPU. An \
                 estimate: looked at 480 to 960 times in each interval.",
                Kind::Monotonic,
            ),
            vm_helper: Family::new(
                "hypervisor.vm.helper.time",
                "s",
                "CPU time (run) of the threads that work for the VM and run no vCPU, and the time that they were runnable and \
                 waited for a CPU (steal), also where a CPU quota held them back. By kind: emulator, iothread, vhost.",
                Kind::Monotonic,
            ),
            vm_info: Family::new(
                "hypervisor.vm.info",
                // Not "1": Prometheus takes a gauge of that unit for a ratio, and puts it into the name.
                "{vm}",
                "What is known of the VM; always 1.",
                Kind::Gauge,
            ),
            vm_vcpu_count: Family::new(
                "hypervisor.vm.vcpu.count",
                "{vcpu}",
                "vCPUs of the VM.",
                Kind::UpDown,
            ),
            vm_uptime: Family::new(
                "hypervisor.vm.uptime",
                "s",
                "Time since the VMM process was created.",
                Kind::Gauge,
            ),
            vm_count: Family::new("hypervisor.vm.count", "{vm}", "VMs on the host.", Kind::UpDown),
            states: STATES.iter().map(|row| state(row.key)).collect(),
            occupant_kinds: OccupantKind::ALL.into_iter().map(occupant_kind).collect(),
            helper_kinds: HelperKind::ALL.into_iter().map(helper_kind).collect(),
        }
    }
}

fn kvm_metrics() -> impl Iterator<Item = KvmMetric> {
    KVM_STATS.iter().enumerate().map(|(stat, row)| {
        let is_time = row.unit == Unit::Nanoseconds;
        let attribute = if is_time { "hypervisor.kvm.time.kind" } else { "hypervisor.kvm.event" };
        let mut bytes = Vec::new();
        wire::put_attribute(&mut bytes, POINT_ATTRIBUTES, attribute, AnyValue::String(kvm_key(row)));
        KvmMetric { stat, is_time, attribute: bytes.into() }
    })
}

/// What one of KVM's counts is called in an attribute: its unit is the metric's.
fn kvm_key(row: &CounterRow) -> &'static str {
    row.key.strip_suffix("_ns").unwrap_or(row.key)
}

/// What KVM's counts of one metric say.
fn helps(times: bool) -> String {
    let rows = KVM_STATS.iter().filter(|row| (row.unit == Unit::Nanoseconds) == times);
    let helps: Vec<_> = rows.map(|row| format!("{}: {}", kvm_key(row), row.help)).collect();
    helps.join(" ")
}

fn put_occupant_kind(bytes: &mut Vec<u8>, kind: OccupantKind) {
    wire::put_attribute(bytes, POINT_ATTRIBUTES, "hypervisor.steal.by.kind", AnyValue::String(kind.key()));
}

/// Attributes of exits of one kind, encoded: for a number, and for a histogram.
pub(super) fn exit_attributes(kind: ExitKind) -> [Vec<u8>; 2] {
    [POINT_ATTRIBUTES, HISTOGRAM_ATTRIBUTES].map(|field| {
        let mut bytes = Vec::new();
        wire::put_attribute(&mut bytes, field, "hypervisor.exit.reason", AnyValue::String(kind.reason));
        if let Some(raw) = kind.raw {
            wire::put_attribute(&mut bytes, field, "hypervisor.exit.raw", AnyValue::String(raw));
        }
        bytes
    })
}

fn helper_kind(kind: HelperKind) -> [Box<[u8]>; 2] {
    ["run", "steal"].map(|state| {
        let mut bytes = Vec::new();
        let mut put =
            |key, value| wire::put_attribute(&mut bytes, POINT_ATTRIBUTES, key, AnyValue::String(value));
        put("hypervisor.helper.kind", kind.key());
        put("hypervisor.helper.state", state);
        bytes.into()
    })
}

/// Attributes of what a VM took that is told apart, encoded.
pub(super) fn occupant_attributes(id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_occupant_kind(&mut bytes, OccupantKind::Vm);
    wire::put_attribute(&mut bytes, POINT_ATTRIBUTES, "hypervisor.steal.by.vm", AnyValue::String(id));
    bytes
}
