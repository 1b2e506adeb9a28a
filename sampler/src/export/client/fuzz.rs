//! Whoever listens where the collector should: bytes that are an answer, and bytes that are none.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::*;
use crate::{
    export::settings::Compression,
    fuzzing::{Memory, Target, parts},
};

/// What a request ends with: by then all of it has come.
const MESSAGE: &[u8] = b"a message that ends so";

/// Bytes of an answer, at most: four times what is read of one.
const LONGEST: usize = 4 * MAX_ANSWER_BYTES;

/// A body of [`MAX_ANSWER_BYTES`] in pieces and in one, and what hyper has of a connection.
const MEMORY: Memory = Memory { fixed: 3 * MAX_ANSWER_BYTES, each: 64 };

/// Waits for a request and answers everybody alike.
struct Peer {
    address: SocketAddr,
    /// What the answer is made of: on its thread, so that what it takes is not counted.
    input: Arc<Mutex<Vec<u8>>>,
}

impl Peer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let input = Arc::<Mutex<Vec<u8>>>::default();
        let shared = Arc::clone(&input);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer(&shared.lock().unwrap());
                // Who does not want all of it closes the connection.
                let _ = serve(stream, &answer);
            }
        });
        Self { address, input }
    }

    /// What a client makes of an answer.
    fn deliver(&self, protocol: Protocol, input: &[u8]) -> Delivery {
        *self.input.lock().unwrap() = input.to_vec();
        let settings = ExportSettings {
            endpoint: Some(format!("http://{}", self.address)),
            protocol,
            compression: Compression::None,
            timeout: Duration::from_secs(60),
            ..ExportSettings::default()
        };
        let framed = Framer::new(protocol).frame(MESSAGE, Encoding::None);
        let client = Client::new(&settings).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client.deliver(&framed))
    }
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let (mut request, mut room) = (Vec::new(), [0; 4096]);
    while !request.windows(MESSAGE.len()).any(|window| window == MESSAGE) {
        let length = stream.read(&mut room)?;
        if length == 0 {
            return Ok(());
        }
        request.extend_from_slice(&room[..length]);
    }
    stream.write_all(answer)?;
    stream.shutdown(Shutdown::Write)
}

/// Bytes, and a piece that follows them so many times.
fn answer(input: &[u8]) -> Vec<u8> {
    let [bytes, piece, times] = parts(input);
    let times = str::from_utf8(times).ok().and_then(|times| times.trim().parse().ok()).unwrap_or(1);
    [bytes, &piece.repeat(usize::min(times, LONGEST / piece.len().max(1)))].concat()
}

fn check(target: &Target, protocol: Protocol, made: &[Vec<u8>]) {
    let peer = Peer::start();
    target.check(made, |input| match peer.deliver(protocol, input).answer {
        Answer::Taken { .. } => {}
        Answer::Retry { failure, .. } | Answer::Refused { failure, .. } => {
            assert!(!failure.text.contains(char::is_control), "{failure}");
            assert_ne!(failure.kind, FailureKind::TimedOut, "the peer has closed the connection");
        }
    });
}

const HTTP: Target = Target {
    name: "http",
    words: &[
        "\n====\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "\r\n",
        "content-length: ",
        "transfer-encoding: chunked\r\n",
        "content-encoding: gzip\r\n",
        "connection: close\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n\r\n",
    ],
    inputs: 300,
    memory: MEMORY,
};

#[test]
fn http() {
    check(&HTTP, Protocol::HttpProtobuf, &[]);
}

const GRPC: Target = Target {
    name: "grpc",
    words: &["\n====\n", "grpc-status", "\u{0}\u{0}\u{4}\u{8}\u{0}", "\u{0}\u{1}\u{4}", "\u{0}\u{1}\u{5}"],
    inputs: 300,
    memory: MEMORY,
};

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is not compressed.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    [&[0][..], &text(name), &text(value)].concat()
}

/// An answer with a message and a status.
fn answered(message: &[u8], status: &str) -> Vec<u8> {
    const STATUS_200: u8 = 0x88;
    let head = [&[STATUS_200][..], &literal("content-type", "application/grpc")].concat();
    let body = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    let trailers = [literal("grpc-status", status), literal("grpc-message", "why")].concat();
    [frame(4, 0, 0, &[]), frame(1, 4, 1, &head), frame(0, 0, 1, &body), frame(1, 5, 1, &trailers)].concat()
}

#[test]
fn grpc() {
    let window = frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff]);
    let reset = frame(3, 0, 1, &[0, 0, 0, 7]);
    let gone = frame(7, 0, 0, &[0; 8]);
    let made = [
        answered(b"\x0a\x06\x08\x05\x12\x02no", "0"),
        answered(b"", "14"),
        [answered(b"", "8"), window].concat(),
        [frame(4, 0, 0, &[]), reset].concat(),
        [frame(4, 0, 0, &[]), gone].concat(),
    ];
    check(&GRPC, Protocol::Grpc, &made);
}

/// Else all that fails would be that nothing is understood.
#[test]
fn what_a_receiver_answers_is_understood() {
    let peer = Peer::start();
    let body = b"\x0a\x06\x08\x05\x12\x02no";
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let expected = Answer::Taken { rejected: 5, message: Some("no".into()) };
    let by_http = peer.deliver(Protocol::HttpProtobuf, &[head.as_bytes(), body].concat());
    assert_eq!(by_http.answer, expected);
    assert_eq!(peer.deliver(Protocol::Grpc, &answered(body, "0")).answer, expected);
    // Of one that has no end no more is read than may be; its status stands.
    let endless = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\n====\nx\n====\n{LONGEST}");
    let delivery = peer.deliver(Protocol::HttpProtobuf, endless.as_bytes());
    assert_eq!(delivery.answer, Answer::Taken { rejected: 0, message: None });
}
