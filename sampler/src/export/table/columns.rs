//! The columns of the guests' table: what each shows, and which are shown where nobody chose.

use super::{
    cells::{bound, number, short_bytes},
    line::{Line, Of},
    occupant,
};
use crate::model::{State, Vm, distribution};

/// A column. The guest's name stands before all of them.
#[derive(Debug)]
pub struct Column {
    /// What `--columns` calls it.
    pub key: &'static str,
    /// What stands above it.
    pub heading: &'static str,
    /// What it shows, for the lines below the table; empty where the heading says it.
    pub help: &'static str,
    /// Columns of text that it takes at least, so that the table does not move with every snapshot.
    pub(super) width: usize,
    /// Its place among those that are shown where nobody chose: the lower, the more important. Absent of one
    /// that is shown on request alone.
    rank: Option<u8>,
    cell: Cell,
}

/// Where a cell's text comes from.
#[derive(Clone, Copy, Debug)]
enum Cell {
    /// Percent of wall time in a state.
    Share(State),
    /// Of guests and of their vCPUs.
    Both(fn(&Line<'_>) -> Option<String>),
    /// Of guests alone.
    Guest(fn(&Vm, &Line<'_>) -> Option<String>),
    /// Who took most of a guest's time.
    Occupant,
}

const SHARE: &str = "percent of a vCPU's wall time, averaged over vCPUs.";
const EACH_SECOND: &str = "in one second, added up over the guest's vCPUs; exits as KVM counts them.";
const DISK_BYTES: &str = "bytes in one second, of those of the guest's disks that are counted.";
const DISK_REQUESTS: &str =
    "requests that ended in one second, at those of the guest's disks that are counted.";
const NETWORK: &str = "bytes in one second, into the guest and out of it.";
const MEMORY: &str = "of the VMM's process, the guest's included, as it was at its last reading.";

/// What `--columns` calls the number of a guest's process. With vCPUs it has those of their threads too.
pub(super) const PID: &str = "pid";

/// All columns, in the order in which they are shown.
pub const COLUMNS: &[Column] = &[
    Column {
        key: PID,
        heading: "PID",
        help: "",
        width: 7,
        rank: Some(15),
        cell: Cell::Both(|line| line.id().map(|id| id.to_string())),
    },
    Column {
        key: "vcpus",
        heading: "VCPUS",
        help: "",
        width: 5,
        rank: Some(9),
        cell: Cell::Guest(|vm, _| Some(vm.vcpus.len().to_string())),
    },
    share("guest", "GUEST%", State::Guest, 1),
    share("kernel", "KERNEL%", State::Kernel, 10),
    share("vmm", "VMM%", State::Vmm, 11),
    share("poll", "POLL%", State::Poll, 13),
    share("run", "RUN%", State::Run, 1),
    share("steal", "STEAL%", State::Steal, 1),
    share("throttled", "THROTTLED%", State::Throttled, 1),
    share("halted", "HALTED%", State::Halted, 3),
    share("blocked", "BLOCKED%", State::Blocked, 2),
    Column {
        key: "co-stop",
        heading: "CO-STOP%",
        help: "percent of the interval in which a vCPU of the guest ran while another waited; an estimate.",
        width: 8,
        rank: Some(14),
        cell: Cell::Both(|line| number(line.rates?.co_stop, 1)),
    },
    Column {
        key: "p99-wait",
        heading: "P99 WAIT",
        help: "99 of 100 waits for a CPU were not longer; the bound of a power of two of seconds.",
        width: 8,
        rank: Some(12),
        cell: Cell::Both(|line| distribution::quantile_bound(&line.rates?.waits, 0.99).map(bound)),
    },
    Column {
        key: "preempt",
        heading: "PREEMPT/s",
        help: EACH_SECOND,
        width: 9,
        rank: Some(17),
        cell: Cell::Both(|line| number(Some(line.rates?.preemptions), 0)),
    },
    Column {
        key: "exits",
        heading: "EXITS/s",
        help: EACH_SECOND,
        width: 7,
        rank: Some(16),
        cell: Cell::Both(|line| number(line.rates?.exits, 0)),
    },
    Column {
        key: "read",
        heading: "READ/s",
        help: DISK_BYTES,
        width: 6,
        rank: Some(5),
        cell: Cell::Guest(|_, line| line.io.read.map(short_bytes)),
    },
    Column {
        key: "write",
        heading: "WRITE/s",
        help: DISK_BYTES,
        width: 7,
        rank: Some(6),
        cell: Cell::Guest(|_, line| line.io.written.map(short_bytes)),
    },
    Column {
        key: "reads",
        heading: "READS/s",
        help: DISK_REQUESTS,
        width: 7,
        rank: None,
        cell: Cell::Guest(|_, line| number(line.io.reads, 0)),
    },
    Column {
        key: "writes",
        heading: "WRITES/s",
        help: DISK_REQUESTS,
        width: 8,
        rank: None,
        cell: Cell::Guest(|_, line| number(line.io.writes, 0)),
    },
    Column {
        key: "in",
        heading: "IN/s",
        help: NETWORK,
        width: 6,
        rank: Some(7),
        cell: Cell::Guest(|_, line| line.io.received.map(short_bytes)),
    },
    Column {
        key: "out",
        heading: "OUT/s",
        help: NETWORK,
        width: 6,
        rank: Some(8),
        cell: Cell::Guest(|_, line| line.io.sent.map(short_bytes)),
    },
    Column {
        key: "memory",
        heading: "MEMORY",
        help: MEMORY,
        width: 6,
        rank: None,
        cell: Cell::Guest(|vm, _| {
            let known = vm.memory?.resident.into_iter().flatten().reduce(u64::wrapping_add)?;
            Some(short_bytes(known as f64))
        }),
    },
    Column {
        key: "swap",
        heading: "SWAP",
        help: MEMORY,
        width: 6,
        rank: None,
        cell: Cell::Guest(|vm, _| Some(short_bytes(vm.memory?.swapped? as f64))),
    },
    Column {
        key: "stolen-by",
        heading: "STOLEN BY",
        help: "who took most of the time that the guest waited, and its share of that time; a bare name is a guest.",
        width: 24,
        rank: Some(4),
        cell: Cell::Occupant,
    },
];

const fn share(key: &'static str, heading: &'static str, state: State, rank: u8) -> Column {
    let width = if heading.len() < 5 { 5 } else { heading.len() };
    Column { key, heading, help: SHARE, width, rank: Some(rank), cell: Cell::Share(state) }
}

/// No two are called by the same word.
impl PartialEq for Column {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Column {}

impl Column {
    /// The column that is called so.
    #[must_use]
    pub fn called(key: &str) -> Option<&'static Self> {
        COLUMNS.iter().find(|column| column.key == key)
    }

    /// Text is read from the left, numbers from the right.
    pub(super) const fn is_text(&self) -> bool {
        matches!(self.cell, Cell::Occupant)
    }

    /// Columns of text between it and the one before.
    pub(super) const fn gap(&self) -> usize {
        if self.is_text() { 2 } else { 1 }
    }

    /// What stands in a line, where text may take so many columns; absent where it is not known. Empty where
    /// such a line does not have the column.
    pub(super) fn cell(&self, line: &Line<'_>, text_columns: usize) -> Option<String> {
        match (self.cell, line.of) {
            (Cell::Share(state), _) => number(line.rates?.percent(state), 1),
            (Cell::Both(text), _) => text(line),
            (Cell::Guest(text), Of::Vm(vm)) => text(vm, line),
            (Cell::Occupant, Of::Vm(vm)) => occupant::worst(vm, text_columns),
            (Cell::Guest(_) | Cell::Occupant, Of::Vcpu(_)) => Some(String::new()),
        }
    }

    /// Whether there is something to show in it.
    fn is_known(&self, guests: &[Line<'_>], states: &[State]) -> bool {
        match self.cell {
            Cell::Share(state) => states.contains(&state),
            Cell::Guest(text) => guests.iter().any(|line| match line.of {
                Of::Vm(vm) => text(vm, line).is_some(),
                Of::Vcpu(_) => false,
            }),
            // They are known most of the time, and a column that comes and goes moves the others.
            Cell::Both(_) | Cell::Occupant => true,
        }
    }
}

/// The columns for which there is room, and those for which there is none.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// In the order in which they are shown.
    pub(super) shown: Vec<&'static Column>,
    /// Columns of text that nobody took.
    pub(super) left: usize,
    /// In the same order.
    pub(super) left_out: Vec<&'static Column>,
}

/// Chooses where nobody did: of what is known of these guests the most important, for lines of so many
/// columns of text beside their names.
pub(super) fn choose(guests: &[Line<'_>], states: &[State], room: usize) -> Chosen {
    let known = |column: &&Column| column.rank.is_some() && column.is_known(guests, states);
    let mut shown: Vec<_> = COLUMNS.iter().filter(known).collect();
    shown.sort_by_key(|column| column.rank);
    let mut left = room;
    // The first one without room ends it, though a narrower one may have room: what is shown goes by
    // importance alone.
    let with_room = shown.iter().take_while(|column| {
        let rest = left.checked_sub(column.gap() + column.width);
        left = rest.unwrap_or(left);
        rest.is_some()
    });
    let with_room = with_room.count();
    let mut left_out = shown.split_off(with_room);
    for columns in [&mut shown, &mut left_out] {
        columns.sort_by_key(|column| COLUMNS.iter().position(|other| other == *column));
    }
    Chosen { shown, left, left_out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_called_by_different_words() {
        let mut keys: Vec<_> = COLUMNS.iter().map(|column| column.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), COLUMNS.len());
    }

    #[test]
    fn headings_have_room() {
        for Column { heading, width, .. } in COLUMNS {
            assert!(heading.len() <= *width, "{heading}");
        }
    }

    #[test]
    fn every_state_has_a_column() {
        let shares = COLUMNS.iter().filter_map(|column| match column.cell {
            Cell::Share(state) => Some((state as usize, column.heading.to_lowercase())),
            _ => None,
        });
        let states = State::ALL.map(|state| (state as usize, format!("{}%", state.row().key)));
        let mut shares: Vec<_> = shares.collect();
        shares.sort();
        assert_eq!(shares, states);
    }

    #[test]
    fn the_most_important_take_the_room() {
        let keys = |columns: &[&Column]| columns.iter().map(|column| column.key).collect::<Vec<_>>();
        let states = [State::Guest, State::Steal, State::Halted, State::Blocked];
        let all = choose(&[], &states, 1000);
        assert_eq!(
            keys(&all.shown),
            [
                "pid",
                "guest",
                "steal",
                "halted",
                "blocked",
                "co-stop",
                "p99-wait",
                "preempt",
                "exits",
                "stolen-by"
            ]
        );
        assert_eq!(all.left_out.len(), 0);
        let exact: usize = all.shown.iter().map(|column| column.gap() + column.width).sum();
        assert_eq!((choose(&[], &states, exact).left, all.left), (0, 1000 - exact));
        let one_less = choose(&[], &states, exact - 1);
        assert_eq!(keys(&one_less.left_out), ["preempt"]);
        assert_eq!(one_less.left, "PREEMPT/s".len());
        let few = choose(&[], &states, 16);
        assert_eq!((keys(&few.shown), few.left), (vec!["guest", "steal"], 2));
    }
}
