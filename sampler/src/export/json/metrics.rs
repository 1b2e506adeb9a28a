//! The metrics of an object, by a walk over the catalog, and what an interval added to them.
//!
//! Nothing is kept for the latter: the rows give the values of two snapshots, and the difference is written.

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::model::{
    Histogram, Vm,
    catalog::{Attribute, Dimension, Entity, Places, Series, Start, Values},
    distribution,
};

/// Most places of a series.
const MOST: usize = u64::BITS as usize;

/// What an entity had when an interval began.
pub(super) enum Before<'a, D> {
    /// The values of this.
    Had(&'a D),
    /// Nothing was counted: all of its values are the interval's.
    Nothing,
}

impl<D> Clone for Before<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D> Copy for Before<'_, D> {}

/// The attributes of an entity, but for those that the object has in which it is.
pub(super) fn put_attributes<E: Entity, M: SerializeMap>(
    map: &mut M,
    vm: Option<&Vm>,
    data: &E::Data,
    known: &[(&str, &str)],
) -> Result<(), M::Error> {
    let mut result = Ok(());
    E::attributes(vm, data, &mut |key, value| {
        if result.is_err() || known.iter().any(|(known, _)| *known == key) {
            return;
        }
        result = match value {
            Attribute::Text(text) => map.serialize_entry(key, text),
            Attribute::Number(number) => map.serialize_entry(key, &number),
        };
    });
    result
}

/// The starts of an entity's values, but for those that the object has in which it is.
pub(super) fn put_starts<E: Entity, M: SerializeMap>(
    map: &mut M,
    vm: Option<&Vm>,
    data: &E::Data,
    known: impl Fn(Start) -> u64,
) -> Result<(), M::Error> {
    for start in Start::ALL {
        let is_used = E::SERIES.iter().chain(E::DETAILS).any(|series| series.start == start);
        let at_unix_ns = E::start(vm, data, start);
        if let Some(key) = start.key().filter(|_| is_used && at_unix_ns != known(start)) {
            map.serialize_entry(key, &at_unix_ns)?;
        }
    }
    Ok(())
}

/// Values of an entity.
pub(super) fn put_values<D, M: SerializeMap>(
    map: &mut M,
    tables: [&[Series<D>]; 2],
    data: &D,
) -> Result<(), M::Error> {
    for series in tables.into_iter().flatten() {
        match series.values {
            Values::Numbers(give) => {
                let (values, present) = numbers(series, give, data);
                put(map, series, present, &|place| Value::Number(values[place]))?;
            }
            Values::Histograms(get) => {
                let present = bits(series, |place| get(data, place).is_some());
                put(map, series, present, &|place| histogram(get(data, place), None))?;
            }
        }
    }
    Ok(())
}

/// What was added to values of an entity that never fall. A value that was not known before is left out,
/// unless it is the sampler that counts: then nothing had been counted.
pub(super) fn put_added<D, M: SerializeMap>(
    map: &mut M,
    tables: [&[Series<D>]; 2],
    data: &D,
    before: Before<'_, D>,
    is_known: impl Fn(Start) -> bool,
) -> Result<(), M::Error> {
    let is_written = |series: &&Series<D>| series.family.instrument.is_monotonic() && is_known(series.start);
    for series in tables.into_iter().flatten().filter(is_written) {
        let knows_all = series.start.is_of_sampler() || matches!(before, Before::Nothing);
        match series.values {
            Values::Numbers(give) => {
                let (values, mut present) = numbers(series, give, data);
                let (earlier, known) = match before {
                    Before::Had(before) => numbers(series, give, before),
                    Before::Nothing => ([0; MOST], 0),
                };
                present &= if knows_all { u64::MAX } else { known };
                let added = |place: usize| values[place].saturating_sub(earlier[place]);
                put(map, series, present, &|place| Value::Number(added(place)))?;
            }
            Values::Histograms(get) => {
                let earlier = |place| match before {
                    Before::Had(before) => get(before, place),
                    Before::Nothing => None,
                };
                let present = bits(series, |place| {
                    get(data, place).is_some() && (knows_all || earlier(place).is_some())
                });
                put(map, series, present, &|place| histogram(get(data, place), earlier(place)))?;
            }
        }
    }
    Ok(())
}

/// All numbers of a series, 0 where there is none, and at which places there are some.
fn numbers<D>(series: &Series<D>, give: fn(&D, &mut Places<'_>), data: &D) -> ([u64; MOST], u64) {
    let mut values = [0; MOST];
    let mut to = Places::new(&mut values[..series.places()]);
    give(data, &mut to);
    let present = to.present();
    (values, present)
}

fn bits<D>(series: &Series<D>, is_set: impl Fn(usize) -> bool) -> u64 {
    (0..series.places()).fold(0, |bits, place| bits | u64::from(is_set(place)) << place)
}

fn histogram(now: Option<&Histogram>, before: Option<&Histogram>) -> Value {
    let now = now.copied().unwrap_or_default();
    Value::Histogram(HistogramJson::of(&before.map_or(now, |before| distribution::since(&now, before))))
}

fn put<D, M: SerializeMap>(
    map: &mut M,
    series: &Series<D>,
    present: u64,
    value: &dyn Fn(usize) -> Value,
) -> Result<(), M::Error> {
    if present == 0 {
        return Ok(());
    }
    map.serialize_entry(series.family.name, &Tree { attributes: series.attributes, first: 0, present, value })
}

/// Values by the attributes that they have beside the entity's own: an object for each, one in the other.
struct Tree<'a> {
    attributes: &'a [Dimension],
    first: usize,
    present: u64,
    value: &'a dyn Fn(usize) -> Value,
}

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((outer, attributes)) = self.attributes.split_first() else {
            return (self.value)(self.first).serialize(serializer);
        };
        let width: usize = attributes.iter().map(|inner| inner.values.len()).product();
        let mut map = serializer.serialize_map(None)?;
        for (n, label) in outer.values.iter().enumerate() {
            let first = self.first + n * width;
            if (first..first + width).any(|place| self.present >> place & 1 != 0) {
                map.serialize_entry(label.key, &Tree { attributes, first, ..*self })?;
            }
        }
        map.end()
    }
}

enum Value {
    Number(u64),
    Histogram(HistogramJson),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Histogram(histogram) => histogram.serialize(serializer),
        }
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
