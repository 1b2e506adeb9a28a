//! A vCPU that another thread runs from some moment on: what is counted of it goes on where it was.

use std::array;

use crate::{
    kept::kept,
    model::{BLOCKED, COUNTERS, Counter, Counters, Distributions, MEASURED, ModeTimes, Reading},
};

/// The times of a thread that runs its vCPU no longer, as of its last switch.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastTimes {
    pub(super) counters: Counters,
    pub(super) throttled_ns: u64,
    pub(super) halted_ns: u64,
    pub(super) blocked_ns: [u64; MEASURED],
    /// As [`modes_of`] has them; `None` where they could not be read.
    pub(super) modes_ns: Option<ModesNs>,
}

/// By how much what is counted of a vCPU is ahead of what is counted of the thread that runs it. Modulo 2^64,
/// for it is behind where that thread did something else before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    counters: Counters,
    throttled_ns: u64,
    halted_ns: u64,
    blocked_ns: [u64; MEASURED],
    modes_ns: ModesNs,
    gaps: u64,
    distributions: Distributions,
}

kept! {
    Carry {
        counters in COUNTERS,
        throttled_ns,
        halted_ns,
        blocked_ns in BLOCKED,
        modes_ns,
        gaps,
        distributions,
    }
}

/// In the guest, in the kernel for it, in the VMM, in the first two together, and what part of that was the
/// kernel's.
pub(super) type ModesNs = [u64; 5];

const fn modes_of(times: &ModeTimes) -> ModesNs {
    [times.guest_ns, times.kernel_ns, times.vmm_ns, times.inside_ns, times.stands_ns]
}

fn with_modes(times: ModeTimes, modes_ns: ModesNs) -> ModeTimes {
    let [guest_ns, kernel_ns, vmm_ns, inside_ns, stands_ns] = modes_ns;
    ModeTimes { guest_ns, kernel_ns, vmm_ns, inside_ns, stands_ns, ..times }
}

fn each<const N: usize>(one: &[u64; N], other: &[u64; N], of: impl Fn(u64, u64) -> u64) -> [u64; N] {
    array::from_fn(|n| of(one[n], other[n]))
}

impl Carry {
    /// Of a vCPU with these counts, and a thread of which what the kernel had counted up to `began` is not
    /// the vCPU's. Its slot is new: what the programs count themselves begins at zero.
    pub(super) fn new(vcpu: &Reading, distributions: &Distributions, began: &Counters) -> Self {
        Self {
            counters: each(&vcpu.counters, began, u64::wrapping_sub),
            throttled_ns: vcpu.throttled_ns.unwrap_or(0),
            halted_ns: vcpu.halted_ns,
            blocked_ns: vcpu.blocked_ns,
            modes_ns: modes_of(&vcpu.modes),
            // What the new thread does is observed a moment later.
            gaps: vcpu.modes.gaps.wrapping_add(1),
            distributions: *distributions,
        }
    }

    /// A thread's reading as one of its vCPU.
    pub(super) fn reading(&self, of_thread: Reading) -> Reading {
        let modes_ns = each(&modes_of(&of_thread.modes), &self.modes_ns, u64::wrapping_add);
        let modes = with_modes(of_thread.modes, modes_ns);
        Reading {
            counters: self.counters(of_thread.counters),
            throttled_ns: of_thread.throttled_ns.map(|ns| ns.wrapping_add(self.throttled_ns)),
            halted_ns: of_thread.halted_ns.wrapping_add(self.halted_ns),
            blocked_ns: each(&of_thread.blocked_ns, &self.blocked_ns, u64::wrapping_add),
            modes: ModeTimes { gaps: modes.gaps.wrapping_add(self.gaps), ..modes },
            ..of_thread
        }
    }

    /// A thread's counts as those of its vCPU.
    pub(super) fn counters(&self, of_thread: Counters) -> Counters {
        each(&of_thread, &self.counters, u64::wrapping_add)
    }

    /// Takes something off the vCPU's counts.
    pub(super) fn cut(&mut self, counters: &Counters) {
        self.counters = each(&self.counters, counters, u64::wrapping_sub);
    }

    /// A vCPU's counts as those of the thread.
    pub(super) fn of_thread(&self, counters: &Counters) -> Counters {
        each(counters, &self.counters, u64::wrapping_sub)
    }

