//! What the sampler knows of itself, for its own telemetry.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    agent::{Sink, SinkCounts},
    model::{SamplerStats, Snapshot},
};

/// The statistics of the last snapshot, and what sinks have dropped. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Own {
    last: Arc<Mutex<Last>>,
    /// Written by the list of sinks.
    pub(super) sinks: SinkCounts,
}

/// What is kept of the last snapshot.
#[derive(Clone, Copy, Default)]
struct Last {
    stats: SamplerStats,
    guests: usize,
    vcpus: usize,
}

impl Own {
    pub(super) fn stats(&self) -> SamplerStats {
        self.last().stats
    }

    /// Guests that it shows, and their vCPUs.
    pub(super) fn guests(&self) -> (usize, usize) {
        let last = self.last();
        (last.guests, last.vcpus)
    }

    fn last(&self) -> Last {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Own {
    fn name(&self) -> &'static str {
        "self"
    }

    fn offer(&mut self, snapshot: Arc<Snapshot>) {
        let vcpus = snapshot.vms.iter().map(|vm| vm.vcpus.len()).sum();
        let last = Last { stats: snapshot.sampler, guests: snapshot.vms.len(), vcpus };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    fn dropped(&self) -> u64 {
        0
    }
}
