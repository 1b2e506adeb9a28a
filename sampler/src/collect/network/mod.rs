//! The network interfaces of guests: which they are, and what the kernel counts of them.
//!
//! Both take locks that others may hold for long, as the one for all of the network's configuration: this is
//! for threads that may wait. One of them asks at a time, and the others go away after a moment: where that
//! lock is not given back, one thread hangs and no more.

mod netlink;
mod taps;
mod turn;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub use netlink::{LinkCounts, Moment};
use netlink::{Netlink, ROOM};
pub use taps::TapKind;
use taps::{Namespace, Tap};
use turn::Turn;

use super::procfs::OpenFile;
use crate::kernel::limits;

/// Namespaces of which interfaces are read, at most: each keeps a descriptor.
const MAX_NAMESPACES: usize = 4096;

/// Time after which a socket is closed that nobody wants: an open one keeps its namespace alive. One that was
/// opened for an interface that was just found is wanted soon.
const PATIENCE: Duration = Duration::from_secs(20);

/// An interface, for as long as it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId {
    /// Inode of the network namespace that it is in.
    pub namespace: u64,
    /// Its index there.
    pub index: u32,
}

/// An interface that serves a guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundInterface {
    /// Which it is.
    pub id: InterfaceId,
    /// Its name.
    pub name: String,
    /// How it reaches the guest.
    pub kind: TapKind,
}

/// The interfaces of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundInterfaces {
    /// Ordered, each once.
    pub all: Vec<FoundInterface>,
    /// Some could not be looked at: what was known before may still be there.
    pub is_partial: bool,
}

/// What the kernel has counted of interfaces, and when.
pub type Links = BTreeMap<InterfaceId, (LinkCounts, Moment)>;

/// What those who answer share: a socket for each namespace.
#[derive(Debug)]
pub struct Network {
    /// The sampling thread takes this lock: nobody asks the kernel for anything with it in hand.
    sockets: Mutex<BTreeMap<u64, Socket>>,
    turn: Turn,
    room: Mutex<Vec<u8>>,
    failures: AtomicU64,
    max_namespaces: usize,
}

#[derive(Debug)]
struct Socket {
    netlink: Arc<Mutex<Netlink>>,
    wanted: Instant,
}

impl Default for Network {
    fn default() -> Self {
        // The other half is for all else.
        let descriptors = usize::try_from(limits::descriptors() / 2).unwrap_or(usize::MAX);
        Self {
            sockets: Mutex::default(),
            turn: Turn::default(),
            room: Mutex::new(vec![0; ROOM]),
            failures: AtomicU64::new(0),
            max_namespaces: MAX_NAMESPACES.min(descriptors),
        }
    }
}

impl Network {
    /// The interfaces whose other end is among a process's files; `None` where they cannot be looked for now,
    /// or where the process has ended.
    pub fn interfaces(&self, pid: u32, files: &[OpenFile]) -> Option<FoundInterfaces> {
        let _turn = self.turn.take()?;
        let found = taps::of(pid, files).ok()?;
        let mut all = BTreeSet::new();
        let mut failures = found.failures;
        for tap in found.taps {
            match self.identify(&tap) {
                Ok(interface) => drop(all.insert(interface)),
                Err(error) => {
                    failures += 1;
                    tracing::debug!(%error, pid, name = tap.name, "an interface of a guest cannot be read");
                }
            }
        }
        self.failures.fetch_add(failures, Ordering::Relaxed);
        Some(FoundInterfaces { all: all.into_iter().collect(), is_partial: failures > 0 })
    }

    fn identify(&self, Tap { name, kind, namespace }: &Tap) -> io::Result<FoundInterface> {
        let socket = self.socket(namespace)?;
        let index = lock(&socket).index_of(name)?;
        let id = InterfaceId { namespace: namespace.inode, index };
        Ok(FoundInterface { id, name: name.clone(), kind: *kind })
    }

    /// A socket in a namespace, which is kept.
    fn socket(&self, namespace: &Namespace) -> io::Result<Arc<Mutex<Netlink>>> {
        if let Some(socket) = lock(&self.sockets).get(&namespace.inode) {
            return Ok(Arc::clone(&socket.netlink));
        }
        if lock(&self.sockets).len() >= self.max_namespaces {
            return Err(io::Error::other("interfaces of guests are in too many network namespaces"));
        }
        let netlink = Arc::new(Mutex::new(namespace.open()?));
        let socket = Socket { netlink: Arc::clone(&netlink), wanted: Instant::now() };
        lock(&self.sockets).insert(namespace.inode, socket);
        Ok(netlink)
    }

    /// Says in which namespaces there are interfaces of guests. Sockets in others are closed after a while.
    /// Never waits for the kernel.
    pub fn want(&self, namespaces: &BTreeSet<u64>) {
        let now = Instant::now();
        lock(&self.sockets).retain(|namespace, socket| {
            if namespaces.contains(namespace) {
                socket.wanted = now;
            }
            now.duration_since(socket.wanted) < PATIENCE
        });
    }

    /// What the kernel counts of all interfaces in these namespaces, with one question for each; `None` where
    /// that cannot be asked now.
    pub fn counts(&self) -> Option<Links> {
        let _turn = self.turn.take()?;
        let mut room = lock(&self.room);
        let mut counts = Links::new();
        for (namespace, socket) in self.open() {
            let mut put = |index, links, at| {
                counts.insert(InterfaceId { namespace, index }, (links, at));
            };
            if let Err(error) = lock(&socket).dump(&mut room, &mut put) {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%error, namespace, "the interfaces of a namespace cannot be read");
            }
        }
        Some(counts)
    }

    /// The socket of each namespace.
    fn open(&self) -> Vec<(u64, Arc<Mutex<Netlink>>)> {
        let sockets = lock(&self.sockets);
        sockets.iter().map(|(namespace, socket)| (*namespace, Arc::clone(&socket.netlink))).collect()
    }

    /// Interfaces that could not be looked at, and namespaces of which they could not be read.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread};

    use super::*;

    #[test]
    fn who_says_what_is_wanted_does_not_wait_for_the_kernel() {
        let network = Network::default();
        let netlink = Arc::new(Mutex::new(Netlink::open().unwrap()));
        let socket = Socket { netlink: Arc::clone(&netlink), wanted: Instant::now() };
        lock(&network.sockets).insert(7, socket);
        thread::scope(|scope| {
            // As where the kernel's lock is not given back: the socket is in use.
            let in_use = lock(&netlink);
            let asks = scope.spawn(|| network.counts());
            while network.turn.is_free() {
                thread::yield_now();
            }
            // It is past its turn, or about to be.
            while network.room.try_lock().is_ok() {
                thread::yield_now();
            }
            let (sender, receiver) = channel();
            let network = &network;
            scope.spawn(move || {
                network.want(&BTreeSet::from([7]));
                sender.send(()).unwrap();
            });
            let has_returned = receiver.recv_timeout(Duration::from_secs(10));
            drop(in_use);
            assert!(!asks.join().unwrap().unwrap().is_empty());
            has_returned.unwrap();
        });
    }
}
