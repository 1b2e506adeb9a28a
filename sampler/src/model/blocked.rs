//! Why a vCPU is blocked: parts that come to the time in state `blocked`.

use super::tolerance::TOLERANCE_NS;
use crate::kept::kept;

labels! {
    /// Why a vCPU is blocked; the discriminant is the index in [`BLOCKED`].
    Blocked in BLOCKED {
        FaultIo = "fault_io", "Inside KVM_RUN, waiting for I/O, or for the kernel to move a page: it is swapped out, in a file, or about to be in another place.";
        Fault = "fault", "Inside KVM_RUN, waiting for anything else: for a page that another process brings, as in post-copy migration, for a lock, or because of memory.high.";
        VmmIo = "vmm_io", "Outside KVM_RUN, waiting for I/O.";
        Vmm = "vmm", "Outside KVM_RUN, waiting for anything else: for a thread of the VMM, or because the VMM has paused the guest.";
        Stopped = "stopped", "Stopped by a signal, a debugger, or the freezer of its control group.";
        Other = "other", "Not broken down: no thread runs the vCPU, or nobody saw how it fell asleep.";
    }
}

/// Reasons that are measured: all but [`Blocked::Other`].
pub const MEASURED: usize = Blocked::Other as usize;

/// Time by why a vCPU was blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockedTimes([u64; BLOCKED.len()]);

kept! { BlockedTimes(times in BLOCKED) }

impl BlockedTimes {
    /// Parts of this time, of which these were measured, ns.
    #[must_use]
    pub fn of(blocked_ns: u64, measured_ns: &[u64; MEASURED]) -> Self {
        let mut parts = [0; BLOCKED.len()];
        let (known, rest) = parts.split_at_mut(MEASURED);
        known.copy_from_slice(measured_ns);
        let sum_ns: u64 = measured_ns.iter().sum();
        if sum_ns > blocked_ns {
            let share = |ns: u64| u128::from(ns) * u128::from(blocked_ns) / u128::from(sum_ns);
            known.iter_mut().for_each(|ns| *ns = share(*ns) as u64);
        }
        let left_ns = blocked_ns - known.iter().sum::<u64>();
        // Clocks that are some microseconds old are no reason of their own.
        match known.iter_mut().max() {
            Some(longest) if *longest > 0 && left_ns <= TOLERANCE_NS => *longest += left_ns,
            _ => rest[0] = left_ns,
        }
        Self(parts)
    }

    /// The same without what was not measured.
    #[must_use]
    pub const fn measured(mut self) -> Self {
        self.0[Blocked::Other as usize] = 0;
        self
    }

    /// Time for one reason, ns.
    #[must_use]
    pub const fn get(&self, reason: Blocked) -> u64 {
        self.0[reason as usize]
    }

    /// Times in the order of [`BLOCKED`], ns.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().copied()
    }

    /// Adds other times.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(ns, other)| *ns += other);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_not_measured_is_other() {
        let parts = BlockedTimes::of(1_000_000, &[0, 300_000, 0, 0, 100_000]);
        assert_eq!(parts, BlockedTimes([0, 300_000, 0, 0, 100_000, 600_000]));
        assert_eq!(BlockedTimes::of(7, &[0; MEASURED]).get(Blocked::Other), 7, "nothing was measured");
    }

    #[test]
    fn a_little_that_is_left_goes_to_the_longest() {
        let parts = BlockedTimes::of(400_010, &[0, 300_000, 0, 0, 100_000]);
        assert_eq!(parts.get(Blocked::Fault), 300_010);
        assert_eq!(parts.get(Blocked::Other), 0);
    }

    proptest! {
        #[test]
        fn the_parts_come_to_the_time(
            blocked_ns in 0..u64::MAX / 8,
            measured_ns in prop::array::uniform5(0..u64::MAX / 8),
        ) {
            let parts = BlockedTimes::of(blocked_ns, &measured_ns);
            prop_assert_eq!(parts.iter().sum::<u64>(), blocked_ns);
        }
    }
}
