use proptest::prelude::*;
use sampler_ebpf::abi::{COUNTERS, RUN, VcpuSlot, WAIT, changed};

use super::*;

const SHIFT: u32 = 4;

/// A sleep, the wait after it and the stint after that, ns.
type Turn = (u64, u64, u64);

/// A thread as the scheduler program and the walk leave it.
struct Thread {
    slot: VcpuSlot,
    timeline: Timeline,
    /// When it waited and when it ran: begin and end of each.
    waits: Vec<(u64, u64)>,
    runs: Vec<(u64, u64)>,
}

impl Thread {
    fn new(begin: u64, turns: &[Turn]) -> Self {
        let mut slot = VcpuSlot::EMPTY;
        let mut timeline = Timeline::EMPTY;
        let (mut waits, mut runs) = (Vec::new(), Vec::new());
        let mut now = begin;
        for (sleep, wait, run) in turns {
            let queued = now + sleep;
            let arrived = queued + wait;
            now = arrived + run;
            waits.push((queued, arrived));
            runs.push((arrived, now));
            for (ns, what) in [(queued, WAIT), (arrived, WAIT | RUN), (now, RUN)] {
                let tick = tick_at(ns, SHIFT);
                let cell = &mut timeline.cells[cell_of(tick)];
                *cell = changed(*cell, tick, what);
            }
            slot.counters[Counter::Timeslices as usize] += 1;
            slot.counters[Counter::RunDelay as usize] += wait;
        }
        slot.left_ns = now;
        slot.left = Left::Vmm as u32;
        Self { slot, timeline, waits, runs }
    }

    fn is_in(stretches: &[(u64, u64)], ns: u64) -> bool {
        stretches.iter().any(|(from, until)| (*from..*until).contains(&ns))
    }
}

fn add(drawing: &mut Drawing, thread: &Thread, record: &WalkRecord) {
    let VcpuSlot { counters, left_ns, left, .. } = thread.slot;
    drawing.add(&Leaving { counters, left_ns, left }, &thread.timeline, &Read::new(1, record, None));
}

fn asleep(sched_ns: u64) -> WalkRecord {
    WalkRecord { sched_ns, ..WalkRecord::EMPTY }
}

/// What it comes to tick by tick.
fn counted(threads: &[Thread], window: Window) -> u64 {
    let both = |tick: &u64| {
        let ns = tick << SHIFT;
        threads.iter().any(|thread| Thread::is_in(&thread.runs, ns))
            && threads.iter().any(|thread| Thread::is_in(&thread.waits, ns))
    };
    (window.from..window.to).filter(both).count() as u64
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    // From less than a tick to more than a timeline.
    let length = || prop_oneof![0_u64..40, 0_u64..600, 0_u64..30_000];
    proptest::collection::vec((length(), length(), length()), 0..60)
}

proptest! {
    #[test]
    fn what_is_drawn_is_what_was(
        all in proptest::collection::vec(turns(), 1..5),
        begin in 0_u64..1 << 50,
        ticks in 1..=MOST_TICKS,
    ) {
        let threads: Vec<_> = all.iter().map(|turns| Thread::new(begin, turns)).collect();
        // A walk sees all of them asleep for good; what is older than a timeline cannot be asked for.
        let end = threads.iter().map(|thread| thread.slot.left_ns).max().unwrap() >> SHIFT;
        let window = Window { from: (end + 1).saturating_sub(ticks).max(begin >> SHIFT), to: end + 1 };
        let mut drawing = Drawing::new(window, SHIFT);
        for thread in &threads {
            add(&mut drawing, thread, &asleep((end + 1) << SHIFT));
        }
        prop_assert_eq!(drawing.both(), Counted { ticks: counted(&threads, window), of: window.ticks() });
    }
}

#[test]
fn what_goes_on_is_added_from_the_walk() {
    let window = Window { from: 0, to: 100 };
    // One has run since tick 10, and another waits since tick 40; the first waited from tick 5 on.
    let runs = Thread::new(0, &[]);
    let mut record = WalkRecord { on_cpu: 1, arrived_ns: 10 << SHIFT, ..asleep(100 << SHIFT) };
    record.counters[Counter::Timeslices as usize] = 1;
    record.counters[Counter::RunDelay as usize] = 5 << SHIFT;
    let waits = Thread::new(0, &[(3 << SHIFT, 0, 2 << SHIFT)]);
    let waiting =
        WalkRecord { waiting_ns: 60 << SHIFT, counters: waits.slot.counters, ..asleep(100 << SHIFT) };
    let mut drawing = Drawing::new(window, SHIFT);
    add(&mut drawing, &runs, &record);
    add(&mut drawing, &waits, &waiting);
    // The second ran at ticks 3 and 4 only, when nobody waited.
    assert_eq!(drawing.both(), Counted { ticks: 60, of: 100 });
    assert_eq!(COUNTERS.len(), record.counters.len());
}

