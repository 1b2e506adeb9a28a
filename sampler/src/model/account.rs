//! Accounting of one vCPU thread: from readings to times by state that add up.

use sampler_ebpf::abi::{COUNTERS, Counter};

use super::{
    snapshot::Interval,
    state::{State, StateTimes},
};

/// One reading of a thread. Run time, run delay and `sched_ns` are on the scheduler's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`, ns.
    pub monotonic_ns: u64,
    /// The scheduler's clock, ns.
    pub sched_ns: u64,
    /// The kernel's cumulative counts, by [`Counter`].
    pub counters: [u64; COUNTERS.len()],
    /// CPU time not yet in the kernel's count, ns.
    pub running_ns: u64,
    /// Wait that goes on, not yet in the kernel's count, ns.
    pub waiting_ns: u64,
}

impl Reading {
    const fn run_ns(&self) -> u64 {
        self.counters[Counter::Run as usize].saturating_add(self.running_ns)
    }

    const fn steal_ns(&self) -> u64 {
        self.counters[Counter::RunDelay as usize].saturating_add(self.waiting_ns)
    }
}

/// What went wrong in one step; all are counted by the sampler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The states came to more than the wall time by more than [`TOLERANCE_NS`].
    pub negative_remainder: bool,
    /// A cumulative value was lower than before.
    pub regression: bool,
}

/// Uncertainty of one reading: the scheduler's clock is measured to some microseconds, and a thread's state
/// may change while it is read.
pub const TOLERANCE_NS: u64 = 50_000;

/// The account of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    last: Reading,
    run_ns: u64,
    steal_ns: u64,
    off_ns: u64,
    /// Time that the states were given beyond the wall time; the next remainders pay it back.
    debt_ns: u64,
}

impl Account {
    /// Opens the account with a first reading. What happened since the thread's creation is known from the
    /// kernel's counts; only for this part `CLOCK_MONOTONIC` has to serve as wall clock.
    #[must_use]
    pub fn open(first: Reading, start_monotonic_ns: u64) -> Self {
        let (run_ns, steal_ns) = (first.run_ns(), first.steal_ns());
        let age = first.monotonic_ns.saturating_sub(start_monotonic_ns);
        let off_ns = age.saturating_sub(run_ns).saturating_sub(steal_ns);
        Self { last: first, run_ns, steal_ns, off_ns, debt_ns: 0 }
    }

    /// Wall time of the thread by state since its creation.
    #[must_use]
    pub fn states(&self) -> StateTimes {
        times(self.run_ns, self.steal_ns, self.off_ns)
    }

    /// What happened since the thread's creation, as an interval: for a thread that is younger than the interval.
    #[must_use]
    pub fn since_creation(&self) -> Interval {
        Interval {
            wall_ns: self.states().sum(),
            run_ns: self.run_ns,
            steal_ns: self.steal_ns,
            counters: self.last.counters,
            states: self.states(),
        }
    }

    /// The last reading.
    #[must_use]
    pub const fn last(&self) -> &Reading {
        &self.last
    }

    /// Adds a reading and returns what the time since the one before added.
    ///
    /// Sleep is what is left of the wall time: all three clocks are the same, so the sum is exact but for the
    /// uncertainty of the two readings. A remainder below zero is carried over, not hidden.
    pub fn advance(&mut self, reading: Reading) -> (Interval, Faults) {
        let mut faults = Faults::default();
        let wall_ns = reading.sched_ns.saturating_sub(self.last.sched_ns);
        let mut grow = |now: u64, before: &mut u64| {
            faults.regression |= now + TOLERANCE_NS < *before;
            let added = now.saturating_sub(*before);
            *before += added;
            added
        };
        let run_ns = grow(reading.run_ns(), &mut self.run_ns);
        let steal_ns = grow(reading.steal_ns(), &mut self.steal_ns);
        let spent = run_ns + steal_ns + self.debt_ns;
        let off_ns = wall_ns.saturating_sub(spent);
        self.debt_ns = spent.saturating_sub(wall_ns);
        self.off_ns += off_ns;
        faults.negative_remainder = self.debt_ns > TOLERANCE_NS;
        let counters = std::array::from_fn(|n| {
            faults.regression |= reading.counters[n] < self.last.counters[n];
            reading.counters[n].saturating_sub(self.last.counters[n])
        });
        self.last = reading;
        let states = times(run_ns, steal_ns, off_ns);
        (Interval { wall_ns, run_ns, steal_ns, counters, states }, faults)
    }
}

