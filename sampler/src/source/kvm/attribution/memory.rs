//! Whom a wait that goes on is to be charged to, by what its CPU remembers.

use sampler_ebpf::{
    abi::{APART, CHECKPOINTS, Shares, Split, Who},
    occupancy::place,
    shares::gained,
};

use crate::collect::Remembered;

/// What a CPU remembers.
pub(in super::super) struct Memory<'a> {
    /// The last stretches, one by one.
    pub(in super::super) recent: &'a Remembered,
    /// Totals at a checkpoint, where they are remembered still.
    pub(in super::super) checkpoint: &'a dyn Fn(u64) -> Option<Shares>,
}

impl Memory<'_> {
    /// Hands over who had the CPU between two moments, in parts that come to all the time between them. What
    /// nobody knows is [`sampler_ebpf::abi::WHO_UNKNOWN`]'s. A part may be less than nothing: what an
    /// occupant is charged with as one of the others (see [`gained`]).
    pub(super) fn parts(&self, from: u64, until: u64, mut each: impl FnMut(Who, i64)) {
        let memory = &self.recent.memory;
        let stretch = |at: usize| (memory.stretches[at].start_ns, memory.stretches[at].who);
        let mut split = Split { from_ns: from, until_ns: until, written: memory.written };
        let upto = self.recent.oldest.div_ceil(APART);
        let to_upto = memory.written.saturating_sub(upto * APART);
        let to_oldest = memory.written.saturating_sub(self.recent.oldest);
        for back in 0..to_upto {
            if !split.step(back, stretch, |who, ns| each(who, signed(ns))) {
                return;
            }
        }
        // The wait may have ended before that checkpoint, when the memory was read late.
        let is_reached = to_upto > 0 && split.until_ns == self.at(upto);
        match is_reached.then(|| self.before(upto, from)).flatten() {
            Some((first_ns, then, now)) => {
                gained(&now, &then, &mut each);
                split.until_ns = first_ns;
            }
            None => {
                for back in to_upto..to_oldest {
                    if !split.step(back, stretch, |who, ns| each(who, signed(ns))) {
                        return;
                    }
                }
            }
        }
        split.rest(|who, ns| each(who, signed(ns)));
    }

    /// The first checkpoint that was taken after `from` and is remembered still, before one that is: when it
    /// was taken, and the totals of both.
    fn before(&self, upto: u64, from: u64) -> Option<(u64, Shares, Shares)> {
        let last = self.recent.memory.written.saturating_sub(1) / APART;
        let oldest = (last + 1).saturating_sub(CHECKPOINTS as u64);
        // The place of one that was overwritten while the memory was read has a later moment.
        let is_within = |number: &u64| self.at(*number) > from && self.at(*number) <= self.at(upto);
        let mut numbers = (oldest..upto).filter(is_within);
        let (first, then) = numbers.find_map(|number| Some((number, (self.checkpoint)(number)?)))?;
        Some((self.at(first), then, (self.checkpoint)(upto)?))
    }

    fn at(&self, number: u64) -> u64 {
        self.recent.memory.checkpoints_ns[place(number)]
    }
}

/// A time as a part.
pub(super) fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use sampler_ebpf::{
        abi::{WHO_OTHERS, WHO_UNKNOWN, mark_of},
        fixture::Cpu,
    };

    use super::*;

    /// Who had a CPU between two moments, by what it remembers.
    fn parts(cpu: &Cpu, from: u64, until: u64) -> BTreeMap<Who, i64> {
        let oldest = (cpu.memory.written + 1).saturating_sub(1024);
        let recent = Remembered { memory: cpu.memory.clone(), oldest };
        let checkpoint = |number| {
            let is_kept = cpu.memory.written < (number + CHECKPOINTS as u64) * APART;
            is_kept.then(|| cpu.tables[place(number)])
        };
        let mut parts = BTreeMap::new();
        Memory { recent: &recent, checkpoint: &checkpoint }
            .parts(from, until, |who, ns| *parts.entry(who).or_default() += ns);
        parts
    }

    /// The same by its whole history.
    fn truth(cpu: &Cpu, from: u64, until: u64) -> BTreeMap<Who, i64> {
        cpu.truth(from, until).into_iter().map(|(who, ns)| (who, signed(ns))).collect()
    }

    fn stints(of: u32) -> impl Strategy<Value = Vec<(Who, u64)>> {
        proptest::collection::vec((1..=of, 1..2_000_u64), 1..3_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 48, failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Where no occupant loses its entry, each gets what it had, but for what is too old. The memory may
        /// be read some time after the wait's moment.
        #[test]
        fn each_gets_what_it_had(
            stints in stints(40),
            back in prop_oneof![Just(0_usize), 980..1_030_usize, 0..3_000_usize],
            late in prop_oneof![2 => Just(0_usize), 1 => 980..1_030_usize, 1 => 0..3_000_usize],
        ) {
            let (cpu, now) = Cpu::after(&stints);
            let ago = |stretches: usize| match cpu.history.len().checked_sub(stretches) {
                Some(at) => cpu.history.get(at).map_or(now, |(start, _)| *start),
                None => 0,
            };
            let (from, until) = (ago(back.max(late)).saturating_sub(1), ago(late));
            let (mut parts, truth) = (parts(&cpu, from, until), truth(&cpu, from, until));
            let unknown = parts.remove(&WHO_UNKNOWN).unwrap_or(0);
            prop_assert_eq!(parts.values().sum::<i64>() + unknown, signed(until - from));
            let mut lacking = 0;
            for (who, ns) in &parts {
                let had = truth.get(who).copied().unwrap_or(0);
                prop_assert!((0..=had).contains(ns), "{} had {} and got {}", who, had, ns);
                lacking += had - ns;
            }
            let is_missing = |(who, _): &(&Who, &i64)| !parts.contains_key(*who);
            let by_whom: i64 = truth.iter().filter(is_missing).map(|(_, ns)| ns).sum();
            let begin = cpu.history.first().map_or(until, |(start, _)| (*start).min(until));
            let before = signed(begin.saturating_sub(from));
            prop_assert_eq!(lacking + by_whom + before, unknown, "what is lacking is nobody's");
            let begun = cpu.begun_since(from);
            if begun < 1_023 {
                prop_assert_eq!(unknown, before, "{} stretches are remembered", begun);
            }
        }

        /// With more occupants than entries the parts still come to all of it, and none is less than nothing.
        #[test]
        fn parts_come_to_the_whole(stints in stints(400), part in 0.0..1.0_f64) {
            let (cpu, now) = Cpu::after(&stints);
            let from = (now as f64 * part) as u64;
            let parts = parts(&cpu, from, now);
            prop_assert_eq!(parts.values().sum::<i64>(), signed(now - from));
            let mut marks = [0; 4];
            parts.iter().for_each(|(who, ns)| marks[mark_of(*who)] += ns);
            prop_assert!(marks.iter().all(|ns| *ns >= 0), "{:?}", parts);
            let lost = |(who, _): &(&Who, &i64)| **who & WHO_OTHERS == 0 && **who != WHO_UNKNOWN;
            prop_assert!(parts.iter().filter(lost).all(|(_, ns)| *ns >= 0), "{:?}", parts);
        }
    }
}
