//! The sampler's own telemetry arrives over both protocols, beside the data and with the same resource.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use hvsampler::{
    export::{
        pipeline::PipelineStats,
        selfmetrics::{SelfStats, SelfTelemetry},
    },
    model::{SamplerKind, SamplerStats},
};
use opentelemetry_proto::tonic::{
    common::v1::{KeyValue, any_value},
    metrics::v1::{Metric, number_data_point::Value},
};

use super::{
    BOTH, Data, Duration, ExportSettings, Host, Instant, PATIENCE, Peer, peer, points_of, snapshot, start,
};

fn sorted(mut attributes: Vec<KeyValue>) -> Vec<KeyValue> {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    attributes
}

fn metric<'a>(metrics: &'a [Metric], name: &str) -> &'a Metric {
    metrics.iter().find(|metric| metric.name == name).unwrap_or_else(|| panic!("{name} is missing"))
}

/// The value of a metric without attributes.
fn value(metrics: &[Metric], name: &str) -> f64 {
    match points_of(&mut metric(metrics, name).clone())[0].value {
        Some(Value::AsInt(count)) => count as f64,
        Some(Value::AsDouble(value)) => value,
        None => panic!("{name} has no value"),
    }
}

fn is_monotonic(metrics: &[Metric], name: &str) -> bool {
    match &metric(metrics, name).data {
        Some(Data::Sum(sum)) => {
            assert_eq!(sum.aggregation_temporality, 2, "{name} is cumulative");
            sum.is_monotonic
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn dropped_by_sinks(metrics: &[Metric]) -> Vec<(String, i64)> {
    let points = points_of(&mut metric(metrics, "hypervisor.sampler.sink.dropped").clone()).clone();
    let mut dropped: Vec<_> = points
        .into_iter()
        .map(|point| {
            let sink = point.attributes[0].value.clone().and_then(|value| value.value);
            match (sink, point.value) {
                (Some(any_value::Value::StringValue(sink)), Some(Value::AsInt(count))) => (sink, count),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    dropped.sort_by_key(|(_, count)| *count);
    dropped
}

/// On a single-threaded runtime on purpose: the SDK's thread must not need another.
#[tokio::test]
async fn own_telemetry_arrives_with_the_resource_of_the_data() {
    for protocol in BOTH {
        let peer = Peer::start(protocol, vec![]).await;
        let settings = ExportSettings { service_name: "mine".into(), ..peer.settings() };
        let host = Host { id: Some("h1".into()), name: "node1".into(), ..Host::default() };
        let walks = Arc::new(AtomicU64::new(5));
        let read = {
            let walks = walks.clone();
            move || SelfStats {
                sampler: SamplerStats {
                    walks: walks.load(Ordering::Relaxed),
                    slots_used: 3,
                    lateness_ns: 2_500_000_000,
                    ..SamplerStats::default()
                },
                sinks: vec![("table", 0), ("json", 7)],
                pipeline: PipelineStats {
                    exported_points: 17,
                    send_ns: 1_500_000_000,
                    ..PipelineStats::default()
                },
            }
        };
        let own = SelfTelemetry::start(&settings, &host, Duration::from_millis(50), Box::new(read)).unwrap();
        let own_seen = peer.wait_for(1).await.remove(0);
        let resource = own_seen.message.resource_metrics[0].clone();
        let metrics = &resource.scope_metrics[0].metrics;
        assert_eq!(value(metrics, "hypervisor.sampler.walks"), 5.0);
        assert_eq!(value(metrics, "hypervisor.sampler.slots_used"), 3.0);
        assert_eq!(value(metrics, "hypervisor.sampler.lateness"), 2.5);
        assert_eq!(dropped_by_sinks(metrics), [("table".to_owned(), 0), ("json".to_owned(), 7)]);
        assert_eq!(value(metrics, "hypervisor.sampler.export.points"), 17.0);
        assert_eq!(value(metrics, "hypervisor.sampler.export.send.time"), 1.5);
        assert!(value(metrics, "process.cpu.time") > 0.0 && value(metrics, "process.memory.usage") > 1e6);
        assert!(!is_monotonic(metrics, "hypervisor.sampler.slots_used"));
        let reasons =
            points_of(&mut metric(metrics, "hypervisor.sampler.export.dropped.points").clone()).len();
        assert_eq!(reasons, hvsampler::export::pipeline::DropReason::ALL.len());
        for row in SamplerStats::default().rows() {
            let name = format!("hypervisor.sampler.{}", row.metric().0);
            assert_eq!(is_monotonic(metrics, &name), row.kind == SamplerKind::Counter, "{name}");
        }

        walks.store(6, Ordering::Relaxed);
        own.shutdown(PATIENCE).await;
        let last = peer.seen().pop().unwrap();
        let metrics = &last.message.resource_metrics[0].scope_metrics[0].metrics;
        assert_eq!(value(metrics, "hypervisor.sampler.walks"), 6.0, "flushed at the end");

        let pipeline = hvsampler::export::pipeline::Pipeline::start(&settings, &host).unwrap();
        let before = peer.seen().len();
        pipeline.offer(snapshot(1));
        let data = peer.wait_for(before + 1).await.pop().unwrap().message.resource_metrics.remove(0);
        assert_eq!(
            sorted(resource.resource.unwrap().attributes),
            sorted(data.resource.unwrap().attributes),
            "{protocol:?}"
        );
        assert_eq!(resource.schema_url, data.schema_url);
    }
}

#[tokio::test]
async fn shutdown_without_a_receiver_keeps_its_deadline() {
    for protocol in BOTH {
        let settings = peer::settings(super::free_address().await, protocol);
        let own = SelfTelemetry::start(
            &settings,
            &Host::default(),
            Duration::from_secs(60),
            Box::new(SelfStats::default),
        )
        .unwrap();
        let began = Instant::now();
        own.shutdown(Duration::from_secs(5)).await;
        assert!(began.elapsed() < PATIENCE);
    }
    let peer = Peer::start(BOTH[0], vec![]).await;
    let pipeline = start(&peer.settings());
    pipeline.offer(snapshot(1));
    assert_eq!(pipeline.shutdown(PATIENCE).await.exported_requests, 1, "the runtime goes on");
}
