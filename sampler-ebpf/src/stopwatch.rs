//! How long programs take on a tracepoint, as a benchmark measures it: what both sides share of it.

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Lap {
    /// One context switch.
    Switch,
    /// One thread that is moved to another CPU.
    Move,
}

/// Number of them.
pub const LAPS: u32 = 2;
/// CPUs whose programs are measured at most.
pub const CPUS: u32 = 1024;
/// Width of a bucket, ns.
pub const BUCKET_NS: u64 = 32;
/// Buckets; the last has all that took longer.
pub const BUCKETS: usize = 255;
/// Words of an entry: the buckets, and behind them the longest time in ns.
pub const WORDS: usize = BUCKETS + 1;

/// Number of the entry of a CPU.
#[must_use]
#[inline(always)]
pub const fn entry(lap: Lap, cpu: u32) -> u32 {
    lap as u32 * CPUS + cpu
}

/// The bucket of a time.
#[must_use]
#[inline(always)]
pub const fn bucket(ns: u64) -> usize {
    let bucket = (ns / BUCKET_NS) as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bucket_has_all_that_took_longer() {
        assert_eq!([0, 31, 32, u64::MAX].map(bucket), [0, 0, 1, BUCKETS - 1]);
        assert_eq!(entry(Lap::Move, CPUS - 1), LAPS * CPUS - 1);
    }
}
