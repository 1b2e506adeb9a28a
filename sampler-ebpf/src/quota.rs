//! How much of a wait is a quota's.

/// The part of a wait that began at `queued` and goes on at `now` for which a thread of the deadline class
/// had used up its runtime: it gets no CPU before `until`, when its next period begins.
#[must_use]
#[inline(always)]
pub const fn until_period(queued: u64, until: u64, now: u64) -> u64 {
    let end = if until < now { until } else { now };
    end.saturating_sub(queued)
}
