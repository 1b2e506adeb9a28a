//! That an account goes on over a restart as if there had been none.

use std::array;

use proptest::{collection, prelude::*};

use super::{bytes, is_as_it_was, value};
use crate::model::{Account, COUNTERS, MEASURED, ModeTimes, Reading};

/// What a reading adds to the one before, or is by itself.
#[derive(Clone, Debug)]
struct Step {
    /// By how much each number grows.
    grows: [u32; 25],
    /// All counts begin anew with it.
    falls: bool,
    is_throttled: bool,
    is_polling: bool,
    observed: bool,
    unentered: bool,
    torn: bool,
    /// It ends a process: what is kept goes on.
    restarts: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let grows = prop::array::uniform25(prop_oneof![Just(0), 0..3_000_u32, 0..5_000_000_u32]);
    let seldom = || prop::bool::weighted(0.1);
    (grows, [seldom(), seldom(), seldom(), seldom(), seldom()], any::<[bool; 2]>()).prop_map(
        |(grows, [falls, unentered, torn, hidden, unpolled], [is_throttled, restarts])| Step {
            grows,
            falls,
            is_throttled,
            is_polling: !unpolled,
            observed: !hidden,
            unentered,
            torn,
            restarts,
        },
    )
}

/// The reading that follows another.
fn after(last: &Reading, step: &Step) -> Reading {
    let none = Reading { monotonic_ns: last.monotonic_ns, sched_ns: last.sched_ns, ..Reading::default() };
    let last = if step.falls { &none } else { last };
    let mut grows = step.grows.iter().map(|by| u64::from(*by));
    let mut grown = |before: u64| before + grows.next().unwrap_or(0);
    let modes = ModeTimes {
        guest_ns: grown(last.modes.guest_ns),
        kernel_ns: grown(last.modes.kernel_ns),
        vmm_ns: grown(last.modes.vmm_ns),
        inside_ns: grown(last.modes.inside_ns),
        stands_ns: grown(last.modes.stands_ns),
        observed: step.observed,
        unentered: step.unentered,
        torn: step.torn,
        gaps: last.modes.gaps + u64::from(!step.observed),
        poll_ns: step.is_polling.then(|| grown(last.modes.poll_ns.unwrap_or(0))),
    };
    Reading {
        monotonic_ns: grown(last.monotonic_ns),
        sched_ns: grown(last.sched_ns),
        counters: last.counters.map(&mut grown),
        running_ns: grown(0),
        waiting_ns: grown(0),
        throttled_ns: step.is_throttled.then(|| grown(last.throttled_ns.unwrap_or(0))),
        halted_ns: grown(last.halted_ns),
        blocked_ns: array::from_fn::<_, MEASURED, _>(|n| grown(last.blocked_ns[n])),
        modes,
    }
}

/// All that is shown of an account.
fn shown(account: &Account) -> impl PartialEq + std::fmt::Debug + use<> {
    let flags = (account.is_from_creation(), account.is_all_in_last_step());
    (account.states(), *account.blocked(), account.totals(), account.held(), *account.last(), flags)
}

/// The account in the next process.
fn restarted(account: &Account) -> Account {
    value(&bytes(account)).expect("what was written is read")
}

fn follow(first: Reading, is_young: bool) -> Account {
    if is_young {
        Account::follow_from_creation(first, first.monotonic_ns.saturating_sub(2_000_000)).0
    } else {
        Account::follow(first)
    }
}

proptest! {
    #[test]
    fn an_account_goes_on_over_restarts_as_one_without_them(
        first in step(),
        is_young in any::<bool>(),
        steps in collection::vec(step(), 1..40),
    ) {
        let mut reading = after(&Reading::default(), &first);
        let mut expected = follow(reading, is_young);
        let mut account = expected;
        for step in &steps {
            if step.restarts {
                account = restarted(&account);
                prop_assert_eq!(shown(&account), shown(&expected));
            }
            reading = after(&reading, step);
            prop_assert_eq!(account.advance(reading), expected.advance(reading));
            prop_assert_eq!(&account, &expected);
        }
    }

    #[test]
    fn readings_and_their_parts_are_as_they_were(step in step()) {
        let reading = after(&Reading::default(), &step);
        is_as_it_was(&reading);
        is_as_it_was(&reading.modes);
    }
}

#[test]
fn a_step_has_a_number_for_all_that_grows() {
    let step = Step {
        grows: [1; 25],
        falls: false,
        is_throttled: true,
        is_polling: true,
        observed: true,
        unentered: false,
        torn: false,
        restarts: false,
    };
    let reading = after(&Reading::default(), &step);
    assert_eq!(reading.counters, [1; COUNTERS.len()]);
    assert_eq!((reading.halted_ns, reading.blocked_ns), (1, [1; MEASURED]));
}
