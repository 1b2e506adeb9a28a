//! From the programs' counts of exits to those of the model.

use sampler_ebpf::abi::{EXIT_BUCKETS, EXIT_ROWS, ExitCounts, ExitReason, ExitRow, OTHER_EXITS};

use crate::{
    collect::ExitsOf,
    kept::{Keep, Reader, Shape, Writer, kept},
    model::{ExitKind, ExitTotals, Histogram},
};

/// What the rows of the programs' tables stand for on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExitKinds([ExitKind; EXIT_ROWS]);

const OTHER: ExitKind = ExitKind { reason: ExitReason::Other.key(), raw: None };

impl ExitKinds {
    /// What a row stands for.
    pub(super) const fn of(&self, row: usize) -> ExitKind {
        self.0[row]
    }

    /// By the processor's table; without one none is distinguished from the others.
    #[must_use]
    pub(super) fn new(rows: &'static [ExitRow]) -> Self {
        let kind = |row: &ExitRow| ExitKind { reason: row.reason.key(), raw: Some(row.name) };
        Self(std::array::from_fn(|n| rows.get(n).filter(|_| n != OTHER_EXITS).map_or(OTHER, kind)))
    }
}

kept! { ExitCounts { count, user_count, ns, user_ns, counts } }

/// The programs' counts of a thread's exits as they were read last: of those rows alone in which there were
/// some.
#[derive(Clone, Debug, Default)]
pub struct KnownExits {
    rows: Vec<(usize, ExitCounts)>,
    /// The row of the last exit: its entry may have come since.
    last_row: usize,
    is_read: bool,
}

/// Where rows are read from.
pub(super) trait Rows {
    /// The row of the last exit.
    fn last_row(&self) -> usize;

    /// A row without its latencies.
    fn head(&self, row: usize) -> ExitCounts;

    /// A row.
    fn row(&self, row: usize) -> ExitCounts;
}

impl Rows for ExitsOf<'_> {
    fn last_row(&self) -> usize {
        self.last_row()
    }

    fn head(&self, row: usize) -> ExitCounts {
        self.head(row)
    }

    fn row(&self, row: usize) -> ExitCounts {
        self.row(row)
    }
}

impl KnownExits {
    /// As [`Keep::SHAPE`].
    pub(super) const SHAPE: u64 = Shape::of("KnownExits").number(ExitCounts::SHAPE).end();

    /// Writes them for the next process. `own` are the exits of the vCPU by row, where all of them are this
    /// thread's: both began with the slot, and a row has the low halves. Only rows that do not follow from
    /// them are written.
    pub(super) fn put<'e>(
        &self,
        own: Option<impl Iterator<Item = (usize, &'e ExitTotals)>>,
        to: &mut Writer<'_>,
    ) {
        let Self { rows, last_row, is_read } = self;
        let own = own.map(|own| bits(own.map(|(row, _)| row)));
        let follow = own == Some(bits(rows.iter().map(|(row, _)| *row)));
        (*last_row as u8, *is_read, follow).put(to);
        if !follow {
            (rows.len() as u8).put(to);
            rows.iter().for_each(|(row, counts)| (*row as u8, *counts).put(to));
        }
    }

