use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use proptest::prelude::*;

use super::*;

fn reply(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Reply {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.collect(),
        body: Bytes::copy_from_slice(body),
        trailers: None,
    }
}

fn http_at_epoch(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Answer {
    http(&reply(status, headers, body), SystemTime::UNIX_EPOCH)
}

fn grpc_trailers(status: &str, message: &str, details: Option<&str>) -> Answer {
    let mut reply = reply(200, &[], b"");
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers.insert("grpc-message", message.parse().unwrap());
    if let Some(details) = details {
        trailers.insert("grpc-status-details-bin", details.parse().unwrap());
    }
    reply.trailers = Some(trailers);
    grpc(&reply)
}

/// `google.rpc.Status` with a `RetryInfo` of `seconds`, written by hand as the wire has it.
fn retry_info(seconds: u8) -> String {
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let mut any = vec![0x0a, url.len() as u8];
    any.extend_from_slice(url);
    any.extend_from_slice(&[0x12, 4, 0x0a, 2, 0x08, seconds]);
    let mut status = vec![0x08, 14, 0x1a, any.len() as u8];
    status.extend_from_slice(&any);
    BASE64_STANDARD_NO_PAD.encode(status)
}

#[test]
fn http_codes() {
    for status in 300..600 {
        let Ok(_) = StatusCode::from_u16(status) else { continue };
        let answer = http_at_epoch(status, &[], b"");
        let expected = matches!(status, 429 | 502 | 503 | 504);
        assert_eq!(matches!(answer, Answer::Retry { .. }), expected, "{status}: {answer:?}");
        assert_eq!(matches!(answer, Answer::Refused { too_large: true, .. }), status == 413, "{status}");
    }
    for status in [200, 202, 204] {
        assert_eq!(http_at_epoch(status, &[], b""), Answer::Taken { rejected: 0, message: None });
    }
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    for (value, expected) in [
        ("7", Some(7)),
        (" 0 ", Some(0)),
        ("Thu, 01 Jan 1970 00:02:10 GMT", Some(30)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("soon", None),
        ("-1", None),
    ] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let Answer::Retry { after, .. } = http(&reply(503, &[("retry-after", value)], b""), now) else {
            panic!("{value}");
        };
        assert_eq!(after, expected.map(Duration::from_secs), "{value}");
    }
}

#[test]
fn partial_success_in_protobuf_and_json() {
    let expected = Answer::Taken { rejected: 5, message: Some("no".into()) };
    assert_eq!(http_at_epoch(200, &[], b"\x0a\x06\x08\x05\x12\x02no"), expected);
    for body in [
        &br#"{"partialSuccess":{"rejectedDataPoints":"5","errorMessage":"no"}}"#[..],
        br#"{"partialSuccess":{"rejectedDataPoints":5,"errorMessage":"no"}}"#,
    ] {
        assert_eq!(
            http_at_epoch(200, &[("content-type", "application/json; charset=utf-8")], body),
            expected
        );
    }
    assert_eq!(http_at_epoch(200, &[], b"\x0a\x06\xff\xff"), Answer::Taken { rejected: 0, message: None });
    assert_eq!(
        http_at_epoch(200, &[], b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        Answer::Taken { rejected: 0, message: None },
        "minus one points"
    );
}

/// What is passed over takes no memory, however much it is: a receiver may answer with 4 MiB of it.
#[test]
fn what_nobody_asks_for_is_not_kept() {
    let json = format!("{{\"more\":[{}0],\"partialSuccess\":{{}}}}", "[],".repeat(100_000));
    let details = b"\x1a\0".repeat(100_000);
    for (status, kind, body) in [(200, "application/json", json.as_bytes()), (503, "", &details)] {
        let reply = reply(status, &[("content-type", kind)], body);
        let used = allocation_counter::measure(|| drop(http(&reply, SystemTime::UNIX_EPOCH)));
        assert!(used.bytes_max < 16 << 10, "{} bytes of memory for {} bytes", used.bytes_max, body.len());
    }
}

#[test]
fn a_page_in_place_of_an_answer_is_no_success() {
    let page = b"<!doctype html><title>Log in</title> gzip, zstd";
    for kind in ["text/html", "Text/HTML; charset=utf-8", "text/plain", "application/octet-stream"] {
        let answer = http_at_epoch(200, &[("content-type", kind)], page);
        let Answer::Refused { too_large: false, failure } = &answer else { panic!("{kind}: {answer:?}") };
        assert_eq!(failure.kind, FailureKind::NotOtlp);
        assert!(failure.text.starts_with(&format!("HTTP 200 OK with {kind} in place of")), "{failure}");
        let reply = reply(200, &[("content-type", kind)], page);
        assert_eq!(encoding_refused(&reply, &answer, Encoding::Zstd), None, "the encoding is not to blame");
    }
    for (kind, body) in [
        (Some("text/html"), &b""[..]),
        (Some("application/x-protobuf"), page),
        (Some("Application/JSON"), b"{}"),
        (None, page),
    ] {
        let headers: Vec<_> = kind.map(|kind| ("content-type", kind)).into_iter().collect();
        assert_eq!(
            http_at_epoch(200, &headers, body),
            Answer::Taken { rejected: 0, message: None },
            "{kind:?}"
        );
    }
}

#[test]
fn error_texts_are_bounded_and_clean() {
    let hostile = "\u{1b}[31mline\nline\0".repeat(1000);
    let Answer::Refused { failure, .. } = http_at_epoch(400, &[], hostile.as_bytes()) else { panic!() };
    assert!(failure.text.starts_with("HTTP 400 Bad Request: "), "{}", failure.text);
    assert!(failure.text.chars().count() < MAX_TEXT + 64 && !failure.text.contains(char::is_control));
    let Answer::Refused { failure, .. } = http_at_epoch(400, &[], b"\x08\x03\x12\x03bad") else { panic!() };
    assert_eq!(failure.text, "HTTP 400 Bad Request: bad");
}

#[test]
fn grpc_codes() {
    for status in 1..20 {
        let retry = matches!(status, 1 | 4 | 10 | 11 | 14 | 15);
        let answer = grpc_trailers(&status.to_string(), "why", None);
        assert_eq!(matches!(answer, Answer::Retry { after: None, .. }), retry, "{status}: {answer:?}");
    }
    assert_eq!(grpc_trailers("0", "", None), Answer::Taken { rejected: 0, message: None });
}

#[test]
fn resource_exhausted_is_tried_again_only_when_asked_for() {
    let answer = grpc_trailers("8", "slow down", Some(&retry_info(3)));
    assert!(
        matches!(answer, Answer::Retry { after: Some(after), .. } if after == Duration::from_secs(3)),
        "{answer:?}"
    );
    assert!(matches!(grpc_trailers("8", "quota", Some("AAAA")), Answer::Refused { too_large: false, .. }));
    let answer = grpc_trailers("14", "", Some(&retry_info(9)));
    assert!(
        matches!(answer, Answer::Retry { after: Some(after), .. } if after == Duration::from_secs(9)),
        "{answer:?}"
    );
}

#[test]
fn oversized_requests_are_not_tried_forever() {
    for (status, message) in [
        ("8", "grpc: received message larger than max (5900000 vs. 4194304)"),
        ("8", "grpc: received message after decompression larger than max (5900000 vs. 4194304)"),
        ("11", "Error, decoded message length too large: found 5900000 bytes, the limit is: 4194304 bytes"),
    ] {
        assert!(
            matches!(grpc_trailers(status, message, None), Answer::Refused { too_large: true, .. }),
            "{message}"
        );
    }
}

#[test]
fn grpc_status_may_be_in_the_headers_or_missing() {
    let answer = grpc(&reply(200, &[("grpc-status", "16"), ("grpc-message", "bad%20token%0A")], b""));
    let Answer::Refused { failure, .. } = answer else { panic!() };
    assert_eq!(
        (failure.kind, failure.text.as_str()),
        (FailureKind::Grpc(16), "gRPC UNAUTHENTICATED: bad token")
    );
    assert!(matches!(grpc(&reply(503, &[], b"<html>")), Answer::Retry { .. }));
    assert!(matches!(grpc(&reply(200, &[], b"")), Answer::Refused { .. }));
    assert!(matches!(grpc(&reply(404, &[], b"")), Answer::Refused { .. }));
}

#[test]
fn grpc_partial_success_follows_the_prefix() {
    let body = b"\0\0\0\0\x08\x0a\x06\x08\x05\x12\x02no";
    let answer = grpc(&reply(200, &[("grpc-status", "0")], body));
    assert_eq!(answer, Answer::Taken { rejected: 5, message: Some("no".into()) });
    let answer = grpc(&reply(200, &[("grpc-status", "0")], b"\x01\0\0\0\x08\x0a\x06\x08\x05\x12\x02no"));
    assert_eq!(answer, Answer::Taken { rejected: 0, message: None });
}

fn http_sign(status: u16, body: &str, sent: Encoding) -> Option<Sign> {
    let reply = reply(status, &[], body.as_bytes());
    encoding_refused(&reply, &http(&reply, SystemTime::UNIX_EPOCH), sent)
}

fn grpc_sign(status: &str, message: &str, accepted: Option<&str>, sent: Encoding) -> Option<Sign> {
    let mut headers = vec![("grpc-status", status), ("grpc-message", message)];
    headers.extend(accepted.map(|list| ("grpc-accept-encoding", list)));
    let reply = reply(200, &headers, b"");
    encoding_refused(&reply, &grpc(&reply), sent)
}

#[test]
fn an_http_receiver_that_does_not_know_the_encoding() {
    let (clear, possible) = (Some(Sign::Clear), Some(Sign::Possible));
    for (status, body, expected) in [
        (415, "", clear),
        (400, "", possible),
        (400, "proto: wrong wire type", possible),
        (400, "Unsupported Content-Encoding", clear),
        (500, "cannot read zstd data", clear),
        (422, "failed to decompress the body", clear),
        (413, "zstd body larger than 4 MiB", None),
        (503, "zstd", None),
        (404, "", None),
        (401, "", None),
        (200, "zstd", None),
    ] {
        assert_eq!(http_sign(status, body, Encoding::Zstd), expected, "{status} {body}");
    }
    for status in [400, 415] {
        assert!(http_sign(status, "", Encoding::Gzip).is_some());
        assert_eq!(http_sign(status, "gzip and zstd only", Encoding::None), None);
    }
}

/// Messages in the manner of gRPC's implementations in Go, Rust, C, .NET and Java.
#[test]
fn a_grpc_receiver_that_does_not_know_the_encoding() {
    let clear = Some(Sign::Clear);
    for (status, message, accepted, expected) in [
        ("12", "grpc: Decompressor is not installed for grpc-encoding \"zstd\"", None, clear),
        ("12", "Content is compressed with `zstd` which isn't supported", None, clear),
        ("12", "Unsupported encoding", None, clear),
        ("12", "", Some("identity,gzip"), clear),
        ("3", "Decompressor is not installed for grpc-encoding", None, clear),
        ("13", "Can't find decompressor for zstd", None, clear),
        ("13", "Error parsing 'grpc-encoding' metadata", None, clear),
        ("12", "unknown service opentelemetry.proto.collector.metrics.v1.MetricsService", None, None),
        ("12", "", Some("identity,gzip,zstd"), None),
        ("12", "", None, None),
        ("16", "no token", Some("identity"), None),
        ("8", "received message after decompression larger than max", None, None),
        ("14", "zstd", None, None),
    ] {
        assert_eq!(grpc_sign(status, message, accepted, Encoding::Zstd), expected, "{status} {message}");
    }
    assert_eq!(grpc_sign("12", "Unsupported encoding", Some("identity"), Encoding::None), None);
}

#[test]
fn unimplemented_asks_for_the_receiver_unless_it_is_the_encoding() {
    for (message, asks) in [("", true), ("unknown service", true), ("unsupported encoding", false)] {
        let Answer::Refused { failure, .. } = grpc_trailers("12", message, None) else { panic!() };
        assert_eq!(failure.text.contains("is this an OTLP receiver?"), asks, "{failure}");
    }
}

proptest! {
    /// Whatever a receiver sends, it is given a meaning and no text without bounds.
    #[test]
    fn any_answer_has_a_meaning(
        status in 200_u16..600,
        body in proptest::collection::vec(any::<u8>(), 0..64),
        value in "[ -~]{0,40}",
    ) {
        let names = ["grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after", "content-type"];
        let headers = names.map(|name| (name, value.as_str()));
        let reply = reply(status, &headers, &body);
        for answer in [http(&reply, SystemTime::UNIX_EPOCH), grpc(&reply)] {
            match answer {
                Answer::Taken { message, .. } => {
                    prop_assert!(message.unwrap_or_default().len() <= 4 * MAX_TEXT);
                }
                Answer::Retry { failure, .. } | Answer::Refused { failure, .. } => {
                    prop_assert!(failure.text.len() <= 4 * MAX_TEXT + 128);
                }
            }
        }
    }
}
