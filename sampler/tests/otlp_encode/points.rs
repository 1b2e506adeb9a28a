//! The points of a metric, whatever their message.

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{ExponentialHistogramDataPoint, Metric, NumberDataPoint, metric::Data},
};
use prost::Message as _;

/// Calls one of two functions that are written alike, with the points of either message.
macro_rules! with_points {
    ($metric:expr, $points:ident => $body:expr) => {
        match $metric.data.as_mut() {
            Some(Data::Sum(sum)) => {
                let $points = &mut sum.data_points;
                $body
            }
            Some(Data::Gauge(gauge)) => {
                let $points = &mut gauge.data_points;
                $body
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                let $points = &mut histogram.data_points;
                $body
            }
            other => panic!("{}: unexpected data {other:?}", $metric.name),
        }
    };
}

/// Points, and how many of them end a series.
pub(crate) fn count(metric: &mut Metric) -> (u64, u64) {
    with_points!(metric, points => {
        (points.len() as u64, points.iter().filter(|point| point.flags == 1).count() as u64)
    })
}

pub(crate) fn is_empty(metric: &mut Metric) -> bool {
    count(metric).0 == 0
}

/// Points have no order among themselves that means anything.
pub(crate) fn sort(metric: &mut Metric) {
    with_points!(metric, points => points.sort_by_cached_key(|point| point.encode_to_vec()));
}

/// Moves the points of another part of the same metric over.
pub(crate) fn append(metric: &mut Metric, other: Metric) {
    match (&mut metric.data, other.data) {
        (Some(Data::Sum(all)), Some(Data::Sum(more))) => all.data_points.extend(more.data_points),
        (Some(Data::Gauge(all)), Some(Data::Gauge(more))) => all.data_points.extend(more.data_points),
        (Some(Data::ExponentialHistogram(all)), Some(Data::ExponentialHistogram(more))) => {
            all.data_points.extend(more.data_points);
        }
        other => panic!("{}: two kinds of data {other:?}", metric.name),
    }
}

/// Attributes and start time of each point.
pub(crate) fn series(metric: &mut Metric) -> Vec<(Vec<KeyValue>, u64)> {
    with_points!(metric, points => {
        points.iter().map(|point| (point.attributes.clone(), point.start_time_unix_nano)).collect()
    })
}

/// Adds a point that ends a series.
pub(crate) fn push_end(metric: &mut Metric, attributes: Vec<KeyValue>, start: u64, at: u64) {
    if let Some(Data::ExponentialHistogram(histogram)) = &mut metric.data {
        histogram.data_points.push(ExponentialHistogramDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: at,
            flags: 1,
            ..ExponentialHistogramDataPoint::default()
        });
        return;
    }
    numbers(metric).push(NumberDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: at,
        flags: 1,
        ..NumberDataPoint::default()
    });
}

/// The points of a sum or gauge.
pub(crate) fn numbers(metric: &mut Metric) -> &mut Vec<NumberDataPoint> {
    match metric.data.as_mut() {
        Some(Data::Sum(sum)) => &mut sum.data_points,
        Some(Data::Gauge(gauge)) => &mut gauge.data_points,
        other => panic!("{}: unexpected data {other:?}", metric.name),
    }
}
