//! What was counted in the last hour, by minutes. It is handed every moment and reads no clock.

const MINUTES: usize = 60;
const MINUTE_NS: u64 = 60_000_000_000;

/// What came of looks at vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// vCPUs that were compared with the kernel.
    pub checks: u64,
    /// Those of them of which a number was not what the kernel says.
    pub mismatches: u64,
    /// vCPUs that were chosen and could not be compared.
    pub skips: u64,
}

impl Counts {
    pub(super) const fn add(&mut self, more: Self) {
        self.checks += more.checks;
        self.mismatches += more.mismatches;
        self.skips += more.skips;
    }
}

/// Counts of the last hour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hour {
    /// Each with the number of its minute; minute `n` has place `n` modulo their number.
    minutes: [(u64, Counts); MINUTES],
}

impl Default for Hour {
    fn default() -> Self {
        Self { minutes: [(0, Counts::default()); MINUTES] }
    }
}

impl Hour {
    /// Adds what was counted at a moment.
    pub(super) const fn add(&mut self, now_ns: u64, counts: Counts) {
        let minute = now_ns / MINUTE_NS;
        let place = &mut self.minutes[(minute % MINUTES as u64) as usize];
        if place.0 != minute {
            *place = (minute, Counts { checks: 0, mismatches: 0, skips: 0 });
        }
        place.1.add(counts);
    }

    /// What was counted in the hour before a moment, that of its minute included.
    pub(super) fn sum(&self, now_ns: u64) -> Counts {
        let now = now_ns / MINUTE_NS;
        let mut sum = Counts::default();
        for (minute, counts) in self.minutes {
            if minute <= now && minute + MINUTES as u64 > now {
                sum.add(counts);
            }
        }
        sum
    }
}

/// Whether a moment is within the hour before another.
pub(super) const fn is_within(at_ns: u64, now_ns: u64) -> bool {
    at_ns / MINUTE_NS + MINUTES as u64 > now_ns / MINUTE_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn checks(checks: u64) -> Counts {
        Counts { checks, mismatches: 0, skips: 0 }
    }

    #[test]
    fn what_is_older_than_an_hour_is_forgotten() {
        let mut hour = Hour::default();
        assert_eq!(hour.sum(5 * MINUTE_NS), Counts::default());
        hour.add(5 * MINUTE_NS, checks(1));
        hour.add(6 * MINUTE_NS - 1, checks(2));
        hour.add(6 * MINUTE_NS, Counts { checks: 4, mismatches: 1, skips: 3 });
        assert_eq!(hour.sum(6 * MINUTE_NS), Counts { checks: 7, mismatches: 1, skips: 3 });
        assert_eq!(hour.sum(64 * MINUTE_NS), Counts { checks: 7, mismatches: 1, skips: 3 });
        assert_eq!(hour.sum(65 * MINUTE_NS), Counts { checks: 4, mismatches: 1, skips: 3 });
        assert!(is_within(5 * MINUTE_NS, 64 * MINUTE_NS) && !is_within(5 * MINUTE_NS, 65 * MINUTE_NS));
        // Its place is used again.
        hour.add(65 * MINUTE_NS, checks(8));
        assert_eq!(hour.sum(65 * MINUTE_NS), Counts { checks: 12, mismatches: 1, skips: 3 });
        assert_eq!(hour.sum(200 * MINUTE_NS), Counts::default());
    }
}
