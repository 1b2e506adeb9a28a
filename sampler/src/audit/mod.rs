//! A standing audit: while the sampler runs, some vCPUs of some snapshots, chosen at random, are compared
//! with what the kernel says of their threads by another way, `/proc/PID/task/TID/schedstat`.
//!
//! It works on a thread of its own, which may block, and sees of the sampler what any sink sees. It reads
//! what the kernel says shortly before a snapshot is due, and again once it has come. So a vCPU that did
//! nothing in between must be right to the nanosecond, and any other within what both readings allow.

mod bounds;
mod hour;
mod round;
mod watch;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};

pub use self::{hour::Counts, round::Mismatch};

use self::{
    hour::Hour,
    watch::{APART, Watch},
};
use crate::{
    kernel::clock::Clock,
    model::{SamplerStats, Snapshot},
};

/// Mismatches that are kept with all their numbers.
const KEPT: usize = 4;

/// The audit. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Audit(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Time between snapshots, ns; 0 where the audit is off. What the sampling thread asks for is in no
    /// mutex: whoever holds that may wait for a CPU.
    interval_ns: AtomicU64,
    checks: AtomicU64,
    mismatches: AtomicU64,
    skips: AtomicU64,
    /// From when on a snapshot is wanted, by `CLOCK_BOOTTIME` in ns.
    wanted_from_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    hour: Hour,
    /// The latest ones, each with its moment by `CLOCK_BOOTTIME`.
    kept: Vec<(u64, Mismatch)>,
}

/// What came of the audit in the last hour.
#[derive(Clone, Debug)]
pub struct LastHour {
    /// What was counted.
    pub counts: Counts,
    /// The latest mismatches, with their numbers.
    pub mismatches: Vec<Mismatch>,
    /// It works at the moment.
    pub is_on: bool,
}

impl Audit {
    /// Lets it work, with so much time between snapshots; or not, where that is absent. It is off before the
    /// first call.
    pub fn set(&self, interval: Option<Duration>) {
        let ns = interval.map_or(0, |interval| u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX));
        self.0.interval_ns.store(ns, Ordering::Relaxed);
    }

    /// Takes snapshots until nobody sends any more, and audits them. Those that it does not want need not be
    /// sent.
    pub fn watch(&self, snapshots: &Receiver<Arc<Snapshot>>) {
        self.watch_apart(snapshots, APART);
    }

    /// The same, with so much time between rounds at least. With none, each snapshot is audited.
    pub fn watch_apart(&self, snapshots: &Receiver<Arc<Snapshot>>, apart: Duration) {
        Watch::new(self.clone(), Clock::start(), apart).run(snapshots);
    }

    /// Whether a snapshot is of use now: waking a thread up for each would cost more than the checks do.
    #[must_use]
    pub fn wants(&self, snapshot: &Snapshot) -> bool {
        let is_late_enough = snapshot.read_boottime_ns >= self.0.wanted_from_ns.load(Ordering::Relaxed);
        is_late_enough && self.interval().is_some()
    }

    fn want_from(&self, boottime_ns: u64) {
        self.0.wanted_from_ns.store(boottime_ns, Ordering::Relaxed);
    }

    /// Adds what was counted since the start to the sampler's statistics.
    pub fn report(&self, stats: &mut SamplerStats) {
        stats.audit_checks = self.0.checks.load(Ordering::Relaxed);
        stats.audit_mismatches = self.0.mismatches.load(Ordering::Relaxed);
        stats.audit_skips = self.0.skips.load(Ordering::Relaxed);
    }

    /// What came of it in the last hour.
    #[must_use]
    pub fn last_hour(&self) -> LastHour {
        let now_ns = Clock::start().boottime_ns();
        let state = self.state();
        let recent = state.kept.iter().filter(|(at_ns, _)| hour::is_within(*at_ns, now_ns));
        LastHour {
            counts: state.hour.sum(now_ns),
            mismatches: recent.map(|(_, mismatch)| mismatch.clone()).collect(),
            is_on: self.interval().is_some(),
        }
    }

    fn interval(&self) -> Option<Duration> {
        let ns = self.0.interval_ns.load(Ordering::Relaxed);
        (ns > 0).then(|| Duration::from_nanos(ns))
    }

    fn record(&self, now_ns: u64, counts: Counts, mismatches: Vec<Mismatch>) {
        for mismatch in &mismatches {
            tracing::error!("audit: {mismatch}");
        }
        self.0.checks.fetch_add(counts.checks, Ordering::Relaxed);
        self.0.mismatches.fetch_add(counts.mismatches, Ordering::Relaxed);
        self.0.skips.fetch_add(counts.skips, Ordering::Relaxed);
        let mut state = self.state();
        state.hour.add(now_ns, counts);
        state.kept.extend(mismatches.into_iter().map(|mismatch| (now_ns, mismatch)));
        let surplus = state.kept.len().saturating_sub(KEPT);
        state.kept.drain(..surplus);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for LastHour {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { counts: Counts { checks, mismatches, skips }, mismatches: latest, is_on } = self;
        write!(
            out,
            "audit of the last hour: {checks} vCPUs compared with the kernel, {mismatches} mismatches, {skips} not compared"
        )?;
        if !is_on {
            out.write_str("; it is off: set audit = true")?;
        }
        for mismatch in latest {
            write!(out, "; {mismatch}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
