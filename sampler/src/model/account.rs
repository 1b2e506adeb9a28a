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
    /// Time asleep in a halt since the thread is followed, the sleep that goes on included, ns.
    pub halted_ns: u64,
    /// Time asleep anywhere else since the thread is followed, ns.
    pub blocked_ns: u64,
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
    halted_ns: u64,
    blocked_ns: u64,
    /// Asleep before the thread was followed. It never grows.
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
        let asleep = age.saturating_sub(run_ns).saturating_sub(steal_ns);
        let halted_ns = first.halted_ns.min(asleep);
        let blocked_ns = first.blocked_ns.min(asleep - halted_ns);
        let off_ns = asleep - halted_ns - blocked_ns;
        Self { last: first, run_ns, steal_ns, halted_ns, blocked_ns, off_ns, debt_ns: 0 }
    }

    /// Wall time of the thread by state since its creation.
    #[must_use]
    pub fn states(&self) -> StateTimes {
        let mut times = times(self.run_ns, self.steal_ns, self.halted_ns, self.blocked_ns);
        if self.off_ns > 0 {
            times.set(State::Off, self.off_ns);
        }
        times
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
            kvm: None,
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
    /// uncertainty of the two readings. A remainder below zero is carried over, not hidden. How much of the sleep was in a
    /// halt is measured; what is left of it is the time blocked.
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
        let asleep_ns = wall_ns.saturating_sub(spent);
        self.debt_ns = spent.saturating_sub(wall_ns);
        let mut halted_before = self.last.halted_ns;
        let measured_ns = grow(reading.halted_ns, &mut halted_before);
        let halted_ns = measured_ns.min(asleep_ns);
        let blocked_ns = asleep_ns - halted_ns;
        self.halted_ns += halted_ns;
        self.blocked_ns += blocked_ns;
        faults.negative_remainder = self.debt_ns > TOLERANCE_NS || measured_ns > asleep_ns + TOLERANCE_NS;
        let counters = std::array::from_fn(|n| {
            faults.regression |= reading.counters[n] < self.last.counters[n];
            reading.counters[n].saturating_sub(self.last.counters[n])
        });
        // Held where it was found lower: the same sleep is not to be added twice.
        self.last = Reading { halted_ns: halted_before, ..reading };
        let states = times(run_ns, steal_ns, halted_ns, blocked_ns);
        (Interval { wall_ns, run_ns, steal_ns, counters, states, kvm: None }, faults)
    }
}

fn times(run_ns: u64, steal_ns: u64, halted_ns: u64, blocked_ns: u64) -> StateTimes {
    let mut times = StateTimes::default();
    times.set(State::Run, run_ns);
    times.set(State::Steal, steal_ns);
    times.set(State::Halted, halted_ns);
    times.set(State::Blocked, blocked_ns);
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
            halted_ns: 0,
            blocked_ns: 0,
        }
    }

    #[test]
    fn states_since_creation_come_from_the_kernels_counts() {
        let account = Account::open(reading(10_000, 3_000, 500, 1_000, 0), 7_000_000_000);
        assert_eq!(account.states().get(State::Off), Some(5_500), "nobody watched");
        assert_eq!(account.states().sum(), 10_000);
    }

    #[test]
    fn a_wait_that_goes_on_is_steal_now_and_is_not_counted_twice_when_it_ends() {
        let mut account = Account::open(reading(1_000_000, 0, 0, 0, 0), 7_000_000_000);
        let (starved, faults) = account.advance(reading(2_000_000, 0, 0, 0, 900_000));
        assert_eq!(starved.states, times(0, 900_000, 0, 100_000));
        assert_eq!(faults, Faults::default());
        let (after, faults) = account.advance(reading(3_000_000, 600_000, 0, 1_200_000, 0));
        assert_eq!(after.states, times(600_000, 300_000, 0, 100_000));
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
        assert_eq!(interval.states, times(1_000_000, 0, 0, 0));
    }

    #[test]
    fn a_remainder_below_zero_is_carried_over_and_told_when_it_is_more_than_uncertainty() {
        let mut account = Account::open(reading(0, 0, 0, 0, 0), 7_000_000_000);
        let (_, faults) = account.advance(reading(1_000_000, 1_010_000, 0, 0, 0));
        assert!(!faults.negative_remainder);
        let (next, _) = account.advance(reading(2_000_000, 1_010_000, 0, 0, 0));
        assert_eq!(next.states.get(State::Blocked), Some(990_000), "the debt is paid back");
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

    #[test]
    fn sleep_is_split_by_what_was_measured_in_a_halt() {
        let first = Reading { halted_ns: 2_000, blocked_ns: 1_000, ..reading(10_000, 3_000, 0, 1_000, 0) };
        let mut account = Account::open(first, 7_000_000_000);
        assert_eq!(account.states().get(State::Off), Some(3_000));
        let (interval, faults) = account.advance(Reading {
            halted_ns: 302_000,
            blocked_ns: 1_000,
            ..reading(1_010_000, 503_000, 0, 1_000, 0)
        });
        assert_eq!(interval.states, times(500_000, 0, 300_000, 200_000), "blocked is the rest");
        assert_eq!(faults, Faults::default());
        assert_eq!(account.states().sum(), 1_010_000);
    }

    #[test]
    fn an_estimated_sleep_that_was_too_long_is_not_added_twice() {
        let mut account = Account::open(reading(0, 0, 0, 0, 0), 7_000_000_000);
        let asleep = |sched, halted| Reading { halted_ns: halted, ..reading(sched, 0, 0, 0, 0) };
        account.advance(asleep(1_000_000, 1_000_000));
        let (second, faults) = account.advance(asleep(2_000_000, 999_000));
        assert_eq!(second.states.get(State::Halted), Some(0));
        assert_eq!(faults, Faults::default());
        let (third, _) = account.advance(asleep(3_000_000, 1_500_000));
        assert_eq!(third.states.get(State::Halted), Some(500_000));
        let (_, faults) = account.advance(asleep(4_000_000, 4_000_000));
        assert!(faults.negative_remainder, "more sleep than the interval has");
        assert_eq!(account.states().sum(), 4_000_000);
    }
}
