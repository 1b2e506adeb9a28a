//! What an answer means: taken, to be tried again, or refused for good.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{self, HeaderMap},
};
use percent_encoding::percent_decode_str;

use super::{
    Failure, FailureKind,
    answer::{self, PartialSuccess},
    frame::Encoding,
};

/// Longest text of a receiver that is passed on, characters.
const MAX_TEXT: usize = 256;

/// An answer as it came.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: Option<HeaderMap>,
}

/// What an answer means for the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Taken. Sending it again would count twice.
    Taken {
        /// Points that the receiver refused all the same.
        rejected: u64,
        /// Why it did, or a warning where it refused none.
        message: Option<String>,
    },
    /// Not taken now; the same request may succeed later.
    Retry {
        /// How long the receiver asks to be left alone.
        after: Option<Duration>,
        /// What happened.
        failure: Failure,
    },
    /// Never to be sent again.
    Refused {
        /// The receiver does not take requests of this size.
        too_large: bool,
        /// What happened.
        failure: Failure,
    },
}

impl Answer {
    fn taken(partial: &PartialSuccess) -> Self {
        Self::Taken {
            rejected: partial.rejected.try_into().unwrap_or(0),
            message: Some(clean(&partial.message)).filter(|message| !message.is_empty()),
        }
    }
}

/// Text from outside, fit for a log line.
pub(super) fn clean(text: &str) -> String {
    text.trim().chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// OTLP/HTTP: success is 2xx, and four codes alone may be tried again.
pub(super) fn http(reply: &Reply, now: SystemTime) -> Answer {
    let is_json = header_text(&reply.headers, "content-type")
        .is_some_and(|kind| kind.to_ascii_lowercase().contains("json"));
    if reply.status.is_success() {
        return foreign(reply)
            .unwrap_or_else(|| Answer::taken(&answer::partial_success(&reply.body, is_json)));
    }
    let failure = Failure { kind: FailureKind::Http(reply.status.as_u16()), text: http_text(reply, is_json) };
    match reply.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Answer::Retry { after: retry_after(&reply.headers, now), failure },
        status => Answer::Refused { too_large: status == StatusCode::PAYLOAD_TOO_LARGE, failure },
    }
}

/// A page in place of an answer: a proxy, a portal or another server has the request, and no receiver took
/// its points. The specification lets nothing be tried again that is not said to be, and most often the URL
/// is wrong for good.
///
/// An answer without a body or without a type is believed: receivers write nothing where nothing is to be
/// said.
fn foreign(reply: &Reply) -> Option<Answer> {
    const OF_OTLP: [&str; 2] = ["protobuf", "json"];
    let kind = header_text(&reply.headers, header::CONTENT_TYPE.as_str())?;
    let is_known = OF_OTLP.iter().any(|known| kind.to_ascii_lowercase().contains(known));
    if reply.body.is_empty() || is_known {
        return None;
    }
    let text = format!(
        "HTTP {} with {} in place of an OTLP answer (is this the URL of an OTLP receiver?)",
        reply.status,
        clean(kind)
    );
    let failure = Failure { kind: FailureKind::NotOtlp, text };
    Some(Answer::Refused { too_large: false, failure })
}

fn http_text(reply: &Reply, is_json: bool) -> String {
    let said = match answer::status_message(&reply.body) {
        Some(message) if !is_json => message,
        _ => String::from_utf8_lossy(&reply.body[..reply.body.len().min(4 * MAX_TEXT)]).into_owned(),
    };
    let hint = match reply.status {
        StatusCode::NOT_FOUND | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            " (is this the URL of an OTLP receiver?)"
        }
        status if status.is_redirection() => " (redirects are not followed: set the final URL)",
        _ => "",
    };
    let said = clean(&said);
    let colon = if said.is_empty() { "" } else { ": " };
    format!("HTTP {}{hint}{colon}{said}", reply.status)
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = header_text(headers, header::RETRY_AFTER.as_str())?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok().map(|date| date.duration_since(now).unwrap_or_default())
}

/// Codes of gRPC by name, as far as they are distinguished here.
mod code {
    pub(super) const OK: i32 = 0;
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const ABORTED: i32 = 10;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
    pub(super) const DATA_LOSS: i32 = 15;
    pub(super) const UNAUTHENTICATED: i32 = 16;
    /// All names, by number.
    pub(super) const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
}

