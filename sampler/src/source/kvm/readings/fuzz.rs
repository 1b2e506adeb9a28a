//! Records of walks that no walk has written.

use super::*;
use crate::{
    collect::from_bytes,
    fuzzing::{Memory, Target},
    model::{Account, State},
    source::kvm::entries::Entries,
};

const RECORDS: Target =
    Target { name: "records", words: &["\u{1}\0\0\0", "\u{2}\0\0\0"], inputs: 20_000, memory: Memory::SMALL };

/// Records of one thread, at most.
const WALKS: usize = 16;

/// Times as a kernel may have them: it has run for less than nine years.
const TIMES: u64 = (1 << 58) - 1;

/// What was found of one thread, one walk after the other.
fn read(input: &[u8]) -> impl Iterator<Item = WalkRecord> + '_ {
    let (walks, _) = input.as_chunks::<{ size_of::<WalkRecord>() }>();
    walks.iter().take(WALKS).filter_map(|walk| from_bytes::<WalkRecord>(walk)).map(bounded)
}

fn bounded(record: WalkRecord) -> WalkRecord {
    let bound = |ns: u64| ns & TIMES;
    WalkRecord {
        monotonic_ns: bound(record.monotonic_ns),
        sched_ns: bound(record.sched_ns),
        counters: record.counters.map(bound),
        running_ns: bound(record.running_ns),
        waiting_ns: bound(record.waiting_ns),
        held_back_ns: bound(record.held_back_ns),
        throttled_ns: bound(record.throttled_ns),
        asleep_ns: record.asleep_ns.map(bound),
        modes_ns: record.modes_ns.map(bound),
        stands_ns: bound(record.stands_ns),
        ..record
    }
}

fn run(input: &[u8]) {
    // What the kernel counts at all, and from when on the thread is followed.
    let Some((first, rest)) = input.split_first() else { return };
    let features = Features { kvm_stats: [first & 1 != 0; KVM_STATS.len()], throttled: first & 2 != 0 };
    let mut entries = Entries::default();
    let mut readings = read(rest).map(|record| {
        let unentered = entries.are_missing_of(&record);
        let counts = kvm_counts(&record, &features);
        assert_eq!(counts.is_some(), record.kvm_generation == record.generation, "absent is not zero");
        reading(&record, &features, unentered)
    });
    let Some(begin) = readings.next() else { return };
    let mut account = if first & 4 != 0 {
        Account::follow(begin)
    } else {
        Account::follow_from_creation(begin, begin.monotonic_ns / 2).0
    };
    for reading in readings {
        let before = account.states();
        let (interval, _) = account.advance(reading);
        let on_cpu: u64 =
            interval.states.iter().filter(|(state, _)| state.is_on_cpu()).map(|(_, ns)| ns).sum();
        assert_eq!(on_cpu, interval.run_ns, "the parts of the run time come to it");
        let of = |state| interval.states.get(state).unwrap_or(0);
        assert_eq!(of(State::Steal) + of(State::Throttled), interval.run_delay_ns);
        assert_eq!(interval.blocked.iter().sum::<u64>(), of(State::Blocked));
        assert!(interval.states.get(State::Throttled).is_some() == features.throttled, "absent is not zero");
        assert!(account.states().sum() >= before.sum(), "time falls");
    }
}

#[test]
fn records() {
    let walk = |n: u64, kind: u64| {
        // All words grow, at a pace of their own; the generations are the same.
        let word = |at: u64| if at < 2 { n } else { n * 1_000_000 + n * at * kind };
        let words = size_of::<WalkRecord>() as u64 / 8;
        (0..words).flat_map(|at| word(at).to_ne_bytes()).collect::<Vec<u8>>()
    };
    let made = [0, 1, 3, 7].map(|first| {
        let walks = (1..6).flat_map(|n| walk(n, u64::from(first)));
        [first].into_iter().chain(walks).collect::<Vec<u8>>()
    });
    RECORDS.check(&made, run);
}
