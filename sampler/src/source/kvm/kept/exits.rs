//! Exits by kind. A kind is no text here, but its place among all that the processors' tables have.

use std::sync::LazyLock;

use sampler_ebpf::abi::{EXIT_ROWS, ExitRow, SVM_EXITS, VMX_EXITS};

use super::super::exits::ExitKinds;
use crate::{
    kept::{Keep, Reader, Shape, Writer},
    model::{ExitKind, ExitTotals, Exits},
};

/// All kinds, in their order.
static KINDS: LazyLock<Vec<ExitKind>> = LazyLock::new(|| {
    let tables = [VMX_EXITS, SVM_EXITS].map(|table| ExitKinds::new(table));
    let mut kinds: Vec<_> = tables.iter().flat_map(|kinds| (0..EXIT_ROWS).map(|row| kinds.of(row))).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
});

/// Both have the kind that is no row of the table.
const MOST: usize = VMX_EXITS.len() + SVM_EXITS.len() + 1;
const _: () = assert!(MOST <= u32::BITS as usize, "a bit for each kind");

const fn with_table(mut shape: Shape, table: &[ExitRow]) -> Shape {
    let mut row = 0;
    while row < table.len() {
        shape = shape.name(table[row].name).name(table[row].reason.key());
        row += 1;
    }
    shape
}

/// The exits with the places of their kinds. Both are ordered: what is behind a kind is behind its place.
fn placed(exits: &Exits) -> impl Iterator<Item = (u32, &ExitTotals)> {
    let mut places = (0..).zip(KINDS.iter());
    exits.iter().filter_map(move |(kind, totals)| {
        let mut behind = places.clone();
        let found = behind.find(|(_, (known, _))| *known == kind);
        debug_assert!(found.is_some(), "{kind:?} is in no table");
        let (place, _) = found?;
        places = behind;
        Some((place, totals))
    })
}

/// The exits by the rows of the programs that count them, where those know the processor.
pub(super) fn by_row(exits: &Exits) -> impl Iterator<Item = (usize, &ExitTotals)> {
    placed(exits).map(|(place, totals)| (KINDS[place as usize].1, totals))
}

/// A bit for each kind, and those kinds that there were.
impl Keep for Exits {
    const SHAPE: u64 = {
        let shape = with_table(with_table(Shape::of("Exits"), VMX_EXITS), SVM_EXITS);
        shape.number(ExitTotals::SHAPE).end()
    };

    fn put(&self, to: &mut Writer<'_>) {
        let held = placed(self).fold(0_u32, |bits, (place, _)| bits | 1 << place);
        held.put(to);
        placed(self).for_each(|(_, totals)| totals.put(to));
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let held = u32::take(from)?;
        if held.checked_shr(KINDS.len() as u32).is_some_and(|strange| strange != 0) {
            return None;
        }
        let mut exits = Self::default();
        for (_, (kind, _)) in KINDS.iter().enumerate().filter(|(place, _)| held >> place & 1 == 1) {
            exits.add(*kind, &ExitTotals::take(from)?);
        }
        Some(exits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::checks::{bytes, is_as_it_was, value};

    fn exits(table: &'static [ExitRow], rows: impl Iterator<Item = usize>) -> Exits {
        let (kinds, mut exits) = (ExitKinds::new(table), Exits::default());
        for row in rows {
            let mut totals =
                ExitTotals { count: row as u64 + 1, vmm_count: 1, vmm_ns: 2, ..Default::default() };
            totals.latency.counts[row] = 3;
            exits.add(kinds.of(row), &totals);
        }
        exits
    }

    #[test]
    fn exits_are_as_they_were() {
        is_as_it_was(&Exits::default());
        for table in [VMX_EXITS, SVM_EXITS] {
            is_as_it_was(&exits(table, 0..EXIT_ROWS));
            is_as_it_was(&exits(table, (0..EXIT_ROWS).step_by(3)));
            (0..EXIT_ROWS).for_each(|row| is_as_it_was(&exits(table, [row].into_iter())));
        }
        let mut both = exits(VMX_EXITS, 0..EXIT_ROWS);
        both.add_all(&exits(SVM_EXITS, 0..EXIT_ROWS));
        is_as_it_was(&both);
    }

    #[test]
    fn every_kind_has_a_place() {
        assert_eq!(KINDS.len(), MOST);
        assert!(KINDS.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn a_kind_that_there_is_not_is_none() {
        let bits = |bits: u32| value::<Exits>(&bytes(&bits));
        assert_eq!((bits(0), bits(1 << MOST)), (Some(Exits::default()), None));
    }
}
