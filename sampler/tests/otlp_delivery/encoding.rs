//! Compression by where the receiver is and by what it refuses, and no request lost over it.

use hvsampler::export::{
    client::{Client, Encoding},
    selfmetrics::{SelfStats, SelfTelemetry},
    settings::Compression,
};

use super::{
    BOTH, Duration, ExportSettings, Host, PATIENCE, Peer, PipelineStats, Protocol, Reply, all_dropped,
    free_address, offer, peer, points_per_snapshot, start, until,
};
use crate::{DropReason, peer::Seen};

/// What receivers answer to an encoding that they do not know.
fn ways_to_refuse() -> Vec<(Protocol, Reply)> {
    let http = |status, body: &str| (Protocol::HttpProtobuf, Reply::Http(status, vec![], body.into()));
    vec![
        http(415, ""),
        http(400, "failed to decode Protobuf message: invalid wire type"),
        (Protocol::Grpc, Reply::Grpc(12, "Decompressor is not installed for this grpc-encoding", None)),
        (Protocol::Grpc, Reply::GrpcAccepts("identity")),
    ]
}

fn zstd(settings: ExportSettings) -> ExportSettings {
    ExportSettings { compression: Compression::Zstd, ..settings }
}

fn encodings(seen: &[Seen]) -> Vec<&str> {
    seen.iter().map(Seen::encoding).collect()
}

/// Times of the snapshots in the requests that were taken.
fn taken(seen: &[Seen]) -> Vec<u64> {
    seen.iter().filter(|seen| seen.taken).map(Seen::time).collect()
}

fn sent_bytes(seen: &[Seen]) -> u64 {
    seen.iter().filter(|seen| seen.taken).map(|seen| seen.sent.len() as u64).sum()
}

fn assert_all_exported(stats: &PipelineStats, snapshots: u64, refused: u64) {
    assert_eq!((stats.exported_requests, all_dropped(stats)), (snapshots, 0));
    assert_eq!(stats.exported_points, snapshots * points_per_snapshot());
    assert_eq!((stats.failed_attempts, stats.retried_attempts), (refused, refused));
}

#[tokio::test]
async fn each_way_to_refuse_an_encoding_costs_an_attempt_and_no_point() {
    for (protocol, refusal) in ways_to_refuse() {
        for (known, expected) in [
            (&["zstd"][..], &["zstd", "zstd", "zstd"][..]),
            (&["gzip", "identity"], &["zstd", "gzip", "gzip", "gzip"]),
            (&["identity"], &["zstd", "gzip", "identity", "identity", "identity"]),
        ] {
            let peer = Peer::start(protocol, vec![]).await.knows(known, &refusal);
            let pipeline = start(&zstd(peer.settings()));
            offer(&pipeline, 1..4).await;
            let stats = pipeline.shutdown(PATIENCE).await;
            let seen = peer.seen();
            assert_eq!(encodings(&seen), expected, "{refusal:?}");
            assert_eq!(taken(&seen), [1, 2, 3], "{refusal:?}");
            assert_all_exported(&stats, 3, expected.len() as u64 - 3);
            assert_eq!(stats.exported_bytes, sent_bytes(&seen));
            // Some receivers go on refusing on the connection that had what they do not know.
            assert_eq!(peer.connections(), expected.len() - 2, "{refusal:?}");
        }
    }
}

#[tokio::test]
async fn gzip_that_was_asked_for_and_is_refused_is_left_out() {
    for (protocol, refusal) in ways_to_refuse() {
        let peer = Peer::start(protocol, vec![]).await.knows(&["zstd", "identity"], &refusal);
        let pipeline = start(&ExportSettings { compression: Compression::Gzip, ..peer.settings() });
        offer(&pipeline, 1..3).await;
        let stats = pipeline.shutdown(PATIENCE).await;
        assert_eq!(encodings(&peer.seen()), ["gzip", "identity", "identity"]);
        assert_all_exported(&stats, 2, 1);
    }
}

#[tokio::test]
async fn what_waited_in_a_refused_encoding_is_sent_in_another() {
    for (protocol, refusal) in ways_to_refuse() {
        let address = free_address().await;
        let pipeline = start(&zstd(peer::settings(address, protocol)));
        offer(&pipeline, 1..6).await;
        let peer = Peer::start_at(address, protocol, vec![], None).await.knows(&["identity"], &refusal);
        let stats = pipeline.shutdown(PATIENCE).await;
        let seen = peer.seen();
        assert_eq!(encodings(&seen)[..3], ["zstd", "gzip", "identity"]);
        assert!(encodings(&seen)[2..].iter().all(|encoding| *encoding == "identity"));
        assert_eq!(taken(&seen), [1, 2, 3, 4, 5]);
        assert_eq!((stats.exported_requests, all_dropped(&stats)), (5, 0));
    }
}

#[tokio::test]
async fn to_this_host_nothing_is_compressed_unless_asked_for() {
    for protocol in BOTH {
        let peer = Peer::start(protocol, vec![]).await;
        let local = peer.settings();
        for (compression, expected) in [
            (Compression::Auto, "identity"),
            (Compression::None, "identity"),
            (Compression::Gzip, "gzip"),
            (Compression::Zstd, "zstd"),
        ] {
            let before = peer.seen().len();
            let pipeline = start(&ExportSettings { compression, ..local.clone() });
            offer(&pipeline, 1..3).await;
            pipeline.shutdown(PATIENCE).await;
            assert_eq!(encodings(&peer.seen()[before..]), [expected; 2], "{compression:?}");
        }
    }
}

