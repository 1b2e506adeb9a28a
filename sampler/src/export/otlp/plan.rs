//! What goes into which request, and how long every message is, found before the first byte is written:
//! protobuf puts lengths in front.

use super::{
    histogram::Distribution,
    metric::Metric,
    wire::{self, FIXED64_FIELD},
};

/// A value of a point.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Double(f64),
    Int(i64),
    Distribution(Distribution<'a>),
    /// The series ends: flag `NO_RECORDED_VALUE`.
    Ended,
}

/// One `NumberDataPoint` or `ExponentialHistogramDataPoint`; a zero time is an unset one.
#[derive(Clone, Copy)]
pub(super) struct Point<'a> {
    /// Encoded attributes, to be written one after the other.
    pub(super) attributes: [&'a [u8]; 2],
    pub(super) start_unix_ns: u64,
    pub(super) at_unix_ns: u64,
    pub(super) value: Value<'a>,
}

impl Point<'_> {
    /// Bytes of the message, without its tag and length.
    pub(super) const fn len(&self) -> usize {
        const FLAGS_FIELD: usize = 2;
        let times = (self.start_unix_ns != 0) as usize + (self.at_unix_ns != 0) as usize;
        let value = match self.value {
            Value::Double(_) | Value::Int(_) => FIXED64_FIELD,
            Value::Distribution(distribution) => distribution.len(),
            Value::Ended => FLAGS_FIELD,
        };
        let [first, second] = self.attributes;
        times * FIXED64_FIELD + first.len() + second.len() + value
    }
}

/// More than the tags and lengths of a `Metric` and of the field with its points.
const NESTING: usize = 24;

/// Takes the points of a snapshot, in an order that is the same each time.
pub(super) trait Sink<'a> {
    fn point(&mut self, metric: &'a Metric, point: Point<'_>);
}

/// Points of one metric in one request.
#[derive(Clone, Copy, Default)]
pub(super) struct Segment {
    /// Points.
    pub(super) points: usize,
    /// Their bytes, tags and lengths included.
    pub(super) bytes: usize,
}

/// One request.
#[derive(Clone, Copy, Default)]
pub(super) struct Planned {
    /// Segments.
    pub(super) segments: usize,
    /// Bytes of their `Metric` messages, tags and lengths included.
    pub(super) metrics_len: usize,
    /// Points.
    pub(super) points: u64,
    /// Of these, points that end a series.
    pub(super) ends: u64,
}

/// The plan; its memory is used again for the next snapshot.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) segments: Vec<Segment>,
    pub(super) requests: Vec<Planned>,
}

/// Makes the plan.
pub(super) struct Planner<'a, 'p> {
    plan: &'p mut Plan,
    /// Bytes that the metrics of one request may have.
    limit: usize,
    metric: Option<&'a Metric>,
    segment: Segment,
    request: Planned,
}

impl<'p> Planner<'_, 'p> {
    pub(super) fn new(plan: &'p mut Plan, limit: usize) -> Self {
        plan.segments.clear();
        plan.requests.clear();
        Self { plan, limit, metric: None, segment: Segment::default(), request: Planned::default() }
    }

    pub(super) fn finish(mut self) {
        self.close_request();
    }

    fn close_segment(&mut self) {
        let Some(metric) = self.metric.take() else { return };
        let segment = std::mem::take(&mut self.segment);
        self.request.segments += 1;
        self.request.metrics_len += wire::delimited_len(metric.metric_len(segment.bytes));
        self.plan.segments.push(segment);
    }

    fn close_request(&mut self) {
        self.close_segment();
        if self.request.points > 0 {
            self.plan.requests.push(std::mem::take(&mut self.request));
        }
    }
}

impl<'a> Sink<'a> for Planner<'a, '_> {
    #[inline]
    fn point(&mut self, metric: &'a Metric, point: Point<'_>) {
        if !self.metric.is_some_and(|current| std::ptr::eq(current, metric)) {
            self.close_segment();
        }
        let bytes = wire::delimited_len(point.len());
        // An upper bound is cheaper than the exact length, and all that a limit needs.
        let len = metric.head.len() + metric.tail.len() + self.segment.bytes + bytes + NESTING;
        if self.request.points > 0 && self.request.metrics_len + len > self.limit {
            self.close_request();
        }
        self.metric = Some(metric);
        self.segment.points += 1;
        self.segment.bytes += bytes;
        self.request.points += 1;
        self.request.ends += u64::from(matches!(point.value, Value::Ended));
    }
}
