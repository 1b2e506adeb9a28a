//! `Metric` messages: all of them but their points, encoded once.

use super::wire::{self, AnyValue};
use crate::model::catalog::{Family, Instrument, Series};

/// Which message the points of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Number,
    Histogram,
}

impl Shape {
    /// Both, by discriminant.
    pub(super) const ALL: [Self; 2] = [Self::Number, Self::Histogram];

    /// Field that holds a point's attributes.
    pub(super) const fn attributes_field(self) -> u8 {
        match self {
            Self::Number => 7,
            Self::Histogram => 1,
        }
    }

    /// Field that holds a point's flags.
    pub(super) const fn flags_field(self) -> u8 {
        match self {
            Self::Number => 8,
            Self::Histogram => 10,
        }
    }
}

/// Everything of a `Metric` message but its points.
pub(super) struct Metric {
    /// The family in the catalog.
    pub(super) family: Family,
    /// Name, description and unit, encoded.
    pub(super) head: Box<[u8]>,
    /// The points' message.
    pub(super) shape: Shape,
    /// Field of `Metric` that holds the points: `gauge`, `sum` or `exponential_histogram`.
    pub(super) data_field: u8,
    /// What follows the points inside that field, encoded.
    pub(super) tail: &'static [u8],
}

impl Metric {
    /// The metric that these series are points of. What its labels stand for is said in its description.
    pub(super) fn of<D>(series: &Series<D>) -> Self {
        const GAUGE: u8 = 5;
        const SUM: u8 = 7;
        const EXPONENTIAL_HISTOGRAM: u8 = 10;
        // Fields 2, aggregation_temporality = CUMULATIVE (2), of both kinds, and 3, is_monotonic, of `Sum`.
        const CUMULATIVE: &[u8] = &[2 << 3, 2];
        const CUMULATIVE_MONOTONIC: &[u8] = &[2 << 3, 2, 3 << 3, 1];
        let Family { name, unit, instrument, .. } = series.family;
        let mut head = Vec::new();
        wire::put_string(&mut head, 1, name);
        wire::put_string(&mut head, 2, &series.description());
        wire::put_string(&mut head, 3, unit.ucum());
        let (shape, data_field, tail): (_, _, &[u8]) = match instrument {
            Instrument::Gauge => (Shape::Number, GAUGE, &[]),
            Instrument::Counter => (Shape::Number, SUM, CUMULATIVE_MONOTONIC),
            Instrument::UpDownCounter => (Shape::Number, SUM, CUMULATIVE),
            Instrument::Histogram => (Shape::Histogram, EXPONENTIAL_HISTOGRAM, CUMULATIVE),
        };
        Self { family: series.family, head: head.into(), shape, data_field, tail }
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

/// The attributes of a place, encoded.
pub(super) fn labels<D>(series: &Series<D>, place: usize, shape: Shape) -> Box<[u8]> {
    let mut bytes = Vec::new();
    for (key, label) in series.labels(place) {
        wire::put_attribute(&mut bytes, shape.attributes_field(), key, AnyValue::String(label.key));
    }
    bytes.into()
}
