//! From the programs' counts of exits to those of the model.

use sampler_ebpf::abi::{EXIT_BUCKETS, EXIT_ROWS, ExitCounts, ExitReason, ExitRow, Histogram, OTHER_EXITS};

use crate::model::{ExitKind, ExitTotals, Exits};

/// What the rows of the programs' tables stand for on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExitKinds([ExitKind; EXIT_ROWS]);

const OTHER: ExitKind = ExitKind { reason: ExitReason::Other.key(), raw: None };

impl ExitKinds {
    /// By the processor's table; without one none is told from the others.
    #[must_use]
    pub(super) fn new(rows: &'static [ExitRow]) -> Self {
        let kind = |row: &ExitRow| ExitKind { reason: row.reason.key(), raw: Some(row.name) };
        Self(std::array::from_fn(|n| rows.get(n).filter(|_| n != OTHER_EXITS).map_or(OTHER, kind)))
    }
}

/// What was added to a vCPU's counts since they were read last. The programs' counts wrap around after four
/// billions: they are read more often.
pub(super) fn added(
    now: &[ExitCounts; EXIT_ROWS],
    before: &[ExitCounts; EXIT_ROWS],
    kinds: &ExitKinds,
) -> Exits {
    let mut exits = Exits::default();
    for ((now, before), kind) in now.iter().zip(before).zip(kinds.0) {
        if now != before {
            exits.add(kind, &totals(now, before));
        }
    }
    exits
}

fn totals(now: &ExitCounts, before: &ExitCounts) -> ExitTotals {
    let count = |now: u32, before: u32| u64::from(now.wrapping_sub(before));
    let mut latency = Histogram { sum_ns: now.ns.saturating_sub(before.ns), ..Histogram::default() };
    for n in 0..EXIT_BUCKETS {
        latency.counts[n] = count(now.counts[n], before.counts[n]);
    }
    ExitTotals {
        count: count(now.count, before.count),
        vmm_count: count(now.user_count, before.user_count),
        vmm_ns: now.user_ns.saturating_sub(before.user_ns),
        latency,
    }
}

#[cfg(test)]
mod tests {
    use sampler_ebpf::abi::{SVM_EXITS, VMX_EXITS};

    use super::*;

    #[test]
    fn rows_become_kinds_and_counts_may_wrap_around() {
        let mut before = [ExitCounts::default(); EXIT_ROWS];
        let mut now = before;
        before[0].count = u32::MAX;
        now[0] = ExitCounts { count: 1, user_count: 1, ns: 900, user_ns: 400, ..before[0] };
        now[0].counts[3] = 2;
        now[OTHER_EXITS].count = 7;
        let exits = added(&now, &before, &ExitKinds::new(SVM_EXITS));
        let all: Vec<_> = exits.iter().collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].0, ExitKind { reason: "interrupt", raw: Some("interrupt") });
        assert_eq!((all[0].1.count, all[0].1.vmm_count, all[0].1.vmm_ns), (2, 1, 400));
        assert_eq!((all[0].1.latency.sum_ns, all[0].1.latency.counts[3]), (900, 2));
        assert_eq!((all[1].0, all[1].1.count), (OTHER, 7));
    }

    #[test]
    fn without_a_table_all_are_others() {
        let mut now = [ExitCounts::default(); EXIT_ROWS];
        now[2].count = 2;
        now[OTHER_EXITS].count = 3;
        let before = [ExitCounts::default(); EXIT_ROWS];
        let exits = added(&now, &before, &ExitKinds::new(&[]));
        assert_eq!(exits.get(OTHER).map(|exits| exits.count), Some(5));
        assert_eq!(added(&now, &now, &ExitKinds::new(VMX_EXITS)), Exits::default());
    }
}
