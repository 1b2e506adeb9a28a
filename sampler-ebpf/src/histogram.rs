//! Histograms of durations, whose buckets are exact powers of two of seconds.
//!
//! They leave as OTLP exponential histograms of scale 0 without being counted again: bucket `i` of such a
//! histogram covers (2^i, 2^(i+1)] seconds. Shorter ones than [`ZERO_EXPONENT`] are "zero" to OTLP, which has
//! a field for that threshold.

/// Buckets of a histogram, the one for the shortest included.
pub const BUCKETS: usize = 32;
/// The first bucket covers all up to 2^this seconds, 238 ns.
pub const ZERO_EXPONENT: i32 = -22;

const NS_PER_S: u64 = 1_000_000_000;
/// The longest duration of the first bucket, ns.
const ZERO_NS: u64 = NS_PER_S >> -ZERO_EXPONENT;
/// All that is longer belongs into the last bucket: 2^8 seconds.
const LAST_NS: u64 = NS_PER_S << (BUCKETS as i32 - 2 + ZERO_EXPONENT);

/// A distribution of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Histogram {
    /// Sum of all durations, ns.
    pub sum_ns: u64,
    /// Durations by bucket: bucket 0 holds those up to 2^[`ZERO_EXPONENT`] seconds, bucket `n` those in
    /// (2^(n - 1 + [`ZERO_EXPONENT`]), 2^(n + [`ZERO_EXPONENT`])] seconds, the last one all that are longer
    /// too.
    pub counts: [u64; BUCKETS],
}

impl Histogram {
    /// Of nothing.
    pub const EMPTY: Self = Self { sum_ns: 0, counts: [0; BUCKETS] };
}

/// The bucket of a duration. Without a loop or a table, for the programs.
#[must_use]
#[inline(always)]
pub const fn bucket_of(ns: u64) -> usize {
    if ns <= ZERO_NS {
        return 0;
    }
    if ns > LAST_NS {
        return BUCKETS - 1;
    }
    // 2^exponent <= ns; a second is 2^29.9 ns, so 2^(exponent - 29) s is the one bound that can lie within.
    let exponent = 63 - ns.leading_zeros();
    let bound = if exponent < 29 { NS_PER_S >> (29 - exponent) } else { NS_PER_S << (exponent - 29) };
    let bucket = exponent as i32 - 29 - ZERO_EXPONENT + (ns > bound) as i32;
    // Changes nothing, but shows the verifier the bound.
    bucket as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// By exact arithmetic: ns / 10^9 <= 2^k.
    fn at_most(ns: u64, exponent: i32) -> bool {
        let (ns, second) = (u128::from(ns), u128::from(NS_PER_S));
        if exponent < 0 { ns << -exponent <= second } else { ns <= second << exponent }
    }

    #[test]
    fn buckets_are_exact_powers_of_two_of_seconds() {
        let edges = (0..64).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let bounds = (-29_i32..9).flat_map(|exponent| {
            let bound = if exponent < 0 { NS_PER_S >> -exponent } else { NS_PER_S << exponent };
            [bound - 1, bound, bound + 1]
        });
        for ns in edges.chain(bounds).chain([0, u64::MAX]) {
            let bucket = bucket_of(ns);
            let upper = bucket as i32 + ZERO_EXPONENT;
            assert!(bucket == BUCKETS - 1 || at_most(ns, upper), "{ns} ns is longer than bucket {bucket}");
            assert!(bucket == 0 || !at_most(ns, upper - 1), "{ns} ns is too short for bucket {bucket}");
        }
    }
}