    /// What the kernel counts of the thread is ahead by so much, modulo 2^64.
    pub(super) fn others(&self) -> Counters {
        self.counters.map(u64::wrapping_neg)
    }

    /// A thread's distributions as those of its vCPU.
    pub(super) fn distributions(&self, of_thread: &Distributions) -> Distributions {
        of_thread.plus(&self.distributions)
    }
}

/// By how much a vCPU's counts are beyond what the wall time has room for, by [`Counter`]: of two threads
/// that run it in turn, one may still wait or run for itself while the other one runs the vCPU.
pub(super) fn beyond(last: &Reading, now: &Reading) -> Counters {
    let of = |reading: &Reading, counter| {
        let goes_on = if counter == Counter::Run { reading.running_ns } else { reading.waiting_ns };
        reading.counters[counter as usize].saturating_add(goes_on)
    };
    let added = |counter| of(now, counter).saturating_sub(of(last, counter));
    // No count falls.
    let counted = |counter: Counter| {
        now.counters[counter as usize].saturating_sub(last.counters[counter as usize]).min(added(counter))
    };
    let room_ns = now.sched_ns.saturating_sub(last.sched_ns);
    let mut left_ns = (added(Counter::Run) + added(Counter::RunDelay)).saturating_sub(room_ns);
    let mut beyond = Counters::default();
    // Waits give way first: they are more often those of the thread that is done.
    for counter in [Counter::RunDelay, Counter::Run] {
        beyond[counter as usize] = left_ns.min(counted(counter));
        left_ns -= beyond[counter as usize];
    }
    beyond
}

