//! That the parts of CPU time come to the whole.

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
    let unentered =
        |kernel_ns, vmm_ns, poll_ns| ModeTimes { unentered: true, ..measured(0, kernel_ns, vmm_ns, poll_ns) };
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
        assert!(advance(&mut account, &now, 800_000_000), "a fifth of the time is denied to the host itself");
        assert_eq!(step(&account), [Some(720_000_000), Some(40_000_000), Some(40_000_000), Some(0), None]);
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
