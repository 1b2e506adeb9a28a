//! What the sampler counted, by the lines of `hvsampler run --json`, and the points that must come of it.
//!
//! Names, units and kinds are those of the catalog, and so are the attributes that a family has. All values
//! are those of the lines. How points begin, go on and end is written from the documentation and not from the
//! encoder, so that both are not wrong in the same way.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use hvsampler::export::resource::bounded;
use hvsampler::model::Vm;
use hvsampler::model::catalog::{
    Dimension, Entity, Family, ForEachEntity, Instrument, Places, Scope, Start, Unit, Values, VcpuEntity,
    VmEntity, for_each_entity,
};
use serde::Deserialize;
use serde_json::Value;

use super::point::{Attribute, Attributes, Distribution, Kind, Point, PointValue, Series};

/// One line, as far as it is exported.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Snapshot {
    schema: String,
    time_unit: String,
    pub(super) at_unix_ns: u64,
    pub(super) host: Host,
    #[serde(default)]
    starts_unix_ns: BTreeMap<String, u64>,
    metrics: BTreeMap<String, Value>,
    pub(super) vms: Vec<Object>,
    pub(super) ended: Vec<Object>,
    pub(super) sampler: BTreeMap<String, u64>,
    /// When what is read at times of its own was read is among these.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Host {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) kernel: String,
    pub(super) arch: String,
}

/// What has metrics: a VM, a vCPU, and what a VM has several of.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Object {
    attributes: BTreeMap<String, Value>,
    starts_unix_ns: BTreeMap<String, u64>,
    metrics: BTreeMap<String, Value>,
    #[serde(default)]
    vm_gone: bool,
    /// The lists of objects are among these.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

impl Object {
    /// An attribute's text, where it has one.
    pub(super) fn text(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute)?.as_str()
    }

    /// The id of the VM that it is or is of.
    pub(super) fn vm_id(&self) -> Option<&str> {
        self.text("hypervisor.vm.id")
    }

    /// The process that runs a VM.
    pub(super) fn pid(&self) -> Option<u64> {
        self.attributes.get("process.pid")?.as_u64()
    }

    pub(super) fn list(&self, name: &str) -> anyhow::Result<Vec<Self>> {
        let list = self.rest.get(name).with_context(|| format!("{name} is missing in a line"))?;
        Ok(Vec::deserialize(list)?)
    }
}

/// Reads the whole lines of a file that may still grow.
///
/// # Errors
/// When a line is not of the schema.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Snapshot>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse = |line: &str| -> anyhow::Result<Snapshot> {
        let snapshot: Snapshot = serde_json::from_str(line).with_context(|| format!("line {line:?}"))?;
        let Snapshot { schema, time_unit, .. } = &snapshot;
        ensure!(
            schema == "hvsampler.snapshot/1" && time_unit == "ns",
            "schema {schema}, times in {time_unit}"
        );
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
/// When a line has what no row of the catalog says.
pub(super) fn points(snapshots: &[Snapshot], host_start_unix_ns: u64) -> anyhow::Result<Vec<Point>> {
    let mut all = Vec::new();
    let mut before = BTreeMap::new();
    let mut sent = BTreeSet::new();
    for snapshot in snapshots {
        let Snapshot { at_unix_ns, .. } = *snapshot;
        let values = values(snapshot, host_start_unix_ns)?;
        let live: BTreeMap<Series, u64> =
            values.iter().map(|point| (point.series.clone(), point.start_unix_ns)).collect();
        let mut ends = std::mem::replace(&mut before, live);
        for ended in &snapshot.ended {
            ended_series(ended)?.into_iter().for_each(|Point { series, start_unix_ns, .. }| {
                ends.entry(series).or_insert(start_unix_ns);
            });
        }
        ends.retain(|series, _| !before.contains_key(series));
        // What is read at times of its own is in each line, and each reading is sent once.
        all.extend(values.into_iter().filter(|point| sent.insert((point.at_unix_ns, point.series.clone()))));
        all.extend(ends.into_iter().map(|(series, start_unix_ns)| Point {
            series,
            at_unix_ns,
            start_unix_ns,
            value: PointValue::Ended,
        }));
    }
    Ok(all)
}

