//! From a protobuf message to the bytes that are sent: compressed, and for gRPC with its prefix.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::export::settings::{Compression, Protocol};

/// Compressed flag and length, in front of every gRPC message.
const GRPC_PREFIX: usize = 5;

/// How a receiver wants its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The protocol.
    pub protocol: Protocol,
    /// The compression.
    pub compression: Compression,
}

impl Framing {
    /// Frames a message. The result shares no memory with it, so that the encoder's buffer can be used again
    /// while the result waits, and has no spare capacity, so that its length is the memory it holds.
    #[must_use]
    pub fn frame(self, message: &[u8]) -> Bytes {
        let prefix = if self.protocol == Protocol::Grpc { GRPC_PREFIX } else { 0 };
        let mut framed = match self.compression {
            Compression::None => {
                let mut framed = Vec::with_capacity(prefix + message.len());
                framed.resize(prefix, 0);
                framed.extend_from_slice(message);
                framed
            }
            Compression::Gzip => gzip(message, prefix),
        };
        if prefix > 0 {
            let len = (framed.len() - prefix) as u32;
            framed[0] = u8::from(self.compression == Compression::Gzip);
            framed[1..GRPC_PREFIX].copy_from_slice(&len.to_be_bytes());
        }
        framed.shrink_to_fit();
        framed.into()
    }
}

/// gzip at its fastest level after `prefix` free bytes: higher levels cost ten times the CPU for a few percent.
fn gzip(message: &[u8], prefix: usize) -> Vec<u8> {
    /// Points repeat their attributes: this much is rarely exceeded, and the buffer grows if it is.
    const EXPECTED_RATIO: usize = 6;
    let mut framed = Vec::with_capacity(prefix + 64 + message.len() / EXPECTED_RATIO);
    framed.resize(prefix, 0);
    let mut encoder = GzEncoder::new(framed, flate2::Compression::fast());
    encoder
        .write_all(message)
        .and_then(|()| encoder.finish())
        .unwrap_or_else(|error| unreachable!("memory takes every write: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut message).unwrap();
        message
    }

    #[test]
    fn every_frame_holds_its_message() {
        for message in [Vec::new(), vec![7], b"abc".repeat(100_000)] {
            let frame = |protocol, compression| Framing { protocol, compression }.frame(&message);
            assert_eq!(frame(Protocol::HttpProtobuf, Compression::None), message);
            assert_eq!(gunzip(&frame(Protocol::HttpProtobuf, Compression::Gzip)), message);
            for (compression, flag) in [(Compression::None, 0), (Compression::Gzip, 1)] {
                let framed = frame(Protocol::Grpc, compression);
                let (prefix, body) = framed.split_at(GRPC_PREFIX);
                assert_eq!(prefix[0], flag);
                assert_eq!(prefix[1..], (body.len() as u32).to_be_bytes());
                assert_eq!(if flag == 1 { gunzip(body) } else { body.to_vec() }, message);
            }
        }
    }
}
