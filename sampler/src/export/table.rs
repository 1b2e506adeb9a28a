//! A snapshot as text for people: one row for each guest, the most starved first.

use std::fmt::Write as _;

use sampler_ebpf::abi::{Counter, Distribution, Histogram, KvmStat};

use super::terminal;
use crate::model::{Occupant, OccupantKind, STATES, SamplerStats, Snapshot, State, Vcpu, Vm, distribution};

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
    ("switches of a stale slot", |stats| stats.stale_slots),
    ("program runs skipped", |stats| stats.recursion_misses),
    ("helper threads without room", |stats| stats.helpers_dropped),
    ("negative remainders", |stats| stats.negative_remainders),
    ("counters found lower", |stats| stats.counter_regressions),
    ("exits or entries without the other", |stats| stats.unpaired),
    ("guests that exit too often to be told of in full", |stats| stats.vms_lowered),
];

/// Renders a snapshot. Every line ends with a newline; no character of it can do more to a terminal than print.
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

/// What an interval came to for one vCPU, or for all of a guest.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    /// Percent of one vCPU's wall time by state, averaged over the vCPUs that know the state.
    percent: [Option<f64>; STATES.len()],
    /// Preemptions in a second, added up over vCPUs.
    preemptions: f64,
    /// Exits in a second, added up over the vCPUs of which KVM's counts were read.
    exits: Option<f64>,
    /// Waits for a CPU in the interval, of all vCPUs together.
    waits: Histogram,
    /// Percent of the interval in which some vCPUs of a guest ran while others waited; none of a single vCPU.
    co_stop: Option<f64>,
}

impl Rates {
    /// `None` before a vCPU's second reading.
    fn of_vcpu(vcpu: &Vcpu) -> Option<Self> {
        let interval = vcpu.interval.as_ref().filter(|interval| interval.wall_ns > 0)?;
        let wall = interval.wall_ns as f64;
        let seconds = wall / 1e9;
        let mut rates = Self {
            percent: [None; STATES.len()],
            preemptions: interval.counters[Counter::InvoluntarySwitches as usize] as f64 / seconds,
            exits: interval.kvm.and_then(|kvm| kvm.get(KvmStat::Exits)).map(|exits| exits as f64 / seconds),
            waits: *vcpu.distributions_added().get(Distribution::Steal),
            co_stop: None,
        };
        for (state, ns) in interval.states.iter() {
            rates.percent[state as usize] = Some(ns as f64 * 100.0 / wall);
        }
        Some(rates)
    }

    fn of_vm(vm: &Vm) -> Option<Self> {
        let vcpus: Vec<_> = vm.vcpus.iter().filter_map(Self::of_vcpu).collect();
        if vcpus.is_empty() {
            return None;
        }
        let mut rates = Self::default();
        for (state, percent) in rates.percent.iter_mut().enumerate() {
            let known: Vec<f64> = vcpus.iter().filter_map(|vcpu| vcpu.percent[state]).collect();
            // What a vCPU does not know of its CPU time it has in another of these states.
            let of = if State::ALL[state].is_on_cpu() { vcpus.len() } else { known.len() };
            *percent = (!known.is_empty()).then(|| known.iter().sum::<f64>() / of as f64);
        }
        rates.preemptions = vcpus.iter().map(|vcpu| vcpu.preemptions).sum();
        rates.exits = vcpus.iter().filter_map(|vcpu| vcpu.exits).reduce(|sum, exits| sum + exits);
        rates.waits =
            vcpus.iter().fold(Histogram::default(), |sum, vcpu| distribution::plus(&sum, &vcpu.waits));
        let wall = vm.vcpus.iter().filter_map(|vcpu| vcpu.interval).map(|interval| interval.wall_ns).max();
        // The ticks of an interval may be longer than it by one.
        let percent = |(ns, wall): (u64, u64)| (ns as f64 * 100.0 / wall as f64).min(100.0);
        rates.co_stop = vm.co_stop.interval_ns.zip(wall).map(percent);
        Some(rates)
    }

    fn of(&self, state: State) -> f64 {
        self.percent[state as usize].unwrap_or(0.0)
    }
}

struct Row<'a> {
    vm: &'a Vm,
    name: String,
    rates: Option<Rates>,
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
        let mut rows: Vec<_> = snapshot
            .vms
            .iter()
            .map(|vm| Row { vm, name: display_name(vm), rates: Rates::of_vm(vm) })
            .collect();
        // Stable, so guests with equal steal keep the model's order and do not jump about between refreshes.
        rows.sort_by(|a, b| denied(b).total_cmp(&denied(a)));
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
        let quota_ran_out =
            rows.iter().any(|row| row.rates.is_some_and(|rates| rates.of(State::Throttled) > 0.0));
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
            let id = row.vm.origin.number().unwrap_or(0);
            self.write_row(text, &row.name, id, &row.vm.vcpus.len().to_string(), row.rates.as_ref());
            let _ = writeln!(text, "  {}", worst_occupant(row.vm).unwrap_or_else(dash));
            if self.vcpus {
                for vcpu in &row.vm.vcpus {
                    let rates = Rates::of_vcpu(vcpu);
                    self.write_row(text, &vcpu_name(vcpu), vcpu.tid.unwrap_or(0), "", rates.as_ref());
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

    fn write_row(&self, text: &mut String, name: &str, id: u32, vcpus: &str, rates: Option<&Rates>) {
        // Padding by hand: the formatter counts characters, a terminal columns.
        let padding = self.name_columns.saturating_sub(terminal::columns_of(name));
        let _ = write!(text, "{name}{:padding$} {id:>8} {vcpus:>5}", "");
        for state in &self.states {
            let percent = rates.and_then(|rates| rates.percent[*state as usize]);
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

/// What a guest was denied, in percent.
fn denied(row: &Row<'_>) -> f64 {
    row.rates.map_or(0.0, |rates| rates.of(State::Steal) + rates.of(State::Throttled))
}

fn column_name(state: State) -> String {
    format!("{}%", state.row().key.to_uppercase())
}

fn column_width(state: State) -> usize {
    column_name(state).len().max(8)
}

fn display_name(vm: &Vm) -> String {
    let names = [vm.name.as_ref(), vm.uuid.as_ref()];
    let name = names.into_iter().flatten().find(|name| !name.is_empty()).unwrap_or(&vm.id);
    terminal::fit(name, MAX_NAME_COLUMNS)
}

/// Who took most of a guest's steal in the interval; `None` where nothing was taken.
fn worst_occupant(vm: &Vm) -> Option<String> {
    let shares = vm.shares.as_deref()?;
    let worst = shares.first()?;
    let all: u64 = shares.iter().map(|share| share.ns).sum();
    let Occupant { kind, id, name } = &worst.occupant;
    let who = match kind {
        OccupantKind::Vm if *id == Some(vm.id.clone()) => "itself".to_owned(),
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
    Some(format!("{who} {:.0} %", worst.ns as f64 * 100.0 / all.max(1) as f64))
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
