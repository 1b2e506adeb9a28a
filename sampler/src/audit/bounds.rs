//! Between which bounds what a snapshot says of a vCPU must lie, by what the kernel said of its thread before
//! the snapshot was begun and after it was taken. Pure.
//!
//! The kernel's counts never fall, and the snapshot has copies of them: each must lie between both readings,
//! to the nanosecond. A thread that did nothing meanwhile leaves one value.
//!
//! What goes on, and is not in the kernel's counts yet, is an estimate of the sampler's. It is bounded by
//! the moments: where the kernel has credited something since the first reading, it is not longer than the
//! time between both. And a wait is bounded by the second reading, where the kernel has credited it by then.
//! A stint is not: a host that is itself a guest may learn later that its CPU was taken away meanwhile, and
//! credit less. Where neither is so nothing is said.

use crate::{
    collect::procfs::Schedstat,
    model::{Counter, TOLERANCE_NS, Totals, Vcpu},
};

/// By how much clocks may make an estimate of what goes on too long, ns: a tick of the slowest kernel. Where
/// the TSC is not stable, the scheduler's clocks of two CPUs are that far apart.
pub(super) const CLOCKS_NS: u64 = 10_000_000;

/// What a snapshot says of a vCPU that the kernel says as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The copies of the kernel's counts.
    pub(super) counted: Schedstat,
    pub(super) running_ns: u64,
    pub(super) waiting_ns: u64,
    pub(super) totals: Totals,
    /// Where they are held because an estimate fell; 0 of what is not held.
    pub(super) held: Totals,
}

impl Said {
    pub(super) fn of(vcpu: &Vcpu) -> Self {
        // The kernel says what the thread did for whichever vCPU.
        let others = |counter: Counter| vcpu.others[counter as usize];
        let held = |ns: u64, counter: Counter| if ns == 0 { 0 } else { ns.wrapping_add(others(counter)) };
        let counted = |counter: Counter| vcpu.counters[counter as usize].wrapping_add(others(counter));
        Self {
            counted: Schedstat {
                run_ns: counted(Counter::Run),
                run_delay_ns: counted(Counter::RunDelay),
                timeslices: counted(Counter::Timeslices),
            },
            running_ns: vcpu.running_ns,
            waiting_ns: vcpu.waiting_ns,
            totals: Totals {
                run_ns: vcpu.totals.run_ns.wrapping_add(others(Counter::Run)),
                run_delay_ns: vcpu.totals.run_delay_ns.wrapping_add(others(Counter::RunDelay)),
            },
            held: Totals {
                run_ns: held(vcpu.held.run_ns, Counter::Run),
                run_delay_ns: held(vcpu.held.run_delay_ns, Counter::RunDelay),
            },
        }
    }
}

/// What the kernel said around the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Around {
    /// Before the snapshot was begun.
    pub(super) before: Schedstat,
    /// After it was taken.
    pub(super) after: Schedstat,
    /// Time from before the first reading to after the second, ns.
    pub(super) span_ns: u64,
}

/// A number that lies outside its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Which number, by its name in JSON.
    pub(super) what: &'static str,
    /// What the snapshot says.
    pub(super) said: u64,
    /// What it must be at least.
    pub(super) least: u64,
    /// What it may be at most.
    pub(super) most: u64,
}

/// Compares all of what a snapshot says of a vCPU. Returns the first number that is wrong.
pub(super) fn compare(said: &Said, around: &Around) -> Option<Fault> {
    let Around { before, after, .. } = around;
    let counted = [
        ("run_ns", before.run_ns, said.counted.run_ns, after.run_ns),
        ("run_delay_ns", before.run_delay_ns, said.counted.run_delay_ns, after.run_delay_ns),
        ("timeslices", before.timeslices, said.counted.timeslices, after.timeslices),
    ];
    let counted = counted.into_iter().find_map(|(what, least, said, most)| within(what, said, least, most));
    counted.or_else(|| going_on(said, around)).or_else(|| totals(said))
}

fn within(what: &'static str, said: u64, least: u64, most: u64) -> Option<Fault> {
    (!(least..=most).contains(&said)).then_some(Fault { what, said, least, most })
}

/// The stint and the wait that go on.
fn going_on(said: &Said, Around { before, after, span_ns }: &Around) -> Option<Fault> {
    let counted = &said.counted;
    let ran = counted.run_ns > before.run_ns || counted.timeslices > before.timeslices;
    let moved = ran || counted.run_delay_ns > before.run_delay_ns;
    // The scheduler's clock and that of the moments may go apart by an eighth.
    let began_since = |is: bool| is.then_some(span_ns.saturating_add(span_ns / 8));
    let credited = after.run_delay_ns.checked_sub(counted.run_delay_ns).filter(|credited| *credited > 0);
    let wait = [began_since(moved), credited].into_iter().flatten().min();
    let bounds = [("running_ns", said.running_ns, began_since(ran)), ("waiting_ns", said.waiting_ns, wait)];
    bounds.into_iter().find_map(|(what, said, most)| within(what, said, 0, most?.saturating_add(CLOCKS_NS)))
}