    /// Reads what was written so.
    pub(super) fn take_kept<'e>(
        own: impl Iterator<Item = (usize, &'e ExitTotals)>,
        from: &mut Reader<'_>,
    ) -> Option<Self> {
        let (last_row, is_read, follow) = <(u8, bool, bool)>::take(from)?;
        let row = |from: &mut Reader<'_>| {
            let (row, counts) = <(u8, ExitCounts)>::take(from)?;
            (usize::from(row) < EXIT_ROWS).then_some((row.into(), counts))
        };
        let rows = if follow {
            own.map(|(row, totals)| (row, counts(totals))).collect()
        } else {
            (0..u8::take(from)?).map(|_| row(from)).collect::<Option<_>>()?
        };
        Some(Self { rows, last_row: last_row.into(), is_read })
    }

    /// Whether they were read at all.
    pub(super) const fn is_read(&self) -> bool {
        self.is_read
    }

    fn row(&self, row: usize) -> Option<&ExitCounts> {
        self.rows.iter().find(|(known, _)| *known == row).map(|(_, counts)| counts)
    }

    /// Takes in what has changed. Hands what that adds to `added`, by row. The programs' counts wrap around
    /// after four billions: they are read more often.
    pub(super) fn take(&mut self, changed: ChangedExits, mut added: impl FnMut(usize, ExitTotals)) {
        (self.last_row, self.is_read) = (changed.last_row, true);
        for (row, now) in changed.rows {
            match self.rows.iter_mut().find(|(known, _)| *known == row) {
                Some((_, before)) => added(row, totals(&now, &std::mem::replace(before, now))),
                None => {
                    self.rows.push((row, now));
                    added(row, totals(&now, &ExitCounts::default()));
                }
            }
        }
    }
}

/// Rows that are not as they were.
#[derive(Clone, Debug)]
pub(super) struct ChangedExits {
    rows: Vec<(usize, ExitCounts)>,
    last_row: usize,
}

impl ChangedExits {
    /// Compares rows by all but their latencies, which grow at an entry together with a time. That may be 0
    /// where two CPUs' clocks differ, so the row whose entry was awaited is compared as a whole.
    pub(super) fn read(exits: &impl Rows, known: &KnownExits) -> Self {
        let mut rows = Vec::new();
        for row in 0..EXIT_ROWS {
            let before = known.row(row).copied().unwrap_or_default();
            let head = ExitCounts { counts: before.counts, ..exits.head(row) };
            if (head != before || row == known.last_row) && exits.row(row) != before {
                rows.push((row, exits.row(row)));
            }
        }
        Self { rows, last_row: exits.last_row() }
    }
}

fn bits(rows: impl Iterator<Item = usize>) -> u32 {
    rows.fold(0, |bits, row| bits | 1 << row)
}

