//! OTLP over HTTP/1.1 and over gRPC: sending a request once, and what the receiver's answer means.
//!
//! An own client on hyper, because the payload exists already: it is framed and compressed once, and the
//! same bytes are sent at every attempt. When to try again is the pipeline's business, but for one case: a
//! request that is refused for its encoding is sent again at once in the next lower one.

mod answer;
mod classify;
mod frame;
mod ladder;
mod tls;

use std::{
    error::Error as StdError,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{
        Client as HyperClient,
        connect::{HttpConnector, HttpInfo},
    },
    rt::{TokioExecutor, TokioTimer},
};

pub use self::{
    classify::Answer,
    frame::{Encoding, Framed, Framer},
    tls::TlsError,
};
use self::{classify::Reply, ladder::Ladder};
use super::settings::{ExportSettings, Protocol, SettingError, Target};

/// Longest answer that is read, as the OTLP specification recommends.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// From zstd to gzip and from there to none. Holds even where a message cannot be made in another encoding.
const MAX_STEPS: usize = 2;

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A setting cannot be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Keys or certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why an attempt failed, without the details: what makes two failures the same to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection: nobody listens, the name is unknown, TLS was refused.
    Unreachable,
    /// The time of the attempt ran out.
    TimedOut,
    /// The connection broke before the answer was complete.
    Broken,
    /// An HTTP status other than success.
    Http(u16),
    /// A gRPC status other than OK.
    Grpc(i32),
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// For people; text from the receiver is cut and cleared of control characters.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The last answer.
    pub answer: Answer,
    /// Bytes of the request in that attempt, compressed.
    pub bytes: usize,
    /// Attempts before it, which were refused for their encoding.
    pub steps: Vec<Step>,
}

/// A request was refused for its encoding and is sent again in a lower one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The encoding that was refused.
    pub from: Encoding,
    /// The one that follows.
    pub to: Encoding,
    /// The refusal.
    pub failure: Failure,
}

type Connections = HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Sends framed requests to one receiver over a connection that is kept open.
pub struct Client {
    target: Target,
    ladder: Mutex<Ladder>,
    headers: HeaderMap,
    timeout: Duration,
    connector: HttpsConnector<HttpConnector>,
    connections: Mutex<Connections>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads keys and certificates, and connects to nobody yet.
    ///
    /// # Errors
    /// A setting, a key or a certificate cannot be used.
    pub fn new(settings: &ExportSettings) -> Result<Self, ClientError> {
        let target = settings.target()?;
        let connector = tls::connector(settings, &target)?;
        Ok(Self {
            headers: headers(settings)?,
            ladder: Mutex::new(Ladder::new(settings.compression, target.is_this_host())),
            timeout: settings.timeout,
            connections: Mutex::new(connections(&connector, target.protocol)),
            connector,
            target,
        })
    }

