//! Writes what was planned.

use bytes::{BufMut as _, BytesMut};

use super::{
    Request,
    metric::{Metric, Shape},
    plan::{Plan, Planned, Point, Segment, Sink, Value},
    wire::{self, FIXED64_FIELD},
};

/// What every request has in common, encoded.
pub(super) struct Envelope {
    /// `resource` of `ResourceMetrics`.
    pub(super) resource: Box<[u8]>,
    /// `scope` of `ScopeMetrics`.
    pub(super) scope: Box<[u8]>,
    /// `schema_url`, the same field in both.
    pub(super) schema_url: Box<[u8]>,
}

impl Envelope {
    const fn scope_metrics_len(&self, metrics_len: usize) -> usize {
        self.scope.len() + metrics_len + self.schema_url.len()
    }

    const fn resource_metrics_len(&self, metrics_len: usize) -> usize {
        self.resource.len() + wire::delimited_len(self.scope_metrics_len(metrics_len)) + self.schema_url.len()
    }

    /// Bytes of a request with `metrics_len` bytes of metrics.
    pub(super) const fn request_len(&self, metrics_len: usize) -> usize {
        wire::delimited_len(self.resource_metrics_len(metrics_len))
    }
}

/// Bytes that a point has at most before its attributes: tag and length, two times, a value.
const MAX_HEAD: usize = 11 + 3 * FIXED64_FIELD;

/// Writes requests into a buffer, following the plan that the same points gave.
pub(super) struct Writer<'e> {
    envelope: &'e Envelope,
    buffer: &'e mut BytesMut,
    out: &'e mut Vec<Request>,
    segments: std::slice::Iter<'e, Segment>,
    requests: std::slice::Iter<'e, Planned>,
    /// Points missing in the current segment.
    points_left: usize,
    /// Segments missing in the current request, the current one included.
    segments_left: usize,
    request: Planned,
}

impl<'e> Writer<'e> {
    pub(super) fn new(
        envelope: &'e Envelope,
        plan: &'e Plan,
        buffer: &'e mut BytesMut,
        out: &'e mut Vec<Request>,
    ) -> Self {
        let bytes = plan.requests.iter().map(|request| envelope.request_len(request.metrics_len)).sum();
        buffer.reserve(bytes);
        Self {
            envelope,
            buffer,
            out,
            segments: plan.segments.iter(),
            requests: plan.requests.iter(),
            points_left: 0,
            segments_left: 0,
            request: Planned::default(),
        }
    }

    fn open_request(&mut self) {
        self.request = self.requests.next().copied().unwrap_or_default();
        self.segments_left = self.request.segments;
        let metrics_len = self.request.metrics_len;
        wire::put_header(self.buffer, 1, self.envelope.resource_metrics_len(metrics_len));
        self.buffer.put_slice(&self.envelope.resource);
        wire::put_header(self.buffer, 2, self.envelope.scope_metrics_len(metrics_len));
        self.buffer.put_slice(&self.envelope.scope);
    }

    fn open_segment(&mut self, metric: &Metric) {
        if self.segments_left == 0 {
            self.open_request();
        }
        let segment = self.segments.next().copied().unwrap_or_default();
        self.points_left = segment.points;
        wire::put_header(self.buffer, 2, metric.metric_len(segment.bytes));
        self.buffer.put_slice(&metric.head);
        wire::put_header(self.buffer, metric.data_field, metric.data_len(segment.bytes));
    }

    fn close_segment(&mut self, metric: &Metric) {
        self.buffer.put_slice(metric.tail);
        self.segments_left -= 1;
        if self.segments_left == 0 {
            self.buffer.put_slice(&self.envelope.schema_url);
            self.buffer.put_slice(&self.envelope.schema_url);
            let body = self.buffer.split().freeze();
            debug_assert_eq!(body.len(), self.envelope.request_len(self.request.metrics_len));
            self.out.push(Request { body, points: self.request.points, ends: self.request.ends });
        }
    }
}

impl<'a> Sink<'a> for Writer<'_> {
    #[inline]
    fn point(&mut self, metric: &'a Metric, point: Point<'_>) {
        if self.points_left == 0 {
            self.open_segment(metric);
        }
        put_point(self.buffer, &point, metric.shape);
        self.points_left -= 1;
        if self.points_left == 0 {
            self.close_segment(metric);
        }
    }
}

/// The part before the attributes is put together on the stack: one copy into the buffer in place of ten.
#[inline]
fn put_point(buffer: &mut BytesMut, point: &Point<'_>, shape: Shape) {
    const NO_RECORDED_VALUE: u64 = 1;
    let mut head = [0; MAX_HEAD];
    let mut rest = &mut head[..];
    wire::put_header(&mut rest, 1, point.len());
    if point.start_unix_ns != 0 {
        wire::put_fixed64(&mut rest, 2, point.start_unix_ns);
    }
    if point.at_unix_ns != 0 {
        wire::put_fixed64(&mut rest, 3, point.at_unix_ns);
    }
    match point.value {
        Value::Double(value) => wire::put_fixed64(&mut rest, 4, value.to_bits()),
        Value::Int(value) => wire::put_fixed64(&mut rest, 6, value as u64),
        Value::Distribution(_) | Value::Ended => {}
    }
    let head_len = MAX_HEAD - rest.len();
    buffer.put_slice(&head[..head_len]);
    for attributes in point.attributes {
        buffer.put_slice(attributes);
    }
    match point.value {
        Value::Distribution(distribution) => distribution.put(buffer),
        Value::Ended => wire::put_varint_field(buffer, shape.flags_field(), NO_RECORDED_VALUE),
        Value::Double(_) | Value::Int(_) => {}
    }
}
