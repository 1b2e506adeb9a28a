//! A collector on which nobody can rely: it behaves in another way each few seconds.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::taken::{Received, Seen, Taken};

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It takes what comes.
    Takes,
    /// Nobody listens.
    Refuses,
    /// It takes requests and never answers.
    Hangs,
    /// It breaks connections off in the middle of a request.
    Resets,
    /// It asks to be left alone for now.
    IsBusy,
    /// It refuses requests for good.
    Rejects,
}

const WAYS: [Way; 6] = [Way::Takes, Way::Refuses, Way::Hangs, Way::Rejects, Way::Resets, Way::IsBusy];

/// How often it looks whether it is to take everything from now on.
const STEP: Duration = Duration::from_millis(50);

/// Its orders, shared with the thread that follows them.
#[derive(Debug, Default)]
struct Orders {
    /// It takes everything from now on.
    take_all: AtomicBool,
    /// It does.
    takes_all: AtomicBool,
    /// It ends.
    end: AtomicBool,
}

/// The collector, an OTLP/HTTP receiver on a port of the loopback device.
pub(super) struct Receiver {
    port: u16,
    taken: Seen,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(super) fn start(phase: Duration) -> anyhow::Result<Self> {
        let listener = listen(0).context("no port of the loopback device is free")?;
        let port = listener.local_addr()?.port();
        let (taken, orders) = (Seen::default(), Arc::<Orders>::default());
        let (shared, followed) = (Arc::clone(&taken), Arc::clone(&orders));
        let thread = thread::spawn(move || turn(port, listener, phase, &shared, &followed));
        Ok(Self { port, taken, orders, thread: Some(thread) })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// What it has taken so far.
    pub(super) fn taken(&self) -> Taken {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It takes everything from now on. Returns when it does.
    pub(super) fn take_all(&self) {
        self.orders.take_all.store(true, Ordering::Release);
        while !self.orders.takes_all.load(Ordering::Acquire) {
            thread::sleep(STEP);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.orders.end.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Behaves in one way after the other until it is to take all, and in that until it is to end.
fn turn(port: u16, first: TcpListener, phase: Duration, taken: &Seen, orders: &Orders) {
    let mut listener = Some(first);
    for way in WAYS.into_iter().cycle() {
        let is_last = orders.take_all.load(Ordering::Acquire);
        let way = if is_last { Way::Takes } else { way };
        if way != Way::Refuses && listener.is_none() {
            listener = match listen(port) {
                Ok(listener) => Some(listener),
                Err(error) => {
                    eprintln!("the collector cannot listen on its port again: {error}");
                    return;
                }
            };
        }
        if is_last {
            orders.takes_all.store(true, Ordering::Release);
        }
        let end = Instant::now() + phase;
        let goes_on = || match is_last {
            true => !orders.end.load(Ordering::Acquire),
            false => Instant::now() < end && !orders.take_all.load(Ordering::Acquire),
        };
        behave(way, listener.as_ref(), taken, goes_on);
        if orders.end.load(Ordering::Acquire) {
            return;
        }
        if way == Way::Takes {
            // What waits to be accepted is refused with the listener.
            listener = None;
        }
    }
}

/// Serves connections in one way. Those that are open at the end are closed, but not in the middle of an
/// answer.
fn behave(way: Way, listener: Option<&TcpListener>, taken: &Seen, goes_on: impl Fn() -> bool) {
    thread::scope(|scope| {
        let mut open = Vec::new();
        while goes_on() {
            let Some(listener) = listener.filter(|_| way != Way::Refuses) else {
                thread::sleep(STEP);
                continue;
            };
            let Some(stream) = accept(listener).map(Arc::new) else { continue };
            open.push(Arc::downgrade(&stream));
            scope.spawn(move || {
                // A connection that breaks off is the client's to bear.
                let _ = serve(way, &stream, taken);
            });
        }
        open.iter().filter_map(Weak::upgrade).for_each(|stream| drop(stream.shutdown(Shutdown::Read)));
    });
}

/// The next connection, where one comes soon.
fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let limit = Timespec::try_from(STEP).ok()?;
    poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&limit)).ok()?;
    let (stream, _) = listener.accept().ok()?;
    stream.set_nonblocking(false).ok()?;
    Some(stream)
}

/// One connection, request by request, until it is closed.
fn serve(way: Way, stream: &TcpStream, taken: &Seen) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    if way == Way::Resets {
        // What is not read when a connection is closed resets it.
        return reader.get_mut().read_exact(&mut [0]);
    }
    while let Some(body) = request(&mut reader)? {
        let received = Received::decode(&body).map_err(io::Error::other)?;
        let answer = match way {
            Way::Takes => "200 OK\r\ncontent-type: application/x-protobuf",
            Way::Rejects => "400 Bad Request",
            _ => "503 Service Unavailable",
        };
        if way == Way::Hangs {
            // Until the client has enough, or this is over.
            return reader.read_until(0, &mut Vec::new()).map(drop);
        }
        let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        reader.get_mut().write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
        match way {
            Way::Takes => taken.take(&received),
            Way::Rejects => taken.reject(&received),
            _ => {}
        }
    }
    Ok(())
}

/// The body of a request; `None` where there is none any more.
fn request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Vec<u8>>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(body))
}
