//! The network interfaces of guests: which they are, and what the kernel counts of them.
//!
//! Both take locks that others may hold for long, as the one for all of the network's configuration: this is
//! for threads that may wait.

mod netlink;
mod taps;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use netlink::LinkCounts;
use netlink::Netlink;
pub use taps::TapKind;
use taps::{Namespace, Tap};

/// Namespaces of which interfaces are read, at most: each keeps a descriptor.
const MAX_NAMESPACES: usize = 4096;

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

/// Readings after which a socket is closed that nobody wants. One that was opened for an interface that was
/// just found is wanted soon.
const PATIENCE: u32 = 10;

/// What those who answer share: a socket for each namespace.
#[derive(Debug, Default)]
pub struct Network {
    sockets: Mutex<BTreeMap<u64, Socket>>,
    wanted: Mutex<BTreeSet<u64>>,
}

#[derive(Debug)]
struct Socket {
    netlink: Arc<Mutex<Netlink>>,
    /// Readings for which nobody has wanted it.
    unwanted: u32,
}

impl Network {
    /// The interfaces whose other end a process holds, ordered, each once. What cannot be looked at is not
    /// among them.
    ///
    /// # Errors
    /// When the process's descriptors cannot be read, as those of one that has ended.
    pub fn interfaces(&self, pid: u32) -> io::Result<Vec<FoundInterface>> {
        let mut found = BTreeSet::new();
        for tap in taps::of(pid)? {
            match self.identify(&tap) {
                Ok(interface) => drop(found.insert(interface)),
                Err(error) => tracing::debug!(%error, pid, name = tap.name, "an interface cannot be read"),
            }
        }
        Ok(found.into_iter().collect())
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
        let netlink = Arc::new(Mutex::new(namespace.open()?));
        let mut sockets = lock(&self.sockets);
        if sockets.len() >= MAX_NAMESPACES {
            return Err(io::Error::other("interfaces of guests are in more than 4,096 namespaces"));
        }
        sockets.insert(namespace.inode, Socket { netlink: Arc::clone(&netlink), unwanted: 0 });
        Ok(netlink)
    }

    /// Says in which namespaces there are interfaces of guests. Sockets in others are closed: an open one
    /// keeps its namespace alive. Never waits for the kernel.
    pub fn want(&self, namespaces: BTreeSet<u64>) {
        *lock(&self.wanted) = namespaces;
    }

    /// What the kernel counts of all interfaces in these namespaces, with one question for each.
    pub fn counts(&self) -> BTreeMap<InterfaceId, LinkCounts> {
        let sockets: Vec<_> = {
            let wanted = lock(&self.wanted).clone();
            let mut sockets = lock(&self.sockets);
            sockets.retain(|namespace, socket| {
                socket.unwanted = if wanted.contains(namespace) { 0 } else { socket.unwanted + 1 };
                socket.unwanted < PATIENCE
            });
            let wanted = sockets.iter().filter(|(_, socket)| socket.unwanted == 0);
            wanted.map(|(namespace, socket)| (*namespace, Arc::clone(&socket.netlink))).collect()
        };
        let mut counts = BTreeMap::new();
        for (namespace, socket) in sockets {
            let mut put = |index, links| {
                counts.insert(InterfaceId { namespace, index }, links);
            };
            if let Err(error) = lock(&socket).dump(&mut put) {
                tracing::debug!(%error, namespace, "the interfaces of a namespace cannot be read");
                // An answer that was not taken would be taken for the next one's.
                lock(&self.sockets).remove(&namespace);
            }
        }
        counts
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
