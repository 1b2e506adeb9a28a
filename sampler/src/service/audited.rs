//! The audit as a sink.

use std::{io, sync::Arc};

use super::queued::Queued;
use crate::{agent::Sink, audit::Audit, config::Config, model::Snapshot};

/// Snapshots that may wait for the audit. It takes each soon, unless what it reads blocks it.
const ROOM: usize = 16;

/// Hands over what the audit wants.
pub(super) struct Audited {
    audit: Audit,
    queued: Queued,
}

/// An audit as the configuration has it.
pub(super) fn begin(config: &Config) -> Audit {
    let audit = Audit::default();
    set(&audit, config);
    audit
}

/// Lets it be as the configuration has it from now on.
pub(super) fn set(audit: &Audit, config: &Config) {
    audit.set(config.audit.then_some(config.interval));
}

/// Starts its thread.
pub(super) fn start(audit: &Audit) -> io::Result<Audited> {
    let works = audit.clone();
    let queued = Queued::start("audit", ROOM, move |snapshots| works.watch(&snapshots))?;
    Ok(Audited { audit: audit.clone(), queued })
}

impl Sink for Audited {
    fn name(&self) -> &'static str {
        self.queued.name()
    }

    fn offer(&mut self, snapshot: Arc<Snapshot>) {
        if self.audit.wants(&snapshot) {
            self.queued.offer(snapshot);
        }
    }

    fn dropped(&self) -> u64 {
        self.queued.dropped()
    }
}
