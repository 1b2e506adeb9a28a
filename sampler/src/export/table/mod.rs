//! A snapshot as text for people: one row for each guest, the most starved first.

mod cells;
mod columns;
mod devices;
mod guests;
mod line;
mod occupant;

use std::fmt::Write as _;

use self::guests::Table;
use super::terminal;
use crate::model::{SamplerStats, Snapshot};

pub use columns::{COLUMNS, Column};

/// Columns that a guest's name may take.
const MAX_NAME_COLUMNS: usize = 32;

/// What the table shows.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// The columns beside the guests' names, in this order. None: those that fit into 120 columns of text,
    /// the most important first.
    pub columns: Vec<&'static Column>,
    /// A row for each vCPU below its guest.
    pub vcpus: bool,
    /// The disks and network interfaces of the guests, below them.
    pub devices: bool,
    /// At most so many guests; a line says how many were left out.
    pub max_guests: Option<usize>,
}

/// Something that the sampler may lose, in words, and the counter of it.
type Loss = (&'static str, fn(&SamplerStats) -> u64);

/// Shown only where they are not zero.
const LOSSES: &[Loss] = &[
    ("lifecycle events lost", |stats| stats.events_lost),
    ("vCPU threads without a slot", |stats| stats.slots_exhausted),
    ("vCPU threads beyond those of one process", |stats| stats.slots_capped),
    ("switches on unknown CPUs", |stats| stats.switches_on_unknown_cpus),
    ("switches of a stale slot", |stats| stats.stale_slots),
    ("program runs skipped", |stats| stats.recursion_misses),
    ("helper threads without room", |stats| stats.helpers_dropped),
    ("disk requests without room", |stats| stats.requests_untracked),
    ("disk requests that were not reported", |stats| stats.requests_missed),
    ("interfaces that could not be read", |stats| stats.interfaces_unread),
    ("negative remainders", |stats| stats.negative_remainders),
    ("counters found lower", |stats| stats.counter_regressions),
    ("exits or entries without the other", |stats| stats.unpaired),
    ("files of platforms that did not answer", |stats| stats.files_unanswered),
    ("late snapshots", |stats| stats.snapshots_late),
    ("snapshots left out", |stats| stats.snapshots_skipped),
    ("snapshots that failed", |stats| stats.snapshots_failed),
    ("snapshots that a sink dropped", |stats| stats.snapshots_dropped),
    ("sinks that panicked", |stats| stats.sinks_failed),
    ("lines of the log that nobody read", |stats| stats.log_lines_dropped),
    ("lines of the log that were too many", |stats| stats.log_lines_left_out),
    ("vCPUs whose numbers are not what the kernel says", |stats| stats.audit_mismatches),
    ("guests that exit too often for level full", |stats| stats.vms_lowered),
];

/// Renders a snapshot. Every line ends with a newline; no character of it can do more to a terminal than
/// print.
#[must_use]
pub fn render(snapshot: &Snapshot, options: &TableOptions) -> String {
    let mut text = title(snapshot);
    if snapshot.vms.is_empty() {
        text.push_str("No guest runs on this host.\n");
    } else {
        let table = Table::of(snapshot, options);
        table.write(&mut text);
        if options.devices {
            devices::write(&table, snapshot.interval_ns, &mut text);
        }
    }
    losses(&snapshot.sampler, &mut text);
    text
}

fn title(snapshot: &Snapshot) -> String {
    let vcpus: usize = snapshot.vms.iter().map(|vm| vm.vcpus.len()).sum();
    let interval = match snapshot.interval_ns {
        0 => "first reading, rates follow".to_owned(),
        ns => format!("interval {:.1} s", ns as f64 / 1e9),
    };
    format!(
        "{}  {} UTC  {interval}  {}, {} on {}\n\n",
        terminal::fit(&snapshot.host.name, 64),
        time_of_day(snapshot.at_unix_ns),
        terminal::count(snapshot.vms.len(), "guest"),
        terminal::count(vcpus, "vCPU"),
        terminal::count(snapshot.host.cpus as usize, "CPU"),
    )
}

fn time_of_day(unix_ns: u64) -> String {
    let seconds = unix_ns / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn losses(stats: &SamplerStats, text: &mut String) {
    let lost: Vec<_> = LOSSES
        .iter()
        .map(|(what, count)| (what, count(stats)))
        .filter(|&(_, count)| count > 0)
        .map(|(what, count)| format!("{what}: {count}"))
        .collect();
    if !lost.is_empty() {
        let _ = writeln!(text, "\nSampler: {}.", lost.join(", "));
    }
}
