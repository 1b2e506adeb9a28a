//! A receiver that accepts everything: as little beside the measured process as can be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A request that has been acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) at: Instant,
    /// Bytes of its body, compressed as they came.
    pub(super) bytes: u64,
}

/// An OTLP/HTTP receiver on a free port of the loopback device.
#[derive(Debug)]
pub(super) struct Sink {
    port: u16,
    requests: Receiver<Received>,
}

impl Sink {
    pub(super) fn start() -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port on the loopback device")?;
        let port = listener.local_addr()?.port();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                thread::spawn(move || serve(&stream, &sender));
            }
        });
        Ok(Self { port, requests })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// The next request.
    pub(super) fn next(&self, limit: Duration) -> Result<Received> {
        match self.requests.recv_timeout(limit) {
            Ok(received) => Ok(received),
            Err(RecvTimeoutError::Timeout) => bail!("nothing was received in {} s", limit.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("the receiver has ended"),
        }
    }

    /// What has been received and not yet been asked for.
    pub(super) fn drain(&self) -> Vec<Received> {
        self.requests.try_iter().collect()
    }
}

/// One connection, request by request, until it is closed or something else than OTLP/HTTP comes.
fn serve(stream: &TcpStream, sender: &Sender<Received>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).ok()?;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        let mut writer = stream;
        writer.write_all(answer).ok()?;
        sender.send(Received { at: Instant::now(), bytes: length }).ok()?;
    }
}
