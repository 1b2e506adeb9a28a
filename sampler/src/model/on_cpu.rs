//! What a vCPU's thread did with its CPU time.

use super::{
    state::{State, StateTimes},
    tolerance::TOLERANCE_NS,
};

/// Polls that were preempted come to more than the CPU time that they had: of what is beyond so much is
/// carried over, for a poll that began in the interval before, and no more. Five times the longest poll that
/// KVM does by itself.
const LONGEST_POLL_NS: u64 = 1_000_000;

/// What KVM's hooks have reported of a thread since it is followed, what goes on included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModeTimes {
    /// In the guest, ns.
    pub guest_ns: u64,
    /// In the kernel for it, polls included, ns.
    pub kernel_ns: u64,
    /// In the VMM, ns.
    pub vmm_ns: u64,
    /// In the guest or in the kernel, polls included, where not every exit is timed, ns.
    pub inside_ns: u64,
    /// Part of it that was the kernel's, by the exits that are timed, ns: an estimate, which may be ahead.
    pub stands_ns: u64,
    /// What the thread does is observed at the moment.
    pub observed: bool,
    /// The hooks report no entries into its guest: its time there is among the kernel's.
    pub unentered: bool,
    /// It could not be read: the times are those of an earlier reading.
    pub torn: bool,
    /// Times that it was no longer observed.
    pub gaps: u64,
    /// Halt polls as KVM counts them, when they end, ns; `None` where that is not known.
    pub poll_ns: Option<u64>,
}

/// How long an interval was by each of two clocks: by the scheduler's, which counts run time, and by
/// `CLOCK_MONOTONIC`, which times what the run time was for, and which NTP makes faster or slower by up to a
/// tenth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) sched_ns: u64,
    pub(super) monotonic_ns: u64,
}

/// `CLOCK_MONOTONIC` is slewed by no more than a tenth, by `adjtimex` (`MIN_TICK` and `MAX_TICK` are 900000
/// and 1100000 / `USER_HZ` in `include/linux/timex.h`, 2.6 to 7.2). Clocks that are further apart are so for
/// another reason: the machine was suspended, or the interval is shorter than readings are apart.
const MAX_SLEW: u64 = 8;
/// Part of an interval by which its two halves may be slewed apart: the ratio is that of the whole.
const UNEVEN: u64 = 10_000;

impl Clocks {
    /// A time by `CLOCK_MONOTONIC` as the scheduler's clock has it.
    fn scaled(self, ns: u64) -> u64 {
        let apart = self.sched_ns.abs_diff(self.monotonic_ns);
        let is_slewed = self.monotonic_ns > 0 && apart <= self.monotonic_ns / MAX_SLEW;
        if is_slewed { share(ns, self.sched_ns, self.monotonic_ns) } else { ns }
    }

    /// How far parts may be from their whole.
    const fn tolerance_ns(self) -> u64 {
        TOLERANCE_NS + self.sched_ns / UNEVEN
    }
}

/// CPU time by what it was for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parts {
    guest_ns: u64,
    kernel_ns: u64,
    vmm_ns: u64,
    poll_ns: u64,
    /// For any of them: it was not observed.
    unobserved_ns: u64,
    /// A part at least was observed.
    is_observed: bool,
    /// And of entries into the guest.
    is_entered: bool,
}

impl Parts {
    fn plus(&self, other: &Self) -> Self {
        Self {
            guest_ns: self.guest_ns + other.guest_ns,
            kernel_ns: self.kernel_ns + other.kernel_ns,
            vmm_ns: self.vmm_ns + other.vmm_ns,
            poll_ns: self.poll_ns + other.poll_ns,
            unobserved_ns: self.unobserved_ns + other.unobserved_ns,
            is_observed: self.is_observed || other.is_observed,
            is_entered: self.is_entered || other.is_entered,
        }
    }

