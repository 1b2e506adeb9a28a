//! A receiver that follows a script: real HTTP/1.1 and HTTP/2 on loopback.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::Read as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hvsampler::export::settings::{Compression, ExportSettings, Protocol, RetrySettings};
use hyper::{HeaderMap, Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What the peer answers to one request. Beyond the script it answers with success.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Success with this `ExportMetricsServiceResponse`.
    Taken(Vec<u8>),
    /// An HTTP status with headers and a body.
    Http(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A gRPC status with a message, and with a `RetryInfo` of so many seconds.
    Grpc(i32, &'static str, Option<u8>),
    /// gRPC UNIMPLEMENTED without a word, but with the encodings that are known.
    GrpcAccepts(&'static str),
    /// No answer ever.
    Silence,
    /// The connection is closed in place of an answer.
    HangUp,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The body as it was sent.
    pub(crate) sent: Bytes,
    pub(crate) message: ExportMetricsServiceRequest,
    /// Whether it was answered with success.
    pub(crate) taken: bool,
}

impl Seen {
    /// Time of the points.
    pub(crate) fn time(&self) -> u64 {
        let metrics = &self.message.resource_metrics[0].scope_metrics[0].metrics;
        let mut metric = metrics.last().cloned().unwrap();
        crate::points_of(&mut metric)[0].time_unix_nano
    }

    /// The encoding that the headers name.
    pub(crate) fn encoding(&self) -> &str {
        self.header("content-encoding").or(self.header("grpc-encoding")).unwrap_or("identity")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    /// Encodings that are answered as the script says; the others are refused like this.
    known: Option<(&'static [&'static str], Reply)>,
    seen: Vec<Seen>,
    connections: usize,
}

pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    protocol: Protocol,
    script: Arc<Mutex<Script>>,
    _tasks: JoinSet<()>,
}

/// A port that nobody listens on.
pub(crate) async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

impl Peer {
    pub(crate) async fn start(protocol: Protocol, replies: Vec<Reply>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), protocol, replies, None).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        protocol: Protocol,
        replies: Vec<Reply>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script { replies: replies.into(), ..Script::default() }));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, protocol, script.clone(), tls));
        Self { address, protocol, script, _tasks: tasks }
    }

    /// From now on it refuses all encodings but these.
    pub(crate) fn knows(self, encodings: &'static [&'static str], refusal: &Reply) -> Self {
        self.script.lock().unwrap().known = Some((encodings, refusal.clone()));
        self
    }

    /// Settings that reach this peer and do not wait long.
    pub(crate) fn settings(&self) -> ExportSettings {
        settings(self.address, self.protocol)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.script.lock().unwrap().connections
    }

    /// Waits until so many requests came.
    pub(crate) async fn wait_for(&self, requests: usize) -> Vec<Seen> {
        crate::until(|| self.script.lock().unwrap().seen.len() >= requests).await;
        self.seen()
    }
}

pub(crate) fn settings(address: SocketAddr, protocol: Protocol) -> ExportSettings {
    ExportSettings {
        endpoint: Some(format!("http://{address}")),
        protocol,
        retry: RetrySettings {
            initial_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_millis(100),
            ..RetrySettings::default()
        },
        ..ExportSettings::default()
    }
}

async fn accept(
    listener: TcpListener,
    protocol: Protocol,
    script: Arc<Mutex<Script>>,
    tls: Option<TlsAcceptor>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        script.lock().unwrap().connections += 1;
        connections.spawn(connection(stream, protocol, script.clone(), tls.clone()));
    }
}

async fn connection(
    stream: TcpStream,
    protocol: Protocol,
    script: Arc<Mutex<Script>>,
    tls: Option<TlsAcceptor>,
) {
    match tls {
        None => serve(stream, protocol, script).await,
        // A client that refuses our certificate is part of the tests.
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, protocol, script).await;
            }
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    protocol: Protocol,
    script: Arc<Mutex<Script>>,
) {
    let service = service_fn(move |request| answer(request, protocol, script.clone()));
    let io = TokioIo::new(stream);
    // Clients hang up as they please.
    let _ended = match protocol {
        Protocol::HttpProtobuf => {
            hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
        }
        Protocol::Grpc => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        }
    };
}

/// The connection ends here.
#[derive(Debug, thiserror::Error)]
#[error("hang up")]
struct HangUp;

