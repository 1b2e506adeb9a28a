//! By how much one clock is behind another, while somebody else sets both, one after the other.

/// A reading of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    ns: u64,
}

impl Lag {
    /// By a reading of both clocks, the one that is ahead first.
    #[must_use]
    #[inline(always)]
    pub const fn of((ahead, behind): (u64, u64)) -> Self {
        Self { ns: ahead.saturating_sub(behind) }
    }

    /// Whether a later reading shows the same. Where an update fell between the two clocks of either reading,
    /// they differ by as much as the clocks went on: both clocks go on alike otherwise.
    #[must_use]
    #[inline(always)]
    pub const fn holds(self, later: (u64, u64)) -> bool {
        self.ns == Self::of(later).ns
    }

    /// How much, ns.
    #[must_use]
    #[inline(always)]
    pub const fn ns(self) -> u64 {
        self.ns
    }
}
/// The larger of two differences of clocks, which are modulo 2^64 and not far from each other.
#[must_use]
#[inline(always)]
pub const fn further(one: u64, other: u64) -> u64 {
    if other.wrapping_sub(one).cast_signed() > 0 { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::further;

    #[test]
    fn the_further_of_two_differences_is_taken_across_the_wrap_too() {
        assert_eq!(further(10, 12), 12);
        assert_eq!(further(12, 10), 12);
        assert_eq!(further(u64::MAX - 3, 2), 2, "it was behind, and is ahead");
        assert_eq!(further(2, u64::MAX - 3), 2);
    }
}