/// OTLP/gRPC: the status is in the trailers, or in the headers of an answer without a message.
pub(super) fn grpc(reply: &Reply) -> Answer {
    let trailer = |name| reply.trailers.as_ref().and_then(|trailers| header_text(trailers, name));
    let field = |name| trailer(name).or_else(|| header_text(&reply.headers, name));
    let said = field("grpc-message").map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
    let status = match field("grpc-status").map(str::parse) {
        Some(Ok(status)) => status,
        // Not a gRPC server: a proxy answered, or the status was lost.
        _ if reply.status.is_success() => code::UNKNOWN,
        _ => grpc_of_http(reply.status),
    };
    if status == code::OK {
        // The message follows its prefix; one that is compressed was not asked for, and is not read.
        let message = reply.body.get(5..).filter(|_| reply.body[0] == 0).unwrap_or_default();
        return Answer::taken(&answer::partial_success(message, false));
    }
    let text = grpc_text(status, said.as_deref(), reply.status);
    let too_large = matches!(status, code::RESOURCE_EXHAUSTED | code::OUT_OF_RANGE)
        && said.is_some_and(|said| said.contains("larger than") || said.contains("too large"));
    let failure = Failure { kind: FailureKind::Grpc(status), text };
    let after = field("grpc-status-details-bin").and_then(|details| answer::retry_delay(details.as_bytes()));
    match status {
        // Some servers answer an oversized request with a code that otherwise means "again": never ending.
        _ if too_large => Answer::Refused { too_large, failure },
        code::CANCELLED
        | code::DEADLINE_EXCEEDED
        | code::ABORTED
        | code::OUT_OF_RANGE
        | code::UNAVAILABLE
        | code::DATA_LOSS => Answer::Retry { after, failure },
        code::RESOURCE_EXHAUSTED if after.is_some() => Answer::Retry { after, failure },
        _ => Answer::Refused { too_large, failure },
    }
}

fn grpc_text(status: i32, said: Option<&str>, http: StatusCode) -> String {
    let name = usize::try_from(status).ok().and_then(|index| code::NAMES.get(index).copied());
    let name = name.map_or_else(|| format!("status {status}"), str::to_owned);
    let hint = match status {
        code::UNIMPLEMENTED if !said.is_some_and(speaks_of_encodings) => " (is this an OTLP receiver?)",
        _ => "",
    };
    match said.map(clean).filter(|said| !said.is_empty()) {
        Some(said) => format!("gRPC {name}{hint}: {said}"),
        None if http.is_success() => format!("gRPC {name}{hint}"),
        None => format!("gRPC {name}{hint}, from HTTP {http}"),
    }
}

/// How sure it is that a request was refused for its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The answer says so.
    Clear,
    /// The answer may have another cause.
    Possible,
}

/// Whether a receiver refused a request for the encoding in which it was sent. The specification makes gzip a
/// duty of receivers and does not name zstd, nor what a receiver answers to what it does not know.
pub(super) fn encoding_refused(reply: &Reply, answer: &Answer, sent: Encoding) -> Option<Sign> {
    let Answer::Refused { too_large: false, failure } = answer else { return None };
    if sent == Encoding::None || failure.kind == FailureKind::NotOtlp {
        return None;
    }
    let clear = names_encoding(&failure.text, sent)
        || match failure.kind {
            FailureKind::Http(status) => status == StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(),
            FailureKind::Grpc(code::UNIMPLEMENTED) => {
                speaks_of_encodings(&failure.text)
                    || accepted_encodings(reply).is_some_and(|list| !list.contains(sent.name()))
            }
            _ => false,
        };
    // Receivers that do not look at Content-Encoding take the body for bad protobuf.
    let possible = failure.kind == FailureKind::Http(StatusCode::BAD_REQUEST.as_u16());
    clear.then_some(Sign::Clear).or(possible.then_some(Sign::Possible))
}

fn names_encoding(text: &str, sent: Encoding) -> bool {
    let text = text.to_ascii_lowercase();
    [sent.name(), "compress", "content-encoding", "grpc-encoding"].iter().any(|word| text.contains(word))
}

/// What is sure only of an answer that hardly has another cause.
fn speaks_of_encodings(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["compress", "encoding"].iter().any(|word| text.contains(word))
}

/// What a gRPC receiver says that it takes.
fn accepted_encodings(reply: &Reply) -> Option<&str> {
    const NAME: &str = "grpc-accept-encoding";
    let trailer = reply.trailers.as_ref().and_then(|trailers| header_text(trailers, NAME));
    trailer.or_else(|| header_text(&reply.headers, NAME))
}

/// The mapping of the gRPC specification for answers without a gRPC status.
const fn grpc_of_http(status: StatusCode) -> i32 {
    match status.as_u16() {
        400 => code::INTERNAL,
        401 => code::UNAUTHENTICATED,
        403 => code::PERMISSION_DENIED,
        404 => code::UNIMPLEMENTED,
        429 | 502..=504 => code::UNAVAILABLE,
        _ => code::UNKNOWN,
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
