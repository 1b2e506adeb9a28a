//! From a protobuf message to the bytes that are sent: compressed, and for gRPC with its prefix.

use std::io::{self, Read as _, Write as _};

use bytes::Bytes;
use flate2::{read::GzDecoder, write::GzEncoder};
use zstd::{bulk, zstd_safe};

use crate::export::settings::Protocol;

/// Compressed flag and length, in front of every gRPC message.
const GRPC_PREFIX: usize = 5;

/// How a message is compressed on its way, from the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encoding {
    /// Not at all.
    None,
    /// gzip at its fastest level: higher levels cost ten times the CPU for a few percent.
    Gzip,
    /// zstd at level 1: smaller than gzip, for less CPU. Not every receiver takes it.
    Zstd,
}

impl Encoding {
    /// The name in HTTP and gRPC headers, where nothing stands for none, and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The next one for a receiver that does not take this one.
    pub(super) const fn lower(self) -> Option<Self> {
        match self {
            Self::None => None,
            Self::Gzip => Some(Self::None),
            Self::Zstd => Some(Self::Gzip),
        }
    }
}

/// A message as it is sent. Its memory has no spare capacity.
#[derive(Clone, Debug)]
pub struct Framed {
    bytes: Bytes,
    encoding: Encoding,
    protocol: Protocol,
    /// Length before compression and without the prefix.
    message_len: usize,
}

impl Framed {
    /// As it is sent.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How it is compressed.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The same message in another encoding; where that cannot be made, as it is.
    #[must_use]
    pub fn into_encoding(self, encoding: Encoding) -> Self {
        if encoding == self.encoding {
            return self;
        }
        match self.message() {
            Ok(message) => Framer::new(self.protocol).frame(&message, encoding),
            Err(_) => self,
        }
    }

    fn message(&self) -> io::Result<Vec<u8>> {
        let body = &self.bytes[prefix_len(self.protocol)..];
        match self.encoding {
            Encoding::None => Ok(body.to_vec()),
            Encoding::Gzip => {
                let mut message = Vec::with_capacity(self.message_len);
                GzDecoder::new(body).read_to_end(&mut message)?;
                Ok(message)
            }
            Encoding::Zstd => bulk::decompress(body, self.message_len),
        }
    }
}

/// Frames messages one after the other, and keeps what compression needs from one to the next.
pub struct Framer {
    protocol: Protocol,
    zstd: Option<bulk::Compressor<'static>>,
    /// Room for the longest that zstd may make of a message. What is never written of it takes no memory.
    scratch: Vec<u8>,
}

impl Framer {
    /// A framer for one protocol.
    #[must_use]
    pub const fn new(protocol: Protocol) -> Self {
        Self { protocol, zstd: None, scratch: Vec::new() }
    }

    /// Frames a message, which is not copied where it is sent as it is. The encoder's buffer is its own again
    /// once the result is dropped; while that waits, the encoder makes another, which takes no more than a
    /// copy.
    pub fn frame_shared(&mut self, message: &Bytes, encoding: Encoding) -> Framed {
        if encoding != Encoding::None || prefix_len(self.protocol) > 0 {
            return self.frame(message, encoding);
        }
        Framed { bytes: message.clone(), encoding, protocol: self.protocol, message_len: message.len() }
    }

    /// Frames a message. The result shares no memory with it. A message that cannot be compressed for want of
    /// memory is framed without.
    pub fn frame(&mut self, message: &[u8], encoding: Encoding) -> Framed {
        let compressed = match encoding {
            Encoding::None => None,
            Encoding::Gzip => self.gzip(message).ok(),
            Encoding::Zstd => self.zstd(message).ok(),
        };
        let (encoding, framed) = match compressed {
            Some(framed) => (encoding, framed),
            None => (Encoding::None, self.with_prefix(Encoding::None, message)),
        };
        Framed { bytes: framed.into(), encoding, protocol: self.protocol, message_len: message.len() }
    }

    fn gzip(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        self.scratch.clear();
        let mut encoder = GzEncoder::new(&mut self.scratch, flate2::Compression::fast());
        encoder.write_all(message)?;
        encoder.finish()?;
        Ok(self.with_prefix(Encoding::Gzip, &self.scratch))
    }

