//! Holding a reader of per-thread counters against the kernel's own counts, to the nanosecond.
//!
//! # What is claimed
//! A [`CounterReader`] copies a thread's counts when the thread leaves its CPU, and notes when it gets one.
//! While it says "off the CPU", its copy must therefore equal what `/proc` says. That is what is compared:
//!
//! ```text
//! before = reader    off the CPU, number of writes s
//! first  = kernel
//! second = kernel
//! after  = reader    still off the CPU, still s
//! ```
//!
//! `before` and `after` with the same `s` claim that nothing moved in between; so **both** kernel readings
//! must equal the copy. The order matters: with the kernel read last, a difference could always be excused by
//! a switch after the last look at the reader.
//!
//! # Why an honest reader is never accused
//! * *The thread gets a CPU within the window.* The scheduler runs the switch hook before it credits the wait
//!   (`sched_info_arrive`), so the reader says "on the CPU" before the kernel's counts move: `after` differs.
//! * *The thread leaves its CPU within the window.* Then it was on a CPU at `before`: nothing is compared.
//!   Its run time and switches are brought up to date before the hook runs, and nothing is added to them
//!   after.
//! * *A kernel reading is torn* (three counts are read one after the other). They change only between
//!   switches, which the reader would have shown.
//! * *A waiting thread is moved to another CPU's queue.* The kernel then credits the wait so far, without a
//!   switch. This is the one change that a reader of switches cannot see, and no error of it. Where threads
//!   cannot move ([`Moves::Impossible`]) nothing is excused; elsewhere a difference is excused only when
//!   nothing but the run delay differs, it differs upwards, and the thread was runnable inside the window (a
//!   sleeping thread's counts do not move at all). What was excused is counted.
//!
//! # What cannot hide
//! * *A missed switch-in.* The run time of a running thread lags by up to a tick, so it may look unchanged.
//!   Its count of timeslices does not lag: it is raised as the thread arrives, and it is compared. (Where the
//!   kernel does not count an arrival, because the thread was preempted on its way to sleep, the switch-out
//!   that follows shows.)
//! * *Numbers that stand still.* The window's two kernel readings stretch over two system calls; a busy
//!   thread moves between them sooner or later, and then no excuse is left.
//! * *A copy that changes without a new `s`*: compared, too.
//! * *A thread that is never compared*, because the reader does not know it, or says for ever that it is on a
//!   CPU: each thread must be compared a number of times, and one that is said to be on a CPU must be seen to
//!   run.
//! * *The same sleep compared a thousand times* counts once.
//!
//! * *A missed switch-out* makes the reader say "on the CPU" for too long, and nothing is compared. But an
//!   honest reader is at most one timeslice behind the kernel then, the one that is going on: two are a
//!   mismatch.
//!
//! What remains: after a missed switch-out the copy stays stale, and says so, until the thread runs again.

mod engine;
mod oracle;
mod plan;
mod report;

pub use engine::compare;
pub use oracle::{Oracle, ProcOracle, Thread};
pub use plan::{Moves, Plan};
pub use report::{Failure, Mismatch, MismatchKind, Report, Skips};

/// What a reader says of a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Grows with every write to the copy.
    pub seq: u64,
    /// The thread is on a CPU: the counts are those of its last switch.
    pub on_cpu: bool,
    /// Time on a CPU, ns.
    pub run_ns: u64,
    /// Time runnable and waiting for a CPU, ns.
    pub run_delay_ns: u64,
    /// Times that it gave its CPU up.
    pub voluntary: u64,
    /// Times that it was preempted.
    pub involuntary: u64,
    /// Times that it got a CPU.
    pub timeslices: u64,
}

/// Whatever copies the kernel's counts at context switches.
pub trait CounterReader {
    /// The copy of a thread's counts, consistent in itself; `None` when there is none (yet).
    fn read(&self, tid: u32) -> Option<Reading>;
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