    fn write(&self, times: &mut StateTimes) {
        if self.is_observed {
            times.set(State::Vmm, self.vmm_ns);
            times.set(State::Poll, self.poll_ns);
        }
        let is_whole = self.is_observed && self.is_entered;
        if is_whole {
            times.set(State::Guest, self.guest_ns);
            times.set(State::Kernel, self.kernel_ns);
        }
        if !is_whole || self.unobserved_ns > 0 {
            times.set(State::Run, self.unobserved_ns);
        }
    }

    /// Whether the guest or the kernel had the thread is not known.
    const fn without_entries(self) -> Self {
        let unobserved_ns = self.unobserved_ns + self.guest_ns + self.kernel_ns;
        Self { guest_ns: 0, kernel_ns: 0, unobserved_ns, is_entered: false, ..self }
    }
}

/// The account of one thread's CPU time. Its parts come to the run time of each interval to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnCpu {
    last: ModeTimes,
    total: Parts,
    /// Measured beyond the run time that was known by then: the next interval has it.
    early_guest_ns: u64,
    early_vmm_ns: u64,
    early_poll_ns: u64,
    /// Estimated beyond the time that there was: the next interval has it.
    early_stands_ns: u64,
    step: Parts,
}

impl OnCpu {
    /// Opens the account: nothing was before this. What is observed from the first reading on is broken down
    /// from there on, so that no series begins as CPU time that is not, and ends with the next reading.
    pub(super) fn follow(first: &ModeTimes) -> Self {
        let step = Parts::default();
        let is_observed = first.observed && !first.torn;
        let total = Parts { is_observed, is_entered: !first.unentered, ..step };
        Self {
            last: *first,
            total,
            early_guest_ns: 0,
            early_vmm_ns: 0,
            early_poll_ns: 0,
            early_stands_ns: 0,
            step,
        }
    }

