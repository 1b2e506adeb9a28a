//! The audit as a sink.

use std::io;

use super::queued::Queued;
use crate::{audit::Audit, config::Config};

/// Snapshots that may wait for the audit. It takes each soon, unless what it reads blocks it.
const ROOM: usize = 16;

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
pub(super) fn start(audit: &Audit) -> io::Result<Queued> {
    let audit = audit.clone();
    Queued::start("audit", ROOM, move |snapshots| audit.watch(&snapshots))
}