fn values(snapshot: &Snapshot, host_start_unix_ns: u64) -> anyhow::Result<Vec<Point>> {
    let points = Points { at_unix_ns: snapshot.at_unix_ns, host_start_unix_ns, all: Vec::new() };
    let mut walk = Walk { snapshot, points, result: Ok(()) };
    for_each_entity(&mut walk);
    walk.result?;
    Ok(walk.points.all)
}

/// Makes points of what a line has of each entity.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    points: Points,
    result: anyhow::Result<()>,
}

impl ForEachEntity for Walk<'_> {
    fn entity<E: Entity>(&mut self) {
        if self.result.is_ok() {
            self.result = self.of::<E>();
        }
    }
}

impl Walk<'_> {
    fn of<E: Entity>(&mut self) -> anyhow::Result<()> {
        let Snapshot { metrics, starts_unix_ns, rest, vms, .. } = self.snapshot;
        match E::SCOPE {
            Scope::Host => {
                let host = Object {
                    metrics: metrics.clone(),
                    starts_unix_ns: starts_unix_ns.clone(),
                    rest: rest.clone(),
                    ..Object::default()
                };
                self.points.put_all::<E>(&[&host])
            }
            Scope::Vm => vms.iter().try_for_each(|vm| self.points.put_all::<E>(&[vm])),
            Scope::Part(list) => vms.iter().try_for_each(|vm| {
                vm.list(list)?.iter().try_for_each(|part| self.points.put_all::<E>(&[part, vm]))
            }),
        }
    }
}

/// The series that end with a vCPU.
fn ended_series(ended: &Object) -> anyhow::Result<Vec<Point>> {
    let mut points = Points { at_unix_ns: 0, host_start_unix_ns: 0, all: Vec::new() };
    points.put_all::<VcpuEntity>(&[ended])?;
    if ended.vm_gone {
        let created = *ended.starts_unix_ns.get("created").context("a thread without a start")?;
        points.put_unknown_vm(&attributes(VmEntity::ATTRIBUTES, &[ended])?, created);
    }
    Ok(points.all)
}

/// Points in the making.
struct Points {
    at_unix_ns: u64,
    host_start_unix_ns: u64,
    all: Vec<Point>,
}

impl Points {
    /// The points of an entity's object. What it does not say the objects say in which it is.
    fn put_all<E: Entity>(&mut self, objects: &[&Object]) -> anyhow::Result<()> {
        let attributes = attributes(E::ATTRIBUTES, objects)?;
        let at_unix_ns = match E::OWN_TIME {
            Some(key) => objects[0].rest.get(key).and_then(Value::as_u64).unwrap_or_default(),
            None => self.at_unix_ns,
        };
        let at_unix_ns = std::mem::replace(&mut self.at_unix_ns, at_unix_ns);
        let all = self.put_rows::<E>(objects, &attributes);
        self.at_unix_ns = at_unix_ns;
        all
    }

    fn put_rows<E: Entity>(&mut self, objects: &[&Object], attributes: &Attributes) -> anyhow::Result<()> {
        for row in E::SERIES {
            let Family { name, .. } = row.family;
            let Some(value) = objects[0].metrics.get(name) else { continue };
            let start = |key| objects.iter().find_map(|object| object.starts_unix_ns.get(key).copied());
            let start_unix_ns = match (row.start, row.start.key()) {
                (Start::None, _) => 0,
                (_, Some(key)) => start(key).with_context(|| format!("{name} has no start {key}"))?,
                (_, None) => self.host_start_unix_ns,
            };
            self.put(row.family, row.attributes, attributes.clone(), start_unix_ns, value)
                .with_context(|| format!("{name} is {value}"))?;
        }
        Ok(())
    }

