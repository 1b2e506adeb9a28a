//! Accounting of one vCPU thread: from readings to times by state that add up.

use super::{
    blocked::{BLOCKED, BlockedTimes, MEASURED},
    counted::{COUNTERS, Counter, Counters},
    on_cpu::{Clocks, ModeTimes, OnCpu},
    snapshot::{Interval, Totals},
    state::{State, StateTimes},
    tolerance::TOLERANCE_NS,
};
use crate::kept::kept;

/// One reading of a thread. Run time, run delay and `sched_ns` are on the scheduler's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`, ns.
    pub monotonic_ns: u64,
    /// The scheduler's clock, ns.
    pub sched_ns: u64,
    /// The kernel's cumulative counts, by [`Counter`].
    pub counters: Counters,
    /// CPU time not yet in the kernel's count, ns.
    pub running_ns: u64,
    /// Wait that goes on, not yet in the kernel's count, ns.
    pub waiting_ns: u64,
    /// Part of the waits since the thread is followed, of the one that goes on too, for which a CPU quota
    /// held it back, ns; `None` where the kernel keeps no clock of it.
    pub throttled_ns: Option<u64>,
    /// Time asleep in a halt since the thread is followed, the sleep that goes on included, ns.
    pub halted_ns: u64,
    /// Time asleep anywhere else since the thread is followed, by why, ns.
    pub blocked_ns: [u64; MEASURED],
    /// What the CPU time was for.
    pub modes: ModeTimes,
}

kept! {
    Reading {
        monotonic_ns,
        sched_ns,
        counters in COUNTERS,
        running_ns,
        waiting_ns,
        throttled_ns,
        halted_ns,
        blocked_ns in BLOCKED,
        modes,
    }
}

impl Reading {
    const fn run_ns(&self) -> u64 {
        self.counters[Counter::Run as usize].saturating_add(self.running_ns)
    }

    const fn delay_ns(&self) -> u64 {
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

/// The account of one thread. All states are zero at the moment from which it is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    last: Reading,
    /// Held where the kernel's counts fall.
    totals: Totals,
    /// Where they are held, by the readings alone; 0 of what is not held.
    held: Totals,
    on_cpu: OnCpu,
    /// Run delay since the thread is followed: steal, and the time throttled.
    delay_ns: u64,
    throttled_ns: Option<u64>,
    /// Throttled, beyond the run delay that was known by then: the next has it.
    throttled_early_ns: u64,
    halted_ns: u64,
    blocked: BlockedTimes,
    /// Time that the states were given beyond the wall time; the next remainders pay it back.
    debt_ns: u64,
    since: Since,
}

kept! {
    Account {
        last,
        totals,
        held,
        on_cpu,
        delay_ns,
        throttled_ns,
        throttled_early_ns,
        halted_ns,
        blocked,
        debt_ns,
        since,
    }
}

/// From when on a thread is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Creation {
        /// There was one step, which has all of the thread's time.
        is_first_step: bool,
    },
    FirstReading,
}

kept! { enum Since { 0 = FirstReading, 1 = Creation { is_first_step: bool } } }

impl Account {
    /// Follows a thread from this reading on.
    #[must_use]
    pub fn follow(first: Reading) -> Self {
        Self {
            last: first,
            totals: Totals { run_ns: first.run_ns(), run_delay_ns: first.delay_ns() },
            held: Totals::default(),
            on_cpu: OnCpu::follow(&first.modes),
            delay_ns: 0,
            throttled_ns: first.throttled_ns.map(|_| 0),
            throttled_early_ns: 0,
            halted_ns: 0,
            blocked: BlockedTimes::default(),
            debt_ns: 0,
            since: Since::FirstReading,
        }
    }

    /// Follows a thread from its creation on, with a first reading soon after it; also returns what was since
    /// then. How long it ran and waited is known from the kernel's counts. Only here `CLOCK_MONOTONIC` has to
    /// serve as wall clock: the scheduler's clock at the creation is not known.
    #[must_use]
    pub fn follow_from_creation(first: Reading, start_monotonic_ns: u64) -> (Self, Interval, Faults) {
        let age = first.monotonic_ns.saturating_sub(start_monotonic_ns);
        let creation = Reading {
            monotonic_ns: start_monotonic_ns,
            sched_ns: first.sched_ns.saturating_sub(age),
            throttled_ns: first.throttled_ns.map(|_| 0),
            modes: ModeTimes {
                poll_ns: first.modes.poll_ns,
                unentered: first.modes.unentered,
                ..ModeTimes::default()
            },
            ..Reading::default()
        };
        let mut account = Self { since: Since::Creation { is_first_step: false }, ..Self::follow(creation) };
        let (interval, faults) = account.advance(first);
        account.since = Since::Creation { is_first_step: true };
        (account, interval, faults)
    }

