//! The pipeline against receivers that answer, refuse, stall, hang up and come back.
#![expect(clippy::unwrap_used, reason = "in a test a panic is the failure")]

mod encoding;
mod peer;
mod selfmetrics;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hvsampler::{
    export::{
        otlp::Encoder,
        pipeline::{DropReason, Pipeline, PipelineStats},
        resource::Resource,
        settings::{ExportSettings, Headers, Protocol},
    },
    model::{Host, Snapshot},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    metrics::v1::{Metric, NumberDataPoint, metric::Data},
};
use prost::Message as _;

use peer::{Peer, Reply, TRANSPORTS, free_address};

/// Bound of every wait: reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(30);

const BOTH: [Protocol; 2] = [Protocol::HttpProtobuf, Protocol::Grpc];

fn points_of(metric: &mut Metric) -> &mut Vec<NumberDataPoint> {
    match metric.data.as_mut() {
        Some(Data::Sum(sum)) => &mut sum.data_points,
        Some(Data::Gauge(gauge)) => &mut gauge.data_points,
        other => panic!("{}: unexpected data {other:?}", metric.name),
    }
}

async fn until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited for {PATIENCE:?} in vain");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn start(settings: &ExportSettings) -> Pipeline {
    Pipeline::start(settings, &Host::default()).unwrap()
}

/// A snapshot that its time distinguishes from others.
fn snapshot(number: u64) -> Arc<Snapshot> {
    Arc::new(Snapshot { at_unix_ns: number, ..support::snapshot_of(2, 2) })
}

/// Offers snapshots one by one, so that none is dropped before it is encoded.
async fn offer(pipeline: &Pipeline, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let before = handled(&pipeline.stats());
        pipeline.offer(snapshot(number));
        until(|| handled(&pipeline.stats()) > before).await;
    }
}

/// Requests that the encoder has made.
fn handled(stats: &PipelineStats) -> u64 {
    let dropped = DropReason::ALL.map(|reason| stats.dropped(reason).requests).iter().sum::<u64>();
    stats.exported_requests + stats.queue_requests + dropped
}

fn points_per_snapshot() -> u64 {
    let mut requests = Vec::new();
    let resource = Resource::new(&ExportSettings::default(), &Host::default());
    Encoder::new(&resource, 1).encode(&snapshot(1), &mut requests);
    requests.iter().map(|request| request.points).sum()
}

fn all_dropped(stats: &PipelineStats) -> u64 {
    DropReason::ALL.map(|reason| stats.dropped(reason).requests).iter().sum()
}

