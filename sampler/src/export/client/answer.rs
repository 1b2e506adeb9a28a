//! The few messages that receivers answer with.

use std::{fmt, time::Duration};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::Message as _;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// Longest `grpc-status-details-bin` that is read. Each of its details takes memory, and may be two bytes.
const MAX_DETAILS: usize = 8 << 10;

/// `ExportMetricsServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// What was not taken of a request that was answered with success.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct PartialSuccess {
    /// Points that were refused.
    #[prost(int64, tag = "1")]
    pub(super) rejected: i64,
    /// Why, or a warning where nothing was refused.
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// `google.rpc.Status` without its details, which a body may have millions of.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StatusText {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl From<Delay> for Duration {
    fn from(delay: Delay) -> Self {
        Self::new(delay.seconds.try_into().unwrap_or(0), delay.nanos.clamp(0, 999_999_999) as u32)
    }
}

/// What a successful answer says was not taken. Some receivers answer protobuf with JSON, and what cannot be
/// read at all says nothing: the status was success.
pub(super) fn partial_success(body: &[u8], is_json: bool) -> PartialSuccess {
    if is_json {
        return json_partial_success(body).unwrap_or_default();
    }
    ExportResponse::decode(body).ok().and_then(|response| response.partial_success).unwrap_or_default()
}

/// The same of an answer in protobuf's JSON. What else is in it is passed over and not kept.
fn json_partial_success(body: &[u8]) -> Option<PartialSuccess> {
    let JsonResponse { partial_success } = serde_json::from_slice(body).ok()?;
    let JsonPartialSuccess { rejected_data_points, error_message } = partial_success?;
    let rejected = rejected_data_points.map_or(0, |Count(count)| count);
    Some(PartialSuccess { rejected, message: error_message.unwrap_or_default() })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonResponse {
    partial_success: Option<JsonPartialSuccess>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonPartialSuccess {
    rejected_data_points: Option<Count>,
    error_message: Option<String>,
}

/// 64-bit integers are strings in protobuf's JSON, and numbers in many an implementation of it.
struct Count(i64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl Visitor<'_> for CountVisitor {
    type Value = Count;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number, or a text with one")
    }

    fn visit_i64<E: Error>(self, count: i64) -> Result<Count, E> {
        Ok(Count(count))
    }

    fn visit_u64<E: Error>(self, count: u64) -> Result<Count, E> {
        count.try_into().map(Count).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, count: &str) -> Result<Count, E> {
        count.parse().map(Count).map_err(E::custom)
    }
}

/// The text of an error's `google.rpc.Status`, if the body is one.
pub(super) fn status_message(body: &[u8]) -> Option<String> {
    StatusText::decode(body).ok().map(|status| status.message).filter(|message| !message.is_empty())
}

/// The delay that a gRPC receiver asks for in `grpc-status-details-bin`; `None` when it does not ask.
pub(super) fn retry_delay(details: &[u8]) -> Option<Duration> {
    const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    if details.len() > MAX_DETAILS {
        return None;
    }
    let status = Status::decode(&*ANY_PADDING.decode(details).ok()?).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    Some(RetryInfo::decode(&*info.value).ok()?.retry_delay.map(Duration::from).unwrap_or_default())
}