    fn zstd(&mut self, message: &[u8]) -> io::Result<Vec<u8>> {
        const LEVEL: i32 = 1;
        let compressor = match &mut self.zstd {
            Some(compressor) => compressor,
            none => none.insert(bulk::Compressor::new(LEVEL)?),
        };
        self.scratch.clear();
        self.scratch.reserve(zstd_safe::compress_bound(message.len()));
        compressor.compress_to_buffer(message, &mut self.scratch)?;
        Ok(self.with_prefix(Encoding::Zstd, &self.scratch))
    }

    fn with_prefix(&self, encoding: Encoding, body: &[u8]) -> Vec<u8> {
        let mut framed = Vec::with_capacity(prefix_len(self.protocol) + body.len());
        if self.protocol == Protocol::Grpc {
            framed.push(u8::from(encoding != Encoding::None));
            framed.extend_from_slice(&(body.len() as u32).to_be_bytes());
        }
        framed.extend_from_slice(body);
        framed
    }
}

const fn prefix_len(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Grpc => GRPC_PREFIX,
        Protocol::HttpProtobuf => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODINGS: [Encoding; 3] = [Encoding::None, Encoding::Gzip, Encoding::Zstd];

    fn messages() -> [Vec<u8>; 4] {
        // The third does not compress, and is longer than what zstd takes in one block.
        let mut random = fastrand::Rng::with_seed(7);
        let noise = std::iter::repeat_with(|| random.u8(..)).take(300_000).collect();
        [Vec::new(), vec![7], noise, b"abc".repeat(100_000)]
    }

    fn decoded(body: &[u8], encoding: Encoding) -> Vec<u8> {
        let mut message = Vec::new();
        match encoding {
            Encoding::None => message.extend_from_slice(body),
            Encoding::Gzip => drop(GzDecoder::new(body).read_to_end(&mut message).unwrap()),
            Encoding::Zstd => message = zstd::stream::decode_all(body).unwrap(),
        }
        message
    }

    /// One framer for all, as in the pipeline: nothing of a message may be left for the next.
    #[test]
    fn every_frame_holds_its_message() {
        let mut http = Framer::new(Protocol::HttpProtobuf);
        let mut grpc = Framer::new(Protocol::Grpc);
        for message in messages() {
            for encoding in ENCODINGS {
                let framed = http.frame(&message, encoding);
                assert_eq!(framed.encoding(), encoding);
                assert!(decoded(framed.bytes(), encoding) == message);
                assert!(http.frame_shared(&message.clone().into(), encoding).bytes() == framed.bytes());

                let framed = grpc.frame(&message, encoding);
                let (prefix, body) = framed.bytes().split_at(GRPC_PREFIX);
                assert_eq!(prefix[0], u8::from(encoding != Encoding::None));
                assert_eq!(prefix[1..], (body.len() as u32).to_be_bytes());
                assert!(decoded(body, encoding) == message);
                assert!(grpc.frame_shared(&message.clone().into(), encoding).bytes() == framed.bytes());
            }
        }
    }

    #[test]
    fn a_frame_is_as_good_as_new_in_another_encoding() {
        for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
            let mut framer = Framer::new(protocol);
            for message in messages() {
                for (from, to) in ENCODINGS.into_iter().flat_map(|from| ENCODINGS.map(|to| (from, to))) {
                    let framed = framer.frame(&message, from).into_encoding(to);
                    assert_eq!(framed.encoding(), to);
                    assert!(framed.bytes() == framer.frame(&message, to).bytes(), "{from:?} to {to:?}");
                }
            }
        }
    }

    #[test]
    fn compression_makes_points_smaller() {
        let message = b"hypervisor.vcpu.time".repeat(1000);
        let mut framer = Framer::new(Protocol::HttpProtobuf);
        let len = |framed: Framed| framed.bytes().len();
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            assert!(len(framer.frame(&message, encoding)) < message.len() / 10, "{encoding:?}");
        }
    }
}