#[tokio::test]
async fn what_was_encoded_arrives_over_every_transport() {
    for (protocol, compression) in TRANSPORTS {
        let peer = Peer::start(protocol, vec![]).await;
        let headers = Headers([("x-tenant".to_owned(), "blue".into())].into());
        let settings = ExportSettings { compression, headers, ..peer.settings() };
        let pipeline = start(&settings);
        pipeline.offer(snapshot(7));
        let seen = peer.wait_for(1).await.remove(0);

        let mut requests = Vec::new();
        let sent = &seen.message.resource_metrics[0].scope_metrics[0].metrics;
        let start = points_of(&mut sent.last().cloned().unwrap())[0].start_time_unix_nano;
        Encoder::new(&Resource::new(&settings, &Host::default()), start).encode(&snapshot(7), &mut requests);
        assert_eq!(seen.message, ExportMetricsServiceRequest::decode(requests[0].body.clone()).unwrap());
        assert_eq!(seen.header("x-tenant"), Some("blue"));
        assert!(seen.header("user-agent").unwrap().starts_with("hvsampler/"));
        match protocol {
            Protocol::HttpProtobuf => {
                assert_eq!(seen.path, "/v1/metrics");
                assert_eq!(seen.header("content-type"), Some("application/x-protobuf"));
            }
            Protocol::Grpc => {
                assert_eq!(seen.path, "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
                assert_eq!(seen.header("content-type"), Some("application/grpc"));
                assert_eq!(seen.header("te"), Some("trailers"));
                assert_eq!(seen.header("grpc-timeout"), Some("10000m"));
            }
        }
        let stats = pipeline.shutdown(PATIENCE).await;
        assert_eq!((stats.exported_requests, stats.exported_points), (1, points_per_snapshot()));
        assert_eq!(stats.exported_bytes, seen.sent.len() as u64);
        assert_eq!((stats.failed_attempts, all_dropped(&stats), stats.queue_bytes), (0, 0, 0));
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    for protocol in BOTH {
        let peer = Peer::start(protocol, vec![]).await;
        let pipeline = start(&peer.settings());
        offer(&pipeline, 1..6).await;
        peer.wait_for(5).await;
        assert_eq!(peer.connections(), 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_page_in_place_of_an_answer_is_counted_as_refused() {
    let html = vec![("content-type", "text/html".to_owned())];
    let page = Reply::Http(200, html, b"<html>Log in</html>".to_vec());
    let peer = Peer::start(Protocol::HttpProtobuf, vec![page]).await;
    let pipeline = start(&peer.settings());
    offer(&pipeline, 1..3).await;
    peer.wait_for(2).await;
    let stats = pipeline.shutdown(PATIENCE).await;
    let refused = stats.dropped(DropReason::Refused);
    assert_eq!((refused.requests, refused.points), (1, points_per_snapshot()));
    assert_eq!((stats.exported_requests, stats.failed_attempts, all_dropped(&stats)), (1, 1, 1));
    assert!(stats.last_error.unwrap().contains("text/html in place of an OTLP answer"));
}

#[tokio::test]
async fn a_retryable_answer_is_tried_again_with_the_same_bytes() {
    for (protocol, reply) in [
        (Protocol::HttpProtobuf, Reply::Http(503, vec![], b"not now".to_vec())),
        (Protocol::Grpc, Reply::Grpc(14, "not now", None)),
    ] {
        let peer = Peer::start(protocol, vec![reply.clone(), reply]).await;
        let pipeline = start(&peer.settings());
        offer(&pipeline, 1..3).await;
        let seen = peer.wait_for(4).await;
        assert_eq!(seen.iter().map(peer::Seen::time).collect::<Vec<_>>(), [1, 1, 1, 2]);
        assert!(seen[0].sent == seen[1].sent && seen[1].sent == seen[2].sent);
        let stats = pipeline.shutdown(PATIENCE).await;
        assert_eq!((stats.exported_requests, stats.failed_attempts, stats.retried_attempts), (2, 2, 2));
        assert!(stats.last_error.unwrap().contains("not now"));
    }
}

#[tokio::test]
async fn the_receiver_says_how_long_to_wait() {
    let seconds = 1;
    for (protocol, reply) in [
        (Protocol::HttpProtobuf, Reply::Http(429, vec![("retry-after", seconds.to_string())], vec![])),
        (Protocol::Grpc, Reply::Grpc(8, "slow down", Some(seconds))),
    ] {
        let peer = Peer::start(protocol, vec![reply]).await;
        let pipeline = start(&peer.settings());
        pipeline.offer(snapshot(1));
        let seen = peer.wait_for(2).await;
        let waited = seen[1].at - seen[0].at;
        assert!(waited >= Duration::from_secs(seconds.into()), "{protocol:?}: {waited:?}");
        assert_eq!(pipeline.shutdown(PATIENCE).await.exported_requests, 1);
    }
}

#[tokio::test]
async fn rejected_points_are_counted_and_not_sent_again() {
    for protocol in BOTH {
        // partial_success { rejected_data_points: 5, error_message: "no" }
        let partial = b"\x0a\x06\x08\x05\x12\x02no".to_vec();
        let peer = Peer::start(protocol, vec![Reply::Taken(partial)]).await;
        let pipeline = start(&peer.settings());
        offer(&pipeline, 1..3).await;
        let seen = peer.wait_for(2).await;
        assert_eq!(seen.iter().map(peer::Seen::time).collect::<Vec<_>>(), [1, 2]);
        let stats = pipeline.shutdown(PATIENCE).await;
        assert_eq!((stats.rejected_points, stats.exported_points), (5, 2 * points_per_snapshot() - 5));
        assert_eq!((stats.failed_attempts, stats.exported_requests), (0, 2));
    }
}

#[tokio::test]
async fn refused_requests_are_dropped_and_counted_with_their_ends() {
    let too_large = "grpc: received message larger than max (9 vs. 4)";
    for (protocol, reply, reason) in [
        (Protocol::HttpProtobuf, Reply::Http(400, vec![], vec![]), DropReason::Refused),
        (Protocol::HttpProtobuf, Reply::Http(413, vec![], vec![]), DropReason::TooLarge),
        (
            Protocol::HttpProtobuf,
            Reply::Http(301, vec![("location", "/elsewhere".into())], vec![]),
            DropReason::Refused,
        ),
        (Protocol::Grpc, Reply::Grpc(3, "bad", None), DropReason::Refused),
        (Protocol::Grpc, Reply::Grpc(8, too_large, None), DropReason::TooLarge),
        (Protocol::Grpc, Reply::Grpc(11, too_large, None), DropReason::TooLarge),
    ] {
        let peer = Peer::start(protocol, vec![Reply::Taken(vec![]), reply]).await;
        let pipeline = start(&peer.settings());
        offer(&pipeline, 1..2).await;
        // The guests are gone: this request holds the ends of their series, and is refused.
        pipeline.offer(Arc::new(Snapshot { at_unix_ns: 2, ..Snapshot::default() }));
        peer.wait_for(2).await;
        offer(&pipeline, 3..4).await;
        let seen = peer.wait_for(3).await;
        assert_eq!(seen.iter().map(peer::Seen::time).collect::<Vec<_>>(), [1, 2, 3]);
        let stats = pipeline.shutdown(PATIENCE).await;
        let dropped = stats.dropped(reason);
        assert_eq!((dropped.requests, dropped.points), (1, points_per_snapshot()), "{reason:?}");
        assert_eq!(dropped.ends, points_per_snapshot() - 1, "all but the number of VMs");
        assert_eq!((stats.exported_requests, all_dropped(&stats)), (2, 1));
    }
}

#[tokio::test]
async fn an_outage_ends_and_everything_arrives_in_order() {
    for protocol in BOTH {
        let address = free_address().await;
        let pipeline = start(&peer::settings(address, protocol));
        offer(&pipeline, 1..11).await;
        until(|| pipeline.stats().failed_attempts >= 2).await;
        let peer = Peer::start_at(address, protocol, vec![], None).await;
        let seen = peer.wait_for(10).await;
        assert_eq!(seen.iter().map(peer::Seen::time).collect::<Vec<_>>(), (1..11).collect::<Vec<_>>());
        let stats = pipeline.shutdown(PATIENCE).await;
        assert_eq!((stats.exported_requests, all_dropped(&stats)), (10, 0));
    }
}

#[tokio::test]
async fn a_queue_that_is_full_drops_the_oldest_and_counts() {
    const LIMIT: usize = 8 << 10;
    let address = free_address().await;
    let settings = ExportSettings { queue_bytes: LIMIT, ..peer::settings(address, Protocol::HttpProtobuf) };
    let pipeline = start(&settings);
    for number in 1..101 {
        offer(&pipeline, number..number + 1).await;
        assert!(pipeline.stats().queue_bytes <= LIMIT as u64);
    }
    let dropped = pipeline.stats().dropped(DropReason::QueueFull);
    assert!(dropped.requests > 50, "{dropped:?}");
    assert_eq!(dropped.points, dropped.requests * points_per_snapshot());
    let peer = Peer::start_at(address, Protocol::HttpProtobuf, vec![], None).await;
    let stats = pipeline.shutdown(PATIENCE).await;
    let times: Vec<_> = peer.seen().iter().map(peer::Seen::time).collect();
    // A request that was being sent when its turn to go came is not taken away from under the sender.
    let (first, newest) = times.split_first().unwrap();
    assert_eq!(newest, (dropped.requests + 2..101).collect::<Vec<_>>(), "the newest, in order");
    assert!(*first <= dropped.requests + 1, "{times:?}, {dropped:?}");
    assert_eq!(stats.exported_requests + all_dropped(&stats), 100);
    assert_eq!(stats.exported_points + stats.dropped_points(), 100 * points_per_snapshot());
}

#[tokio::test]
async fn shutdown_sends_what_waits() {
    for protocol in BOTH {
        let peer = Peer::start(protocol, vec![]).await;
        let pipeline = start(&peer.settings());
        for number in 1..4 {
            pipeline.offer(snapshot(number));
        }
        let stats = pipeline.shutdown(PATIENCE).await;
        assert_eq!((stats.exported_requests, all_dropped(&stats)), (3, 0));
        assert_eq!(peer.seen().iter().map(peer::Seen::time).collect::<Vec<_>>(), [1, 2, 3]);
    }
}

#[tokio::test]
async fn shutdown_does_not_sit_out_a_long_wait() {
    let reply = Reply::Http(503, vec![("retry-after", "600".to_owned())], vec![]);
    let peer = Peer::start(Protocol::HttpProtobuf, vec![reply]).await;
    let pipeline = start(&peer.settings());
    offer(&pipeline, 1..2).await;
    until(|| pipeline.stats().failed_attempts == 1).await;
    let stats = pipeline.shutdown(PATIENCE).await;
    assert_eq!((stats.exported_requests, all_dropped(&stats)), (1, 0));
}

#[tokio::test]
async fn shutdown_keeps_its_deadline_and_counts_what_is_left() {
    let peer = Peer::start(Protocol::Grpc, vec![Reply::Silence]).await;
    let pipeline = start(&ExportSettings { timeout: Duration::from_secs(600), ..peer.settings() });
    offer(&pipeline, 1..4).await;
    peer.wait_for(1).await;
    let began = Instant::now();
    let stats = pipeline.shutdown(Duration::from_millis(200)).await;
    assert!(began.elapsed() < PATIENCE);
    assert_eq!((stats.exported_requests, stats.dropped(DropReason::Shutdown).requests), (0, 3));
    assert_eq!(stats.dropped(DropReason::Shutdown).points, 3 * points_per_snapshot());
}

#[tokio::test]
async fn a_receiver_that_says_nothing_or_hangs_up_is_asked_again() {
    for protocol in BOTH {
        for (reply, expected) in [(Reply::Silence, "no answer within 300ms"), (Reply::HangUp, "")] {
            let peer = Peer::start(protocol, vec![reply]).await;
            let pipeline = start(&ExportSettings { timeout: Duration::from_millis(300), ..peer.settings() });
            offer(&pipeline, 1..3).await;
            peer.wait_for(3).await;
            let stats = pipeline.shutdown(PATIENCE).await;
            assert_eq!((stats.exported_requests, all_dropped(&stats)), (2, 0), "{protocol:?}");
            assert!(stats.failed_attempts >= 1);
            assert!(stats.last_error.unwrap().contains(expected));
            assert!(peer.connections() >= 2, "the connection that failed is not used again");
        }
    }
}

#[tokio::test]
async fn a_request_that_keeps_failing_expires() {
    let reply = Reply::Grpc(11, "always", None);
    let peer = Peer::start(Protocol::Grpc, vec![reply; 1000]).await;
    let mut settings = peer.settings();
    settings.retry.max_age = Duration::from_millis(200);
    let pipeline = start(&settings);
    offer(&pipeline, 1..2).await;
    until(|| pipeline.stats().dropped(DropReason::Expired).requests == 1).await;
    let stats = pipeline.stats();
    assert_eq!((stats.queue_requests, stats.queue_bytes), (0, 0));
    assert_eq!(stats.failed_attempts, stats.retried_attempts + 1);
}

#[tokio::test]
async fn an_endless_answer_is_not_read() {
    let peer = Peer::start(Protocol::HttpProtobuf, vec![Reply::Http(200, vec![], vec![0; 5 << 20])]).await;
    let pipeline = start(&peer.settings());
    pipeline.offer(snapshot(1));
    until(|| pipeline.stats().exported_requests == 1).await;
    assert_eq!(pipeline.stats().failed_attempts, 0);
}

#[tokio::test]
async fn offering_never_waits_and_never_holds_more_than_a_few_snapshots() {
    let peer = Peer::start(Protocol::HttpProtobuf, vec![Reply::Silence]).await;
    let pipeline = start(&peer.settings());
    let held = snapshot(1);
    // No await here: the tasks of this single-threaded runtime cannot run, as if the encoder were stuck.
    for _ in 0..1000 {
        pipeline.offer(held.clone());
    }
    assert!(Arc::strong_count(&held) <= 5, "{} references", Arc::strong_count(&held));
    let dropped = pipeline.stats().dropped(DropReason::EncoderBusy);
    assert_eq!((dropped.requests, dropped.points), (996, 996 * points_per_snapshot()));
}
