//! The clocks: monotonic for lengths, Unix time for what leaves the host.

use std::time::{SystemTime, UNIX_EPOCH};

/// Reads the clocks, and has the distance of boot time and Unix time as it was once: so that the start of a
/// stream never wavers. Unix time itself follows every step of the host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    boot_unix_ns: u64,
}

/// By how much a distance that is measured anew may differ because of the measurement, ns.
const NOISE_NS: u64 = 100_000;
/// Measurements of the distance, of which the one that took least time is believed.
const MEASUREMENTS: u32 = 3;

impl Clock {
    /// Takes the distance between the clocks.
    #[must_use]
    pub fn start() -> Self {
        let measure = |_| {
            let before = read(libc::CLOCK_BOOTTIME);
            let unix = unix_ns();
            let took = read(libc::CLOCK_BOOTTIME).saturating_sub(before);
            (took, Self { boot_unix_ns: unix.saturating_sub(before + took / 2) })
        };
        let best = (0..MEASUREMENTS).map(measure).min_by_key(|(took, _)| *took);
        best.map_or(Self { boot_unix_ns: 0 }, |(_, clock)| clock)
    }

    /// With the distance of now, where the host's clock was set since. Streams that begin from now
    /// on are to have it; those that exist keep theirs.
    #[must_use]
    pub fn renewed(self) -> Self {
        self.or(Self::start())
    }

    const fn or(self, now: Self) -> Self {
        if self.boot_unix_ns.abs_diff(now.boot_unix_ns) > NOISE_NS { now } else { self }
    }

    /// `CLOCK_MONOTONIC`, ns.
    #[must_use]
    pub fn monotonic_ns(self) -> u64 {
        read(libc::CLOCK_MONOTONIC)
    }

    /// A clock that an earlier process had: its starts are as they were.
    #[must_use]
    pub const fn of_distance(boot_unix_ns: u64) -> Self {
        Self { boot_unix_ns }
    }

    /// Unix time when `CLOCK_BOOTTIME` was zero, ns.
    #[must_use]
    pub const fn distance_ns(self) -> u64 {
        self.boot_unix_ns
    }

    /// `CLOCK_BOOTTIME`, ns: the clock of start times.
    #[must_use]
    pub fn boottime_ns(self) -> u64 {
        read(libc::CLOCK_BOOTTIME)
    }

    /// Unix time, ns.
    #[must_use]
    pub fn unix_ns(self) -> u64 {
        unix_ns()
    }

    /// The same for whoever has no clock.
    #[must_use]
    pub fn now_unix_ns() -> u64 {
        unix_ns()
    }

    /// `CLOCK_MONOTONIC` for whoever has no clock, ns.
    #[must_use]
    pub fn now_monotonic_ns() -> u64 {
        read(libc::CLOCK_MONOTONIC)
    }

    /// Unix time of a moment of `CLOCK_BOOTTIME`, ns.
    #[must_use]
    pub const fn unix_of_boottime(self, boottime_ns: u64) -> u64 {
        self.boot_unix_ns.saturating_add(boottime_ns)
    }
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call. The clocks exist since 2.6.39, so it cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_stays_until_the_clock_was_set() {
        let clock = Clock { boot_unix_ns: 1_000_000_000 };
        let measured = |boot_unix_ns| clock.or(Clock { boot_unix_ns });
        assert_eq!(measured(1_000_000_000 + NOISE_NS), clock);
        assert_eq!(measured(3_000_000_000).unix_of_boottime(5), 3_000_000_005);
        assert_eq!(measured(7), Clock { boot_unix_ns: 7 });
    }

    #[test]
    fn now_is_now() {
        let clock = Clock::start();
        let now = clock.unix_of_boottime(clock.boottime_ns());
        assert!(now.abs_diff(clock.unix_ns()) < 1_000_000_000);
    }
}