/// What the programs have counted where these are the totals since they began.
fn counts(totals: &ExitTotals) -> ExitCounts {
    ExitCounts {
        count: totals.count as u32,
        user_count: totals.vmm_count as u32,
        ns: totals.latency.sum_ns,
        user_ns: totals.vmm_ns,
        counts: std::array::from_fn(|n| totals.latency.counts[n] as u32),
    }
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
    use crate::model::Exits;

    struct Slot([ExitCounts; EXIT_ROWS], usize);

    impl Rows for Slot {
        fn last_row(&self) -> usize {
            self.1
        }

        fn head(&self, row: usize) -> ExitCounts {
            ExitCounts { counts: [u32::MAX; EXIT_BUCKETS], ..self.0[row] }
        }

        fn row(&self, row: usize) -> ExitCounts {
            self.0[row]
        }
    }

    fn added(slot: &Slot, known: &mut KnownExits, kinds: &ExitKinds) -> Exits {
        let mut exits = Exits::default();
        let changed = ChangedExits::read(slot, known);
        known.take(changed, |row, totals| exits.add(kinds.of(row), &totals));
        exits
    }

    #[test]
    fn rows_become_kinds_and_counts_may_wrap_around() {
        let (mut slot, mut known) = (Slot([ExitCounts::default(); EXIT_ROWS], 0), KnownExits::default());
        let kinds = ExitKinds::new(SVM_EXITS);
        slot.0[0].count = u32::MAX;
        added(&slot, &mut known, &kinds);
        slot.0[0] = ExitCounts { count: 1, user_count: 1, ns: 900, user_ns: 400, ..slot.0[0] };
        slot.0[0].counts[3] = 2;
        slot.0[OTHER_EXITS].count = 7;
        let exits = added(&slot, &mut known, &kinds);
        let all: Vec<_> = exits.iter().collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].0, ExitKind { reason: "interrupt", raw: Some("interrupt") });
        assert_eq!((all[0].1.count, all[0].1.vmm_count, all[0].1.vmm_ns), (2, 1, 400));
        assert_eq!((all[0].1.latency.sum_ns, all[0].1.latency.counts[3]), (900, 2));
        assert_eq!((all[1].0, all[1].1.count), (OTHER, 7));
    }

    #[test]
    fn without_a_table_all_are_others() {
        let (mut slot, mut known) = (Slot([ExitCounts::default(); EXIT_ROWS], 2), KnownExits::default());
        assert!(!known.is_read());
        slot.0[2].count = 2;
        slot.0[OTHER_EXITS].count = 3;
        let exits = added(&slot, &mut known, &ExitKinds::new(&[]));
        assert_eq!(exits.get(OTHER).map(|exits| exits.count), Some(5));
        assert!(known.is_read());
        assert_eq!(added(&slot, &mut known, &ExitKinds::new(VMX_EXITS)), Exits::default());
    }

    /// The bytes of what is known of a thread all of whose exits are these.
    fn kept<'e>(known: &KnownExits, own: Option<impl Iterator<Item = (usize, &'e ExitTotals)>>) -> Vec<u8> {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        let mut sink = |chunk: &[u8]| bytes.extend_from_slice(chunk);
        let mut writer = Writer::new(&mut chunk, &mut sink);
        known.put(own, &mut writer);
        writer.end();
        bytes
    }

    #[test]
    fn rows_follow_from_the_exits_over_wraps() {
        let (mut slot, mut known) = (Slot([ExitCounts::default(); EXIT_ROWS], 3), KnownExits::default());
        let (kinds, mut exits) = (ExitKinds::new(VMX_EXITS), Exits::default());
        for _ in 0..5 {
            for row in [0, 3, OTHER_EXITS] {
                let counts = &mut slot.0[row];
                counts.count = counts.count.wrapping_add(u32::MAX / 2 + 9);
                counts.user_count = counts.user_count.wrapping_add(u32::MAX / 3);
                (counts.ns, counts.user_ns) = (counts.ns + 70, counts.user_ns + 30);
                counts.counts[row] = counts.counts[row].wrapping_add(u32::MAX / 2 + row as u32);
            }
            exits.add_all(&added(&slot, &mut known, &kinds));
        }
        let own = || (0..EXIT_ROWS).filter_map(|row| Some((row, exits.get(kinds.of(row))?)));
        for (own_rows, length) in [(Some(own()), 3), (None, 4 + 3 * (1 + size_of::<ExitCounts>()))] {
            let bytes = kept(&known, own_rows);
            assert_eq!(bytes.len(), length);
            let mut next = KnownExits::take_kept(own(), &mut Reader::new(&bytes)).unwrap();
            assert_eq!(added(&slot, &mut next, &kinds), Exits::default(), "nothing is added twice");
            assert!(next.is_read() && next.last_row == 3);
        }
    }

    #[test]
    fn rows_that_do_not_follow_are_written() {
        let (mut slot, mut known) = (Slot([ExitCounts::default(); EXIT_ROWS], 2), KnownExits::default());
        slot.0[2].count = 2;
        let kinds = ExitKinds::new(&[]);
        let exits = added(&slot, &mut known, &kinds);
        let own = || exits.iter().map(|(_, totals)| (OTHER_EXITS, totals));
        let bytes = kept(&known, Some(own()));
        let mut next = KnownExits::take_kept(own(), &mut Reader::new(&bytes)).unwrap();
        assert_eq!(added(&slot, &mut next, &kinds), Exits::default());
    }

    #[test]
    fn an_entry_that_took_no_time_is_not_missed() {
        let (mut slot, mut known) = (Slot([ExitCounts::default(); EXIT_ROWS], 5), KnownExits::default());
        slot.0[5].count = 1;
        let kinds = ExitKinds::new(VMX_EXITS);
        added(&slot, &mut known, &kinds);
        slot.0[5].counts[0] = 1;
        let exits = added(&slot, &mut known, &kinds);
        assert_eq!(exits.get(kinds.of(5)).map(|exits| (exits.count, exits.latency.counts[0])), Some((0, 1)));
    }
}
