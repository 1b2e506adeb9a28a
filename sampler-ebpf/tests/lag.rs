//! Two clocks that are read while the kernel brings them up to date.

use sampler_ebpf::lag::Lag;

/// How far the clocks go on in an update, ns.
const TICK: u64 = 4_000_000;

/// What two readings of two clocks each show where an update sets the first clock before the load `first`,
/// and the second before the load `second`.
fn readings(lag: u64, first: usize, second: usize) -> [(u64, u64); 2] {
    let clocks = |load: usize| {
        let ahead = 7 * TICK + lag + if load >= first { TICK } else { 0 };
        let behind = 7 * TICK + if load >= second { TICK } else { 0 };
        (ahead, behind)
    };
    [0, 2].map(|load| (clocks(load).0, clocks(load + 1).1))
}

#[test]
fn no_update_within_a_reading_is_taken_for_a_lag() {
    const LOADS: usize = 4;
    for lag in [0, 1_000, 3 * TICK] {
        for first in 0..=LOADS {
            for second in first..=LOADS {
                let [before, after] = readings(lag, first, second);
                let read = Lag::of(before);
                // An update that takes longer than all four loads looks like a lag.
                let is_seen = first > 0 || second < LOADS;
                if read.holds(after) && is_seen {
                    assert_eq!(read.ns(), lag, "an update before the loads {first} and {second}");
                }
            }
        }
    }
}

#[test]
fn an_update_between_two_readings_is_none_of_their_business() {
    let [before, after] = readings(1_000, 2, 2);
    assert!(before != after && Lag::of(before).holds(after));
}