#[test]
fn a_thread_that_has_gone_on_since_the_walk_is_counted_up_to_it() {
    let window = Window { from: 0, to: 50 };
    let one = Thread::new(0, &[(0, 20 << SHIFT, 90 << SHIFT)]);
    let other = Thread::new(0, &[(0, 0, 200 << SHIFT)]);
    // At the walk both ran, of which the slots knew nothing then.
    let mut drawing = Drawing::new(window, SHIFT);
    for (thread, arrived) in [(&one, 20), (&other, 0)] {
        let mut record = WalkRecord { on_cpu: 1, arrived_ns: arrived << SHIFT, ..asleep(50 << SHIFT) };
        record.counters = thread.slot.counters;
        add(&mut drawing, thread, &record);
    }
    assert_eq!(drawing.both(), Counted { ticks: 20, of: 50 });
}

#[test]
fn the_shortest_tick_is_taken_with_which_a_window_takes_the_interval() {
    for (interval, ms) in [(100, 0.131_072), (1000, 1.048_576), (10_000, 16.777_216)] {
        let shift = shift_for(Duration::from_millis(interval));
        assert_eq!((1_u64 << shift) as f64 / 1e6, ms);
    }
    assert!(1 << shift_for(Duration::MAX) > 0_u64);
}

#[test]
fn ticks_that_a_late_reading_no_longer_finds_are_taken_to_be_as_the_rest() {
    let mut progress = Progress::since(90 << SHIFT);
    progress.take_in(100, SHIFT, |window| {
        assert_eq!(window, Window { from: 90, to: 100 }, "from when it was seen");
        Counted { ticks: 5, of: 10 }
    });
    assert_eq!(progress.sum(), CoStop { ns: 5 * 16, interval_ns: None, tick_ns: 16 });
    progress.take_in(200, SHIFT, |window| {
        assert_eq!(window, Window { from: 100, to: 200 });
        Counted { ticks: 25, of: 100 }
    });
    assert_eq!(progress.sum(), CoStop { ns: 30 * 16, interval_ns: Some(25 * 16), tick_ns: 16 });
    let to = 200 + 2 * MOST_TICKS;
    progress.take_in(to, SHIFT, |window| {
        assert_eq!(window, Window { from: 200 + MOST_TICKS, to });
        Counted { ticks: 25, of: MOST_TICKS / 2 }
    });
    assert_eq!(progress.sum().interval_ns, Some(4 * 25 * 16));
    progress.wait();
    assert_eq!(progress.sum().interval_ns, None);
    progress.restart();
    progress.nobody_waited(to + 7, SHIFT);
    assert_eq!(progress.sum(), CoStop { ns: 130 * 16, interval_ns: None, tick_ns: 16 });
    progress.nobody_waited(to + 9, SHIFT);
    assert_eq!(progress.sum().interval_ns, Some(0));
}

#[test]
fn a_wait_that_was_moved_between_cpus_is_waited_as_a_whole() {
    let window = Window { from: 0, to: 50 };
    let waits = Thread::new(0, &[(0, 0, 5 << SHIFT)]);
    let mut record = WalkRecord { waiting_ns: 10 << SHIFT, ..asleep(50 << SHIFT) };
    record.counters = waits.slot.counters;
    record.counters[Counter::RunDelay as usize] += 20 << SHIFT;
    let runs = Thread::new(0, &[(0, 0, 50 << SHIFT)]);
    let mut drawing = Drawing::new(window, SHIFT);
    add(&mut drawing, &waits, &record);
    add(&mut drawing, &runs, &asleep(50 << SHIFT));
    assert_eq!(drawing.both(), Counted { ticks: 30, of: 50 });
}

#[test]
fn what_was_written_over_since_the_walk_is_not_taken_for_sleep() {
    let window = Window { from: 0, to: MOST_TICKS };
    // They ran and waited for the whole window, and a while after it one switched at every other tick.
    let after = (0..40).map(|_| (0, 2 << SHIFT, 2 << SHIFT));
    let turns: Vec<Turn> = std::iter::once((0, 0, MOST_TICKS << SHIFT)).chain(after).collect();
    let runs = Thread::new(0, &turns);
    let waits = Thread::new(0, &[(0, MOST_TICKS << SHIFT, 1)]);
    let mut drawing = Drawing::new(window, SHIFT);
    for thread in [&runs, &waits] {
        add(&mut drawing, thread, &asleep(MOST_TICKS << SHIFT));
    }
    let Counted { ticks, of } = drawing.both();
    assert!(ticks == of && of < MOST_TICKS && of > MOST_TICKS - 200, "{ticks} of {of}");
}