/// Where a vCPU's counts stand whose thread runs it no longer: at what the programs have of the thread, and
/// not below the last reading, which has what went on.
pub(super) fn closed(last: &Reading, carry: &Carry, left: Option<&LastTimes>) -> Reading {
    let mut known = *last;
    known.modes = ModeTimes { gaps: last.modes.gaps.max(carry.gaps), torn: false, ..last.modes };
    known.counters[Counter::Run as usize] += last.running_ns;
    known.counters[Counter::RunDelay as usize] += last.waiting_ns;
    (known.running_ns, known.waiting_ns) = (0, 0);
    let Some(left) = left else { return known };
    let modes = match left.modes_ns {
        Some(modes_ns) => with_modes(last.modes, modes_ns),
        None => with_modes(last.modes, each(&modes_of(&last.modes), &carry.modes_ns, u64::wrapping_sub)),
    };
    let of_thread = Reading {
        counters: left.counters,
        throttled_ns: last.throttled_ns.map(|_| left.throttled_ns),
        halted_ns: left.halted_ns,
        blocked_ns: left.blocked_ns,
        modes: ModeTimes { gaps: last.modes.gaps.max(carry.gaps).wrapping_sub(carry.gaps), ..modes },
        ..known
    };
    let now = carry.reading(of_thread);
    Reading {
        counters: each(&now.counters, &known.counters, u64::max),
        throttled_ns: now.throttled_ns.max(known.throttled_ns),
        halted_ns: now.halted_ns.max(known.halted_ns),
        blocked_ns: each(&now.blocked_ns, &known.blocked_ns, u64::max),
        modes: with_modes(now.modes, each(&modes_of(&now.modes), &modes_of(&known.modes), u64::max)),
        ..known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Counters = [0; crate::model::COUNTERS.len()];

    fn counters(run_ns: u64, delay_ns: u64) -> Counters {
        let mut counters = Counters::default();
        counters[Counter::Run as usize] = run_ns;
        counters[Counter::RunDelay as usize] = delay_ns;
        counters
    }

    fn reading(run_ns: u64, delay_ns: u64, asleep_ns: [u64; 2], guest_ns: u64) -> Reading {
        Reading {
            counters: counters(run_ns, delay_ns),
            throttled_ns: Some(delay_ns / 2),
            halted_ns: asleep_ns[0],
            blocked_ns: [asleep_ns[1], 0, 0, 0, 0],
            modes: ModeTimes { guest_ns, observed: true, ..ModeTimes::default() },
            ..Reading::default()
        }
    }

    fn times(run_ns: u64, delay_ns: u64, asleep_ns: [u64; 2], guest_ns: u64) -> LastTimes {
        LastTimes {
            counters: counters(run_ns, delay_ns),
            throttled_ns: delay_ns / 2,
            halted_ns: asleep_ns[0],
            blocked_ns: [asleep_ns[1], 0, 0, 0, 0],
            modes_ns: Some([guest_ns, 0, 0, 0, 0]),
        }
    }

    #[test]
    fn a_vcpu_goes_on_where_it_was_whichever_thread_runs_it() {
        let first = Reading { running_ns: 5, waiting_ns: 0, ..reading(100, 40, [7, 8], 50) };
        let none = Carry::default();
        let stands = closed(&first, &none, Some(&times(130, 44, [9, 8], 60)));
        let with_gap =
            |reading: Reading, gaps| Reading { modes: ModeTimes { gaps, ..reading.modes }, ..reading };
        assert_eq!(stands, reading(130, 44, [9, 8], 60));
        let began = counters(9_000, 2);
        let carry = Carry::new(&stands, &Distributions::default(), &began);
        assert_eq!(carry.reading(reading(9_000, 2, [0, 0], 0)).counters, stands.counters);
        let next = Reading { throttled_ns: Some(1), ..reading(9_010, 4, [1, 0], 3) };
        let next = carry.reading(next);
        let expected = Reading { throttled_ns: Some(23), ..reading(140, 46, [10, 8], 63) };
        assert_eq!(next, with_gap(expected, 1), "not all of it was observed");
        let again = closed(&next, &carry, Some(&times(9_030, 4, [1, 0], 20)));
        assert_eq!(again.counters, counters(160, 46));
        assert_eq!(carry.of_thread(&again.counters), counters(9_030, 4));
        let others = carry.others();
        assert_eq!(each(&again.counters, &others, u64::wrapping_add), counters(9_030, 4));
    }

    #[test]
    fn what_no_hook_saw_of_a_thread_that_was_never_read_stays_a_gap() {
        let last = reading(100, 10, [0, 0], 50);
        let carry = Carry::new(&last, &Distributions::default(), &counters(0, 0));
        let stands = closed(&last, &carry, Some(&times(7, 0, [0, 0], 3)));
        assert_eq!((last.modes.gaps, stands.modes.gaps), (0, 1));
        let torn = Reading { modes: ModeTimes { torn: true, ..last.modes }, ..last };
        assert!(!closed(&torn, &carry, None).modes.torn, "nothing is written about it any more");
    }

    #[test]
    fn two_threads_have_no_more_than_the_wall_time_together() {
        let at = |sched_ns, reading: Reading| Reading { sched_ns, ..reading };
        let last = Reading { running_ns: 5, ..at(1_000, reading(100, 10, [0, 0], 0)) };
        let now = |sched_ns| at(sched_ns, reading(405, 60, [0, 0], 0));
        assert_eq!(beyond(&last, &now(1_350)), ZERO);
        assert_eq!(beyond(&last, &now(1_320)), counters(0, 30));
        assert_eq!(beyond(&last, &now(1_290)), counters(10, 50), "it did something else");
        let waits = Reading { waiting_ns: 50, ..at(1_290, reading(405, 10, [0, 0], 0)) };
        assert_eq!(beyond(&last, &waits), counters(60, 0), "no count falls below what it was");
        let mut carry = Carry::default();
        carry.cut(&counters(10, 50));
        assert_eq!(carry.reading(now(1_290)).counters, counters(395, 10));
    }

    #[test]
    fn what_went_on_at_the_last_reading_is_not_taken_back() {
        let last = Reading { running_ns: 50, waiting_ns: 3, ..reading(100, 40, [20, 0], 50) };
        for left in [
            None,
            Some(times(120, 40, [15, 2], 40)),
            Some(LastTimes { modes_ns: None, ..times(0, 0, [0, 0], 0) }),
        ] {
            let stands = closed(&last, &Carry::default(), left.as_ref());
            assert_eq!(stands.counters, counters(150, 43));
            assert_eq!((stands.running_ns, stands.waiting_ns), (0, 0));
            assert_eq!((stands.halted_ns, stands.modes.guest_ns), (20, 50));
        }
    }
}
