//! What the sampler knows of itself, for its own telemetry and for whoever asks how it is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    agent::{Sink, SinkCounts},
    model::{ProgramRuns, SamplerStats, Snapshot, Vm},
};

/// What is kept of the last snapshot, and what sinks have dropped. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Own {
    last: Arc<Mutex<Option<Last>>>,
    /// Written by the list of sinks.
    pub(super) sinks: SinkCounts,
}

/// What is kept of the last snapshot. Nothing of it is counted vCPU by vCPU: this is the sampling thread's
/// time.
#[derive(Clone)]
pub(super) struct Last {
    pub(super) stats: SamplerStats,
    /// When it was taken, Unix time in ns.
    pub(super) at_unix_ns: u64,
    /// Guests that it shows.
    pub(super) guests: usize,
    /// Their vCPUs.
    pub(super) vcpus: usize,
    /// Their helper threads.
    pub(super) helpers: u64,
    pub(super) programs: Arc<[ProgramRuns]>,
}

impl Own {
    /// All zero before the first snapshot.
    pub(super) fn stats(&self) -> SamplerStats {
        self.lock().as_ref().map(|last| last.stats).unwrap_or_default()
    }

    /// Guests that it shows, and their vCPUs.
    pub(super) fn guests(&self) -> (usize, usize) {
        self.lock().as_ref().map(|last| (last.guests, last.vcpus)).unwrap_or_default()
    }

    /// Of the last snapshot; absent before the first.
    pub(super) fn last(&self) -> Option<Last> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Own {
    fn name(&self) -> &'static str {
        "self"
    }

    fn offer(&mut self, snapshot: Arc<Snapshot>) {
        let last = Last {
            stats: snapshot.sampler,
            at_unix_ns: snapshot.at_unix_ns,
            guests: snapshot.vms.len(),
            vcpus: snapshot.vms.iter().map(|vm| vm.vcpus.len()).sum(),
            helpers: snapshot.vms.iter().map(helpers).sum(),
            programs: Arc::clone(&snapshot.programs),
        };
        *self.lock() = Some(last);
    }

    fn dropped(&self) -> u64 {
        0
    }
}

fn helpers(vm: &Vm) -> u64 {
    vm.helpers.iter().map(|(_, sum)| u64::from(sum.threads)).sum()
}