    /// Wall time of the thread by state since it is followed.
    #[must_use]
    pub fn states(&self) -> StateTimes {
        let blocked_ns = self.blocked.iter().sum();
        let mut times = off_cpu(self.delay_ns, self.throttled_ns, self.halted_ns, blocked_ns);
        self.on_cpu.write_total(&mut times);
        times
    }

    /// Time in state blocked since it is followed, by why.
    #[must_use]
    pub const fn blocked(&self) -> &BlockedTimes {
        &self.blocked
    }

    /// The kernel's times since the thread's creation.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// What was estimated of each total before an estimate fell, until a reading has come to as much: the
    /// totals are held there. 0 of what is not held.
    #[must_use]
    pub const fn held(&self) -> Totals {
        self.held
    }

    /// Whether the thread is followed from its creation on.
    #[must_use]
    pub const fn is_from_creation(&self) -> bool {
        matches!(self.since, Since::Creation { .. })
    }

    /// Whether the last step had all of the thread's time since its creation.
    #[must_use]
    pub const fn is_all_in_last_step(&self) -> bool {
        matches!(self.since, Since::Creation { is_first_step: true })
    }

    /// The last reading.
    #[must_use]
    pub const fn last(&self) -> &Reading {
        &self.last
    }

    /// Adds a reading and returns what the time since the one before added.
    ///
    /// Sleep is what is left of the wall time: all three clocks are the same, so the sum is exact but for the
    /// uncertainty of the two readings. A remainder below zero is carried over, not hidden. How much of the
    /// sleep was in a halt is measured; what is left of it is the time blocked, and why is measured too.
    pub fn advance(&mut self, reading: Reading) -> (Interval, Faults) {
        let mut faults = Faults::default();
        let wall_ns = reading.sched_ns.saturating_sub(self.last.sched_ns);
        self.held = Totals {
            run_ns: held(self.held.run_ns, self.last.run_ns(), reading.run_ns()),
            run_delay_ns: held(self.held.run_delay_ns, self.last.delay_ns(), reading.delay_ns()),
        };
        let mut grow = |now: u64, before: &mut u64| {
            faults.regression |= now + TOLERANCE_NS < *before;
            let added = now.saturating_sub(*before);
            *before += added;
            added
        };
        let run_ns = grow(reading.run_ns(), &mut self.totals.run_ns);
        let run_delay_ns = grow(reading.delay_ns(), &mut self.totals.run_delay_ns);
        self.delay_ns += run_delay_ns;
        let mut throttled_before = self.last.throttled_ns.unwrap_or(0);
        let throttled_ns = reading.throttled_ns.map(|now| {
            let known = grow(now, &mut throttled_before) + self.throttled_early_ns;
            let throttled = known.min(run_delay_ns);
            self.throttled_early_ns = known - throttled;
            throttled
        });
        let debt_before_ns = self.debt_ns;
        let spent = run_ns + run_delay_ns + debt_before_ns;
        let asleep_ns = wall_ns.saturating_sub(spent);
        self.debt_ns = spent.saturating_sub(wall_ns);
        // A thread that never sleeps never pays back: what was counted once is not counted again.
        let owes_more = self.debt_ns > TOLERANCE_NS && self.debt_ns > debt_before_ns;
        let mut halted_before = self.last.halted_ns;
        let measured_ns = grow(reading.halted_ns, &mut halted_before);
        let halted_ns = measured_ns.min(asleep_ns);
        let blocked_ns = asleep_ns - halted_ns;
        self.halted_ns += halted_ns;
        let mut blocked_before = self.last.blocked_ns;
        let why_ns = std::array::from_fn(|n| grow(reading.blocked_ns[n], &mut blocked_before[n]));
        let blocked = BlockedTimes::of(blocked_ns, &why_ns);
        self.blocked.add(&blocked);
        if let Since::Creation { is_first_step } = &mut self.since {
            *is_first_step = false;
        }
        if let Some(throttled_ns) = throttled_ns {
            *self.throttled_ns.get_or_insert(0) += throttled_ns;
        }
        let monotonic_ns = reading.monotonic_ns.saturating_sub(self.last.monotonic_ns);
        let clocks = Clocks { sched_ns: wall_ns, monotonic_ns };
        let too_much_measured = self.on_cpu.advance(&reading.modes, run_ns, clocks);
        faults.negative_remainder = owes_more || measured_ns > asleep_ns + TOLERANCE_NS || too_much_measured;
        let counters = std::array::from_fn(|n| {
            faults.regression |= reading.counters[n] < self.last.counters[n];
            reading.counters[n].saturating_sub(self.last.counters[n])
        });
        // Held where they were found lower: the same time is not to be added twice.
        let throttled_before = reading.throttled_ns.map(|_| throttled_before);
        self.last = Reading {
            halted_ns: halted_before,
            blocked_ns: blocked_before,
            throttled_ns: throttled_before,
            ..reading
        };
        let mut states = off_cpu(run_delay_ns, throttled_ns, halted_ns, blocked_ns);
        self.on_cpu.write_step(&mut states);
        (Interval { wall_ns, run_ns, run_delay_ns, counters, states, blocked, kvm: None }, faults)
    }
}

