//! The audit's thread: when it reads what.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use super::{
    Audit,
    hour::Counts,
    round::{self, Chosen, Round},
};
use crate::{collect::procfs::ProcFs, kernel::clock::Clock, model::Snapshot};

/// Time between rounds at least. With the vCPUs of a round this bounds the price: most of it is to be woken
/// up with cold caches.
pub(super) const APART: Duration = Duration::from_secs(4);

/// How long before a snapshot is due the kernel is asked: a part of the interval, within bounds. The shorter,
/// the narrower is what both readings allow; but this thread may have to wait for a CPU.
const LEAD_PART: u32 = 20;
const LEAD: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(100)];

/// What the thread works with.
pub(super) struct Watch {
    audit: Audit,
    clock: Clock,
    proc: ProcFs,
    random: fastrand::Rng,
    stage: Stage,
    apart: Duration,
    /// When the snapshot of the last round was due, by `CLOCK_BOOTTIME` in ns.
    last_due_ns: u64,
}

/// How far a round is.
enum Stage {
    None,
    /// The first readings are to be taken at that moment, by `CLOCK_BOOTTIME` in ns.
    Planned(u64, Vec<Chosen>),
    Begun(Round),
}

impl Watch {
    pub(super) fn new(audit: Audit, clock: Clock, apart: Duration) -> Self {
        Self {
            audit,
            clock,
            proc: ProcFs::system(),
            random: fastrand::Rng::new(),
            stage: Stage::None,
            apart,
            last_due_ns: 0,
        }
    }

    pub(super) fn run(mut self, snapshots: &Receiver<Arc<Snapshot>>) {
        while let Some(snapshot) = self.next(snapshots) {
            self.take(&snapshot);
        }
    }

    /// Waits for the next snapshot. Takes the first readings of a round that is planned, when it is time.
    fn next(&mut self, snapshots: &Receiver<Arc<Snapshot>>) -> Option<Arc<Snapshot>> {
        if let Stage::Planned(at_ns, _) = self.stage {
            let left = Duration::from_nanos(at_ns.saturating_sub(self.clock.boottime_ns()));
            match snapshots.recv_timeout(left) {
                Ok(snapshot) => return Some(snapshot),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.begin(),
            }
        }
        snapshots.recv().ok()
    }

    fn begin(&mut self) {
        if let Stage::Planned(_, chosen) = std::mem::replace(&mut self.stage, Stage::None) {
            self.stage = Stage::Begun(Round::begin(chosen, &self.proc, self.clock));
        }
    }

    fn take(&mut self, snapshot: &Snapshot) {
        match std::mem::replace(&mut self.stage, Stage::None) {
            Stage::None => {}
            // The snapshot came before it was due, as the last one does.
            Stage::Planned(_, chosen) => {
                let counts = Counts { skips: chosen.len() as u64, ..Counts::default() };
                self.audit.record(self.clock.boottime_ns(), counts, Vec::new());
            }
            Stage::Begun(round) => {
                let (counts, mismatches) = round.end(snapshot, self.clock);
                self.audit.record(self.clock.boottime_ns(), counts, mismatches);
            }
        }
        if let Some(interval) = self.audit.interval() {
            self.plan(snapshot, interval);
        }
        // Until a round is over each snapshot may be the one.
        let is_idle = matches!(self.stage, Stage::None);
        self.audit.want_from(if is_idle { self.rested_ns() } else { 0 });
    }

    /// When there may be another round, by `CLOCK_BOOTTIME` in ns.
    const fn rested_ns(&self) -> u64 {
        self.last_due_ns.saturating_add(ns(self.apart))
    }

    /// Plans a round for the snapshot after this one, unless the last round was just before.
    fn plan(&mut self, snapshot: &Snapshot, interval: Duration) {
        let lead = (interval / LEAD_PART).clamp(LEAD[0], LEAD[1]);
        let was_due_ns = snapshot.read_boottime_ns.saturating_sub(snapshot.sampler.last_lateness_ns);
        let due_ns = was_due_ns.saturating_add(ns(interval));
        if due_ns.saturating_add(ns(lead)) < self.rested_ns() {
            return;
        }
        let chosen = round::choose(snapshot, &mut self.random);
        if chosen.is_empty() {
            return;
        }
        self.last_due_ns = due_ns;
        self.stage = Stage::Planned(due_ns.saturating_sub(ns(lead)), chosen);
    }
}

const fn ns(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
