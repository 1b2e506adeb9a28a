//! Answers of collectors, of proxies before them, and of whoever else listens there.

use super::*;
use crate::fuzzing::{Memory, Target, parts};

const ANSWERS: Target = Target {
    name: "answers",
    words: &[
        "\n====\n",
        "200",
        "429",
        "503",
        "content-type: application/json\n",
        "content-type: application/x-protobuf\n",
        "content-type: text/html\n",
        "retry-after: ",
        "grpc-status: ",
        "grpc-message: ",
        "grpc-status-details-bin: ",
        "grpc-accept-encoding: ",
        "{\"partialSuccess\":",
        "\"rejectedDataPoints\":",
        "\"errorMessage\":",
        "[[",
        "[{}],",
        "\u{1a}\0",
        "zstd",
        "Sat, 06 Nov 1994 08:49:37 GMT",
        "\u{202e}",
    ],
    inputs: 20_000,
    // Details of a status take 24 times their bytes, and are bounded; texts are kept as they are.
    memory: Memory { fixed: 512 << 10, each: 6 },
};

/// A first line with a status, then lines of headers; the body; lines of trailers.
fn reply(input: &[u8]) -> Option<Reply> {
    let [head, body, trailers] = parts(input);
    let (status, head) = head.split_at(head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len()));
    Some(Reply {
        status: StatusCode::from_bytes(status).ok()?,
        headers: headers(head),
        body: Bytes::copy_from_slice(body),
        trailers: (!trailers.is_empty()).then(|| headers(trailers)),
    })
}

/// Those that are some.
fn headers(lines: &[u8]) -> HeaderMap {
    let lines = lines.split(|byte| *byte == b'\n');
    let header = |line: &[u8]| {
        let at = line.windows(2).position(|window| window == b": ")?;
        let name = header::HeaderName::from_bytes(&line[..at]).ok()?;
        Some((name, header::HeaderValue::from_bytes(&line[at + 2..]).ok()?))
    };
    lines.filter_map(header).collect()
}

#[track_caller]
fn assert_fit(text: &str) {
    assert!(text.chars().count() <= MAX_TEXT + 128, "{} characters", text.chars().count());
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[test]
fn answers() {
    ANSWERS.check(&[], |input| {
        let Some(reply) = reply(input) else { return };
        let (by_http, by_grpc) = (http(&reply, SystemTime::UNIX_EPOCH), grpc(&reply));
        let is_taken = matches!(by_http, Answer::Taken { .. });
        assert!(reply.status.is_success() || !is_taken, "HTTP {} is no success", reply.status);
        for answer in [by_http, by_grpc] {
            match &answer {
                Answer::Taken { message, .. } => assert_fit(message.as_deref().unwrap_or_default()),
                Answer::Retry { failure, .. } | Answer::Refused { failure, .. } => assert_fit(&failure.text),
            }
            for sent in [Encoding::None, Encoding::Gzip, Encoding::Zstd] {
                let sign = encoding_refused(&reply, &answer, sent);
                assert!(sign.is_none() || sent != Encoding::None, "there is no lower encoding");
            }
        }
    });
}
