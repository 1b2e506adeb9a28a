//! How much is to be compared, and what may happen meanwhile.

use std::time::Duration;

/// Whether waiting threads can be moved from one CPU's queue to another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moves {
    /// They can.
    Possible,
    /// Each thread is pinned to one CPU.
    Impossible,
}

/// How much is to be compared.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Comparisons in all.
    pub comparisons: u64,
    /// Comparisons of each thread.
    pub per_thread: u64,
    /// Time for all of it.
    pub deadline: Duration,
    /// Rest between two rounds over all threads: time for the threads to move.
    pub pause: Duration,
    /// Whether waiting threads can be moved.
    pub moves: Moves,
    /// For how long a thread may be on a CPU without its run time growing. Several ticks at least.
    pub stuck_after: Duration,
}

impl Plan {
    /// A plan with the usual lengths: rounds a fifth of a millisecond apart, and two seconds for a tick.
    #[must_use]
    pub const fn new(comparisons: u64, per_thread: u64, deadline: Duration, moves: Moves) -> Self {
        let pause = Duration::from_micros(200);
        Self { comparisons, per_thread, deadline, pause, moves, stuck_after: Duration::from_secs(2) }
    }
}
