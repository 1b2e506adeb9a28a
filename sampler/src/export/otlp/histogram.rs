//! Distributions as `ExponentialHistogramDataPoint`s of scale 0: the kernel's buckets as they are.

use bytes::BufMut;

use super::{
    seconds,
    wire::{self, FIXED64_FIELD},
};
use crate::model::{BUCKETS, Histogram, ZERO_EXPONENT};

const COUNT: u8 = 4;
const SUM: u8 = 5;
const ZERO_COUNT: u8 = 7;
const POSITIVE: u8 = 8;
const ZERO_THRESHOLD: u8 = 14;
/// Fields of `Buckets`.
const OFFSET: u8 = 1;
const BUCKET_COUNTS: u8 = 2;

/// A distribution, with what has to be known before its first byte is written.
#[derive(Clone, Copy)]
pub(super) struct Distribution<'a> {
    histogram: &'a Histogram,
    /// Durations in all.
    count: u64,
    /// The buckets from the first to the last that is not empty, the one for the shortest left out.
    first: usize,
    end: usize,
    /// Bytes of their counts.
    counts_len: usize,
}

impl<'a> Distribution<'a> {
    pub(super) fn new(histogram: &'a Histogram) -> Self {
        let filled = |n: &usize| histogram.counts[*n] > 0;
        let first = (1..BUCKETS).find(filled).unwrap_or(BUCKETS);
        let end = (first..BUCKETS).rfind(filled).map_or(first, |last| last + 1);
        let counts_len = histogram.counts[first..end].iter().map(|count| wire::varint_len(*count)).sum();
        let count = histogram.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        Self { histogram, count, first, end, counts_len }
    }

    /// Index of the first bucket, as a signed number on the wire.
    const fn offset(&self) -> u64 {
        let offset = ZERO_EXPONENT + self.first as i32 - 1;
        ((offset << 1) ^ (offset >> 31)) as u32 as u64
    }

    const fn buckets_len(&self) -> usize {
        let offset = if self.offset() == 0 { 0 } else { 1 + wire::varint_len(self.offset()) };
        offset + wire::delimited_len(self.counts_len)
    }

    /// Bytes of the fields that [`Distribution::put`] writes.
    pub(super) const fn len(&self) -> usize {
        // The threshold and the sum are always there: an optional field that is zero is not an absent one.
        let mut len = 2 * FIXED64_FIELD;
        len += if self.count == 0 { 0 } else { FIXED64_FIELD };
        len += if self.histogram.counts[0] == 0 { 0 } else { FIXED64_FIELD };
        len += if self.first == self.end { 0 } else { wire::delimited_len(self.buckets_len()) };
        len
    }

    pub(super) fn put(&self, buffer: &mut impl BufMut) {
        if self.count != 0 {
            wire::put_fixed64(buffer, COUNT, self.count);
        }
        wire::put_fixed64(buffer, SUM, seconds(self.histogram.sum_ns).to_bits());
        if self.histogram.counts[0] != 0 {
            wire::put_fixed64(buffer, ZERO_COUNT, self.histogram.counts[0]);
        }
        if self.first != self.end {
            wire::put_header(buffer, POSITIVE, self.buckets_len());
            if self.offset() != 0 {
                wire::put_varint_field(buffer, OFFSET, self.offset());
            }
            wire::put_header(buffer, BUCKET_COUNTS, self.counts_len);
            for count in &self.histogram.counts[self.first..self.end] {
                wire::put_varint(buffer, *count);
            }
        }
        wire::put_fixed64(buffer, ZERO_THRESHOLD, 2_f64.powi(ZERO_EXPONENT).to_bits());
    }
}