    /// Shares out the run time of an interval. Returns whether more was measured than it has, by more than
    /// readings are apart.
    pub(super) fn advance(&mut self, now: &ModeTimes, run_ns: u64, clocks: Clocks) -> bool {
        if now.torn || self.last.torn {
            return self.skip(now, run_ns);
        }
        let tolerance_ns = clocks.tolerance_ns();
        let last = self.last;
        let added = |now: u64, before: u64| clocks.scaled(now.saturating_sub(before));
        let guest = added(now.guest_ns, last.guest_ns);
        let vmm = added(now.vmm_ns, last.vmm_ns);
        let kernel = added(now.kernel_ns, last.kernel_ns);
        let inside = added(now.inside_ns, last.inside_ns);
        let whole = last.observed && now.observed && last.gaps == now.gaps;
        let kernels = added(now.stands_ns, last.stands_ns) + self.early_stands_ns;
        // What a timed exit stands for may come in the next interval; no more of it than this one has.
        self.early_stands_ns = if whole { kernels.saturating_sub(inside).min(inside) } else { 0 };
        let kernels = kernels.min(inside);
        let (guest, kernel) = (guest + (inside - kernels), kernel + kernels);
        let observed_ns = guest + vmm + kernel;
        let is_too_much = observed_ns > run_ns + tolerance_ns;
        // Run time is without interrupts where the kernel accounts them, and without what the
        // host itself, if it is a guest, is denied. Then each part is smaller in the same ratio.
        let fit = |ns: u64| if is_too_much { share(ns, run_ns, observed_ns) } else { ns };
        let [guest, vmm, kernel] = [guest, vmm, kernel].map(fit);
        let mut left = run_ns;
        let mut take = |measured: u64| {
            let part = measured.min(left);
            left -= part;
            (part, measured - part)
        };
        let poll = now.poll_ns.zip(last.poll_ns).map_or(0, |(now, last)| added(now, last));
        let mut step = Parts::default();
        let early_poll;
        if whole {
            // An estimate comes last. The kernel's part is what is left: its own work at both ends of a stint
            // is in the run time too.
            if inside == 0 {
                (step.guest_ns, self.early_guest_ns) = take(guest + self.early_guest_ns);
            }
            (step.vmm_ns, self.early_vmm_ns) = take(vmm + self.early_vmm_ns);
            (step.poll_ns, early_poll) = take(poll + self.early_poll_ns);
            if inside > 0 {
                (step.guest_ns, self.early_guest_ns) = take(guest + self.early_guest_ns);
            }
            step.kernel_ns = left;
        } else {
            (step.guest_ns, self.early_guest_ns) = take(guest + self.early_guest_ns);
            (step.vmm_ns, self.early_vmm_ns) = take(vmm + self.early_vmm_ns);
            // Polls are those of the whole interval: which of them were in the part that was observed is
            // not known.
            (step.kernel_ns, _) = take(kernel);
            step.unobserved_ns = left;
            early_poll = 0;
        }
        // A moment measured before the run time had it; no more than readings are apart, and not across a
        // gap.
        let carried = if whole { tolerance_ns } else { 0 };
        self.early_guest_ns = self.early_guest_ns.min(carried);
        self.early_vmm_ns = self.early_vmm_ns.min(carried);
        step.is_observed = now.observed || step.unobserved_ns < run_ns;
        step.is_entered = true;
        if now.unentered {
            // It never was in its guest as far as is known: what counted as the kernel's until that showed
            // was both as well.
            step = step.without_entries();
            self.total = self.total.without_entries();
        }
        self.early_poll_ns = early_poll.min(LONGEST_POLL_NS);
        self.step = step;
        self.total = self.total.plus(&step);
        // Held where they were found lower: the same time is not to be added twice. But what went on when
        // observation ended was never added for good.
        let hold = |now: u64, last: u64| if whole { now.max(last) } else { now };
        self.last = ModeTimes {
            guest_ns: hold(now.guest_ns, last.guest_ns),
            kernel_ns: hold(now.kernel_ns, last.kernel_ns),
            vmm_ns: hold(now.vmm_ns, last.vmm_ns),
            inside_ns: hold(now.inside_ns, last.inside_ns),
            stands_ns: hold(now.stands_ns, last.stands_ns),
            poll_ns: now.poll_ns.or(last.poll_ns),
            ..*now
        };
        is_too_much || early_poll > LONGEST_POLL_NS
    }

    /// Breaks down nothing of an interval at one end of which nothing could be read: what was measured from
    /// there on is of both intervals beside it.
    fn skip(&mut self, now: &ModeTimes, run_ns: u64) -> bool {
        self.step = Parts { unobserved_ns: run_ns, ..Parts::default() };
        self.total = self.total.plus(&self.step);
        (self.early_guest_ns, self.early_vmm_ns, self.early_poll_ns, self.early_stands_ns) = (0, 0, 0, 0);
        self.last = if now.torn { ModeTimes { torn: true, ..self.last } } else { *now };
        false
    }

    /// Writes what the last interval was for.
    pub(super) fn write_step(&self, times: &mut StateTimes) {
        self.step.write(times);
    }

    /// Writes what all time since the thread's creation was for.
    pub(super) fn write_total(&self, times: &mut StateTimes) {
        self.total.write(times);
    }
}

