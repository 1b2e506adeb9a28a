//! From snapshots to OTLP metrics requests, written as protobuf straight into a buffer.
//!
//! The catalog is walked: which metrics and series there are stands there alone. Attributes are encoded once
//! for each entity; a point then costs a few stores and the copy of its attributes.

mod histogram;
mod metric;
mod plan;
mod selection;
mod table;
mod wire;
mod writer;

use bytes::{Bytes, BytesMut};

pub use self::selection::Selection;
use self::{
    metric::Metric,
    plan::{Plan, Planner, Sink},
    table::{Table, visit},
    wire::AnyValue,
    writer::{Envelope, Writer},
};
use super::{
    resource::{Resource, SCHEMA_URL, VERSION},
    settings::VmAttributes,
};
use crate::model::{
    Snapshot,
    catalog::{
        AttachedEntity, ControlGroupEntity, DiskEntity, Entity, ExitEntity, ForEachEntity, HostEntity,
        HostStateEntity, InfoEntity, InterfaceEntity, MemoryEntity, NumaEntity, PlacementEntity,
        StealByEntity, VcpuEntity, VmEntity, for_each_entity,
    },
};

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

/// Declares the tables, one for each entity of the catalog.
macro_rules! tables {
    ($($name:ident: $entity:ident,)*) => {
        struct Tables { $($name: Table<$entity>,)* }

        impl Tables {
            fn new(metrics: &mut Vec<Metric>, began_unix_ns: u64) -> Self {
                Self { $($name: Table::new(metrics, began_unix_ns),)* }
            }

            fn add(&mut self, attributes: &VmAttributes) {
                $(self.$name.add(attributes);)*
            }

            fn update(&mut self, snapshot: &Snapshot) {
                $(self.$name.update(snapshot);)*
            }

            fn walk<'a>(
                &'a self,
                n: usize,
                metric: &'a Metric,
                snapshot: &'a Snapshot,
                sink: &mut impl Sink<'a>,
            ) {
                $(self.$name.walk(n, metric, snapshot, sink);)*
            }

            /// As [`for_each_entity`], with those that have a table.
            #[cfg(test)]
            fn for_each_entity(visitor: &mut impl ForEachEntity) {
                $(visitor.entity::<$entity>();)*
            }
        }
    };
}

tables! {
    vcpus: VcpuEntity,
    vms: VmEntity,
    exits: ExitEntity,
    steal_by: StealByEntity,
    memory: MemoryEntity,
    control_groups: ControlGroupEntity,
    numa: NumaEntity,
    placement: PlacementEntity,
    disks: DiskEntity,
    interfaces: InterfaceEntity,
    devices: AttachedEntity,
    infos: InfoEntity,
    host: HostEntity,
    host_state: HostStateEntity,
}

/// Encodes the snapshots of one host, in the order in which they were taken.
///
/// It remembers which series it has exported, and ends each with one point flagged `NO_RECORDED_VALUE`
/// when the snapshot names it as ended or no longer has it. A series goes on when another thread or VM
/// takes its attributes over.
pub struct Encoder {
    metrics: Vec<Metric>,
    tables: Tables,
    envelope: Envelope,
    plan: Plan,
    buffer: BytesMut,
    selection: Selection,
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
        let mut metrics = Vec::new();
        Self {
            tables: Tables::new(&mut metrics, start_unix_ns),
            metrics,
            plan: Plan::default(),
            buffer: BytesMut::new(),
            selection: Selection::default(),
            metrics_limit: max_request_bytes.saturating_sub(overhead + 1),
            envelope,
        }
    }

    /// Sends this of snapshots, and what it adds to points. To be called before the first one.
    #[must_use]
    pub fn selecting(mut self, selection: Selection) -> Self {
        self.tables.add(&selection.vm_attributes);
        self.selection = selection;
        self
    }

    /// Appends the requests that carry the snapshot; at least one, for the number of VMs is always sent.
    ///
    /// Their bodies share one buffer, which is used again for the next snapshot once all are dropped.
    pub fn encode(&mut self, snapshot: &Snapshot, out: &mut Vec<Request>) {
        self.tables.update(snapshot);
        if !snapshot.ended.is_empty() {
            self.tables.vcpus.end_all_of(&snapshot.ended_vcpus());
            self.tables.vms.end_all_of(&snapshot.ended_vms());
        }
        let mut planner = Planner::new(&mut self.plan, self.metrics_limit);
        walk(&self.metrics, &self.tables, &self.selection, snapshot, &mut planner);
        planner.finish();
        let mut writer = Writer::new(&self.envelope, &self.plan, &mut self.buffer, out);
        walk(&self.metrics, &self.tables, &self.selection, snapshot, &mut writer);
    }
}

/// Hands all points over, metric by metric.
fn walk<'a>(
    metrics: &'a [Metric],
    tables: &'a Tables,
    selection: &Selection,
    snapshot: &'a Snapshot,
    sink: &mut impl Sink<'a>,
) {
    for (n, metric) in metrics.iter().enumerate() {
        if selection.has(&metric.family) {
            tables.walk(n, metric, snapshot, sink);
        }
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

/// Points that a snapshot's values make, without those that end series; for counting what was never encoded.
pub(crate) fn points_of(snapshot: &Snapshot, selection: &Selection) -> u64 {
    let mut count = Count { snapshot, selection, points: 0 };
    for_each_entity(&mut count);
    count.points
}

struct Count<'a> {
    snapshot: &'a Snapshot,
    selection: &'a Selection,
    points: u64,
}

impl ForEachEntity for Count<'_> {
    fn entity<E: Entity>(&mut self) {
        let (mut sent, mut first) = (0_u64, 0);
        for series in E::SERIES {
            let is_sent = self.selection.has(&series.family);
            for place in first..first + series.places() {
                sent |= u64::from(is_sent) << place;
            }
            first += series.places();
        }
        let mut values = vec![0; first];
        for (_, data) in E::each(self.snapshot).filter(|(_, data)| E::is_new(data)) {
            self.points += u64::from((visit(E::SERIES, data, &mut values) & sent).count_ones());
        }
    }
}

/// Seconds as receivers want them. Not rounded: dividing by 1e9 gives the double nearest to the quotient.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Names(Vec<&'static str>);

    impl ForEachEntity for Names {
        fn entity<E: Entity>(&mut self) {
            self.0.push(std::any::type_name::<E>());
        }
    }

    /// A table that is missing would leave the entity's metrics out, and one in another place would change
    /// their order.
    #[test]
    fn each_entity_has_its_table() {
        let (mut all, mut tables) = (Names::default(), Names::default());
        for_each_entity(&mut all);
        Tables::for_each_entity(&mut tables);
        assert_eq!(tables.0, all.0);
    }
}
