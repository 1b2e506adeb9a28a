//! What the collector took, and what the sampler says there of itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, bail, ensure};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, metric::Data, number_data_point};
use prost::Message as _;

/// Scope of what the sampler says of itself.
const OWN: &str = "hvsampler.self";

/// Counters of the sampler that rise only where something is lost, or is wrong.
const LOSSES: [&str; 14] = [
    "events_lost",
    "slots_exhausted",
    "segments_failed",
    "slots_capped",
    "switches_on_unknown_cpus",
    "recursion_misses",
    "unpaired",
    "questions_refused",
    "helpers_dropped",
    "vcpu_files_dropped",
    "snapshots_failed",
    "sinks_failed",
    "log_lines_dropped",
    "audit.mismatches",
];

/// Why requests are given up that no such collector causes.
const OTHER_REASONS: [&str; 3] = ["too_large", "expired", "shutdown"];

/// All that was answered with success, and how often a request was refused for good.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    /// Requests of data.
    pub(super) requests: u64,
    /// Points in them.
    points: u64,
    /// Requests of data that were refused for good.
    rejected: u64,
    /// The last value of each counter of the sampler's own, by its name and the reason.
    own: BTreeMap<(String, String), u64>,
}

/// The same, shared by all connections.
pub(super) type Seen = Arc<Mutex<Taken>>;

/// A request.
pub(super) struct Received(ExportMetricsServiceRequest);

impl Received {
    pub(super) fn decode(body: &[u8]) -> anyhow::Result<Self> {
        Ok(Self(ExportMetricsServiceRequest::decode(body).context("no metrics")?))
    }

    fn metrics(&self) -> impl Iterator<Item = (&str, &Metric)> {
        let scopes = self.0.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        scopes.flat_map(|scope| {
            let name = scope.scope.as_ref().map_or("", |scope| &*scope.name);
            scope.metrics.iter().map(move |metric| (name, metric))
        })
    }

    fn is_own(&self) -> bool {
        self.metrics().any(|(scope, _)| scope == OWN)
    }
}

impl Taken {
    /// Takes a request in that was answered with success.
    pub(super) fn take(&mut self, received: &Received) {
        if received.is_own() {
            let values = received.metrics().flat_map(|(_, metric)| own_values(metric));
            self.own.extend(values);
        } else {
            self.requests += 1;
            self.points += received.metrics().map(|(_, metric)| points(metric)).sum::<u64>();
        }
    }

    /// Takes one in that was refused for good.
    pub(super) fn reject(&mut self, received: &Received) {
        self.rejected += u64::from(!received.is_own());
    }

    fn own(&self, metric: &str, reason: &str) -> anyhow::Result<u64> {
        let key = (format!("hypervisor.sampler.{metric}"), reason.to_owned());
        match self.own.get(&key) {
            Some(value) => Ok(*value),
            None => bail!("the sampler does not say {metric} {reason}"),
        }
    }

    /// Fails unless the sampler counts all that did not arrive, and lost nothing else. `never_preempted` says
    /// whether programs cannot be preempted on this kernel.
    pub(super) fn nothing_lost(&self, never_preempted: bool) -> anyhow::Result<String> {
        let preempted = if never_preempted { &["preemption_misses"][..] } else { &[] };
        for row in LOSSES.iter().chain(preempted) {
            let count = self.own(row, "")?;
            ensure!(count == 0, "the sampler counts a loss: {row} is {count}");
        }
        let said = (self.own("export.requests", "")?, self.own("export.points", "")?);
        let seen = (self.requests, self.points);
        ensure!(
            said == seen,
            "requests and points that arrived: {said:?} by the sampler, {seen:?} by the collector"
        );
        let dropped = |reason: &str| self.own("export.dropped.requests", reason);
        let (full, refused) = (dropped("queue_full")?, dropped("refused")?);
        // A machine that is busy with other things may keep the encoder from its work.
        let busy = dropped("encoder_busy")?;
        ensure!(
            refused == self.rejected,
            "{refused} requests were refused, the collector says {}",
            self.rejected
        );
        ensure!(
            full > 0 && refused > 0,
            "the queue was never full, or nothing was refused: {full}, {refused}"
        );
        for reason in OTHER_REASONS {
            let others = dropped(reason)?;
            ensure!(others == 0, "{others} requests were given up for the reason {reason}");
        }
        let snapshots = self.own("snapshots", "")?;
        let known = self.requests + full + refused + busy;
        ensure!(snapshots == known, "of {snapshots} snapshots {known} arrived or were counted as lost");
        Ok(format!(
            "of {snapshots} snapshots {} arrived, {full} found no room in the queue, {refused} were refused, \
             {busy} were not encoded in time, and nothing else was lost",
            self.requests
        ))
    }
}

/// Points of a metric.
fn points(metric: &Metric) -> u64 {
    let count = match &metric.data {
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
        None => 0,
    };
    count as u64
}

/// Whole numbers of a metric of the sampler's own.
fn own_values(metric: &Metric) -> Vec<((String, String), u64)> {
    let Some(Data::Sum(sum)) = &metric.data else { return Vec::new() };
    let value = |point: &NumberDataPoint| match point.value {
        Some(number_data_point::Value::AsInt(value)) => u64::try_from(value).ok(),
        _ => None,
    };
    let points = sum.data_points.iter();
    let key = |point: &NumberDataPoint| (metric.name.clone(), reason(&point.attributes));
    points.filter_map(|point| Some((key(point), value(point)?))).collect()
}

/// The attribute `reason`, empty where there is none.
fn reason(attributes: &[KeyValue]) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == "reason");
    match value.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a collector knows that took 7 requests and refused 2, of a sampler that dropped 3.
    fn taken() -> Taken {
        let mut taken = Taken { requests: 7, points: 70, rejected: 2, ..Taken::default() };
        let rows = LOSSES.iter().chain(&["preemption_misses"]).map(|row| (*row, "", 0));
        let dropped = OTHER_REASONS.map(|reason| ("export.dropped.requests", reason, 0));
        let counted = [
            ("export.requests", "", 7),
            ("export.points", "", 70),
            ("export.dropped.requests", "queue_full", 3),
            ("export.dropped.requests", "refused", 2),
            ("export.dropped.requests", "encoder_busy", 0),
            ("snapshots", "", 12),
        ];
        for (row, reason, count) in rows.chain(dropped).chain(counted) {
            taken.set(row, reason, count);
        }
        taken
    }

    impl Taken {
        fn set(&mut self, row: &str, reason: &str, count: u64) {
            self.own.insert((format!("hypervisor.sampler.{row}"), reason.to_owned()), count);
        }
    }

    #[test]
    fn what_adds_up_passes() {
        assert!(taken().nothing_lost(true).is_ok());
    }

    #[test]
    fn what_is_missing_or_does_not_add_up_is_found() {
        for (row, reason, count) in [
            ("events_lost", "", 1),
            ("preemption_misses", "", 1),
            ("export.requests", "", 8),
            ("export.points", "", 69),
            ("export.dropped.requests", "refused", 1),
            ("export.dropped.requests", "queue_full", 0),
            ("export.dropped.requests", "expired", 1),
            ("snapshots", "", 13),
        ] {
            let mut taken = taken();
            taken.set(row, reason, count);
            assert!(taken.nothing_lost(true).is_err(), "{row} {reason} {count}");
        }
        assert!(Taken::default().nothing_lost(true).is_err(), "it says nothing");
    }
}