fn share(ns: u64, of: u64, all: u64) -> u64 {
    let part = u128::from(ns) * u128::from(of) / u128::from(all.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn measured(guest_ns: u64, kernel_ns: u64, vmm_ns: u64, poll_ns: u64) -> ModeTimes {
        ModeTimes {
            guest_ns,
            kernel_ns,
            vmm_ns,
            inside_ns: 0,
            stands_ns: 0,
            observed: true,
            unentered: false,
            torn: false,
            gaps: 0,
            poll_ns: Some(poll_ns),
        }
    }

    /// By clocks that are the same.
    fn advance(account: &mut OnCpu, now: &ModeTimes, run_ns: u64) -> bool {
        account.advance(now, run_ns, Clocks { sched_ns: run_ns, monotonic_ns: run_ns })
    }

    #[test]
    fn a_slewed_clock_changes_no_share() {
        let second = 1_000_000_000;
        for slewed in [second * 9 / 10, second - 5_000, second, second + 5_000, second * 11 / 10] {
            let clocks = Clocks { sched_ns: second, monotonic_ns: slewed };
            let mut account = OnCpu::follow(&measured(0, 0, 0, 0));
            let [guest, vmm] = [slewed / 10 * 3, slewed / 10 * 6];
            assert!(!account.advance(&measured(guest, slewed - guest - vmm, vmm, 0), second, clocks));
            let [guest, kernel, vmm, ..] = step(&account).map(|ns| ns.unwrap_or(0));
            for (ns, expected) in [(guest, 300_000_000), (kernel, 100_000_000), (vmm, 600_000_000_u64)] {
                assert!(ns.abs_diff(expected) < 100, "{ns} of a second of {slewed} ns");
            }
        }
        // Not slewed, but something else.
        assert_eq!(Clocks { sched_ns: second, monotonic_ns: 7 }.scaled(5), 5);
        assert_eq!(Clocks { sched_ns: 0, monotonic_ns: 0 }.scaled(5), 5);
    }

    fn step(account: &OnCpu) -> [Option<u64>; 5] {
        let mut times = StateTimes::default();
        account.write_step(&mut times);
        [State::Guest, State::Kernel, State::Vmm, State::Poll, State::Run].map(|state| times.get(state))
    }

    #[test]
    fn the_kernel_s_part_is_what_is_left() {
        let mut account = OnCpu::follow(&measured(0, 0, 0, 70));
        assert!(!advance(&mut account, &measured(600, 250, 100, 90), 1_000));
        assert_eq!(step(&account), [Some(600), Some(280), Some(100), Some(20), None]);
    }

    #[test]
    fn where_following_begins_the_states_are_there_that_will_be() {
        let total = |first: &ModeTimes| {
            let mut times = StateTimes::default();
            OnCpu::follow(first).write_total(&mut times);
            [State::Guest, State::Kernel, State::Vmm, State::Poll, State::Run].map(|state| times.get(state))
        };
        assert_eq!(total(&measured(600, 250, 100, 90)), [Some(0), Some(0), Some(0), Some(0), None]);
        assert_eq!(total(&ModeTimes::default()), [None, None, None, None, Some(0)]);
    }

    #[test]
    fn without_hooks_all_is_run_time() {
        let mut account = OnCpu::follow(&ModeTimes::default());
        advance(&mut account, &ModeTimes { poll_ns: Some(3), ..ModeTimes::default() }, 500);
        assert_eq!(step(&account), [None, None, None, None, Some(500)]);
    }

    #[test]
    fn without_entries_the_guest_s_time_and_the_kernel_s_are_one() {
        let unentered = |kernel_ns, vmm_ns, poll_ns| ModeTimes {
            unentered: true,
            ..measured(0, kernel_ns, vmm_ns, poll_ns)
        };
        let mut account = OnCpu::follow(&unentered(20, 0, 0));
        advance(&mut account, &unentered(820, 100, 30), 1_000);
        assert_eq!(step(&account), [None, None, Some(100), Some(30), Some(870)]);
        let mut total = StateTimes::default();
        account.write_total(&mut total);
        assert_eq!((total.get(State::Guest), total.get(State::Run)), (None, Some(870)));
        // Until it showed that entries are missing both were taken for the kernel's.
        let mut early = OnCpu::follow(&measured(0, 5, 0, 0));
        advance(&mut early, &measured(0, 65, 40, 0), 100);
        advance(&mut early, &unentered(900, 100, 0), 1_000);
        let mut total = StateTimes::default();
        early.write_total(&mut total);
        let of = |state| total.get(state);
        assert_eq!([of(State::Guest), of(State::Kernel), of(State::Run)], [None, None, Some(60 + 940)]);
        assert_eq!((of(State::Vmm), total.sum()), (Some(100), 1_100));
        // From the first entry on both are known.
        advance(&mut account, &measured(700, 1_020, 200, 30), 1_000);
        assert_eq!(step(&account), [Some(700), Some(200), Some(100), Some(0), None]);
    }

    #[test]
    fn what_is_not_timed_is_the_kernel_s_as_far_as_timed_exits_stand_for_it() {
        let inside = |[guest_ns, kernel_ns, vmm_ns]: [u64; 3], inside_ns, stands_ns, poll_ns| ModeTimes {
            inside_ns,
            stands_ns,
            ..measured(guest_ns, kernel_ns, vmm_ns, poll_ns)
        };
        let mut account = OnCpu::follow(&measured(0, 0, 0, 0));
        assert!(!advance(&mut account, &inside([60, 20, 100], 800, 300, 0), 1_000));
        assert_eq!(step(&account), [Some(560), Some(340), Some(100), Some(0), None]);
        // Without an exit that was timed it was the guest's, most likely.
        assert!(!advance(&mut account, &inside([60, 20, 150], 900, 300, 0), 160));
        assert_eq!(step(&account), [Some(100), Some(10), Some(50), Some(0), None]);
        // One stands for more than there was: the next interval has it.
        assert!(!advance(&mut account, &inside([60, 40, 150], 1_000, 490, 0), 125));
        assert_eq!(step(&account), [Some(0), Some(125), Some(0), Some(0), None]);
        assert!(!advance(&mut account, &inside([60, 40, 150], 1_200, 490, 0), 200));
        assert_eq!(step(&account), [Some(110), Some(90), Some(0), Some(0), None]);
        // Polls are known, and come before an estimate.
        assert!(!advance(&mut account, &inside([60, 90, 150], 1_300, 490, 60), 150));
        assert_eq!(step(&account), [Some(90), Some(0), Some(0), Some(60), None]);
    }

    #[test]
    fn around_a_gap_only_what_was_observed_is_broken_down() {
        let mut account = OnCpu::follow(&measured(0, 0, 0, 0));
        let after = ModeTimes { gaps: 1, observed: false, ..measured(300, 100, 50, 30) };
        advance(&mut account, &after, 1_000);
        assert_eq!(step(&account), [Some(300), Some(100), Some(50), Some(0), Some(550)]);
        advance(&mut account, &after, 1_000);
        assert_eq!(step(&account), [None, None, None, None, Some(1_000)]);
        advance(&mut account, &measured(400, 100, 50, 30), 1_000);
        assert_eq!(
            step(&account),
            [Some(100), Some(0), Some(0), Some(0), Some(900)],
            "observed again somewhere in it"
        );
    }

    #[test]
    fn what_is_measured_early_is_shown_later_and_polls_that_were_preempted_are_reported() {
        let mut account = OnCpu::follow(&measured(0, 0, 0, 0));
        assert!(!advance(&mut account, &measured(1_010, 0, 0, 0), 1_000));
        assert!(!advance(&mut account, &measured(1_510, 0, 0, 0), 1_000));
        assert_eq!(step(&account), [Some(510), Some(490), Some(0), Some(0), None]);
        assert!(advance(&mut account, &measured(1_510, 0, 0, 5_000_000), 1_000_000));
        assert!(!advance(&mut account, &measured(1_510, 0, 0, 5_000_000), 1_000_000));
        assert_eq!(step(&account), [Some(0), Some(0), Some(0), Some(1_000_000), None]);
        advance(&mut account, &measured(1_510, 0, 0, 5_000_000), 1_000_000);
        assert_eq!(step(&account), [Some(0), Some(1_000_000), Some(0), Some(0), None], "no more is owed");
    }

    #[test]
    fn what_could_not_be_read_is_not_broken_down() {
        let mut account = OnCpu::follow(&measured(0, 0, 0, 0));
        advance(&mut account, &measured(500, 0, 0, 0), 1_000);
        advance(&mut account, &ModeTimes { torn: true, observed: false, ..measured(500, 0, 0, 0) }, 1_000);
        assert_eq!(step(&account), [None, None, None, None, Some(1_000)]);
        assert!(!advance(&mut account, &measured(2_300, 0, 0, 0), 1_000));
        assert_eq!(step(&account), [None, None, None, None, Some(1_000)]);
        advance(&mut account, &measured(3_000, 0, 0, 0), 1_000);
        assert_eq!(step(&account), [Some(700), Some(300), Some(0), Some(0), None]);
    }

    #[test]
    fn more_than_the_run_time_is_made_to_fit_and_reported() {
        let mut account = OnCpu::follow(&measured(0, 0, 0, 0));
        for second in 1..4 {
            let now = measured(second * 900_000_000, second * 50_000_000, second * 50_000_000, 0);
            assert!(
                advance(&mut account, &now, 800_000_000),
                "a fifth of the time is denied to the host itself"
            );
            assert_eq!(
                step(&account),
                [Some(720_000_000), Some(40_000_000), Some(40_000_000), Some(0), None]
            );
        }
        assert!(!advance(&mut account, &measured(2_700_000_000, 450_000_000, 150_000_000, 0), 400_000_000));
        assert_eq!(step(&account), [Some(0), Some(400_000_000), Some(0), Some(0), None], "nothing is owed");
    }

    #[test]
    fn what_went_on_when_observation_ended_does_not_hide_what_comes_after() {
        let mut account = OnCpu::follow(&measured(0, 0, 0, 0));
        advance(&mut account, &measured(5_000_000, 0, 0, 0), 5_000_000);
        // It was in the guest then, and that was never written down.
        advance(&mut account, &ModeTimes { observed: false, gaps: 1, ..measured(0, 0, 0, 0) }, 1_000_000);
        advance(&mut account, &ModeTimes { gaps: 1, ..measured(0, 0, 0, 0) }, 1_000_000);
        advance(&mut account, &ModeTimes { gaps: 1, ..measured(900_000, 0, 0, 0) }, 1_000_000);
        assert_eq!(step(&account), [Some(900_000), Some(100_000), Some(0), Some(0), None]);
    }

    proptest! {
        #[test]
        fn parts_come_to_the_run_time(
            steps in proptest::collection::vec(
                (0..2_000_u64, 0..2_000_u64, 0..900_u64, 0..300_u64, 0..3_000_u64, 0..6_u8),
                1..40,
            )
        ) {
            let mut now = ModeTimes { poll_ns: Some(0), ..ModeTimes::default() };
            let mut account = OnCpu::follow(&now);
            let mut all = 0;
            for (guest, kernel, vmm, poll, run, turn) in steps {
                now.observed = turn > 0;
                now.torn = turn == 2;
                now.unentered = turn == 3;
                now.gaps += u64::from(turn == 1);
                if turn > 0 {
                    now.guest_ns += guest;
                    now.kernel_ns += kernel;
                    now.vmm_ns += vmm;
                }
                if turn == 5 {
                    now.inside_ns += 9 * guest + kernel;
                    now.stands_ns += kernel / 2 * u64::from(kernel % 3 == 0) * 9;
                }
                now.poll_ns = (turn < 4).then_some(now.poll_ns.unwrap_or(0) + poll);
                advance(&mut account, &now, run);
                let mut times = StateTimes::default();
                account.write_step(&mut times);
                prop_assert_eq!(times.sum(), run);
                all += run;
                let mut times = StateTimes::default();
                account.write_total(&mut times);
                prop_assert_eq!(times.sum(), all);
            }
        }
    }
}