async fn answer(
    request: Request<Incoming>,
    protocol: Protocol,
    script: Arc<Mutex<Script>>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, HangUp> {
    let (head, body) = request.into_parts();
    let sent = body.collect().await.map_err(|_| HangUp)?.to_bytes();
    let mut seen = Seen {
        at: Instant::now(),
        path: head.uri.path().to_owned(),
        message: decode(&sent, &head.headers, protocol),
        headers: head.headers,
        sent,
        taken: false,
    };
    let reply = {
        let mut script = script.lock().unwrap();
        let refusal = script.known.as_ref().filter(|(known, _)| !known.contains(&seen.encoding()));
        let reply = match refusal.map(|(_, refusal)| refusal.clone()) {
            Some(refusal) => refusal,
            None => script.replies.pop_front().unwrap_or(Reply::Taken(Vec::new())),
        };
        seen.taken = matches!(reply, Reply::Taken(_));
        script.seen.push(seen);
        reply
    };
    match reply {
        Reply::Taken(message) => Ok(taken(message, protocol)),
        Reply::Http(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(body.into()).boxed()).unwrap())
        }
        Reply::Grpc(status, message, retry) => Ok(grpc(Vec::new(), status, message, retry)),
        Reply::GrpcAccepts(encodings) => {
            let mut response = grpc(Vec::new(), 12, "", None);
            response.headers_mut().insert("grpc-accept-encoding", encodings.parse().unwrap());
            Ok(response)
        }
        Reply::Silence => std::future::pending().await,
        Reply::HangUp => Err(HangUp),
    }
}

fn taken(message: Vec<u8>, protocol: Protocol) -> Response<BoxBody<Bytes, Infallible>> {
    match protocol {
        Protocol::HttpProtobuf => {
            let response = Response::builder().header("content-type", "application/x-protobuf");
            response.body(Full::new(message.into()).boxed()).unwrap()
        }
        Protocol::Grpc => {
            let mut body = vec![0];
            body.extend_from_slice(&(message.len() as u32).to_be_bytes());
            body.extend_from_slice(&message);
            grpc(body, 0, "", None)
        }
    }
}

fn grpc(
    body: Vec<u8>,
    status: i32,
    message: &str,
    retry: Option<u8>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    trailers.insert("grpc-message", message.replace(' ', "%20").parse().unwrap());
    if let Some(seconds) = retry {
        trailers.insert("grpc-status-details-bin", retry_info(status, seconds).parse().unwrap());
    }
    let body = Full::new(body.into()).with_trailers(async move { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(body.boxed()).unwrap()
}

/// `google.rpc.Status` with a `RetryInfo`, byte by byte.
fn retry_info(status: i32, seconds: u8) -> String {
    let url = b"type.googleapis.com/google.rpc.RetryInfo";
    let mut any = vec![0x0a, url.len() as u8];
    any.extend_from_slice(url);
    any.extend_from_slice(&[0x12, 4, 0x0a, 2, 0x08, seconds]);
    let mut message = vec![0x08, status as u8, 0x1a, any.len() as u8];
    message.extend_from_slice(&any);
    BASE64_STANDARD_NO_PAD.encode(message)
}

fn decode(sent: &[u8], headers: &HeaderMap, protocol: Protocol) -> ExportMetricsServiceRequest {
    let header = |name| headers.get(name).map(|value| value.to_str().unwrap());
    let (encoding, body) = match protocol {
        Protocol::HttpProtobuf => (header("content-encoding"), sent),
        Protocol::Grpc => {
            assert_eq!(u32::from_be_bytes(sent[1..5].try_into().unwrap()) as usize, sent.len() - 5);
            let encoding = header("grpc-encoding");
            assert_eq!(sent[0] == 1, encoding.is_some(), "flag and header agree");
            (encoding, &sent[5..])
        }
    };
    let mut plain = Vec::new();
    match encoding {
        Some("gzip") => drop(flate2::read::GzDecoder::new(body).read_to_end(&mut plain).unwrap()),
        Some("zstd") => plain = zstd::stream::decode_all(body).unwrap(),
        None => plain.extend_from_slice(body),
        Some(other) => panic!("{other}"),
    }
    ExportMetricsServiceRequest::decode(&*plain).unwrap()
}

/// All combinations that a receiver may be configured for.
pub(crate) const TRANSPORTS: [(Protocol, Compression); 6] = [
    (Protocol::HttpProtobuf, Compression::Zstd),
    (Protocol::HttpProtobuf, Compression::Gzip),
    (Protocol::HttpProtobuf, Compression::None),
    (Protocol::Grpc, Compression::Zstd),
    (Protocol::Grpc, Compression::Gzip),
    (Protocol::Grpc, Compression::None),
];
