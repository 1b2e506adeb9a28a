//! What the sampler knows of itself, for its own telemetry.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    agent::{Sink, SinkCounts},
    model::{SamplerStats, Snapshot},
};

/// The statistics of the last snapshot, and what sinks have dropped. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Own {
    stats: Arc<Mutex<SamplerStats>>,
    /// Written by the list of sinks.
    pub(super) sinks: SinkCounts,
}

impl Own {
    pub(super) fn stats(&self) -> SamplerStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Own {
    fn name(&self) -> &'static str {
        "self"
    }

    fn offer(&mut self, snapshot: Arc<Snapshot>) {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = snapshot.sampler;
    }

    fn dropped(&self) -> u64 {
        0
    }
}
