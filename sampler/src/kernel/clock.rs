//! The clocks: monotonic for lengths, Unix time for what leaves the host.

use std::time::{SystemTime, UNIX_EPOCH};

/// Reads the clocks. The distance between boot time and Unix time is taken once, so that the start time of a
/// stream never wavers while the sampler runs; Unix time itself follows every step of the host's clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    boot_unix_ns: u64,
}

impl Clock {
    /// Takes the distance between the clocks.
    #[must_use]
    pub fn start() -> Self {
        let before = read(libc::CLOCK_BOOTTIME);
        let unix = unix_ns();
        let after = read(libc::CLOCK_BOOTTIME);
        Self { boot_unix_ns: unix.saturating_sub(before + after.saturating_sub(before) / 2) }
    }

    /// `CLOCK_MONOTONIC`, ns.
    #[must_use]
    pub fn monotonic_ns(self) -> u64 {
        read(libc::CLOCK_MONOTONIC)
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