fn times(run_ns: u64, steal_ns: u64, off_ns: u64) -> StateTimes {
    let mut times = StateTimes::default();
    times.set(State::Run, run_ns);
    times.set(State::Steal, steal_ns);
    times.set(State::Off, off_ns);
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(sched_ns: u64, run: u64, running: u64, delay: u64, waiting: u64) -> Reading {
        let mut counters = [0; COUNTERS.len()];
        counters[Counter::Run as usize] = run;
        counters[Counter::RunDelay as usize] = delay;
        Reading {
            monotonic_ns: sched_ns + 7_000_000_000,
            sched_ns,
            counters,
            running_ns: running,
            waiting_ns: waiting,
        }
    }

    #[test]
    fn states_since_creation_come_from_the_kernels_counts() {
        let account = Account::open(reading(10_000, 3_000, 500, 1_000, 0), 7_000_000_000);
        assert_eq!(account.states(), times(3_500, 1_000, 5_500));
        assert_eq!(account.states().sum(), 10_000);
    }

    #[test]
    fn a_wait_that_goes_on_is_steal_now_and_is_not_counted_twice_when_it_ends() {
        let mut account = Account::open(reading(1_000_000, 0, 0, 0, 0), 7_000_000_000);
        let (starved, faults) = account.advance(reading(2_000_000, 0, 0, 0, 900_000));
        assert_eq!(starved.states, times(0, 900_000, 100_000));
        assert_eq!(faults, Faults::default());
        let (after, faults) = account.advance(reading(3_000_000, 600_000, 0, 1_200_000, 0));
        assert_eq!(after.states, times(600_000, 300_000, 100_000));
        assert_eq!(
            after.counters[Counter::RunDelay as usize],
            1_200_000,
            "the kernel's own step is kept apart"
        );
        assert_eq!(faults, Faults::default());
        assert_eq!(after.states.sum(), after.wall_ns);
    }

    #[test]
    fn a_stint_that_goes_on_is_run_time_now() {
        let mut account = Account::open(reading(0, 0, 0, 0, 0), 7_000_000_000);
        let (interval, _) = account.advance(reading(1_000_000, 0, 1_000_000, 0, 0));
        assert_eq!(interval.states, times(1_000_000, 0, 0));
    }

    #[test]
    fn a_remainder_below_zero_is_carried_over_and_told_when_it_is_more_than_uncertainty() {
        let mut account = Account::open(reading(0, 0, 0, 0, 0), 7_000_000_000);
        let (_, faults) = account.advance(reading(1_000_000, 1_010_000, 0, 0, 0));
        assert!(!faults.negative_remainder);
        let (next, _) = account.advance(reading(2_000_000, 1_010_000, 0, 0, 0));
        assert_eq!(next.states.get(State::Off), Some(990_000), "the debt is paid back");
        assert_eq!(account.states().sum(), 2_000_000);
        let (_, faults) = account.advance(reading(3_000_000, 3_010_000, 0, 0, 0));
        assert!(faults.negative_remainder);
    }

    #[test]
    fn a_count_that_falls_is_held_and_told() {
        let mut account = Account::open(reading(0, 900_000, 0, 0, 0), 6_000_000_000);
        let (interval, faults) = account.advance(reading(1_000_000, 100_000, 0, 0, 0));
        assert!(faults.regression);
        assert_eq!(interval.run_ns, 0);
    }
}