/// Where a total is held after a reading that follows another; 0 where it is not.
fn held(held_ns: u64, last_ns: u64, now_ns: u64) -> u64 {
    let highest_ns = if now_ns < last_ns { held_ns.max(last_ns) } else { held_ns };
    if now_ns < highest_ns { highest_ns } else { 0 }
}

fn off_cpu(delay_ns: u64, throttled_ns: Option<u64>, halted_ns: u64, blocked_ns: u64) -> StateTimes {
    let mut times = StateTimes::default();
    times.set(State::Steal, delay_ns - throttled_ns.unwrap_or(0));
    if let Some(throttled_ns) = throttled_ns {
        times.set(State::Throttled, throttled_ns);
    }
    times.set(State::Halted, halted_ns);
    times.set(State::Blocked, blocked_ns);
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Blocked;

    /// Of a thread whose CPU time is not broken down.
    fn times(
        run_ns: u64,
        delay_ns: u64,
        throttled_ns: Option<u64>,
        halted_ns: u64,
        blocked_ns: u64,
    ) -> StateTimes {
        let mut times = off_cpu(delay_ns, throttled_ns, halted_ns, blocked_ns);
        times.set(State::Run, run_ns);
        times
    }

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
            throttled_ns: None,
            halted_ns: 0,
            blocked_ns: [0; MEASURED],
            modes: ModeTimes::default(),
        }
    }

    #[test]
    fn all_states_are_zero_where_following_begins() {
        let account = Account::follow(reading(10_000, 3_000, 500, 1_000, 200));
        assert_eq!(account.states().sum(), 0, "what was before is of no state");
        let totals = Totals { run_ns: 3_500, run_delay_ns: 1_200 };
        assert_eq!(account.totals(), totals, "the kernel's own counts");
        assert!(!account.is_from_creation() && !account.is_all_in_last_step());
    }

    #[test]
    fn a_young_thread_is_followed_from_its_creation_on() {
        let first = Reading { halted_ns: 2_000, ..reading(10_000, 3_000, 500, 1_000, 0) };
        let (mut account, interval, faults) = Account::follow_from_creation(first, 7_000_000_000);
        assert_eq!(faults, Faults::default());
        assert_eq!(interval.states, times(3_500, 1_000, None, 2_000, 3_500));
        assert_eq!((account.states(), interval.wall_ns), (interval.states, 10_000));
        assert!(account.is_from_creation() && account.is_all_in_last_step());
        account.advance(reading(11_000, 4_000, 0, 1_000, 0));
        assert!(account.is_from_creation() && !account.is_all_in_last_step());
        assert_eq!(account.states().sum(), 11_000);
    }

    #[test]
    fn a_wait_that_goes_on_is_steal_now_and_is_not_counted_twice_when_it_ends() {
        let mut account = Account::follow(reading(1_000_000, 0, 0, 0, 0));
        let (starved, faults) = account.advance(reading(2_000_000, 0, 0, 0, 900_000));
        assert_eq!(starved.states, times(0, 900_000, None, 0, 100_000));
        assert_eq!(faults, Faults::default());
        let (after, faults) = account.advance(reading(3_000_000, 600_000, 0, 1_200_000, 0));
        assert_eq!(after.states, times(600_000, 300_000, None, 0, 100_000));
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
        let mut account = Account::follow(reading(0, 0, 0, 0, 0));
        let (interval, _) = account.advance(reading(1_000_000, 0, 1_000_000, 0, 0));
        assert_eq!(interval.states, times(1_000_000, 0, None, 0, 0));
    }

    #[test]
    fn a_remainder_below_zero_is_carried_over_and_counted_when_it_is_more_than_uncertainty() {
        let mut account = Account::follow(reading(0, 0, 0, 0, 0));
        let (_, faults) = account.advance(reading(1_000_000, 1_010_000, 0, 0, 0));
        assert!(!faults.negative_remainder);
        let (next, _) = account.advance(reading(2_000_000, 1_010_000, 0, 0, 0));
        assert_eq!(next.states.get(State::Blocked), Some(990_000), "the debt is paid back");
        assert_eq!(account.states().sum(), 2_000_000);
        let (_, faults) = account.advance(reading(3_000_000, 3_010_000, 0, 0, 0));
        assert!(faults.negative_remainder);
        let (_, faults) = account.advance(reading(4_000_000, 4_010_000, 0, 0, 0));
        assert!(!faults.negative_remainder, "it stands, and was counted");
        let (_, faults) = account.advance(reading(5_000_000, 5_010_001, 0, 0, 0));
        assert!(faults.negative_remainder, "it grows");
    }

    #[test]
    fn a_count_that_falls_is_held_and_counted() {
        let mut account = Account::follow(reading(0, 900_000, 0, 0, 0));
        let (interval, faults) = account.advance(reading(1_000_000, 100_000, 0, 0, 0));
        assert!(faults.regression);
        assert_eq!(interval.run_ns, 0);
    }

    #[test]
    fn totals_are_held_until_the_kernel_has_counted_as_much() {
        let mut account = Account::follow(reading(0, 1_000_000, 5_000_000, 400, 0));
        let mut step = |sched_ns, run_ns, running_ns, delay_ns| {
            account.advance(reading(sched_ns, run_ns, running_ns, delay_ns, 0));
            (account.held(), account.totals().run_ns)
        };
        let held = |run_ns, run_delay_ns| Totals { run_ns, run_delay_ns };
        assert_eq!(step(1_000_000, 1_000_000, 3_000_000, 400), (held(6_000_000, 0), 6_000_000));
        assert_eq!(step(2_000_000, 5_900_000, 0, 400), (held(6_000_000, 0), 6_000_000), "not as much yet");
        assert_eq!(step(3_000_000, 5_800_000, 0, 300), (held(6_000_000, 400), 6_000_000), "it falls again");
        assert_eq!(step(4_000_000, 6_000_000, 0, 401), (held(0, 0), 6_000_000));
        assert_eq!(step(5_000_000, 6_000_001, 0, 401), (held(0, 0), 6_000_001));
    }

    #[test]
    fn sleep_is_split_by_what_was_measured_in_a_halt() {
        let first = Reading {
            halted_ns: 2_000,
            blocked_ns: [1_000; MEASURED],
            ..reading(10_000, 3_000, 0, 1_000, 0)
        };
        let mut account = Account::follow(first);
        let (interval, faults) = account.advance(Reading {
            halted_ns: 302_000,
            blocked_ns: [1_000, 101_000, 1_000, 31_000, 1_000],
            ..reading(1_010_000, 503_000, 0, 1_000, 0)
        });
        assert_eq!(interval.states, times(500_000, 0, None, 300_000, 200_000), "blocked is the rest");
        let why = [Blocked::Fault, Blocked::Vmm, Blocked::Other].map(|reason| interval.blocked.get(reason));
        assert_eq!(why, [100_000, 30_000, 70_000]);
        assert_eq!(faults, Faults::default());
        assert_eq!(account.states().sum(), 1_000_000);
    }

    #[test]
    fn an_estimated_sleep_that_was_too_long_is_not_added_twice() {
        let mut account = Account::follow(reading(0, 0, 0, 0, 0));
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

    #[test]
    fn a_quota_s_part_of_the_run_delay_is_no_steal() {
        let throttled =
            |sched, delay, ns| Reading { throttled_ns: Some(ns), ..reading(sched, 0, 0, delay, 0) };
        let mut account = Account::follow(throttled(1_000_000, 300_000, 0));
        assert_eq!(account.states().get(State::Throttled), Some(0));
        let (interval, faults) = account.advance(throttled(2_000_000, 900_000, 500_000));
        assert_eq!(interval.states, times(0, 600_000, Some(500_000), 0, 400_000));
        assert_eq!(interval.states.get(State::Steal), Some(100_000));
        assert_eq!(faults, Faults::default());
        // Known a moment before the wait that it is part of: nothing is lost, and nothing falls below zero.
        let (early, _) = account.advance(throttled(3_000_000, 900_000, 600_000));
        assert_eq!(early.states.get(State::Throttled), Some(0));
        let (late, _) = account.advance(throttled(4_000_000, 1_000_000, 600_000));
        assert_eq!(late.states, times(0, 100_000, Some(100_000), 0, 900_000));
        assert_eq!(account.states().get(State::Throttled), Some(600_000));
        assert_eq!(account.states().sum(), 3_000_000);
    }
}
