//! The series of one kind of entity: their attributes, starts, last values, and ends.
//!
//! Entities that a snapshot has in the place that they had before get their new values, and nothing is
//! allocated. Where one came, went or moved the table is made anew. A series ends when its attributes are
//! missing and were there before, so a snapshot that never reached the encoder leaves no series open.

use std::{collections::HashMap, ops::Range, sync::Arc};

use super::{
    histogram::Distribution,
    metric::{Metric, Shape, labels},
    plan::{Point, Sink, Value},
    seconds,
    wire::{AnyValue, put_attribute},
};
use crate::{
    export::{resource::bounded, settings::VmAttributes},
    model::{
        Fact, Facts, Histogram, Snapshot, Vm,
        catalog::{Attribute, Entity, Places, Series, Start, Unit, Values},
    },
};

/// One of the entity's series, with what is encoded of it.
struct Column {
    /// Its number among the metrics.
    metric: usize,
    shape: Shape,
    start: Start,
    in_seconds: bool,
    /// Its first place among those of the entity.
    first: usize,
    /// Attributes of each place.
    labels: Vec<Box<[u8]>>,
}

impl Column {
    /// The places of this column alone.
    const fn of(&self, present: u64) -> u64 {
        let all = if self.labels.len() == 64 { u64::MAX } else { (1 << self.labels.len()) - 1 };
        (present >> self.first) & all
    }
}

/// An entity that is exported.
struct Stream<K> {
    key: K,
    /// What was known of its VM, where attributes come from that.
    facts: Option<Arc<Facts>>,
    identity: Identity,
    present: u64,
    /// When it was read, Unix time in ns; absent where that is when the snapshot was taken.
    read_unix_ns: Option<u64>,
    /// Its values are sent.
    is_new: bool,
}

/// What an entity's series have in common.
#[derive(Clone)]
struct Identity {
    /// Where its attributes are, by [`Shape`].
    attributes: [Range<usize>; 2],
    /// By [`Start`].
    starts: [u64; Start::COUNT],
}

/// Series that end.
struct End {
    /// Their entity's attributes, by [`Shape`].
    attributes: [Box<[u8]>; 2],
    starts: [u64; Start::COUNT],
    present: u64,
}

/// Series that end unless they go on.
struct Ending<'a> {
    /// Their entity's attributes, by [`Shape`].
    attributes: [&'a [u8]; 2],
    starts: [u64; Start::COUNT],
    present: u64,
}

/// The series of all entities of a kind.
pub(super) struct Table<E: Entity> {
    columns: Vec<Column>,
    /// Places of an entity.
    width: usize,
    /// When the sampler began, Unix time in ns.
    began_unix_ns: u64,
    streams: Vec<Stream<E::Key>>,
    /// Numbers of all places of all entities.
    values: Vec<u64>,
    /// Attributes of all entities, one after the other.
    attributes: Vec<u8>,
    ends: Vec<End>,
    /// What entities have of their VM beside their own attributes.
    added: VmAttributes,
}

impl<E: Entity> Table<E> {
    /// An empty table. Metrics that are new are added to `metrics`.
    pub(super) fn new(metrics: &mut Vec<Metric>, began_unix_ns: u64) -> Self {
        let mut width = 0;
        let columns = E::SERIES.iter().map(|series| {
            let known = metrics.iter().position(|metric| metric.family.name == series.family.name);
            let metric = known.unwrap_or_else(|| {
                metrics.push(Metric::of(series));
                metrics.len() - 1
            });
            let first = width;
            width += series.places();
            let shape = metrics[metric].shape;
            Column {
                metric,
                shape,
                start: series.start,
                in_seconds: series.family.unit == Unit::Seconds,
                first,
                labels: (0..series.places()).map(|place| labels(series, place, shape)).collect(),
            }
        });
        let columns = columns.collect();
        Self {
            columns,
            width,
            began_unix_ns,
            streams: Vec::new(),
            values: Vec::new(),
            attributes: Vec::new(),
            ends: Vec::new(),
            added: VmAttributes::default(),
        }
    }

    /// Entities have this of their VM as attributes, but those that have it already.
    pub(super) fn add(&mut self, attributes: &VmAttributes) {
        let has = |fact: &Fact| E::ATTRIBUTES.iter().any(|(key, _)| *key == fact.row().attribute);
        // What has all facts has the labels.
        let labels = attributes.labels && !has(&Fact::Platform);
        let facts = attributes.facts.iter().filter(|fact| !has(fact)).copied().collect();
        self.added = VmAttributes { facts, labels };
    }

    /// Brings the table in line with a snapshot.
    pub(super) fn update(&mut self, snapshot: &Snapshot) {
        self.ends.clear();
        if !self.refresh(snapshot) {
            self.rebuild(snapshot);
        }
    }

