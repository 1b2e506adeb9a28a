//! A snapshot as text for people: one row for each guest, the most starved first.

use std::fmt::Write as _;

use super::terminal;
use crate::model::{
    Occupant, OccupantKind, SamplerStats, Snapshot, State, Vcpu, Vm, distribution,
    view::{self, Rated, Rates, WorstOccupant},
};

/// Columns that a guest's name may take.
const MAX_NAME_COLUMNS: usize = 32;

/// What the table shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// A row for each vCPU below its guest.
    pub vcpus: bool,
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
    ("vCPUs whose numbers are not what the kernel says", |stats| stats.audit_mismatches),
    ("guests that exit too often for level full", |stats| stats.vms_lowered),
];

/// Renders a snapshot. Every line ends with a newline; no character of it can do more to a terminal than
/// print.
#[must_use]
pub fn render(snapshot: &Snapshot, options: TableOptions) -> String {
    let mut text = title(snapshot);
    if snapshot.vms.is_empty() {
        text.push_str("No KVM guest runs on this host.\n");
    } else {
        Table::of(snapshot, options).write(&mut text);
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

struct Row<'a> {
    vm: &'a Vm,
    name: String,
    rates: Option<Rates>,
}

impl<'a> Row<'a> {
    fn of(Rated { vm, rates }: Rated<'a>) -> Self {
        Self { vm, name: display_name(vm), rates }
    }
}

struct Table<'a> {
    rows: Vec<Row<'a>>,
    /// The states that any row knows, as columns.
    states: Vec<State>,
    name_columns: usize,
    left_out: usize,
    vcpus: bool,
}

impl<'a> Table<'a> {
    fn of(snapshot: &'a Snapshot, options: TableOptions) -> Self {
        let mut rows: Vec<_> = view::by_denied(snapshot).into_iter().map(Row::of).collect();
        let shown = options.max_guests.unwrap_or(rows.len()).min(rows.len());
        let left_out = rows.len() - shown;
        rows.truncate(shown);
        let vcpus = || rows.iter().flat_map(|row| &row.vm.vcpus);
        let rated = vcpus().any(|vcpu| vcpu.interval.is_some());
        let knows = |vcpu: &Vcpu, state| {
            let states =
                if rated { vcpu.interval.map(|interval| interval.states) } else { Some(vcpu.states) };
            states.is_some_and(|states| states.get(state).is_some())
        };
        // A column of its own only where a quota ran out: few hosts have any.
        let throttled = |row: &Row<'_>| row.rates.and_then(|rates| rates.percent(State::Throttled));
        let quota_ran_out = rows.iter().any(|row| throttled(row).is_some_and(|percent| percent > 0.0));
        let is_shown = |state| state != State::Throttled || quota_ran_out;
        let states = State::ALL
            .into_iter()
            .filter(|&state| is_shown(state) && vcpus().any(|vcpu| knows(vcpu, state)))
            .collect();
        let vcpu_names = rows
            .iter()
            .filter(|_| options.vcpus)
            .flat_map(|row| &row.vm.vcpus)
            .map(|vcpu| vcpu_name(vcpu).len());
        let names = rows.iter().map(|row| terminal::columns_of(&row.name));
        let name_columns = names.chain(vcpu_names).fold("GUEST".len(), usize::max);
        Self { rows, states, name_columns, left_out, vcpus: options.vcpus }
    }

    fn write(&self, text: &mut String) {
        self.write_heading(text);
        for row in &self.rows {
            let id = row.vm.origin.number();
            self.write_row(text, &row.name, id, &row.vm.vcpus.len().to_string(), row.rates.as_ref());
            let _ = writeln!(text, "  {}", worst_occupant(row.vm).unwrap_or_else(dash));
            if self.vcpus {
                for vcpu in &row.vm.vcpus {
                    let rates = Rates::of_vcpu(vcpu);
                    self.write_row(text, &vcpu_name(vcpu), vcpu.tid, "", rates.as_ref());
                    text.push('\n');
                }
            }
        }
        if self.left_out > 0 {
            let _ = writeln!(text, "… and {} that were denied less", terminal::count(self.left_out, "guest"));
        }
        self.write_legend(text);
    }

