//! Distributions of a vCPU: histograms in powers of two of seconds, as the programs keep them.

use super::{BUCKETS, DISTRIBUTIONS, Distribution, Histogram, Row, ZERO_EXPONENT};
use crate::kept::{Keep, Reader, Shape, Writer, kept};

/// One histogram for each [`Distribution`], cumulative since the vCPU is followed, or what an interval added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distributions([Histogram; DISTRIBUTIONS.len()]);

kept! { Distributions(histograms in DISTRIBUTIONS) }

impl Distributions {
    /// By [`Distribution`].
    #[must_use]
    pub const fn new(histograms: [Histogram; DISTRIBUTIONS.len()]) -> Self {
        Self(histograms)
    }

    /// One histogram.
    #[must_use]
    pub const fn get(&self, distribution: Distribution) -> &Histogram {
        &self.0[distribution as usize]
    }

    /// A histogram by its index in the table.
    ///
    /// # Panics
    /// When the table has no such row.
    #[must_use]
    pub const fn at(&self, index: usize) -> &Histogram {
        &self.0[index]
    }

    /// The histograms with their rows, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Row, &Histogram)> {
        DISTRIBUTIONS.iter().zip(&self.0)
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self(std::array::from_fn(|n| since(&self.0[n], &earlier.0[n])))
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|n| plus(&self.0[n], &other.0[n])))
    }

    /// Adds what was added between two others.
    pub fn add_between(&mut self, now: &Self, earlier: &Self) {
        for ((sum, now), earlier) in self.0.iter_mut().zip(&now.0).zip(&earlier.0) {
            if now != earlier {
                *sum = plus(sum, &since(now, earlier));
            }
        }
    }
}

const _: () = assert!(BUCKETS <= u32::BITS as usize, "a bit for each bucket");

/// Most buckets hold nothing, and counts of four bytes are enough for most that do.
impl Keep for Histogram {
    const SHAPE: u64 = {
        let shape = Shape::of("Histogram").number(BUCKETS as u64);
        shape.number(ZERO_EXPONENT.unsigned_abs() as u64).end()
    };

    fn put(&self, to: &mut Writer<'_>) {
        let Self { sum_ns, counts } = self;
        let held = (0..).zip(counts).fold(0_u32, |bits, (n, count)| bits | u32::from(*count > 0) << n);
        let are_wide = counts.iter().any(|count| *count > u64::from(u32::MAX));
        (*sum_ns, held, are_wide).put(to);
        for count in counts.iter().filter(|count| **count > 0) {
            if are_wide {
                count.put(to);
            } else {
                (*count as u32).put(to);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let (sum_ns, held, are_wide) = <(u64, u32, bool)>::take(from)?;
        let mut counts = [0; BUCKETS];
        for (_, count) in counts.iter_mut().enumerate().filter(|(n, _)| held >> n & 1 == 1) {
            *count = if are_wide { u64::take(from)? } else { u32::take(from)?.into() };
        }
        Some(Self { sum_ns, counts })
    }
}

/// What was added since `earlier`.
#[must_use]
pub fn since(now: &Histogram, earlier: &Histogram) -> Histogram {
    Histogram {
        sum_ns: now.sum_ns.saturating_sub(earlier.sum_ns),
        counts: std::array::from_fn(|n| now.counts[n].saturating_sub(earlier.counts[n])),
    }
}

/// Both together.
#[must_use]
pub fn plus(one: &Histogram, other: &Histogram) -> Histogram {
    Histogram {
        sum_ns: one.sum_ns.saturating_add(other.sum_ns),
        counts: std::array::from_fn(|n| one.counts[n].saturating_add(other.counts[n])),
    }
}

/// Durations in a histogram.
#[must_use]
pub fn count(histogram: &Histogram) -> u64 {
    histogram.counts.iter().sum()
}

/// The buckets after the first that hold something: index at OTLP's scale 0, and count. Bucket `i` covers
/// (2^i, 2^(i+1)] seconds.
pub fn buckets(histogram: &Histogram) -> impl Iterator<Item = (i32, u64)> + '_ {
    (ZERO_EXPONENT..)
        .zip(&histogram.counts[1..])
        .filter(|(_, count)| **count > 0)
        .map(|(n, count)| (n, *count))
}

/// A duration that `share` of all durations do not exceed, in seconds: the upper bound of the bucket in which
/// the share is reached, so up to twice the true one, and never less. `None` of an empty histogram, infinite
/// in the last bucket.
#[must_use]
pub fn quantile_bound(histogram: &Histogram, share: f64) -> Option<f64> {
    let all = count(histogram);
    let wanted = (all as f64 * share).ceil() as u64;
    let mut seen = 0;
    let bucket = histogram.counts.iter().position(|count| {
        seen += count;
        seen >= wanted.max(1)
    })?;
    let bound = if bucket == BUCKETS - 1 { f64::INFINITY } else { 2_f64.powi(ZERO_EXPONENT + bucket as i32) };
    Some(bound)
}

#[cfg(test)]
mod tests {
    use crate::model::bucket_of;

    use super::*;

    fn of(durations: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for ns in durations {
            histogram.sum_ns += ns;
            histogram.counts[bucket_of(*ns)] += 1;
        }
        histogram
    }

    #[test]
    fn buckets_are_numbered_as_otlp_numbers_them() {
        // 0.5 s is the upper bound of (2^-2, 2^-1], 0.6 s lies in (2^-1, 2^0].
        let histogram = of(&[100, 500_000_000, 600_000_000, 600_000_000]);
        assert_eq!(buckets(&histogram).collect::<Vec<_>>(), [(-2, 1), (-1, 2)]);
        assert_eq!(count(&histogram), 4, "the shortest count too");
    }

    #[test]
    fn a_quantile_is_bounded_from_above() {
        assert_eq!(quantile_bound(&of(&[]), 0.99), None);
        let mut durations = vec![1_000_000; 99];
        durations.push(3_000_000_000);
        assert_eq!(quantile_bound(&of(&durations), 0.99), Some(2_f64.powi(-9)));
        assert_eq!(quantile_bound(&of(&durations), 1.0), Some(4.0));
        assert_eq!(quantile_bound(&of(&[u64::MAX]), 0.5), Some(f64::INFINITY));
    }

    #[test]
    fn differences_and_sums_are_by_bucket() {
        let earlier = Distributions::new([of(&[5, 1_000_000]); DISTRIBUTIONS.len()]);
        let added = Distributions::new([of(&[7_000, 1_000_000]); DISTRIBUTIONS.len()]);
        let now = earlier.plus(&added);
        assert_eq!(now.get(Distribution::Steal), &of(&[5, 1_000_000, 7_000, 1_000_000]));
        assert_eq!(now.since(&earlier), added);
        let mut sum = earlier;
        sum.add_between(&now, &earlier);
        assert_eq!(sum, now);
    }
}
