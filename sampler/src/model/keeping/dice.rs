//! Values at random.

use std::array;

use fastrand::Rng;

use crate::model::{BUCKETS, Histogram, Totals};

/// Gives values of all sizes, the same for the same seed.
pub(super) struct Dice(Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    pub(super) fn coin(&mut self) -> bool {
        self.0.bool()
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.usize(..end)
    }

    /// As many small ones as large ones, and zero.
    pub(super) fn number(&mut self) -> u64 {
        let shift = self.0.u32(..=u64::BITS);
        self.0.u64(..).checked_shr(shift).unwrap_or(0)
    }

    pub(super) fn small(&mut self) -> u32 {
        self.0.u32(..)
    }

    pub(super) fn perhaps(&mut self) -> Option<u64> {
        self.coin().then(|| self.number())
    }

    pub(super) fn numbers<const N: usize>(&mut self) -> [u64; N] {
        array::from_fn(|_| self.number())
    }

    pub(super) fn text(&mut self) -> String {
        let length = self.below(6);
        (0..length).map(|_| self.0.char(..)).collect()
    }

    pub(super) fn histogram(&mut self) -> Histogram {
        let mut counts = [0; BUCKETS];
        let (held, most) = (self.below(BUCKETS), if self.coin() { u64::MAX } else { 9_000 });
        for _ in 0..held {
            counts[self.below(BUCKETS)] = self.number().min(most);
        }
        Histogram { sum_ns: self.number(), counts }
    }

    pub(super) fn totals(&mut self) -> Totals {
        Totals { run_ns: self.number(), run_delay_ns: self.number() }
    }
}