    /// Gives the same entities in the same places their new values. False where anything else changed.
    fn refresh(&mut self, snapshot: &Snapshot) -> bool {
        let mut at = 0;
        for (vm, data) in E::each(snapshot) {
            let Some(stream) = self.streams.get_mut(at) else { return false };
            if !E::has_key(vm, data, &stream.key) || !is_as_known(&self.added, vm, stream.facts.as_ref()) {
                return false;
            }
            let values = &mut self.values[at * self.width..(at + 1) * self.width];
            let present = visit(E::SERIES, data, values);
            if stream.present & !present != 0 {
                return false;
            }
            stream.present = present;
            (stream.read_unix_ns, stream.is_new) = (E::read_unix_ns(data), E::is_new(data));
            stream.identity.starts = starts::<E>(vm, data, self.began_unix_ns);
            at += 1;
        }
        at == self.streams.len()
    }

    fn rebuild(&mut self, snapshot: &Snapshot) {
        let attributes = std::mem::take(&mut self.attributes);
        let before = std::mem::take(&mut self.streams);
        self.values.clear();
        for (vm, data) in E::each(snapshot) {
            let from = self.values.len();
            self.values.resize(from + self.width, 0);
            let present = visit(E::SERIES, data, &mut self.values[from..]);
            let identity = Identity {
                attributes: Shape::ALL.map(|shape| {
                    let from = self.attributes.len();
                    put_attributes::<E>(vm, data, &self.added, shape, &mut self.attributes);
                    from..self.attributes.len()
                }),
                starts: starts::<E>(vm, data, self.began_unix_ns),
            };
            let facts = vm.filter(|_| self.added != VmAttributes::default()).map(|vm| vm.facts.clone());
            let (read_unix_ns, is_new) = (E::read_unix_ns(data), E::is_new(data));
            self.streams.push(Stream {
                key: E::key(vm, data),
                facts,
                identity,
                present,
                read_unix_ns,
                is_new,
            });
        }
        let ends: Vec<_> = before
            .iter()
            .map(|stream| Ending {
                attributes: stream.identity.attributes.clone().map(|range| &attributes[range]),
                starts: stream.identity.starts,
                present: stream.present,
            })
            .collect();
        self.end(&ends);
    }

    /// Ends what another snapshot has, whether it was exported or not.
    pub(super) fn end_all_of(&mut self, named: &Snapshot) {
        let mut values = vec![0; self.width];
        let encoded = E::each(named).map(|(vm, data)| {
            Shape::ALL.map(|shape| {
                let mut bytes = Vec::new();
                put_attributes::<E>(vm, data, &self.added, shape, &mut bytes);
                bytes
            })
        });
        let encoded: Vec<_> = encoded.collect();
        let ends = E::each(named).zip(&encoded).map(|((vm, data), attributes)| Ending {
            attributes: attributes.each_ref().map(Vec::as_slice),
            starts: starts::<E>(vm, data, self.began_unix_ns),
            present: visit(E::SERIES, data, &mut values),
        });
        let ends: Vec<_> = ends.collect();
        self.end(&ends);
    }

    /// Ends these series, once each and only where they do not go on: another entity may have taken the
    /// attributes over, and its start says so.
    fn end(&mut self, ends: &[Ending<'_>]) {
        if ends.is_empty() {
            return;
        }
        let number = Shape::Number as usize;
        let live = self
            .streams
            .iter()
            .map(|stream| (&self.attributes[stream.identity.attributes[number].clone()], stream.present));
        let ended = self.ends.iter().map(|end| (&*end.attributes[number], end.present));
        let mut settled: HashMap<&[u8], u64> = HashMap::new();
        for (attributes, present) in live.chain(ended) {
            *settled.entry(attributes).or_default() |= present;
        }
        let mut new = Vec::new();
        for end in ends {
            let settled = settled.entry(end.attributes[number]).or_default();
            let present = end.present & !*settled;
            *settled |= end.present;
            // Most go on, so only what does not is copied.
            if present != 0 {
                new.push(End { attributes: end.attributes.map(Into::into), starts: end.starts, present });
            }
        }
        self.ends.extend(new);
    }

    /// Hands all points of a metric over.
    pub(super) fn walk<'a>(
        &'a self,
        number: usize,
        metric: &'a Metric,
        snapshot: &'a Snapshot,
        sink: &mut impl Sink<'a>,
    ) {
        for (column, series) in
            self.columns.iter().zip(E::SERIES).filter(|(column, _)| column.metric == number)
        {
            match series.values {
                Values::Numbers(_) => self.numbers(column, metric, snapshot.at_unix_ns, sink),
                Values::Histograms(get) => self.histograms(column, get, metric, snapshot, sink),
            }
            self.ended(column, metric, snapshot.at_unix_ns, sink);
        }
    }

