//! What an operator wants to read in the log about guests: that they came and went, and that there are none.

use std::{collections::BTreeMap, io, sync::Arc};

use super::queued::Queued;
use crate::{
    export::terminal,
    model::{Origin, Snapshot, VmKey},
};

/// Columns of a guest's name in the log.
const NAME_COLUMNS: usize = 64;

fn origin(origin: Origin) -> String {
    match origin {
        Origin::Unknown => "of unknown origin".to_owned(),
        Origin::Process { pid } => format!("pid {pid}"),
        Origin::Domain { domid } => format!("domain {domid}"),
    }
}

/// Snapshots that may wait for a log that is not read. One that is left out delays what is said of its
/// guests.
const ROOM: usize = 16;

/// Starts a thread that says so: whoever takes the log may not read it.
pub(super) fn start() -> io::Result<Queued> {
    Queued::start("log", ROOM, |queue| {
        let mut announcer = Announcer::default();
        for snapshot in queue {
            announcer.look_at(&snapshot);
        }
    })
}

/// Compares each snapshot with the one before.
#[derive(Default)]
struct Announcer {
    known: BTreeMap<VmKey, Guest>,
    began: bool,
}

/// What the log calls a guest by. Put into words only where something is said of it: guests that stay are
/// looked at in each snapshot.
#[derive(Clone)]
struct Guest {
    id: Arc<str>,
    name: Option<Arc<str>>,
    origin: Origin,
}

impl Guest {
    fn label(&self) -> String {
        let name = self.name.as_deref().unwrap_or("(unnamed)");
        format!("{} ({}, {})", terminal::fit(name, NAME_COLUMNS), self.id, origin(self.origin))
    }
}

impl Announcer {
    fn look_at(&mut self, snapshot: &Snapshot) {
        let mut now = BTreeMap::new();
        for vm in &snapshot.vms {
            let guest = Guest { id: Arc::clone(&vm.id), name: vm.name().cloned(), origin: vm.origin };
            if !self.known.contains_key(&vm.key) {
                tracing::info!(guest = guest.label(), vcpus = vm.vcpus.len(), "guest appeared");
            }
            now.insert(vm.key, guest);
        }
        for (key, guest) in &self.known {
            if !now.contains_key(key) {
                tracing::info!(guest = guest.label(), "guest gone");
            }
        }
        if now.is_empty() && (!self.began || !self.known.is_empty()) {
            tracing::info!("no guest runs on this host; watching for the next one");
        }
        self.began = true;
        self.known = now;
    }
}
