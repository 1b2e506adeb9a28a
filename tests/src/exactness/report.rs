//! What a comparison found.

use std::fmt;
use std::time::Duration;

use super::Reading;
use super::oracle::Thread;
use super::plan::Plan;
use crate::oracle::{Schedstat, Switches, TaskState};

/// Disagreements that a failure prints.
const PRINTED: usize = 5;

/// In what way reader and kernel disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MismatchKind {
    /// Run time, run delay or timeslices differ.
    Counts,
    /// Voluntary or involuntary switches differ.
    Switches,
    /// The kernel's counts moved while the reader claimed that nothing did.
    Unseen,
    /// The reader's copy changed without a new sequence number.
    Torn,
    /// The reader says that the thread is on a CPU, and the kernel has given it another one since.
    MissedDeparture,
    /// The reader says that the thread is on a CPU, and the kernel counts no time for it.
    StuckOnCpu,
}

/// One disagreement, with all that was read.
#[derive(Debug, Clone)]
pub struct Mismatch {
    /// The thread.
    pub thread: Thread,
    /// The kind.
    pub kind: MismatchKind,
    /// The reader, before the kernel was read.
    pub before: Reading,
    /// The kernel.
    pub first: Schedstat,
    /// The kernel again.
    pub second: Schedstat,
    /// The kernel's count of switches, where it was read.
    pub switches: Option<Switches>,
    /// What the thread was doing, where that was read.
    pub state: Option<TaskState>,
    /// The reader, after the kernel was read.
    pub after: Reading,
}

/// Why looks at threads ended without a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skips {
    /// The thread was on a CPU.
    pub on_cpu: u64,
    /// The reader had no copy.
    pub absent: u64,
    /// The thread moved within the window.
    pub moved: u64,
    /// The kernel credited a wait as the thread was moved between queues.
    pub requeued: u64,
    /// The thread has ended.
    pub gone: u64,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Comparisons of run time, run delay and timeslices, each after another switch of its thread.
    pub compared: u64,
    /// Of those, comparisons of context switches as well.
    pub switches_compared: u64,
    /// Comparisons of copies that had been compared before; their mismatches count.
    pub repeated: u64,
    /// Looks without a comparison.
    pub skips: Skips,
    /// Disagreements.
    pub mismatches: u64,
    /// The first of them.
    pub details: Vec<Mismatch>,
    /// Threads.
    pub threads: usize,
    /// The thread compared least often, and how often.
    pub least: Option<(Thread, u64)>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why a comparison does not prove what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Reader and kernel disagree.
    #[error("{count} mismatches in {report}; the first:{details}")]
    Mismatches {
        /// How often.
        count: u64,
        /// The numbers.
        report: Box<Report>,
        /// The first of them, a line each.
        details: String,
    },
    /// Too few comparisons before the deadline.
    #[error("too few comparisons (needed {needed}): {report}")]
    TooFew {
        /// How many were asked for.
        needed: u64,
        /// The numbers.
        report: Box<Report>,
    },
    /// A thread was compared too seldom.
    #[error("thread {tid} was compared {compared} times (needed {needed}): {report}")]
    Neglected {
        /// The thread.
        tid: u32,
        /// How often it was compared.
        compared: u64,
        /// How often it should have been.
        needed: u64,
        /// The numbers.
        report: Box<Report>,
    },
}

impl Report {
    /// Whether reader and kernel agreed, often enough and for every thread.
    ///
    /// # Errors
    /// Why not.
    pub fn verdict(self, plan: &Plan) -> Result<Self, Failure> {
        if self.mismatches > 0 {
            let first = self.details.iter().take(PRINTED);
            let details = first.map(|mismatch| format!("\n  {mismatch:?}")).collect();
            return Err(Failure::Mismatches { count: self.mismatches, report: Box::new(self), details });
        }
        if self.compared < plan.comparisons || self.threads == 0 {
            return Err(Failure::TooFew { needed: plan.comparisons, report: Box::new(self) });
        }
        match self.least {
            Some((thread, compared)) if compared < plan.per_thread => Err(Failure::Neglected {
                tid: thread.tid,
                compared,
                needed: plan.per_thread,
                report: Box::new(self),
            }),
            _ => Ok(self),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Skips { on_cpu, absent, moved, requeued, gone } = self.skips;
        write!(
            out,
            "{} comparisons ({} of switches too), {} mismatches, {} threads, each at least {} times, in {:.1} s; \
             not compared: {} repeated, {on_cpu} on a CPU, {moved} moved, {requeued} requeued, {absent} unknown, {gone} gone",
            self.compared,
            self.switches_compared,
            self.mismatches,
            self.threads,
            self.least.map_or(0, |(_, count)| count),
            self.elapsed.as_secs_f64(),
            self.repeated,
        )
    }
}