    fn numbers<'a>(
        &'a self,
        column: &'a Column,
        metric: &'a Metric,
        at_unix_ns: u64,
        sink: &mut impl Sink<'a>,
    ) {
        for (stream, values) in self.streams.iter().zip(self.values.chunks_exact(self.width)) {
            let present = if stream.is_new { column.of(stream.present) } else { 0 };
            let attributes = self.attributes_of(stream, column.shape);
            let start_unix_ns = stream.identity.starts[column.start as usize];
            let at_unix_ns = stream.read_unix_ns.unwrap_or(at_unix_ns);
            for (place, labels) in column.labels.iter().enumerate() {
                if present >> place & 1 == 0 {
                    continue;
                }
                let value = values[column.first + place];
                let value = if column.in_seconds { Value::Double(seconds(value)) } else { int(value) };
                sink.point(
                    metric,
                    Point { attributes: [attributes, labels], start_unix_ns, at_unix_ns, value },
                );
            }
        }
    }

    fn histograms<'a>(
        &'a self,
        column: &'a Column,
        get: fn(&E::Data, usize) -> Option<&Histogram>,
        metric: &'a Metric,
        snapshot: &'a Snapshot,
        sink: &mut impl Sink<'a>,
    ) {
        for (stream, (_, data)) in self.streams.iter().zip(E::each(snapshot)) {
            let attributes = self.attributes_of(stream, column.shape);
            let start_unix_ns = stream.identity.starts[column.start as usize];
            for (place, labels) in column.labels.iter().enumerate() {
                let Some(histogram) = get(data, place) else { continue };
                let value = Value::Distribution(Distribution::new(histogram));
                let at_unix_ns = snapshot.at_unix_ns;
                sink.point(
                    metric,
                    Point { attributes: [attributes, labels], start_unix_ns, at_unix_ns, value },
                );
            }
        }
    }

    fn ended<'a>(
        &'a self,
        column: &'a Column,
        metric: &'a Metric,
        at_unix_ns: u64,
        sink: &mut impl Sink<'a>,
    ) {
        for end in &self.ends {
            let present = column.of(end.present);
            for (place, labels) in column.labels.iter().enumerate() {
                if present >> place & 1 == 0 {
                    continue;
                }
                let attributes: [&[u8]; 2] = [&end.attributes[column.shape as usize], labels];
                let start_unix_ns = end.starts[column.start as usize];
                sink.point(metric, Point { attributes, start_unix_ns, at_unix_ns, value: Value::Ended });
            }
        }
    }

    fn attributes_of(&self, stream: &Stream<E::Key>, shape: Shape) -> &[u8] {
        &self.attributes[stream.identity.attributes[shape as usize].clone()]
    }
}

/// Takes an entity's values, and says which places have one.
pub(super) fn visit<D>(all: &[Series<D>], data: &D, values: &mut [u64]) -> u64 {
    let (mut present, mut first) = (0, 0);
    for series in all {
        let places = series.places();
        present |= match series.values {
            Values::Numbers(give) => {
                let mut to = Places::new(&mut values[first..first + places]);
                give(data, &mut to);
                to.present()
            }
            Values::Histograms(get) => {
                (0..places).fold(0, |present, place| present | u64::from(get(data, place).is_some()) << place)
            }
        } << first;
        first += places;
    }
    present
}

fn starts<E: Entity>(vm: Option<&Vm>, data: &E::Data, began_unix_ns: u64) -> [u64; Start::COUNT] {
    Start::ALL.map(|start| match start {
        Start::None => 0,
        Start::Sampler => began_unix_ns,
        start => E::start(vm, data, start),
    })
}

/// Whether what is added of a VM is as it was; most often that is the very same set of facts.
fn is_as_known(added: &VmAttributes, vm: Option<&Vm>, known: Option<&Arc<Facts>>) -> bool {
    let (Some(vm), Some(known)) = (vm, known) else { return true };
    let has_facts = || added.facts.iter().all(|fact| vm.facts.get(*fact) == known.get(*fact));
    let has_labels = || !added.labels || vm.facts.labels() == known.labels();
    Arc::ptr_eq(&vm.facts, known) || has_facts() && has_labels()
}

fn put_attributes<E: Entity>(
    vm: Option<&Vm>,
    data: &E::Data,
    added: &VmAttributes,
    shape: Shape,
    to: &mut Vec<u8>,
) {
    let mut put = |key: &'static str, value: Attribute<'_>| {
        let value = match value {
            Attribute::Text(text) => AnyValue::String(bounded(text)),
            Attribute::Number(number) => AnyValue::Int(number.into()),
        };
        put_attribute(to, shape.attributes_field(), key, value);
    };
    E::attributes(vm, data, &mut put);
    let Some(facts) = vm.map(|vm| &vm.facts) else { return };
    for fact in &added.facts {
        if let Some(value) = facts.get(*fact) {
            put(fact.row().attribute, Attribute::Text(value));
        }
    }
    for (key, value) in facts.labels().iter().filter(|_| added.labels) {
        put(key, Attribute::Text(value));
    }
}

/// OTLP integers are signed: a count past their end stays there.
fn int(count: u64) -> Value<'static> {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}
