use std::time::Duration;

use super::engine::compare;
use super::fake::{Lie, World};
use super::plan::{Moves, Plan};
use super::report::{Failure, MismatchKind, Report};

fn plan(moves: Moves) -> Plan {
    Plan {
        pause: Duration::ZERO,
        stuck_after: Duration::from_millis(1),
        ..Plan::new(2_000, 100, Duration::from_secs(20), moves)
    }
}

fn run(lie: Lie, moves: Moves, seed: u64) -> Result<Report, Failure> {
    let world = World::new(8, seed, lie, moves == Moves::Possible);
    let plan = plan(moves);
    compare(&world, &world, &world.threads(), &plan).unwrap().verdict(&plan)
}

#[test]
fn an_honest_reader_is_never_accused() {
    for seed in 0..50 {
        for moves in [Moves::Possible, Moves::Impossible] {
            let report = run(Lie::None, moves, seed).unwrap();
            assert!(report.compared >= 2_000 && report.mismatches == 0, "{report}");
            assert!(report.switches_compared > 0 && report.skips.moved > 0, "{report}");
            assert_eq!(report.skips.requeued > 0, moves == Moves::Possible, "{report}");
        }
    }
}

#[test]
fn every_lie_is_caught() {
    use MismatchKind::{Counts, MissedDeparture, StuckOnCpu, Switches, Torn, Unseen};
    let kinds: &[(Lie, &[MismatchKind])] = &[
        (Lie::Run, &[Counts]),
        (Lie::Delay, &[Counts]),
        (Lie::StaleDelay, &[Counts]),
        (Lie::SomeArrivals, &[Counts, Unseen]),
        (Lie::AllArrivals, &[Counts, Unseen]),
        (Lie::Preemptions, &[MissedDeparture]),
        (Lie::SomeDepartures, &[MissedDeparture]),
        (Lie::Frozen, &[Counts, Unseen, MissedDeparture]),
        (Lie::Halted, &[StuckOnCpu]),
        (Lie::Torn, &[Counts, Unseen, Torn]),
        (Lie::WrongThread, &[Counts, Unseen]),
        (Lie::SwappedSwitches, &[Switches]),
    ];
    for &(lie, expected) in kinds {
        for moves in [Moves::Possible, Moves::Impossible] {
            let failure = match run(lie, moves, 7) {
                Ok(report) => panic!("{lie:?}, {moves:?} was not caught: {report}"),
                Err(failure) => failure,
            };
            let Failure::Mismatches { report, details, .. } = failure else {
                panic!("{lie:?}, {moves:?}: {failure}");
            };
            assert!(details.contains("before: Reading"), "{details}");
            // What catches it first. Later disagreements may be of other kinds.
            for mismatch in report.details.iter().take(5) {
                assert!(expected.contains(&mismatch.kind), "{lie:?}, {moves:?}: {mismatch:?}");
            }
        }
    }
}

#[test]
fn a_thread_that_is_never_compared_fails_the_comparison() {
    let world = World::new(4, 7, Lie::Unknown, false);
    let plan = Plan { deadline: Duration::from_millis(300), ..plan(Moves::Impossible) };
    let failure = compare(&world, &world, &world.threads(), &plan).unwrap().verdict(&plan).unwrap_err();
    assert!(matches!(failure, Failure::Neglected { tid: 101, compared: 0, .. }), "{failure}");
}

#[test]
fn too_few_comparisons_before_the_deadline_are_a_failure() {
    let world = World::new(4, 7, Lie::None, false);
    let plan = Plan { comparisons: u64::MAX, deadline: Duration::from_millis(50), ..plan(Moves::Impossible) };
    let failure = compare(&world, &world, &world.threads(), &plan).unwrap().verdict(&plan).unwrap_err();
    assert!(matches!(failure, Failure::TooFew { .. }), "{failure}");
}

#[test]
fn no_threads_prove_nothing() {
    let world = World::new(0, 7, Lie::None, false);
    let plan = Plan { comparisons: 0, per_thread: 0, ..plan(Moves::Impossible) };
    let failure = compare(&world, &world, &[], &plan).unwrap().verdict(&plan).unwrap_err();
    assert!(matches!(failure, Failure::TooFew { .. }), "{failure}");
}

#[test]
fn sleeping_threads_are_compared_once_however_often_they_are_looked_at() {
    struct Asleep;
    impl super::CounterReader for Asleep {
        fn read(&self, _: u32) -> Option<super::Reading> {
            Some(super::Reading { seq: 2, ..super::Reading::default() })
        }
    }
    impl super::Oracle for Asleep {
        fn schedstat(
            &self,
            _: super::Thread,
        ) -> Result<crate::oracle::Schedstat, crate::oracle::OracleError> {
            Ok(crate::oracle::Schedstat::default())
        }
        fn switches(&self, _: super::Thread) -> Result<crate::oracle::Switches, crate::oracle::OracleError> {
            Ok(crate::oracle::Switches::default())
        }
        fn state(&self, _: super::Thread) -> Result<crate::oracle::TaskState, crate::oracle::OracleError> {
            Ok(crate::oracle::TaskState::Asleep)
        }
    }
    let plan = Plan { deadline: Duration::from_millis(20), ..plan(Moves::Impossible) };
    let report = compare(&Asleep, &Asleep, &[super::Thread { pid: 1, tid: 2 }], &plan).unwrap();
    assert!(report.compared == 1 && report.repeated > 1, "{report}");
}
