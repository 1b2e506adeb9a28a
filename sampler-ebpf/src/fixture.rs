//! For tests of both sides of the kernel boundary: a CPU that remembers who had it, beside all that it ever
//! did.

use std::{boxed::Box, collections::BTreeMap, vec, vec::Vec};

use crate::{
    abi::{CHECKPOINTS, Occupancy, Shares, Who},
    occupancy::{place, remember},
    shared::Shared,
};

/// A CPU with its memory and its whole history.
#[derive(Debug)]
pub struct Cpu {
    /// Its last stretches.
    pub memory: Box<Occupancy>,
    /// The time of all that have ended, by occupant.
    pub totals: Box<Shares>,
    /// The checkpoints, by their place.
    pub tables: Vec<Shares>,
    /// Since when who had it, from the first on.
    pub history: Vec<(u64, Who)>,
    /// Times that an occupant lost its entry in the totals.
    pub displaced: usize,
}

impl Default for Cpu {
    fn default() -> Self {
        Self {
            memory: Box::new(Occupancy::EMPTY),
            totals: Box::new(Shares::NONE),
            tables: vec![Shares::NONE; CHECKPOINTS],
            history: Vec::new(),
            displaced: 0,
        }
    }
}

impl Cpu {
    /// Each occupant had it for so long, from 1 on; with the moment after the last.
    #[must_use]
    pub fn after(stints: &[(Who, u64)]) -> (Self, u64) {
        let mut cpu = Self::default();
        let mut now = 1;
        for (who, ns) in stints {
            cpu.comes(*who, now);
            now += ns;
        }
        (cpu, now)
    }

    /// It is given to an occupant.
    pub fn comes(&mut self, who: Who, now: u64) {
        let (memory, totals) = (shared(&mut *self.memory), shared(&mut *self.totals));
        let tables = &mut self.tables;
        let table = |number| Some(shared(&mut tables[place(number)]));
        self.displaced += usize::from(remember(memory, totals, table, who, now));
        self.history.push((now, who));
    }

    /// Who had it between two moments, by the whole history.
    #[must_use]
    pub fn truth(&self, from: u64, until: u64) -> BTreeMap<Who, u64> {
        let mut parts = BTreeMap::new();
        let ends = self.history.iter().skip(1).map(|(start, _)| *start).chain([until]);
        for ((start, who), end) in self.history.iter().zip(ends) {
            *parts.entry(*who).or_default() += end.min(until).saturating_sub((*start).max(from));
        }
        parts
    }

    /// Stretches that began after a moment.
    #[must_use]
    pub fn begun_since(&self, from: u64) -> usize {
        self.history.iter().filter(|(start, _)| *start > from).count()
    }
}

/// A value as the programs have it.
pub fn shared<T>(value: &mut T) -> Shared<T> {
    // SAFETY: tests keep the value for as long as they use this.
    unsafe { Shared::new(value) }
}
