//! What the collector received, by the lines of OTLP/JSON that its file exporter writes.
//!
//! Every object is closed: a field that is not expected is an error, for it is something that the sampler did
//! not count.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::point::{Attribute, Attributes, Distribution, Kind, Point, PointValue, Series};

/// What one scope of one export said, in the order of the file.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) resource: Attributes,
    pub(super) scope: String,
    pub(super) version: String,
    pub(super) schema_url: String,
    pub(super) points: Vec<Point>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Export {
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ResourceMetrics {
    resource: Resource,
    scope_metrics: Vec<ScopeMetrics>,
    #[serde(default)]
    schema_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    #[serde(default)]
    attributes: Vec<KeyValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ScopeMetrics {
    scope: Scope,
    metrics: Vec<Metric>,
    #[serde(default)]
    schema_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
    name: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metric {
    name: String,
    #[serde(rename = "description")]
    _description: String,
    #[serde(default)]
    unit: String,
    sum: Option<Sum>,
    gauge: Option<Gauge>,
    #[serde(rename = "exponentialHistogram")]
    exponential_histogram: Option<ExponentialHistogram>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sum {
    data_points: Vec<NumberDataPoint>,
    aggregation_temporality: u8,
    #[serde(default)]
    is_monotonic: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Gauge {
    data_points: Vec<NumberDataPoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NumberDataPoint {
    #[serde(default)]
    attributes: Vec<KeyValue>,
    #[serde(default, deserialize_with = "quoted")]
    start_time_unix_nano: u64,
    #[serde(default, deserialize_with = "quoted")]
    time_unix_nano: u64,
    as_int: Option<String>,
    as_double: Option<f64>,
    #[serde(default)]
    flags: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExponentialHistogram {
    data_points: Vec<ExponentialHistogramDataPoint>,
    aggregation_temporality: u8,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExponentialHistogramDataPoint {
    #[serde(default)]
    attributes: Vec<KeyValue>,
    #[serde(default, deserialize_with = "quoted")]
    start_time_unix_nano: u64,
    #[serde(default, deserialize_with = "quoted")]
    time_unix_nano: u64,
    #[serde(default, deserialize_with = "quoted")]
    count: u64,
    sum: Option<f64>,
    #[serde(default)]
    scale: i32,
    #[serde(default, deserialize_with = "quoted")]
    zero_count: u64,
    #[serde(default)]
    positive: Buckets,
    #[serde(default)]
    negative: Buckets,
    #[serde(default)]
    zero_threshold: f64,
    #[serde(default)]
    flags: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Buckets {
    #[serde(default)]
    offset: i32,
    #[serde(default)]
    bucket_counts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyValue {
    key: String,
    value: AnyValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum AnyValue {
    StringValue(String),
    #[serde(deserialize_with = "quoted")]
    IntValue(i64),
}

/// 64-bit integers are strings in OTLP/JSON.
fn quoted<'de, D: Deserializer<'de>, T: FromStr<Err: Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Reads the whole lines of a file that may still grow.
///
/// # Errors
/// When a line is not what the sampler may have sent.
pub(super) fn read(text: &str) -> anyhow::Result<Vec<Batch>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut batches = Vec::new();
    for (number, line) in whole.lines().enumerate() {
        let place = || format!("line {} of the collector's file", number + 1);
        let export: Export = serde_json::from_str(line).with_context(place)?;
        for resource in export.resource_metrics {
            batches.append(&mut resource_batches(resource).with_context(place)?);
        }
    }
    Ok(batches)
}

fn resource_batches(metrics: ResourceMetrics) -> anyhow::Result<Vec<Batch>> {
    let resource = attributes(metrics.resource.attributes)?;
    let batch = |of_scope: ScopeMetrics| {
        ensure!(of_scope.schema_url == metrics.schema_url, "scope and resource are of different schemas");
        let mut points = Vec::new();
        for metric in of_scope.metrics {
            points.append(&mut metric_points(metric)?);
        }
        Ok(Batch {
            resource: resource.clone(),
            scope: of_scope.scope.name,
            version: of_scope.scope.version,
            schema_url: of_scope.schema_url,
            points,
        })
    };
    metrics.scope_metrics.into_iter().map(batch).collect()
}

fn metric_points(metric: Metric) -> anyhow::Result<Vec<Point>> {
    let Metric { name, unit, sum, gauge, exponential_histogram, .. } = metric;
    let numbers = |points: Vec<NumberDataPoint>, kind| {
        let point = |point: NumberDataPoint| -> anyhow::Result<Point> {
            let value = value(&point).with_context(|| name.clone())?;
            let series = series(&name, &unit, kind, point.attributes)?;
            let (at_unix_ns, start_unix_ns) = (point.time_unix_nano, point.start_time_unix_nano);
            Ok(Point { series, at_unix_ns, start_unix_ns, value })
        };
        points.into_iter().map(point).collect()
    };
    match (sum, gauge, exponential_histogram) {
        (Some(sum), None, None) => {
            let kind = Kind::Sum { temporality: sum.aggregation_temporality, monotonic: sum.is_monotonic };
            numbers(sum.data_points, kind)
        }
        (None, Some(gauge), None) => numbers(gauge.data_points, Kind::Gauge),
        (None, None, Some(histogram)) => {
            let temporality = histogram.aggregation_temporality;
            let point = |point: ExponentialHistogramDataPoint| -> anyhow::Result<Point> {
                // A point without a value has none to take its scale from.
                let scale = if point.flags == 0 { point.scale } else { 0 };
                let value = distribution(&point).with_context(|| name.clone())?;
                let series =
                    series(&name, &unit, Kind::Distribution { temporality, scale }, point.attributes)?;
                let (at_unix_ns, start_unix_ns) = (point.time_unix_nano, point.start_time_unix_nano);
                Ok(Point { series, at_unix_ns, start_unix_ns, value })
            };
            histogram.data_points.into_iter().map(point).collect()
        }
        _ => bail!("{name} is neither a sum nor a gauge nor an exponential histogram"),
    }
}

fn series(metric: &str, unit: &str, kind: Kind, list: Vec<KeyValue>) -> anyhow::Result<Series> {
    Ok(Series { metric: metric.to_owned(), attributes: attributes(list)?, unit: unit.to_owned(), kind })
}

fn distribution(point: &ExponentialHistogramDataPoint) -> anyhow::Result<PointValue> {
    let Buckets { offset, bucket_counts } = &point.positive;
    ensure!(point.negative.bucket_counts.is_empty(), "a duration below zero");
    if point.flags == 1 {
        ensure!(point.count == 0 && point.sum.is_none() && bucket_counts.is_empty(), "an end with a value");
        return Ok(PointValue::Ended);
    }
    ensure!(point.flags == 0, "flags {}", point.flags);
    let mut buckets = std::collections::BTreeMap::new();
    for (index, count) in (*offset..).zip(bucket_counts) {
        let count: u64 = count.parse()?;
        if count > 0 {
            buckets.insert(index, count);
        }
    }
    Ok(PointValue::Distribution(Distribution {
        count: point.count,
        sum: point.sum.context("no sum")?,
        zero_count: point.zero_count,
        zero_threshold: point.zero_threshold,
        buckets,
    }))
}

fn value(point: &NumberDataPoint) -> anyhow::Result<PointValue> {
    Ok(match (point.flags, &point.as_int, point.as_double) {
        (0, Some(int), None) => PointValue::Int(int.parse()?),
        (0, None, Some(double)) => PointValue::Double(double),
        (1, None, None) => PointValue::Ended,
        (flags, int, double) => bail!("a point with flags {flags}, integer {int:?} and double {double:?}"),
    })
}

fn attributes(list: Vec<KeyValue>) -> anyhow::Result<Attributes> {
    let mut attributes = Attributes::new();
    for KeyValue { key, value } in list {
        let value = match value {
            AnyValue::StringValue(text) => Attribute::Text(text),
            AnyValue::IntValue(number) => Attribute::Int(number),
        };
        ensure!(attributes.insert(key.clone(), value).is_none(), "attribute {key} twice");
    }
    Ok(attributes)
}