/// Resolvers take `127.1` for 127.0.0.1, and the URL does not show it: as with the name of this host.
#[tokio::test]
async fn a_name_of_this_host_shows_at_the_first_connection() {
    for protocol in BOTH {
        let peer = Peer::start(protocol, vec![]).await;
        let endpoint = Some(format!("http://127.1:{}", peer.address.port()));
        let pipeline = start(&ExportSettings { endpoint, ..peer.settings() });
        offer(&pipeline, 1..2).await;
        until(|| pipeline.stats().exported_requests == 1).await;
        offer(&pipeline, 2..4).await;
        let stats = pipeline.shutdown(PATIENCE).await;
        assert_eq!(encodings(&peer.seen()), ["zstd", "identity", "identity"]);
        assert_all_exported(&stats, 3, 0);
    }
}

#[test]
fn to_another_host_zstd_is_the_default() {
    for protocol in BOTH {
        let settings = peer::settings("192.0.2.1:4318".parse().unwrap(), protocol);
        assert_eq!(Client::new(&settings).unwrap().encoding(), Encoding::Zstd);
    }
}

#[tokio::test]
async fn a_refusal_for_another_reason_stays_one() {
    let bad = Reply::Http(400, vec![], b"bad".to_vec());
    let unknown = Reply::Grpc(12, "unknown service", None);
    for (protocol, replies, expected) in [
        // Taken before in this encoding.
        (Protocol::HttpProtobuf, vec![Reply::Taken(vec![]), bad.clone()], &["zstd", "zstd", "zstd"][..]),
        // Refused without any encoding too.
        (Protocol::HttpProtobuf, vec![bad; 3], &["zstd", "gzip", "identity", "zstd", "zstd"]),
        (Protocol::Grpc, vec![unknown], &["zstd", "zstd", "zstd"]),
    ] {
        let peer = Peer::start(protocol, replies).await;
        let pipeline = start(&zstd(peer.settings()));
        offer(&pipeline, 1..4).await;
        let stats = pipeline.shutdown(PATIENCE).await;
        assert_eq!(encodings(&peer.seen()), expected);
        assert_eq!(stats.dropped(DropReason::Refused).requests, 1);
        assert_eq!((stats.exported_requests, all_dropped(&stats)), (2, 1));
    }
}

#[tokio::test]
async fn a_service_that_does_not_exist_is_refused_in_every_encoding() {
    let refusal = Reply::Grpc(12, "unsupported encoding", None);
    let peer = Peer::start(Protocol::Grpc, vec![]).await.knows(&[], &refusal);
    let pipeline = start(&zstd(peer.settings()));
    offer(&pipeline, 1..2).await;
    let stats = pipeline.shutdown(PATIENCE).await;
    assert_eq!(encodings(&peer.seen()), ["zstd", "gzip", "identity"]);
    assert_eq!((stats.dropped(DropReason::Refused).requests, all_dropped(&stats)), (1, 1));
    assert_eq!((stats.failed_attempts, stats.retried_attempts), (3, 2));
}

/// Uncompressed it would fill the queue after a few snapshots.
#[tokio::test]
async fn what_waits_for_a_receiver_on_this_host_is_kept_compressed() {
    const SNAPSHOTS: u64 = 10;
    for protocol in BOTH {
        let plain = {
            let peer = Peer::start(protocol, vec![]).await;
            let pipeline = start(&peer.settings());
            offer(&pipeline, 1..2).await;
            peer.wait_for(1).await[0].sent.len()
        };
        let address = free_address().await;
        let settings = ExportSettings { queue_bytes: 5 * plain, ..peer::settings(address, protocol) };
        let pipeline = start(&settings);
        offer(&pipeline, 1..SNAPSHOTS + 1).await;
        assert_eq!((pipeline.stats().queue_requests, all_dropped(&pipeline.stats())), (SNAPSHOTS, 0));
        let peer = Peer::start_at(address, protocol, vec![], None).await;
        let stats = pipeline.shutdown(PATIENCE).await;
        let seen = peer.seen();
        assert!(encodings(&seen).iter().all(|encoding| *encoding == "identity"));
        assert_eq!(taken(&seen), (1..SNAPSHOTS + 1).collect::<Vec<_>>());
        assert_eq!(stats.exported_bytes, sent_bytes(&seen));
    }
}

#[tokio::test]
async fn own_telemetry_steps_down_too() {
    for (protocol, refusal) in ways_to_refuse() {
        let peer = Peer::start(protocol, vec![]).await.knows(&["gzip", "identity"], &refusal);
        let settings = zstd(peer.settings());
        let read = Box::new(SelfStats::default);
        let own = SelfTelemetry::start(&settings, &Host::default(), Duration::from_millis(20), read).unwrap();
        peer.wait_for(3).await;
        own.shutdown(PATIENCE).await;
        assert_eq!(encodings(&peer.seen())[..3], ["zstd", "gzip", "gzip"]);
    }
}