    /// The points below a value: one for each value of the attributes that are left.
    fn put(
        &mut self,
        family: Family,
        left: &[Dimension],
        attributes: Attributes,
        start_unix_ns: u64,
        value: &Value,
    ) -> anyhow::Result<()> {
        let Some((dimension, left)) = left.split_first() else {
            let (at_unix_ns, value) = (self.at_unix_ns, point_value(family, value)?);
            self.all.push(Point { series: series(family, attributes), at_unix_ns, start_unix_ns, value });
            return Ok(());
        };
        let values = value.as_object().context("no object")?;
        values.iter().try_for_each(|(key, value)| {
            let mut attributes = attributes.clone();
            attributes.insert(dimension.key.to_owned(), text(key));
            self.put(family, left, attributes, start_unix_ns, value)
        })
    }

    /// The series that there are of every VM, whatever is known of it.
    fn put_unknown_vm(&mut self, attributes: &Attributes, start_unix_ns: u64) {
        let nothing_known = Vm::default();
        for row in VmEntity::SERIES {
            let present = |place: usize| match row.values {
                Values::Histograms(get) => get(&nothing_known, place).is_some(),
                Values::Numbers(give) => {
                    let mut values = vec![0; row.places()];
                    let mut places = Places::new(&mut values);
                    give(&nothing_known, &mut places);
                    places.present() >> place & 1 == 1
                }
            };
            for place in (0..row.places()).filter(|place| present(*place)) {
                let mut attributes = attributes.clone();
                attributes.extend(row.labels(place).map(|(key, label)| (key.to_owned(), text(label.key))));
                let start_unix_ns = if row.start == Start::None { 0 } else { start_unix_ns };
                let (series, value) = (series(row.family, attributes), PointValue::Ended);
                self.all.push(Point { series, at_unix_ns: self.at_unix_ns, start_unix_ns, value });
            }
        }
    }
}

/// An entity's attributes, each from the first object that has it.
fn attributes(rows: &[(&str, &str)], objects: &[&Object]) -> anyhow::Result<Attributes> {
    let mut attributes = Attributes::new();
    for (key, _) in rows {
        let value = match objects.iter().find_map(|object| object.attributes.get(*key)) {
            Some(Value::String(value)) => text(value),
            Some(value) => Attribute::Int(value.as_i64().with_context(|| format!("{key} is {value}"))?),
            None => continue,
        };
        attributes.insert((*key).to_owned(), value);
    }
    Ok(attributes)
}

fn series(family: Family, attributes: Attributes) -> Series {
    let kind = match family.instrument {
        Instrument::Counter => Kind::COUNTER,
        Instrument::UpDownCounter => Kind::LEVEL,
        Instrument::Gauge => Kind::Gauge,
        Instrument::Histogram => Kind::DISTRIBUTION,
    };
    Series { metric: family.name.to_owned(), attributes, unit: family.unit.ucum().to_owned(), kind }
}

fn point_value(family: Family, value: &Value) -> anyhow::Result<PointValue> {
    let number = || value.as_u64().context("no number");
    Ok(match (family.instrument, family.unit) {
        (Instrument::Histogram, _) => distribution(&Histogram::deserialize(value)?),
        (_, Unit::Seconds) => PointValue::Double(number()? as f64 / 1e9),
        (_, Unit::Count(_) | Unit::Bytes) => PointValue::Int(i64::try_from(number()?).unwrap_or(i64::MAX)),
    })
}

#[derive(Debug, Deserialize)]
struct Histogram {
    count: u64,
    sum_ns: u64,
    zero_count: u64,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Deserialize)]
struct Bucket {
    index: i32,
    count: u64,
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

fn text(value: &str) -> Attribute {
    Attribute::Text(bounded(value).to_owned())
}
