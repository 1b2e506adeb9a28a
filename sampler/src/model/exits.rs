//! Why guests were left, how often, and for how long.

use super::{Histogram, distribution};
use crate::kept::kept;

/// What an exit was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitKind {
    /// In words that hold for all processors.
    pub reason: &'static str,
    /// As the kernel names it for this processor; absent for those that are not distinguished.
    pub raw: Option<&'static str>,
}

/// Exits of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitTotals {
    /// How many.
    pub count: u64,
    /// How many of them went on to the VMM.
    pub vmm_count: u64,
    /// Time that those spent outside `KVM_RUN`, ns.
    pub vmm_ns: u64,
    /// Time from leaving the guest to entering it again, whatever happened in between. One that is not over
    /// is not in it, nor one whose end no hook reported.
    pub latency: Histogram,
}

kept! { ExitTotals { count, vmm_count, vmm_ns, latency } }

impl ExitTotals {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            count: self.count.saturating_sub(earlier.count),
            vmm_count: self.vmm_count.saturating_sub(earlier.vmm_count),
            vmm_ns: self.vmm_ns.saturating_sub(earlier.vmm_ns),
            latency: distribution::since(&self.latency, &earlier.latency),
        }
    }

    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.vmm_count += other.vmm_count;
        self.vmm_ns += other.vmm_ns;
        self.latency = distribution::plus(&self.latency, &other.latency);
    }
}

/// Exits by kind: of those kinds alone that there were, ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exits(Vec<(ExitKind, ExitTotals)>);

impl Exits {
    /// There were none.
    pub const NONE: Self = Self(Vec::new());

    /// Adds exits of one kind.
    pub fn add(&mut self, kind: ExitKind, added: &ExitTotals) {
        match self.0.binary_search_by(|(known, _)| known.cmp(&kind)) {
            Ok(at) => self.0[at].1.add(added),
            Err(at) => self.0.insert(at, (kind, *added)),
        }
    }

    /// Adds all exits of another.
    pub fn add_all(&mut self, other: &Self) {
        other.0.iter().for_each(|(kind, totals)| self.add(*kind, totals));
    }

    /// There are none from now on; the room stays.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Exits of one kind.
    #[must_use]
    pub fn get(&self, kind: ExitKind) -> Option<&ExitTotals> {
        self.0.binary_search_by(|(known, _)| known.cmp(&kind)).ok().map(|at| &self.0[at].1)
    }

    /// All kinds that there were, ordered, with their exits.
    #[must_use]
    pub fn all(&self) -> &[(ExitKind, ExitTotals)] {
        &self.0
    }

    /// The kinds that there were.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ExitKind, &ExitTotals)> + Clone {
        self.0.iter().map(|(kind, totals)| (*kind, totals))
    }

    /// What was added since `earlier`; kinds to which nothing was are left out.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let added = |(kind, now): (ExitKind, &ExitTotals)| {
            let added = earlier.get(kind).map_or(*now, |earlier| now.since(earlier));
            (added != ExitTotals::default()).then_some((kind, added))
        };
        Self(self.iter().filter_map(added).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_kept_apart_and_ordered() {
        let kind = |reason, raw| ExitKind { reason, raw: Some(raw) };
        let of = |count| ExitTotals { count, ..ExitTotals::default() };
        let mut exits = Exits::default();
        exits.add(kind("msr", "MSR_WRITE"), &of(3));
        exits.add(kind("halt", "HLT"), &of(1));
        let before = exits.clone();
        exits.add(kind("msr", "MSR_READ"), &of(5));
        exits.add(kind("msr", "MSR_WRITE"), &of(4));
        let raws: Vec<_> = exits.iter().map(|(kind, exits)| (kind.raw.unwrap_or(""), exits.count)).collect();
        assert_eq!(raws, [("HLT", 1), ("MSR_READ", 5), ("MSR_WRITE", 7)]);
        let added = exits.since(&before);
        assert_eq!(added.iter().map(|(_, exits)| exits.count).collect::<Vec<_>>(), [5, 4]);
        let mut sum = before;
        sum.add_all(&added);
        assert_eq!(sum, exits);
    }
}
