//! A point of a metric, as both sides of the comparison have it.

use std::collections::BTreeMap;
use std::fmt;

/// An attribute's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attribute {
    Text(String),
    Int(i64),
}

impl fmt::Display for Attribute {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(out, "{text:?}"),
            Self::Int(number) => number.fmt(out),
        }
    }
}

/// Attributes by their names.
pub(super) type Attributes = BTreeMap<String, Attribute>;

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Gauge,
    /// The temporality as in OTLP: 1 is delta, 2 cumulative.
    Sum {
        temporality: u8,
        monotonic: bool,
    },
    /// An exponential histogram.
    Distribution {
        temporality: u8,
        scale: i32,
    },
}

impl Kind {
    /// Cumulative, and never falling.
    pub(super) const COUNTER: Self = Self::Sum { temporality: 2, monotonic: true };
    /// Cumulative, rising and falling.
    pub(super) const LEVEL: Self = Self::Sum { temporality: 2, monotonic: false };
    /// Cumulative, with buckets that are powers of two.
    pub(super) const DISTRIBUTION: Self = Self::Distribution { temporality: 2, scale: 0 };
}

/// What distinguishes a series from all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Series {
    pub(super) metric: String,
    pub(super) attributes: Attributes,
    pub(super) unit: String,
    pub(super) kind: Kind,
}

impl Series {
    /// An attribute's text, where it has one.
    pub(super) fn text(&self, attribute: &str) -> Option<&str> {
        match self.attributes.get(attribute)? {
            Attribute::Text(text) => Some(text),
            Attribute::Int(_) => None,
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}, {:?})", self.metric, self.unit, self.kind)?;
        self.attributes.iter().try_for_each(|(name, value)| write!(out, " {name}={value}"))
    }
}

/// A point's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PointValue {
    Double(f64),
    Int(i64),
    Distribution(Distribution),
    /// None: flag `NO_RECORDED_VALUE`, the series ends.
    Ended,
}

/// Durations by powers of two of seconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Distribution {
    pub(super) count: u64,
    /// Seconds.
    pub(super) sum: f64,
    /// Those up to `zero_threshold` seconds.
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    /// The others, by index; none that is empty.
    pub(super) buckets: BTreeMap<i32, u64>,
}

/// A point. A time of 0 is one that is not set.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) series: Series,
    pub(super) at_unix_ns: u64,
    pub(super) start_unix_ns: u64,
    pub(super) value: PointValue,
}

impl Point {
    pub(super) const fn is_end(&self) -> bool {
        matches!(self.value, PointValue::Ended)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { series, at_unix_ns, start_unix_ns, value } = self;
        write!(out, "{series} at {at_unix_ns} from {start_unix_ns}: {value:?}")
    }
}
