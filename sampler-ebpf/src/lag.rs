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