/// What is exported as the kernel's totals is the sum of both, and never falls: where an estimate fell, it is
/// that estimate until the sum has come to as much.
fn totals(said: &Said) -> Option<Fault> {
    let Said { counted, totals, held, running_ns, waiting_ns } = said;
    let sums = [
        ("total run_ns", totals.run_ns, counted.run_ns.saturating_add(*running_ns), held.run_ns),
        (
            "total run_delay_ns",
            totals.run_delay_ns,
            counted.run_delay_ns.saturating_add(*waiting_ns),
            held.run_delay_ns,
        ),
    ];
    sums.into_iter().find_map(|(what, total, sum, held)| {
        within(what, total, sum, sum.max(held).saturating_add(TOLERANCE_NS))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    const fn counts(run_ns: u64, run_delay_ns: u64, timeslices: u64) -> Schedstat {
        Schedstat { run_ns, run_delay_ns, timeslices }
    }

    fn said(counted: Schedstat, running_ns: u64, waiting_ns: u64) -> Said {
        let totals =
            Totals { run_ns: counted.run_ns + running_ns, run_delay_ns: counted.run_delay_ns + waiting_ns };
        Said { counted, running_ns, waiting_ns, totals, held: Totals::default() }
    }

    fn fault(said: &Said, around: &Around) -> Option<&'static str> {
        compare(said, around).map(|fault| fault.what)
    }

    #[test]
    fn of_a_thread_that_did_nothing_one_value_is_right() {
        let still = counts(500, 300, 7);
        let around = Around { before: still, after: still, span_ns: 20 * MS };
        assert_eq!(compare(&said(still, 0, 0), &around), None);
        for (wrong, what) in [
            (counts(501, 300, 7), "run_ns"),
            (counts(499, 300, 7), "run_ns"),
            (counts(500, 301, 7), "run_delay_ns"),
            (counts(500, 299, 7), "run_delay_ns"),
            (counts(500, 300, 8), "timeslices"),
        ] {
            assert_eq!(fault(&said(wrong, 0, 0), &around), Some(what), "{wrong:?}");
        }
    }

    #[test]
    fn of_one_that_ran_all_values_between_both_readings_are() {
        let around = Around { before: counts(10, 20, 3), after: counts(15, 20, 4), span_ns: MS };
        for run in 10..=15 {
            assert_eq!(compare(&said(counts(run, 20, 3), 0, 0), &around), None);
        }
        let wrong = compare(&said(counts(16, 20, 3), 0, 0), &around);
        assert_eq!(wrong, Some(Fault { what: "run_ns", said: 16, least: 10, most: 15 }));
    }

    #[test]
    fn a_stint_that_began_between_the_readings_is_not_longer_than_the_time_between_them() {
        let around = Around { before: counts(10, 20, 3), after: counts(15, 20, 4), span_ns: 80 * MS };
        let most = 90 * MS + CLOCKS_NS;
        // Not credited by the second reading.
        assert_eq!(fault(&said(counts(15, 20, 4), most, 0), &around), None);
        assert_eq!(fault(&said(counts(15, 20, 4), most + 1, 0), &around), Some("running_ns"));
        assert_eq!(fault(&said(counts(15, 20, 4), 0, most + 1), &around), Some("waiting_ns"));
    }

    #[test]
    fn a_wait_that_began_before_is_judged_where_the_kernel_has_credited_it() {
        let long = 5_000 * MS;
        let before = counts(10, 20, 3);
        let waits = |after| Around { before, after, span_ns: MS };
        assert_eq!(fault(&said(before, 0, long), &waits(before)), None, "nobody knows yet");
        assert_eq!(fault(&said(before, 0, long), &waits(counts(10, 20 + long, 4))), None);
        let credited_less = waits(counts(10, 20 + long / 2, 4));
        assert_eq!(fault(&said(before, 0, long), &credited_less), Some("waiting_ns"));
        // The host's own CPU may have been taken away.
        assert_eq!(fault(&said(before, long, 0), &waits(counts(11, 20, 3))), None);
    }

    #[test]
    fn totals_are_the_sums_or_what_they_are_held_at() {
        let still = counts(500, 300, 7);
        let around = Around { before: still, after: still, span_ns: MS };
        let with = |run_ns, held_at| {
            let (totals, held) =
                (Totals { run_ns, run_delay_ns: 300 }, Totals { run_ns: held_at, run_delay_ns: 0 });
            fault(&Said { totals, held, ..said(still, 0, 0) }, &around)
        };
        let held_at = 500 + MS;
        assert_eq!(with(499, held_at), Some("total run_ns"));
        assert_eq!(with(500 + TOLERANCE_NS, 0), None);
        assert_eq!(with(501 + TOLERANCE_NS, 0), Some("total run_ns"));
        assert_eq!(with(held_at + TOLERANCE_NS, held_at), None);
        assert_eq!(
            with(held_at + 1 + TOLERANCE_NS, held_at),
            Some("total run_ns"),
            "no estimate was as high"
        );
    }
}
