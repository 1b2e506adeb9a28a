//! Which of its possible series a stream has, as bits: what they were is compared with what they are for every snapshot.

use sampler_ebpf::abi::KVM_STATS;

use crate::model::{HelperKind, Helpers, KvmCounts, STATES, State, StateTimes};

/// A set of states; the bit is the state's index in [`STATES`].
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StateSet(u64);

const _: () = assert!(STATES.len() <= u64::BITS as usize, "a wider set of states is needed");

impl StateSet {
    pub(super) fn of(times: &StateTimes) -> Self {
        Self(times.iter().fold(0, |set, (state, _)| set | 1 << state as usize))
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn iter(self) -> impl Iterator<Item = State> {
        State::ALL.into_iter().filter(move |state| self.0 & 1 << *state as usize != 0)
    }
}

/// Which of KVM's counts a VM has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KvmSet(u32);

const _: () = assert!(KVM_STATS.len() <= u32::BITS as usize, "a wider set of KVM's counts is needed");

impl KvmSet {
    pub(super) fn of(counts: &KvmCounts) -> Self {
        let known = (0..KVM_STATS.len()).filter(|stat| counts.at(*stat).is_some());
        Self(known.fold(0, |set, stat| set | 1 << stat))
    }

    pub(super) const fn has(self, stat: usize) -> bool {
        self.0 & 1 << stat != 0
    }
}

/// Which kinds of helper threads a VM has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HelperSet(u8);

impl HelperSet {
    pub(super) fn of(helpers: &Helpers) -> Self {
        Self(helpers.iter().fold(0, |set, (kind, _)| set | 1 << kind as usize))
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(super) fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn iter(self) -> impl Iterator<Item = HelperKind> {
        HelperKind::ALL.into_iter().filter(move |kind| self.0 & 1 << *kind as usize != 0)
    }
}
