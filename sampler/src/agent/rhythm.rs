//! When snapshots are due, and how well that was kept. It is handed every moment and reads no clock.

use std::time::{Duration, Instant};

use crate::model::SamplerStats;

/// A snapshot that comes later than this is counted as late.
pub(super) const LATE: Duration = Duration::from_millis(100);

/// The moments at which snapshots are due.
#[derive(Debug)]
pub(super) struct Rhythm {
    next: Instant,
    /// When the last snapshot was begun.
    began: Option<Instant>,
    /// Snapshots that failed since the last one that was taken.
    failed_in_a_row: u32,
    kept: Kept,
}

/// How well the rhythm was kept since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kept {
    late: u64,
    lateness: Duration,
    last_lateness: Duration,
    skipped: u64,
    failed: u64,
}

impl Rhythm {
    pub(super) fn new(first: Instant) -> Self {
        Self { next: first, began: None, failed_in_a_row: 0, kept: Kept::default() }
    }

    /// When the next snapshot is due: one interval after the moment of the last one, or earlier where the
    /// interval has become shorter.
    pub(super) fn due(&mut self, interval: Duration) -> Instant {
        if let Some(began) = self.began {
            self.next = self.next.min(began + interval).max(began);
        }
        self.next
    }

    /// Begins the snapshot that is due, and plans the next one. Returns the moment at which it was due.
    pub(super) fn begin(&mut self, now: Instant, interval: Duration) -> Instant {
        let due = self.next;
        // Whole intervals after the planned moment: the rhythm survives a late wake-up.
        let behind = now.saturating_duration_since(due).as_nanos() / interval.as_nanos().max(1);
        let behind = u32::try_from(behind).unwrap_or(u32::MAX - 1);
        self.next += interval * (behind + 1);
        self.began = Some(now);
        self.kept.skipped += u64::from(behind);
        due
    }

    /// All has been read of the snapshot that was due then.
    pub(super) fn taken(&mut self, due: Instant, now: Instant) {
        let lateness = now.saturating_duration_since(due);
        self.failed_in_a_row = 0;
        self.kept.late += u64::from(lateness > LATE);
        self.kept.lateness += lateness;
        self.kept.last_lateness = lateness;
    }

    /// A snapshot could not be taken.
    pub(super) const fn failed(&mut self) {
        self.kept.failed += 1;
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
    }

    /// Snapshots that failed since the last one that was taken.
    pub(super) const fn failed_in_a_row(&self) -> u32 {
        self.failed_in_a_row
    }

    /// Adds what was counted to the sampler's statistics.
    pub(super) fn report(&self, stats: &mut SamplerStats) {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        stats.snapshots_late = self.kept.late;
        stats.snapshots_skipped = self.kept.skipped;
        stats.snapshots_failed = self.kept.failed;
        stats.lateness_ns = ns(self.kept.lateness);
        stats.last_lateness_ns = ns(self.kept.last_lateness);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn stats(rhythm: &Rhythm) -> SamplerStats {
        let mut stats = SamplerStats::default();
        rhythm.report(&mut stats);
        stats
    }

    #[test]
    fn a_late_wake_up_moves_no_later_moment() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start + ms(300));
        assert_eq!(rhythm.due(INTERVAL), start + ms(300));
        assert_eq!(rhythm.begin(start + ms(950), INTERVAL), start + ms(300));
        assert_eq!(rhythm.due(INTERVAL), start + ms(1300));
        assert_eq!(stats(&rhythm).snapshots_skipped, 0);
    }

    #[test]
    fn moments_that_pass_by_are_skipped_and_counted() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start);
        rhythm.begin(start + ms(3001), INTERVAL);
        assert_eq!(rhythm.due(INTERVAL), start + ms(4000));
        assert_eq!(stats(&rhythm).snapshots_skipped, 3);
    }

    #[test]
    fn a_shorter_interval_holds_from_the_last_snapshot_on() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start);
        rhythm.begin(start + ms(10), INTERVAL);
        assert_eq!(rhythm.due(ms(200)), start + ms(210));
        // A longer one from the next on: that was planned already.
        assert_eq!(rhythm.due(INTERVAL * 5), start + ms(210));
        rhythm.begin(start + ms(210), INTERVAL * 5);
        assert_eq!(rhythm.due(INTERVAL * 5), start + ms(5210));
    }

    #[test]
    fn lateness_is_the_time_from_the_moment_to_the_end_of_the_reading() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start);
        let due = rhythm.begin(start, INTERVAL);
        rhythm.taken(due, start + LATE);
        assert_eq!((stats(&rhythm).snapshots_late, stats(&rhythm).last_lateness_ns), (0, 100_000_000));
        // A reading that takes longer than the interval: the next one is late as well.
        let due = rhythm.begin(start + ms(1000), INTERVAL);
        rhythm.taken(due, start + ms(2500));
        let due = rhythm.begin(start + ms(2500), INTERVAL);
        rhythm.taken(due, start + ms(2501));
        let counted = stats(&rhythm);
        assert_eq!((counted.snapshots_late, counted.snapshots_skipped), (2, 0));
        assert_eq!((counted.lateness_ns, counted.last_lateness_ns), (2_101_000_000, 501_000_000));
    }

    #[test]
    fn a_snapshot_that_fails_is_counted_and_not_late() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start);
        rhythm.begin(start + ms(500), INTERVAL);
        rhythm.failed();
        assert_eq!(stats(&rhythm), SamplerStats { snapshots_failed: 1, ..SamplerStats::default() });
        assert_eq!(rhythm.due(INTERVAL), start + INTERVAL);
    }

    #[test]
    fn failures_in_a_row_end_with_a_snapshot_that_is_taken() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start);
        rhythm.failed();
        rhythm.failed();
        assert_eq!(rhythm.failed_in_a_row(), 2);
        rhythm.taken(start, start);
        assert_eq!(rhythm.failed_in_a_row(), 0);
        rhythm.failed();
        assert_eq!((rhythm.failed_in_a_row(), stats(&rhythm).snapshots_failed), (1, 3));
    }
}
