//! From what the programs keep to the tables of the model, row by row of the same key.

use sampler_ebpf::{
    abi::{self, CounterRow},
    histogram::Histogram,
};

use crate::model::{COUNTERS, Counters, DISTRIBUTIONS, Distributions, KVM_STATS, KvmCounts};

/// Each row's place in the programs' table.
const COUNTER_AT: [usize; COUNTERS.len()] = {
    let (mut row, mut at) = (0, [0; COUNTERS.len()]);
    while row < at.len() {
        at[row] = place_of(abi::COUNTERS, COUNTERS[row].key);
        row += 1;
    }
    at
};
const KVM_STAT_AT: [usize; KVM_STATS.len()] = {
    let (mut row, mut at) = (0, [0; KVM_STATS.len()]);
    while row < at.len() {
        at[row] = place_of(abi::KVM_STATS, KVM_STATS[row].key);
        row += 1;
    }
    at
};
const DISTRIBUTION_AT: [usize; DISTRIBUTIONS.len()] = {
    let (mut row, mut at) = (0, [0; DISTRIBUTIONS.len()]);
    while row < at.len() {
        let (mut place, key) = (0, DISTRIBUTIONS[row].key);
        while !is_same(abi::DISTRIBUTIONS[place], key) {
            place += 1;
        }
        at[row] = place;
        row += 1;
    }
    at
};

const fn place_of(rows: &[CounterRow], key: &str) -> usize {
    let mut place = 0;
    // Beyond the end it does not compile: the model has a row that the programs do not know.
    while !is_same(rows[place].key, key) {
        place += 1;
    }
    place
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut n = 0;
    while n < one.len() && n < other.len() && one[n] == other[n] {
        n += 1;
    }
    n == one.len() && n == other.len()
}

/// What the scheduler counts of a thread.
pub(super) fn counters(raw: &[u64; abi::COUNTERS.len()]) -> Counters {
    COUNTER_AT.map(|place| raw[place])
}

/// What KVM counts of a vCPU, as far as this kernel keeps it.
pub(super) fn kvm_counts(
    raw: &[u64; abi::KVM_STATS.len()],
    kept: &[bool; abi::KVM_STATS.len()],
) -> KvmCounts {
    KvmCounts::new(KVM_STAT_AT.map(|place| raw[place]), &KVM_STAT_AT.map(|place| kept[place]))
}

/// Distributions of a vCPU.
pub(super) fn distributions(raw: &[Histogram; abi::DISTRIBUTIONS.len()]) -> Distributions {
    Distributions::new(DISTRIBUTION_AT.map(|place| raw[place]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_the_programs_row_of_its_key() {
        let raw = std::array::from_fn(|n| n as u64);
        for (row, value) in COUNTERS.iter().zip(counters(&raw)) {
            assert_eq!(abi::COUNTERS[value as usize].key, row.key);
        }
        let raw = std::array::from_fn(|n| n as u64);
        let mut kept = [true; abi::KVM_STATS.len()];
        kept[abi::KvmStat::NestedRuns as usize] = false;
        for (key, value) in kvm_counts(&raw, &kept).iter() {
            assert_eq!(abi::KVM_STATS[value as usize].key, key);
            assert_ne!(key, "nested_runs", "this kernel does not keep it");
        }
    }

    #[test]
    fn no_row_of_the_programs_is_left_out() {
        assert_eq!(COUNTERS.len(), abi::COUNTERS.len());
        assert_eq!(KVM_STATS.len(), abi::KVM_STATS.len());
        assert_eq!(DISTRIBUTIONS.len(), abi::DISTRIBUTIONS.len());
    }
}