    fn write_heading(&self, text: &mut String) {
        let id = if self.vcpus { "PID/TID" } else { "PID" };
        let _ = write!(text, "{:<width$} {id:>8} {:>5}", "GUEST", "VCPUS", width = self.name_columns);
        for state in &self.states {
            let _ = write!(text, " {:>width$}", column_name(*state), width = column_width(*state));
        }
        let _ = writeln!(
            text,
            " {:>8} {:>9} {:>9} {:>9}  STOLEN BY",
            "CO-STOP%", "P99 WAIT", "PREEMPT/s", "EXITS/s"
        );
    }

    fn write_row(&self, text: &mut String, name: &str, id: Option<u32>, vcpus: &str, rates: Option<&Rates>) {
        let id = id.map_or_else(dash, |id| id.to_string());
        // Padding by hand: the formatter counts characters, a terminal columns.
        let padding = self.name_columns.saturating_sub(terminal::columns_of(name));
        let _ = write!(text, "{name}{:padding$} {id:>8} {vcpus:>5}", "");
        for state in &self.states {
            let percent = rates.and_then(|rates| rates.percent(*state));
            let _ = write!(text, " {:>width$}", number(percent, 1), width = column_width(*state));
        }
        let _ = write!(
            text,
            " {:>8} {:>9} {:>9} {:>9}",
            rates.and_then(|rates| rates.co_stop).map_or_else(dash, |percent| format!("{percent:.1}")),
            rates.and_then(|rates| distribution::quantile_bound(&rates.waits, 0.99)).map_or_else(dash, bound),
            number(rates.map(|rates| rates.preemptions), 0),
            number(rates.and_then(|rates| rates.exits), 0),
        );
    }

    fn write_legend(&self, text: &mut String) {
        let states: Vec<_> = self.states.iter().copied().map(column_name).collect();
        let _ = writeln!(
            text,
            "\n{}: percent of one vCPU's wall time, averaged over the guest's vCPUs.\n\
             CO-STOP%: percent of the interval in which a vCPU of the guest ran while another waited; an estimate.\n\
             P99 WAIT: 99 of 100 waits for a CPU were not longer; the bound of a power of two of seconds.\n\
             PREEMPT/s, EXITS/s (as KVM counts them): in one second, added up over the guest's vCPUs.\n\
             STOLEN BY: who took most of the time that the guest waited, and its share of that time; a bare name is a guest.",
            states.join(", "),
        );
    }
}

fn column_name(state: State) -> String {
    format!("{}%", state.row().key.to_uppercase())
}

fn column_width(state: State) -> usize {
    column_name(state).len().max(8)
}

fn display_name(vm: &Vm) -> String {
    let names = [vm.name(), vm.uuid()];
    let name = names.into_iter().flatten().find(|name| !name.is_empty()).unwrap_or(&vm.id);
    terminal::fit(name, MAX_NAME_COLUMNS)
}

/// Who took most of a guest's steal in the interval; `None` where nothing was taken.
fn worst_occupant(vm: &Vm) -> Option<String> {
    let worst = WorstOccupant::of(vm)?;
    let Occupant { kind, id, name } = worst.who;
    let who = match kind {
        OccupantKind::Vm if worst.is_itself => "itself".to_owned(),
        OccupantKind::Vm if id.is_none() && name.as_deref() == Some("others") => "other guests".to_owned(),
        OccupantKind::Vm => name
            .as_ref()
            .or(id.as_ref())
            .map_or_else(|| "a guest".to_owned(), |name| terminal::fit(name, MAX_NAME_COLUMNS)),
        kind => match name {
            Some(name) => format!("{} {}", kind.key(), terminal::fit(name, MAX_NAME_COLUMNS)),
            None => kind.key().to_owned(),
        },
    };
    Some(format!("{who} {:.0} %", worst.percent))
}

fn vcpu_name(vcpu: &Vcpu) -> String {
    format!("  vcpu {}", vcpu.index)
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(dash, |value| format!("{value:.decimals$}"))
}

fn dash() -> String {
    "-".to_owned()
}

/// An upper bound in seconds, in the unit that leaves one to three digits before the point.
fn bound(seconds: f64) -> String {
    let (value, unit) = match seconds {
        infinite if infinite.is_infinite() => return ">256 s".to_owned(),
        short if short < 1e-3 => (short * 1e6, "us"),
        medium if medium < 1.0 => (medium * 1e3, "ms"),
        long => (long, "s"),
    };
    format!("{value:.1} {unit}")
}
