//! OTLP over HTTP/1.1 and over gRPC: sending a request once, and what the receiver's answer means.
//!
//! An own client on hyper, because the payload exists already: it is framed and compressed once, and the
//! same bytes are sent at every attempt. When to try again is the pipeline's business, but for one case: a
//! request that is refused for its encoding is sent again at once in the next lower one.

mod answer;
mod classify;
mod files;
mod frame;
#[cfg(test)]
mod fuzz;
mod inputs;
mod ladder;
mod tls;
mod wires;

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
use hyper_util::client::legacy::connect::HttpInfo;

pub use self::{
    classify::Answer,
    files::FileError,
    frame::{Encoding, Framed, Framer},
    inputs::Inputs,
    tls::TlsError,
};
use self::{classify::Reply, ladder::Ladder, wires::Wires};
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
    /// A file with a secret cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
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
    /// An HTTP status of success with something that no OTLP receiver answers.
    NotOtlp,
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

/// Sends framed requests to one receiver over a connection that is kept open.
pub struct Client {
    target: Target,
    ladder: Mutex<Ladder>,
    headers: HeaderMap,
    timeout: Duration,
    wires: Wires,
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
        let Inputs { headers, material } = Inputs::read(settings)?;
        Ok(Self {
            headers,
            ladder: Mutex::new(Ladder::new(settings.compression, target.is_this_host())),
            timeout: settings.timeout,
            wires: Wires::new(&settings.tls, &target, material)?,
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
        self.target.label()
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
                    self.wires.reconnect();
                }
                return (answer, lower);
            }
            Ok(Err(Broken { failure, may_be_outdated: true })) => {
                self.wires.renew(self.timeout).await;
                return (Answer::Retry { after: None, failure }, None);
            }
            Ok(Err(Broken { failure, .. })) => failure,
            Err(_) => Failure {
                kind: FailureKind::TimedOut,
                text: format!("no answer within {}", humantime::format_duration(self.timeout)),
            },
        };
        // A dead HTTP/2 connection would be used again until TCP gives it up, which takes a quarter of an
        // hour.
        self.wires.reconnect();
        (Answer::Retry { after: None, failure }, None)
    }

    fn ladder(&self) -> MutexGuard<'_, Ladder> {
        self.ladder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(&self, framed: &Framed) -> Result<Reply, Broken> {
        let mut request = Request::new(Full::new(framed.bytes().clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if framed.encoding() != Encoding::None {
            let value = HeaderValue::from_static(framed.encoding().name());
            request.headers_mut().insert(encoding_header(self.target.protocol), value);
        }
        let response = self.wires.connections().request(request).await.map_err(|error| {
            let is_connect = error.is_connect();
            let kind = if is_connect { FailureKind::Unreachable } else { FailureKind::Broken };
            let may_be_outdated = self.wires.may_be_outdated(&error, is_connect);
            Broken { failure: Failure { kind, text: chain(&error) }, may_be_outdated }
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
            Err(error) => {
                let failure = Failure { kind: FailureKind::Broken, text: chain(&*error) };
                return Err(Broken { failure, may_be_outdated: self.wires.may_be_outdated(&*error, false) });
            }
        };
        Ok(Reply { status: head.status, headers: head.headers, body, trailers })
    }
}

/// An attempt that had no answer.
struct Broken {
    failure: Failure,
    /// Whether keys and certificates are to be read again.
    may_be_outdated: bool,
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