    /// The protocol that messages must be framed for.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.target.protocol
    }

    /// The encoding for the next message, by the settings and by what the receiver has refused. A message in
    /// another one arrives too, at the price of being compressed again.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.ladder().current()
    }

    /// Where requests go, for messages to people.
    pub fn endpoint(&self) -> impl fmt::Display {
        &self.target.uri
    }

    /// Sends a message: one attempt, within the configured time, and one more in each lower encoding as long
    /// as the receiver refuses the encoding. Needs a tokio runtime.
    pub async fn deliver(&self, framed: &Framed) -> Delivery {
        let mut framed = in_encoding(framed, self.encoding()).await;
        let mut steps = Vec::new();
        loop {
            let sent = framed.encoding();
            let (answer, lower) = self.attempt(&framed).await;
            match (lower, answer) {
                (Some(to), Answer::Refused { failure, .. }) if steps.len() < MAX_STEPS => {
                    framed = in_encoding(&framed, to).await;
                    steps.push(Step { from: sent, to, failure });
                }
                (_, answer) => return Delivery { answer, bytes: framed.bytes().len(), steps },
            }
        }
    }

    /// One attempt. With the answer comes the lower encoding to send the message in again, if the answer is
    /// to its encoding.
    async fn attempt(&self, framed: &Framed) -> (Answer, Option<Encoding>) {
        let attempt = tokio::time::timeout(self.timeout, self.exchange(framed));
        let failure = match attempt.await {
            Ok(Ok(reply)) => {
                let answer = match self.target.protocol {
                    Protocol::HttpProtobuf => classify::http(&reply, SystemTime::now()),
                    Protocol::Grpc => classify::grpc(&reply),
                };
                let sign = classify::encoding_refused(&reply, &answer, framed.encoding());
                let lower = self.ladder().settle(framed.encoding(), &answer, sign);
                if lower.is_some() {
                    // gRPC's C core refuses every encoding on a connection on which it met an unknown one.
                    self.reconnect();
                }
                return (answer, lower);
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure {
                kind: FailureKind::TimedOut,
                text: format!("no answer within {}", humantime::format_duration(self.timeout)),
            },
        };
        // A dead HTTP/2 connection would be used again until TCP gives it up, which takes a quarter of an
        // hour.
        self.reconnect();
        (Answer::Retry { after: None, failure }, None)
    }

    /// Further attempts are made on a new connection.
    fn reconnect(&self) {
        *self.connections.lock().unwrap_or_else(PoisonError::into_inner) =
            connections(&self.connector, self.target.protocol);
    }

    fn ladder(&self) -> MutexGuard<'_, Ladder> {
        self.ladder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(&self, framed: &Framed) -> Result<Reply, Failure> {
        let mut request = Request::new(Full::new(framed.bytes().clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if framed.encoding() != Encoding::None {
            let value = HeaderValue::from_static(framed.encoding().name());
            request.headers_mut().insert(encoding_header(self.target.protocol), value);
        }
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = connections.request(request).await.map_err(|error| Failure {
            kind: if error.is_connect() { FailureKind::Unreachable } else { FailureKind::Broken },
            text: chain(&error),
        })?;
        if let Some(connection) = response.extensions().get::<HttpInfo>() {
            self.ladder().connected(connection.remote_addr(), connection.local_addr());
        }
        let (head, body) = response.into_parts();
        let (body, trailers) = match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => {
                let trailers = body.trailers().cloned();
                (body.to_bytes(), trailers)
            }
            // The status was read and stands; what else the receiver had to say is not worth the memory.
            Err(error) if error.is::<LengthLimitError>() => (Bytes::new(), None),
            Err(error) => return Err(Failure { kind: FailureKind::Broken, text: chain(&*error) }),
        };
        Ok(Reply { status: head.status, headers: head.headers, body, trailers })
    }
}

/// The same message in another encoding, compressed where no other task waits for it.
async fn in_encoding(framed: &Framed, encoding: Encoding) -> Framed {
    let framed = framed.clone();
    if framed.encoding() == encoding {
        return framed;
    }
    let as_it_is = framed.clone();
    tokio::task::spawn_blocking(move || framed.into_encoding(encoding)).await.unwrap_or(as_it_is)
}

const fn encoding_header(protocol: Protocol) -> HeaderName {
    match protocol {
        Protocol::HttpProtobuf => header::CONTENT_ENCODING,
        Protocol::Grpc => HeaderName::from_static("grpc-encoding"),
    }
}

fn connections(connector: &HttpsConnector<HttpConnector>, protocol: Protocol) -> Connections {
    HyperClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1)
        .http2_only(protocol == Protocol::Grpc)
        .build(connector.clone())
}

/// What every request carries: configured headers over our name, the protocol's own over both.
fn headers(settings: &ExportSettings) -> Result<HeaderMap, SettingError> {
    const USER_AGENT: &str = concat!("hvsampler/", env!("CARGO_PKG_VERSION"));
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.extend(settings.header_map()?);
    // It would contradict the body.
    headers.remove(encoding_header(settings.protocol));
    match settings.protocol {
        Protocol::HttpProtobuf => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        }
        Protocol::Grpc => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert(HeaderName::from_static("grpc-timeout"), grpc_timeout(settings.timeout));
        }
    }
    Ok(headers)
}

/// At most eight digits and a unit; hours enough in milliseconds.
fn grpc_timeout(timeout: Duration) -> HeaderValue {
    let ms = timeout.as_millis().clamp(1, 99_999_999);
    HeaderValue::try_from(format!("{ms}m")).unwrap_or(HeaderValue::from_static("10S"))
}

/// An error with its causes; the outer ones alone say only "client error".
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    classify::clean(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::settings::Headers;

    #[test]
    fn protocol_headers_win_over_configured_ones_and_those_over_our_name() {
        let configured = [
            ("content-encoding", "br"),
            ("content-type", "text/plain"),
            ("user-agent", "mine"),
            ("x-tenant", "7"),
        ];
        let configured = configured.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = ExportSettings { headers: Headers(configured.into()), ..Default::default() };
        let headers = headers(&settings).unwrap();
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers.get("content-encoding"), None, "each request has its own");
        assert_eq!(headers["user-agent"], "mine");
        assert_eq!(headers["x-tenant"], "7");
    }

    #[test]
    fn the_grpc_timeout_fits_into_eight_digits() {
        assert_eq!(grpc_timeout(Duration::from_secs(10)), "10000m");
        assert_eq!(grpc_timeout(Duration::from_nanos(1)), "1m");
        assert_eq!(grpc_timeout(Duration::from_secs(u32::MAX.into())), "99999999m");
    }
}
